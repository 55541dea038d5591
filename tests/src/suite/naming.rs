//! Paths: opened, described, listed, refused.

use super::{GROUPS, PAGE};
use crate::Policy;
use crate::device::ops::{
    DIRECTORY, GROUP_THREAD, LIST, NO_FOLLOW, OPEN, Op, READ, STAT, STAT_OPEN, WHOLE, failure,
};
use crate::device::storms;
use crate::host::{Backend, Tree};
use bytemuck::Zeroable;
use gpufs::{DirEntry, Errno, FileInfo, dir::entries};
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirEntryExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::PathBuf;

const O_DIRECTORY: i32 = 0o200000;
const O_NOFOLLOW: i32 = 0o400000;

/// However many open one file at once: one request.
pub fn opens_of_one_file_cost_one_request<P: Policy>(backend: &Backend) {
    let tree = Tree::new();
    let Some(bench) = backend.session::<P>(|b| b.page_size(4096).cache_size(1 << 20)) else {
        return;
    };
    let path = tree.file("file", 5, 3 * PAGE);
    let storm = bench.storm(backend.many(), storms::PROGRAM_OPEN_SAME, &[path], [5, 0, 0, 0]);
    storm.assert_clean(backend.many_threads());
    assert_eq!(bench.stats().opens, backend.many_threads());
    assert_eq!(bench.taken(gpu_abi::Op::Open), 1);
    assert_eq!(bench.taken(gpu_abi::Op::Read), 1, "all bytes are in one page");
}

/// The errors of opening, reading and listing are those of the operating system.
pub fn errors_are_those_of_std_fs<P: Policy>(backend: &Backend) {
    let tree = Tree::new();
    let Some(bench) = backend.session::<P>(|b| b.page_size(4096).cache_size(1 << 20)) else {
        return;
    };
    let file = tree.file("file", 6, 100);
    std::fs::create_dir(tree.path("dir")).expect("a fresh directory");
    symlink(&file, tree.path("link")).expect("a fresh link");
    symlink(tree.path("loop"), tree.path("loop")).expect("a fresh link");
    symlink(tree.path("nowhere"), tree.path("dangling")).expect("a fresh link");
    let secret = tree.file("secret", 6, 10);
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o000))
        .expect("it is ours");
    let paths: Vec<PathBuf> = [
        "file",
        "dir",
        "link",
        "loop",
        "dangling",
        "missing",
        "missing/file",
        "file/below",
        "secret",
    ]
    .iter()
    .map(|name| tree.path(name))
    .chain([
        tree.path("n".repeat(256)),
        tree.path(format!("{}x", "d/".repeat(2100))),
        PathBuf::new(),
    ])
    .collect();
    let mut ops = Vec::new();
    let mut want = Vec::new();
    for (i, path) in paths.iter().enumerate() {
        for (flags, os_flags) in [(0, 0), (DIRECTORY, O_DIRECTORY), (NO_FOLLOW, O_NOFOLLOW)] {
            let outcome = std::fs::OpenOptions::new().read(true).custom_flags(os_flags).open(path);
            ops.push(Op { what: OPEN, path: i as u32, flags, ..Op::zeroed() });
            want.push(outcome.and_then(|file| Ok(file.metadata()?.len())));
        }
        ops.push(Op { what: STAT, path: i as u32, len: 64, at: 4096, ..Op::zeroed() });
        want.push(std::fs::metadata(path).map(|m| m.len()));
        ops.push(Op { what: WHOLE, path: i as u32, at: 4096, ..Op::zeroed() });
        want.push(std::fs::read(path).map(|_| 0));
    }
    let is_dir = ops.len();
    ops.push(Op { what: READ, path: 1, len: 10, ..Op::zeroed() });
    want.push(std::fs::read(&paths[1]).map(|_| 0));
    let lists_a_file = ops.len();
    ops.push(Op { what: LIST, path: 0, len: 600, offset: 600, ..Op::zeroed() });
    want.push(std::fs::read_dir(&paths[0]).map(|_| 0));

    for group in GROUPS {
        let (results, _) = bench.ops((2, 64), group, &paths, &ops);
        for ((op, result), want) in ops.iter().zip(&results).zip(&want) {
            let want = match want {
                Ok(size) => *size,
                Err(e) => (-i64::from(e.raw_os_error().expect("from the system"))) as u64,
            };
            let path = &paths[op.path as usize];
            assert_eq!(*result as i64, want as i64, "{op:?} of {path:?}, group {group}");
        }
        assert_eq!(results[is_dir], failure(Errno::EISDIR));
        assert_eq!(results[lists_a_file], failure(Errno::ENOTDIR));
    }
    // A directory buffer that not every name fits in.
    let op = Op { what: LIST, path: 1, len: 100, offset: 100, ..Op::zeroed() };
    let (results, _) = bench.ops((1, 1), GROUP_THREAD, &paths, &[op]);
    assert_eq!(results, [failure(Errno::EINVAL)]);
    // Nothing of all this is kept.
    let errors = bench.stats();
    assert!(errors.opens > 0);
}

