//! What has to wait, by io_uring: one ring per worker.

use super::{Flight, Job, carry_out, errno};
use crate::faults::{Fate, Faults};
use crate::wake::FUTEX2_SIZE_U32;
use crate::{DeviceWindow, Options};
use gpu_abi::{Errno, HostAtomics, Region};
use io_uring::types::{CancelBuilder, Fd, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, opcode, squeue};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// `user_data` of what is no flight.
const WORD: u64 = u64::MAX;
/// Longest piece of memory that the kernel registers as one buffer.
const BUFFER_MAX: usize = 1 << 30;

/// A worker's ring and what is under way in it.
pub(crate) struct Ring {
    uring: IoUring,
    flights: Box<[Option<Flight>]>,
    free: Vec<u32>,
    /// Registered memory, in order.
    buffers: Vec<libc::iovec>,
    faults: Option<Arc<Faults>>,
    /// Whether the kernel can wait on a futex and on requests at once (Linux 6.7).
    can_wait_futex: bool,
}

// SAFETY: the addresses are those of memory that any thread may write; see `Flight`.
unsafe impl Send for Ring {}

/// Whether a ring can be set up at all.
pub(crate) fn probe() -> io::Result<()> {
    let uring = IoUring::new(4)?;
    let mut probe = Probe::new();
    uring.submitter().register_probe(&mut probe)?;
    if probe.is_supported(opcode::Read::CODE) && uring.params().is_feature_ext_arg() {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::Unsupported, "it lacks what Linux 5.11 has"))
    }
}

impl Ring {
    pub(crate) fn new(
        region: &Region<HostAtomics>,
        window: Option<DeviceWindow>,
        options: &Options,
    ) -> io::Result<Ring> {
        let depth = options.in_flight as u32;
        // Two entries more for the words that `wait` watches. No flag that ties the ring to one
        // thread: any thread may drive a worker.
        let uring = IoUring::new((depth + 2).next_power_of_two())?;
        let mut probe = Probe::new();
        uring.submitter().register_probe(&mut probe)?;
        let mut ring = Ring {
            uring,
            flights: (0..depth).map(|_| None).collect(),
            free: (0..depth).rev().collect(),
            buffers: Vec::new(),
            faults: options.faults.clone(),
            can_wait_futex: probe.is_supported(opcode::FutexWait::CODE),
        };
        if options.register_buffers {
            ring.register(region, window);
        }
        Ok(ring)
    }

    fn register(&mut self, region: &Region<HostAtomics>, window: Option<DeviceWindow>) {
        let layout = region.layout();
        let mut buffers = Vec::new();
        let mut add = |base: *mut u8, len: usize| {
            for at in (0..len).step_by(BUFFER_MAX) {
                // SAFETY: `at` is below the length of this memory.
                let iov_base = unsafe { base.add(at) }.cast();
                buffers.push(libc::iovec { iov_base, iov_len: (len - at).min(BUFFER_MAX) });
            }
        };
        // SAFETY: the slots begin within the region.
        add(unsafe { region.base().as_ptr().add(layout.slots) }, layout.total - layout.slots);
        if let Some(window) = window {
            add(window.base().as_ptr(), window.len());
        }
        // SAFETY: the region and the window live longer than the ring (`Client`'s drop).
        match unsafe { self.uring.submitter().register_buffers(&buffers) } {
            Ok(()) => self.buffers = buffers,
            Err(e) => tracing::debug!("buffers are not registered ({e}); raise ulimit -l"),
        }
    }

    pub(crate) fn flights(&self) -> u32 {
        (self.flights.len() - self.free.len()) as u32
    }

    pub(crate) fn room(&self) -> usize {
        self.free.len()
    }

    /// Queues a request; the caller has seen that there is room. Appends do not come here: where
    /// their bytes went is known only to who made the system call.
    pub(crate) fn push(&mut self, flight: Flight) {
        let Some(index) = self.free.pop() else { unreachable!("room was checked") };
        self.issue(index, flight);
    }

    /// Queues the next system call of a request.
    fn issue(&mut self, index: u32, mut flight: Flight) {
        let limit = match flight.fate(self.faults.as_deref()) {
            Fate::Upto(limit) => limit,
            Fate::Fails(errno) => {
                flight.doom = Some(errno);
                0
            }
        };
        let entry = entry(&self.buffers, &mut flight, limit).user_data(index.into());
        self.flights[index as usize] = Some(flight);
        self.enqueue(&entry);
    }

    fn enqueue(&mut self, entry: &squeue::Entry) {
        loop {
            // SAFETY: the memory of a request lives until that has ended (`Client`'s drop waits), its
            // iovecs lie in the flight, the wait for a word is cancelled before `wait` returns.
            if unsafe { self.uring.submission().push(entry) }.is_ok() {
                return;
            }
            // Full of entries that the kernel has not taken yet: hand them over.
            let _ = self.uring.submit();
        }
    }

