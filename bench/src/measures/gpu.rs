//! What is measured on a GPU: the same kernels, by as many warps as one holds, beside what its driver
//! does.

use super::hits::Held;
use super::misses::Shape;
use super::requests::timed;
use crate::Result;
use crate::data::DataFile;
use crate::probes::Probes;
use crate::row::{Better, Row};
use crate::scale::Scale;
use crate::stats::{Rounds, Side, in_turns, percentile};
use gpu_host::cuda::copy_rate::pinned_to_device;
use gpu_host::{DeviceChoice, LaunchConfig, Module, Session, SessionBuilder};
use gpu_kernels::probe::{
    Probe, copy_by_warps, random_pages_by_warps, read_by_warps, scan_pages_by_warps, stride_pages,
};
use gpu_rt::Kernel;

/// The device that is measured.
pub(crate) struct On {
    /// Which it is.
    pub(crate) device: DeviceChoice,
    /// Its kernels, if it runs PTX.
    pub(crate) module: Option<Module>,
}

impl On {
    fn builder(&self) -> SessionBuilder {
        Session::builder().device(self.device.clone()).module(self.module.clone())
    }
}

/// Something to measure on a device.
pub(crate) struct GpuMeasure {
    /// The beginning of its rows' names.
    pub(crate) name: &'static str,
    /// What it measures, in a line.
    pub(crate) what: &'static str,
    /// Measures it.
    pub(crate) run: fn(&Scale, &On) -> Result<Vec<Row>>,
}

/// All of them.
pub(crate) const ALL: &[GpuMeasure] = &[
    GpuMeasure {
        name: "gpu-nop-1",
        what: "a request that does nothing, from one warp: the way to the host and back",
        run: |scale, on| nops(scale, on, 1),
    },
    GpuMeasure {
        name: "gpu-nop-512",
        what: "requests that do nothing, one at a time from each of 512 warps",
        run: |scale, on| nops(scale, on, 512),
    },
    GpuMeasure {
        name: "gpu-acquire-64k",
        what: "64 KiB pages that the cache holds, mapped and given back by each thread",
        run: acquires,
    },
    GpuMeasure {
        name: "gpu-hits-64k",
        what: "read_at of 64 KiB that the cache holds by warps, beside a copy within device memory by the same",
        run: hits,
    },
    GpuMeasure {
        name: "gpu-misses-64k",
        what: "64 KiB pages of a file in the OS page cache, one after the other, each missed once, by warps",
        run: |scale, on| misses(scale, on, 64 << 10, false, &scan_pages_by_warps),
    },
    GpuMeasure {
        name: "gpu-misses-4k",
        what: "4 KiB pages of a file in the OS page cache, in random order, each missed once, by warps",
        run: |scale, on| misses(scale, on, 4 << 10, true, &random_pages_by_warps),
    },
];

fn nops(scale: &Scale, on: &On, warps: u32) -> Result<Vec<Row>> {
    // Enough of them that the launch itself is not what is measured.
    let work = (scale.requests / 32 / u64::from(warps)).max(256);
    let probes = Probes::new(on.builder(), None, work as usize * warps as usize)?;
    let (mut p50, mut p99, mut rate) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=scale.rounds {
        let (sorted, millions) = timed(&probes, warps, work)?;
        if round > 0 {
            p50.push(percentile(&sorted, 0.5) as f64 / 1000.0);
            p99.push(percentile(&sorted, 0.99) as f64 / 1000.0);
            rate.push(millions);
        }
    }
    let note = format!("{warps} warps, each with {work} requests, one at a time");
    let row = |part: &str, unit, better, values: Vec<f64>| {
        let rounds: Rounds = values.into_iter().collect();
        Row::new(format!("gpu-nop-{warps}/{part}"), unit, better, rounds).note(note.clone())
    };
    Ok(vec![
        row("p50", "µs", Better::Less, p50),
        row("p99", "µs", Better::Less, p99),
        row("rate", "M/s", Better::More, rate),
    ])
}

/// Bytes of the pages that are held.
fn held_bytes(scale: &Scale) -> u64 {
    (scale.file / 4).min(64 << 20)
}

fn acquires(scale: &Scale, on: &On) -> Result<Vec<Row>> {
    const PAGE: u64 = 64 << 10;
    let held = Held::new(scale, on.builder(), PAGE as u32, held_bytes(scale), PAGE, 1)?;
    let shape = LaunchConfig::new(256, 128);
    // Enough for each thread that its start is not what is measured.
    let times = (scale.requests * 16 * PAGE / held_bytes(scale)).max(1);
    let sides: [Side<'_>; 1] = [Box::new(|| held.read(&stride_pages, shape, times))];
    let [rate] = in_turns(scale.rounds, sides)?;
    Ok(vec![
        Row::new("gpu-acquire-64k", "M/s", Better::More, rate.map(|v| v / PAGE as f64 / 1e6))
            .note("256 blocks of 128 threads, each maps a page, reads a word, gives it back"),
    ])
}

fn hits(scale: &Scale, on: &On) -> Result<Vec<Row>> {
    const READ: u64 = 64 << 10;
    let warps = (scale.threads / 64).max(1);
    let held = Held::new(scale, on.builder(), READ as u32, held_bytes(scale), READ, warps.into())?;
    let shape = LaunchConfig::new(warps.div_ceil(4), 32 * warps.min(4));
    let times = (scale.file * 4 / held_bytes(scale)).max(1);
    let sides: [Side<'_>; 2] = [
        Box::new(|| held.read(&read_by_warps, shape, times)),
        Box::new(|| held.copy(&copy_by_warps, shape, times)),
    ];
    let [own, peer] = in_turns(scale.rounds, sides)?.map(|rounds| rounds.map(|v| v / 1e9));
    Ok(vec![
        Row::new("gpu-hits-64k", "GB/s", Better::More, own)
            .peer("copy within device memory", peer)
            .note(format!("{warps} warps read at once, {} MiB held", held_bytes(scale) >> 20)),
    ])
}

fn misses(
    scale: &Scale,
    on: &On,
    page: u32,
    random: bool,
    kernel: &'static Kernel<Probe>,
) -> Result<Vec<Row>> {
    let data = DataFile::new(scale)?;
    // A slot for each warp; and pages enough that none waits for another's.
    let warps = (scale.threads / 64).max(4);
    let cache = (4 * u64::from(warps * page)).min(data.len() / 2).max(u64::from(8 * page));
    let shape = Shape { page, random, cache, blocks: warps / 4, threads: 128, direct: false };
    let sides: [Side<'_>; 1] =
        [Box::new(|| shape.run_on(on.builder().slots(warps), kernel, &data))];
    let [own] = in_turns(scale.rounds, sides)?.map(|rounds| rounds.map(|v| v / 1e9));
    let name = if random { "gpu-misses-4k" } else { "gpu-misses-64k" };
    let row = Row::new(name, "GB/s", Better::More, own).note(shape.note());
    Ok(vec![match &on.device {
        DeviceChoice::Cuda(options) => {
            let copies = pinned_to_device(options.ordinal, 64 << 20, scale.rounds)?;
            let copies = copies.into_iter().map(|rate| rate / 1e9).collect();
            row.peer("the driver's copy of 64 MiB from pinned memory", copies)
        }
        _ => row,
    }])
}
