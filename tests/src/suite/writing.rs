//! Writing: what the file has afterwards, and what it does not.

use super::{GROUPS, PAGE};
use crate::Policy;
use crate::device::ops::{GROUP_THREAD, failure};
use crate::device::script::{
    APPEND, APPENDS, CLOSE, CREATE, CREATE_NEW, FLUSH, Line, MAP_MUT, MKDIR, OPEN, READ, RENAME,
    RENAME_NEW, RMDIR, SET_LEN, SIZE, SYNC, TEMPORARY, TRUNCATE, UNLINK, WRITE, WRITE_ONCE, WRITES,
};
use crate::device::{pattern, stripes};
use crate::host::{Backend, Bench, Tree};
use gpufs::Errno;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A line with what most lines have in common.
pub(super) fn line(what: u32) -> Line {
    Line { what, ..bytemuck::Zeroable::zeroed() }
}

/// Gives each line room for its bytes.
fn lay_out(lines: &mut [Line]) {
    let mut at = 0;
    for line in lines {
        line.at = at;
        at += line.len.next_multiple_of(8);
    }
}

/// Carries lines out by one group, and fails unless each answers as it should.
#[track_caller]
pub(super) fn play<P: Policy>(
    bench: &Bench<P>,
    group: u32,
    paths: &[PathBuf],
    script: &[(Line, Result<u64, Errno>)],
) -> Vec<u8> {
    let mut lines: Vec<Line> = script.iter().map(|(line, _)| *line).collect();
    lay_out(&mut lines);
    let shape = [(1, 1), (1, 32), (1, 64)][group as usize];
    let (results, bytes) = bench.script(shape, group, paths, &lines);
    for ((line, want), got) in script.iter().zip(results) {
        assert_eq!(got as i64, want.unwrap_or_else(failure) as i64, "{line:?}");
    }
    bytes
}

/// The file is the pattern of `seed`, `len` bytes of it.
#[track_caller]
fn assert_pattern(path: &Path, seed: u64, len: u64) {
    let bytes = std::fs::read(path).expect("the file is there");
    assert_eq!(bytes.len() as u64, len);
    let wrong = (0..).zip(&bytes).find(|(at, byte)| **byte != pattern(seed, *at));
    assert_eq!(wrong, None, "the first wrong byte of {path:?}");
}

/// What was written is read back, and is in the file when `sync` or `close` returns; the file grows with it.
pub fn written_bytes_are_the_files<P: Policy>(backend: &Backend) {
    let tree = Tree::new();
    let Some(bench) = backend.session::<P>(|b| b.page_size(4096).cache_size(16 * PAGE)) else {
        return;
    };
    let len = 5 * PAGE + 123;
    for group in GROUPS {
        let paths = [tree.path(format!("file{group}"))];
        let bytes = play(
            &bench,
            group,
            &paths,
            &[
                (Line { flags: WRITES | CREATE, ..line(OPEN) }, Ok(0)),
                (Line { len, seed: 3, ..line(WRITE) }, Ok(len)),
                (line(SIZE), Ok(len)),
                (Line { len, ..line(READ) }, Ok(len)),
                (line(SYNC), Ok(0)),
                (line(CLOSE), Ok(0)),
            ],
        );
        assert_pattern(&paths[0], 3, len);
        let back = &bytes[len.next_multiple_of(8) as usize..][..len as usize];
        assert!((0..).zip(back).all(|(at, byte)| *byte == pattern(3, at)));
    }
    // A page of which all is written is not fetched.
    assert_eq!(bench.taken(gpu_abi::Op::Read), 0);
    assert_eq!(bench.stats().bytes_written, 3 * len);
}

/// Threads that write bytes of the same pages, in pieces of all sizes, in caches of all sizes.
pub fn threads_write_side_by_side<P: Policy>(backend: &Backend) {
    let tree = Tree::new();
    let cases = [(1u64, 9000u64, 40u64), (7, 20_000, 40), (64, 60_000, 40), (5000, 300_000, 72)];
    for (piece, len, frames) in cases {
        for bits in [0, 1 << 16, 1 << 17, 1 << 18] {
            // A view pins all of its pages and as many twins: there must be room for every thread's.
            let pins = 32 * 2 * (piece / PAGE + 2);
            let frames = if bits == 1 << 16 { frames.max(pins) } else { frames };
            let Some(bench) = backend.session::<P>(|b| b.page_size(4096).cache_size(frames * PAGE))
            else {
                return;
            };
            let path = tree.path(format!("file{piece}-{bits}"));
            // Views need the file to have its length.
            std::fs::write(&path, vec![0; if bits == 1 << 16 { len as usize } else { 0 }])
                .expect("there is room");
            let params = [piece, piece, len, 1 | bits];
            bench
                .storm((2, 16), stripes::PROGRAM_STRIPES, std::slice::from_ref(&path), params)
                .assert_clean(32);
            assert_pattern(&path, piece, len);
        }
    }
}

