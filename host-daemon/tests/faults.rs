//! Storage that fails, by a plan: what clients are told, over every engine.

#[macro_use]
mod common;

use common::{CONFIG, Rig};
use gpu_abi::request::SYNC_DATA;
use gpu_abi::{Errno, OpenFlags};
use host_daemon::{Daemon, Fault, FaultAt, Faults, Grant, Options};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

over_engines! {
    o9_a_full_disk_is_told_at_the_first_write,
    o9_a_short_write_is_told_and_asking_again_says_why,
    o9_what_comes_short_goes_on,
    o10_of_runs_the_beginning_is_written,
    o11_a_short_append_is_not_continued,
    o12_an_error_of_the_storage_is_told_once,
    o13_a_truncation_that_fails_changes_nothing,
    o2_o8_an_open_that_fails_makes_nothing,
    plans_meet_one_handle_or_all_and_can_be_changed,
}

struct World {
    rig: Rig,
    faults: Arc<Faults>,
    path: PathBuf,
    handle: u32,
    _dir: tempfile::TempDir,
}

impl World {
    fn new(options: Options, spawned: bool, content: &[u8]) -> World {
        let faults = Arc::new(Faults::new());
        let options = Options { faults: Some(faults.clone()), ..options };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, content).unwrap();
        let mut rig = Rig::new(options, CONFIG, Grant::default());
        if spawned {
            rig.client().spawn(2).unwrap();
            rig.driven = false;
        }
        let name = path.to_str().unwrap().as_bytes();
        let (handle, _) = rig.open_with(name, OpenFlags::READ.with(OpenFlags::WRITE)).unwrap();
        World { rig, faults, path, handle, _dir: dir }
    }

    fn content(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap()
    }
}

fn full() -> Fault {
    Fault::new(FaultAt::Write, Errno::ENOSPC)
}

fn o9_a_full_disk_is_told_at_the_first_write(options: Options, spawned: bool) {
    let mut w = World::new(options, spawned, b"content");
    w.faults.add(full().times(3));
    assert_eq!(w.rig.write(w.handle, 0, b"CON"), Err(Errno::ENOSPC));
    assert_eq!(w.rig.write_runs(w.handle, &[(0, b"C"), (2, b"N")]), Err(Errno::ENOSPC));
    assert_eq!(w.rig.append(w.handle, b"!"), Err(Errno::ENOSPC));
    assert_eq!(w.content(), b"content");
    assert_eq!(w.faults.failed(), 3);
    assert_eq!(w.rig.write(w.handle, 0, b"CON"), Ok(3), "there is room again");
    assert_eq!(w.content(), b"CONtent");
    assert_eq!(w.rig.client().stats().bytes_written, 3);
}

fn o9_a_short_write_is_told_and_asking_again_says_why(options: Options, spawned: bool) {
    let mut w = World::new(options, spawned, b"");
    w.faults.add(full().after(1).short_by(100).times(2));
    let pattern = Rig::pattern(0, 8192);
    assert_eq!(w.rig.write(w.handle, 0, &pattern[..50]), Ok(50));
    assert_eq!(w.rig.write(w.handle, 0, &pattern), Ok(8092));
    assert_eq!(w.content(), &pattern[..8092]);
    assert_eq!(w.rig.write(w.handle, 8092, &pattern[8092..]), Err(Errno::ENOSPC));
    assert_eq!(w.rig.write(w.handle, 8092, &pattern[8092..]), Ok(100));
    assert_eq!(w.content(), pattern);
    assert_eq!(w.rig.client().stats().bytes_written, 50 + 8092 + 100);
}

fn o9_what_comes_short_goes_on(options: Options, spawned: bool) {
    let mut w = World::new(options, spawned, b"");
    let pattern = Rig::pattern(0, 8000);
    // Short, and then nothing fails.
    w.faults.add(full().short_by(7777).times(0));
    w.faults.add(full().short_by(7000).times(0));
    assert_eq!(w.rig.write(w.handle, 3, &pattern), Ok(8000));
    assert!(w.content()[3..] == pattern);
    w.faults.add(full().short_by(5).times(0));
    w.faults.add(full().short_by(3).times(0));
    w.faults.add(full().short_by(1).times(0));
    let runs: [(u64, &[u8]); 4] = [(0, b"abc"), (3, b"de"), (5, b"fghi"), (20, b"klm")];
    assert_eq!(w.rig.write_runs(w.handle, &runs), Ok(12));
    let mut expected = [&[0, 0, 0][..], &pattern].concat();
    expected[..9].copy_from_slice(b"abcdefghi");
    expected[20..23].copy_from_slice(b"klm");
    assert!(w.content() == expected);
    assert_eq!(w.faults.failed(), 0);
}

