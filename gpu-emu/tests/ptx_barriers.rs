//! Barriers of the block in PTX, which count warps; and what lanes of a warp do together, which must be
//! one and the same.

mod ptx_common;

use std::time::Duration;

use gpu_emu::ptx::{Module, Options, PtxFault};
use gpu_emu::{Fault, LaunchConfig};
use ptx_common::{Gpu, kernel, words};

/// Runs `body` in a block of so many threads, each of which leaves `%rd0` in its place; `%r0` is its
/// number.
fn run(body: &str, threads: u32) -> Result<Vec<u64>, Fault> {
    let gpu = Gpu::new(Module::parse(&kernel(body)).unwrap(), Options::default());
    let out = gpu.words(threads as usize);
    let arguments = words(&[out.as_slice().as_ptr() as u64]);
    let shape = LaunchConfig::new(1, threads).timeout(Duration::from_secs(2));
    match gpu.interpreter.run("k", shape, &arguments) {
        Ok(_) => Ok(out.as_slice().to_vec()),
        Err(e) => Err((*e.fault).clone()),
    }
}

/// Clears the word that threads wait at.
const CLEAR: &str = "setp.eq.u32 %p7, %r0, 0; @%p7 st.shared.u32 [word], 0; bar.sync 0;";

/// What thread 0 has stored in shared memory before the barrier, as all see it after that.
fn passes(barrier: &str, threads: u32) -> Result<Vec<u64>, Fault> {
    run(
        &format!(
            "setp.eq.u32 %p1, %r0, 0; @%p1 st.shared.u32 [word], 7; {barrier}\n\
             ld.shared.u32 %r1, [word]; cvt.u64.u32 %rd0, %r1;"
        ),
        threads,
    )
}

#[test]
fn a_barrier_counts_warps_and_not_their_threads() {
    for threads in [33, 48, 64] {
        for barrier in ["barrier.sync 1, 64;", "bar.sync 1, 64;", "bar.sync 1;"] {
            let seen = passes(barrier, threads).unwrap_or_else(|e| panic!("{barrier}: {e}"));
            assert_eq!(seen, vec![7; threads as usize], "{barrier}");
        }
    }
    // As many threads as it is for, but of one warp: the other never comes.
    let short = passes("setp.lt.u32 %p2, %r0, 32; @%p2 barrier.sync 1, 64;", 64);
    assert!(matches!(short, Err(Fault::Ptx(PtxFault::Deadlock(_)))), "{short:?}");
    // Threads that have exited are not waited for, nor do they make their warp smaller.
    let half = "and.b32 %r1, %r0, 16; setp.ne.u32 %p2, %r1, 0; mov.b64 %rd0, 7; @%p2 exit; barrier.sync 1, 64;";
    let seen = passes(half, 64).unwrap();
    assert!((0..64).all(|n| seen[n] == if n & 16 == 0 { 7 } else { 0 }), "{seen:?}");
}

#[test]
fn who_exits_last_lets_its_warp_arrive() {
    // All but lane 0 of each warp wait; lane 0 exits long after that.
    let body = "and.b32 %r1, %r0, 31; setp.eq.u32 %p2, %r1, 0; @!%p2 bra WAIT;\n\
        mov.u32 %r2, 0; TURN: add.u32 %r2, %r2, 1; setp.lt.u32 %p3, %r2, 20000; @%p3 bra TURN; exit;\n\
        WAIT: barrier.sync 1, 64; mov.b64 %rd0, 1;";
    let seen = run(body, 64).unwrap();
    assert!((0..64).all(|n| seen[n] == u64::from(n % 32 != 0)), "{seen:?}");
}

#[test]
fn who_only_arrives_waits_for_its_warp_all_the_same() {
    let producer = "setp.lt.u32 %p2, %r0, 32; @%p2 bra SIGNAL; bar.sync 1, 64; bra.uni END;\n\
        SIGNAL: bar.arrive 1, 64;\n END:";
    assert_eq!(passes(producer, 48).unwrap(), vec![7; 48]);
    // Lane 0 arrives, and would then let the others go that spin before they arrive.
    let alone = "setp.ne.u32 %p2, %r0, 0; @%p2 bra OTHERS; barrier.arrive 1, 32; st.volatile.shared.u32 [word], 1; bra.uni END;\n\
        OTHERS: ld.volatile.shared.u32 %r1, [word]; setp.eq.u32 %p3, %r1, 0; @%p3 bra OTHERS; barrier.arrive 1, 32;\n END:";
    let stuck = run(&format!("{CLEAR} {alone}"), 32);
    assert!(matches!(stuck, Err(Fault::Ptx(PtxFault::Timeout { .. }))), "{stuck:?}");
}

