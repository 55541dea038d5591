//! The CUDA backend's own side, against a stand-in for the driver: calls and kernels that fail, and launches that run
//! side by side.

use bytemuck::{Pod, Zeroable};
use conformance::stand_in::{Kernels, device, fail_next, fail_with};
use gpu_host::{CudaError, HostError, Launch, LaunchConfig, Session, SessionBuilder};
use gpu_rt::{Kernel, kernel};
use gpufs::{Errno, Fs};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

/// What turns a launch that hangs into a failure. Nothing is measured by it.
const HANG: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Args {
    value: u64,
}

/// As a GPU on which the kernel ends with that error.
#[kernel]
fn fail(args: Args) {
    fail_with(args.value as u32);
}

#[kernel]
fn nothing(_: Args) {}

#[kernel]
fn nothing_else(_: Args) {}

/// How many have come to each gate: kernels are host code here.
static GATES: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

/// Comes to a gate, and goes on when there are two.
#[kernel]
fn meet(args: Args) {
    let gate = &GATES[args.value as usize];
    gate.fetch_add(1, SeqCst);
    while gate.load(SeqCst) < 2 {
        gpu_rt::nanosleep(100_000);
    }
}

/// Comes to a gate, and goes on at once.
#[kernel]
fn pass(args: Args) {
    GATES[args.value as usize].fetch_add(1, SeqCst);
}

/// Asks the host again and again, until it is gone.
#[kernel]
fn ask_for_ever(fs: Fs) {
    while fs.nop(&gpu_rt::Thread) != Err(Errno::EIO) {}
}

fn builder() -> SessionBuilder {
    let module = Kernels::new()
        .with(&fail)
        .with(&nothing)
        .with(&nothing_else)
        .with(&meet)
        .with(&pass)
        .with(&ask_for_ever)
        .install();
    let builder = Session::builder().module(module).device(device());
    builder.page_size(4096).cache_size(1 << 20).slots(16)
}

fn session() -> Session {
    builder().build().unwrap_or_else(|e| panic!("{e}"))
}

/// The message of a failure.
fn why<T>(outcome: Result<T, HostError>) -> String {
    outcome.err().expect("it fails").to_string()
}

fn one() -> LaunchConfig {
    LaunchConfig::new(1, 1).timeout(HANG)
}

/// Runs a kernel, with so many bytes of shared memory.
fn run(session: &Session, kernel: &Kernel<Args>, shared: usize) -> Result<(), HostError> {
    session.run(kernel, one().shared_bytes(shared), Args { value: 0 }).map(drop)
}

/// Lets go whoever waits at a gate.
fn open(gate: usize) {
    GATES[gate].fetch_add(2, SeqCst);
}

/// A launch that has failed, of which nobody knows yet.
fn failed(session: &Session, error: u64) -> Launch {
    let launch = session.launch(&fail, one(), Args { value: error }).unwrap();
    while !launch.is_finished() {
        std::thread::yield_now();
    }
    launch
}

/// More than a session has at hand: the driver is asked.
const MUCH: usize = 65 << 20;

#[test]
fn errors_that_end_a_context_are_the_failed_kernels_whoever_learns_of_them() {
    // As the driver's documentation numbers them.
    let errors = [
        4, 46, 214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 806, 810, 911,
        999,
    ];
    for error in errors {
        let session = session();
        let launch = failed(&session, error);
        // The second time it is known already; then whoever waits is told.
        for message in [
            why(session.alloc::<u8>(MUCH)),
            why(session.alloc::<u8>(MUCH)),
            why(launch.wait()),
            why(session.stats()),
        ] {
            for part in ["kernel `fail` failed", &format!("({error})"), "new session"] {
                assert!(message.contains(part), "{error}: {message}");
            }
        }
    }
}

#[test]
fn every_call_may_be_the_one_that_learns_of_a_failure() {
    type Call = fn(&Session) -> Result<(), HostError>;
    let calls: [Call; 6] = [
        |session| session.alloc::<u8>(MUCH).map(drop),
        |session| session.alloc::<u8>(1).map(drop),
        |session| session.stats().map(drop),
        |session| run(session, &nothing, 0),
        |session| run(session, &nothing, 90 << 10),
        // To be compiled first.
        |session| run(session, &nothing_else, 0),
    ];
    for (number, call) in calls.into_iter().enumerate() {
        let session = builder().preload(["fail", "nothing"]).build().unwrap();
        let launch = failed(&session, 719);
        let message = why(call(&session));
        assert!(message.contains("kernel `fail` failed"), "{number}: {message}");
        assert!(why(launch.wait()).contains("kernel `fail` failed"));
    }
}