/// What a device has not written it does not write: the host may change it meanwhile.
pub fn bytes_of_others_survive<P: Policy>(backend: &Backend) {
    let tree = Tree::new();
    let Some(bench) = backend.session::<P>(|b| b.page_size(4096).cache_size(16 * PAGE)) else {
        return;
    };
    let path = tree.path("file");
    let paths = [path.clone()];
    std::fs::write(&path, [1; 3 * PAGE as usize]).expect("there is room");
    let open = Line { flags: WRITES, ..line(OPEN) };
    let size = 3 * PAGE;
    // The file stays open, and its pages dirty, from one launch to the next.
    play(
        &bench,
        GROUP_THREAD,
        &paths,
        &[
            (open, Ok(size)),
            (Line { offset: 10, len: 5, seed: 1, ..line(WRITE) }, Ok(5)),
            (Line { offset: 100, len: 7, seed: 2, ..line(WRITE) }, Ok(7)),
            (Line { offset: PAGE - 3, len: 6, seed: 3, ..line(WRITE) }, Ok(6)),
            (Line { offset: 2 * PAGE, len: 9, flags: 3, seed: 4, ..line(MAP_MUT) }, Ok(9)),
        ],
    );
    std::fs::write(&path, [2; 3 * PAGE as usize]).expect("there is room");
    play(&bench, GROUP_THREAD, &paths, &[(open, Ok(size)), (line(SYNC), Ok(0))]);
    let mut want = vec![2; 3 * PAGE as usize];
    for (offset, len, seed) in [(10, 5, 1), (100, 7, 2), (PAGE - 3, 6, 3)] {
        for i in 0..len {
            want[(offset + i) as usize] = pattern(seed, i);
        }
    }
    for i in [0, 4, 8] {
        want[(2 * PAGE + i) as usize] = pattern(4, i);
    }
    let got = std::fs::read(&path).expect("it is there");
    let wrong = got.iter().zip(&want).position(|(a, b)| a != b);
    assert_eq!(wrong, None, "the first wrong byte");
}

