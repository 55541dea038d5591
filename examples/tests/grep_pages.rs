//! The device's searcher on the CPU, with pages, items and buffers of any size, against a naive
//! search line by line.

use std::ops::ControlFlow;

use gpu_examples::grep::compile::{self, Options, compile};
use gpu_examples::grep::locale::Locale;
use gpu_examples::grep::referee::Referee;
use gpu_examples::grep::syntax::Dialect;
use gpu_kernels::grep::{
    Item, Matcher, Pages, Program, Record, RecordKind, Sink, Status, Task, TaskFlags, search_item,
};
use proptest::prelude::*;

/// A file in memory, cut into pages.
struct Memory<'a> {
    bytes: &'a [u8],
    page: usize,
}

impl Pages for Memory<'_> {
    fn visit(
        &mut self,
        from: u64,
        mut visit: impl FnMut(&[u8], bool) -> ControlFlow<()>,
    ) -> Result<(), u32> {
        let mut at = from as usize;
        while at < self.bytes.len() {
            let end = ((at / self.page + 1) * self.page).min(self.bytes.len());
            // Sometimes the end is not known beforehand.
            let last = end == self.bytes.len() && self.page.is_multiple_of(2);
            if visit(&self.bytes[at..end], last).is_break() {
                break;
            }
            at = end;
        }
        Ok(())
    }
}

/// Keeps records, of so many bytes at most.
struct Kept {
    records: Vec<Vec<u8>>,
    left: usize,
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
struct Cut {
    page: usize,
    items: Vec<usize>,
    scratch: usize,
}

/// One line or match: offset in the file, number of the line, bytes.
type Found = (u64, u64, Vec<u8>);

struct Device<'a> {
    program: &'a [u64],
    referee: &'a Referee,
    flags: u32,
}

impl Device<'_> {
    /// All that a search of `text` emits, in order, its lines counted; and how many were selected.
    fn search(&self, text: &[u8], cut: &Cut) -> (Vec<Found>, u64) {
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
                let mut pages = Memory { bytes: text, page: cut.page };
                let mut sink = Kept { records: Vec::new(), left: room };
                let buffer = &mut vec![0xaa; scratch];
                let result = search_item(&matcher, &task, &item, 7, buffer, &mut sink, &mut pages);
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
        if head.kind == RecordKind::Undecided as u32 {
            let line = text.strip_suffix(b"\n").unwrap_or(text);
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
        let lines = text.split_inclusive(|&b| b == b'\n');
        for (i, line) in lines.enumerate() {
            found.push((offset, number + i as u64, line.to_vec()));
            offset += line.len() as u64;
        }
        0
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
    for (number, whole) in text.split_inclusive(|&b| b == b'\n').enumerate() {
        let line = whole.strip_suffix(b"\n").unwrap_or(whole);
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

fn texts() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => prop::sample::select(vec![
            "a", "b", "ab", "abc", "c", "aab", "_", "é", "É", "ſ", "日", "x1", "don't", "foo",
            "Foo", "FOO", "bar",
        ]).prop_map(|s| s.as_bytes().to_vec()),
        3 => prop::sample::select(vec![" ", ".", "-", "\t", "\r"])
            .prop_map(|s| s.as_bytes().to_vec()),
        3 => Just(b"\n".to_vec()),
        1 => prop::sample::select(vec![b"\xff".to_vec(), b"\xc3".to_vec(), b"\0".to_vec()]),
        1 => (1..200usize).prop_map(|n| b"y".repeat(n)),
    ];
    prop::collection::vec(piece, 0..120).prop_map(|pieces| pieces.concat())
}

fn cuts() -> impl Strategy<Value = Cut> {
    let page = prop_oneof![1..9usize, 9..100usize, Just(4096), Just(65536)];
    let items = prop::collection::vec(0..2000usize, 0..4);
    (page, items, 0..200usize).prop_map(|(page, items, scratch)| Cut { page, items, scratch })
}

fn expressions() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "a",
        "b",
        "ab",
        "foo",
        "[ab]",
        "[^a]",
        ".",
        "é",
        "\\w",
        "\\W",
        "\\s",
        "\\<",
        "\\>",
        "\\b",
        "\\B",
        " ",
        "x*",
        "a+",
        "(ab|c)",
        "b{2}",
        "(foo|bar)",
        "^",
        "$",
        "y{3,5}",
        "o?",
        "[[:alpha:]]+",
        "日",
    ]);
    let one = prop::collection::vec(part, 1..5).prop_map(|parts| parts.concat());
    prop::collection::vec(one, 1..3).prop_map(|all| all.join("|"))
}

