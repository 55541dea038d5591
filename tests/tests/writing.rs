//! Random programs that write, on several devices and the host, against plain arrays of bytes.

use conformance::device::ops::{GROUP_BLOCK, GROUP_THREAD, GROUP_WARP, failure};
use conformance::device::pattern;
use conformance::device::script::{
    APPEND, BATCH, CLOSE, CREATE, FLUSH, Line, MAP, MAP_MUT, OPEN, READ, SET_LEN, SIZE, SYNC,
    TRUNCATE, TYPED, WRITE, WRITE_ASYNC, WRITES,
};
use conformance::host::{Bench, Tree, emulated};
use conformance::{HashClock, HashFifo, Policy, RadixClock};
use gpu_host::{EmulatedOptions, Mode, Schedule, Session};
use gpufs::Errno;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes of the room that each line has.
const ROOM: u64 = 40 << 10;
const FILES: usize = 3;

/// What happens to a file, in the order of a program.
#[derive(Clone, Debug)]
enum Act {
    Read { offset: u64, len: u64, how: u32 },
    Write { offset: u64, len: u64, how: u32 },
    MapMut { offset: u64, len: u64, every: u32 },
    SetLen(u64),
    Append(u64),
    Sync,
    Flush,
    Reopen { truncate: bool },
}

#[derive(Clone, Debug)]
enum Segment {
    /// A device opens a file, does this, and closes it.
    Device {
        device: usize,
        file: usize,
        acts: Vec<Act>,
    },
    /// The host writes so many bytes there.
    Host {
        file: usize,
        offset: u64,
        len: u64,
    },
    /// The host makes the file that long.
    Cut {
        file: usize,
        len: u64,
    },
    /// The host puts another file in its place.
    Replace {
        file: usize,
        len: u64,
    },
    Remove {
        file: usize,
    },
}

#[derive(Clone, Debug)]
struct Case {
    page: u32,
    frames: u64,
    direct: bool,
    group: u32,
    devices: usize,
    /// `None`: as fast as can be.
    schedule: Option<Schedule>,
    segments: Vec<Segment>,
}

/// Sizes and offsets lie about the ends of pages more often than elsewhere.
fn place() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => (0..12u64, 0..5u64).prop_map(|(page, off)| (page * 4096 + off).saturating_sub(2)),
        2 => 0..50_000u64,
        1 => Just(0),
    ]
}

fn len() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => 1..200u64,
        2 => (1..5u64).prop_map(|pages| pages * 4096),
        2 => 0..20_000u64,
    ]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (place(), len(), prop::sample::select(vec![READ, MAP, BATCH, TYPED]))
            .prop_map(|(offset, len, how)| Act::Read { offset, len, how }),
        6 => (place(), len(), prop::sample::select(vec![WRITE, WRITE_ASYNC]))
            .prop_map(|(offset, len, how)| Act::Write { offset, len, how }),
        2 => (place(), len(), 0..4u32)
            .prop_map(|(offset, len, every)| Act::MapMut { offset, len, every }),
        1 => place().prop_map(Act::SetLen),
        1 => len().prop_map(Act::Append),
        1 => Just(Act::Sync),
        1 => Just(Act::Flush),
        1 => any::<bool>().prop_map(|truncate| Act::Reopen { truncate }),
    ]
}

fn segment() -> impl Strategy<Value = Segment> {
    let file = 0..FILES;
    prop_oneof![
        8 => (0..3usize, file.clone(), prop::collection::vec(act(), 1..25))
            .prop_map(|(device, file, acts)| Segment::Device { device, file, acts }),
        2 => (file.clone(), place(), len())
            .prop_map(|(file, offset, len)| Segment::Host { file, offset, len }),
        1 => (file.clone(), place()).prop_map(|(file, len)| Segment::Cut { file, len }),
        1 => (file.clone(), place()).prop_map(|(file, len)| Segment::Replace { file, len }),
        1 => file.prop_map(|file| Segment::Remove { file }),
    ]
}

