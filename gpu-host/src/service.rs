//! What serves a session's requests, as its device sees it.
//!
//! Inline: a worker whose threads all wait serves the rings itself, on the core that will use the
//! answers, while they are in its caches. With daemon threads: a worker with nothing to do sleeps on
//! the region's bell, which the daemon rings when it has answered. A GPU has no workers, and can
//! ring nothing: while it runs kernels the daemon's threads stay awake.

use crate::DaemonMode;
use crate::device::Window;
use gpu_abi::HostAtomics;
use gpu_abi::layout::Header;
use gpu_emu::{Host, Progress};
use host_daemon::{AwakeGuard, Client, RegionMemory};
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
    pub(crate) window: Option<Window>,
}

// SAFETY: the window's base is an address; what it points to lives as long as this.
unsafe impl Send for Served {}
// SAFETY: as above; the client and the region are made to be shared.
unsafe impl Sync for Served {}

/// What serves the requests of a device's kernels.
#[derive(Clone)]
pub struct Service {
    served: Arc<Served>,
    mode: DaemonMode,
}

impl Service {
    pub(crate) fn new(served: Arc<Served>, mode: DaemonMode) -> Service {
        Service { served, mode }
    }

    /// For devices whose threads are run by workers of the host's.
    pub fn host(&self) -> Arc<dyn Host> {
        match self.mode {
            DaemonMode::Inline => Arc::new(Inline(self.served.clone())),
            DaemonMode::Threads(_) => Arc::new(Apart(self.served.clone())),
        }
    }

    /// For devices that cannot ring the doorbell: to be held while kernels run.
    pub fn keep_awake(&self) -> AwakeGuard {
        self.served.client.keep_awake()
    }

    /// Ends all waiting for the host (clause H3): kernels that wait, now or later, are told `EIO`.
    /// There is no way back.
    pub fn give_up(&self) {
        self.served.client.stop();
    }
}

thread_local! {
    /// While this worker is announced as asleep: the bell's value at that time.
    static BELL: Cell<Option<u32>> = const { Cell::new(None) };
}

impl Served {
    fn header(&self) -> &Header<HostAtomics> {
        self.region.region().header()
    }

    /// Clause D4, the device's part. A worker that found nothing to serve looks at its threads' words
    /// after this and before it sleeps: an answer that comes later finds `parked` raised, and changes
    /// the bell.
    fn announce(&self) {
        if BELL.get().is_none() {
            let header = self.header();
            BELL.set(Some(header.host.bell.load(Ordering::Relaxed)));
            header.device.parked.fetch_add(1, Ordering::Relaxed);
            // SeqCst: pairs with the daemon's fence between its answers and its look at `parked`.
            fence(Ordering::SeqCst);
        }
    }

    /// Clause N13.
    pub(crate) fn ask_to_end(&self) {
        // Relaxed: kernels look now and then.
        self.header().host.ending.store(1, Ordering::Relaxed);
    }

    /// Takes the announcement back.
    fn awake(&self) {
        if BELL.take().is_some() {
            self.header().device.parked.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Workers serve the rings themselves.
struct Inline(Arc<Served>);

impl Host for Inline {
    fn poll(&self, worker: usize) -> Progress {
        match self.0.client.poll(worker) {
            host_daemon::Progress::Worked(_) => {
                self.0.awake();
                Progress::Worked
            }
            host_daemon::Progress::Pending => {
                self.0.announce();
                Progress::Pending
            }
            host_daemon::Progress::Idle => {
                self.0.announce();
                Progress::Idle
            }
        }
    }

    fn park(&self, worker: usize, timeout: Duration) {
        match BELL.get() {
            Some(bell) => self.0.client.park_watching(worker, bell, timeout),
            None => self.0.client.park(worker, timeout),
        }
        self.0.awake();
    }

    fn unpark(&self, _worker: usize) {
        // Whoever sleeps watches the doorbell; that is the device's word, and here we are the device.
        let bell = &self.0.header().device.doorbell;
        // Not by counting up: the next request of the device may store that very value.
        bell.fetch_xor(1 << 31, Ordering::Relaxed);
        wake_all(bell);
    }
}

/// The daemon has threads; workers sleep until it rings.
struct Apart(Arc<Served>);

impl Host for Apart {
    fn poll(&self, _worker: usize) -> Progress {
        self.0.announce();
        Progress::Idle
    }

    fn park(&self, _worker: usize, timeout: Duration) {
        match BELL.get() {
            Some(bell) => wait(&self.0.header().host.bell, bell, timeout),
            None => std::thread::park_timeout(timeout),
        }
        self.0.awake();
    }

    fn unpark(&self, _worker: usize) {
        wake_all(&self.0.header().host.bell);
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
