//! Feeds the pages of an item to a matcher, line by line only where something matches.

use core::ops::ControlFlow::{self, Break, Continue};

use memchr::memchr;

use super::arena::{Record, RecordKind, Sink};
use super::item::{Item, Status, Tally, Task, TaskFlags};
use super::matcher::{Eol, Hit, Matcher};
use super::program::Find;

/// What the searcher does with the bytes that it is fed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Looks for the end of a line that another item owns.
    Skip,
    /// Searches.
    Lines,
    /// Looks for candidates in a line that does not fit in the scratch buffer. None so far: while
    /// that is so, it need not be kept.
    Long,
    /// Measures a line that does not fit and has to.
    Measure,
    /// Has reached the limit; looks for NUL bytes up to this offset.
    Drain(u64),
}

/// Goes on with what is left of a page, or is done with it: for good, or until the next.
type Step = ControlFlow<ControlFlow<()>>;

/// All of a page is used up.
const MORE: Step = Break(Continue(()));

/// What is left of a page.
struct Rest<'d> {
    data: &'d [u8],
    /// Its offset in the file.
    at: u64,
}

impl Rest<'_> {
    fn pass(&mut self, bytes: usize) {
        self.data = &self.data[bytes..];
        self.at += bytes as u64;
    }

    /// Offset in the file of what follows.
    fn end(&self) -> u64 {
        self.at + self.data.len() as u64
    }
}

/// The search of one item.
///
/// ```text
/// let mut search = LineSearcher::new(&matcher, &task, item, number, scratch, sink);
/// // pages from search.next_byte() on, until feed breaks or the file ends
/// for page in pages { if search.feed(page, is_last).is_break() { break } }
/// let tally = search.finish();
/// ```
pub struct LineSearcher<'m, 'p, 's, S> {
    matcher: &'m Matcher<'p>,
    flags: TaskFlags,
    limit: u64,
    window: u64,
    eol: Eol,
    number: u32,
    /// Offset in the file one past the last byte at which a line of this item may start.
    end: u64,
    /// Offset in the file of the next byte to be fed.
    at: u64,
    phase: Phase,
    /// Whether the file ends with the bytes that are being handled.
    last: bool,
    /// The line that the last page left incomplete; of a long one, its last bytes.
    scratch: &'s mut [u8],
    /// Length of that line so far.
    filled: usize,
    /// Offset of that line in the file.
    kept: u64,
    sink: S,
    tally: Tally,
}

impl<'m, 'p, 's, S: Sink> LineSearcher<'m, 'p, 's, S> {
    /// Prepares the search of `item`, which records name by `number`. A line that pages cut has to
    /// fit in `scratch` as a whole.
    pub fn new(
        matcher: &'m Matcher<'p>,
        task: &Task,
        item: &Item,
        number: u32,
        scratch: &'s mut [u8],
        sink: S,
    ) -> Self {
        let flags = TaskFlags(task.flags | item.flags);
        let nul_ends = flags.has(TaskFlags::NUL_ENDS_LINE);
        LineSearcher {
            matcher,
            flags,
            limit: item.limit.max(1),
            window: task.window.max(1),
            eol: if nul_ends { Eol::NewlineOrNul } else { Eol::Newline },
            number,
            end: item.end,
            at: item.start.saturating_sub(1),
            phase: if item.start == 0 { Phase::Lines } else { Phase::Skip },
            last: false,
            scratch,
            filled: 0,
            kept: 0,
            sink,
            tally: Tally::default(),
        }
    }

    /// Offset in the file of the next byte to feed; the first is one before the item, to tell whether a line
    /// starts with it.
    pub fn next_byte(&self) -> u64 {
        self.at
    }

