//! The device's searcher on the CPU, with pages, items and buffers of any size, beside a naive
//! search line by line.

use gpu_examples::grep::compile::{self, Options, compile};
use gpu_examples::grep::locale::Locale;
use gpu_examples::grep::referee::Referee;
use gpu_examples::grep::syntax::Dialect;
use gpu_kernels::grep::{
    Item, ItemResult, Matcher, Pages, Program, Record, RecordKind, Search, Sink, Status, Task,
    TaskFlags,
};

/// A file in memory, cut into pages.
pub(crate) struct Memory<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) page: usize,
}

impl Pages for Memory<'_> {
    fn page(&mut self, at: u64) -> Result<Option<(&[u8], bool)>, u32> {
        let at = at as usize;
        let end = ((at / self.page + 1) * self.page).min(self.bytes.len());
        // Sometimes the end is not known beforehand.
        let last = end == self.bytes.len() && self.page.is_multiple_of(2);
        Ok((at < end).then(|| (&self.bytes[at..end], last)))
    }
}

/// Keeps records, of so many bytes at most.
pub(crate) struct Kept {
    pub(crate) records: Vec<Vec<u8>>,
    pub(crate) left: usize,
}

impl Sink for Kept {
    fn room(&mut self, size: usize) -> Option<&mut [u8]> {
        self.left = self.left.checked_sub(size)?;
        self.records.push(vec![0; size]);
        self.records.last_mut().map(Vec::as_mut_slice)
    }
}

/// How a file is cut up for a search.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    pub(crate) page: usize,
    pub(crate) items: Vec<usize>,
    pub(crate) scratch: usize,
}

/// One line or match: offset in the file, number of the line, bytes.
pub(crate) type Found = (u64, u64, Vec<u8>);

/// A program, what decides lines that it leaves open, and flags of the task.
pub(crate) struct Device<'a> {
    pub(crate) program: &'a [u64],
    pub(crate) referee: &'a Referee,
    pub(crate) flags: u32,
}

impl Device<'_> {
    /// All that a search of `text` emits, in order, its lines counted; and how many were selected.
    pub(crate) fn search(&self, text: &[u8], cut: &Cut) -> (Vec<Found>, u64) {
        let program = Program::parse(bytemuck::cast_slice(self.program)).unwrap();
        let matcher = Matcher::new(&program);
        let task = Task { window: 96 << 10, flags: self.flags, reserved: 0 };
        let mut starts: Vec<usize> = cut.items.iter().map(|i| i % (text.len() + 1)).collect();
        starts.push(0);
        starts.sort_unstable();
        starts.dedup();
        let (mut found, mut base, mut selected) = (Vec::new(), 0, 0);
        for (i, &start) in starts.iter().enumerate() {
            let end = starts.get(i + 1).map_or(u64::MAX, |&e| e as u64);
            let item = Item { start: start as u64, end, limit: u64::MAX, file: 0, flags: 0 };
            let (mut scratch, mut room) = (cut.scratch, 64);
            loop {
                let pages = Memory { bytes: text, page: cut.page };
                let mut sink = Kept { records: Vec::new(), left: room };
                let buffer = &mut vec![0xaa; scratch];
                let mut search = Search {
                    matcher: &matcher,
                    task,
                    item,
                    number: 7,
                    scratch: buffer,
                    sink: &mut sink,
                    pages,
                    result: ItemResult::default(),
                };
                search.run();
                let result = search.result;
                match result.status() {
                    Status::Scratch => {
                        assert!(result.need as usize > scratch);
                        scratch = result.need as usize;
                    }
                    Status::Output => room *= 4,
                    Status::Done => {
                        selected += result.selected;
                        for record in &sink.records {
                            selected += self.read(record, base, &mut found);
                        }
                        base += result.lines;
                        break;
                    }
                    status => panic!("{status:?}"),
                }
            }
        }
        (found, selected)
    }

    /// Reads a record; how many lines the referee selected.
    fn read(&self, record: &[u8], base: u64, found: &mut Vec<Found>) -> u64 {
        let (head, payload) = record.split_at(size_of::<Record>());
        let head: Record = bytemuck::pod_read_unaligned(head);
        assert_eq!((head.item, head.size as usize), (7, record.len()));
        let text = &payload[8 * head.spans as usize..][..head.len as usize];
        let number = base + head.line;
        if [RecordKind::Undecided as u32, RecordKind::UndecidedNul as u32].contains(&head.kind) {
            let line = without_end(text, self.flags);
            if self.flags & TaskFlags::ONLY != 0 {
                let spans = spans(self.referee, line);
                let selected = self.referee.next_span(line, 0, true).is_some();
                let each =
                    |(s, e): (usize, usize)| (head.offset + s as u64, number, line[s..e].to_vec());
                found.extend(spans.into_iter().map(each));
                return selected.into();
            }
            let invert = self.flags & TaskFlags::INVERT != 0;
            if self.referee.next_span(line, 0, true).is_some() == invert {
                return 0;
            }
            found.push((head.offset, number, text.to_vec()));
            return 1;
        }
        if head.kind == RecordKind::Match as u32 {
            found.push((head.offset, number, text.to_vec()));
            return 0;
        }
        let mut offset = head.offset;
        for (i, line) in lines(text, self.flags).enumerate() {
            found.push((offset, number + i as u64, line.to_vec()));
            offset += line.len() as u64;
        }
        0
    }
}

