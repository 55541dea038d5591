//! Text that is no PTX, or no longer: an error that says where, never more than that. What is PTX still is
//! launched: it ends, or fails with words, and nothing else happens to this process.

mod ptx_common;

use std::time::Duration;

use gpu_emu::ptx::{Module, PtxError};
use proptest::prelude::*;
use ptx_common::{hostile::launch, kernel_for};

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

/// Enough for whatever ends, on any machine.
const LONG: Duration = Duration::from_secs(60);
/// Enough for most of what ends: what does not has been run for a while.
const SHORT: Duration = Duration::from_millis(10);

/// Bodies of small kernels that come to their end, with something of everything that is executed.
const BODIES: &[&str] = &[
    "mul.lo.u32 %r1, %r0, -3; mad.wide.u32 %rd0, %r1, %r0, %rd9; sub.s32 %r1, 3, %r0; div.s32 %r1, %r1, 2; shr.s64 %rd0, %rd0, %r0;",
    "add.cc.u64 %rd2, %rd9, -1; addc.u64 %rd0, 5, 0; bfe.u32 %r1, 0xfedcba98, %r0, 4; bfi.b32 %r1, %r1, 0, %r0, 3; mov.b64 {%r1, %r2}, %rd0;",
    "cvt.rn.f64.u32 %fd1, %r0; sqrt.rn.f64 %fd1, %fd1; cvt.rzi.u64.f64 %rd0, %fd1; cvt.rn.f32.u32 %f1, %r0; fma.rn.f32 %f1, %f1, 0f3F000000, 0fBF800000;",
    "mov.u32 %r1, 0; setp.eq.u32 %p1, %r0, 0; @%p1 bra END;\n TURN: add.s32 %r1, %r1, 1; setp.lt.u32 %p1, %r1, %r0; @%p1 bra TURN;\n END: activemask.b32 %r2;",
    "T: .branchtargets A, B, C;\n and.b32 %r1, %r0, 3; min.u32 %r1, %r1, 2; brx.idx %r1, T;\n A: mov.b64 %rd0, 10; bra.uni END;\n B: mov.b64 %rd0, 20; bra.uni END;\n C: mov.b64 %rd0, 30;\n END:",
    "setp.gt.u32 %p3, %r0, 15; @%p3 bra END; shfl.sync.bfly.b32 %r1, %r0, 3, 31, 0xffff; match.any.sync.b32 %r2, %r1, 0xffff; setp.lt.u32 %p1, %r0, 4; vote.sync.any.pred %p2, %p1, 0xffff; redux.sync.add.u32 %r1, %r0, 0xffff; END:",
    "st.shared.u32 [word], %r0; bar.sync 0; setp.lt.u32 %p1, %r0, 4; bar.red.popc.u32 %r1, 0, %p1; setp.lt.u32 %p2, %r0, 32; @%p2 barrier.sync 1, 32; ld.shared.u32 %r2, [word]; st.relaxed.cta.shared.u32 [word+4], 1;",
    "atom.global.add.u32 %r1, [%rd9+8], 1; atom.acq_rel.gpu.cas.b64 %rd0, [%rd9+16], 0, 1; red.or.b32 [%rd9+24], 5; fence.acq_rel.gpu; ld.acquire.sys.u32 %r2, [%rd9+8]; st.release.gpu.u64 [%rd9+32], %rd0;",
    ".local .align 8 .b8 mine[64];\n mov.b64 %rd1, mine; cvta.local.u64 %rd2, %rd1; st.u32 [%rd2+60], %r0; ld.local.s32 %rd0, [%rd1+60]; ld.v2.u64 {%rd3, %rd4}, [%rd9]; st.v4.b32 [%rd9+64], {%r0, %r1, %r2, %r3};",
    "{ .param .b64 give; .param .b64 take; st.param.b64 [give], %rd9; call.uni (take), twice, (give); ld.param.b64 %rd0, [take]; }\n nanosleep.u32 20;",
    "mov.b64 %rd1, twice; P: .callprototype (.param .b64 _) _ (.param .b64 _);\n { .param .b64 give; .param .b64 take; st.param.b64 [give], 3; call (take), %rd1, (give), P; ld.param.b64 %rd0, [take]; }\n mov.u64 %rd1, %clock64; setp.eq.u32 %p1, %r0, 99; @%p1 trap;",
];

