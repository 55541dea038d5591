//! A session with what the probe kernels need.

use crate::Result;
use gpu_host::{Counts, DeviceBuffer, Launch, LaunchConfig, Session, SessionBuilder};
use gpu_kernels::probe::{ANSWER, FAILURES, GATE, Probe, SAMPLES};
use gpu_rt::Kernel;
use gpufs::{DeviceSlice, Stats};
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

/// A session, and device memory for paths and results.
pub(crate) struct Probes {
    pub(crate) session: Session,
    path: DeviceBuffer<u8>,
    out: DeviceBuffer<u64>,
}

/// What a kernel is to do. The default is nothing, with no buffers.
#[derive(Clone, Copy)]
pub(crate) struct Work {
    /// How much, in units of the kernel.
    pub(crate) work: u64,
    /// Bytes of one access.
    pub(crate) len: u64,
    /// Pages leave the cache after their use.
    pub(crate) once: bool,
    /// What tells this run's bytes from those of others.
    pub(crate) mark: u64,
    /// Memory to copy from.
    pub(crate) source: DeviceSlice<u8>,
    /// A buffer for each group.
    pub(crate) buffers: DeviceSlice<u8>,
}

impl Default for Work {
    fn default() -> Self {
        let none = DeviceSlice::new(0, 0);
        Work { work: 0, len: 0, once: false, mark: 0, source: none, buffers: none }
    }
}

/// How a launch went.
pub(crate) struct Outcome {
    /// From before the launch to after its end.
    pub(crate) seconds: f64,
    /// What the kernel left at [`ANSWER`].
    pub(crate) answer: u64,
    /// What the page cache counted meanwhile.
    pub(crate) stats: Stats,
    /// What it cost, where an interpreter ran it.
    pub(crate) counts: Option<Counts>,
}

impl Probes {
    /// A session with room for so many samples; kernels read the file at `path`, if there is one.
    pub(crate) fn new(
        builder: SessionBuilder,
        path: Option<&Path>,
        samples: usize,
    ) -> Result<Probes> {
        let session = builder.build()?;
        let path = path.map_or(&b""[..], |path| path.as_os_str().as_encoded_bytes());
        let path = session.alloc_from(path)?;
        let out = session.alloc(SAMPLES + samples)?;
        Ok(Probes { session, path, out })
    }

    fn args(&self, work: &Work) -> Probe {
        Probe {
            fs: self.session.fs(),
            path: self.path.slice(),
            out: self.out.slice(),
            source: work.source,
            buffers: work.buffers,
            work: work.work,
            len: work.len,
            once: work.once.into(),
            mark: work.mark,
        }
    }

    /// Runs a kernel to its end. It is an error if a call failed in it.
    pub(crate) fn run(
        &self,
        kernel: &Kernel<Probe>,
        shape: LaunchConfig,
        work: &Work,
    ) -> Result<Outcome> {
        self.out.copy_from(0, &[0; SAMPLES])?;
        let before = self.session.stats()?;
        let start = Instant::now();
        let counts = self.session.run(kernel, shape, self.args(work))?.counts;
        let seconds = start.elapsed().as_secs_f64();
        let mut places = [0; SAMPLES];
        self.out.copy_to(0, &mut places)?;
        if places[FAILURES] != 0 {
            return Err(format!("{}: {} calls failed", kernel.name(), places[FAILURES]).into());
        }
        let stats = since(&before, &self.session.stats()?);
        Ok(Outcome { seconds, answer: places[ANSWER], stats, counts })
    }

    /// The samples of the last run, sorted.
    pub(crate) fn samples(&self) -> Result<Vec<u64>> {
        let mut samples = self.out.to_vec()?.split_off(SAMPLES);
        samples.sort_unstable();
        Ok(samples)
    }

    /// Starts a kernel whose threads wait for the gate, and waits until `threads` of them are there.
    pub(crate) fn park(
        &self,
        kernel: &Kernel<Probe>,
        shape: LaunchConfig,
        work: &Work,
        threads: u64,
    ) -> Result<Parked<'_>> {
        self.out.copy_from(0, &[0; SAMPLES])?;
        let launch = self.session.launch(kernel, shape, self.args(work))?;
        let parked = Parked { probes: self, launch: Some(launch) };
        let start = Instant::now();
        while self.place(ANSWER).load(Ordering::Relaxed) < threads {
            if start.elapsed().as_secs() > 60 {
                return Err("threads do not arrive; are all of them resident?".into());
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        Ok(parked)
    }

    /// A place that a running kernel uses too.
    fn place(&self, index: usize) -> &AtomicU64 {
        assert!(index < SAMPLES && index != GATE);
        let addr = self.out.slice().addr() as usize + index * 8;
        // SAFETY: the emulated device's memory is this process's; the place lies in `out`, which
        // lives as long as `self`, and while kernels run it is used as an atomic word only.
        unsafe { &*(addr as *const AtomicU64) }
    }

    fn gate(&self) -> &AtomicU32 {
        let addr = self.out.slice().addr() as usize + GATE * 8;
        // SAFETY: as in `place`; kernels use this place as a word of this size, too.
        unsafe { &*(addr as *const AtomicU32) }
    }
}

/// A launch whose threads wait. Dropping it lets them go on, and waits for their end.
pub(crate) struct Parked<'a> {
    probes: &'a Probes,
    launch: Option<Launch>,
}

impl Parked<'_> {
    /// Lets the threads go on, and waits for their end.
    pub(crate) fn end(mut self) -> Result<()> {
        self.open();
        let launch = self.launch.take().ok_or("ended twice")?;
        launch.wait()?;
        match self.probes.place(FAILURES).load(Ordering::Relaxed) {
            0 => Ok(()),
            failures => Err(format!("{failures} calls failed").into()),
        }
    }

    fn open(&self) {
        self.probes.gate().store(1, Ordering::Release);
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        if let Some(launch) = self.launch.take() {
            self.open();
            launch.wait().ok();
        }
    }
}

fn since(before: &Stats, after: &Stats) -> Stats {
    Stats {
        hits: after.hits - before.hits,
        misses: after.misses - before.misses,
        evictions: after.evictions - before.evictions,
        requests: after.requests - before.requests,
        bytes_fetched: after.bytes_fetched - before.bytes_fetched,
        prefetches: after.prefetches - before.prefetches,
        waits: after.waits - before.waits,
        opens: after.opens - before.opens,
        writebacks: after.writebacks - before.writebacks,
        bytes_written: after.bytes_written - before.bytes_written,
        runs: after.runs - before.runs,
    }
}

/// `Ok` if the two are the same.
pub(crate) fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: T, want: T) -> Result<()> {
    if got == want { Ok(()) } else { Err(format!("{what}: {got:?}, not {want:?}").into()) }
}