#[test]
fn a_barrier_that_others_open_does_not_let_half_a_warp_through() {
    // Warps 0 and 1 meet while lane 64 stands at the same barrier, alone of its warp: it goes on with its
    // warp, when warp 0 comes again.
    let body = "mov.b64 %rd0, 0; setp.lt.u32 %p1, %r0, 64; @%p1 bra PAIR; setp.eq.u32 %p2, %r0, 64; @%p2 bra MEET;\n\
        SPIN: ld.volatile.shared.u32 %r1, [word]; setp.eq.u32 %p3, %r1, 0; @%p3 bra SPIN;\n\
        MEET: barrier.sync 1, 64; ld.volatile.shared.u32 %r2, [word]; cvt.u64.u32 %rd0, %r2; bra.uni END;\n\
        PAIR: nanosleep.u32 100000; barrier.sync 1, 64; setp.ge.u32 %p4, %r0, 32; @%p4 bra END;\n\
        nanosleep.u32 100000; st.volatile.shared.u32 [word], 5; barrier.sync 1, 64;\n END:";
    let seen = run(&format!("{CLEAR} {body}"), 96).unwrap();
    assert_eq!(seen[64..], [5; 32]);
}

#[test]
fn all_at_a_barrier_want_the_same_of_it() {
    for other in [
        "bar.sync 1, 96;",
        "setp.eq.u32 %p3, %r0, 0; bar.red.popc.u32 %r1, 1, 64, %p3;",
        "setp.eq.u32 %p3, %r0, 0; bar.red.and.pred %p4, 1, %p3;",
    ] {
        let mixed = format!(
            "setp.lt.u32 %p2, %r0, 32; @%p2 bra FIRST; {other} bra.uni END;\n FIRST: bar.sync 1, 64;\n END:"
        );
        let fault = run(&mixed, 64).unwrap_err();
        assert!(matches!(fault, Fault::Ptx(PtxFault::MixedBarrier { .. })), "{other}: {fault}");
    }
    // All of the block, counted or not.
    let alike = "setp.lt.u32 %p2, %r0, 32; @%p2 bra FIRST; bar.sync 1; bra.uni END;\n FIRST: bar.arrive 1, 64;\n END:";
    assert!(run(alike, 64).is_ok());
    // Of one warp, some wait and others do not.
    let torn = "setp.eq.u32 %p2, %r0, 0; @%p2 bra FIRST; barrier.sync 1, 32; bra.uni END;\n FIRST: barrier.arrive 1, 32;\n END:";
    let fault = run(torn, 32).unwrap_err();
    assert!(matches!(fault, Fault::Ptx(PtxFault::DivergentBarrier { .. })), "{fault}");
}

#[test]
fn reductions_are_over_the_threads_that_there_are() {
    let all = "mov.b64 %rd0, 0; setp.lt.u32 %p2, %r0, 40; bar.red.popc.u32 %r1, 2, %p2; cvt.u64.u32 %rd0, %r1;\n\
        setp.lt.u32 %p2, %r0, 48; barrier.red.and.pred %p3, 2, 64, %p2; @%p3 add.s64 %rd0, %rd0, 100;\n\
        setp.eq.u32 %p2, %r0, 47; barrier.red.or.pred %p3, 2, !%p2; @%p3 add.s64 %rd0, %rd0, 1000;";
    assert_eq!(run(all, 48).unwrap(), vec![1140; 48]);
}

#[test]
fn lanes_that_meet_do_the_same() {
    // Odd lanes come to one instruction, even ones to another.
    let apart = |one: &str, other: &str| {
        run(
            &format!(
                "and.b32 %r1, %r0, 1; setp.eq.u32 %p1, %r1, 0; setp.lt.u32 %p2, %r0, 40; mov.b64 %rd1, 3; mov.b64 %rd0, 0;\n\
                 @%p1 bra EVEN; {one} bra.uni END;\n EVEN: {other}\n END:"
            ),
            32,
        )
    };
    for (one, other) in [
        ("vote.sync.any.pred %p3, %p2, -1;", "vote.sync.all.pred %p3, %p2, -1;"),
        ("vote.sync.ballot.b32 %r2, %p2, -1;", "vote.sync.uni.pred %p3, %p2, -1;"),
        ("shfl.sync.up.b32 %r2, %r0, 0, 0, -1;", "shfl.sync.idx.b32 %r2, %r0, 0, 31, -1;"),
        ("match.any.sync.b32 %r2, %r1, -1;", "match.any.sync.b64 %r2, %rd1, -1;"),
        ("match.any.sync.b32 %r2, %r1, -1;", "match.all.sync.b32 %r2, %r1, -1;"),
        ("bar.warp.sync -1;", "vote.sync.any.pred %p3, %p2, -1;"),
    ] {
        let fault = apart(one, other).unwrap_err();
        assert!(matches!(fault, Fault::Ptx(PtxFault::Mismatch { .. })), "{one} {other}: {fault}");
        for same in [one, other] {
            apart(same, same).unwrap_or_else(|e| panic!("{same}: {e}"));
        }
    }
}
