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
    pub task: &'a Task,
    /// Where.
    pub item: &'a Item,
    /// What records name it by.
    pub number: u32,
    /// Where a line that pages cut is put together.
    pub scratch: &'a mut [u8],
    /// Where records go.
    pub sink: &'a mut S,
    /// The file.
    pub pages: P,
}

impl<S: Sink, P: Pages> Search<'_, '_, S, P> {
    /// Searches; may be called again.
    #[inline(never)]
    pub fn run(&mut self) -> ItemResult {
        let (task, item) = (self.task, self.item);
        let first = self.attempt(task, item);
        let flags = task.flags | item.flags;
        let again = flags & TaskFlags::RESTART != 0
            && first.status() == Status::Nul
            && item.start == 0
            && first.nul < task.window;
        if !again {
            return first;
        }
        // What is binary is not shown, whatever the first attempt has emitted: the host knows by
        // `restarted`.
        let hidden = TaskFlags::LINES | TaskFlags::SPANS | TaskFlags::ONLY | TaskFlags::NUMBER;
        let text = TaskFlags::STOP_AT_NUL | TaskFlags::DRAIN | TaskFlags::RESTART;
        let task = Task { flags: flags & !hidden & !text | TaskFlags::NUL_ENDS_LINE, ..*task };
        let limit = if flags & TaskFlags::COUNT != 0 { u64::MAX } else { 1 };
        let item = Item { flags: 0, limit, ..*item };
        let second = self.attempt(&task, &item);
        let bytes = first.bytes + second.bytes;
        ItemResult { restarted: 1, nul: first.nul, bytes, ..second }
    }

    #[inline(never)]
    fn attempt(&mut self, task: &Task, item: &Item) -> ItemResult {
        let (scratch, sink) = (&mut *self.scratch, &mut *self.sink);
        let mut lines = LineSearcher::new(self.matcher, task, item, self.number, scratch, sink);
        let mut at = lines.first_byte();
        let read = loop {
            match self.pages.page(at) {
                Ok(Some((bytes, last))) => {
                    at += bytes.len() as u64;
                    if lines.feed(bytes, last).is_break() || last {
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
        ItemResult::new(tally, false)
    }
}
