//! A host that fails: what it says reaches whoever writes or synchronises, and nothing is lost; the next try
//! succeeds.

use conformance::device::ops::{GROUP_THREAD, failure};
use conformance::device::script::{
    CLOSE, CREATE, FLUSH, Line, MAP_MUT, MKDIR, OPEN, READ, RENAME, SET_LEN, SIZE, SYNC, UNLINK,
    WRITE, WRITES,
};
use conformance::device::{pattern, stripes};
use conformance::host::{Bench, Tree, emulated};
use conformance::{HashClock, RadixFifo};
use gpu_host::{EngineChoice, Fault, FaultAt, Faults, Session, SessionBuilder};
use gpufs::Errno;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const PAGE: u64 = 4096;
const FRAMES: u64 = 16;

fn line(what: u32) -> Line {
    Line { what, ..bytemuck::Zeroable::zeroed() }
}

/// A session whose host fails as `faults` says, for each way in which bytes get to the host and each engine.
fn everywhere(test: impl Fn(&Bench<HashClock>, &Arc<Faults>, &Tree)) {
    for direct in [false, true] {
        for engine in [EngineChoice::Auto, EngineChoice::PreadPool(2), EngineChoice::Pread] {
            let (bench, faults) = bench(|b| b.direct(direct).engine(engine));
            test(&bench, &faults, &Tree::new());
        }
    }
}

fn bench(refine: impl FnOnce(SessionBuilder) -> SessionBuilder) -> (Bench<HashClock>, Arc<Faults>) {
    let faults = Arc::new(Faults::new());
    let builder = Session::builder()
        .emulated(emulated())
        .device_memory(64 << 20)
        .page_size(PAGE as u32)
        .cache_size(FRAMES * PAGE)
        .faults(faults.clone());
    let session = refine(builder).build_with().unwrap_or_else(|e| panic!("{e}"));
    (Bench { session }, faults)
}

/// Carries lines out by one thread; their answers.
fn play(bench: &Bench<HashClock>, paths: &[PathBuf], lines: &[Line]) -> Vec<i64> {
    let mut at = 0;
    let lines: Vec<Line> = lines
        .iter()
        .map(|line| {
            let line = Line { at, ..*line };
            at += line.len.next_multiple_of(8);
            line
        })
        .collect();
    bench.script((1, 1), GROUP_THREAD, paths, &lines).0.into_iter().map(|r| r as i64).collect()
}

fn error(e: Errno) -> i64 {
    failure(e) as i64
}

#[track_caller]
fn assert_pattern(path: &Path, seed: u64, len: u64) {
    let bytes = std::fs::read(path).expect("the file is there");
    assert_eq!(bytes.len() as u64, len);
    let wrong = (0..).zip(&bytes).find(|(at, byte)| **byte != pattern(seed, *at));
    assert_eq!(wrong, None, "the first wrong byte");
}

const MAKE: Line = Line { what: OPEN, flags: WRITES | CREATE, ..ZERO };
const ZERO: Line = Line {
    what: 0,
    group: 0,
    file: 0,
    path: 0,
    other: 0,
    flags: 0,
    offset: 0,
    len: 0,
    at: 0,
    seed: 0,
};

/// A full disk: `sync` says so, the pages stay dirty, and when there is room again `sync` succeeds.
#[test]
fn a_full_disk_reaches_whoever_syncs_and_nothing_is_lost() {
    everywhere(|bench, faults, tree| {
        let path = tree.path("file");
        let len = 7 * PAGE + 100;
        // In scattered pieces, so that there are many runs.
        let pieces = (0..60).map(|i| Line { offset: i * 190, len: 90, seed: 1, ..line(WRITE) });
        let script: Vec<Line> = [MAKE, Line { len, seed: 2, ..line(WRITE) }]
            .into_iter()
            .chain(pieces)
            .chain([line(SYNC), line(SYNC), line(SYNC), line(SIZE)])
            .collect();
        // The first write comes short; its rest, that rest asked for again, and the next `sync` fail.
        faults.add(Fault::new(FaultAt::Write, Errno::ENOSPC).short_by(1000).times(3));
        let results = play(bench, std::slice::from_ref(&path), &script);
        let ends = &results[results.len() - 4..];
        assert_eq!(ends, [error(Errno::ENOSPC), error(Errno::ENOSPC), 0, len as i64]);
        assert_eq!(faults.failed(), 3);
        let mut want: Vec<u8> = (0..len).map(|at| pattern(2, at)).collect();
        for i in 0..60 {
            for at in 0..90 {
                want[(i * 190 + at) as usize] = pattern(1, at);
            }
        }
        assert!(std::fs::read(&path).expect("it is there") == want);
    });
}

