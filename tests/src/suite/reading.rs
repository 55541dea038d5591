//! Bytes: those of the file, at every granularity, by every way.

use super::{GROUPS, PAGE, ranges};
use crate::Policy;
use crate::device::ops::{ASYNC, GROUP_THREAD, MAP, Op, READ, WHOLE, failure};
use crate::device::pattern;
use crate::host::{Backend, Bench, Tree};
use gpufs::Errno;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Does `what` on all ranges of a file and compares with `std::fs`.
#[track_caller]
fn compare<P: Policy>(bench: &Bench<P>, what: u32, path: &Path, list: &[(u64, u64)]) {
    let file = std::fs::File::open(path).expect("the file is there");
    for group in GROUPS {
        let (results, bytes) =
            bench.ops((2, 64), group, &[path.to_path_buf()], &ranges(what, list));
        let mut at = 0;
        for (i, &(offset, len)) in list.iter().enumerate() {
            let mut want = vec![0; len as usize];
            let mut n = 0;
            // Past what any file can have, read_at of the oracle is an error.
            if offset < 1 << 62 {
                loop {
                    match file.read_at(&mut want[n..], offset + n as u64).expect("it can be read") {
                        0 => break,
                        more => n += more,
                    }
                }
            }
            assert_eq!(results[i], n as u64, "{offset}+{len}, group {group}, way {what}");
            assert!(bytes[at..at + n] == want[..n], "{offset}+{len}, group {group}, way {what}");
            at += len as usize;
        }
    }
}

/// read_at, map and asynchronous reads return the file's bytes, across pages and cut at the end.
pub fn ranges_at_all_granularities<P: Policy>(backend: &Backend) {
    let tree = Tree::new();
    for page in [4096, 16384] {
        let Some(bench) = backend.session::<P>(|b| b.page_size(page).cache_size(64 << 14)) else {
            return;
        };
        let page = u64::from(page);
        let path = tree.file("file", 1, 9 * page + 77);
        let size = 9 * page + 77;
        let list = [
            (0, 1),
            (0, page),
            (1, page - 1),
            (page - 1, 2),
            (page, page),
            (page / 2, page),
            (3 * page - 5, 2 * page + 10),
            (5, 6 * page),
            (size - 1, 1),
            (size - 5, 100),
            (9 * page - 3, 3 * page),
            (8 * page, page + 77),
        ];
        for what in [READ, MAP, ASYNC] {
            compare(&bench, what, &path, &list);
        }
    }
}

/// At and past the end, in an empty file, and of no bytes at all: 0.
pub fn past_the_end_and_empty<P: Policy>(backend: &Backend) {
    let tree = Tree::new();
    let Some(bench) = backend.session::<P>(|b| b.page_size(4096).cache_size(1 << 20)) else {
        return;
    };
    let (empty, file) = (tree.file("empty", 1, 0), tree.file("file", 2, 2 * PAGE));
    let far = [
        (0, 0),
        (7, 0),
        (2 * PAGE, 10),
        (2 * PAGE + 1, 10),
        (PAGE << 30, 10),
        (PAGE << 40, 10),
        (u64::MAX - 3, 100),
        (u64::MAX, 1),
    ];
    for what in [READ, MAP, ASYNC] {
        compare(&bench, what, &file, &far);
        compare(&bench, what, &empty, &[(0, 10), (0, 0), (PAGE, 10), (3, 2 * PAGE)]);
    }
    // What has no size is asked for any byte, but page numbers have 32 bits.
    for what in [READ, MAP, ASYNC] {
        let (results, _) = bench.ops(
            (1, 32),
            GROUP_THREAD,
            std::slice::from_ref(&empty),
            &ranges(what, &[(u64::MAX, 9)]),
        );
        assert_eq!(results, [failure(Errno::EFBIG)]);
    }
}

/// A whole file is one request where it fits in what one can bring, and its bytes at every size.
pub fn whole_files_in_one_request<P: Policy>(backend: &Backend) {
    let tree = Tree::new();
    let Some(bench) = backend.session::<P>(|b| b.page_size(4096).cache_size(16 * PAGE)) else {
        return;
    };
    // A transfer slot has 8 KiB; what fits in none comes through the cache, by a second request.
    let sizes = [0, 1, 4095, 4096, 8191, 8192, 8193, 40_000, (2 << 20) + 5];
    let paths: Vec<_> =
        (0u64..).zip(sizes).map(|(i, size)| tree.file(format!("{i}"), i, size)).collect();
    for room in [0, 1, 4096, 8192, 8193, 50_000, (2 << 20) + 4096] {
        for group in GROUPS {
            let before = bench.taken(gpu_abi::Op::ReadFile);
            let ops: Vec<_> = (0u64..)
                .zip(&paths)
                .map(|(i, _)| Op {
                    what: WHOLE,
                    path: i as u32,
                    at: i * room,
                    len: room,
                    ..bytemuck::Zeroable::zeroed()
                })
                .collect();
            let (results, bytes) = bench.ops((1, 64), group, &paths, &ops);
            for (i, (path, op)) in paths.iter().zip(&ops).enumerate() {
                let mut want = std::fs::read(path).expect("it is there");
                want.truncate(room as usize);
                assert_eq!(results[i], want.len() as u64, "{path:?} to {room} bytes, {group}");
                let got = &bytes[op.at as usize..][..want.len()];
                assert!(got == want, "{path:?} to {room} bytes, {group}");
            }
            assert_eq!(bench.taken(gpu_abi::Op::ReadFile) - before, paths.len() as u64);
        }
    }
    let stats = bench.stats();
    assert!(stats.evictions <= stats.misses, "{stats:?}");
}

