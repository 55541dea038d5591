//! Random operations on a random tree: what comes of them is what comes of them with `std::fs`.

use bytemuck::Zeroable;
use conformance::device::ops::{
    ASYNC, DIRECTORY, GROUP_BLOCK, GROUP_THREAD, GROUP_WARP, LIST, MAP, NO_FOLLOW, ONCE, OPEN, Op,
    READ, STAT, STAT_OPEN, WHOLE,
};
use conformance::host::{Bench, Tree, emulated};
use conformance::{HashClock, HashFifo, Policy, RadixClock};
use gpu_host::Session;
use gpufs::{FileInfo, dir::entries};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

const O_DIRECTORY: i32 = 0o200000;
const O_NOFOLLOW: i32 = 0o400000;
/// Bytes of the room that each operation has.
const ROOM: u64 = 40 << 10;
/// The paths of every tree: files, then what is none.
const FILES: u32 = 5;
const PATHS: u32 = FILES + 5;

#[derive(Clone, Debug)]
struct Case {
    sizes: Vec<u64>,
    names: u32,
    page: u32,
    frames: u64,
    direct: bool,
    group: u32,
    ops: Vec<Op>,
}

/// Sizes and offsets lie about the ends of pages more often than elsewhere.
fn place() -> impl Strategy<Value = u64> {
    prop_oneof![
        (0..16u64, 0..5u64).prop_map(|(page, off)| (page * 4096 + off).saturating_sub(2)),
        0..70_000u64,
        Just(0),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let what = prop_oneof![
        3 => Just(READ),
        3 => Just(MAP),
        2 => Just(ASYNC),
        2 => Just(WHOLE),
        1 => Just(OPEN),
        1 => Just(STAT),
        1 => Just(STAT_OPEN),
        1 => Just(LIST),
    ];
    // Mostly files.
    let path = prop_oneof![3 => 0..FILES, 1 => 0..PATHS];
    (what, path, place(), place(), 0..8u32).prop_map(|(what, path, offset, len, flags)| {
        let flags = match what {
            // Whatever an open says of its flags, it says without reading.
            OPEN => flags & (DIRECTORY | NO_FOLLOW),
            _ => flags & ONCE,
        };
        let (offset, len) = match what {
            LIST => (600 + offset % 3000, ROOM),
            STAT | STAT_OPEN => (0, 48),
            WHOLE => (0, len.min(ROOM)),
            // Two of the smallest pages less than a view may span, since it may begin anywhere.
            _ => (offset, len.min(6 * 4096)),
        };
        Op { what, path, flags, offset, len, ..Op::zeroed() }
    })
}

fn case() -> impl Strategy<Value = Case> {
    (
        prop::collection::vec(place(), FILES as usize),
        0..60u32,
        prop::sample::select(vec![4096u32, 8192, 65536]),
        18..30u64,
        any::<bool>(),
        prop::sample::select(vec![GROUP_THREAD, GROUP_WARP, GROUP_BLOCK]),
        prop::collection::vec(op(), 1..60),
    )
        .prop_map(|(sizes, names, page, frames, direct, group, mut ops)| {
            for (i, op) in ops.iter_mut().enumerate() {
                op.at = i as u64 * ROOM;
            }
            Case { sizes, names, page, frames, direct, group, ops }
        })
}

/// The tree of a case, and its paths by number.
fn plant(case: &Case) -> (Tree, Vec<PathBuf>) {
    let tree = Tree::new();
    let mut paths: Vec<_> =
        (0..).zip(&case.sizes).map(|(i, size)| tree.file(format!("f{i}"), i, *size)).collect();
    let dir = tree.path("dir");
    std::fs::create_dir(&dir).expect("a fresh directory");
    for i in 0..case.names {
        std::fs::write(dir.join(format!("{i}{}", "n".repeat(i as usize * 4))), []).expect("fresh");
    }
    std::os::unix::fs::symlink("f0", tree.path("link")).expect("a fresh link");
    std::os::unix::fs::symlink("dir", tree.path("dirlink")).expect("a fresh link");
    let others = ["dir", "link", "dirlink", "missing", "f0/below"].map(|name| tree.path(name));
    paths.extend(others);
    assert_eq!(paths.len(), PATHS as usize);
    (tree, paths)
}

/// The operation with `std::fs`: its value, and its bytes.
fn oracle(op: &Op, path: &PathBuf) -> io::Result<(u64, Vec<u8>)> {
    match op.what {
        STAT | STAT_OPEN => {
            let m = std::fs::metadata(path)?;
            Ok((m.len(), Vec::new()))
        }
        OPEN => {
            let mut flags = 0;
            if op.flags & DIRECTORY != 0 {
                flags |= O_DIRECTORY;
            }
            if op.flags & NO_FOLLOW != 0 {
                flags |= O_NOFOLLOW;
            }
            let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
            Ok((file.metadata()?.len(), Vec::new()))
        }
        LIST => std::fs::read_dir(path).map(|_| (0, Vec::new())),
        _ => {
            let file = std::fs::File::open(path)?;
            let mut bytes = vec![0; op.len as usize];
            let mut done = 0;
            // No read at all of nothing, or from past the end on: as reads of length 0 here.
            let empty =
                op.len == 0 || (op.offset >= file.metadata()?.len() && file.metadata()?.len() > 0);
            if empty && op.what != WHOLE {
                return Ok((0, Vec::new()));
            }
            loop {
                match file.read_at(&mut bytes[done..], op.offset + done as u64)? {
                    0 => break,
                    n => done += n,
                }
            }
            bytes.truncate(done);
            Ok((done as u64, bytes))
        }
    }
}

fn run<P: Policy>(case: &Case) -> Result<(), TestCaseError> {
    let (_tree, paths) = plant(case);
    let session = Session::builder()
        .emulated(emulated())
        .device_memory(64 << 20)
        .page_size(case.page)
        .cache_size(case.frames * u64::from(case.page))
        .slots(8)
        .calls(8)
        .ring_entries(8)
        .direct(case.direct)
        .build_with()
        .unwrap_or_else(|e| panic!("{e}"));
    let bench = Bench::<P> { session };
    // Two groups, each of which pins eight pages at most.
    let shape = [(1, 2), (1, 64), (2, 32)][case.group as usize];
    // Twice: the second time pages may be there already.
    for _ in 0..2 {
        let (results, bytes) = bench.ops(shape, case.group, &paths, &case.ops);
        for (op, result) in case.ops.iter().zip(&results) {
            let path = &paths[op.path as usize];
            let got = &bytes[op.at as usize..];
            match oracle(op, path) {
                Err(e) => {
                    let want = -i64::from(e.raw_os_error().expect("from the system"));
                    prop_assert_eq!(*result as i64, want, "{:?} of {:?}", op, path);
                }
                Ok(_) if op.what == LIST => {
                    prop_assert!((*result as i64) >= 0, "{:?}: {}", op, *result as i64);
                    let got: Vec<_> =
                        entries(&got[..*result as usize]).map(|e| e.name.to_vec()).collect();
                    let names = std::fs::read_dir(path).expect("it is there").map(|entry| {
                        entry.expect("it can be read").file_name().as_bytes().to_vec()
                    });
                    let want: BTreeSet<_> = names.collect();
                    prop_assert_eq!(got.len(), want.len());
                    prop_assert_eq!(got.into_iter().collect::<BTreeSet<_>>(), want);
                }
                Ok((value, want)) => {
                    prop_assert_eq!(*result as i64, value as i64, "{:?} of {:?}", op, path);
                    prop_assert!(got[..want.len()] == want[..], "{:?} of {:?}", op, path);
                    if op.what == STAT || op.what == STAT_OPEN {
                        let info: FileInfo = bytemuck::pod_read_unaligned(&got[..48]);
                        let m = std::fs::metadata(path).expect("it is there");
                        prop_assert_eq!((info.ino, info.mode), (m.ino(), m.mode()));
                    }
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hash_and_clock(case in case()) {
        run::<HashClock>(&case)?;
    }

    #[test]
    fn radix_and_clock(case in case()) {
        run::<RadixClock>(&case)?;
    }

    #[test]
    fn hash_and_fifo(case in case()) {
        run::<HashFifo>(&case)?;
    }
}
