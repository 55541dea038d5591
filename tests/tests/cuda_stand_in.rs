//! The CUDA backend's own side, against a stand-in for the driver: what it says of devices, modules and
//! launches, how it survives failures; and the whole suite.

use bytemuck::{Pod, Zeroable};
use conformance::device::net::conformance_net;
use conformance::device::{
    conformance_hash_clock, conformance_hash_fifo, conformance_radix_clock, conformance_radix_fifo,
};
use conformance::stand_in::{Kernels, device, fail_with};
use conformance::{HashClock, RadixFifo, suite};
use gpu_host::cuda::copy_rate::pinned_to_device;
use gpu_host::{
    CudaOptions, DaemonMode, DeviceChoice, HostError, LaunchConfig, Module, Session, SessionBuilder,
};
use gpu_rt::{kernel, log, thread};
use gpufs::{DeviceSlice, Errno, Fs};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Args {
    fs: Fs,
    out: DeviceSlice<u64>,
}

impl Args {
    fn put(&self, value: u64) {
        let at = thread::index() as usize;
        // SAFETY: the host gave a place for each thread.
        unsafe { self.out.as_ptr().add(at).write(value) };
    }
}

/// Each thread tells its number.
#[kernel]
fn number(args: Args) {
    log!("thread {}", thread::index());
    args.put(thread::index());
}

/// One thread panics.
#[kernel]
fn panic_in_the_middle(_: Args) {
    assert!(thread::index() != 70, "thread 70 does not want to");
}

/// As a GPU that goes astray.
#[kernel]
fn wild(_: Args) {
    fail_with(700);
}

/// Asks the host again and again, until it is gone.
#[kernel]
fn ask_for_ever(args: Args) {
    while args.fs.nop(&gpu_rt::Thread) != Err(Errno::EIO) {}
    args.put(5);
}

/// Asks nobody anything, and never ends.
#[kernel]
fn never_end(_: Args) {
    loop {
        gpu_rt::nanosleep(1_000_000);
    }
}

fn module() -> Module {
    Kernels::new()
        .with(&number)
        .with(&panic_in_the_middle)
        .with(&wild)
        .with(&ask_for_ever)
        .with(&never_end)
        .with(&conformance_hash_clock)
        .with(&conformance_hash_fifo)
        .with(&conformance_radix_clock)
        .with(&conformance_radix_fifo)
        .with(&conformance_net)
        .install()
}

fn on_stand_in(builder: SessionBuilder) -> SessionBuilder {
    builder.module(module()).device(device())
}

suite!(slots, HashClock, on_stand_in);
suite!(one_thread_radix_fifo, RadixFifo, |builder| on_stand_in(builder)
    .daemon(DaemonMode::Threads(1)));

fn builder() -> SessionBuilder {
    on_stand_in(Session::builder()).page_size(4096).cache_size(1 << 20).slots(16)
}

fn session() -> Session {
    builder().build().unwrap_or_else(|e| panic!("{e}"))
}

/// The message of a failure.
fn why<T>(outcome: Result<T, HostError>) -> String {
    outcome.err().expect("it fails").to_string()
}

fn args(session: &Session, places: usize) -> (Args, gpu_host::DeviceBuffer<u64>) {
    let out = session.alloc(places).unwrap();
    (Args { fs: session.fs(), out: out.slice() }, out)
}

#[test]
fn devices_that_are_not_there_or_too_old_are_named() {
    let module = module();
    let on = |name: &str| {
        let device: DeviceChoice = name.parse().unwrap();
        why(Session::builder().module(module.clone()).device(device).build())
    };
    let missing = on("cuda:2");
    assert!(missing.contains("cuda:2") && missing.contains("has 2"), "{missing}");
    let old = on("cuda:1");
    assert!(old.contains("6.1") && old.contains("7.0"), "{old}");
    let none = why(Session::builder().device(device()).build());
    assert!(none.contains("cuda:0") && none.contains("--module"), "{none}");
    let inline = why(builder().daemon(DaemonMode::Inline).build());
    assert!(inline.contains("DaemonMode::Threads"), "{inline}");
}

#[test]
fn a_refused_module_says_what_the_compiler_said() {
    module();
    let text = ".version 7.0\n.target sm_70\n.visible .entry k()\n{ fly.away; }\n";
    let builder = || builder().module(Module::new(text).unwrap());
    let message = why(builder().preload(["k"]).build());
    assert!(message.contains("CUDA_ERROR_INVALID_PTX") && message.contains("fly"), "{message}");
    let message = why(builder().preload(["l"]).build());
    assert!(message.contains("no kernel `l`") && message.contains("`k`"), "{message}");
    // Only what is launched is compiled.
    builder().build().unwrap();
}

