//! What others do to a file: who sees it, and when. The sentences are those of `docs/consistency.md`.

use super::PAGE;
use super::writing::{line, play};
use crate::Policy;
use crate::device::ops::GROUP_THREAD;
use crate::device::pattern;
use crate::device::script::{CLOSE, FLUSH, KEEP, Line, OPEN, READ, SIZE, SYNC, WRITE, WRITES};
use crate::host::{Backend, Bench, Tree};
use gpufs::Errno;
use std::path::PathBuf;

const SIZE_BEFORE: u64 = 3 * PAGE + 50;

/// Opens path 0, reads all of it but its last page, and leaves it open.
fn begin<P: Policy>(bench: &Bench<P>, paths: &[PathBuf], flags: u32) {
    let len = 2 * PAGE;
    let bytes = play(
        bench,
        GROUP_THREAD,
        paths,
        &[(Line { flags, ..line(OPEN) }, Ok(SIZE_BEFORE)), (Line { len, ..line(READ) }, Ok(len))],
    );
    assert!((0..len).all(|at| bytes[at as usize] == pattern(1, at)));
}

/// Goes on with the file that `begin` left open, closes it for good, and opens it anew: the size then, and the
/// bytes.
fn reopen<P: Policy>(bench: &Bench<P>, paths: &[PathBuf], flags: u32) -> (Vec<u8>, u64) {
    let close = Line { flags: KEEP, ..line(CLOSE) };
    let open = Line { flags, ..line(OPEN) };
    let len = 2 * SIZE_BEFORE;
    let script = [open, close, close, open, Line { len, ..line(READ) }, line(CLOSE)];
    let mut at = 0;
    let script = script.map(|line| {
        let line = Line { at, ..line };
        at += line.len;
        line
    });
    let (results, mut bytes) = bench.script((1, 1), GROUP_THREAD, paths, &script);
    assert!(results.iter().all(|result| (*result as i64) >= 0), "{results:?}");
    bytes.truncate(results[4] as usize);
    (bytes, results[3])
}

/// Whatever the host does to a file, who opens it afterwards sees it, and who has it open keeps what it has.
pub fn changes_of_the_host_are_seen_by_the_next_open<P: Policy>(backend: &Backend) {
    type Change = fn(&Tree, &PathBuf);
    let changes: [(&str, Change, u64, u64); 5] = [
        (
            "overwritten",
            |_, path| std::fs::write(path, made(2, SIZE_BEFORE)).unwrap(),
            2,
            SIZE_BEFORE,
        ),
        ("longer", |_, path| std::fs::write(path, made(1, 5 * PAGE)).unwrap(), 1, 5 * PAGE),
        (
            "cut",
            |_, path| {
                std::fs::File::options().write(true).open(path).unwrap().set_len(PAGE + 7).unwrap()
            },
            1,
            PAGE + 7,
        ),
        (
            "replaced",
            |tree, path| {
                std::fs::write(tree.path("other"), made(3, SIZE_BEFORE)).unwrap();
                std::fs::rename(tree.path("other"), path).unwrap();
            },
            3,
            SIZE_BEFORE,
        ),
        (
            "removed and made again",
            |_, path| {
                std::fs::remove_file(path).unwrap();
                std::fs::write(path, made(4, 10)).unwrap();
            },
            4,
            10,
        ),
    ];
    for flags in [0, WRITES] {
        for (what, change, seed, len) in changes {
            let tree = Tree::new();
            let Some(bench) = backend.session::<P>(|b| b.page_size(4096).cache_size(16 * PAGE))
            else {
                return;
            };
            let paths = [tree.file("file", 1, SIZE_BEFORE)];
            begin(&bench, &paths, flags);
            change(&tree, &paths[0]);
            // Joins those who have it open: the same size, the same bytes in what is cached.
            let open = (Line { flags, ..line(OPEN) }, Ok(SIZE_BEFORE));
            let read = (Line { len: PAGE, ..line(READ) }, Ok(PAGE));
            let close = (Line { flags: KEEP, ..line(CLOSE) }, Ok(0));
            let bytes = play(
                &bench,
                GROUP_THREAD,
                &paths,
                &[open, read, (line(SIZE), Ok(SIZE_BEFORE)), close],
            );
            assert!((0..PAGE).all(|at| bytes[at as usize] == pattern(1, at)), "{what}: cached");
            let (bytes, size) = reopen(&bench, &paths, flags);
            assert_eq!((size, bytes.len() as u64), (len, len), "{what}");
            assert!(bytes == made(seed, len), "{what}: who opens it anew sees it");
        }
    }
}