fn schedule() -> impl Strategy<Value = Option<Schedule>> {
    prop_oneof![
        2 => Just(None),
        1 => any::<u64>().prop_map(|seed| Some(Schedule::Random { seed })),
        1 => (any::<u64>(), 1..9u32).prop_map(|(seed, depth)| Some(Schedule::Pct { seed, depth })),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    (
        prop::sample::select(vec![4096u32, 8192, 65536]),
        // Eight: the pages of one writable view, and their twins.
        8..24u64,
        any::<bool>(),
        prop::sample::select(vec![GROUP_THREAD, GROUP_WARP, GROUP_BLOCK]),
        1..4usize,
        schedule(),
        prop::collection::vec(segment(), 1..14),
    )
        .prop_map(|(page, frames, direct, group, devices, schedule, segments)| Case {
            page,
            frames,
            direct,
            group,
            devices,
            schedule,
            segments,
        })
}

fn device<P: Policy>(case: &Case) -> Bench<P> {
    let mode = case.schedule.map_or(Mode::Fast, Mode::Deterministic);
    let session = Session::builder()
        .emulated(EmulatedOptions { mode, ..emulated() })
        .device_memory(64 << 20)
        .page_size(case.page)
        .cache_size(case.frames * u64::from(case.page))
        .slots(4)
        .calls(4)
        .ring_entries(8)
        .direct(case.direct)
        .build_with()
        .unwrap_or_else(|e| panic!("{e}"));
    Bench { session }
}

/// A file as it must be.
type Model = Option<Vec<u8>>;

/// What a line must answer, and what bytes it must have read.
struct Expect {
    result: u64,
    bytes: Vec<u8>,
}

fn made(seed: u64, len: u64) -> Vec<u8> {
    (0..len).map(|at| pattern(seed, at)).collect()
}

fn put(model: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let end = offset as usize + bytes.len();
    if model.len() < end {
        model.resize(end, 0);
    }
    model[offset as usize..end].copy_from_slice(bytes);
}

/// The lines of a device's segment, and what must come of them.
fn script(
    case: &Case,
    acts: &[Act],
    file: usize,
    model: &mut Model,
    seed: &mut u64,
) -> (Vec<Line>, Vec<Expect>) {
    let mut lines = Vec::new();
    let mut expects = Vec::new();
    let mut add = |line: Line, result: u64, bytes: Vec<u8>| {
        lines.push(Line { at: lines.len() as u64 * ROOM, path: file as u32, ..line });
        expects.push(Expect { result, bytes });
    };
    let none = Line { group: 0, file: 0, ..bytemuck::Zeroable::zeroed() };
    let open = Line { what: OPEN, flags: WRITES | CREATE, ..none };
    let model = model.get_or_insert_default();
    add(open, model.len() as u64, Vec::new());
    for act in acts {
        *seed += 1;
        let line = Line { seed: *seed, ..none };
        match *act {
            Act::Read { mut offset, len, how } => {
                // A view spans eight pages at most.
                let is_short = len <= 6 * u64::from(case.page);
                let what = if how == MAP && !is_short { READ } else { how };
                if what == TYPED {
                    offset = offset.next_multiple_of(12);
                }
                let start = (offset as usize).min(model.len());
                let mut end = (start + len as usize).min(model.len());
                if what == TYPED {
                    end -= (end - start) % 12;
                }
                let bytes = model[start..end].to_vec();
                add(Line { what, offset, len, ..line }, bytes.len() as u64, bytes);
            }
            Act::Write { offset, len, how } => {
                if len > 0 {
                    put(model, offset, &made(*seed, len));
                }
                add(Line { what: how, offset, len, ..line }, len, Vec::new());
            }
            Act::MapMut { offset, len, every } => {
                let len = len.min(3 * u64::from(case.page)).min(ROOM);
                let is_within = offset + len <= model.len() as u64;
                if is_within {
                    for i in (0..len).step_by(1 + every as usize) {
                        model[(offset + i) as usize] = pattern(*seed, i);
                    }
                }
                let result = if is_within { len } else { failure(Errno::EINVAL) };
                add(Line { what: MAP_MUT, offset, len, flags: every, ..line }, result, Vec::new());
            }
            Act::SetLen(len) => {
                model.resize(len as usize, 0);
                add(Line { what: SET_LEN, offset: len, ..line }, 0, Vec::new());
            }
            Act::Append(len) => {
                // At the end as the host knows it, hence what is written must be there.
                add(Line { what: FLUSH, ..line }, 0, Vec::new());
                let result = if len == 0 { failure(Errno::EINVAL) } else { model.len() as u64 };
                model.extend(made(*seed, len));
                add(Line { what: APPEND, len, ..line }, result, Vec::new());
            }
            Act::Sync => add(Line { what: SYNC, ..line }, 0, Vec::new()),
            Act::Flush => add(Line { what: FLUSH, ..line }, 0, Vec::new()),
            Act::Reopen { truncate } => {
                add(Line { what: CLOSE, ..line }, 0, Vec::new());
                let flags = if truncate { open.flags | TRUNCATE } else { WRITES };
                if truncate {
                    model.clear();
                }
                add(Line { flags, ..open }, model.len() as u64, Vec::new());
            }
        }
        add(Line { what: SIZE, ..none }, model.len() as u64, Vec::new());
    }
    add(Line { what: CLOSE, ..none }, 0, Vec::new());
    (lines, expects)
}

fn run<P: Policy>(case: &Case) -> Result<(), TestCaseError> {
    let tree = Tree::new();
    let paths: Vec<PathBuf> = (0..FILES).map(|i| tree.path(format!("f{i}"))).collect();
    let devices: Vec<Bench<P>> = (0..case.devices).map(|_| device(case)).collect();
    let mut models: Vec<Model> = vec![None; FILES];
    let mut seed = 0;
    let shape = [(1, 1), (1, 32), (1, 64)][case.group as usize];
    for segment in &case.segments {
        seed += 1;
        match segment {
            Segment::Device { device, file, acts } => {
                let (lines, expects) = script(case, acts, *file, &mut models[*file], &mut seed);
                let bench = &devices[device % case.devices];
                let (results, bytes) = bench.script(shape, case.group, &paths, &lines);
                for ((line, expect), result) in lines.iter().zip(&expects).zip(results) {
                    prop_assert_eq!(result as i64, expect.result as i64, "{:?}", line);
                    let got = &bytes[line.at as usize..][..expect.bytes.len()];
                    if let Some(at) = got.iter().zip(&expect.bytes).position(|(a, b)| a != b) {
                        prop_assert!(
                            false,
                            "byte {at} of {line:?}: {} for {}",
                            got[at],
                            expect.bytes[at]
                        );
                    }
                }
            }
            Segment::Host { file, offset, len } => {
                let bytes = made(seed, *len);
                let model = models[*file].get_or_insert_default();
                if *len > 0 {
                    put(model, *offset, &bytes);
                }
                let file = std::fs::OpenOptions::new()
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(&paths[*file])
                    .expect("the tree is ours");
                file.write_all_at(&bytes, *offset).expect("there is room");
            }
            Segment::Cut { file, len } => {
                if let Some(model) = &mut models[*file] {
                    model.resize(*len as usize, 0);
                    let file = std::fs::File::options().write(true).open(&paths[*file]);
                    file.and_then(|file| file.set_len(*len)).expect("the tree is ours");
                }
            }
            Segment::Replace { file, len } => {
                let bytes = made(seed, *len);
                let other = tree.path("other");
                std::fs::write(&other, &bytes).expect("there is room");
                std::fs::rename(&other, &paths[*file]).expect("the tree is ours");
                models[*file] = Some(bytes);
            }
            Segment::Remove { file } => {
                if models[*file].take().is_some() {
                    std::fs::remove_file(&paths[*file]).expect("it is there");
                }
            }
        }
        for (path, model) in paths.iter().zip(&models) {
            compare(path, model)?;
        }
    }
    Ok(())
}

/// The file on the host is as it must be.
fn compare(path: &Path, model: &Model) -> Result<(), TestCaseError> {
    let got = std::fs::read(path).ok();
    let lens = (got.as_ref().map(Vec::len), model.as_ref().map(Vec::len));
    prop_assert_eq!(lens.0, lens.1, "length of {:?}", path);
    if let (Some(got), Some(want)) = (got, model)
        && let Some(at) = got.iter().zip(want).position(|(a, b)| a != b)
    {
        prop_assert!(false, "byte {at} of {path:?}: {} for {}", got[at], want[at]);
    }
    Ok(())
}

/// A file in the hands of a long random program, through a cache of eight pages: nearly every access evicts.
/// In the manner of fsx.
#[test]
fn a_long_program_in_a_cache_of_eight_pages() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for direct in [false, true] {
        let acts = prop::collection::vec(act(), 1500)
            .new_tree(&mut runner)
            .expect("acts can be made")
            .current();
        // Each launch has room for so many lines.
        let segments = acts
            .chunks(100)
            .map(|acts| Segment::Device { device: 0, file: 0, acts: acts.to_vec() })
            .collect();
        let case = Case {
            page: 4096,
            frames: 8,
            direct,
            group: GROUP_THREAD,
            devices: 1,
            schedule: None,
            segments,
        };
        run::<HashClock>(&case).unwrap_or_else(|e| panic!("{e}"));
    }
}

