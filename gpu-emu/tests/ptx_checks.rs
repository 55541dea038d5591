//! What the interpreter's checks report of small programs, and what they let pass.

mod ptx_common;

use gpu_emu::ptx::{Illegal, Module, Options, PtxFault};
use gpu_emu::{Fault, LaunchConfig};
use ptx_common::{Gpu, kernel, words};

/// Whether a body passes the checks, in two blocks of a thread each.
fn checked(body: &str) -> Result<(), Illegal> {
    let options = Options { check: true, ..Options::default() };
    let gpu = Gpu::new(Module::parse(&kernel(body)).unwrap(), options);
    let out = gpu.words(32);
    // Each block's result goes to a place of its own.
    let arguments = words(&[out.as_slice().as_ptr() as u64]);
    match gpu.interpreter.run("k", LaunchConfig::new(2, 1), &arguments) {
        Ok(_) => Ok(()),
        Err(error) => match &*error.fault {
            Fault::Ptx(PtxFault::Access { illegal, .. }) => Err(illegal.clone()),
            other => panic!("{other}\n{body}"),
        },
    }
}

/// The frame's last store, once for each block.
const APART: &str = "mov.u32 %r6, %ctaid.x; mul.wide.u32 %rd7, %r6, 8; add.s64 %rd8, %rd9, %rd7;";

#[test]
fn the_first_store_to_shared_memory_may_be_an_ordered_one() {
    for order in ["", ".volatile", ".relaxed.gpu", ".release.cta"] {
        let body =
            format!("{APART} st{order}.shared.u32 [word+4], 7; ld.shared.u32 %r1, [word+4];");
        assert_eq!(checked(&body), Ok(()), "{order}");
        // Four bytes, not eight.
        let wider = format!("{APART} st{order}.shared.u32 [word], 7; ld.shared.u64 %rd0, [word];");
        assert_eq!(checked(&wider), Err(Illegal::Uninitialised), "{order}");
    }
}

#[test]
fn what_reads_shared_memory_first_is_wrong_however_ordered() {
    for read in [
        "ld.shared.u32 %r1, [word];",
        "ld.volatile.shared.u32 %r1, [word];",
        "ld.relaxed.gpu.shared.u32 %r1, [word];",
        "ld.acquire.cta.shared.u32 %r1, [word];",
        "atom.shared.add.u32 %r1, [word], 1;",
        "atom.shared.exch.b32 %r1, [word], 1;",
        "red.shared.or.b32 [word], 1;",
    ] {
        assert_eq!(checked(&format!("{APART} {read}")), Err(Illegal::Uninitialised), "{read}");
        let written = format!("{APART} st.relaxed.cta.shared.u32 [word], 0; {read}");
        assert_eq!(checked(&written), Ok(()), "{read}");
    }
}

#[test]
fn only_what_is_ordered_makes_plain_accesses_no_race() {
    let race =
        |body: &str| matches!(checked(&format!("{APART} {body}")), Err(Illegal::Race { .. }));
    // `%rd9+64` is the word, `%rd9+128` what passes on who comes after whom.
    assert!(race("st.u32 [%rd9+64], 1;"));
    assert!(race("ld.u32 %r1, [%rd9+64]; st.u32 [%rd9+64], 1;"));
    assert!(race("st.u32 [%rd9+128], 1; st.u32 [%rd9+64], 1;"));
    assert!(!race("ld.u32 %r1, [%rd9+64];"));
    assert!(!race("st.relaxed.gpu.u32 [%rd9+64], 1; ld.relaxed.gpu.u32 %r1, [%rd9+64];"));
    // One worker runs one block after the other.
    for (acquire, release) in [
        ("ld.acquire.gpu.u32 %r1, [%rd9+128];", "st.release.gpu.u32 [%rd9+128], 1;"),
        ("atom.add.u32 %r1, [%rd9+128], 1;", "atom.add.u32 %r1, [%rd9+128], 1;"),
    ] {
        assert!(!race(&format!("{acquire} st.u32 [%rd9+64], 1; {release}")));
        assert!(race(&format!("{acquire} st.u32 [%rd9+64], 1;")));
        assert!(race(&format!("st.u32 [%rd9+64], 1; {release}")));
    }
}

#[test]
fn an_order_for_a_block_alone_is_none_for_others() {
    let race =
        |body: &str| matches!(checked(&format!("{APART} {body}")), Err(Illegal::Race { .. }));
    for access in [
        "st.relaxed.SCOPE.u32 [%rd9+64], 1;",
        "st.release.SCOPE.global.u32 [%rd9+64], 1;",
        "atom.SCOPE.add.u32 %r1, [%rd9+64], 1;",
        "red.relaxed.SCOPE.global.add.u32 [%rd9+64], 1;",
        "ld.acquire.SCOPE.u32 %r1, [%rd9+64]; st.relaxed.SCOPE.u32 [%rd9+64], 1;",
    ] {
        assert!(race(&access.replace("SCOPE", "cta")), "{access}");
        assert!(!race(&access.replace("SCOPE", "gpu")), "{access}");
        // What each block has for itself it may order as it likes.
        let own = access.replace("SCOPE", "cta").replace("%rd9+64", "%rd8");
        assert!(!race(&own), "{own}");
    }
    // Nor is anything else ordered by it.
    let pass = "st.u32 [%rd9+64], 1; atom.acq_rel.SCOPE.add.u32 %r1, [%rd9+128], 1;";
    assert!(race(&pass.replace("SCOPE", "cta")));
}
