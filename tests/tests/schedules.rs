//! Contention under thousands of deterministic schedules: random ones, and those that look for bugs of a few
//! ordered events. A failure prints the command that replays it.

use conformance::device::storms;
use conformance::host::{Bench, Tree, emulated};
use conformance::{HashClock, HashFifo, Policy, RadixClock};
use gpu_emu::VARIABLE;
use gpu_host::{EmulatedOptions, Mode, Schedule, Session, SessionBuilder};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

const PAGE: u64 = 4096;
/// How many seeds each test tries where nobody asks for more.
const SEEDS: u64 = 250;
/// The environment variable that asks for another number of them: a campaign. `.ci/run` tries 3,000, optimised.
const SEEDS_VARIABLE: &str = "CONFORMANCE_SEEDS";

/// Runs `test` under as many schedules, or under the one that the environment names.
fn explore(seeds: u64, test: impl Fn(Schedule, u64)) {
    let run = |schedule, seed| {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| test(schedule, seed))) {
            let name = std::thread::current().name().unwrap_or_default().to_owned();
            eprintln!(
                "replay: {VARIABLE}={schedule} cargo test -p conformance --test schedules {name} -- --exact"
            );
            std::panic::resume_unwind(payload);
        }
    };
    match Schedule::from_env() {
        Ok(None) => {}
        Ok(Some(schedule)) => {
            let seed = match schedule {
                Schedule::RoundRobin => 0,
                Schedule::Random { seed } | Schedule::Pct { seed, .. } => seed,
            };
            return run(schedule, seed);
        }
        Err(e) => panic!("{e}"),
    }
    let seeds = std::env::var(SEEDS_VARIABLE)
        .map_or(seeds, |text| text.parse().expect("CONFORMANCE_SEEDS is a number"));
    for seed in 0..seeds {
        // What else a test varies follows from the seed, so that the schedule alone replays it.
        run(
            match seed % 4 {
                0 | 1 => Schedule::Random { seed },
                2 => Schedule::Pct { depth: 3, seed },
                _ => Schedule::Pct { depth: 8, seed },
            },
            seed,
        );
    }
}

/// A session as small as one can be: there is one for each seed. Paths are below `tree`, so that
/// they, and what they hash to, are the same each time.
fn bench<P: Policy>(
    tree: &Tree,
    schedule: Schedule,
    refine: impl FnOnce(SessionBuilder) -> SessionBuilder,
) -> Bench<P> {
    let options = EmulatedOptions { mode: Mode::Deterministic(schedule), ..emulated() };
    let builder = Session::builder()
        .emulated(options)
        .device_memory(16 << 20)
        .page_size(4096)
        .slots(4)
        .calls(4)
        .ring_entries(4)
        .open_files(8)
        .root(tree.root());
    let session = refine(builder).build_with().unwrap_or_else(|e| panic!("{e}"));
    Bench { session }
}

/// Whatever happened before: every frame can be pinned, every record used, no cell is lost.
fn assert_nothing_leaked<P: Policy>(
    bench: &Bench<P>,
    frames: u64,
    large: &PathBuf,
    paths: &[PathBuf],
) {
    let large = std::slice::from_ref(large);
    bench.storm((1, 1), storms::PROGRAM_PIN_ALL, large, [99, frames, 0, 0]).assert_clean(1);
    let storm = bench.storm((1, 8), storms::PROGRAM_OPEN_OWN, paths, [0; 4]);
    storm.assert_clean(8);
    assert_eq!(storm.other, 0, "a record is lost");
    // More at once than there are cells of a kind, all of which are needed for this to end soon.
    bench.storm((1, 8), storms::PROGRAM_EVERY_PAGE, large, [99, 0, 0, 0]).assert_clean(8);
}

fn files() -> (Tree, PathBuf, Vec<PathBuf>) {
    let tree = Tree::new();
    let name = |i| PathBuf::from(format!("f{i}"));
    let paths = (0..8).map(name).collect::<Vec<_>>();
    for (i, path) in (0..).zip(&paths) {
        tree.file(path, i, 5 * PAGE + 7 * i);
    }
    tree.file("large", 99, 16 * PAGE);
    // A file that was changed in this very tick of the clock has a new version with each open. Later
    // the versions, too, are the same each time.
    std::thread::sleep(std::time::Duration::from_millis(50));
    (tree, PathBuf::from("large"), paths)
}