#[test]
fn an_error_that_nobody_knows_is_told_by_its_number() {
    let session = session();
    let message = why(session.run(&fail, one(), Args { value: 4711 }));
    for part in ["`fail`", "unknown error", "(4711)"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(why(session.alloc::<u8>(1)).contains("(4711)"));
}

#[test]
fn a_call_that_fails_by_itself_loses_nothing() {
    let session = session();
    let run = |session: &Session| run(session, &nothing, 0);
    let alloc = |session: &Session| session.alloc::<u8>(MUCH).map(drop);
    type Call<'a> = &'a dyn Fn(&Session) -> Result<(), HostError>;
    let calls: [(_, Call); 7] = [
        (c"cuMemAlloc_v2", &alloc),
        (c"cuMemsetD8Async", &alloc),
        (c"cuModuleLoadDataEx", &run),
        (c"cuCtxSetLimit", &run),
        (c"cuMemHostRegister_v2", &run),
        (c"cuStreamCreate", &run),
        (c"cuLaunchKernel", &run),
    ];
    for (function, call) in calls {
        fail_next(function, 801);
        let message = why(call(&session));
        assert!(message.contains("(801)") && !message.contains("lost"), "{function:?}: {message}");
    }
    alloc(&session).unwrap();
    run(&session).unwrap();
    run(&session).unwrap();
}

#[test]
fn host_memory_that_cannot_be_mapped_is_let_go() {
    // The stand-in looks at it when the context ends.
    let builder = builder();
    fail_next(c"cuMemHostGetDevicePointer_v2", 801);
    let message = why(builder.build());
    assert!(message.contains("map host memory") && message.contains("(801)"), "{message}");
}

#[test]
fn an_error_that_ends_a_context_without_a_kernel_is_the_calls() {
    let session = session();
    fail_next(c"cuMemAlloc_v2", 226);
    let first = why(session.alloc::<u8>(MUCH));
    for message in [first, why(session.alloc::<u8>(1))] {
        for part in ["lost", "allocate device memory", "(226)"] {
            assert!(message.contains(part), "{message}");
        }
    }
}

#[test]
fn kernels_that_ran_beside_one_that_failed_are_named() {
    let session = builder().preload(["meet", "fail"]).build().unwrap();
    let beside = session.launch(&meet, one(), Args { value: 0 }).unwrap();
    let message = why(session.run(&fail, one(), Args { value: 700 }));
    open(0);
    for part in ["kernel `fail` failed", "(700)", "beside it did: `meet`"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(why(beside.wait()).contains("kernel `fail` failed"));
}

#[test]
fn launches_run_side_by_side() {
    let session = builder().preload(["meet", "pass"]).build().unwrap();
    // One kernel twice.
    let first = session.launch(&meet, one(), Args { value: 1 }).unwrap();
    let second = session.launch(&meet, one(), Args { value: 1 }).unwrap();
    assert_eq!(second.wait().unwrap().threads, 1);
    assert_eq!(first.wait().unwrap().threads, 1);
}

#[test]
fn a_kernel_that_is_to_be_compiled_keeps_no_other_from_running() {
    let session = builder().preload(["meet", "nothing", "pass"]).build().unwrap();
    let running = session.launch(&meet, one(), Args { value: 2 }).unwrap();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| run(&session, &nothing_else, 0));
        // Long enough for the other thread to have come to wait.
        for _ in 0..50 {
            run(&session, &nothing, 0).unwrap();
        }
        session.run(&pass, one(), Args { value: 2 }).unwrap();
        running.wait().unwrap();
        waits.join().unwrap().unwrap();
    });
}

#[test]
fn what_runs_beside_a_launch_that_takes_too_long_is_left_alone() {
    let session = builder().preload(["meet", "ask_for_ever"]).build().unwrap();
    let beside = session.launch(&meet, one(), Args { value: 3 }).unwrap();
    let shape = LaunchConfig::new(1, 1).timeout(Duration::from_millis(100));
    let unlimited = LaunchConfig::new(1, 1);
    std::thread::scope(|scope| {
        // To be compiled when nothing runs, and without a limit.
        let waits = scope.spawn(|| session.run(&nothing, unlimited, Args { value: 0 }));
        let outcome = session.run(&ask_for_ever, shape, session.fs());
        let Err(HostError::Cuda(CudaError::Timeout { .. })) = outcome else {
            panic!("{outcome:?}")
        };
        assert!(why(waits.join().unwrap()).contains("`ask_for_ever` was not finished"));
    });
    assert!(why(beside.wait()).contains("`ask_for_ever` was not finished"));
    // Does not wait for it.
    drop(session);
    open(3);
}

/// Regions that are mapped into this process, of more than so many bytes.
fn regions(bytes: usize) -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let number = |text: &str| usize::from_str_radix(text, 16).unwrap();
    let len = |line: &str| {
        let (from, to) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        number(to) - number(from)
    };
    maps.lines().filter(|line| line.contains("gpu-region") && len(line) > bytes).count()
}

#[test]
fn memory_that_the_driver_does_not_let_go_of_is_kept() {
    // Larger than those of other tests.
    const SLOTS: u32 = 5000;
    let bytes = SLOTS as usize * 4096;
    let session = || builder().slots(SLOTS).build().unwrap_or_else(|e| panic!("{e}"));
    let before = session();
    assert_eq!(regions(bytes), 1);
    drop(before);
    assert_eq!(regions(bytes), 0);
    let lost = session();
    let failed = lost.run(&fail, one(), Args { value: 700 });
    assert!(failed.is_err());
    drop(lost);
    assert_eq!(
        regions(bytes),
        1,
        "the driver would copy from where it was, for who has its place next"
    );
}

#[test]
fn blocks_are_given_all_shared_memory_that_they_ask_for() {
    let session = session();
    for shared in [0, 1 << 10, 48 << 10, (48 << 10) + 4, 96 << 10] {
        run(&session, &nothing, shared).unwrap_or_else(|e| panic!("{shared}: {e}"));
    }
}