fn ends_line(byte: u8, flags: u32) -> bool {
    byte == b'\n' || byte == 0 && flags & TaskFlags::NUL_ENDS_LINE != 0
}

fn lines(text: &[u8], flags: u32) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(move |&b| ends_line(b, flags))
}

fn without_end(line: &[u8], flags: u32) -> &[u8] {
    match line {
        [line @ .., last] if ends_line(*last, flags) => line,
        line => line,
    }
}

fn spans(referee: &Referee, line: &[u8]) -> Vec<(usize, usize)> {
    let (mut spans, mut from) = (Vec::new(), 0);
    while let Some(span) = referee.next_span(line, from, false) {
        from = span.1;
        spans.push(span);
    }
    spans
}

/// What is to be found, looked for line by line.
fn naive(referee: &Referee, text: &[u8], flags: u32) -> (Vec<Found>, u64) {
    let (mut found, mut offset, mut selected) = (Vec::new(), 0, 0);
    for (number, whole) in lines(text, flags).enumerate() {
        let line = without_end(whole, flags);
        let matches = referee.next_span(line, 0, true).is_some();
        if matches != (flags & TaskFlags::INVERT != 0) {
            selected += 1;
            if flags & TaskFlags::ONLY != 0 {
                for (s, e) in spans(referee, line) {
                    found.push((offset + s as u64, number as u64, line[s..e].to_vec()));
                }
            } else {
                found.push((offset, number as u64, whole.to_vec()));
            }
        }
        offset += whole.len() as u64;
    }
    (found, selected)
}

/// What any patterns are searched with.
#[derive(Clone, Debug)]
pub(crate) struct Switches {
    pub(crate) ignore_case: bool,
    pub(crate) word: bool,
    pub(crate) line: bool,
    pub(crate) invert: bool,
    pub(crate) only: bool,
    pub(crate) nul_ends_line: bool,
    pub(crate) locale: &'static str,
}

/// Searches a text that is cut as `cut` says, and compares all with what the naive search finds.
pub(crate) fn check(
    patterns: &[Vec<u8>],
    dialect: Option<Dialect>,
    switches: &Switches,
    text: &[u8],
    cut: &Cut,
) {
    let Switches { ignore_case, word, line, invert, only, nul_ends_line, locale } = *switches;
    let options = Options { dialect, ignore_case, word, line, spans: only };
    let locale = Locale::named(locale);
    let compiled = compile(patterns, options, &locale).unwrap();
    let referee = compile::referee(patterns, options, &locale).unwrap();
    let shown = if only { TaskFlags::ONLY } else { TaskFlags::LINES };
    let mut flags = shown | TaskFlags::NUMBER;
    flags |= if invert { TaskFlags::INVERT } else { 0 };
    flags |= if nul_ends_line { TaskFlags::NUL_ENDS_LINE } else { 0 };
    let device = Device { program: &compiled.program, referee: &referee, flags };
    assert_eq!(device.search(text, cut), naive(&referee, text, flags));
}
