//! How the emulator's workers and the daemon share the machine.
//!
//! Inline: a worker whose threads all wait serves the rings itself, on the core that will use the
//! answers, while they are in its caches. With daemon threads: a worker with nothing to do sleeps on
//! the region's bell, which the daemon rings when it has answered.

use crate::arena::Arena;
use gpu_abi::{HostAtomics, Region};
use gpu_emu::{Host, Progress};
use host_daemon::{Client, RegionMemory};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::time::Duration;

/// What serves a session. Fields are dropped in their order: the client, which waits for all that is
/// under way, before the memory that it writes to.
pub(crate) struct Served {
    pub(crate) client: Client,
    pub(crate) region: Arc<RegionMemory>,
    /// Kept mapped.
    #[expect(dead_code, reason = "the client's window points into it")]
    pub(crate) arena: Arc<Arena>,
}

/// Workers serve the rings themselves.
pub(crate) struct Inline(pub(crate) Arc<Served>);

impl Host for Inline {
    fn poll(&self, worker: usize) -> Progress {
        match self.0.client.poll(worker) {
            host_daemon::Progress::Worked(_) => Progress::Worked,
            host_daemon::Progress::Pending => Progress::Pending,
            host_daemon::Progress::Idle => Progress::Idle,
        }
    }

    fn park(&self, worker: usize, timeout: Duration) {
        self.0.client.park(worker, timeout);
    }

    fn unpark(&self, _worker: usize) {
        // Whoever sleeps, sleeps on the doorbell; the device's word, and here we are the device.
        let region: Region<HostAtomics> = self.0.region.region();
        let bell = &region.header().device.doorbell;
        bell.fetch_add(1, Ordering::Relaxed);
        wake_all(bell);
    }
}

/// The daemon has threads; workers sleep until it rings.
pub(crate) struct Apart(pub(crate) Arc<Served>);

thread_local! {
    /// The bell's value before this worker last looked at its threads' words, while it is announced
    /// as parked.
    static BELL: Cell<Option<u32>> = const { Cell::new(None) };
}

impl Host for Apart {
    fn poll(&self, _worker: usize) -> Progress {
        if BELL.get().is_none() {
            let region: Region<HostAtomics> = self.0.region.region();
            let header = region.header();
            // Clause D4, the device's part. The worker looks at its threads' words after this and
            // before it parks: an answer that comes later finds `parked` raised and changes the bell.
            BELL.set(Some(header.host.bell.load(Ordering::Relaxed)));
            header.device.parked.fetch_add(1, Ordering::Relaxed);
            // SeqCst: pairs with the daemon's fence between its answers and its look at `parked`.
            fence(Ordering::SeqCst);
        }
        Progress::Idle
    }

    fn park(&self, _worker: usize, timeout: Duration) {
        let region: Region<HostAtomics> = self.0.region.region();
        let header = region.header();
        if let Some(bell) = BELL.take() {
            wait(&header.host.bell, bell, timeout);
            header.device.parked.fetch_sub(1, Ordering::Relaxed);
        } else {
            std::thread::park_timeout(timeout);
        }
    }

    fn unpark(&self, _worker: usize) {
        let region: Region<HostAtomics> = self.0.region.region();
        wake_all(&region.header().host.bell);
    }
}

fn wait(word: &AtomicU32, value: u32, timeout: Duration) {
    let timeout = libc::timespec {
        tv_sec: timeout.as_secs() as libc::time_t,
        tv_nsec: timeout.subsec_nanos().into(),
    };
    // SAFETY: the word and the time outlive the call.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, value, &raw const timeout)
    };
}

fn wake_all(word: &AtomicU32) {
    // SAFETY: the word outlives the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}