    /// Hands what is queued to the kernel; whether there were any. What it cannot take now (EAGAIN,
    /// EBUSY) stays queued for the next time.
    pub(crate) fn submit(&mut self) -> bool {
        if self.uring.submission().is_empty() {
            return false;
        }
        if let Err(e) = self.uring.submit()
            && !matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY | libc::EINTR))
        {
            tracing::error!("io_uring_enter failed: {e}");
        }
        true
    }

    /// Whether something has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        !self.uring.completion().is_empty()
    }

    /// Hands every request that has ended to `land`; how many.
    pub(crate) fn reap(&mut self, mut land: impl FnMut(&Flight, Result<u64, Errno>)) -> usize {
        let mut landed = 0;
        loop {
            // Taken one by one: an entry queued again below needs the ring.
            let next = self.uring.completion().next();
            let Some(entry) = next else { return landed };
            let index = entry.user_data();
            let flight = self.flights.get_mut(index as usize).and_then(Option::take);
            let Some(mut flight) = flight else { continue };
            let result = match (flight.doom, entry.result()) {
                (Some(errno), _) => flight.ended_by(errno),
                (None, n) if n >= 0 => match flight.went_on(n as usize) {
                    Some(result) => result,
                    // Short: what the kernel had at hand, or room for. Ask again.
                    None => {
                        self.issue(index as u32, flight);
                        continue;
                    }
                },
                // The kernel could neither wait nor delegate: rare, and better slow than wrong.
                (None, e) if matches!(-e, libc::EAGAIN | libc::EINTR) => {
                    carry_out(&mut flight, self.faults.as_deref())
                }
                (None, e) => flight.ended_by(errno(-e)),
            };
            self.free.push(index as u32);
            land(&flight, result);
            landed += 1;
        }
    }

    /// Sleeps until a request ends, one of the words changes or is rung, or time is up.
    ///
    /// The kernel waits for a futex as for all else (Linux 6.7). Before that, the sleep is cut to a
    /// quarter of a millisecond, so that the words are looked at often enough.
    pub(crate) fn wait(&mut self, words: &[(&AtomicU32, u32)], timeout: Duration) {
        let timeout = if self.can_wait_futex {
            for (word, expected) in words {
                let futex = opcode::FutexWait::new(
                    word.as_ptr(),
                    u64::from(*expected),
                    u32::MAX.into(),
                    FUTEX2_SIZE_U32,
                );
                self.enqueue(&futex.build().user_data(WORD));
            }
            timeout
        } else {
            timeout.min(Duration::from_micros(250))
        };
        let timespec = Timespec::from(timeout);
        let args = SubmitArgs::new().timespec(&timespec);
        // Timeout, interruption, or something has ended: the caller looks either way.
        let _ = self.uring.submitter().submit_with_args(1, &args);
        if self.can_wait_futex {
            // A waiter left behind would swallow a wake meant for a worker that sleeps.
            let cancel = CancelBuilder::user_data(WORD).all();
            let _ = self.uring.submitter().register_sync_cancel(None, cancel);
        }
    }

    /// Sleeps until a request ends; false if the kernel refuses to wait.
    pub(crate) fn submit_and_wait(&mut self) -> bool {
        match self.uring.submit_and_wait(1) {
            Ok(_) => true,
            Err(e) => {
                matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY | libc::EINTR))
            }
        }
    }
}

/// The next system call of a request, for at most `limit` bytes; none if it is doomed, but something
/// that ends as that would.
fn entry(buffers: &[libc::iovec], flight: &mut Flight, limit: usize) -> squeue::Entry {
    if flight.doom.is_some() {
        return opcode::Nop::new().build();
    }
    let fd = Fd(flight.file.fd);
    let reads = match &mut flight.job {
        Job::Read => true,
        Job::Write | Job::Append => false,
        Job::WriteRuns(gather) => {
            let (call, offset) = gather.call(limit);
            let (at, count) = (call.as_ptr(), call.len() as u32);
            return opcode::Writev::new(fd, at, count).offset(offset).build();
        }
        Job::Sync { data_only } => {
            let flags = if *data_only { FsyncFlags::DATASYNC } else { FsyncFlags::empty() };
            return opcode::Fsync::new(fd).flags(flags).build();
        }
    };
    let (at, left, offset) = flight.rest();
    // V5: at most 2 MiB.
    let (left, offset) = (left.min(limit) as u32, offset as u64);
    let fits = |b: &libc::iovec| {
        let from = (at as usize).wrapping_sub(b.iov_base as usize);
        from <= b.iov_len && left as usize <= b.iov_len - from
    };
    match (reads, buffers.iter().position(fits)) {
        (true, Some(i)) => opcode::ReadFixed::new(fd, at, left, i as u16).offset(offset).build(),
        (true, None) => opcode::Read::new(fd, at, left).offset(offset).build(),
        (false, Some(i)) => opcode::WriteFixed::new(fd, at, left, i as u16).offset(offset).build(),
        (false, None) => opcode::Write::new(fd, at, left).offset(offset).build(),
    }
}
