//! What a thread at rest takes. Alone in its process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering as HostOrdering};

use gpu_emu::{Config, Emulator, LaunchConfig};
use gpu_rt::atomic::{DeviceAtomicU32, Ordering};
use gpu_rt::{Block, Group, thread};

/// The resident memory of this process in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = status.lines().find(|line| line.starts_with("Rss:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn a_waiting_thread_takes_at_most_two_pages() {
    const THREADS: u32 = 4096;
    let config = Config { workers: 1, resident_threads: THREADS, ..Config::default() };
    let emulator = Emulator::new(config);
    emulator.run_fn("warm up", LaunchConfig::new(1, 32), &|| {}).unwrap();
    let before = resident();

    let word = Arc::new(DeviceAtomicU32::new(0));
    let come = Arc::new(AtomicU32::new(0));
    let launch = {
        let (word, come) = (Arc::clone(&word), Arc::clone(&come));
        emulator.submit_fn("wait", LaunchConfig::new(THREADS / 256, 256), move || {
            Block.sync();
            assert_eq!(Block.broadcast(thread::block_idx().x), thread::block_idx().x);
            come.fetch_add(1, HostOrdering::Relaxed);
            while gpu_rt::wait_while_eq(&*word, 0, u64::MAX) == 0 {}
        })
    }
    .unwrap();
    while come.load(HostOrdering::Relaxed) < THREADS {
        std::thread::yield_now();
    }
    let each = (resident() - before) / u64::from(THREADS);
    println!("{each} bytes a thread");
    assert!(each <= 8192, "{each} bytes a thread");
    // A slab each, not a mapping each; vm.max_map_count is 65,530.
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    assert!(maps < 500, "{maps} mappings");
    word.store(1, Ordering::Release);
    launch.wait().unwrap();
}