#[test]
fn kernels_run_and_their_lines_arrive() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = lines.clone();
    let options = CudaOptions {
        log: Some(Arc::new(move |kernel, lane, text| {
            sink.lock().unwrap().push(format!("{kernel} {lane} {text}"));
        })),
        ..CudaOptions::default()
    };
    let session = builder().device(DeviceChoice::Cuda(options)).build().unwrap();
    let places = [0; 2].map(|_| args(&session, 128));
    // A session can launch several at once, and again.
    for _ in 0..2 {
        let shape = LaunchConfig::new(2, (32, 2));
        let launches =
            places.each_ref().map(|(args, _)| session.launch(&number, shape, *args).unwrap());
        for (launch, (_, out)) in launches.into_iter().zip(&places) {
            assert_eq!(launch.wait().unwrap().threads, 128);
            assert_eq!(out.to_vec().unwrap(), (0..128).collect::<Vec<_>>());
        }
        let mut lines = std::mem::take(&mut *lines.lock().unwrap());
        assert_eq!(lines.len(), 256);
        lines.retain(|l| l == "number block (1, 0, 0), thread (31, 1, 0) thread 127");
        assert_eq!(lines.len(), 2);
    }
}

#[test]
fn a_full_log_says_so_and_is_empty_for_the_next_launch() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = lines.clone();
    let options = CudaOptions {
        log: Some(Arc::new(move |_, _, text| sink.lock().unwrap().push(text.to_owned()))),
        log_lines: 3,
        ..CudaOptions::default()
    };
    let session = builder().device(DeviceChoice::Cuda(options)).build().unwrap();
    let (args, _out) = args(&session, 32);
    for _ in 0..2 {
        session.run(&number, LaunchConfig::new(1, 32), args).unwrap();
        let lines = std::mem::take(&mut *lines.lock().unwrap());
        assert_eq!(lines.len(), 4);
        assert!(lines[3].contains("full"), "{lines:?}");
    }
}