/// stat by path and of an open file: what `std::fs::metadata` says.
pub fn descriptions<P: Policy>(backend: &Backend) {
    let tree = Tree::new();
    let Some(bench) = backend.session::<P>(|b| b.page_size(4096).cache_size(1 << 20)) else {
        return;
    };
    let file = tree.file("file", 7, 12345);
    std::fs::create_dir(tree.path("dir")).expect("a fresh directory");
    symlink(&file, tree.path("link")).expect("a fresh link");
    std::fs::hard_link(&file, tree.path("hard")).expect("a fresh link");
    let paths = ["file", "dir", "link", "hard"].map(|name| tree.path(name));
    let ops: Vec<Op> = (0..8)
        .map(|i| Op {
            what: if i < 4 { STAT } else { STAT_OPEN },
            path: i % 4,
            at: u64::from(i) * 64,
            len: 48,
            ..Op::zeroed()
        })
        .collect();
    for group in GROUPS {
        let (results, bytes) = bench.ops((1, 64), group, &paths, &ops);
        for (i, op) in ops.iter().enumerate() {
            let at = op.at as usize;
            let info: FileInfo = bytemuck::pod_read_unaligned(&bytes[at..at + 48]);
            let want = std::fs::metadata(&paths[op.path as usize]).expect("it is there");
            assert_eq!(results[i], want.len());
            assert_eq!(
                (info.size, info.ino, info.dev, info.mode, u64::from(info.nlink)),
                (want.len(), want.ino(), want.dev(), want.mode(), want.nlink())
            );
            assert_eq!(info.mtime_ns, want.mtime() * 1_000_000_000 + want.mtime_nsec());
        }
    }
}

/// A listing has each name once, with its inode and kind, however small its batches.
pub fn directories_are_complete<P: Policy>(backend: &Backend) {
    let tree = Tree::new();
    let Some(bench) = backend.session::<P>(|b| b.page_size(4096).cache_size(1 << 20)) else {
        return;
    };
    let big = tree.path("big");
    std::fs::create_dir(&big).expect("a fresh directory");
    std::fs::create_dir(tree.path("empty")).expect("a fresh directory");
    for i in 0..700 {
        let name = big.join(format!("{i}{}", "x".repeat(i * 7 % 240)));
        match i % 50 {
            0 => std::fs::create_dir(name).expect("a fresh directory"),
            1 => symlink("anywhere", name).expect("a fresh link"),
            _ => drop(std::fs::File::create(name).expect("a fresh file")),
        }
    }
    let mut want = BTreeMap::new();
    for entry in std::fs::read_dir(&big).expect("it is there") {
        let entry = entry.expect("it can be read");
        want.insert(entry.file_name().as_bytes().to_vec(), (entry.ino(), entry.path().is_dir()));
    }
    assert_eq!(want.len(), 700);
    let room = 200 << 10;
    for group in GROUPS {
        for batch in [DIR_MIN, 1000, 4096, 60_000] {
            let op = Op { what: LIST, path: 0, len: room, offset: batch, ..Op::zeroed() };
            let nothing = Op { what: LIST, path: 1, at: room, len: 600, ..op };
            let paths = [big.clone(), tree.path("empty")];
            let (results, bytes) =
                bench.ops((1, 64), group, &paths, &[op, Op { offset: 600, ..nothing }]);
            assert_eq!(results[1], 0);
            // The batches stand one after the other: records have whole lengths.
            let mut got = BTreeMap::new();
            for DirEntry { record, name } in entries(&bytes[..results[0] as usize]) {
                let before = got.insert(name.to_vec(), (record.ino, record.kind == 4));
                assert!(before.is_none(), "twice: {}", String::from_utf8_lossy(name));
            }
            assert!(got == want, "{} of {} names, batch {batch}", got.len(), want.len());
        }
    }
}

const DIR_MIN: u64 = gpufs::Dir::<gpufs::HashIndex, gpufs::Clock>::MIN_BUF as u64;

/// More open files than there are records: ENFILE for those too many, and none of it lasts.
pub fn records_run_out_and_come_back<P: Policy>(backend: &Backend) {
    let tree = Tree::new();
    let paths: Vec<_> = (0..96).map(|i| tree.file(format!("f{i}"), i, 64 + i)).collect();
    let Some(bench) =
        backend.session::<P>(|b| b.page_size(4096).cache_size(1 << 20).open_files(32))
    else {
        return;
    };
    for _ in 0..4 {
        let storm = bench.storm((3, 32), storms::PROGRAM_OPEN_OWN, &paths, [0; 4]);
        storm.assert_clean(96);
        assert_eq!(storm.other, 64, "32 of 96 found a record");
    }
    // Thousands that want the same file need but one record, however many look for one at once.
    let few: Vec<_> = paths[..1].to_vec();
    for _ in 0..4 {
        bench
            .storm(backend.many(), storms::PROGRAM_OPEN_SAME, &few, [0; 4])
            .assert_clean(backend.many_threads());
    }
    // Thousands that fail leave nothing behind.
    let missing: Vec<_> = (0..8).map(|i| tree.path(format!("missing{i}"))).collect();
    let ops: Vec<Op> = (0..backend.many_threads() as u32)
        .map(|i| Op { what: OPEN, path: i % 8, ..Op::zeroed() })
        .collect();
    let (results, _) = bench.ops(backend.many(), GROUP_THREAD, &missing, &ops);
    assert!(results.iter().all(|r| *r == failure(Errno::ENOENT)));
    let storm = bench.storm((1, 32), storms::PROGRAM_OPEN_OWN, &paths, [0; 4]);
    storm.assert_clean(32);
    assert_eq!(storm.other, 0, "every record is free again");
}
