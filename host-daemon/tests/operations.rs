//! Every operation, over every engine, driven inline and served by threads.

#[macro_use]
mod common;

use bytemuck::Zeroable;
use common::{CALL, CONFIG, Rig};
use gpu_abi::request::DirEntry;
use gpu_abi::{Errno, Op, OpenFlags, Request};
use host_daemon::{Grant, Options};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

over_engines! {
    c2_nops_are_answered,
    o2_open_says_what_it_opened,
    o3_reads_are_those_of_pread,
    o3_many_reads_at_once,
    o3_what_has_no_offset_cannot_be_read,
    o4_versions_change_with_the_content,
    o5_stat_by_handle_and_by_path,
    o6_a_listing_in_pieces_is_complete,
    o7_close_ends_the_handle,
    o8_a_file_in_one_request,
    o17_the_time_is_the_systems,
    v9_no_more_files_than_granted,
}

fn rig(options: Options, spawned: bool, grant: Grant) -> Rig {
    let mut rig = Rig::new(options, CONFIG, grant);
    if spawned {
        rig.client().spawn(2).unwrap();
        rig.driven = false;
    }
    rig
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn c2_nops_are_answered(options: Options, spawned: bool) {
    let mut rig = rig(options, spawned, Grant::default());
    for round in 0..200 {
        let posted: Vec<_> = (0..1 + round % 16).map(|cell| rig.nop(cell)).collect();
        for posted in posted {
            assert_eq!(rig.wait(posted).result(), Ok(0));
        }
    }
    assert_eq!(rig.client().stats().by_op[1], (0..200).map(|r| 1 + r % 16).sum::<u64>());
}

fn o2_open_says_what_it_opened(options: Options, spawned: bool) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"twelve bytes").unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink("file", &link).unwrap();
    let mut rig = rig(options, spawned, Grant::default());

    let (_, info) = rig.open_with(file.as_os_str().as_bytes(), OpenFlags::READ).unwrap();
    assert!(info.is_file() && info.size == 12 && info.nlink == 1 && info.version != 0);
    let (_, info) = rig.open_with(dir.path().as_os_str().as_bytes(), OpenFlags::READ).unwrap();
    assert!(info.is_dir() && info.version == 0);
    assert!(rig.open(path(&link)).is_ok());

    let mut with = |p: &Path, flags| rig.open_with(p.as_os_str().as_bytes(), flags).err();
    let only_dirs = OpenFlags::READ.with(OpenFlags::DIRECTORY);
    assert_eq!(with(&file, only_dirs), Some(Errno::ENOTDIR));
    assert_eq!(with(dir.path(), only_dirs), None);
    assert_eq!(with(&link, OpenFlags::READ.with(OpenFlags::NO_FOLLOW)), Some(Errno::ELOOP));
    assert_eq!(with(&dir.path().join("none"), OpenFlags::READ), Some(Errno::ENOENT));
    assert_eq!(with(Path::new("a\0b"), OpenFlags::READ), Some(Errno::EINVAL));
    assert_eq!(with(Path::new(""), OpenFlags::READ), Some(Errno::ENOENT));
    assert_eq!(with(Path::new(&"x".repeat(4096)), OpenFlags::READ), Some(Errno::ENAMETOOLONG));
    assert_eq!(with(Path::new(&"x/".repeat(2000)), OpenFlags::READ), Some(Errno::ENOENT));
    assert_eq!(with(&file, OpenFlags(0)), Some(Errno::EINVAL));
}

fn o3_reads_are_those_of_pread(options: Options, spawned: bool) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    let content: Vec<u8> = (0..50_000u32).map(|i| (i * 7 % 251) as u8).collect();
    fs::write(&file, &content).unwrap();
    let mut rig = rig(options, spawned, Grant::default());
    let handle = rig.open(path(&file)).unwrap();
    for (offset, len) in [
        (0, 8192),
        (1, 4096),
        (8191, 3),
        (41_808, 8192),
        (41_809, 8192),
        (49_999, 100),
        (50_000, 1),
        (1 << 40, 8192),
        (i64::MAX as u64 - 8192, 8192),
        (5, 0),
    ] {
        let from = content.len().min(offset as usize);
        let expected = &content[from..content.len().min(from + len as usize)];
        assert_eq!(rig.read(handle, offset, len).as_deref(), Ok(expected), "{offset}+{len}");
    }
    assert_eq!(rig.read(handle, i64::MAX as u64 - 8191, 8192), Err(Errno::EINVAL));
    assert_eq!(rig.read(handle, u64::MAX, 8192), Err(Errno::EINVAL));
}

