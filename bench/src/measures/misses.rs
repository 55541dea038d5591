//! Pages that are not in the GPU's cache, of a file that is in the operating system's.

use super::Measure;
use super::requests::nop_rate;
use crate::Result;
use crate::data::DataFile;
use crate::fio::Job;
use crate::probes::{Probes, Work, same};
use crate::row::{Aim, Better, Row};
use crate::scale::Scale;
use crate::stats::{Rounds, Side, in_turns};
use crate::tool::FIO;
use gpu_host::{LaunchConfig, Session, SessionBuilder};
use gpu_kernels::probe::{Probe, nop_throughput, random_pages, scan_pages};
use gpu_rt::Kernel;
use gpufs::Stats;
use std::path::Path;

/// Large pages, one after the other.
pub(crate) const SEQUENTIAL: Measure = Measure {
    name: "read-seq-64k",
    what: "64 KiB pages of a file in the OS page cache, from its beginning to its end, each missed once",
    commands: |scale| commands(scale, "read"),
    run: |scale| misses(scale, "read"),
};

/// Small pages, here and there.
pub(crate) const RANDOM: Measure = Measure {
    name: "read-rand-4k",
    what: "4 KiB pages of a file in the OS page cache, in random order, each missed once",
    commands: |scale| commands(scale, "randread"),
    run: |scale| misses(scale, "randread"),
};

fn job<'a>(scale: &Scale, pattern: &'static str, file: &'a Path) -> Job<'a> {
    let (block, depth) = if pattern == "read" { (64 << 10, 32) } else { (4 << 10, 64) };
    let engine = "io_uring";
    Job { pattern, engine, block, depth, file, bytes: scale.file, jobs: 1, sync: false }
}

fn commands(scale: &Scale, pattern: &'static str) -> Vec<String> {
    let one = job(scale, pattern, Path::new("words.bin"));
    vec![one.shown(), Job { jobs: 2, ..one }.shown()]
}

/// How the device goes about it: what was best of what a user could choose.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) page: u32,
    pub(crate) random: bool,
    pub(crate) cache: u64,
    pub(crate) blocks: u32,
    pub(crate) threads: u32,
    /// Whether the daemon may write into page frames.
    pub(crate) direct: bool,
}

impl Shape {
    pub(crate) fn sequential(page: u32) -> Shape {
        Shape {
            page,
            random: false,
            cache: 64 * u64::from(page),
            blocks: 2,
            threads: 4,
            direct: true,
        }
    }

    pub(crate) fn random(page: u32) -> Shape {
        Shape {
            page,
            random: true,
            cache: (1024 * u64::from(page)).min(64 << 20),
            blocks: 2,
            threads: 64,
            direct: true,
        }
    }

    pub(crate) fn note(&self) -> String {
        let Shape { page, cache, blocks, threads, direct, .. } = self;
        format!(
            "{blocks} blocks of {threads} threads, {} KiB pages, cache {} KiB, pages used once{}",
            page >> 10,
            cache >> 10,
            if *direct { "" } else { ", through transfer slots" }
        )
    }

    fn probes(&self, builder: SessionBuilder, data: &DataFile) -> Result<Probes> {
        let builder = builder.page_size(self.page).cache_size(self.cache).direct(self.direct);
        Probes::new(builder, Some(data.path()), 0)
    }

    /// Reads all of the file; bytes per second.
    pub(crate) fn run(&self, data: &DataFile) -> Result<f64> {
        let kernel = if self.random { &random_pages } else { &scan_pages };
        self.run_on(Session::builder(), kernel, data)
    }

    /// The same with another device, or other threads.
    pub(crate) fn run_on(
        &self,
        builder: SessionBuilder,
        kernel: &Kernel<Probe>,
        data: &DataFile,
    ) -> Result<f64> {
        // A cache that nothing was ever in; but kernels that are loaded, and threads that have run before.
        let builder = builder.preload([nop_throughput.name(), kernel.name()]);
        let probes = self.probes(builder, data)?;
        nop_rate(&probes, self.blocks * self.threads, 1)?;
        let page = u64::from(self.page);
        let work = Work { work: data.len() / page, len: page, once: true, ..Work::default() };
        let shape = LaunchConfig::new(self.blocks, self.threads);
        let done = probes.run(kernel, shape, &work)?;
        same("sum of first words", done.answer, data.first_words(page))?;
        // Every page was fetched, by whoever asked for it or ahead of that. Read-ahead may bring a
        // page again whose reader was faster; in random order there is none.
        let Stats { hits, misses, bytes_fetched, .. } = done.stats;
        let fetched = bytes_fetched / page;
        let all = (hits, misses, fetched) == (0, work.work, work.work);
        if !all && (self.random || fetched < work.work) {
            return Err(
                format!("not all of {} pages were missed: {:?}", work.work, done.stats).into()
            );
        }
        Ok(data.len() as f64 / done.seconds)
    }
}

fn misses(scale: &Scale, pattern: &'static str) -> Result<Vec<Row>> {
    FIO.find()?;
    let data = DataFile::new(scale)?;
    let job = job(scale, pattern, data.path());
    let (name, shape, aim) = match pattern {
        "read" => (SEQUENTIAL.name, Shape::sequential(job.block), 0.9),
        _ => (RANDOM.name, Shape::random(job.block), 0.8),
    };
    let slots = Shape { direct: false, ..shape };
    let two = Job { jobs: 2, ..job };
    let sides: [Side<'_>; 4] = [
        Box::new(|| shape.run(&data)),
        Box::new(|| job.run()),
        Box::new(|| slots.run(&data)),
        Box::new(|| two.run()),
    ];
    // Gigabytes for large pages, thousands of reads for small ones.
    let (unit, per) =
        if pattern == "read" { ("GB/s", 1e9) } else { ("k/s", f64::from(job.block) * 1e3) };
    let sides = in_turns(scale.rounds, sides)?.map(|rounds| rounds.map(|value| value / per));
    let [own, fio, in_slots, fio_two] = sides;
    let Job { block, depth, .. } = job;
    let peer = format!("{}, io_uring, bs={block}, iodepth={depth}, buffered", FIO.version()?);
    let row = |name: String, rounds: &Rounds, shape: &Shape, peer: String, theirs: &Rounds| {
        Row::new(name, unit, Better::More, rounds.clone())
            .peer(peer, theirs.clone())
            .note(shape.note())
    };
    let two_jobs = format!("{peer}, numjobs=2");
    Ok(vec![
        row(name.into(), &own, &shape, peer.clone(), &fio).aim(Aim::Ratio(aim)),
        row(format!("{name}/two-jobs"), &own, &shape, two_jobs, &fio_two),
        row(format!("{name}-slots"), &in_slots, &slots, peer, &fio),
    ])
}
