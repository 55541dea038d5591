//! Everything that changes a file's content, over every engine, driven inline and served by threads.

#[macro_use]
mod common;

use common::{CALL, CONFIG, Rig};
use gpu_abi::request::{Run, SYNC_DATA};
use gpu_abi::{Errno, Op, OpenFlags, Request};
use host_daemon::{Daemon, DeviceWindow, Grant, MAX_READ, Options, RegionConfig};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

over_engines! {
    o2_files_are_made_as_the_flags_say,
    o4_each_write_makes_another_version,
    o9_writes_are_those_of_pwrite,
    o9_many_writes_at_once,
    o9_handles_for_reading_cannot_be_written,
    o9_what_is_no_file_is_written_as_it_can_be,
    o9_v5_writes_from_the_device_window,
    o10_runs_are_written_in_their_order,
    o10_one_bad_run_refuses_all,
    o10_v5_runs_from_the_device_window,
    o11_appends_know_where_they_went,
    o11_nobody_appends_over_anothers_bytes,
    o12_all_that_was_answered_is_synced,
    o13_truncate_cuts_and_fills,
    v13_a_grant_for_reading_only_changes_nothing,
}

const WRITE: OpenFlags = OpenFlags::WRITE;
const BOTH: OpenFlags = OpenFlags::READ.with(WRITE);

fn spawn(mut rig: Rig, spawned: bool) -> Rig {
    if spawned {
        rig.client().spawn(2).unwrap();
        rig.driven = false;
    }
    rig
}

fn rig(options: Options, spawned: bool) -> Rig {
    spawn(Rig::new(options, CONFIG, Grant::default()), spawned)
}

fn file(dir: &tempfile::TempDir, content: &[u8]) -> (PathBuf, String) {
    let path = dir.path().join("file");
    fs::write(&path, content).unwrap();
    let name = path.to_str().unwrap().into();
    (path, name)
}

fn open(rig: &mut Rig, path: &str, flags: OpenFlags) -> Result<u32, Errno> {
    rig.open_with(path.as_bytes(), flags).map(|(handle, _)| handle)
}

/// The oracle: what pwrite does to the bytes.
fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    content.resize(content.len().max(offset + bytes.len()), 0);
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
}

fn o2_files_are_made_as_the_flags_say(options: Options, spawned: bool) {
    let dir = tempfile::tempdir().unwrap();
    let name = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let mut rig = rig(options, spawned);
    let new = WRITE.with(OpenFlags::CREATE);
    let only_new = new.with(OpenFlags::EXCLUSIVE);
    assert_eq!(open(&mut rig, &name("f"), WRITE), Err(Errno::ENOENT));
    let (handle, info) = rig.open_with(name("f").as_bytes(), new).unwrap();
    assert!(info.is_file() && info.size == 0 && info.version != 0 && info.mode & 0o600 == 0o600);
    assert_eq!(rig.write(handle, 0, b"kept"), Ok(4));
    assert!(open(&mut rig, &name("f"), new).is_ok());
    assert_eq!(fs::read(name("f")).unwrap(), b"kept");
    assert_eq!(open(&mut rig, &name("f"), only_new), Err(Errno::EEXIST));
    assert!(open(&mut rig, &name("g"), only_new.with(OpenFlags::READ)).is_ok());
    std::os::unix::fs::symlink("h", name("link")).unwrap();
    assert_eq!(open(&mut rig, &name("link"), only_new), Err(Errno::EEXIST));
    assert_eq!(open(&mut rig, &name("link"), new.with(OpenFlags::NO_FOLLOW)), Err(Errno::ELOOP));
    assert!(!dir.path().join("h").exists());
    assert!(open(&mut rig, &name("link"), new).is_ok());
    assert!(dir.path().join("h").exists());
    assert_eq!(open(&mut rig, dir.path().to_str().unwrap(), WRITE), Err(Errno::EISDIR));
    assert_eq!(open(&mut rig, &name("no/f"), new), Err(Errno::ENOENT));
    for flags in [OpenFlags::CREATE.with(OpenFlags::READ), WRITE.with(OpenFlags::EXCLUSIVE)] {
        assert_eq!(open(&mut rig, &name("x"), flags), Err(Errno::EINVAL));
    }
    // Whatever can be opened no more is not made either.
    let grant = Grant { max_open: 1, ..Grant::default() };
    let mut full = Rig::new(common::options(host_daemon::EngineChoice::Pread), CONFIG, grant);
    assert!(full.open("/dev/null").is_ok());
    assert_eq!(open(&mut full, &name("more"), new), Err(Errno::EMFILE));
    assert!(!dir.path().join("more").exists());
}

