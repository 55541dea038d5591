//! A peer that keeps no rule: random programs, and the attacks that have a name.

#[allow(unreachable_pub, reason = "the fuzzer uses it too")]
#[path = "common/hostile.rs"]
mod hostile;
#[macro_use]
mod common;

use bytemuck::Zeroable;
use common::{CALL, CONFIG, Rig, options};
use gpu_abi::request::{CELL_NONE, HANDLE_NONE, Run};
use gpu_abi::{Errno, Op, OpenFlags, Request};
use host_daemon::{DeviceWindow, EngineChoice, Grant, MAX_READ, Options, RegionConfig};
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::symlink;
use std::ptr::NonNull;

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]
    #[test]
    fn v1_no_program_of_the_peer_breaks_the_daemon(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        hostile::run(&bytes);
    }
}

over_engines! {
    v2_what_cannot_be_answered_is_dropped_and_counted,
    v3_unknown_operations_and_reserved_bits_are_refused,
    v5_reads_into_the_device_window,
    v8_forged_handles_are_none,
    v10_nothing_outside_the_root_can_be_reached,
    v11_two_requests_for_one_cell_hurt_nobody_else,
    o10_v1_no_table_reaches_beyond_its_window_or_its_file,
    o3_a_file_truncated_meanwhile_reads_short,
}

fn rig(options: Options, spawned: bool, config: RegionConfig, grant: Grant) -> Rig {
    let mut rig = Rig::new(options, config, grant);
    if spawned {
        rig.client().spawn(2).unwrap();
        rig.driven = false;
    }
    rig
}

fn v2_what_cannot_be_answered_is_dropped_and_counted(options: Options, spawned: bool) {
    let mut rig = rig(options, spawned, CONFIG, Grant::default());
    let bad = |cell, op: Op| Request { op: op as u8, cell, ..Request::zeroed() };
    rig.post(bad(16, Op::Nop));
    rig.post(bad(CELL_NONE - 1, Op::Nop));
    rig.post(bad(CELL_NONE, Op::Read));
    rig.post(bad(CELL_NONE, Op::Open));
    rig.post(Request { cell: CELL_NONE, ..Request::zeroed() });
    rig.post(bad(CELL_NONE, Op::Nop));
    let last = rig.nop(0);
    assert_eq!(rig.wait(last).result(), Ok(0));
    let stats = rig.client().stats();
    assert_eq!((stats.dropped, stats.rejected, stats.requests()), (5, 0, 7));
}

fn v3_unknown_operations_and_reserved_bits_are_refused(options: Options, spawned: bool) {
    let mut rig = rig(options, spawned, CONFIG, Grant::default());
    let nop = Request { op: Op::Nop as u8, cell: CALL, ..Request::zeroed() };
    let bad = [
        Request { op: 0, ..nop },
        Request { op: 17, ..nop },
        Request { op: 255, ..nop },
        Request { flags: 1, ..nop },
        Request { reserved0: 1, ..nop },
        Request { reserved: [0, 0, 0, 0, 1 << 31], ..nop },
        Request { path_len: 1, ..nop },
        Request { op: Op::ReadFile as u8, flags: 0, path_len: 1, cell: 0, ..nop },
        Request { op: Op::Open as u8, flags: 65, len: 1, cell: 0, ..nop },
        Request { op: Op::Open as u8, flags: 1, window: 1, len: 1, cell: 0, ..nop },
        Request { op: Op::Stat as u8, window: 1, handle: HANDLE_NONE, len: 1, cell: 0, ..nop },
        Request { op: Op::Read as u8, window: 2, cell: 0, ..nop },
    ];
    for request in bad {
        assert_eq!(rig.call(request).result(), Err(Errno::EINVAL), "{request:?}");
    }
    assert_eq!(rig.client().stats().rejected, bad.len() as u64);
}

fn v5_reads_into_the_device_window(options: Options, spawned: bool) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    let content: Vec<u8> = (0..3 << 20).map(|i: u32| (i >> 9) as u8 ^ i as u8).collect();
    fs::write(&file, &content).unwrap();
    const LEN: usize = 5 << 20;
    let mut memory = vec![0u8; LEN];
    let base = NonNull::new(memory.as_mut_ptr()).unwrap();
    // SAFETY: the vector outlives the rig and is looked at after it is gone.
    let window = unsafe { DeviceWindow::new(base, LEN) };
    let grant = Grant { device_window: Some(window), ..Grant::default() };
    let config = RegionConfig { device_window: LEN as u64, ..CONFIG };
    let mut rig = rig(options, spawned, config, grant);
    let handle = rig.open(file.to_str().unwrap()).unwrap();
    let read = |buf: usize, len, offset| Request {
        op: Op::Read as u8,
        window: 1,
        cell: CALL,
        handle,
        offset,
        buf: buf as u64,
        len,
        ..Request::zeroed()
    };
    let full = u64::from(MAX_READ);
    assert_eq!(rig.call(read(100, MAX_READ, 0)).result(), Ok(full));
    assert_eq!(rig.call(read(100 + MAX_READ as usize, MAX_READ, full)).result(), Ok(1 << 20));
    assert_eq!(rig.call(read(0, MAX_READ + 1, 0)).result(), Err(Errno::EINVAL));
    assert_eq!(rig.call(read(LEN - 9, 10, 0)).result(), Err(Errno::EFAULT));
    drop(rig);
    assert!(memory[100..100 + content.len()] == content);
    assert!(memory[100 + content.len()..].iter().chain(&memory[..100]).all(|b| *b == 0));
}