    /// Takes the next bytes of the file. Breaks when no more are needed. `last` says that the file is
    /// known to end with them, so that a line without an end need not be copied; it may be false.
    #[inline(never)]
    pub fn feed(&mut self, page: &[u8], last: bool) -> ControlFlow<()> {
        if self.tally.status != Status::Pending {
            return Break(());
        }
        let nul = if self.flags.has(TaskFlags::STOP_AT_NUL) { memchr(0, page) } else { None };
        let (is_nul, text) = (nul.is_some(), &page[..nul.unwrap_or(page.len())]);
        self.last = last && !is_nul;
        self.tally.bytes += page.len() as u64;
        let rest = Rest { data: text, at: self.at };
        self.at += text.len() as u64;
        if self.consume(rest).is_break() {
            if self.tally.status == Status::Pending {
                self.tally.status = Status::Done;
            }
            return Break(());
        }
        if is_nul {
            self.tally.status = Status::Nul;
            self.tally.nul = self.at;
        }
        if is_nul || self.last { Break(()) } else { Continue(()) }
    }

    /// The file has ended, or enough of it was fed: searches the last line and reports.
    #[inline(never)]
    pub fn finish(&mut self) -> &mut Tally {
        if self.tally.status == Status::Pending && self.filled > 0 {
            match self.phase {
                Phase::Measure => self.need_scratch(),
                Phase::Long => self.count_line(),
                _ => {
                    let _ = self.search_scratch();
                }
            }
        }
        if self.tally.status == Status::Pending {
            self.tally.status = Status::Done;
        }
        &mut self.tally
    }

    fn need_scratch(&mut self) {
        self.tally.status = Status::Scratch;
        self.tally.need = self.filled as u64;
    }

    /// Handles bytes.
    fn consume(&mut self, mut rest: Rest<'_>) -> ControlFlow<()> {
        loop {
            let step = match self.phase {
                Phase::Drain(until) => Break(drained(rest.end(), until)),
                Phase::Skip => self.skip(&mut rest),
                Phase::Lines if self.filled > 0 => self.line_cut_by_pages(&mut rest),
                Phase::Lines => self.lines(&mut rest),
                Phase::Long => self.long_line(&mut rest),
                Phase::Measure => Break(self.measure(rest.data)),
            };
            if let Break(flow) = step {
                return flow;
            }
        }
    }

    #[inline(never)]
    fn skip(&mut self, rest: &mut Rest<'_>) -> Step {
        let Some(i) = self.eol.first(rest.data) else { return MORE };
        self.phase = Phase::Lines;
        rest.pass(i + 1);
        Continue(())
    }

    #[inline(never)]
    fn line_cut_by_pages(&mut self, rest: &mut Rest<'_>) -> Step {
        let end = self.eol.first(rest.data);
        let rest_of_line = end.map_or(rest.data.len(), |i| i + 1);
        if !self.keep(&rest.data[..rest_of_line], rest.at) {
            self.phase = self.phase_of_long_line();
            return Continue(());
        }
        if end.is_none() {
            return MORE;
        }
        rest.pass(rest_of_line);
        self.search_scratch().map_break(Break)
    }

    #[inline(never)]
    fn lines(&mut self, rest: &mut Rest<'_>) -> Step {
        let Some((whole, is_all)) = self.whole_lines(rest) else { return Break(Break(())) };
        self.block(&rest.data[..whole], rest.at).map_break(Break)?;
        self.after_lines(rest, whole, is_all)
    }

    #[inline(never)]
    fn after_lines(&mut self, rest: &mut Rest<'_>, whole: usize, is_all: bool) -> Step {
        if let Phase::Drain(until) = self.phase {
            return Break(drained(rest.end(), until));
        }
        if is_all {
            return Break(Break(()));
        }
        rest.pass(whole);
        if rest.data.is_empty() || self.keep(rest.data, rest.at) {
            return MORE;
        }
        self.phase = self.phase_of_long_line();
        Continue(())
    }

    /// The bytes of the item's whole lines in what is left of a page, and whether these are all it has; `None` if it has
    /// none there.
    #[inline(never)]
    fn whole_lines(&self, rest: &Rest<'_>) -> Option<(usize, bool)> {
        let own = self.end.checked_sub(rest.at).filter(|&n| n > 0)?;
        // The item's last line has the byte before its end.
        let last = usize::try_from(own - 1).ok().filter(|&k| k < rest.data.len());
        if let Some(i) = last.and_then(|k| self.eol.first(&rest.data[k..]).map(|i| k + i)) {
            return Some((i + 1, true));
        }
        let whole = match self.last {
            true => rest.data.len(),
            false => self.eol.last(rest.data).map_or(0, |i| i + 1),
        };
        Some((whole, false))
    }