/// What the storage says to fsync reaches the caller, who may ask again.
#[test]
fn a_failing_fsync_is_told_once() {
    everywhere(|bench, faults, tree| {
        let path = tree.path("file");
        faults.add(Fault::new(FaultAt::Sync, Errno::EIO));
        let script =
            [MAKE, Line { len: 5000, seed: 3, ..line(WRITE) }, line(SYNC), line(SYNC), line(CLOSE)];
        let results = play(bench, std::slice::from_ref(&path), &script);
        assert_eq!(results, [0, 5000, error(Errno::EIO), 0, 0]);
        assert_pattern(&path, 3, 5000);
    });
}

/// A close that cannot write leaves the file open: it can be tried again.
#[test]
fn a_close_that_fails_can_be_repeated() {
    everywhere(|bench, faults, tree| {
        let path = tree.path("file");
        faults.add(Fault::new(FaultAt::Write, Errno::EIO).times(2));
        let script = [
            MAKE,
            Line { len: 9000, seed: 4, ..line(WRITE) },
            line(CLOSE),
            line(CLOSE),
            line(CLOSE),
        ];
        let results = play(bench, std::slice::from_ref(&path), &script);
        assert_eq!(results, [0, 9000, error(Errno::EIO), error(Errno::EIO), 0]);
        assert_pattern(&path, 4, 9000);
    });
}

/// A cache full of pages that the host does not take: whoever wants room is told why, in bounded time;
/// afterwards everything is still there.
#[test]
fn room_that_cannot_be_made_says_why() {
    everywhere(|bench, faults, tree| {
        let path = tree.path("file");
        let full = FRAMES * PAGE;
        faults.add(Fault::new(FaultAt::Write, Errno::ENOSPC).times(u64::MAX));
        let paths = [path.clone(), tree.file("other", 9, 3 * PAGE)];
        let results = play(
            bench,
            &paths,
            &[
                MAKE,
                Line { len: full, seed: 5, ..line(WRITE) },
                // No page is clean: neither more of this file nor another one fits.
                Line { offset: full, len: 10, seed: 6, ..line(WRITE) },
                Line { path: 1, file: 1, ..line(OPEN) },
                Line { file: 1, len: 10, ..line(READ) },
                Line { len: full, ..line(READ) },
            ],
        );
        let enospc = error(Errno::ENOSPC);
        assert_eq!(results, [0, full as i64, enospc, 3 * PAGE as i64, enospc, full as i64]);
        assert_eq!(std::fs::metadata(&path).expect("it was made").len(), 0);
        // There is room again. The files are still open, from the launch before.
        faults.clear();
        let again = Line { path: 1, file: 1, ..line(OPEN) };
        let results = play(
            bench,
            &paths,
            &[
                MAKE,
                again,
                Line { file: 1, offset: PAGE, len: 10, ..line(READ) },
                Line { offset: full, len: 10, seed: 6, ..line(WRITE) },
                line(SYNC),
            ],
        );
        assert_eq!(results, [full as i64, 3 * PAGE as i64, 10, 10, 0]);
        let bytes = std::fs::read(&path).expect("it is there");
        assert_eq!(bytes.len() as u64, full + 10);
        assert!((0..full).all(|at| bytes[at as usize] == pattern(5, at)));
        assert!((0..10).all(|at| bytes[(full + at) as usize] == pattern(6, at)));
    });
}

/// A cut that the host refuses changes nothing.
#[test]
fn a_cut_that_fails_changes_nothing() {
    everywhere(|bench, faults, tree| {
        let path = tree.path("file");
        faults.add(Fault::new(FaultAt::Truncate, Errno::EIO).times(2));
        let size = 3 * PAGE as i64;
        let results = play(
            bench,
            std::slice::from_ref(&path),
            &[
                MAKE,
                Line { len: 3 * PAGE, seed: 7, ..line(WRITE) },
                Line { offset: 100, ..line(SET_LEN) },
                Line { offset: 10 * PAGE, ..line(SET_LEN) },
                line(SIZE),
                line(SYNC),
                Line { offset: 2 * PAGE + 5, ..line(SET_LEN) },
                line(CLOSE),
            ],
        );
        let eio = error(Errno::EIO);
        assert_eq!(results, [0, size, eio, eio, size, 0, 0, 0]);
        assert_pattern(&path, 7, 2 * PAGE + 5);
    });
}

