//! What calls cost in instructions: the PTX interpreter counts them, and no machine's load changes them.

use super::typed::Words;
use super::{Measure, no_commands};
use crate::Result;
use crate::data::DataFile;
use crate::probes::{Probes, Work, same};
use crate::row::{Better, Row};
use crate::scale::Scale;
use crate::stats::Rounds;
use gpu_host::{Counts, DeviceChoice, LaunchConfig, Module, PtxOptions, Session, SessionBuilder};
use gpu_kernels::probe::{Probe, nop_throughput, random_pages, read_by_threads};
use gpu_kernels::writes::{sum_slice, sum_view, sum_view_within};
use gpu_rt::Kernel;
use std::path::Path;

/// Instructions of PTX.
pub(crate) const COUNTS: Measure = Measure {
    name: "instructions",
    what: "PTX instructions and 32-byte sectors of memory for a request, a hit and a miss of a page, a small read that hits, and a typed value, as interpreted",
    commands: no_commands,
    run,
};

/// Bytes of a page.
const PAGE: u32 = 4096;
/// Bytes of a small read.
const SMALL: u32 = 64;
/// Pages, or requests, at most: so many in one launch and twice as many in another, whose difference
/// is free of what a launch costs once.
const TIMES: u64 = 256;

/// What one of many costs.
struct Cost {
    thread_instructions: f64,
    warp_instructions: f64,
    sectors: f64,
}

fn run(scale: &Scale) -> Result<Vec<Row>> {
    if gpu_kernels::PTX.is_empty() {
        return Err(
            "the kernels are not built as PTX: `cargo run -p ptx-build -- doctor` says why".into(),
        );
    }
    let module = Module::new(gpu_kernels::PTX)?;
    // One multiprocessor, so that threads take turns in one order.
    let options = PtxOptions { workers: 1, ..PtxOptions::default() };
    let builder = || {
        let device = DeviceChoice::Ptx(options.clone());
        Session::builder().device(device).module(Some(module.clone())).page_size(PAGE)
    };
    let data = DataFile::new(scale)?;
    let path = scale.dir.join("counted.bin");
    // A power of two, as `random_pages` wants it, so that each page comes once.
    let pages = (data.len() / u64::from(PAGE)).clamp(1, 2 * TIMES);
    let times = (1 << pages.ilog2()) / 2;
    std::fs::write(&path, data.beginning(2 * times as usize * PAGE as usize)?)?;

    let mut rows = Vec::new();
    let words =
        Words::new(&data, &scale.dir.join("valued.bin"), builder(), PAGE, times * u64::from(PAGE))?;
    for (lanes, by) in [(1, "one thread"), (32, "32 lanes at once, for each of them")] {
        let mut add = |what: &str, note: &str, cost: Cost| {
            let row = |part: &str, unit, figure: f64| {
                let name = format!("instructions-{what}-{lanes}{part}");
                Row::new(name, unit, Better::Less, Rounds::from_iter([figure])).note(note)
            };
            rows.push(row("", "instructions", cost.thread_instructions));
            rows.push(row("/warp", "instructions", cost.warp_instructions));
            rows.push(row("/sectors", "sectors", cost.sectors));
        };
        for what in ["request", "hit", "miss", "read"] {
            add(what, by, cost(&builder, &path, what, lanes, times)?);
        }
        for (name, how, kernel) in VALUES {
            add(name, &format!("{by}: {how}"), value(&words, kernel, lanes)?);
        }
    }
    Ok(rows)
}

/// Kernels that look at single values: the loop around them and its sum included.
const VALUES: [(&str, &str, &Kernel<Probe>); 3] = [
    ("typed", "a word of view::<u64>(), each lane through its pages", &sum_view),
    ("typed-within", "a word of view::<u64>(), in random order within each page", &sum_view_within),
    ("slice", "a word of a slice, as a peer of instructions-typed", &sum_slice),
];

/// What one of the words costs: the difference between all of them so many times and twice as often.
fn value(words: &Words, kernel: &Kernel<Probe>, lanes: u32) -> Result<Cost> {
    let counted = |times| -> Result<Counts> {
        let done = words.add_up(kernel, LaunchConfig::new(1, lanes), times)?;
        done.counts.ok_or_else(|| "the interpreter counts nothing".into())
    };
    // As many before: the lanes, which come apart as they open the file, are together again after some.
    const TIMES: u64 = 16;
    let (some, more) = (counted(TIMES)?, counted(2 * TIMES)?);
    Ok(Cost::between(&some, &more, TIMES * words.count()))
}

impl Cost {
    /// What each of `times` costs that one launch had more than another.
    fn between(once: &Counts, twice: &Counts, times: u64) -> Cost {
        let each =
            |of: fn(&Counts) -> u64| of(twice).saturating_sub(of(once)) as f64 / times as f64;
        Cost {
            thread_instructions: each(|c| c.thread_instructions),
            warp_instructions: each(|c| c.warp_instructions),
            sectors: each(|c| c.sectors),
        }
    }
}

fn cost(
    builder: &impl Fn() -> SessionBuilder,
    path: &Path,
    what: &str,
    lanes: u32,
    times: u64,
) -> Result<Cost> {
    let cache = 4 * times * u64::from(PAGE);
    let counted = |times: u64| -> Result<Counts> {
        let reads = what != "request";
        let probes = Probes::new(builder().cache_size(cache), reads.then_some(path), 0)?;
        let buffers = probes.session.alloc::<u8>((lanes * SMALL) as usize)?;
        let (kernel, work, len): (&Kernel<Probe>, _, _) = match what {
            "request" => (&nop_throughput, times / u64::from(lanes), 0),
            "read" => (&read_by_threads, times, SMALL),
            _ => (&random_pages, times, PAGE),
        };
        let work = Work { work, len: len.into(), buffers: buffers.slice(), ..Work::default() };
        let shape = || LaunchConfig::new(1, lanes);
        let hits = what == "hit" || what == "read";
        if hits {
            probes.run(kernel, shape(), &work)?;
        }
        let done = probes.run(kernel, shape(), &work)?;
        same("hits", done.stats.hits, if hits { times } else { 0 })?;
        same("misses", done.stats.misses, if what == "miss" { times } else { 0 })?;
        done.counts.ok_or_else(|| "the interpreter counts nothing".into())
    };
    Ok(Cost::between(&counted(times)?, &counted(2 * times)?, times))
}