/// A module around one of the bodies, with a function to call.
fn small(body: &str) -> String {
    let twice = ".func (.param .b64 out) twice(.param .b64 a)\n{\n.local .b8 own[32]; .reg .b64 %rd<4>; .reg .pred %p<2>;\n\
        ld.param.b64 %rd1, [a]; st.local.u64 [own+8], %rd1; setp.lt.u64 %p1, %rd1, 2; @%p1 bra DONE;\n\
        { .param .b64 give; .param .b64 take; shr.u64 %rd2, %rd1, 9; st.param.b64 [give], %rd2; call.uni (take), twice, (give); ld.param.b64 %rd2, [take]; }\n\
        DONE: add.s64 %rd3, %rd1, %rd1; st.param.b64 [out], %rd3;\n ret;\n}\n.visible .entry";
    kernel_for("sm_80", body).replacen(".visible .entry", twice, 1)
}

#[test]
fn what_is_to_be_spoiled_works() {
    for body in BODIES {
        assert_eq!(launch(&small(body), false, LONG), [None], "{body}");
    }
    let real = launch(REAL, false, SHORT);
    // Some wait for ever with such arguments, or want whole warps.
    assert!(real.iter().flatten().count() < 20, "{real:#?}");
}

/// A text's words, and what is between them.
fn tokens(text: &str) -> Vec<&str> {
    let end = |c: char| !(c.is_ascii_alphanumeric() || "%._$:".contains(c));
    text.split_inclusive(end)
        .flat_map(|part| match part.char_indices().last() {
            Some((at, c)) if end(c) => [&part[..at], &part[at..]],
            _ => [part, ""],
        })
        .filter(|token| !token.is_empty())
        .collect()
}

/// What a word may be exchanged for so that the text may still be PTX.
fn class(token: &str) -> &str {
    match token.as_bytes() {
        [b'%', ..] => token.trim_end_matches(|c: char| c.is_ascii_digit()),
        [b'0'..=b'9', ..] => "0",
        // An instruction by its type.
        [b'a'..=b'z', ..] => token.rfind('.').map_or("", |at| &token[at..]),
        _ => "",
    }
}

/// Numbers at which something changes.
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "2",
    "7",
    "8",
    "31",
    "32",
    "33",
    "63",
    "64",
    "65",
    "-1",
    "-8",
    "255",
    "1024",
    "65535",
    "0xffffffff",
    "0x80000000",
    "4294967296",
    "0x100000000000000",
    "0x200000000000000",
    "0x300000000000000",
    "0x300000000000010",
    "0x7fffffffffffffff",
    "0xffffffffffffffff",
];

/// The text with some of its words exchanged for others of their class.
fn exchanged(text: &str, changes: &[(usize, usize)]) -> String {
    let mut all = tokens(text);
    let pool = all.clone();
    let places: Vec<usize> = (0..all.len()).filter(|&at| !class(all[at]).is_empty()).collect();
    for &(at, with) in changes {
        let at = places[at % places.len()];
        let class_here = class(all[at]);
        let same: Vec<&str> = match class_here {
            "0" => NUMBERS.to_vec(),
            _ => pool.iter().copied().filter(|token| class(token) == class_here).collect(),
        };
        all[at] = same[with % same.len()];
    }
    all.concat()
}

proptest! {
    // As many cases as `PROPTEST_CASES` says.
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn small_programs_with_other_words(
        body in 0..BODIES.len(),
        changes in prop::collection::vec((any::<usize>(), any::<usize>()), 1..4),
        check in any::<bool>(),
    ) {
        launch(&exchanged(&small(BODIES[body]), &changes), check, SHORT);
    }

    #[test]
    fn real_kernels_with_other_words(
        changes in prop::collection::vec((any::<usize>(), any::<usize>()), 1..4),
    ) {
        launch(&exchanged(REAL, &changes), false, SHORT);
    }

    #[test]
    fn small_programs_with_other_bytes(
        body in 0..BODIES.len(),
        changes in prop::collection::vec((any::<usize>(), 32u8..127), 1..4),
    ) {
        let mut bytes = small(BODIES[body]).into_bytes();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        launch(&String::from_utf8(bytes).expect("all of it is ASCII"), false, SHORT);
    }

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