fn o4_each_write_makes_another_version(options: Options, spawned: bool) {
    let dir = tempfile::tempdir().unwrap();
    let (_, name) = file(&dir, b"some bytes");
    let mut rig = rig(options, spawned);
    let handle = open(&mut rig, &name, BOTH).unwrap();
    let mut seen = vec![rig.stat(handle).unwrap().version];
    for round in 0..20u8 {
        assert_eq!(rig.write(handle, 0, &[round]), Ok(1));
        // Alternately by the writer, which does not wait, and by a reader.
        let info = if round % 2 == 0 { rig.stat(handle) } else { rig.stat_path(&name) }.unwrap();
        assert!(info.version != 0 && !seen.contains(&info.version));
        seen.push(info.version);
    }
    let info = rig.truncate(handle, 10).unwrap();
    assert!(!seen.contains(&info.version), "even where the length stays");
}

fn o9_writes_are_those_of_pwrite(options: Options, spawned: bool) {
    let dir = tempfile::tempdir().unwrap();
    let mut content: Vec<u8> = (0..50_000u32).map(|i| (i * 7 % 251) as u8).collect();
    let (path, name) = file(&dir, &content);
    let mut rig = rig(options, spawned);
    let handle = open(&mut rig, &name, BOTH).unwrap();
    let pattern = Rig::pattern(3, 8192);
    for (offset, len) in [(0, 8192), (1, 1), (4095, 2), (49_999, 8192), (90_000, 5), (7, 0)] {
        assert_eq!(rig.write(handle, offset as u64, &pattern[..len]), Ok(len as u64));
        if len > 0 {
            put(&mut content, offset, &pattern[..len]);
        }
        assert_eq!(fs::read(&path).unwrap(), content, "{offset}+{len}");
    }
    // What was written is read, also beyond the end that the file had when it was opened.
    assert_eq!(rig.read(handle, 49_990, 8192).as_deref(), Ok(&content[49_990..58_182]));
    let end = i64::MAX as u64;
    assert_eq!(rig.write(handle, end - 4, b"12345"), Err(Errno::EINVAL));
    assert_eq!(rig.write(handle, end - 5, b"12345"), Err(Errno::EFBIG));
    assert_eq!(rig.client().stats().bytes_written, 8192 + 1 + 2 + 8192 + 5);
}

fn o9_many_writes_at_once(options: Options, spawned: bool) {
    let dir = tempfile::tempdir().unwrap();
    let (path, name) = file(&dir, b"");
    let mut rig = rig(options, spawned);
    let handle = open(&mut rig, &name, WRITE).unwrap();
    for slot in 0..CONFIG.slots {
        rig.fill(slot, &Rig::pattern(slot, 8192));
    }
    for round in 0..16u64 {
        let posted: Vec<_> = (0..CONFIG.slots)
            .map(|slot| {
                let offset = (round * 8 + u64::from(slot)) * 8192;
                let r = rig.with_buffer(Op::Write, slot, handle, 8192);
                rig.post(Request { offset, ..r })
            })
            .collect();
        for posted in posted {
            assert_eq!(rig.wait(posted).result(), Ok(8192));
        }
    }
    let got = fs::read(path).unwrap();
    assert_eq!(got.len(), 16 * 8 * 8192);
    for (i, piece) in got.chunks(8192).enumerate() {
        assert!(piece == Rig::pattern(i as u32 % 8, 8192), "{i}");
    }
}

