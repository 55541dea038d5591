//! Text that is no PTX, or no longer: an error that says where, never more than that.

use gpu_emu::ptx::{Module, PtxError};
use proptest::prelude::*;

const REAL: &str = include_str!("ptx/primitives.ptx");

/// Parses what need not be PTX; with its errors every message has words in it.
fn parse(text: &str) -> bool {
    match Module::parse(text) {
        Ok(module) => {
            module.kernels().for_each(drop);
            true
        }
        Err(e) => {
            assert!(e.to_string().len() > 8, "{e}");
            false
        }
    }
}

#[test]
fn real_ptx_is_whole() {
    assert!(parse(REAL));
}

#[test]
fn newer_and_strange_ptx_is_named() {
    let newer = REAL.replace(".version 7.0", ".version 19.2");
    let error = Module::parse(&newer).unwrap_err();
    assert!(
        matches!(error, PtxError::Newer { line: 5, ref version } if version == "19.2"),
        "{error}"
    );
    let unknown = REAL.replacen("barrier.sync", "wgmma.frobnicate.sync", 1);
    let error = Module::parse(&unknown).unwrap_err();
    let PtxError::Unsupported { line, ref instruction, .. } = error else { panic!("{error}") };
    assert_eq!(instruction, "wgmma.frobnicate.sync");
    assert!(unknown.lines().nth(line as usize - 1).unwrap().contains("wgmma.frobnicate"));
    let undefined = REAL.replacen("call.uni _R", "call.uni _Q", 1);
    assert!(matches!(Module::parse(&undefined), Err(PtxError::Unknown { .. })));
    for text in ["", "\0", ".version", ".version 7.0 .func", "@", "é"] {
        assert!(!parse(text), "{text:?}");
    }
}

/// A part of the real text that is quick to parse again and again: whole lines.
fn part() -> &'static str {
    let end = REAL[..20_000].rfind("\n}\n").map_or(20_000, |at| at + 3);
    &REAL[..end]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn truncated(at in 0..part().len()) {
        parse(&part()[..at]);
    }

    #[test]
    fn with_other_bytes(changes in prop::collection::vec((0..part().len(), 32u8..127), 1..8)) {
        let mut bytes = part().as_bytes().to_vec();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        parse(&String::from_utf8(bytes).expect("all of it is ASCII"));
    }

    #[test]
    fn with_lines_elsewhere(moves in prop::collection::vec((0..500usize, 0..500usize), 1..6)) {
        let mut lines: Vec<&str> = part().lines().collect();
        for (from, to) in moves {
            let (from, to) = (from % lines.len(), to % lines.len());
            let line = lines.remove(from);
            lines.insert(to.min(lines.len()), line);
        }
        parse(&lines.join("\n"));
    }

    #[test]
    fn with_words_repeated(at in 0..part().len(), len in 1..200usize, times in 2..5usize) {
        let end = (at + len).min(part().len());
        let repeated = part()[at..end].repeat(times);
        parse(&format!("{}{repeated}{}", &part()[..at], &part()[end..]));
    }
}