fn o3_many_reads_at_once(options: Options, spawned: bool) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    let content: Vec<u8> = (0..1 << 20).map(|i: u32| (i >> 8) as u8 ^ i as u8).collect();
    fs::write(&file, &content).unwrap();
    let mut rig = rig(options, spawned, Grant::default());
    let handle = rig.open(path(&file)).unwrap();
    for round in 0..64u64 {
        let at = |slot: u32| (round * 16_001 + u64::from(slot) * 70_001) % 1_000_000;
        let posted: Vec<_> = (0..CONFIG.slots)
            .map(|slot| rig.post(rig.read_request(slot, handle, at(slot), 8192)))
            .collect();
        for posted in posted {
            assert_eq!(rig.wait(posted).result(), Ok(8192));
            let from = at(posted.0) as usize;
            assert!(rig.bytes(posted.0, 8192) == content[from..from + 8192]);
        }
    }
    assert_eq!(rig.client().stats().bytes_read, 64 * 8 * 8192);
}

fn o3_what_has_no_offset_cannot_be_read(options: Options, spawned: bool) {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    let c = std::ffi::CString::new(path(&fifo)).unwrap();
    // SAFETY: a valid path.
    assert_eq!(unsafe { libc::mkfifo(c.as_ptr(), 0o600) }, 0);
    let mut rig = rig(options, spawned, Grant::default());
    // No writer is there, and none comes: neither call may wait for one.
    let handle = rig.open(path(&fifo)).unwrap();
    assert_eq!(rig.read(handle, 0, 10), Err(Errno::ESPIPE));
    let handle = rig.open(path(dir.path())).unwrap();
    assert_eq!(rig.read(handle, 0, 10), Err(Errno::EISDIR));
    let handle = rig.open("/dev/zero").unwrap();
    assert_eq!(rig.read(handle, 0, 10), Ok(vec![0; 10]));
    let handle = rig.open("/proc/self/stat").unwrap();
    assert!(rig.read(handle, 0, 10).unwrap().len() == 10);
}

fn o4_versions_change_with_the_content(options: Options, spawned: bool) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"one").unwrap();
    let mut rig = rig(options, spawned, Grant::default());
    let mut seen = vec![];
    for content in ["two", "three", "three!", "", "two"] {
        let handle = rig.open(path(&file)).unwrap();
        let version = rig.stat(handle).unwrap().version;
        assert!(version != 0 && !seen.contains(&version));
        seen.push(version);
        fs::write(&file, content).unwrap();
    }
    // Once the kernel's clock has moved on, the version stays.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while rig.stat_path(path(&file)).unwrap().version != rig.stat_path(path(&file)).unwrap().version
    {
        assert!(std::time::Instant::now() < until);
    }
}

fn o5_stat_by_handle_and_by_path(options: Options, spawned: bool) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"twelve bytes").unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink("file", &link).unwrap();
    let mut rig = rig(options, spawned, Grant::default());
    let handle = rig.open(path(&file)).unwrap();
    let info = rig.stat(handle).unwrap();
    let meta = fs::metadata(&file).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!((info.size, info.ino, info.dev), (12, meta.ino(), meta.dev()));
    assert_eq!(info.mtime_ns, meta.mtime() * 1_000_000_000 + meta.mtime_nsec());
    assert_eq!(info.mode, meta.mode());
    assert_eq!(rig.stat_path(path(&link)).unwrap().ino, info.ino);
    assert_eq!(rig.stat_path("/definitely/not/here"), Err(Errno::ENOENT));
    assert_eq!(rig.stat(handle ^ 1), Err(Errno::EBADF));
}

fn o6_a_listing_in_pieces_is_complete(options: Options, spawned: bool) {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = vec![];
    for i in 0..300 {
        let name = format!("{i}-{}", "n".repeat(i % 200));
        fs::write(dir.path().join(&name), b"").unwrap();
        expected.push(name.into_bytes());
    }
    fs::create_dir(dir.path().join("sub")).unwrap();
    expected.push(b"sub".to_vec());
    expected.sort();
    let mut rig = rig(options, spawned, Grant::default());
    let handle = rig.open(path(dir.path())).unwrap();
    for len in [8192, 300] {
        let (mut cookie, mut names) = (0, vec![]);
        loop {
            let (bytes, next) = rig.read_dir(handle, cookie, len).unwrap();
            if bytes.is_empty() {
                break;
            }
            let mut rest = &bytes[..];
            while let Some((entry, after)) = DirEntry::split_first(rest) {
                names.push(entry.name.to_vec());
                assert_eq!(entry.record.kind, if entry.name == b"sub" { 4 } else { 8 });
                assert!(!after.is_empty() || entry.record.next == next);
                rest = after;
            }
            assert!(rest.is_empty());
            cookie = next;
        }
        names.sort();
        assert_eq!(names, expected);
    }
    assert_eq!(rig.read_dir(handle, 0, 24), Err(Errno::EINVAL), "no record fits");
    assert_eq!(rig.read_dir(handle, u64::MAX, 8192), Err(Errno::EINVAL));
    let file = rig.open(path(&dir.path().join("0-"))).unwrap();
    assert_eq!(rig.read_dir(file, 0, 8192), Err(Errno::ENOTDIR));
}