fn o9_handles_for_reading_cannot_be_written(options: Options, spawned: bool) {
    let dir = tempfile::tempdir().unwrap();
    let (path, name) = file(&dir, b"content");
    let mut rig = rig(options, spawned);
    let reader = rig.open(&name).unwrap();
    let directory = rig.open(dir.path().to_str().unwrap()).unwrap();
    for handle in [reader, directory, reader ^ 1, 0] {
        assert_eq!(rig.write(handle, 0, b"x"), Err(Errno::EBADF));
        assert_eq!(rig.write(handle, 0, b""), Err(Errno::EBADF));
        assert_eq!(rig.write_runs(handle, &[(0, b"x")]), Err(Errno::EBADF));
        assert_eq!(rig.write_runs(handle, &[]), Err(Errno::EBADF));
        assert_eq!(rig.append(handle, b"x"), Err(Errno::EBADF));
        assert_eq!(rig.truncate(handle, 0), Err(Errno::EBADF));
    }
    assert_eq!(fs::read(path).unwrap(), b"content");
    let writer = open(&mut rig, &name, WRITE).unwrap();
    assert_eq!(rig.read(writer, 0, 1), Err(Errno::EBADF));
    assert_eq!(rig.close(writer), Ok(0));
    assert_eq!(rig.write(writer, 0, b"x"), Err(Errno::EBADF));
    rig.close(reader).unwrap();
    rig.close(directory).unwrap();
    assert_eq!(rig.client().open_files(), 0, "no refusal holds a file");
}

fn o9_what_is_no_file_is_written_as_it_can_be(options: Options, spawned: bool) {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo").to_str().unwrap().to_string();
    let c = std::ffi::CString::new(fifo.as_str()).unwrap();
    // SAFETY: a valid path.
    assert_eq!(unsafe { libc::mkfifo(c.as_ptr(), 0o600) }, 0);
    let mut rig = rig(options, spawned);
    assert_eq!(open(&mut rig, &fifo, WRITE), Err(Errno::ENXIO), "nobody reads it");
    let handle = open(&mut rig, &fifo, BOTH).unwrap();
    assert_eq!(rig.write(handle, 0, b"x"), Err(Errno::ESPIPE));
    assert_eq!(rig.write_runs(handle, &[(0, b"x")]), Err(Errno::ESPIPE));
    assert_eq!(rig.append(handle, b"x"), Err(Errno::ESPIPE));
    let handle = open(&mut rig, "/dev/null", WRITE).unwrap();
    assert_eq!(rig.write(handle, 9, b"gone"), Ok(4));
    assert_eq!(rig.append(handle, b"gone"), Ok((4, 0)));
    assert_eq!(rig.truncate(handle, 9), Err(Errno::EINVAL));
    let handle = open(&mut rig, "/dev/full", WRITE).unwrap();
    assert_eq!(rig.write(handle, 0, b"x"), Err(Errno::ENOSPC));
}

/// A rig with a device window over `memory`, which must outlive it.
fn with_window(options: Options, spawned: bool, memory: &mut [u8]) -> Rig {
    let base = NonNull::new(memory.as_mut_ptr()).unwrap();
    // SAFETY: the memory outlives the rig and is not used while requests are under way.
    let window = unsafe { DeviceWindow::new(base, memory.len()) };
    let grant = Grant { device_window: Some(window), ..Grant::default() };
    let config = RegionConfig { device_window: memory.len() as u64, ..CONFIG };
    spawn(Rig::new(options, config, grant), spawned)
}

fn o9_v5_writes_from_the_device_window(options: Options, spawned: bool) {
    let dir = tempfile::tempdir().unwrap();
    let (path, name) = file(&dir, b"");
    let mut memory = Rig::pattern(1, 5 << 20);
    let expected = memory[100..100 + (3 << 20)].to_vec();
    let mut rig = with_window(options, spawned, &mut memory);
    let handle = open(&mut rig, &name, WRITE).unwrap();
    let write = |buf: usize, len, offset| Request {
        op: Op::Write as u8,
        window: 1,
        cell: CALL,
        handle,
        offset,
        buf: buf as u64,
        len,
        ..bytemuck::Zeroable::zeroed()
    };
    let full = u64::from(MAX_READ);
    assert_eq!(rig.call(write(100, MAX_READ, 0)).result(), Ok(full));
    assert_eq!(rig.call(write(100 + MAX_READ as usize, 1 << 20, full)).result(), Ok(1 << 20));
    assert_eq!(rig.call(write(0, MAX_READ + 1, 0)).result(), Err(Errno::EINVAL));
    assert_eq!(rig.call(write((5 << 20) - 9, 10, 0)).result(), Err(Errno::EFAULT));
    assert!(fs::read(path).unwrap() == expected);
    drop(rig);
}