    #[inline(never)]
    fn long_line(&mut self, rest: &mut Rest<'_>) -> Step {
        let end = self.eol.first(rest.data);
        let part = &rest.data[..end.unwrap_or(rest.data.len())];
        if self.long_line_has_candidate(part) {
            self.phase = Phase::Measure;
            return Continue(());
        }
        self.filled += part.len();
        let Some(end) = end else { return MORE };
        self.count_line();
        (self.phase, self.filled) = (Phase::Lines, 0);
        rest.pass(end + 1);
        Continue(())
    }

    fn measure(&mut self, data: &[u8]) -> ControlFlow<()> {
        let end = self.eol.first(data);
        self.filled += end.map_or(data.len(), |i| i + 1);
        if end.is_none() {
            return Continue(());
        }
        self.need_scratch();
        Break(())
    }

    /// What to do with a line of which `self.filled` bytes are kept and the next do not fit.
    fn phase_of_long_line(&mut self) -> Phase {
        let reach = self.matcher.reach().filter(|&n| 2 * n <= self.scratch.len());
        let kept = &self.scratch[..self.filled];
        match reach {
            // A line without candidates is emitted by a search that inverts.
            Some(reach) if !self.flags.has(TaskFlags::INVERT) && !self.matcher.may_match(kept) => {
                let tail = self.filled.saturating_sub(reach - 1);
                self.scratch.copy_within(tail..self.filled, 0);
                Phase::Long
            }
            _ => Phase::Measure,
        }
    }

    /// Whether a literal lies in the next part of a long line, or across its start. The last bytes
    /// of the line so far are at the start of the scratch buffer; so are those of the part then.
    #[inline(never)]
    fn long_line_has_candidate(&mut self, part: &[u8]) -> bool {
        let across = self.matcher.reach().unwrap_or(1) - 1;
        let kept = self.filled.min(across);
        let head = part.len().min(across);
        self.scratch[kept..kept + head].copy_from_slice(&part[..head]);
        if self.matcher.may_match(&self.scratch[..kept + head]) || self.matcher.may_match(part) {
            return true;
        }
        if part.len() >= across {
            self.scratch[..across].copy_from_slice(&part[part.len() - across..]);
        } else {
            let end = kept + head;
            self.scratch.copy_within(end.saturating_sub(across)..end, 0);
        }
        false
    }

    /// Counts a line that no block contains.
    fn count_line(&mut self) {
        if self.flags.has(TaskFlags::NUMBER) {
            self.tally.lines += 1;
        }
    }

    /// Appends bytes to the incomplete line, which starts at offset `at` if nothing of it is kept
    /// yet; false, and nothing done, if they do not fit.
    #[inline(never)]
    fn keep(&mut self, part: &[u8], at: u64) -> bool {
        let end = self.filled + part.len();
        let Some(to) = self.scratch.get_mut(self.filled..end) else { return false };
        to.copy_from_slice(part);
        if self.filled == 0 {
            self.kept = at;
        }
        self.filled = end;
        true
    }

    fn search_scratch(&mut self) -> ControlFlow<()> {
        // Lent to the search of the block, which does not touch it otherwise.
        let scratch = core::mem::take(&mut self.scratch);
        let len = core::mem::replace(&mut self.filled, 0);
        let flow = self.block(&scratch[..len], self.kept);
        self.scratch = scratch;
        flow
    }

    /// Searches a block of whole lines that starts at offset `at` of the file.
    #[inline(never)]
    fn block(&mut self, hay: &[u8], at: u64) -> ControlFlow<()> {
        if hay.is_empty() {
            return Continue(());
        }
        let hit = Hit { start: 0, end: 0, sure: true };
        let mut block = Block { hay, at, from: 0, hit, counted: 0, lines: self.tally.lines };
        self.select(&mut block)?;
        if self.flags.has(TaskFlags::NUMBER) {
            self.tally.lines = block.all_lines(self.eol);
        }
        Continue(())
    }

