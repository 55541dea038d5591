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

/// Searches `item`, which records name by `number`, in `pages`.
pub fn search_item(
    matcher: &Matcher<'_>,
    task: &Task,
    item: &Item,
    number: u32,
    scratch: &mut [u8],
    sink: &mut impl Sink,
    pages: &mut impl Pages,
) -> ItemResult {
    let first = attempt(matcher, task, item, number, scratch, sink, pages);
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
    let second = attempt(matcher, &task, &item, number, scratch, sink, pages);
    let bytes = first.bytes + second.bytes;
    ItemResult { restarted: 1, nul: first.nul, bytes, ..second }
}

fn attempt(
    matcher: &Matcher<'_>,
    task: &Task,
    item: &Item,
    number: u32,
    scratch: &mut [u8],
    sink: &mut impl Sink,
    pages: &mut impl Pages,
) -> ItemResult {
    let mut search = LineSearcher::new(matcher, task, item, number, scratch, sink);
    let mut at = search.first_byte();
    let read = loop {
        match pages.page(at) {
            Ok(Some((bytes, last))) => {
                at += bytes.len() as u64;
                if search.feed(bytes, last).is_break() || last {
                    break Ok(());
                }
            }
            Ok(None) => break Ok(()),
            Err(errno) => break Err(errno),
        }
    };
    let (mut tally, _) = search.finish();
    if let Err(errno) = read {
        tally.status = Status::Failed;
        tally.need = errno as u64;
    }
    ItemResult::new(tally, false)
}
