//! One item from start to end.

use super::arena::Sink;
use super::item::{Item, ItemResult, Status, Task, TaskFlags};
use super::lines::LineSearcher;
use super::matcher::Matcher;

/// A file whose bytes can be had page by page.
pub trait Pages {
    /// The bytes from offset `at` of the file to the end of some page, and whether they are known to be the
    /// last; `None` where there are no more. An error is an error number.
    fn page(&mut self, at: u64) -> Result<Option<(&[u8], bool)>, u32>;
}

/// The search of an item, and all that it takes.
///
/// It lies in memory, and what is needed is read there: as arguments, passed on from call to call, it would take
/// registers of a GPU all the way down.
pub struct Search<'a, 'p, S, P> {
    /// What is looked for.
    pub matcher: &'a Matcher<'p>,
    /// What is done with lines.
    pub task: Task,
    /// Where.
    pub item: Item,
    /// What records name it by.
    pub number: u32,
    /// Where a line that pages cut is put together.
    pub scratch: &'a mut [u8],
    /// Where records go.
    pub sink: &'a mut S,
    /// The file.
    pub pages: P,
    /// What has become of it.
    pub result: ItemResult,
}

impl<S: Sink, P: Pages> Search<'_, '_, S, P> {
    /// Searches.
    pub fn run(&mut self) {
        self.result = ItemResult { attempt: self.result.attempt, ..ItemResult::default() };
        loop {
            self.attempt();
            if !self.begin_again() {
                return;
            }
        }
    }

    fn attempt(&mut self) {
        let (scratch, sink) = (&mut *self.scratch, &mut *self.sink);
        let (task, item) = (&self.task, &self.item);
        let mut lines = LineSearcher::new(self.matcher, task, item, self.number, scratch, sink);
        let read = loop {
            match self.pages.page(lines.next_byte()) {
                Ok(Some((bytes, last))) => {
                    if lines.feed(bytes, last).is_break() {
                        break Ok(());
                    }
                }
                Ok(None) => break Ok(()),
                Err(errno) => break Err(errno),
            }
        };
        let tally = lines.finish();
        if let Err(errno) = read {
            tally.status = Status::Failed;
            tally.need = errno as u64;
        }
        self.result.add(tally);
    }

    /// Whether the file turned out to be binary and is to be searched again: what is binary is not shown, whatever
    /// the first attempt has emitted, which the host knows by `restarted`.
    #[inline(never)]
    fn begin_again(&mut self) -> bool {
        let flags = self.task.flags | self.item.flags;
        let again = flags & TaskFlags::RESTART != 0
            && self.result.restarted == 0
            && self.result.status() == Status::Nul
            && self.item.start == 0
            && self.result.nul < self.task.window;
        if again {
            let hidden = TaskFlags::LINES | TaskFlags::SPANS | TaskFlags::ONLY | TaskFlags::NUMBER;
            let text = TaskFlags::STOP_AT_NUL | TaskFlags::DRAIN | TaskFlags::RESTART;
            self.task.flags = flags & !hidden & !text | TaskFlags::NUL_ENDS_LINE;
            self.item.flags = 0;
            self.item.limit = if flags & TaskFlags::COUNT != 0 { u64::MAX } else { 1 };
            self.result.restarted = 1;
        }
        again
    }
}