    #[inline(never)]
    fn select(&mut self, block: &mut Block<'_>) -> ControlFlow<()> {
        let invert = self.flags.has(TaskFlags::INVERT);
        match self.matcher.find() {
            // Every line alike: no need to look at each.
            Find::Everything if !invert => return self.run(block, 0, block.hay.len()),
            Find::Nothing if invert => return self.run(block, 0, block.hay.len()),
            Find::Everything | Find::Nothing => return Continue(()),
            _ => {}
        }
        while let Some(hit) = self.matcher.next_line(block.hay, block.from, self.eol) {
            if matches!(self.phase, Phase::Drain(_)) {
                return Continue(());
            }
            block.hit = hit;
            self.line(block)?;
            block.from = block.next();
        }
        if invert && block.from < block.hay.len() && !matches!(self.phase, Phase::Drain(_)) {
            self.run(block, block.from, block.hay.len())?;
        }
        Continue(())
    }

    /// A line that matches, or may, and those since the last one, which do not.
    fn line(&mut self, block: &mut Block<'_>) -> ControlFlow<()> {
        let invert = self.flags.has(TaskFlags::INVERT);
        if invert && block.hit.start > block.from {
            self.run(block, block.from, block.hit.start)?;
        }
        if !block.hit.sure {
            self.undecided(block)
        } else if invert {
            Continue(())
        } else {
            self.matching(block)
        }
    }

    /// Counts selected lines towards the limit; breaks or drains when it is reached.
    fn count(&mut self, lines: u64, at: u64) -> ControlFlow<()> {
        self.tally.selected += lines;
        if self.tally.selected < self.limit {
            return Continue(());
        }
        if !self.flags.has(TaskFlags::DRAIN) {
            return Break(());
        }
        self.phase = Phase::Drain(at.next_multiple_of(self.window));
        Continue(())
    }

    /// A matching line.
    #[inline(never)]
    fn matching(&mut self, block: &mut Block<'_>) -> ControlFlow<()> {
        let spans = self.flags.0 & (TaskFlags::ONLY | TaskFlags::SPANS) != 0;
        if spans && !self.matcher.tells_spans(block.line()) {
            return self.undecided(block);
        }
        if self.flags.has(TaskFlags::ONLY) {
            self.matches(block)?;
        } else if self.flags.has(TaskFlags::LINES | TaskFlags::SPANS) {
            self.line_with_spans(block)?;
        } else if self.flags.has(TaskFlags::LINES) {
            self.emit(block, RecordKind::Lines, block.hit.start, block.next(), 1)?;
        }
        self.count(1, block.at + block.next() as u64)
    }

    /// Selected lines `start..end` of the block, all that there are in between.
    fn run(&mut self, block: &mut Block<'_>, start: usize, end: usize) -> ControlFlow<()> {
        let (hay, emits) = (block.hay, self.flags.has(TaskFlags::LINES));
        let room = self.limit - self.tally.selected;
        let mut lines = self.eol.count(&hay[start..end]) as u64;
        lines += self.eol.last(&hay[end - 1..end]).is_none() as u64;
        let mut end = end;
        if lines > room {
            end = start;
            for _ in 0..room {
                end += self.eol.first(&hay[end..]).map_or(0, |i| i + 1);
            }
            lines = room;
        }
        if emits && lines > 0 {
            self.emit(block, RecordKind::Lines, start, end, lines)?;
        }
        self.count(lines, block.at + end as u64)
    }

    #[inline(never)]
    fn undecided(&mut self, block: &mut Block<'_>) -> ControlFlow<()> {
        let kind = match self.eol {
            Eol::Newline => RecordKind::Undecided,
            Eol::NewlineOrNul => RecordKind::UndecidedNul,
        };
        self.emit(block, kind, block.hit.start, block.next(), 1)
    }

    /// Each match of a line by itself.
    #[inline(never)]
    fn matches(&mut self, block: &mut Block<'_>) -> ControlFlow<()> {
        for (start, end) in self.matcher.spans(block.line()) {
            let at = block.hit.start;
            self.emit(block, RecordKind::Match, at + start, at + end, 0)?;
        }
        Continue(())
    }