/// A page that lies past the end of the file as the host knows it is fetched ahead, and joins the cache with no valid byte,
/// in a frame that held another. Then the file ends within it.
#[test]
fn a_page_that_nobody_has_come_for_is_cut_whole() {
    let acts = vec![
        Act::Write { offset: 5 * 4096, len: 1, how: WRITE },
        Act::Read { offset: 0, len: 2 * 4096, how: READ },
        Act::Reopen { truncate: true },
        Act::Write { offset: 8 * 4096 + 2868, len: 4096, how: WRITE },
        Act::Read { offset: 4094, len: 3, how: BATCH },
        Act::Read { offset: 3 * 4096, len: 1, how: BATCH },
        Act::SetLen(3 * 4096 - 2),
        Act::Read { offset: 0, len: 3 * 4096, how: READ },
    ];
    let case = Case {
        page: 4096,
        frames: 8,
        direct: false,
        group: GROUP_THREAD,
        devices: 1,
        schedule: Some(Schedule::Pct { seed: 0, depth: 1 }),
        segments: vec![Segment::Device { device: 0, file: 0, acts }],
    };
    run::<HashFifo>(&case).unwrap_or_else(|e| panic!("{e}"));
}

/// 800 cases of each policy, which `.ci/run` tries, are some 100,000 operations.
fn cases() -> u32 {
    std::env::var("CONFORMANCE_CASES")
        .map_or(40, |text| text.parse().expect("CONFORMANCE_CASES is a number"))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        max_shrink_iters: 400,
        ..ProptestConfig::default()
    })]

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