fn o10_runs_are_written_in_their_order(options: Options, spawned: bool) {
    let dir = tempfile::tempdir().unwrap();
    let mut content = Rig::pattern(1, 10_000);
    let (path, name) = file(&dir, &content);
    let mut rig = rig(options, spawned);
    let handle = open(&mut rig, &name, WRITE).unwrap();
    let mut write = |runs: &[(u64, &[u8])]| {
        let total: usize = runs.iter().map(|(_, bytes)| bytes.len()).sum();
        assert_eq!(rig.write_runs(handle, runs), Ok(total as u64));
        for (offset, bytes) in runs {
            put(&mut content, *offset as usize, bytes);
        }
        assert!(fs::read(&path).unwrap() == content);
    };
    write(&[]);
    write(&[(0, b"a")]);
    write(&[(5, b"neigh"), (10, b"bours"), (15, b"!"), (9_998, b"over the end")]);
    write(&[(20, b"first"), (22, b"second, over the first"), (20, b"last"), (3, b"before")]);
    write(&[(30_000, b"behind a hole"), (29_000, b"in it")]);
    let many: Vec<(u64, &[u8])> = (0..256).map(|i| (i * 3 + i / 100, &b"xyz"[..])).collect();
    write(&many);
}

fn o10_one_bad_run_refuses_all(options: Options, spawned: bool) {
    let dir = tempfile::tempdir().unwrap();
    let (path, name) = file(&dir, b"content");
    let mut rig = rig(options, spawned);
    let handle = open(&mut rig, &name, WRITE).unwrap();
    let good = Run { offset: 0, buf: rig.buf(0) + 4000, len: 3, reserved: 0 };
    for (bad, errno) in [
        (Run { len: 0, ..good }, Errno::EINVAL),
        (Run { reserved: 1, ..good }, Errno::EINVAL),
        (Run { offset: i64::MAX as u64, ..good }, Errno::EINVAL),
        (Run { buf: rig.buf(1), ..good }, Errno::EFAULT),
        (Run { len: 8192, ..good }, Errno::EFAULT),
    ] {
        rig.fill(0, bytemuck::cast_slice(&[good, good, bad]));
        let answer = rig.call(rig.with_buffer(Op::WriteRuns, 0, handle, 72));
        assert_eq!(answer.result(), Err(errno), "{bad:?}");
    }
    let whole = rig.with_buffer(Op::WriteRuns, 0, handle, 24);
    for (request, errno) in [
        (Request { len: 25, ..whole }, Errno::EINVAL),
        (Request { len: 257 * 24, ..whole }, Errno::EINVAL),
        (Request { buf: rig.buf(1), ..whole }, Errno::EFAULT),
        (Request { cell: CALL, ..whole }, Errno::EFAULT),
        (Request { window: 1, ..whole }, Errno::EINVAL),
    ] {
        assert_eq!(rig.call(request).result(), Err(errno), "{request:?}");
    }
    assert_eq!(fs::read(path).unwrap(), b"content");
    assert_eq!(rig.client().stats().bytes_written, 0);
}

fn o10_v5_runs_from_the_device_window(options: Options, spawned: bool) {
    let dir = tempfile::tempdir().unwrap();
    let (path, name) = file(&dir, b"");
    const LEN: usize = 5 << 20;
    let mut memory = Rig::pattern(1, LEN);
    let copy = memory.clone();
    let mut rig = with_window(options, spawned, &mut memory);
    let handle = open(&mut rig, &name, WRITE).unwrap();
    let run = |offset, buf, len| Run { offset, buf, len, reserved: 0 };
    let table = rig.with_buffer(Op::WriteRuns, 1, handle, 0);
    let mut write = |runs: &[Run]| {
        rig.fill(1, bytemuck::cast_slice(runs));
        let len = size_of_val(runs) as u32;
        rig.call(Request { window: 1, len, ..table }).result()
    };
    assert_eq!(write(&[run(0, 0, MAX_READ), run(2 << 20, 2 << 20, MAX_READ)]), Ok(4 << 20));
    assert_eq!(
        write(&[run(0, 0, MAX_READ), run(0, 0, MAX_READ), run(0, 0, 1)]),
        Err(Errno::EINVAL)
    );
    assert_eq!(write(&[run(9, 9, 1), run(0, LEN as u64 - 1, 2)]), Err(Errno::EFAULT));
    assert_eq!(write(&[run(9, 9, 1), run(0, 0, MAX_READ + 1)]), Err(Errno::EINVAL));
    assert!(fs::read(path).unwrap() == copy[..4 << 20]);
    drop(rig);
}