fn v8_forged_handles_are_none(options: Options, spawned: bool) {
    let mut rig = rig(options.clone(), spawned, CONFIG, Grant::default());
    let handle = rig.open("/dev/zero").unwrap();
    for bit in 0..32 {
        assert_eq!(rig.read(handle ^ 1 << bit, 0, 1), Err(Errno::EBADF));
        assert_eq!(rig.close(handle ^ 1 << bit), Err(Errno::EBADF));
    }
    assert_eq!(rig.read(handle, 0, 1), Ok(vec![0]));
    // Another client of the same daemon has handles of its own, even if the numbers agree.
    let daemon = host_daemon::Daemon::new(options).unwrap();
    let mut one = Rig::of(&daemon, CONFIG, Grant::default());
    let mut other = Rig::of(&daemon, CONFIG, Grant::default());
    let theirs = one.open("/dev/zero").unwrap();
    assert_eq!(other.read(theirs, 0, 1), Err(Errno::EBADF));
}

fn v10_nothing_outside_the_root_can_be_reached(options: Options, spawned: bool) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("sub")).unwrap();
    fs::write(dir.path().join("secret"), b"secret").unwrap();
    fs::write(root.join("file"), b"inside").unwrap();
    symlink(dir.path().join("secret"), root.join("absolute")).unwrap();
    symlink("../../secret", root.join("sub/relative")).unwrap();
    symlink("/file", root.join("sub/rooted")).unwrap();
    symlink("..", root.join("up")).unwrap();
    symlink("/proc/self/root/etc/passwd", root.join("magic")).unwrap();
    let grant = Grant { root: Some(root), ..Grant::default() };
    let mut rig = rig(options, spawned, CONFIG, grant);
    for path in [
        "../secret",
        "/../secret",
        "sub/../../secret",
        "absolute",
        "sub/relative",
        "up/secret",
        "up/../secret",
        "magic",
        "/proc/self/root/etc/passwd",
        "/etc/passwd",
        dir.path().join("secret").to_str().unwrap(),
    ] {
        assert_eq!(rig.open(path), Err(Errno::ENOENT), "{path}");
        assert_eq!(rig.stat_path(path), Err(Errno::ENOENT), "{path}");
    }
    for path in ["file", "/file", "../file", "sub/rooted", "up/file", "//sub/.././file"] {
        let handle = rig.open(path).expect(path);
        assert_eq!(rig.read(handle, 0, 100).as_deref(), Ok(&b"inside"[..]), "{path}");
        assert_eq!(rig.stat_path(path).unwrap().size, 6, "{path}");
    }
    assert!(rig.open_with(b"..", OpenFlags::READ.with(OpenFlags::DIRECTORY)).is_ok());
}

fn v11_two_requests_for_one_cell_hurt_nobody_else(options: Options, spawned: bool) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, vec![7; 64 << 10]).unwrap();
    let mut rig = rig(options, spawned, CONFIG, Grant::default());
    let handle = rig.open(path.to_str().unwrap()).unwrap();
    for _ in 0..50 {
        for cell in [1, 1, 1, 2, 1] {
            rig.fill(cell, &[1; 100]);
            rig.post(rig.read_request(cell, handle, 0, 8192));
        }
        let last = rig.nop(3);
        assert_eq!(rig.wait(last).result(), Ok(0));
    }
    let posted = rig.post(rig.read_request(4, handle, 0, 8192));
    assert_eq!(rig.wait(posted).result(), Ok(8192));
    assert_eq!(rig.close(handle), Ok(0));
}

