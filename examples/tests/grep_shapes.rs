//! Expressions whose matches are found by what some of their bytes look like, in texts full of
//! what looks alike, against a naive search line by line.

mod naive;

use gpu_examples::grep::compile::{Options, compile};
use gpu_examples::grep::locale::Locale;
use gpu_examples::grep::syntax::Dialect;
use gpu_kernels::grep::{Find, Program};
use naive::{Cut, Switches, check};
use proptest::prelude::*;

const SHAPES: [&str; 10] = [
    "[0-9]{4}-[0-9]{2}-[0-9]{2}",
    "[a-z]+:[0-9]+",
    "[A-Za-z]{3}[0-9]{2}[A-Za-z]",
    "(x|y)[0-9]-",
    "[0-9]-(a|bc)-[0-9]",
    "^[0-9]{2}-[0-9]",
    "[0-9]-[0-9]$",
    "\\<[0-9]{2}-\\w+:",
    "[0-9]-[^-]*-[0-9]",
    ".*:[0-9][0-9]-",
];

fn options(switches: &Switches) -> Options {
    let Switches { ignore_case, word, line, only, .. } = *switches;
    Options { dialect: Some(Dialect::Extended), ignore_case, word, line, spans: only }
}

fn every_switch() -> impl Iterator<Item = Switches> {
    (0..128u32).map(|bits| {
        let has = |bit: u32| bits >> bit & 1 != 0;
        Switches {
            ignore_case: has(0),
            word: has(1),
            line: has(2),
            invert: has(3),
            only: has(4) && !has(3),
            nul_ends_line: has(5),
            locale: if has(6) { "C.UTF-8" } else { "C" },
        }
    })
}

#[test]
fn shapes_are_what_is_looked_for() {
    // In UTF-8 the letters s and k have other cases that are no single bytes.
    for switches in every_switch().filter(|s| !s.ignore_case || s.locale == "C") {
        for shape in SHAPES {
            let locale = Locale::named(switches.locale);
            let program = compile(&[shape.into()], options(&switches), &locale).unwrap().program;
            let program = Program::parse(bytemuck::cast_slice(&program)).unwrap();
            assert_eq!(program.find, Find::Shape, "{shape} {switches:?}");
        }
    }
}

/// The bytes that are tested lie on either side of the cut.
#[test]
fn shapes_are_found_wherever_a_page_cuts_them() {
    let text =
        b"2024-0102-3\n-2024-01-02\0x\n2024-01-02-\n1234-\xff-2024-11-30 2\xc3\xa9024-01-02\n\
        2024-01-\n02-2024-01-0\n2024-01-02";
    let shape = SHAPES[0].as_bytes().to_vec();
    for switches in every_switch() {
        for page in 1..=text.len() {
            let cut = Cut { page, items: vec![], scratch: 64 };
            check(std::slice::from_ref(&shape), Some(Dialect::Extended), &switches, text, &cut);
        }
    }
}

fn texts() -> impl Strategy<Value = Vec<u8>> {
    let alike = vec![
        "2024-01-02",
        "20-1",
        "1-",
        "7",
        "-",
        "a:1",
        ":",
        "abc12d",
        "ab1",
        "x1-",
        "3-bc-4",
        "3-a-4",
        "12-ab:",
        "é",
        "Y2-",
        " ",
        "\n",
        "\n",
        "\0",
    ];
    let bytes = prop::sample::select(alike).prop_map(str::as_bytes);
    // So often that it does not pay to look for it.
    let times = prop_oneof![6 => Just(1usize), 1 => 2..40usize, 1 => 200..900usize];
    let piece = (bytes, times).prop_map(|(bytes, times)| bytes.repeat(times));
    let strange = prop::sample::select(vec![b"\xff".to_vec(), b"\xc3".to_vec()]);
    let pieces = prop::collection::vec(prop_oneof![20 => piece, 1 => strange], 0..30);
    pieces.prop_map(|pieces| pieces.concat())
}

fn cuts() -> impl Strategy<Value = Cut> {
    let page = prop_oneof![20..200usize, Just(4096), Just(65536)];
    let items = prop::collection::vec(0..20_000usize, 0..3);
    (page, items, 0..200usize).prop_map(|(page, items, scratch)| Cut { page, items, scratch })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn shapes_match_the_same_among_what_looks_alike(
        shape in prop::sample::select(SHAPES.to_vec()),
        switches in prop::sample::select(every_switch().collect::<Vec<_>>()),
        text in texts(), cut in cuts(),
    ) {
        check(&[shape.into()], Some(Dialect::Extended), &switches, &text, &cut);
    }
}