fn o11_appends_know_where_they_went(options: Options, spawned: bool) {
    let dir = tempfile::tempdir().unwrap();
    let (path, name) = file(&dir, b"old");
    let mut rig = rig(options, spawned);
    let handle = open(&mut rig, &name, BOTH).unwrap();
    assert_eq!(rig.append(handle, b"first"), Ok((5, 3)));
    assert_eq!(rig.write(handle, 1, b"LD"), Ok(2));
    assert_eq!(rig.append(handle, b""), Ok((0, 8)));
    // Somebody else appends too.
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b", host, ").unwrap();
    assert_eq!(rig.append(handle, b"last"), Ok((4, 16)));
    rig.truncate(handle, 2).unwrap();
    assert_eq!(rig.append(handle, b"!"), Ok((1, 2)));
    assert_eq!(rig.read(handle, 0, 100).as_deref(), Ok(&b"oL!"[..]));
    assert_eq!(rig.client().stats().bytes_written, 5 + 2 + 4 + 1);
}

fn o11_nobody_appends_over_anothers_bytes(options: Options, spawned: bool) {
    let dir = tempfile::tempdir().unwrap();
    let (path, name) = file(&dir, b"");
    let daemon = Daemon::new(options).unwrap();
    let rigs: Vec<_> =
        (0..2).map(|_| spawn(Rig::of(&daemon, CONFIG, Grant::default()), spawned)).collect();
    const ROUNDS: u64 = 100;
    // Two clients, each with several appends of a handle under way, and somebody outside the daemon.
    let mut claimed: Vec<(u64, u8)> = std::thread::scope(|scope| {
        let outside = path.clone();
        let outside = scope.spawn(move || {
            let mut file = fs::OpenOptions::new().append(true).open(&outside).unwrap();
            for _ in 0..ROUNDS {
                file.write_all(&[0xEE; 10]).unwrap();
            }
        });
        let clients: Vec<_> = (1u8..)
            .zip(rigs)
            .map(|(client, mut rig)| {
                let name = &name;
                scope.spawn(move || {
                    let handle = open(&mut rig, name, WRITE).unwrap();
                    let mut claimed = vec![];
                    for _ in 0..ROUNDS / 4 {
                        let posted: Vec<_> = (0..4)
                            .map(|slot| {
                                let mark = client * 16 + slot as u8;
                                rig.fill(slot, &[mark; 10]);
                                let r = rig.with_buffer(Op::Append, slot, handle, 10);
                                (mark, rig.post(r))
                            })
                            .collect();
                        for (mark, posted) in posted {
                            let answer = rig.wait(posted);
                            assert_eq!(answer.result(), Ok(10));
                            claimed.push((answer.detail[0], mark));
                        }
                    }
                    claimed
                })
            })
            .collect();
        outside.join().unwrap();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    let got = fs::read(path).unwrap();
    assert_eq!(got.len() as u64, 3 * ROUNDS * 10);
    claimed.sort();
    claimed.dedup_by_key(|(at, _)| *at);
    assert_eq!(claimed.len() as u64, 2 * ROUNDS);
    for (at, mark) in claimed {
        assert!(got[at as usize..at as usize + 10].iter().all(|b| *b == mark), "{mark} at {at}");
    }
}

/// That it is on storage only a power cut would show; here: that syncs end, in any mix with writes, and
/// for whatever can be opened.
fn o12_all_that_was_answered_is_synced(options: Options, spawned: bool) {
    let dir = tempfile::tempdir().unwrap();
    let (path, name) = file(&dir, b"");
    let mut rig = rig(options, spawned);
    let writer = open(&mut rig, &name, WRITE).unwrap();
    let reader = rig.open(&name).unwrap();
    let directory = rig.open(dir.path().to_str().unwrap()).unwrap();
    for round in 0..4u64 {
        assert_eq!(rig.write(writer, round * 10, b"0123456789"), Ok(10));
        assert_eq!(rig.sync(writer, if round % 2 == 0 { SYNC_DATA } else { 0 }), Ok(0));
    }
    // By another descriptor; and a directory, whose names are its content.
    assert_eq!(rig.sync(reader, 0), Ok(0));
    assert_eq!(rig.sync(directory, 0), Ok(0));
    let posted: Vec<_> = (0..4)
        .flat_map(|i| {
            // Not the cell of `close`, which comes while these are under way.
            let sync = Request { cell: CALL + 1 + i, ..rig.with_buffer(Op::Sync, 0, writer, 0) };
            let write = rig.with_buffer(Op::Write, i, writer, 8192);
            [rig.post(sync), rig.post(Request { offset: 8192, ..write })]
        })
        .collect();
    // Its end comes after the syncs, which hold the file.
    assert_eq!(rig.close(writer), Ok(0));
    for posted in posted {
        assert!(rig.wait(posted).result().is_ok());
    }
    assert_eq!(rig.sync(writer, 0), Err(Errno::EBADF));
    let null = open(&mut rig, "/dev/null", WRITE).unwrap();
    assert_eq!(rig.sync(null, 0), Err(Errno::EINVAL));
    assert_eq!(fs::metadata(path).unwrap().len(), 16_384);
}

fn o13_truncate_cuts_and_fills(options: Options, spawned: bool) {
    let dir = tempfile::tempdir().unwrap();
    let (path, name) = file(&dir, b"0123456789");
    let mut rig = rig(options, spawned);
    let handle = open(&mut rig, &name, BOTH).unwrap();
    for (size, content) in [(4, &b"0123"[..]), (6, b"0123\0\0"), (0, b""), (2, b"\0\0")] {
        let info = rig.truncate(handle, size).unwrap();
        assert!(info.is_file() && info.size == size && info.version != 0);
        assert_eq!(fs::read(&path).unwrap(), content);
        assert_eq!(rig.read(handle, 0, 100).as_deref(), Ok(content));
    }
    assert_eq!(rig.truncate(handle, i64::MAX as u64 + 1), Err(Errno::EINVAL));
    assert_eq!(rig.truncate(handle, i64::MAX as u64), Err(Errno::EFBIG));
    assert_eq!(rig.truncate(handle ^ 1, 0), Err(Errno::EBADF));
}

fn v13_a_grant_for_reading_only_changes_nothing(options: Options, spawned: bool) {
    let dir = tempfile::tempdir().unwrap();
    let (path, name) = file(&dir, b"content");
    let grant = Grant { read_only: true, ..Grant::default() };
    let mut rig = spawn(Rig::new(options, CONFIG, grant), spawned);
    let new = dir.path().join("new").to_str().unwrap().to_string();
    let handle = rig.open(&name).unwrap();
    assert_eq!(rig.read(handle, 0, 100).as_deref(), Ok(&b"content"[..]));
    assert_eq!(rig.sync(handle, 0), Ok(0));
    let refused = Err(Errno::EROFS);
    assert_eq!(open(&mut rig, &name, WRITE), Err(Errno::EROFS));
    assert_eq!(open(&mut rig, &new, BOTH.with(OpenFlags::CREATE)), Err(Errno::EROFS));
    assert_eq!(rig.write(handle, 0, b"x"), Err(Errno::EROFS));
    assert_eq!(rig.write_runs(handle, &[(0, b"x")]), Err(Errno::EROFS));
    assert_eq!(rig.append(handle, b"x"), Err(Errno::EROFS));
    assert_eq!(rig.truncate(handle, 0), Err(Errno::EROFS));
    assert_eq!(rig.unlink(&name), refused);
    assert_eq!(rig.rmdir(dir.path().to_str().unwrap()), refused);
    assert_eq!(rig.rename(&name, &new, 0), refused);
    assert_eq!(rig.mkdir(&new), refused);
    assert_eq!(rig.client().stats().rejected, 10);
    assert_eq!(fs::read(&path).unwrap(), b"content");
    assert_eq!(fs::read_dir(Path::new(&name).parent().unwrap()).unwrap().count(), 1);
}