/// Random tables, while somebody changes them under the daemon's eyes. What can be told afterwards: the
/// file holds nothing that did not come from the window, and no other file has changed.
fn o10_v1_no_table_reaches_beyond_its_window_or_its_file(options: Options, spawned: bool) {
    const LEN: usize = 3 << 20;
    const GUARD: usize = 4096;
    let dir = tempfile::tempdir().unwrap();
    let (mine, other) = (dir.path().join("mine"), dir.path().join("other"));
    fs::write(&mine, b"").unwrap();
    fs::write(&other, b"other").unwrap();
    let mut memory = vec![0x33u8; LEN + 2 * GUARD];
    memory[GUARD..GUARD + LEN].fill(0x11);
    let base = NonNull::new(memory.as_mut_ptr()).unwrap();
    // SAFETY: the vector outlives the rig and is not used before that is gone.
    let window = unsafe { DeviceWindow::new(base.add(GUARD), LEN) };
    let root = Some(dir.path().into());
    let grant = Grant { root, device_window: Some(window), ..Grant::default() };
    let config = RegionConfig { device_window: LEN as u64, ..CONFIG };
    let mut rig = rig(options, spawned, config, grant);
    let (handle, _) = rig.open_with(b"mine", OpenFlags::WRITE).unwrap();
    rig.open_with(b"other", OpenFlags::READ.with(OpenFlags::WRITE)).unwrap();
    let mut seed = 1u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut outcomes = [0; 2];
    for round in 0..300 {
        let mut run = || {
            // One in a hundred breaks a rule of its own.
            let bad = random(100);
            let offset = if bad == 0 { u64::MAX - random(1 << 20) } else { random(1 << 20) };
            let buf = if bad == 1 { LEN as u64 - random(9000) } else { random(1 << 20) };
            let len = if bad == 2 { u32::MAX } else { 1 + random(9000) as u32 };
            Run { offset, buf, len, reserved: u32::from(bad == 3) }
        };
        let runs: Vec<Run> = (0..1 + round % 256).map(|_| run()).collect();
        rig.fill(1, bytemuck::cast_slice(&runs));
        let len = size_of_val(&runs[..]) as u32;
        let request = rig.with_buffer(Op::WriteRuns, 1, handle, len);
        let posted = rig.post(Request { window: 1, ..request });
        if round % 3 == 0 && spawned {
            // While the daemon may be reading it.
            for i in 0..len / 4 {
                let at = rig.region.slot(1).unwrap().wrapping_add(i as usize * 4).cast();
                // SAFETY: an aligned word of the slot.
                let word = unsafe { std::sync::atomic::AtomicU32::from_ptr(at) };
                word.store(random(1 << 32) as u32, std::sync::atomic::Ordering::Relaxed);
            }
        }
        match rig.wait(posted).result() {
            Ok(written) => {
                outcomes[0] += 1;
                assert!(written <= 4 << 20);
            }
            // A file can be too large for its file system; all else is a refusal of the table.
            Err(e) => {
                outcomes[1] += 1;
                assert!([Errno::EINVAL, Errno::EFAULT, Errno::EFBIG].contains(&e), "{e}");
            }
        }
    }
    drop(rig);
    assert!(outcomes.iter().all(|n| *n > 20), "{outcomes:?}");
    assert!(memory[..GUARD].iter().chain(&memory[GUARD + LEN..]).all(|b| *b == 0x33));
    assert_eq!(fs::read(other).unwrap(), b"other");
    let mut file = fs::File::open(mine).unwrap();
    let mut chunk = vec![0; 4 << 20];
    // Behind that lie at most a few stray runs at offsets that were changed.
    let n = std::io::Read::read(&mut file, &mut chunk).unwrap();
    assert!(n > 0 && chunk[..n].iter().all(|b| [0, 0x11].contains(b)));
}

fn o3_a_file_truncated_meanwhile_reads_short(options: Options, spawned: bool) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, vec![7; 64 << 10]).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let mut rig = rig(options, spawned, CONFIG, Grant::default());
    let handle = rig.open(path.to_str().unwrap()).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                file.set_len(5000).unwrap();
                file.set_len(64 << 10).unwrap();
            }
        });
        for i in 0..300u64 {
            let offset = i * 97 % 60_000;
            let n = rig.read(handle, offset, 8192).unwrap().len() as u64;
            let left = |size: u64| size.saturating_sub(offset).min(8192);
            assert!((left(5000)..=left(64 << 10)).contains(&n), "{n} bytes at {offset}");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    file.set_len(5000).unwrap();
    assert_eq!(rig.read(handle, 4990, 8192).unwrap().len(), 10);
    assert_eq!(rig.read(handle, 5000, 8192).unwrap().len(), 0);
}

#[test]
fn v5_no_window_is_granted_by_default() {
    let config = RegionConfig { device_window: 1 << 20, ..CONFIG };
    let mut rig = Rig::new(options(EngineChoice::Pread), config, Grant::default());
    let handle = rig.open("/dev/zero").unwrap();
    let read =
        Request { op: Op::Read as u8, window: 1, cell: CALL, handle, len: 1, ..Request::zeroed() };
    assert_eq!(rig.call(read).result(), Err(Errno::EINVAL));
}