/// What a device has flushed another one sees when it opens the file; what it has not, it does not.
pub fn changes_of_a_device_are_seen_when_flushed<P: Policy>(backend: &Backend) {
    let tree = Tree::new();
    let session = || backend.session::<P>(|b| b.page_size(4096).cache_size(16 * PAGE));
    let (Some(writer), Some(reader)) = (session(), session()) else { return };
    let paths = [tree.file("file", 1, SIZE_BEFORE)];
    let see = |seed: u64| {
        let script = [
            (line(OPEN), Ok(SIZE_BEFORE)),
            (Line { offset: PAGE - 4, len: 8, ..line(READ) }, Ok(8)),
            (line(CLOSE), Ok(0)),
        ];
        let bytes = play(&reader, GROUP_THREAD, &paths, &script);
        let want = if seed == 1 { PAGE - 4 } else { 0 };
        assert!((0..8).all(|i| bytes[i as usize] == pattern(seed, want + i)), "seed {seed}");
    };
    see(1);
    let open = (Line { flags: WRITES, ..line(OPEN) }, Ok(SIZE_BEFORE));
    for (seed, then) in [(2, Some(FLUSH)), (3, Some(SYNC)), (4, None)] {
        let write = Line { offset: PAGE - 4, len: 8, seed, ..line(WRITE) };
        play(&writer, GROUP_THREAD, &paths, &[open, (write, Ok(8))]);
        see(seed - 1);
        if let Some(what) = then {
            let close = (line(CLOSE), Ok(0));
            play(&writer, GROUP_THREAD, &paths, &[open, (line(what), Ok(0)), close]);
            see(seed);
        }
        // The last close flushes: after this launch's, that of the one that wrote.
        let close = (Line { flags: KEEP, ..line(CLOSE) }, Ok(0));
        play(&writer, GROUP_THREAD, &paths, &[open, close, close]);
        see(seed);
    }
}

/// A file that nobody can open any more is still a file to those who have it open.
pub fn a_removed_file_lives_while_it_is_open<P: Policy>(backend: &Backend) {
    let tree = Tree::new();
    let Some(bench) = backend.session::<P>(|b| b.page_size(4096).cache_size(9 * PAGE)) else {
        return;
    };
    let paths = [tree.file("file", 1, SIZE_BEFORE)];
    begin(&bench, &paths, WRITES);
    std::fs::remove_file(&paths[0]).expect("it is there");
    let len = 20 * PAGE;
    let script = [
        (Line { flags: WRITES, ..line(OPEN) }, Ok(SIZE_BEFORE)),
        // More than the cache holds: it goes to the host and comes back.
        (Line { len, seed: 5, ..line(WRITE) }, Ok(len)),
        (line(SYNC), Ok(0)),
        (Line { len, ..line(READ) }, Ok(len)),
        (Line { flags: KEEP, ..line(CLOSE) }, Ok(0)),
        (line(CLOSE), Ok(0)),
        (Line { flags: WRITES, ..line(OPEN) }, Err(Errno::ENOENT)),
    ];
    let bytes = play(&bench, GROUP_THREAD, &paths, &script);
    assert!((0..len).all(|at| bytes[(len + at) as usize] == pattern(5, at)));
}

fn made(seed: u64, len: u64) -> Vec<u8> {
    (0..len).map(|at| pattern(seed, at)).collect()
}
