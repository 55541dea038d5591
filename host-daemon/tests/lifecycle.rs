//! Attach, sleep, wake, detach.

#[macro_use]
mod common;

use bytemuck::Zeroable;
use common::{CALL, CONFIG, Rig, options};
use gpu_abi::layout::state;
use gpu_abi::{Errno, Op, OpenFlags, Request, Word32};
use host_daemon::{
    Daemon, DaemonError, EngineChoice, Faults, Grant, Options, Progress, RegionMemory,
};
use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

over_engines! {
    d2_no_request_is_slept_through,
    h3_detaching_waits_for_reads_under_way,
    h3_detaching_waits_for_writes_and_syncs_under_way,
    o3_cold_files_read_right,
    o7_closing_does_not_disturb_reads_under_way,
}

fn rig(options: Options, spawned: bool) -> Rig {
    let mut rig = Rig::new(options, CONFIG, Grant::default());
    if spawned {
        rig.client().spawn(2).unwrap();
        rig.driven = false;
    }
    rig
}

const BIG: usize = 2 << 20;

fn byte(i: usize) -> u8 {
    (i ^ i >> 8 ^ i >> 16) as u8
}

fn big_file(dir: &Path) -> fs::File {
    let path = dir.join("big");
    fs::write(&path, (0..BIG).map(byte).collect::<Vec<_>>()).unwrap();
    let file = fs::File::open(path).unwrap();
    file.sync_all().unwrap();
    file
}

/// Drops the file from the page cache, as far as the kernel feels like it.
fn chill(file: &fs::File) {
    // SAFETY: advice on a descriptor.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}

/// The device posts one request after the other, each when the last is answered, with pauses that
/// meet the workers at every stage of falling asleep. A lost wake would cost a whole nap each.
fn d2_no_request_is_slept_through(options: Options, spawned: bool) {
    let mut rig = rig(options, spawned);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let client = rig.client.take().unwrap();
    let (ours, stopped) = (&client, &stop);
    std::thread::scope(|scope| {
        if !spawned {
            scope.spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    if ours.poll(1) == Progress::Idle {
                        ours.park(1, Duration::from_millis(100));
                    }
                }
            });
        }
        rig.driven = false;
        let start = Instant::now();
        for i in 0..2000u32 {
            for _ in 0..i % 37 * 30 {
                std::hint::spin_loop();
            }
            let posted = rig.nop(CALL);
            assert_eq!(rig.wait(posted).result(), Ok(0));
        }
        stop.store(true, Ordering::Relaxed);
        // Not a measurement: even a hundred lost wakes would end within this.
        assert!(start.elapsed() < Duration::from_secs(60));
        rig.ring();
    });
}

fn h3_detaching_waits_for_reads_under_way(options: Options, spawned: bool) {
    let dir = tempfile::tempdir().unwrap();
    let file = big_file(dir.path());
    for round in 0..20u64 {
        let mut rig = rig(options.clone(), spawned);
        let handle = rig.open(dir.path().join("big").to_str().unwrap()).unwrap();
        chill(&file);
        for slot in 0..CONFIG.slots {
            let at = (u64::from(slot) * 256 + round) << 10;
            rig.post(rig.read_request(slot, handle, at, 8192));
        }
        if round % 2 == 0 && !spawned {
            rig.client().poll(0);
        }
        let memory = rig.memory.clone();
        let region = rig.region;
        drop(rig);
        assert_eq!(region.header().host.state.load_acquire(), state::STOPPED);
        // Nothing writes there any more.
        let len = memory.len();
        // SAFETY: the daemon is gone, the memory is ours alone.
        let all = unsafe { std::slice::from_raw_parts_mut(memory.base().as_ptr(), len) };
        all.fill(0);
        std::thread::yield_now();
        assert!(all.iter().all(|b| *b == 0));
    }
}

fn h3_detaching_waits_for_writes_and_syncs_under_way(options: Options, spawned: bool) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    for round in 0..4u8 {
        fs::write(&path, vec![0xFF; 8 * 8192]).unwrap();
        let mut rig = rig(options.clone(), spawned);
        let name = path.to_str().unwrap().as_bytes();
        let (handle, _) = rig.open_with(name, OpenFlags::WRITE).unwrap();
        for slot in 0..CONFIG.slots {
            rig.fill(slot, &[round; 8192]);
            let write = rig.with_buffer(Op::Write, slot, handle, 8192);
            rig.post(Request { offset: u64::from(slot) * 8192, ..write });
            let sync = rig.with_buffer(Op::Sync, CALL + slot, handle, 0);
            rig.post(Request { buf: 0, ..sync });
        }
        if round % 2 == 0 && !spawned {
            rig.client().poll(0);
        }
        let memory = rig.memory.clone();
        drop(rig);
        // Nobody reads it any more: what a write has taken by now is all that it takes.
        // SAFETY: the daemon is gone, the memory is ours alone.
        let all = unsafe { std::slice::from_raw_parts_mut(memory.base().as_ptr(), memory.len()) };
        all.fill(0xEE);
        let content = fs::read(&path).unwrap();
        for piece in content.chunks(8192) {
            assert!(piece.iter().all(|b| *b == piece[0]) && [0xFF, round].contains(&piece[0]));
        }
        std::thread::yield_now();
        assert!(fs::read(&path).unwrap() == content);
    }
}