/// Each kind of opening does what its name says.
pub fn ways_to_open<P: Policy>(backend: &Backend) {
    let tree = Tree::new();
    let Some(bench) = backend.session::<P>(|b| b.page_size(4096).cache_size(16 * PAGE)) else {
        return;
    };
    let paths = [tree.path("new"), tree.file("old", 5, 2 * PAGE + 10), tree.path("missing")];
    let old = Line { path: 1, ..line(OPEN) };
    let both = 2 * PAGE + 10;
    play(
        &bench,
        GROUP_THREAD,
        &paths,
        &[
            // Not there, and not to be made.
            (Line { path: 2, flags: WRITES, ..line(OPEN) }, Err(Errno::ENOENT)),
            (Line { flags: CREATE_NEW, ..line(OPEN) }, Ok(0)),
            (Line { flags: CREATE_NEW, file: 1, ..line(OPEN) }, Err(Errno::EEXIST)),
            (line(CLOSE), Ok(0)),
            // For reading alone.
            (old, Ok(both)),
            (Line { len: 1, ..line(WRITE) }, Err(Errno::EBADF)),
            (line(SYNC), Err(Errno::EBADF)),
            (line(SET_LEN), Err(Errno::EBADF)),
            (Line { len: 1, ..line(MAP_MUT) }, Err(Errno::EBADF)),
            (line(CLOSE), Ok(0)),
            // For writing alone: nothing is fetched.
            (Line { flags: WRITE_ONCE, ..old }, Ok(both)),
            (Line { len: 1, ..line(READ) }, Err(Errno::EBADF)),
            (Line { offset: 50, len: 4, seed: 8, ..line(WRITE) }, Ok(4)),
            (line(CLOSE), Ok(0)),
            // At the end alone.
            (Line { flags: APPENDS, ..old }, Ok(both)),
            (Line { len: 1, ..line(WRITE) }, Err(Errno::EBADF)),
            (Line { len: 6, seed: 9, ..line(APPEND) }, Ok(both)),
            (line(SIZE), Ok(both + 6)),
            (Line { offset: both, len: 6, ..line(READ) }, Ok(6)),
            (line(CLOSE), Ok(0)),
            // Past the end nothing can be mapped.
            (Line { flags: WRITES, ..old }, Ok(both + 6)),
            (Line { offset: both, len: 7, ..line(MAP_MUT) }, Err(Errno::EINVAL)),
            (Line { offset: both + 100, ..line(SET_LEN) }, Ok(0)),
            (Line { offset: both, len: 100, flags: 9, seed: 2, ..line(MAP_MUT) }, Ok(100)),
            (line(CLOSE), Ok(0)),
        ],
    );
    assert_eq!(bench.taken(gpu_abi::Op::Append), 1);
    let bytes = std::fs::read(&paths[1]).expect("it is there");
    assert_eq!(bytes.len() as u64, both + 100);
    assert!((0..4).all(|i| bytes[50 + i as usize] == pattern(8, i)));
    assert!((0..50).chain(54..both).all(|i| bytes[i as usize] == pattern(5, i)));
    let tail = &bytes[both as usize..];
    let want = |i: u64| match i {
        _ if i.is_multiple_of(10) => pattern(2, i),
        0..6 => pattern(9, i),
        _ => 0,
    };
    assert!((0..100).all(|i| tail[i as usize] == want(i)));

    // Cut, but not while it is open for writing here.
    play(
        &bench,
        GROUP_THREAD,
        &paths,
        &[
            (Line { flags: CREATE | TRUNCATE, ..old }, Ok(0)),
            (Line { len: 4, seed: 1, ..line(WRITE) }, Ok(4)),
            (Line { flags: CREATE | TRUNCATE, file: 1, ..old }, Ok(4)),
            (Line { file: 1, ..line(CLOSE) }, Ok(0)),
            (line(CLOSE), Ok(0)),
        ],
    );
    assert_pattern(&paths[1], 1, 4);

    // What is temporary goes nowhere.
    play(
        &bench,
        GROUP_THREAD,
        &paths,
        &[
            (Line { flags: CREATE | TEMPORARY, ..line(OPEN) }, Ok(0)),
            (Line { len: PAGE, seed: 1, ..line(WRITE) }, Ok(PAGE)),
            (line(SYNC), Ok(0)),
            (Line { len: PAGE, ..line(READ) }, Ok(PAGE)),
            (line(CLOSE), Ok(0)),
        ],
    );
    assert_eq!(std::fs::metadata(&paths[0]).expect("it was made").len(), 0);
    // Nor does it stay in the cache of a file that has other bytes.
    let bytes = play(
        &bench,
        GROUP_THREAD,
        &paths,
        &[
            (Line { flags: TEMPORARY, ..old }, Ok(4)),
            (Line { len: 2, seed: 9, ..line(WRITE) }, Ok(2)),
            (line(CLOSE), Ok(0)),
            (old, Ok(4)),
            (Line { len: 4, ..line(READ) }, Ok(4)),
            (line(CLOSE), Ok(0)),
        ],
    );
    assert!((0..4).all(|i| bytes[8 + i as usize] == pattern(1, i)));
}

/// One file under several names and options is one file to the device.
pub fn one_file_by_several_names<P: Policy>(backend: &Backend) {
    let tree = Tree::new();
    let Some(bench) = backend.session::<P>(|b| b.page_size(4096).cache_size(16 * PAGE)) else {
        return;
    };
    let paths = [tree.file("file", 5, 100), tree.path("link")];
    std::fs::hard_link(&paths[0], &paths[1]).expect("the tree is ours");
    let other = Line { path: 1, file: 1, ..line(OPEN) };
    let read = |file, offset, len| Line { file, offset, len, ..line(READ) };
    let bytes = play(
        &bench,
        GROUP_THREAD,
        &paths,
        &[
            (Line { flags: WRITES, ..line(OPEN) }, Ok(100)),
            (Line { offset: 90, len: 20, seed: 6, ..line(WRITE) }, Ok(20)),
            // By another name, for reading, before anything is in the file.
            (other, Ok(110)),
            (read(1, 0, 200), Ok(110)),
            (Line { flags: WRITES, file: 2, ..other }, Ok(110)),
            (Line { file: 2, offset: 300, len: 1, seed: 7, ..line(WRITE) }, Ok(1)),
            (read(0, 90, 300), Ok(211)),
            (line(CLOSE), Ok(0)),
            (Line { file: 1, ..line(CLOSE) }, Ok(0)),
            (Line { file: 2, ..line(CLOSE) }, Ok(0)),
        ],
    );
    // The room of the first write, then the first read's.
    let got = &bytes[24..][..110];
    assert!((0..90).all(|i| got[i as usize] == pattern(5, i)));
    assert!((0..20).all(|i| got[90 + i as usize] == pattern(6, i)));
    let file = std::fs::read(&paths[0]).expect("it is there");
    assert_eq!((file.len(), file[300], &file[110..300]), (301, pattern(7, 0), &[0; 190][..]));
}

