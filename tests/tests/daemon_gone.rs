//! The daemon leaves, or falls silent, while kernels wait for it: every call returns `EIO`.

use conformance::device::{Job, storms};
use conformance::{HashClock, Policy};
use gpu_abi::{RegionConfig, RegionLayout};
use gpu_emu::{Config, Emulator, LaunchConfig};
use gpufs::{HashIndex, MountConfig, MountLayout};
use host_daemon::{Client, Daemon, Grant, Options, RegionMemory};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// A mount whose daemon the test holds in its hand.
struct Parts {
    // Dropped in this order: who uses the memory before the memory.
    emulator: Emulator,
    _region: Arc<RegionMemory>,
    _memory: Vec<Line>,
    job: Job,
}

#[derive(Clone, Copy)]
#[repr(C, align(4096))]
struct Line([u8; 4096]);

fn parts() -> (Parts, Client) {
    let config = RegionConfig { slots: 4, calls: 16, ring_entries: 8, ..RegionConfig::default() };
    let layout = RegionLayout::new(config).expect("within the limits");
    let region = Arc::new(RegionMemory::new(config).expect("a region"));
    let client = Daemon::new(Options::default())
        .and_then(|daemon| daemon.attach(region.clone(), Grant::default()))
        .expect("a daemon");
    let mount = MountConfig { page_size: 4096, cache_size: 1 << 16, open_files: 16, direct: false };
    let layout = MountLayout::new::<HashIndex>(&mount, &layout).expect("within the limits");
    let mut memory = vec![Line([0; 4096]); layout.total().div_ceil(4096)];
    let base = memory.as_mut_ptr() as u64;
    let header = layout.header(base, region.base().as_ptr() as u64, 0);
    memory[0].0[..size_of_val(&header)].copy_from_slice(bytemuck::bytes_of(&header));
    let emulator = Emulator::new(Config {
        workers: 2,
        timeout: Some(Duration::from_secs(120)),
        ..Config::default()
    });
    let job = Job { fs: base, program: storms::PROGRAM_UNTIL_GONE, ..bytemuck::Zeroable::zeroed() };
    (Parts { emulator, _region: region, _memory: memory, job }, client)
}

/// Runs a kernel that asks until it is told `EIO`, does `then` once it is under way, and returns how
/// many threads were told.
fn until_gone(parts: &Parts, then: impl FnOnce()) -> u64 {
    let results = [const { AtomicU64::new(0) }; 8];
    let job = Job { results: gpufs::DeviceSlice::new(results.as_ptr() as u64, 8), ..parts.job };
    let shape = LaunchConfig::new(4, 64);
    let launch = parts.emulator.submit(HashClock::kernel(), job, shape).expect("it can start");
    while results[5].load(Ordering::Relaxed) < 1000 {
        std::thread::yield_now();
    }
    then();
    launch.wait().expect("it ends by itself");
    assert_eq!(results[2].load(Ordering::Relaxed), 0, "another error than EIO");
    results[4].load(Ordering::Relaxed)
}

#[test]
fn a_daemon_that_leaves_ends_every_wait() {
    let (parts, client) = parts();
    client.spawn(2).expect("threads");
    assert_eq!(until_gone(&parts, || drop(client)), 256);
}

#[test]
fn a_daemon_that_falls_silent_ends_every_wait() {
    let (parts, client) = parts();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Nobody but this thread serves, so that no heart beats once it has stopped.
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                client.poll(0);
            }
        });
        assert_eq!(until_gone(&parts, || stop.store(true, Ordering::Relaxed)), 256);
    });
}