fn o10_of_runs_the_beginning_is_written(options: Options, spawned: bool) {
    let mut w = World::new(options, spawned, b"................");
    // The first two runs are one system call, the third another, the fourth comes short.
    w.faults.add(full().after(2).short_by(1).times(1));
    let runs: [(u64, &[u8]); 4] = [(1, b"a"), (2, b"b"), (8, b"cd"), (4, b"efg")];
    assert_eq!(w.rig.write_runs(w.handle, &runs), Ok(6));
    assert_eq!(w.content(), b".ab.ef..cd......");
    w.faults.add(full());
    assert_eq!(w.rig.write_runs(w.handle, &runs[3..]), Err(Errno::ENOSPC));
    assert_eq!(w.rig.write_runs(w.handle, &runs[3..]), Ok(3));
    assert_eq!(w.content(), b".ab.efg.cd......");
}

fn o11_a_short_append_is_not_continued(options: Options, spawned: bool) {
    let mut w = World::new(options, spawned, b"x");
    w.faults.add(full().short_by(2));
    assert_eq!(w.rig.append(w.handle, b"abcde"), Ok((3, 1)));
    assert_eq!(w.rig.append(w.handle, b"de"), Err(Errno::ENOSPC));
    assert_eq!(w.rig.append(w.handle, b"de"), Ok((2, 4)));
    assert_eq!(w.content(), b"xabcde");
}

fn o12_an_error_of_the_storage_is_told_once(options: Options, spawned: bool) {
    let mut w = World::new(options, spawned, b"");
    let broken = Fault::new(FaultAt::Sync, Errno::EIO);
    for flags in [0, SYNC_DATA] {
        w.faults.add(broken);
        assert_eq!(w.rig.write(w.handle, 0, b"x"), Ok(1));
        assert_eq!(w.rig.sync(w.handle, flags), Err(Errno::EIO));
        assert_eq!(w.rig.sync(w.handle, flags), Ok(0));
    }
    w.faults.add(broken.after(2));
    let results: Vec<_> = (0..4).map(|_| w.rig.sync(w.handle, 0)).collect();
    assert_eq!(results, [Ok(0), Ok(0), Err(Errno::EIO), Ok(0)]);
}

fn o13_a_truncation_that_fails_changes_nothing(options: Options, spawned: bool) {
    let mut w = World::new(options, spawned, b"content");
    w.faults.add(Fault::new(FaultAt::Truncate, Errno::EIO));
    assert_eq!(w.rig.truncate(w.handle, 3), Err(Errno::EIO));
    assert_eq!(w.content(), b"content");
    assert_eq!(w.rig.truncate(w.handle, 3).unwrap().size, 3);
}

fn o2_o8_an_open_that_fails_makes_nothing(options: Options, spawned: bool) {
    let mut w = World::new(options, spawned, b"content");
    let new = w.path.with_file_name("new");
    let flags = OpenFlags::WRITE.with(OpenFlags::CREATE);
    let open = |w: &mut World| w.rig.open_with(new.to_str().unwrap().as_bytes(), flags).map(|_| ());
    w.faults.add(Fault::new(FaultAt::Open, Errno::ENOSPC));
    assert_eq!(open(&mut w), Err(Errno::ENOSPC));
    assert!(!new.exists());
    assert_eq!(open(&mut w), Ok(()));
    let name = w.path.to_str().unwrap().to_string();
    w.faults.add(Fault::new(FaultAt::Open, Errno::EIO));
    assert_eq!(w.rig.read_file(&name, 100), Err(Errno::EIO));
    assert_eq!(w.rig.read_file(&name, 100).as_deref(), Ok(&b"content"[..]));
}

fn plans_meet_one_handle_or_all_and_can_be_changed(options: Options, spawned: bool) {
    let mut w = World::new(options, spawned, b"");
    let name = w.path.to_str().unwrap().to_string();
    let (other, _) = w.rig.open_with(name.as_bytes(), OpenFlags::WRITE).unwrap();
    w.faults.add(full().of(other).times(u64::MAX));
    for _ in 0..3 {
        assert_eq!(w.rig.write(w.handle, 0, b"x"), Ok(1));
        assert_eq!(w.rig.write(other, 0, b"x"), Err(Errno::ENOSPC));
    }
    w.faults.clear();
    assert_eq!(w.rig.write(other, 0, b"x"), Ok(1));
    // The plan is the daemon's: whatever client of it.
    let daemon = Daemon::new(Options {
        faults: Some(w.faults.clone()),
        ..common::options(host_daemon::EngineChoice::Pread)
    })
    .unwrap();
    let mut one = Rig::of(&daemon, CONFIG, Grant::default());
    let (handle, _) = one.open_with(name.as_bytes(), OpenFlags::WRITE).unwrap();
    w.faults.add(full());
    assert_eq!(one.write(handle, 0, b"x"), Err(Errno::ENOSPC));
    assert_eq!(one.write(handle, 0, b"x"), Ok(1));
}
