//! Writing over a file that is there, until it is on the disk, or with the host.

use super::Measure;
use crate::Result;
use crate::data::DataFile;
use crate::fio::Job;
use crate::probes::{Probes, Work, same};
use crate::row::{Aim, Better, Row};
use crate::scale::Scale;
use crate::stats::{Side, in_turns};
use crate::tool::FIO;
use gpu_host::{DeviceBuffer, LaunchConfig, Session};
use gpu_kernels::probe::{Probe, scan_pages};
use gpu_kernels::writes::{
    MARK_EVERY, marked, overwrite_about, overwrite_about_and_flush, overwrite_in_order,
    overwrite_in_order_and_flush,
};
use gpu_rt::Kernel;
use std::cell::Cell;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Large pages, one after the other.
pub(crate) const SEQUENTIAL: Measure = Measure {
    name: "write-seq-64k",
    what: "64 KiB pages written over those of a file, from its beginning to its end, by way of a small cache",
    commands: |scale| commands(&Writing::sequential(scale)),
    run: |scale| measure(SEQUENTIAL.name, scale, &Writing::sequential(scale), 0.9),
};

/// Small pages, here and there.
pub(crate) const RANDOM: Measure = Measure {
    name: "write-rand-4k",
    what: "4 KiB pages written over those of a file that the GPU's cache holds, in random order",
    commands: |scale| commands(&Writing::random(scale)),
    run: |scale| measure(RANDOM.name, scale, &Writing::random(scale), 0.8),
};

/// What is written, and how: what was best of what a user could choose.
struct Writing {
    random: bool,
    page: u32,
    /// Bytes of the file.
    bytes: u64,
    cache: u64,
    blocks: u32,
    threads: u32,
    /// Writes that fio has under way.
    depth: u32,
}

impl Writing {
    fn sequential(scale: &Scale) -> Writing {
        let (page, bytes) = (64 << 10, scale.file);
        // Pages are written back while the processor's cache has them.
        let cache = 128 * u64::from(page);
        Writing { random: false, page, bytes, cache, blocks: 2, threads: 4, depth: 32 }
    }

    fn random(scale: &Scale) -> Writing {
        let (page, bytes) = (4 << 10, scale.file / 4);
        // Room for all pages, and some to spare.
        let cache = bytes + bytes / 8 + 64 * u64::from(page);
        Writing { random: true, page, bytes, cache, blocks: 2, threads: 64, depth: 64 }
    }

    fn file(&self, dir: &Path) -> PathBuf {
        dir.join(if self.random { "overwritten-4k.bin" } else { "overwritten-64k.bin" })
    }

    fn job<'a>(&self, file: &'a Path, engine: &'static str, sync: bool) -> Job<'a> {
        Job {
            pattern: if self.random { "randwrite" } else { "write" },
            engine,
            block: self.page,
            depth: self.depth,
            file,
            bytes: self.bytes,
            jobs: 1,
            sync,
        }
    }

    fn note(&self, how: &str) -> String {
        let Writing { page, cache, blocks, threads, .. } = self;
        let (page, cache) = (page >> 10, cache >> 20);
        format!("{blocks} blocks of {threads} threads, {page} KiB pages, cache {cache} MiB, {how}")
    }
}

fn commands(writing: &Writing) -> Vec<String> {
    let file = writing.file(Path::new(""));
    vec![writing.job(&file, "io_uring", true).shown(), writing.job(&file, "psync", false).shown()]
}

/// A file to write over, and what is written.
struct Target<'a> {
    writing: &'a Writing,
    path: PathBuf,
    /// What every piece has, but for its marks.
    piece: Vec<u8>,
    /// How often it was written by us.
    mark: Cell<u64>,
}

