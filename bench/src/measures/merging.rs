//! What several devices that write parts of the same pages send to the host; what a page cache keeps beside
//! its pages.

use super::{Measure, no_commands};
use crate::Result;
use crate::probes::{Outcome, Probes, Work, same};
use crate::row::{Aim, Better, Row};
use crate::scale::Scale;
use crate::stats::Rounds;
use gpu_host::{DeviceBuffer, LaunchConfig, Session};
use gpu_kernels::probe::Probe;
use gpu_kernels::writes::{word, write_stripe, write_stripe_of_read};
use gpu_rt::Kernel;
use gpufs::Stats;
use std::path::Path;

/// Eight devices and one file.
pub(crate) const MERGE: Measure = Measure {
    name: "merge-8-devices",
    what: "eight devices, each writes an eighth of every page of one file: bytes sent for each byte written",
    commands: no_commands,
    run: merge,
};

/// What the page cache needs.
pub(crate) const METADATA: Measure = Measure {
    name: "cache-metadata",
    what: "device memory for look-up, frame table and maps of dirty bytes, over that of the frames",
    commands: no_commands,
    run: metadata,
};

const DEVICES: u64 = 8;
const PAGE: u32 = 64 << 10;
const THREADS: u32 = 8;

/// A way to write the file.
struct Case {
    name: &'static str,
    kernel: &'static Kernel<Probe>,
    /// Bytes of a piece: each device writes every eighth.
    piece: u64,
    aim: Option<Aim>,
    note: &'static str,
}

const CASES: [Case; 3] = [
    Case {
        name: "",
        kernel: &write_stripe,
        piece: PAGE as u64 / DEVICES,
        aim: Some(Aim::AtMost(1.3)),
        note: "each 8 KiB of every page, in one piece; write_once: no page is fetched",
    },
    Case {
        name: "-fetching",
        kernel: &write_stripe_of_read,
        piece: PAGE as u64 / DEVICES,
        aim: None,
        note: "the same, opened for reading and writing: each device fetches every page first",
    },
    Case {
        name: "-by-words",
        kernel: &write_stripe,
        piece: 8,
        aim: None,
        note: "each every eighth word of every page; write_once",
    },
];

/// A device that writes pieces of the file.
struct Writer {
    probes: Probes,
    buffers: DeviceBuffer<u8>,
}

impl Writer {
    fn new(path: &Path, cache: u64, piece: u64) -> Result<Writer> {
        let builder = Session::builder()
            .page_size(PAGE)
            .cache_size(cache)
            .device_memory((cache + (64 << 20)) as usize);
        let probes = Probes::new(builder, Some(path), 0)?;
        let buffers = probes.session.alloc((u64::from(THREADS) * piece) as usize)?;
        Ok(Writer { probes, buffers })
    }

    /// Writes those pieces of `len` bytes of the file whose turn is `share`.
    fn write(&self, case: &Case, len: u64, share: u64) -> Result<Outcome> {
        let work = Work {
            work: len,
            len: case.piece,
            mark: share,
            buffers: self.buffers.slice(),
            ..Work::default()
        };
        let done = self.probes.run(case.kernel, LaunchConfig::new(1, THREADS), &work)?;
        same("bytes written", done.answer, len / DEVICES)?;
        Ok(done)
    }
}

/// What went over the rings, both ways: requests and answers, tables, and data.
fn sent(stats: &Stats) -> u64 {
    const REQUEST_AND_ANSWER: u64 = 64 + 64;
    const RUN: u64 = 24;
    stats.requests * REQUEST_AND_ANSWER
        + stats.runs * RUN
        + stats.bytes_written
        + stats.bytes_fetched
}

fn merge(scale: &Scale) -> Result<Vec<Row>> {
    std::fs::create_dir_all(&scale.dir)?;
    let path = scale.dir.join("merged.bin");
    let mut rows = Vec::new();
    for case in &CASES {
        // Words take their time. All their pages stay, of which each needs a map: more than there are.
        let (part, kept) = if case.piece == 8 { (64, 1) } else { (16, 4) };
        let len = (scale.file / part).next_multiple_of(u64::from(PAGE));
        let cache = (len / kept).max(16 * u64::from(PAGE));
        let (mut ratios, mut times) = (Vec::new(), Vec::new());
        for _ in 0..scale.rounds.min(3) {
            let (sent, seconds) = all_devices(case, &path, len, cache)?;
            ratios.push(sent as f64 / len as f64);
            times.push(seconds * 1e9 / len as f64);
        }
        let row = |part: &str, unit, values: Vec<f64>| {
            let rounds: Rounds = values.into_iter().collect();
            Row::new(format!("merge-8-devices{}{part}", case.name), unit, Better::Less, rounds)
        };
        let ratio = row("", "bytes/byte", ratios).note(case.note);
        rows.push(match case.aim {
            Some(aim) => ratio.aim(aim),
            None => ratio,
        });
        let note = format!("{} MiB by all devices at once, sync included", len >> 20);
        rows.push(row("/time", "ns/byte", times).note(note));
    }
    Ok(rows)
}

/// Lets all devices write the file of `len` bytes; what they sent in all, and how long it took.
fn all_devices(case: &Case, path: &Path, len: u64, cache: u64) -> Result<(u64, f64)> {
    // The bytes of before must not come back.
    let file = std::fs::File::create(path)?;
    // By small pieces, as in `writes`: the host's page cache keeps it so.
    for _ in 0..len / 4096 {
        std::io::Write::write_all(&mut &file, &[0xee; 4096])?;
    }
    file.sync_all()?;
    let writers =
        (0..DEVICES).map(|_| Writer::new(path, cache, case.piece)).collect::<Result<Vec<_>>>()?;
    let start = std::time::Instant::now();
    let done = std::thread::scope(|scope| {
        let all: Vec<_> = (0..)
            .zip(&writers)
            .map(|(share, writer)| scope.spawn(move || writer.write(case, len, share)))
            .collect();
        all.into_iter().map(|one| one.join().expect("it returns its errors")).collect::<Vec<_>>()
    });
    let seconds = start.elapsed().as_secs_f64();
    let mut bytes = 0;
    for done in done {
        let stats = done?.stats;
        same("bytes that went to the file", stats.bytes_written, len / DEVICES)?;
        bytes += sent(&stats);
    }
    let content = std::fs::read(path)?;
    same("length", content.len() as u64, len)?;
    let words = content.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word));
    if let Some(wrong) = (0..).zip(words).find(|(number, got)| word(*number) != *got) {
        return Err(format!("word {} is {:#x}", wrong.0, wrong.1).into());
    }
    Ok((bytes, seconds))
}

fn metadata(scale: &Scale) -> Result<Vec<Row>> {
    // Of this nothing but the size matters, and nothing but the header is ever touched.
    let cache: u64 = scale.file.clamp(256 << 20, 1 << 30);
    [(PAGE, 1.0), (4 << 10, 5.0)]
        .map(|(page, most)| {
            let session = Session::builder().page_size(page).cache_size(cache).build()?;
            let share = session.layout().cache_metadata() as f64 / cache as f64 * 100.0;
            let (kib, mib) = (page >> 10, cache >> 20);
            let rounds = Rounds::from_iter([share]);
            Ok(Row::new(format!("cache-metadata-{kib}k"), "%", Better::Less, rounds)
                .aim(Aim::AtMost(most))
                .note(format!("{kib} KiB pages, cache of {mib} MiB")))
        })
        .into_iter()
        .collect()
}