    #[inline(never)]
    fn line_with_spans(&mut self, block: &mut Block<'_>) -> ControlFlow<()> {
        let spans = self.matcher.spans(block.line()).count();
        let matcher = self.matcher;
        let (line, start, next) = (block.line(), block.hit.start, block.next());
        let room = self.room(block, RecordKind::Spans, start, next, 1, spans)?;
        write_spans(matcher, line, room);
        Continue(())
    }

    fn emit(
        &mut self,
        block: &mut Block<'_>,
        kind: RecordKind,
        start: usize,
        end: usize,
        lines: u64,
    ) -> ControlFlow<()> {
        self.room(block, kind, start, end, lines, 0).map_continue(|_| ())
    }

    /// Writes a record but for its spans, for which it returns the room.
    fn room(
        &mut self,
        block: &mut Block<'_>,
        kind: RecordKind,
        start: usize,
        end: usize,
        lines: u64,
        spans: usize,
    ) -> ControlFlow<(), &mut [u8]> {
        const HEAD: usize = size_of::<Record>();
        let text = &block.hay[start..end];
        let line = match self.flags.has(TaskFlags::NUMBER) {
            true => block.line_number(start, self.eol),
            false => 0,
        };
        let size = (HEAD + 8 * spans + text.len()).next_multiple_of(8);
        let record = Record {
            offset: block.at + start as u64,
            line,
            item: self.number,
            kind: kind as u32,
            lines: lines as u32,
            spans: spans as u32,
            len: text.len() as u32,
            size: size as u32,
        };
        let Some(room) = self.sink.room(size) else {
            self.tally.status = Status::Output;
            self.tally.need = size as u64;
            return Break(());
        };
        let (head, payload) = room.split_at_mut(HEAD);
        head.copy_from_slice(bytemuck::bytes_of(&record));
        let (spans, rest) = payload.split_at_mut(8 * spans);
        rest[..text.len()].copy_from_slice(text);
        Continue(spans)
    }
}

/// Writes where the matches of a line lie.
#[inline(never)]
fn write_spans(matcher: &Matcher<'_>, line: &[u8], room: &mut [u8]) {
    for (place, (start, end)) in room.chunks_exact_mut(8).zip(matcher.spans(line)) {
        place[..4].copy_from_slice(&(start as u32).to_ne_bytes());
        place[4..].copy_from_slice(&(end as u32).to_ne_bytes());
    }
}

/// Whether bytes up to offset `at` are enough of a drain.
fn drained(at: u64, until: u64) -> ControlFlow<()> {
    if at >= until { Break(()) } else { Continue(()) }
}

/// A block of lines and how far its lines were counted.
struct Block<'h> {
    hay: &'h [u8],
    /// Offset of the block in the file.
    at: u64,
    /// Where the lines begin that have not been looked at.
    from: usize,
    /// The line at hand.
    hit: Hit,
    /// Lines are counted up to this offset in the block …
    counted: usize,
    /// … and there were so many since the start of the item.
    lines: u64,
}

impl<'h> Block<'h> {
    /// The line at hand.
    fn line(&self) -> &'h [u8] {
        &self.hay[self.hit.start..self.hit.end]
    }

    /// Where the line after that begins.
    fn next(&self) -> usize {
        (self.hit.end + 1).min(self.hay.len())
    }

    /// Number of the line that starts at `start`, which is not before the last one asked for.
    #[inline(never)]
    fn line_number(&mut self, start: usize, eol: Eol) -> u64 {
        if let Some(part) = self.hay.get(self.counted..start) {
            self.lines += eol.count(part) as u64;
            self.counted = start;
        }
        self.lines
    }

    /// The lines up to the end, of which the last may not be terminated.
    #[inline(never)]
    fn all_lines(&mut self, eol: Eol) -> u64 {
        let unended = eol.last(&self.hay[self.hay.len() - 1..]).is_none();
        self.line_number(self.hay.len(), eol) + u64::from(unended)
    }
}
