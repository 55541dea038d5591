//! The device's searcher on the CPU, with pages, items and buffers of any size, against a naive
//! search line by line.

mod naive;

use gpu_examples::grep::compile::{self, Options, compile};
use gpu_examples::grep::locale::Locale;
use gpu_examples::grep::syntax::Dialect;
use gpu_kernels::grep::{Item, ItemResult, Matcher, Program, Search, Task, TaskFlags};
use naive::{Cut, Device, Found, Kept, Memory, Switches, check};
use proptest::prelude::*;

fn texts() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => prop::sample::select(vec![
            "a", "b", "ab", "abc", "c", "aab", "_", "é", "É", "ſ", "日", "x1", "don't", "foo",
            "Foo", "FOO", "bar", "20", "7-",
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
        "[0-9]",
        "[0-9]{2}",
        "[a-c]{2}",
        "[xy_]+",
        "-",
        "[.-]",
        "(a.|[^x]b)",
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

fn switches() -> impl Strategy<Value = Switches> {
    let rare = || prop::bool::weighted(0.25);
    let line = prop::bool::weighted(0.1);
    (rare(), rare(), line, rare(), rare(), rare(), any::<bool>()).prop_map(
        |(ignore_case, word, line, invert, only, nul_ends_line, utf8)| {
            let locale = if utf8 { "C.UTF-8" } else { "C" };
            let only = only && !invert;
            Switches { ignore_case, word, line, invert, only, nul_ends_line, locale }
        },
    )
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
        search_if_accepted(&program, &text);
    }
}

/// Searches the text, unless the program is refused.
fn search_if_accepted(program: &[u64], text: &[u8]) {
    let Ok(program) = Program::parse(bytemuck::cast_slice(program)) else { return };
    let matcher = Matcher::new(&program);
    let task = Task { window: 1, flags: TaskFlags::ONLY, reserved: 0 };
    let item = Item { start: 0, end: u64::MAX, limit: u64::MAX, file: 0, flags: 0 };
    let mut sink = Kept { records: Vec::new(), left: 1 << 20 };
    let mut search = Search {
        matcher: &matcher,
        task,
        item,
        number: 0,
        scratch: &mut [0; 4096],
        sink: &mut sink,
        pages: Memory { bytes: text, page: 4096 },
        result: ItemResult::default(),
    };
    search.run();
}

/// The same with programs of each kind, in which each bit is wrong in turn.
#[test]
fn no_bit_of_a_program_is_taken_on_trust() {
    let words: Vec<Vec<u8>> = (0..40).map(|i| format!("w{i}").into_bytes()).collect();
    let expression = |text: &str| (vec![text.as_bytes().to_vec()], Some(Dialect::Extended));
    for (patterns, dialect) in [
        (vec![b"ab".to_vec()], None),
        (vec![b"ab".to_vec(), b"c d".to_vec()], None),
        (words, None),
        expression("^|a?é[0-9]{2}"),
        expression("[0-9]{2}-"),
        expression("(ab|c)+x"),
    ] {
        for (word, line) in [(false, false), (true, false), (false, true)] {
            let options = Options { dialect, ignore_case: false, word, line, spans: true };
            let mut program = compile(&patterns, options, &Locale::named("C")).unwrap().program;
            for at in 0..size_of_val(&program[..]) {
                for bit in 0..8 {
                    let damage = |program: &mut [u64]| {
                        bytemuck::cast_slice_mut::<_, u8>(program)[at] ^= 1 << bit;
                    };
                    damage(&mut program);
                    search_if_accepted(&program, b"\nab w1 12- c d\xe9\n\xe912 abcx");
                    // Whole again.
                    damage(&mut program);
                }
            }
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