fn o3_cold_files_read_right(options: Options, spawned: bool) {
    let dir = tempfile::tempdir().unwrap();
    let file = big_file(dir.path());
    let mut rig = rig(options, spawned);
    let handle = rig.open(dir.path().join("big").to_str().unwrap()).unwrap();
    for round in 0..20usize {
        chill(&file);
        let at = |slot: u32| (round * 40_009 + slot as usize * 250_007) % (BIG - 1000);
        let posted: Vec<_> = (0..CONFIG.slots)
            .map(|slot| rig.post(rig.read_request(slot, handle, at(slot) as u64, 8192)))
            .collect();
        for posted in posted {
            let n = rig.wait(posted).result().unwrap() as usize;
            let from = at(posted.0);
            assert_eq!(n, (BIG - from).min(8192));
            let got = rig.bytes(posted.0, n);
            assert!(got.iter().zip(from..).all(|(b, i)| *b == byte(i)), "at {from}");
        }
    }
}

fn o7_closing_does_not_disturb_reads_under_way(options: Options, spawned: bool) {
    let dir = tempfile::tempdir().unwrap();
    let file = big_file(dir.path());
    let mut rig = rig(options, spawned);
    for round in 0..20usize {
        let handle = rig.open(dir.path().join("big").to_str().unwrap()).unwrap();
        chill(&file);
        let at = |slot: u32| (round + slot as usize * 16) << 12;
        let posted: Vec<_> = (0..CONFIG.slots)
            .map(|slot| rig.post(rig.read_request(slot, handle, at(slot) as u64, 4096)))
            .collect();
        assert_eq!(rig.close(handle), Ok(0));
        for posted in posted {
            assert_eq!(rig.wait(posted).result(), Ok(4096));
            let got = rig.bytes(posted.0, 4096);
            assert!(got.iter().zip(at(posted.0)..).all(|(b, i)| *b == byte(i)));
        }
        assert_eq!(rig.stat(handle), Err(Errno::EBADF));
    }
    drop(rig);
}

#[test]
fn h1_the_heart_beats_while_anybody_polls_or_sleeps() {
    let rig = Rig::new(options(EngineChoice::Pread), CONFIG, Grant::default());
    let beats = || rig.region.header().host.heartbeat.load_relaxed();
    let first = beats();
    while beats() == first {
        rig.client().poll(0);
    }
    let second = beats();
    rig.client().park(0, Duration::from_millis(120));
    assert_ne!(beats(), second, "it beats in its sleep");
    // Threads of its own beat even while idle.
    rig.client().spawn(1).unwrap();
    let third = beats();
    while beats().wrapping_sub(third) < 3 {
        std::thread::yield_now();
    }
}

#[test]
fn h3_a_client_takes_its_files_along() {
    let mut rig = Rig::new(options(EngineChoice::Pread), CONFIG, Grant::default());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("only here");
    fs::write(&path, b"").unwrap();
    rig.open(path.to_str().unwrap()).unwrap();
    let open = || {
        fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter(|fd| fs::read_link(fd.as_ref().unwrap().path()).is_ok_and(|p| p == path))
            .count()
    };
    assert_eq!(open(), 1);
    drop(rig);
    assert_eq!(open(), 0);
}

#[test]
fn h3_a_region_is_served_once() {
    let daemon = Daemon::new(options(EngineChoice::Pread)).unwrap();
    let memory = Arc::new(RegionMemory::new(CONFIG).unwrap());
    drop(daemon.attach(memory.clone(), Grant::default()).unwrap());
    let again = daemon.attach(memory, Grant::default());
    assert!(matches!(again, Err(DaemonError::RegionUsed)));
}

#[test]
fn d4_a_sleeping_device_is_woken_by_an_answer() {
    let mut rig = Rig::new(options(EngineChoice::Pread), CONFIG, Grant::default());
    let header = rig.region.header();
    let posted = rig.nop(CALL);
    let bell = header.host.bell.load_relaxed();
    rig.client().poll(0);
    assert_eq!(header.host.bell.load_relaxed(), bell, "nobody sleeps");
    header.device.parked.store_relaxed(1);
    let other = rig.nop(CALL + 1);
    rig.client().poll(0);
    assert_ne!(header.host.bell.load_relaxed(), bell);
    assert!(rig.wait(posted).result().is_ok() && rig.wait(other).result().is_ok());
    assert_eq!(rig.client().stats().wakes, 1);
}