/// Slices of a view, one after the other, are the range; as_slice where it lies in one page.
pub fn views_lend_the_files_bytes<P: Policy>(backend: &Backend) {
    let tree = Tree::new();
    let Some(bench) = backend.session::<P>(|b| b.page_size(4096).cache_size(1 << 20)) else {
        return;
    };
    let path = tree.file("file", 3, 40 * PAGE + 1);
    let list: Vec<_> = (0..40)
        .map(|i| (i * PAGE + i * 97 % PAGE, i * 701 % (7 * PAGE)))
        .chain([(40 * PAGE, 1), (40 * PAGE, 100), (33 * PAGE, 8 * PAGE)])
        .collect();
    compare(&bench, MAP, &path, &list);
}

/// A view of more pages than it can hold is refused whole, and holds nothing.
pub fn a_view_spans_at_most_its_maximum<P: Policy>(backend: &Backend) {
    let tree = Tree::new();
    let Some(bench) = backend.session::<P>(|b| b.page_size(4096).cache_size(16 * PAGE)) else {
        return;
    };
    let path = tree.file("file", 3, 40 * PAGE);
    let list =
        [(0, 8 * PAGE), (1, 8 * PAGE - 1), (1, 8 * PAGE), (0, 9 * PAGE), (33 * PAGE, 9 * PAGE)];
    for group in GROUPS {
        let (results, _) =
            bench.ops((1, 64), group, std::slice::from_ref(&path), &ranges(MAP, &list));
        let refused = failure(Errno::EINVAL);
        assert_eq!(results, [8 * PAGE, 8 * PAGE - 1, refused, refused, 7 * PAGE], "{group}");
    }
}

/// A file that is shorter than it was when it was opened: reads end where it does.
pub fn a_file_cut_while_open_reads_short<P: Policy>(backend: &Backend) {
    let tree = Tree::new();
    let Some(bench) = backend.session::<P>(|b| b.page_size(4096).cache_size(1 << 20)) else {
        return;
    };
    // Whenever the cut comes, what is read is a beginning of what was asked for.
    for round in 0..8 {
        let path = tree.file(format!("file{round}"), 4, 32 * PAGE);
        let list: Vec<_> = (0..128).map(|i| (i % 32 * PAGE + 9, PAGE)).collect();
        let (results, bytes) = std::thread::scope(|scope| {
            scope.spawn(|| {
                let file = std::fs::File::options().write(true).open(&path).expect("it is there");
                for pages in (0..32).rev() {
                    file.set_len(pages * PAGE + 5).expect("it can be cut");
                }
            });
            let what = if round % 2 == 0 { READ } else { MAP };
            bench.ops((2, 64), GROUP_THREAD, std::slice::from_ref(&path), &ranges(what, &list))
        });
        for (i, &(offset, len)) in list.iter().enumerate() {
            assert!(results[i] <= len, "{}", results[i] as i64);
            let at = i * PAGE as usize;
            let got = &bytes[at..at + results[i] as usize];
            // A read of the system's own that a cut overtakes may return zeroes for what is cut off.
            let fine = |(o, b): (u64, &u8)| *b == pattern(4, o) || *b == 0;
            assert!((offset..).zip(got).all(fine), "{round} {i}");
        }
    }
}

/// Files of size 0 with content (procfs) have it here too.
pub fn files_without_a_size_have_content<P: Policy>(backend: &Backend) {
    let path = PathBuf::from("/proc/self/limits");
    let Some(bench) = backend.session::<P>(|b| b.page_size(4096).cache_size(1 << 20)) else {
        return;
    };
    let Ok(want) = std::fs::read(&path) else {
        eprintln!("skipped: there is no {}", path.display());
        return;
    };
    assert_eq!(std::fs::metadata(&path).expect("it is there").len(), 0);
    for what in [READ, MAP, ASYNC] {
        for group in GROUPS {
            let (results, bytes) = bench.ops(
                (1, 64),
                group,
                std::slice::from_ref(&path),
                &ranges(what, &[(0, 3 * PAGE)]),
            );
            assert_eq!(results, [want.len() as u64]);
            assert!(bytes[..want.len()] == want);
        }
    }
}

/// What is no regular file has no version, and yet no part in another's pages.
pub fn devices_do_not_share_pages<P: Policy>(backend: &Backend) {
    let Some(bench) = backend.session::<P>(|b| b.page_size(4096).cache_size(1 << 20)) else {
        return;
    };
    let paths = ["/dev/zero", "/dev/urandom", "/dev/null"].map(PathBuf::from);
    if !paths.iter().all(|path| path.exists()) {
        eprintln!("skipped: this system has no /dev");
        return;
    }
    for _ in 0..3 {
        for (i, path) in paths.iter().enumerate() {
            let (results, bytes) = bench.ops(
                (1, 32),
                GROUP_THREAD,
                std::slice::from_ref(path),
                &ranges(READ, &[(0, 64)]),
            );
            let zeroes = bytes.iter().all(|byte| *byte == 0);
            assert_eq!((results[0], zeroes), (if i == 2 { 0 } else { 64 }, i != 1), "{path:?}");
        }
    }
}
