//! Pages that are in the GPU's cache: reading them beside copying the same bytes.

use super::{Measure, no_commands};
use crate::Result;
use crate::data::DataFile;
use crate::probes::{Outcome, Probes, Work, same};
use crate::row::{Aim, Better, Row};
use crate::scale::Scale;
use crate::stats::{Side, in_turns};
use gpu_host::{DeviceBuffer, LaunchConfig, Session, SessionBuilder};
use gpu_kernels::probe::{
    Probe, copy_by_blocks, copy_by_threads, copy_by_warps, read_by_blocks, read_by_threads,
    read_by_warps,
};
use gpu_rt::Kernel;

/// 64 KiB at a time.
pub(crate) const HITS: Measure = Measure {
    name: "hits-64k",
    what: "read_at of 64 KiB that the cache holds, beside a copy within device memory by the same threads",
    commands: no_commands,
    run,
};

/// A read kernel, the copy kernel beside it, and how many of each group's threads make a block.
struct Grain {
    name: &'static str,
    read: &'static Kernel<Probe>,
    copy: &'static Kernel<Probe>,
    shape: (u32, u32),
    groups: u64,
}

const GRAINS: [Grain; 3] = [
    Grain {
        name: "threads",
        read: &read_by_threads,
        copy: &copy_by_threads,
        shape: (4, 32),
        groups: 128,
    },
    Grain {
        name: "warps",
        read: &read_by_warps,
        copy: &copy_by_warps,
        shape: (4, 128),
        groups: 16,
    },
    Grain {
        name: "blocks",
        read: &read_by_blocks,
        copy: &copy_by_blocks,
        shape: (4, 128),
        groups: 4,
    },
];

/// A session whose cache holds the beginning of the data file, and as much device memory that holds the same.
pub(crate) struct Held {
    probes: Probes,
    source: DeviceBuffer<u8>,
    buffers: DeviceBuffer<u8>,
    first_words: u64,
    len: u64,
}

impl Held {
    /// `set` bytes, a power of two, to be read `len` at a time by up to `groups` groups.
    pub(crate) fn new(
        scale: &Scale,
        builder: SessionBuilder,
        page: u32,
        set: u64,
        len: u64,
        groups: u64,
    ) -> Result<Held> {
        let whole = DataFile::new(scale)?;
        let set = set.clamp(len, whole.len());
        // A file of its own, so that places are counted from its size.
        let path = scale.dir.join(format!("words-{set}.bin"));
        let bytes = whole.beginning(set as usize)?;
        std::fs::write(&path, &bytes)?;
        let words = bytes
            .chunks(len as usize)
            .map(|piece| u64::from_le_bytes(piece[..8].try_into().expect("8 bytes")));
        let first_words = words.fold(0, u64::wrapping_add);
        // Room for all pages, and some to spare.
        let builder = builder.page_size(page).cache_size(set + set / 8 + 64 * u64::from(page));
        let probes = Probes::new(builder, Some(&path), 0)?;
        let source = probes.session.alloc_from(&bytes)?;
        let buffers = probes.session.alloc((groups * len) as usize)?;
        let held = Held { probes, source, buffers, first_words, len };
        // Fetched once.
        held.run(&read_by_blocks, LaunchConfig::new(1, 128), 1)?;
        Ok(held)
    }

    /// Goes over the set `times` times.
    fn run(&self, kernel: &Kernel<Probe>, shape: LaunchConfig, times: u64) -> Result<Outcome> {
        let work = Work {
            work: self.source.len() as u64 / self.len * times,
            len: self.len,
            source: self.source.slice(),
            buffers: self.buffers.slice(),
            ..Work::default()
        };
        let done = self.probes.run(kernel, shape, &work)?;
        same("sum of first words", done.answer, self.first_words.wrapping_mul(times))?;
        Ok(done)
    }

    /// Reads what the cache holds; bytes per second.
    pub(crate) fn read(
        &self,
        kernel: &Kernel<Probe>,
        shape: LaunchConfig,
        times: u64,
    ) -> Result<f64> {
        let done = self.run(kernel, shape, times)?;
        same("misses", done.stats.misses + done.stats.prefetches, 0)?;
        Ok((self.source.len() as u64 * times) as f64 / done.seconds)
    }

    /// Copies the same bytes; bytes per second.
    pub(crate) fn copy(
        &self,
        kernel: &Kernel<Probe>,
        shape: LaunchConfig,
        times: u64,
    ) -> Result<f64> {
        let done = self.run(kernel, shape, times)?;
        same("pages looked up", done.stats.hits, 0)?;
        Ok((self.source.len() as u64 * times) as f64 / done.seconds)
    }
}

fn run(scale: &Scale) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (set, of) in [(scale.file / 8, "memory"), (scale.file / 256, "the processor's cache")] {
        let held = Held::new(scale, Session::builder(), 64 << 10, set, 64 << 10, 128)?;
        let times = (scale.file / set.max(64 << 10)).min(scale.file >> 20).max(1);
        for grain in &GRAINS {
            let Grain { name, read, copy, shape: (blocks, threads), groups } = grain;
            let shape = LaunchConfig::new(*blocks, *threads);
            let sides: [Side<'_>; 2] = [
                Box::new(|| held.read(read, shape, times)),
                Box::new(|| held.copy(copy, shape, times)),
            ];
            let [own, peer] = in_turns(scale.rounds, sides)?.map(|r| r.map(|v| v / 1e9));
            let kib = held.source.len() >> 10;
            let small = if of == "memory" { "" } else { "-small" };
            let row = Row::new(format!("hits-64k-{name}{small}"), "GB/s", Better::More, own)
                .peer("copy within device memory", peer)
                .note(format!("{groups} {name} read at once, {kib} KiB held: of the size of {of}"));
            rows.push(row.aim(Aim::Ratio(0.85)));
        }
    }
    Ok(rows)
}