fn strings() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let string = prop::sample::select(vec![
        "a", "ab", "abc", "foo", "Foo", "bar", "foo bar", "don't", "é", "éa", "日", "-", ".a",
        "x1", "_", "yyyy", "s", "c d", "aab",
    ]);
    let few = prop::collection::vec(string.clone(), 1..6);
    // So many that a table of words is used.
    let filler = (0..40).map(|i| format!("filler{i}").into_bytes());
    let filler: Vec<Vec<u8>> = filler.collect();
    (few, any::<bool>()).prop_map(move |(few, many)| {
        let mut all: Vec<Vec<u8>> = few.into_iter().map(|s| s.as_bytes().to_vec()).collect();
        if many {
            all.extend(filler.iter().cloned());
        }
        all
    })
}

#[derive(Clone, Debug)]
struct Switches {
    ignore_case: bool,
    word: bool,
    line: bool,
    invert: bool,
    only: bool,
    locale: &'static str,
}

fn switches() -> impl Strategy<Value = Switches> {
    let rare = || prop::bool::weighted(0.25);
    (rare(), rare(), prop::bool::weighted(0.1), rare(), rare(), any::<bool>()).prop_map(
        |(ignore_case, word, line, invert, only, utf8)| {
            let locale = if utf8 { "C.UTF-8" } else { "C" };
            Switches { ignore_case, word, line, invert, only: only && !invert, locale }
        },
    )
}

fn check(
    patterns: &[Vec<u8>],
    dialect: Option<Dialect>,
    switches: &Switches,
    text: &[u8],
    cut: &Cut,
) {
    let Switches { ignore_case, word, line, invert, only, locale } = *switches;
    let options = Options { dialect, ignore_case, word, line, spans: only };
    let locale = Locale::named(locale);
    let compiled = compile(patterns, options, &locale).unwrap();
    let referee = compile::referee(patterns, options, &locale).unwrap();
    let shown = if only { TaskFlags::ONLY } else { TaskFlags::LINES };
    let flags = shown | TaskFlags::NUMBER | if invert { TaskFlags::INVERT } else { 0 };
    let device = Device { program: &compiled.program, referee: &referee, flags };
    assert_eq!(device.search(text, cut), naive(&referee, text, flags));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn expressions_match_the_same_however_the_file_is_cut(
        pattern in expressions(), switches in switches(), text in texts(), cut in cuts(),
    ) {
        check(&[pattern.into_bytes()], Some(Dialect::Extended), &switches, &text, &cut);
    }

    #[test]
    fn strings_match_the_same_however_the_file_is_cut(
        strings in strings(), switches in switches(), text in texts(), cut in cuts(),
    ) {
        check(&strings, None, &switches, &text, &cut);
    }

    /// Whatever is damaged, a program is refused or searches without a panic.
    #[test]
    fn damaged_programs_are_refused_or_harmless(
        strings in strings(), expression in expressions(), fixed: bool, switches in switches(),
        text in texts(), at: prop::sample::Index, value: u8, cut_off: bool,
    ) {
        let Switches { ignore_case, word, line, locale, .. } = switches;
        let locale = Locale::named(locale);
        let (patterns, dialect) = match fixed {
            true => (strings, None),
            false => (vec![expression.into_bytes()], Some(Dialect::Extended)),
        };
        let options = Options { dialect, ignore_case, word, line, spans: true };
        let mut program = compile(&patterns, options, &locale).unwrap().program;
        if cut_off {
            program.truncate(at.index(program.len()));
        } else {
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut program);
            bytes[at.index(bytes.len())] = value;
        }
        if let Ok(program) = Program::parse(bytemuck::cast_slice(&program)) {
            let matcher = Matcher::new(&program);
            let task = Task { window: 1, flags: TaskFlags::ONLY, reserved: 0 };
            let item = Item { start: 0, end: u64::MAX, limit: u64::MAX, file: 0, flags: 0 };
            let mut sink = Kept { records: Vec::new(), left: 1 << 20 };
            let mut pages = Memory { bytes: &text, page: 4096 };
            search_item(&matcher, &task, &item, 0, &mut [0; 4096], &mut sink, &mut pages);
        }
    }
}

/// A run of the text as long as the longest word, at every alignment to a page.
#[test]
fn a_word_is_found_wherever_a_page_cuts_it() {
    let locale = Locale::named("C");
    let text = b"one two three\nfour needle five\nsix\nlast needle".as_slice();
    for patterns in [vec![b"needle".to_vec()], vec![b"needle".to_vec(), b"noodle".to_vec()]] {
        for word in [false, true] {
            let options =
                Options { dialect: None, ignore_case: false, word, line: false, spans: false };
            let compiled = compile(&patterns, options, &locale).unwrap();
            let referee = compile::referee(&patterns, options, &locale).unwrap();
            let flags = TaskFlags::LINES | TaskFlags::NUMBER;
            let device = Device { program: &compiled.program, referee: &referee, flags };
            for page in 1..=text.len() {
                let cut = Cut { page, items: vec![], scratch: 64 };
                let expected: Vec<Found> =
                    vec![(14, 1, b"four needle five\n".to_vec()), (35, 3, b"last needle".to_vec())];
                assert_eq!(device.search(text, &cut), (expected, 2), "pages of {page}");
            }
        }
    }
}