/// A session that may only read: every way of writing is `EROFS`, and nothing has happened.
#[test]
fn a_session_that_may_only_read() {
    let (bench, _) = bench(|b| b.read_only(true));
    let tree = Tree::new();
    let paths = [tree.file("file", 1, 100), tree.path("new")];
    let results = play(
        &bench,
        &paths,
        &[
            Line { flags: WRITES, ..line(OPEN) },
            Line { path: 1, ..MAKE },
            line(UNLINK),
            Line { path: 0, other: 1, ..line(RENAME) },
            Line { path: 1, ..line(MKDIR) },
            line(OPEN),
            Line { len: 100, ..line(READ) },
            line(CLOSE),
        ],
    );
    let erofs = error(Errno::EROFS);
    assert_eq!(results, [erofs, erofs, erofs, erofs, erofs, 100, 100, 0]);
    assert_pattern(&paths[0], 1, 100);
    assert!(!paths[1].exists());
}

/// What permissions forbid is forbidden here as it is to this program (to root they forbid nothing).
#[test]
fn permissions_are_those_of_the_program() {
    let (bench, _) = bench(|b| b);
    let tree = Tree::new();
    let paths = [tree.file("file", 1, 100)];
    let mut permissions = std::fs::metadata(&paths[0]).expect("it is there").permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&paths[0], permissions).expect("it is ours");
    let want = match std::fs::File::options().read(true).write(true).open(&paths[0]) {
        Ok(file) => file.metadata().expect("it is there").len() as i64,
        Err(e) => -i64::from(e.raw_os_error().expect("from the system")),
    };
    let results = play(&bench, &paths, &[Line { flags: WRITES, ..line(OPEN) }]);
    assert_eq!(results, [want]);
}

/// Every frame is pinned or a twin: one more view is `EBUSY`, and when the others go it is there.
#[test]
fn a_twin_that_cannot_be_had() {
    // Seven pages and seven twins; the rest does not suffice for one more of each.
    let (bench, _) = bench(|b| b.cache_size(15 * PAGE));
    let tree = Tree::new();
    let path = tree.file("file", 2, 10 * PAGE);
    let results = play(
        &bench,
        std::slice::from_ref(&path),
        &[
            Line { flags: WRITES, ..line(OPEN) },
            Line { len: 8 * PAGE, flags: 0, seed: 3, ..line(MAP_MUT) },
            Line { len: 7 * PAGE, flags: 0, seed: 3, ..line(MAP_MUT) },
            line(FLUSH),
            line(CLOSE),
        ],
    );
    assert_eq!(results, [10 * PAGE as i64, error(Errno::EBUSY), 7 * PAGE as i64, 0, 0]);
    let bytes = std::fs::read(&path).expect("it is there");
    for (at, byte) in (0..).zip(&bytes) {
        assert_eq!(*byte, if at < 7 * PAGE { pattern(3, at) } else { pattern(2, at) });
    }
}

/// Faults at random while many threads write: each `sync` and `close` that has succeeded told the truth, and
/// in the end all bytes are there.
#[test]
fn a_host_that_fails_now_and_then() {
    for seed in 0..20u64 {
        let faults = Arc::new(Faults::new());
        let session = Session::builder()
            .emulated(emulated())
            .device_memory(64 << 20)
            .page_size(PAGE as u32)
            .cache_size((24 + seed) * PAGE)
            .direct(seed.is_multiple_of(2))
            .faults(faults.clone())
            .build_with()
            .unwrap_or_else(|e| panic!("{e}"));
        let bench = Bench::<RadixFifo> { session };
        let tree = Tree::new();
        let path = [tree.path("file")];
        // The file is held open by a launch of its own, so that a close that fails is no loss.
        let hold = [MAKE];
        bench.script((1, 1), GROUP_THREAD, &path, &hold);
        for i in 0..3 {
            let fault = Fault::new(FaultAt::Write, Errno::EIO).after(3 + seed + 11 * i);
            faults.add(fault.short_by(100 + seed as usize * 37));
        }
        let (piece, len) = (1 + seed * 7, 40_000);
        // Those who were told of an error have not written; the rest is theirs to repeat.
        let params = [seed, piece, len, 1];
        for _ in 0..10 {
            let storm = bench.storm((2, 8), stripes::PROGRAM_STRIPES, &path, params);
            if storm.failed == 0 {
                break;
            }
            assert_eq!(storm.errno, u64::from(Errno::EIO.raw()), "{storm:?}");
        }
        faults.clear();
        bench.script((1, 1), GROUP_THREAD, &path, &[MAKE, line(SYNC)]);
        assert_pattern(&path[0], seed, len);
    }
}