#[test]
fn a_panic_is_an_error_with_thread_and_place_and_loses_the_session_alone() {
    let (first, other) = (session(), session());
    let (args, _out) = args(&first, 128);
    let launch = |kernel| first.run(kernel, LaunchConfig::new(2, 64), args);
    let message = why(launch(&panic_in_the_middle));
    for part in ["`panic_in_the_middle`", "block (1, 0, 0), thread (6, 0, 0)", "does not want to"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(message.contains("cuda_stand_in.rs:"), "{message}");
    // Everything says from now on what happened, and buffers can still be dropped.
    for later in [why(launch(&number)), why(first.alloc::<u8>(1)), why(first.stats())] {
        assert!(later.contains("does not want to") && later.contains("new session"), "{later}");
    }
    for fresh in [&other, &session()] {
        let (args, out) = self::args(fresh, 64);
        fresh.run(&number, LaunchConfig::new(1, 64), args).unwrap();
        assert_eq!(out.to_vec().unwrap()[63], 63);
    }
}

#[test]
fn a_failure_without_words_is_the_drivers() {
    let session = session();
    let (args, _out) = args(&session, 1);
    let message = why(session.run(&wild, LaunchConfig::new(1, 1), args));
    assert!(message.contains("`wild`") && message.contains("ILLEGAL_ADDRESS"), "{message}");
    assert!(message.contains("emulated"), "{message}");
}

#[test]
fn a_stack_too_small_to_say_anything_is_named() {
    let DeviceChoice::Cuda(options) = device() else { unreachable!("the stand-in is a GPU") };
    let small = DeviceChoice::Cuda(CudaOptions { pointer_stack: 16, ..options });
    let session = builder().device(small).build().unwrap();
    let (args, _out) = args(&session, 1);
    let message = why(session.run(&number, LaunchConfig::new(1, 1), args));
    assert!(message.contains("STACK_ERROR") && message.contains("pointer_stack"), "{message}");
}

#[test]
fn kernels_are_checked_for_the_stack_that_they_get() {
    assert_eq!(CudaOptions::default().pointer_stack, ptx_build::ptxas::POINTER_STACK);
}

#[test]
fn launches_that_cannot_be_are_refused() {
    let session = session();
    let (args, _out) = args(&session, 1);
    let run = |shape| why(session.run(&number, shape, args));
    let message = run(LaunchConfig::new(1, 2048));
    assert!(message.contains("2048 threads of a block exceed the 1024"), "{message}");
    let message = run(LaunchConfig::new(1, 1).shared_bytes(101 << 10));
    assert!(message.contains("bytes of shared memory exceed the 102400"), "{message}");
    let message = run(LaunchConfig::new(0, 1));
    assert!(message.contains("empty"), "{message}");
    session.run(&number, LaunchConfig::new(1, 1).shared_bytes(90 << 10), args).unwrap();
}

#[test]
fn kernels_that_the_module_lacks_or_knows_otherwise_are_named() {
    module();
    let text = ".version 7.0\n.visible .entry number(\n.param .align 8 .b8 number_param_0[8]\n)\n{ ret; }\n";
    let session = builder().module(Module::new(text).unwrap()).build().unwrap();
    let (args, _out) = args(&session, 1);
    let message = why(session.run(&number, LaunchConfig::new(1, 1), args));
    assert!(message.contains("`number` takes 8 bytes, and was given 24"), "{message}");
    let message = why(session.run(&wild, LaunchConfig::new(1, 1), args));
    assert!(message.contains("no kernel `wild`") && message.contains("`number`"), "{message}");
}

#[test]
fn memory_is_zero_counted_and_comes_back() {
    let session = builder().device_memory(100 << 20).build().unwrap();
    let held = session.alloc::<u8>(30 << 20).unwrap();
    assert!(held.to_vec().unwrap().iter().all(|b| *b == 0));
    held.copy_from(0, &vec![7; held.len()]).unwrap();
    let message = why(session.alloc::<u8>(90 << 20));
    assert!(message.contains("exhausted"), "{message}");
    drop(held);
    // The same place again, and zero.
    for _ in 0..5 {
        let again = session.alloc::<u8>(30 << 20).unwrap();
        assert!(again.to_vec().unwrap().iter().all(|b| *b == 0));
        again.copy_from(0, &vec![7; again.len()]).unwrap();
    }
    let large = builder().device_memory(1 << 40).build().unwrap();
    let message = why(large.alloc::<u8>(2 << 30));
    assert!(message.contains("exhausted") && message.contains("1073741824"), "{message}");
    for wanted in [usize::MAX, usize::MAX - 255] {
        let message = why(large.alloc::<u8>(wanted));
        assert!(
            message.contains("exhausted") && message.contains(&wanted.to_string()),
            "{message}"
        );
    }
}

#[test]
fn a_kernel_that_waits_for_the_host_is_told_to_stop() {
    let session = session();
    let (args, out) = args(&session, 64);
    let shape = LaunchConfig::new(1, 64).timeout(Duration::from_millis(300));
    let message = why(session.run(&ask_for_ever, shape, args));
    assert!(message.contains("300ms") && message.contains("it ended"), "{message}");
    assert!(why(out.to_vec()).contains("`ask_for_ever`"));
}

#[test]
fn a_kernel_that_cannot_be_compiled_since_another_runs_says_so() {
    let session = builder().preload(["ask_for_ever"]).build().unwrap();
    let (args, _out) = args(&session, 64);
    let shape = LaunchConfig::new(1, 64).timeout(Duration::from_millis(300));
    let running = session.launch(&ask_for_ever, shape, args).unwrap();
    let message = why(session.run(&number, shape, args));
    assert!(message.contains("`number`") && message.contains("preload"), "{message}");
    why(running.wait());
}

#[test]
fn a_kernel_that_never_ends_is_left_alone() {
    let session = session();
    let (args, out) = args(&session, 32);
    let shape = LaunchConfig::new(1, 32).timeout(Duration::from_millis(100));
    let launch = session.launch(&never_end, shape, args).unwrap();
    assert!(!launch.is_finished());
    let message = why(launch.wait());
    assert!(message.contains("100ms") && message.contains("it runs on"), "{message}");
    // Neither of these waits for it.
    drop(out);
    drop(session);
}

#[test]
fn a_launch_that_nobody_waits_for_ends_before_its_session() {
    let session = session();
    let (args, out) = args(&session, 64);
    drop(session.launch(&number, LaunchConfig::new(1, 64), args).unwrap());
    assert_eq!(out.to_vec().unwrap()[63], 63);
}

#[test]
fn the_drivers_own_copies_are_timed() {
    module();
    let rates = pinned_to_device(0, 1 << 20, 3).unwrap();
    assert!(rates.len() == 3 && rates.iter().all(|rate| *rate > 0.0), "{rates:?}");
}