/// Names: made, changed and removed, with the errors of `std::fs`.
pub fn names_change<P: Policy>(backend: &Backend) {
    let tree = Tree::new();
    let Some(bench) = backend.session::<P>(|b| b.page_size(4096).cache_size(16 * PAGE)) else {
        return;
    };
    let paths = [
        tree.file("a", 1, 10),
        tree.file("b", 2, 20),
        tree.path("dir"),
        tree.path("dir/c"),
        tree.path("missing/d"),
    ];
    let to = |what, path, other| Line { path, other, ..line(what) };
    play(
        &bench,
        GROUP_THREAD,
        &paths,
        &[
            (to(MKDIR, 2, 0), Ok(0)),
            (to(MKDIR, 2, 0), Err(Errno::EEXIST)),
            (to(MKDIR, 4, 0), Err(Errno::ENOENT)),
            (to(RENAME_NEW, 0, 1), Err(Errno::EEXIST)),
            (to(RENAME, 0, 3), Ok(0)),
            (to(RENAME, 0, 3), Err(Errno::ENOENT)),
            (to(RMDIR, 2, 0), Err(Errno::ENOTEMPTY)),
            (to(UNLINK, 2, 0), Err(Errno::EISDIR)),
            // Over another; and it is the file that is open, not the name.
            (Line { path: 1, flags: WRITES, ..line(OPEN) }, Ok(20)),
            (Line { offset: 20, len: 5, seed: 3, ..line(WRITE) }, Ok(5)),
            (to(RENAME, 1, 3), Ok(0)),
            (Line { offset: 0, len: 30, ..line(READ) }, Ok(25)),
            (line(FLUSH), Ok(0)),
            (to(UNLINK, 3, 0), Ok(0)),
            (to(UNLINK, 3, 0), Err(Errno::ENOENT)),
            (Line { offset: 25, len: 5, seed: 3, ..line(WRITE) }, Ok(5)),
            (line(SYNC), Ok(0)),
            (Line { offset: 0, len: 64, ..line(READ) }, Ok(30)),
            (line(CLOSE), Ok(0)),
            (to(RMDIR, 2, 0), Ok(0)),
            (to(RMDIR, 2, 0), Err(Errno::ENOENT)),
        ],
    );
    let left = std::fs::read_dir(tree.root()).expect("it is there").count();
    assert_eq!(left, 0);
}

/// Records appended by many threads, of two devices and the host: all are there, whole.
pub fn appended_records_all_survive<P: Policy>(backend: &Backend) {
    let tree = Tree::new();
    let (Some(one), Some(two)) = (backend.session::<P>(|b| b), backend.session::<P>(|b| b)) else {
        return;
    };
    let path = tree.path("log");
    let paths = std::slice::from_ref(&path);
    let (threads, records) = (24, 10);
    std::thread::scope(|scope| {
        for (number, bench) in [(1, &one), (2, &two)] {
            scope.spawn(move || {
                let params = [number, records, 0, 0];
                bench.storm((2, 12), stripes::PROGRAM_APPEND, paths, params).assert_clean(threads);
            });
        }
        scope.spawn(|| {
            use std::io::Write;
            let options = std::fs::File::options().append(true).create(true).open(&path);
            let mut file = options.expect("the tree is ours");
            for record in 0..100u32 {
                let numbers = [3, 0, record, !0];
                file.write_all(bytemuck::bytes_of(&numbers)).expect("there is room");
            }
        });
    });
    let bytes = std::fs::read(&path).expect("it is there");
    let got: BTreeSet<[u32; 4]> =
        bytes.as_chunks::<16>().0.iter().map(|c| bytemuck::pod_read_unaligned(c)).collect();
    let device =
        |d| (0..threads as u32).flat_map(move |t| (0..records as u32).map(move |r| [d, t, r, !0]));
    let want: BTreeSet<_> =
        device(1).chain(device(2)).chain((0..100).map(|r| [3, 0, r, !0])).collect();
    assert_eq!(bytes.len(), 16 * want.len());
    assert!(got == want);
}

/// Of many threads that make a file one has made it.
pub fn one_of_many_makes_a_file<P: Policy>(backend: &Backend) {
    let tree = Tree::new();
    let Some(bench) = backend.session::<P>(|b| b) else { return };
    for i in 0..4 {
        let path = [tree.path(format!("new{i}"))];
        let storm = bench.storm((4, 32), stripes::PROGRAM_CREATE_NEW, &path, [0; 4]);
        storm.assert_clean(128);
        assert_eq!(storm.other, 1);
    }
}