/// Few files, opened and closed all the time; few frames; pages that all want, and prefetches.
#[test]
fn churn() {
    fn test<P: Policy>(
        tree: &Tree,
        schedule: Schedule,
        seed: u64,
        large: &PathBuf,
        paths: &[PathBuf],
    ) {
        let frames = 6 + seed % 4;
        let direct = (seed / 4).is_multiple_of(2);
        let bench = bench::<P>(tree, schedule, |b| b.cache_size(frames * PAGE).direct(direct));
        bench.storm((2, 24), storms::PROGRAM_CHURN, &paths[..3], [0, 3, 2, 0]).assert_clean(48);
        assert_nothing_leaked(&bench, frames, large, paths);
    }
    let (tree, large, paths) = files();
    explore(SEEDS, |schedule, seed| match seed / 8 % 3 {
        0 => test::<HashClock>(&tree, schedule, seed, &large, &paths),
        1 => test::<RadixClock>(&tree, schedule, seed, &large, &paths),
        _ => test::<HashFifo>(&tree, schedule, seed, &large, &paths),
    });
}

/// Every thread wants every page, and there is room for all of them: one request each.
#[test]
fn one_request_for_each_page() {
    fn test<P: Policy>(tree: &Tree, schedule: Schedule, seed: u64, paths: &[PathBuf]) {
        let bench = bench::<P>(tree, schedule, |b| {
            b.cache_size(16 * PAGE).direct((seed / 4).is_multiple_of(2))
        });
        bench.storm((2, 24), storms::PROGRAM_EVERY_PAGE, paths, [0; 4]).assert_clean(48);
        let stats = bench.stats();
        assert_eq!((stats.misses, stats.evictions), (5, 0), "{stats:?}");
        assert_eq!(bench.taken(gpu_abi::Op::Read), 5);
    }
    let (tree, _, paths) = files();
    explore(SEEDS, |schedule, seed| match seed / 8 % 3 {
        0 => test::<HashClock>(&tree, schedule, seed, &paths[..1]),
        1 => test::<RadixClock>(&tree, schedule, seed, &paths[..1]),
        _ => test::<HashFifo>(&tree, schedule, seed, &paths[..1]),
    });
}

/// Warps and lanes side by side, views and reads, in a cache of eight pages.
#[test]
fn groups_side_by_side() {
    let (tree, large, paths) = files();
    explore(SEEDS, |schedule, seed| {
        let bench = bench::<HashClock>(&tree, schedule, |b| {
            b.cache_size(8 * PAGE).direct((seed / 4).is_multiple_of(2))
        });
        let large_only = std::slice::from_ref(&large);
        bench.storm((2, 32), storms::PROGRAM_MIXED, large_only, [99, 3, 0, 0]).assert_clean(64);
        bench.storm((1, 16), storms::PROGRAM_TOUCH, large_only, [99, 2, 0, 0]).assert_clean(16);
        assert_nothing_leaked(&bench, 8, &large, &paths);
    });
}

/// Reads begun and adopted by others, read-ahead, quotas.
#[test]
fn prefetches_are_adopted_once() {
    let (tree, large, paths) = files();
    explore(SEEDS, |schedule, seed| {
        let direct = (seed / 4).is_multiple_of(2);
        let bench = bench::<HashClock>(&tree, schedule, |b| {
            b.cache_size(12 * PAGE).slots(12).calls(12).direct(direct)
        });
        let large_only = std::slice::from_ref(&large);
        bench.storm((2, 4), storms::PROGRAM_ASYNC, large_only, [99, 0, 0, 0]).assert_clean(8);
        bench
            .storm((3, 1), storms::PROGRAM_SEQUENTIAL, large_only, [99, PAGE, seed % 2, 0])
            .assert_clean(3);
        assert_nothing_leaked(&bench, 12, &large, &paths);
    });
}

/// Opens of paths that are not there, races for records: none is lost.
#[test]
fn failed_opens_leave_nothing() {
    use conformance::device::ops::{GROUP_THREAD, OPEN, Op, failure};
    let (tree, large, mut paths) = files();
    let exists = paths.len() as u32;
    paths.extend((0..2).map(|i| PathBuf::from(format!("missing{i}"))));
    let ops: Vec<Op> = (0..64)
        .map(|i| Op {
            what: OPEN,
            path: if i % 3 == 0 { i / 3 % 2 } else { exists + i % 2 },
            ..bytemuck::Zeroable::zeroed()
        })
        .collect();
    explore(SEEDS, |schedule, _| {
        let bench = bench::<HashClock>(&tree, schedule, |b| b.cache_size(8 * PAGE));
        let (results, _) = bench.ops((2, 24), GROUP_THREAD, &paths, &ops);
        for (op, result) in ops.iter().zip(results) {
            let size = 5 * PAGE + 7 * u64::from(op.path);
            let want = if op.path < exists { size } else { failure(gpufs::Errno::ENOENT) };
            assert_eq!(result as i64, want as i64);
        }
        assert_nothing_leaked(&bench, 8, &large, &paths);
    });
}

