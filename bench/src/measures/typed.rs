//! Single values of a file that the cache holds, beside those of a slice.

use super::{Measure, no_commands};
use crate::Result;
use crate::data::DataFile;
use crate::probes::{Probes, Work, same};
use crate::row::{Aim, Better, Row};
use crate::scale::Scale;
use crate::stats::{Side, in_turns};
use gpu_host::{DeviceBuffer, LaunchConfig, Session, SessionBuilder};
use gpu_kernels::probe::{Probe, read_by_blocks};
use gpu_kernels::writes::{sum_runs, sum_slice, sum_slice_within, sum_view, sum_view_within};
use gpu_rt::Kernel;
use std::path::Path;

/// `view::<u64>().get(i)`.
pub(crate) const VIEW: Measure = Measure {
    name: "view-typed",
    what: "words of a file that the cache holds, by view::<u64>(), beside those of a slice of device memory",
    commands: no_commands,
    run,
};

/// A session whose cache holds a file, and device memory with the same words.
pub(crate) struct Words {
    probes: Probes,
    memory: DeviceBuffer<u8>,
    sum: u64,
}

impl Words {
    /// The first `bytes` of the data file, as the file at `path`, by pages of `page`.
    pub(crate) fn new(
        data: &DataFile,
        path: &Path,
        builder: SessionBuilder,
        page: u32,
        bytes: u64,
    ) -> Result<Words> {
        let content = data.beginning(bytes as usize)?;
        std::fs::write(path, &content)?;
        let words = content.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word));
        let sum = words.fold(0, u64::wrapping_add);
        let builder = builder.page_size(page).cache_size(bytes + bytes / 8 + 64 * u64::from(page));
        let probes = Probes::new(builder, Some(path), 0)?;
        let memory = probes.session.alloc_from(&content)?;
        let buffers = probes.session.alloc(page as usize)?;
        let page = u64::from(page);
        // Fetched once.
        let work =
            Work { work: bytes / page, len: page, buffers: buffers.slice(), ..Work::default() };
        let done = probes.run(&read_by_blocks, LaunchConfig::new(1, 32), &work)?;
        same("pages evicted", done.stats.evictions, 0)?;
        Ok(Words { probes, memory, sum })
    }

    /// Adds all words up `times` times, each page fetched before.
    pub(crate) fn add_up(
        &self,
        kernel: &Kernel<Probe>,
        shape: LaunchConfig,
        times: u64,
    ) -> Result<crate::probes::Outcome> {
        let work = Work { work: times, source: self.memory.slice(), ..Work::default() };
        let done = self.probes.run(kernel, shape, &work)?;
        same("sum of all words", done.answer, self.sum.wrapping_mul(times))?;
        same("misses", done.stats.misses + done.stats.prefetches, 0)?;
        Ok(done)
    }

    pub(crate) fn count(&self) -> u64 {
        self.memory.len() as u64 / 8
    }
}

fn run(scale: &Scale) -> Result<Vec<Row>> {
    const PAGE: u32 = 64 << 10;
    let data = DataFile::new(scale)?;
    let mut rows = Vec::new();
    for (bytes, suffix, of) in [
        (scale.file / 8, "", "of the size of memory"),
        (scale.file / 256, "-small", "that the processor's cache holds"),
    ] {
        let bytes = bytes.max(256 << 10);
        let path = scale.dir.join("viewed.bin");
        let words = Words::new(&data, &path, Session::builder(), PAGE, bytes)?;
        // 128 threads, each with its share of the file.
        let shape = LaunchConfig::new(4, 32);
        let times = (scale.file / bytes).min(scale.file >> 20).max(1);
        let rate = |kernel| -> Result<f64> {
            let done = words.add_up(kernel, shape, times)?;
            Ok((words.count() * times) as f64 / done.seconds / 1e6)
        };
        let sides: [Side<'_>; 5] = [
            Box::new(|| rate(&sum_view)),
            Box::new(|| rate(&sum_runs)),
            Box::new(|| rate(&sum_slice)),
            Box::new(|| rate(&sum_view_within)),
            Box::new(|| rate(&sum_slice_within)),
        ];
        let [view, runs, slice, view_within, slice_within] = in_turns(scale.rounds, sides)?;
        let row = |name: &str, own, theirs, order: &str| {
            let kib = bytes >> 10;
            Row::new(format!("view-typed{name}{suffix}"), "M/s", Better::More, own)
                .peer("slice of device memory, by index", theirs)
                .aim(Aim::Ratio(0.5))
                .note(format!("128 threads, {order}; {kib} KiB {of}"))
        };
        let through = "each through its share from one end to the other";
        let vector = "the compiler makes vector instructions of the slice's loop";
        rows.push(row("", view, slice.clone(), &format!("{through}; {vector}")));
        rows.push(row("-runs", runs, slice, &format!("{through}, by runs that are lent")));
        rows.push(row("-within", view_within, slice_within, "random order within each 4 KiB"));
    }
    Ok(rows)
}