fn o7_close_ends_the_handle(options: Options, spawned: bool) {
    let mut rig = rig(options, spawned, Grant::default());
    let handle = rig.open("/dev/null").unwrap();
    assert_eq!(rig.close(handle), Ok(0));
    assert_eq!(rig.close(handle), Err(Errno::EBADF));
    assert_eq!(rig.read(handle, 0, 1), Err(Errno::EBADF));
    assert_eq!(rig.stat(handle), Err(Errno::EBADF));
    // Nobody waits for this one: the next request of the ring comes after it.
    let handle = rig.open("/dev/null").unwrap();
    rig.post(gpu_abi::Request {
        op: gpu_abi::Op::Close as u8,
        cell: gpu_abi::request::CELL_NONE,
        handle,
        ..bytemuck::Zeroable::zeroed()
    });
    assert_eq!(rig.close(handle), Err(Errno::EBADF));
    assert_eq!(rig.client().open_files(), 0);
    let _ = CALL;
}

fn o8_a_file_in_one_request(options: Options, spawned: bool) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    let fifo = dir.path().join("fifo");
    let c = std::ffi::CString::new(path(&fifo)).unwrap();
    // SAFETY: a valid path.
    assert_eq!(unsafe { libc::mkfifo(c.as_ptr(), 0o600) }, 0);
    let max_open = 4;
    let mut rig = rig(options, spawned, Grant { max_open, ..Grant::default() });
    for size in [0, 1, 4096, 8191, 8192, 8193, 20_000] {
        let content: Vec<u8> = (0..size).map(|i: u32| (i * 7 % 251) as u8).collect();
        fs::write(&file, &content).unwrap();
        for len in [0, 1, 4096, 8192] {
            let want = &content[..content.len().min(len as usize)];
            assert_eq!(rig.read_file(path(&file), len).as_deref(), Ok(want), "{len} of {size}");
        }
    }
    assert_eq!(rig.read_file("/dev/zero", 10), Ok(vec![0; 10]));
    assert_eq!(rig.read_file("/proc/self/stat", 10).unwrap().len(), 10);
    assert_eq!(rig.read_file(path(&fifo), 10), Err(Errno::ESPIPE));
    assert_eq!(rig.read_file(path(dir.path()), 10), Err(Errno::EISDIR));
    assert_eq!(rig.read_file(path(&dir.path().join("none")), 10), Err(Errno::ENOENT));
    assert_eq!(rig.read_file("", 10), Err(Errno::ENOENT));
    assert_eq!(rig.read_file("a\0b", 10), Err(Errno::EINVAL));
    assert_eq!(rig.read_file(&"x".repeat(4096), 10), Err(Errno::ENAMETOOLONG));
    // None of them is open any more, and open files do not stand in the way of small ones.
    let handles: Vec<_> = (0..max_open).map(|_| rig.open(path(&file)).unwrap()).collect();
    assert_eq!(rig.open(path(&file)), Err(Errno::EMFILE));
    rig.close(handles[0]).unwrap();
    assert_eq!(rig.read_file(path(&file), 8192).map(|bytes| bytes.len()), Ok(8192));
    assert!(rig.open(path(&file)).is_ok());
}

fn o17_the_time_is_the_systems(options: Options, spawned: bool) {
    let mut rig = rig(options, spawned, Grant { read_only: true, ..Grant::default() });
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let before = now();
    let r = Request { op: Op::Time as u8, cell: CALL, ..Request::zeroed() };
    let told = rig.call(r).result().unwrap();
    assert!((before..=now()).contains(&told), "{before} {told}");
}

fn v9_no_more_files_than_granted(options: Options, spawned: bool) {
    let mut rig = rig(options, spawned, Grant { max_open: 3, ..Grant::default() });
    let handles: Vec<_> = (0..3).map(|_| rig.open("/dev/null").unwrap()).collect();
    assert_eq!(rig.open("/dev/null"), Err(Errno::EMFILE));
    rig.close(handles[1]).unwrap();
    assert!(rig.open("/dev/null").is_ok());
}
