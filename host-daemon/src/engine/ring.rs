//! Reads that have to wait, by io_uring: one ring per worker.

use super::{Flight, errno, read_waiting};
use crate::wake::FUTEX2_SIZE_U32;
use crate::{DeviceWindow, Options};
use gpu_abi::{Errno, HostAtomics, Region};
use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, opcode, squeue};
use std::io;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// `user_data` of what is no read.
const WORD: u64 = u64::MAX;
/// Longest piece of memory that the kernel registers as one buffer.
const BUFFER_MAX: usize = 1 << 30;

/// A worker's ring and the reads under way in it.
pub(crate) struct Ring {
    uring: IoUring,
    flights: Box<[Option<Flight>]>,
    free: Vec<u32>,
    /// Registered memory, in order.
    buffers: Vec<libc::iovec>,
    /// Whether the kernel can wait on a futex and on reads at once (Linux 6.7).
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
            flights: vec![None; depth as usize].into(),
            free: (0..depth).rev().collect(),
            buffers: Vec::new(),
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

    /// Queues a read; the caller has seen that there is room.
    pub(crate) fn push(&mut self, flight: Flight) {
        let Some(index) = self.free.pop() else { unreachable!("room was checked") };
        self.flights[index as usize] = Some(flight);
        let entry = self.entry(&flight, index.into());
        self.enqueue(&entry);
    }

    fn entry(&self, flight: &Flight, user_data: u64) -> squeue::Entry {
        let (at, left, offset) = flight.rest();
        let (fd, left) = (Fd(flight.file.fd), left as u32);
        let fits = |b: &libc::iovec| {
            let from = (at as usize).wrapping_sub(b.iov_base as usize);
            from <= b.iov_len && left as usize <= b.iov_len - from
        };
        let entry = match self.buffers.iter().position(fits) {
            Some(i) => opcode::ReadFixed::new(fd, at, left, i as u16).offset(offset as u64).build(),
            None => opcode::Read::new(fd, at, left).offset(offset as u64).build(),
        };
        entry.user_data(user_data)
    }

    fn enqueue(&mut self, entry: &squeue::Entry) {
        loop {
            // SAFETY: the target of a read lives until the read has ended (`Client`'s drop waits),
            // the wait for a word is cancelled before `wait` returns.
            if unsafe { self.uring.submission().push(entry) }.is_ok() {
                return;
            }
            // Full of entries that the kernel has not taken yet: hand them over.
            let _ = self.uring.submit();
        }
    }

    /// Hands queued reads to the kernel; whether there were any. What it cannot take now (EAGAIN,
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

    /// Hands every read that has ended to `land`; how many.
    pub(crate) fn reap(&mut self, mut land: impl FnMut(&Flight, Result<u64, Errno>)) -> usize {
        let mut landed = 0;
        loop {
            // Taken one by one: an entry queued again below needs the ring.
            let next = self.uring.completion().next();
            let Some(entry) = next else { return landed };
            let index = entry.user_data();
            let Some(Some(flight)) = self.flights.get_mut(index as usize) else { continue };
            let result = match entry.result() {
                // Short before the end of the file: what the kernel had at hand. Ask again.
                n if n >= 0 => {
                    flight.done += n as usize;
                    if n > 0 && !flight.is_complete() {
                        let flight = *flight;
                        let entry = self.entry(&flight, index);
                        self.enqueue(&entry);
                        continue;
                    }
                    Ok(flight.done as u64)
                }
                // The kernel could neither wait nor delegate: rare, and better slow than wrong.
                e if matches!(-e, libc::EAGAIN | libc::EINTR) => read_waiting(*flight),
                e => flight.ended_by(errno(-e)),
            };
            if let Some(flight) = self.flights[index as usize].take() {
                self.free.push(index as u32);
                land(&flight, result);
                landed += 1;
            }
        }
    }

    /// Sleeps until a read ends, one of the words changes or is rung, or time is up.
    ///
    /// The kernel waits for a futex as for a read (Linux 6.7). Before that, the sleep is cut to a
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

    /// Sleeps until a read ends; false if the kernel refuses to wait.
    pub(crate) fn submit_and_wait(&mut self) -> bool {
        match self.uring.submit_and_wait(1) {
            Ok(_) => true,
            Err(e) => {
                matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY | libc::EINTR))
            }
        }
    }
}
