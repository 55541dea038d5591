//! Many threads: what each costs at rest, and whether more of them do as much.

use super::requests::nop_rate;
use super::{Measure, no_commands};
use crate::Result;
use crate::data::DataFile;
use crate::measures::hits::Held;
use crate::probes::{Probes, Work};
use crate::row::{Aim, Better, Row};
use crate::scale::Scale;
use crate::stats::{Rounds, Side, in_turns};
use gpu_host::{EmulatedOptions, LaunchConfig, Session};
use gpu_kernels::probe::{park, stride_pages};

/// Resident memory of threads that wait.
pub(crate) const MEMORY: Measure = Measure {
    name: "memory-per-thread",
    what: "resident memory of an emulated thread that waits",
    commands: no_commands,
    run: memory,
};

/// 65,536 threads beside 256.
pub(crate) const SCALE: Measure = Measure {
    name: "scale",
    what: "the throughput of 65,536 threads over that of 256, for the same work in all",
    commands: no_commands,
    run: scaling,
};

/// Bytes of this process that are in memory.
fn resident() -> Result<f64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split_whitespace().nth(1).ok_or("statm is short")?;
    Ok(pages.parse::<f64>()? * 4096.0)
}

/// Options under which `threads` threads are resident at once.
fn all_resident(threads: u32) -> EmulatedOptions {
    let options = EmulatedOptions::default();
    let each = threads.div_ceil(options.workers as u32).next_multiple_of(1024);
    EmulatedOptions { resident_threads: each, ..options }
}

fn memory(scale: &Scale) -> Result<Vec<Row>> {
    let data = DataFile::new(scale)?;
    let cases = [
        ("memory-per-thread", false, "waits for a word; did nothing before"),
        (
            "memory-per-thread-used",
            true,
            "waits for a word; has opened a file, read 64 bytes and done a round trip",
        ),
    ];
    let mut rows = Vec::new();
    for (name, uses, note) in cases {
        let mut rounds = Vec::new();
        for _ in 0..scale.rounds.min(3) {
            let builder = Session::builder().emulated(all_resident(scale.threads));
            let probes = Probes::new(builder, uses.then(|| data.path()), 0)?;
            let work = Work { work: uses.into(), len: 4096, ..Work::default() };
            // What only the first threads cost: rings, tables, pages.
            let few = 256.min(scale.threads);
            probes.park(&park, LaunchConfig::new(few / 64, 64), &work, few.into())?.end()?;
            let before = resident()?;
            let shape = LaunchConfig::new(scale.threads / 64, 64);
            let parked = probes.park(&park, shape, &work, scale.threads.into())?;
            let grown = resident()? - before;
            parked.end()?;
            rounds.push(grown / f64::from(scale.threads - few) / 1024.0);
        }
        let rounds: Rounds = rounds.into_iter().collect();
        rows.push(
            Row::new(name, "KiB", Better::Less, rounds)
                .aim(Aim::AtMost(8.0))
                .note(format!("{} threads resident; {note}", scale.threads)),
        );
    }
    Ok(rows)
}

/// The shape of so many threads.
pub(crate) fn shape(threads: u32) -> LaunchConfig {
    LaunchConfig::new(threads.div_ceil(128), threads.min(128))
}

fn scaling(scale: &Scale) -> Result<Vec<Row>> {
    let (few, many) = (256, scale.threads);
    let default = EmulatedOptions::default();
    let per = default.resident_threads as usize * default.workers;
    let waves = format!("default occupancy: {per} threads at once");
    let mut rows = Vec::new();
    for (suffix, options, note) in
        [("", default, waves), ("-resident", all_resident(many), "all threads at once".to_owned())]
    {
        let nops = Probes::new(Session::builder().emulated(options.clone()).calls(many), None, 0)?;
        // Enough for each thread that its start is not what is measured.
        let total = 4 * scale.requests.max(u64::from(many));
        let times = total / 1024;
        let held = Held::new(
            scale,
            Session::builder().emulated(options),
            4 << 10,
            16 << 20,
            4 << 10,
            many.into(),
        )?;
        let sides: [Side<'_>; 4] = [
            Box::new(|| nop_rate(&nops, many, total)),
            Box::new(|| nop_rate(&nops, few, total)),
            Box::new(|| Ok(held.read(&stride_pages, shape(many), times)? / 4096e6)),
            Box::new(|| Ok(held.read(&stride_pages, shape(few), times)? / 4096e6)),
        ];
        let [nop_many, nop_few, hit_many, hit_few] = in_turns(scale.rounds, sides)?;
        let row = |what: &str, many: Rounds, few: Rounds| {
            Row::new(format!("scale-{what}{suffix}"), "M/s", Better::More, many)
                .peer("the same with 256 threads", few)
                .aim(Aim::Ratio(0.9))
                .note(note.clone())
        };
        rows.push(row("nop", nop_many, nop_few));
        rows.push(row("hits-4k", hit_many, hit_few));
    }
    Ok(rows)
}