/// Two drivers, each device and host at once: either may give the other's answers.
#[test]
fn d4_drivers_that_watch_the_bell_miss_no_answer() {
    for engine in [EngineChoice::Pread, EngineChoice::IoUring, EngineChoice::PreadPool(1)] {
        let options = Options { nowait_first: false, ..options(engine) };
        if !common::available(&options) {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        drop(big_file(dir.path()));
        let config = host_daemon::RegionConfig { shards: 3, ..CONFIG };
        let mut opener = Rig::new(options, config, Grant::default());
        let handle = opener.open(dir.path().join("big").to_str().unwrap()).unwrap();
        let region = opener.region;
        let client = opener.client.take().unwrap();
        let start = Instant::now();
        std::thread::scope(|scope| {
            for (worker, shard) in [(0usize, 1u32), (1, 2)] {
                let (client, opener) = (&client, &opener);
                let mut device = gpu_abi::mock::MockDevice::new(region, shard);
                scope.spawn(move || {
                    for tag in 100..600 {
                        let request = gpu_abi::Request {
                            tag,
                            ..opener.read_request(worker as u32 + 1, handle, u64::from(tag), 64)
                        };
                        assert!(device.post(&request));
                        opener.ring();
                        let header = region.header();
                        loop {
                            if device.poll(request.cell, tag).is_some() {
                                break;
                            }
                            if let Progress::Worked(_) = client.poll(worker) {
                                continue;
                            }
                            let bell = header.host.bell.load(Ordering::Relaxed);
                            header.device.parked.fetch_add(1, Ordering::Relaxed);
                            fence(Ordering::SeqCst);
                            if device.poll(request.cell, tag).is_none() {
                                client.park_watching(worker, bell, Duration::from_secs(1));
                            }
                            header.device.parked.fetch_sub(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert!(start.elapsed() < Duration::from_secs(60));
    }
}

#[test]
fn d5_a_guard_keeps_threads_from_sleeping() {
    let mut rig = Rig::new(options(EngineChoice::Pread), CONFIG, Grant::default());
    rig.client().spawn(1).unwrap();
    rig.driven = false;
    let header = rig.region.header();
    let guard = rig.client().keep_awake();
    // A device that cannot ring: it only posts.
    for _ in 0..100 {
        let tag = rig.tag();
        let nop = gpu_abi::Request { op: 1, cell: CALL, tag, ..bytemuck::Zeroable::zeroed() };
        assert!(rig.device.post(&nop));
        assert_eq!(rig.wait((CALL, tag)).result(), Ok(0));
    }
    assert_eq!(header.device.doorbell.load_relaxed(), 0);
    drop(guard);
    while header.host.parked.load_relaxed() == 0 {
        std::thread::yield_now();
    }
}

#[test]
fn d2_a_worker_that_can_take_no_more_sleeps() {
    let faults = Arc::new(Faults::new());
    let engine = options(EngineChoice::PreadPool(1));
    let options = Options { in_flight: 1, faults: Some(faults.clone()), ..engine };
    let mut rig = Rig::new(options, CONFIG, Grant::default());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    fs::write(&path, "a").unwrap();
    let handle = rig.open(path.to_str().unwrap()).unwrap();
    let stall = faults.stall();
    let sync = Request { op: Op::Sync as u8, cell: CALL, handle, ..Request::zeroed() };
    let sync = rig.post(sync);
    assert_eq!(rig.client().poll(0), Progress::Worked(1));
    let nop = rig.post(Request { op: Op::Nop as u8, cell: CALL + 1, ..Request::zeroed() });
    assert_eq!(rig.client().poll(0), Progress::Pending);
    let (since, nap) = (Instant::now(), Duration::from_millis(50));
    rig.client().park(0, nap);
    assert!(since.elapsed() >= nap, "a request that waits is no reason to look again");
    drop(stall);
    assert_eq!(rig.wait(sync).result(), Ok(0));
    assert_eq!(rig.wait(nop).result(), Ok(0));
}

#[test]
fn a_root_that_is_none_is_named() {
    let daemon = Daemon::new(options(EngineChoice::Pread)).unwrap();
    let memory = Arc::new(RegionMemory::new(CONFIG).unwrap());
    let grant = Grant { root: Some("/no/such/place".into()), ..Grant::default() };
    let message = daemon.attach(memory, grant).err().unwrap().to_string();
    assert!(message.contains("/no/such/place") && message.contains("existing"), "{message}");
}