impl<'a> Target<'a> {
    fn new(scale: &Scale, writing: &'a Writing) -> Result<Target<'a>> {
        let words = DataFile::new(scale)?;
        let path = writing.file(&scale.dir);
        // By pages: the host's page cache keeps a file in the pieces in which it was written, and ext4 takes
        // thirty times as long for 4 KiB in a piece of 2 MiB. That is no fault of fio's.
        let piece = words.beginning(writing.page as usize)?;
        let mut out = File::create(&path)?;
        for _ in 0..writing.bytes / u64::from(writing.page) {
            out.write_all(&piece)?;
        }
        out.sync_all()?;
        Ok(Target { writing, path, piece, mark: Cell::new(0) })
    }

    /// A session, a buffer for each of its threads, and in its cache what is to be.
    fn session(&self, direct: bool) -> Result<(Probes, DeviceBuffer<u8>)> {
        let Writing { page, cache, blocks, threads, .. } = *self.writing;
        let builder = Session::builder().page_size(page).cache_size(cache).direct(direct);
        let probes = Probes::new(builder, Some(&self.path), 0)?;
        let buffers = probes.session.alloc_from(&self.piece.repeat((blocks * threads) as usize))?;
        if self.writing.random {
            let work = Work { work: self.pieces(), len: page.into(), ..Work::default() };
            let done = probes.run(&scan_pages, LaunchConfig::new(2, 4), &work)?;
            same("pages evicted", done.stats.evictions, 0)?;
        }
        Ok((probes, buffers))
    }

    fn pieces(&self) -> u64 {
        self.writing.bytes / u64::from(self.writing.page)
    }

    /// Writes all of the file; bytes per second.
    fn write(&self, direct: bool, sync: bool) -> Result<f64> {
        let writing = self.writing;
        let (probes, buffers) = self.session(direct)?;
        let kernel: &Kernel<Probe> = match (writing.random, sync) {
            (false, true) => &overwrite_in_order,
            (false, false) => &overwrite_in_order_and_flush,
            (true, true) => &overwrite_about,
            (true, false) => &overwrite_about_and_flush,
        };
        self.mark.set(self.mark.get() + 1);
        let work = Work {
            work: self.pieces(),
            len: writing.page.into(),
            mark: self.mark.get(),
            buffers: buffers.slice(),
            ..Work::default()
        };
        let shape = LaunchConfig::new(writing.blocks, writing.threads);
        let done = probes.run(kernel, shape, &work)?;
        same("bytes written", done.answer, writing.bytes)?;
        same("bytes fetched", done.stats.bytes_fetched, 0)?;
        same("bytes that went to the file", done.stats.bytes_written, writing.bytes)?;
        let misses = if writing.random { 0 } else { self.pieces() };
        same("pages that were not there", done.stats.misses, misses)?;
        self.check()?;
        self.settle()?;
        Ok(writing.bytes as f64 / done.seconds)
    }

    /// Whether every byte of the file is the last launch's.
    fn check(&self) -> Result<()> {
        let mut file = File::open(&self.path)?;
        same("length", file.metadata()?.len(), self.writing.bytes)?;
        let mut read = vec![0; self.piece.len()];
        let mut want = self.piece.clone();
        for offset in (0..self.writing.bytes).step_by(read.len()) {
            file.read_exact(&mut read)?;
            for at in (0..want.len()).step_by(MARK_EVERY) {
                let word = marked(self.mark.get(), offset + at as u64);
                want[at..at + 8].copy_from_slice(&word.to_le_bytes());
            }
            if read != want {
                return Err(format!("the piece at {offset} is not what was written there").into());
            }
        }
        Ok(())
    }

    fn fio(&self, engine: &'static str, sync: bool) -> Result<f64> {
        let rate = self.writing.job(&self.path, engine, sync).run()?;
        self.settle()?;
        Ok(rate)
    }

    /// Nothing of this round is left to be written beside the next.
    fn settle(&self) -> Result<()> {
        Ok(File::open(&self.path)?.sync_all()?)
    }
}

fn measure(name: &str, scale: &Scale, writing: &Writing, aim: f64) -> Result<Vec<Row>> {
    FIO.find()?;
    let target = Target::new(scale, writing)?;
    let sides: [Side<'_>; 5] = [
        Box::new(|| target.write(true, true)),
        Box::new(|| target.fio("io_uring", true)),
        Box::new(|| target.write(false, true)),
        Box::new(|| target.write(true, false)),
        Box::new(|| target.fio("psync", false)),
    ];
    // Gigabytes for large pages, thousands of writes for small ones.
    let (unit, per) =
        if writing.random { ("k/s", f64::from(writing.page) * 1e3) } else { ("GB/s", 1e9) };
    let sides = in_turns(scale.rounds, sides)?.map(|rounds| rounds.map(|value| value / per));
    let [direct, fio, slots, flush, fio_flush] = sides;
    let Writing { page, depth, .. } = writing;
    let version = FIO.version()?;
    let synced = format!("{version}, io_uring, bs={page}, iodepth={depth}, end_fsync=1");
    let handed = format!("{version}, psync, bs={page}");
    let row = |name: String, rounds, peer: &str, theirs, how| {
        Row::new(name, unit, Better::More, rounds).peer(peer, theirs).note(writing.note(how))
    };
    Ok(vec![
        row(name.into(), direct, &synced, fio.clone(), "then sync").aim(Aim::Ratio(aim)),
        row(format!("{name}-slots"), slots, &synced, fio, "then sync; through transfer slots"),
        row(format!("{name}/flush"), flush, &handed, fio_flush, "to the host's page cache alone"),
    ])
}