/// One file, opened and closed by all at once, from few records: each is its record again and again,
/// and those who come by an old entry of the table get the file all the same.
#[test]
fn one_name_again_and_again() {
    use conformance::device::ops::{GROUP_THREAD, OPEN, Op};
    let (tree, large, paths) = files();
    explore(4 * SEEDS, |schedule, seed| {
        let bench = bench::<HashClock>(&tree, schedule, |b| b.cache_size(8 * PAGE));
        let path = (seed / 4 % 8) as u32;
        // Sometimes another file takes the records in between.
        let op = |i: u64| Op {
            what: OPEN,
            path: if i % 5 == seed / 32 % 10 { (path + 1) % 8 } else { path },
            ..bytemuck::Zeroable::zeroed()
        };
        let ops: Vec<Op> = (0..32).map(op).collect();
        let (results, _) = bench.ops((2, 4), GROUP_THREAD, &paths, &ops);
        for (op, result) in ops.iter().zip(results) {
            assert_eq!(result as i64, 5 * PAGE as i64 + 7 * i64::from(op.path));
        }
        assert_nothing_leaked(&bench, 8, &large, &paths);
    });
}

/// Threads that write bytes of the same pages, with `sync` and closing and opening in between, in a cache
/// of few pages: no byte is lost, whatever the order.
#[test]
fn bytes_written_side_by_side() {
    use conformance::device::{pattern, stripes};
    let (tree, large, paths) = files();
    explore(SEEDS, |schedule, seed| {
        let direct = (seed / 4).is_multiple_of(2);
        let how = (seed / 32 % 8) << 16;
        // A view pins up to two pages here, and as many twins: there must be room for every thread's.
        let (shape, frames, longest) =
            if how & 1 << 16 != 0 { ((1, 3), 12, 700) } else { ((2, 3), 7 + seed % 5, 5000) };
        let piece = [3, 40, 700, longest][(seed / 8 % 4) as usize];
        let bench =
            bench::<HashClock>(&tree, schedule, |b| b.cache_size(frames * PAGE).direct(direct));
        let path = PathBuf::from("written");
        let len = 3 * PAGE.max(piece) + 11;
        // The host's file, of which every byte is another than it is to be.
        let old: Vec<u8> = (0..len).map(|at| !pattern(seed, at)).collect();
        std::fs::write(tree.path(&path), old).expect("there is room");
        let only = std::slice::from_ref(&path);
        let params = [seed, piece, len, 1 | how];
        bench
            .storm(shape, stripes::PROGRAM_STRIPES, only, params)
            .assert_clean(u64::from(shape.0 * shape.1));
        let bytes = std::fs::read(tree.path(&path)).expect("it is there");
        let wrong = (0..).zip(&bytes).find(|(at, byte)| **byte != pattern(seed, *at));
        assert_eq!((bytes.len() as u64, wrong), (len, None), "frames {frames}, pieces of {piece}");
        assert_nothing_leaked(&bench, frames, &large, &paths);
    });
}

/// One file, opened for reading and for writing by two names and closed again by all at once.
#[test]
fn masters_and_aliases() {
    use conformance::device::ops::GROUP_THREAD;
    use conformance::device::script::{CLOSE, CREATE, Line, OPEN, READ, WRITE, WRITES};
    let (tree, large, paths) = files();
    let names = [PathBuf::from("one"), PathBuf::from("two")];
    std::fs::write(tree.path(&names[0]), [7; 100]).expect("there is room");
    std::fs::hard_link(tree.path(&names[0]), tree.path(&names[1])).expect("the tree is ours");
    std::thread::sleep(std::time::Duration::from_millis(50));
    explore(SEEDS, |schedule, seed| {
        let bench = bench::<HashClock>(&tree, schedule, |b| b.cache_size(8 * PAGE));
        let none = Line { ..bytemuck::Zeroable::zeroed() };
        let mut lines = Vec::new();
        for group in 0..6u32 {
            for round in 0..3u64 {
                let random =
                    conformance::device::scramble(seed * 64 + u64::from(group) * 8 + round);
                let flags = [0, WRITES, WRITES | CREATE][random as usize % 3];
                let path = (random >> 8) as u32 % 2;
                let line = Line { group, path, flags, at: lines.len() as u64 * 8, ..none };
                lines.push(Line { what: OPEN, ..line });
                if flags != 0 {
                    let offset = u64::from(group) * 8;
                    lines.push(Line { what: WRITE, offset, len: 8, seed: 3, ..line });
                }
                lines.push(Line { what: READ, len: 8, offset: 50, ..line });
                lines.push(Line { what: CLOSE, ..line });
            }
        }
        let (results, bytes) = bench.script((1, 6), GROUP_THREAD, &names, &lines);
        for (line, result) in lines.iter().zip(results) {
            let want = match line.what {
                OPEN => 100,
                WRITE | READ => 8,
                _ => 0,
            };
            assert_eq!(result as i64, want, "{line:?}");
            if line.what == READ {
                assert_eq!(bytes[line.at as usize..][..8], [7; 8]);
            }
        }
        let file = std::fs::read(tree.path(&names[0])).expect("it is there");
        assert_eq!((file.len(), &file[48..]), (100, &[7; 52][..]));
        assert_nothing_leaked(&bench, 8, &large, &paths);
    });
}
