//! What an emulator and a launch are made of.

use std::sync::Arc;
use std::time::Duration;

use gpu_rt::Dim3;

use crate::host::{Host, NoHost};
use crate::report::LaneId;
use crate::schedule::Schedule;

/// The most threads that a block may have, as on a GPU.
pub const MAX_BLOCK_THREADS: u32 = 1024;
/// The most dynamic shared memory that a block may have, in bytes, as on a current GPU.
pub const MAX_SHARED_BYTES: usize = 227 * 1024;

/// How threads are scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As fast as this machine can, on all workers.
    Fast,
    /// On one worker, in an order that follows from the schedule alone.
    Deterministic(Schedule),
}

/// How the end of a thread's stack is guarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guard {
    /// Guard pages where the kernel can install them without a mapping each, canaries elsewhere.
    #[default]
    Auto,
    /// The last page of each stack must stay zero; looked at after each switch. Slower.
    Canary,
}

/// Where `gpu_rt::log!` goes.
pub type LogSink = Arc<dyn Fn(&str, LaneId, &str) + Send + Sync>;

/// An emulator's configuration.
#[derive(Clone)]
pub struct Config {
    /// The number of worker threads, each an emulated multiprocessor. One in deterministic mode.
    pub workers: usize,
    /// The most threads resident on one worker. Further blocks start as earlier ones end.
    pub resident_threads: u32,
    /// The stack of each thread in bytes of address space; only what is touched takes memory.
    pub stack_size: usize,
    /// How the ends of stacks are guarded.
    pub guard: Guard,
    /// How threads are scheduled.
    pub mode: Mode,
    /// How long a launch may take that does not say itself. A thread that neither ends nor calls
    /// anything of `gpu_rt` cannot be stopped.
    pub timeout: Option<Duration>,
    /// The most steps that a launch may take in deterministic mode.
    pub max_steps: u64,
    /// What serves the launches' requests on the workers' own time.
    pub host: Arc<dyn Host>,
    /// What takes messages from device code: (kernel, thread, message). Standard error without it.
    pub log: Option<LogSink>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            resident_threads: 2048,
            stack_size: if cfg!(debug_assertions) { 256 << 10 } else { 128 << 10 },
            guard: Guard::Auto,
            mode: Mode::Fast,
            timeout: None,
            max_steps: 50_000_000,
            host: Arc::new(NoHost),
            log: None,
        }
    }
}

impl Config {
    /// The default, with a deterministic mode that follows `schedule`.
    #[must_use]
    pub fn deterministic(schedule: Schedule) -> Self {
        Self { mode: Mode::Deterministic(schedule), ..Self::default() }
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("workers", &self.workers)
            .field("resident_threads", &self.resident_threads)
            .field("stack_size", &self.stack_size)
            .field("guard", &self.guard)
            .field("mode", &self.mode)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// The shape of a launch.
#[derive(Clone, Copy, Debug)]
pub struct LaunchConfig {
    /// The extent of the grid, in blocks.
    pub grid: Dim3,
    /// The extent of a block, in threads; at most [`MAX_BLOCK_THREADS`].
    pub block: Dim3,
    /// Dynamic shared memory of each block in bytes; at most [`MAX_SHARED_BYTES`].
    pub shared_bytes: usize,
    /// How long the launch may take, instead of [`Config::timeout`].
    pub timeout: Option<Duration>,
}

impl LaunchConfig {
    /// `grid` blocks of `block` threads, without dynamic shared memory.
    pub fn new(grid: impl Into<Dim3>, block: impl Into<Dim3>) -> Self {
        Self { grid: grid.into(), block: block.into(), shared_bytes: 0, timeout: None }
    }

    /// The same with dynamic shared memory.
    #[must_use]
    pub fn shared_bytes(self, shared_bytes: usize) -> Self {
        Self { shared_bytes, ..self }
    }

    /// The same with a limit of time.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }
}
