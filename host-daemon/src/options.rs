//! How a daemon serves.

use crate::{DaemonError, Faults};
use std::sync::Arc;

/// What carries out requests that have to wait for a device. Reads that hit the host's page cache, and
/// writes, which go there, are served at once by the polling thread whatever the engine, unless
/// [`Options::nowait_first`] is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum EngineChoice {
    /// `GPU_HOSTD_ENGINE` if it is set (`pread`, `io_uring`); else io_uring where the kernel admits
    /// it; else a small pool of threads.
    #[default]
    Auto,
    /// io_uring, or an error.
    IoUring,
    /// The polling thread does everything, and waits: `poll` has answered all it took when it returns.
    /// Deterministic; one slow read, or sync, blocks its worker.
    Pread,
    /// This many threads (1 to 256) do what has to wait.
    PreadPool(usize),
}

/// The engine that a daemon settled on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    /// See [`EngineChoice::IoUring`].
    IoUring,
    /// See [`EngineChoice::Pread`].
    Pread,
    /// See [`EngineChoice::PreadPool`].
    PreadPool(usize),
}

/// How a daemon serves its clients.
#[derive(Clone, Debug)]
pub struct Options {
    /// What carries out requests that have to wait.
    pub engine: EngineChoice,
    /// Contexts of each client that can poll at once: 1 to 256.
    pub ring_workers: usize,
    /// Register the transfer slots and the device window with io_uring. Falls back without a word
    /// where `RLIMIT_MEMLOCK` forbids it.
    pub register_buffers: bool,
    /// Requests that one `poll` takes at most: 1 to 256.
    pub batch: usize,
    /// Bytes of reads and writes that one `poll` takes at most (it always takes one request), so that what has
    /// been read is used while it still lies in the CPU's cache.
    pub batch_bytes: usize,
    /// Requests of one worker that may be under way at once: 1 to 4096.
    pub in_flight: usize,
    /// Try each read without waiting on the polling thread before it goes to the engine, and write
    /// there.
    pub nowait_first: bool,
    /// For tests: system calls that fail on purpose. May be changed while the daemon serves. `None`
    /// costs nothing.
    pub faults: Option<Arc<Faults>>,
    /// Threads that move the bytes of sockets: 1 to 64. They exist only if a client has sockets.
    pub net_threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            engine: EngineChoice::Auto,
            ring_workers: std::thread::available_parallelism().map_or(1, |n| n.get().min(8)),
            register_buffers: false,
            batch: 16,
            batch_bytes: 1 << 20,
            in_flight: 256,
            nowait_first: true,
            faults: None,
            net_threads: 1,
        }
    }
}

impl Options {
    pub(crate) fn check(&self) -> Result<(), DaemonError> {
        let within = |name, value: usize, max: usize, limits| {
            if (1..=max).contains(&value) {
                Ok(())
            } else {
                Err(DaemonError::Option { name, value, limits })
            }
        };
        within("ring_workers", self.ring_workers, 256, "1 to 256")?;
        within("batch", self.batch, 256, "1 to 256")?;
        within("in_flight", self.in_flight, 4096, "1 to 4096")?;
        within("net_threads", self.net_threads, 64, "1 to 64")?;
        if let EngineChoice::PreadPool(threads) = self.engine {
            within("engine (threads of PreadPool)", threads, 256, "1 to 256")?;
        }
        Ok(())
    }
}
