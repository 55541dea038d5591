//! A launch: what is to run, how far it has come, how it ended.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use gpu_rt::host::wall_clock;

use crate::config::{Config, LaunchConfig, MAX_BLOCK_THREADS, MAX_SHARED_BYTES};
use crate::error::{Fault, LaunchError, Replay};
use crate::sync::lock;

/// What each thread runs.
pub(crate) enum Work {
    /// A function of the host program, in a fiber.
    Function(Box<dyn Fn() + Send + Sync>),
    /// A kernel of a module.
    Ptx(Arc<crate::ptx::Call>),
}

/// A launch that ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaunchReport {
    /// How long it took, from its submission to the end of its last block.
    pub elapsed: Duration,
    /// How many threads it had.
    pub threads: u64,
    /// How often a thread was resumed.
    pub switches: u64,
    /// In deterministic mode, the hash of all scheduling decisions.
    pub trace: Option<u64>,
    /// What it cost, where the PTX interpreter ran it.
    pub counts: Option<crate::ptx::Counts>,
}

/// A launch, shared between its handle and the workers.
pub(crate) struct Launch {
    pub(crate) name: String,
    pub(crate) config: LaunchConfig,
    pub(crate) blocks: u64,
    /// The most blocks of it that one worker takes at a time, so that all workers get some.
    pub(crate) share: u64,
    /// On the clock of `gpu_rt::host::wall_clock`.
    deadline: Option<u64>,
    limit: Duration,
    /// The test that launched.
    pub(crate) test: Option<String>,
    pub(crate) work: Work,
    /// Set with the first error: workers drop its blocks as soon as they see it.
    failed: AtomicBool,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug)]
struct State {
    started: Instant,
    /// The first block that no worker has taken.
    next: u64,
    /// Blocks that workers hold.
    resident: u64,
    switches: u64,
    trace: Option<u64>,
    counts: Option<crate::ptx::Counts>,
    error: Option<LaunchError>,
    elapsed: Option<Duration>,
}

impl Launch {
    pub(crate) fn new(
        name: &str,
        work: Work,
        config: LaunchConfig,
        emulator: &Config,
    ) -> Result<Self, LaunchError> {
        if let Err(fault) = check(&config, emulator) {
            return Err(LaunchError { kernel: name.to_owned(), fault: fault.into(), replay: None });
        }
        let started = Instant::now();
        let blocks = config.grid.count();
        let timeout = config.timeout.or(emulator.timeout);
        Ok(Self {
            name: name.to_owned(),
            blocks,
            share: blocks.div_ceil(emulator.workers as u64),
            deadline: timeout.map(|timeout| {
                wall_clock().saturating_add(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX))
            }),
            limit: timeout.unwrap_or_default(),
            test: std::thread::current().name().filter(|&name| name != "main").map(str::to_owned),
            config,
            work,
            failed: AtomicBool::new(false),
            state: Mutex::new(State {
                started,
                next: 0,
                resident: 0,
                switches: 0,
                trace: None,
                counts: None,
                error: None,
                elapsed: None,
            }),
            ended: Condvar::new(),
        })
    }

    /// Runs the kernel for the current lane.
    #[inline]
    pub(crate) fn run(&self) {
        if let Work::Function(entry) = &self.work {
            entry();
        }
    }

    pub(crate) fn threads_per_block(&self) -> u32 {
        // At most `MAX_BLOCK_THREADS`.
        self.config.block.count() as u32
    }

    /// Whether the launch has failed; workers may see it late.
    #[inline]
    pub(crate) fn failed(&self) -> bool {
        // Relaxed: only a hint to look sooner; all that counts is under the lock.
        self.failed.load(Ordering::Relaxed)
    }

    /// What to say if its time is out at `now`.
    #[inline]
    pub(crate) fn overdue(&self, now: u64) -> Option<String> {
        (self.deadline? <= now).then(|| format!("within {:?}", self.limit))
    }

    /// Takes a block, if there is one left.
    pub(crate) fn take(&self) -> Option<u64> {
        let mut state = lock(&self.state);
        if state.error.is_some() || state.next == self.blocks {
            return None;
        }
        state.next += 1;
        state.resident += 1;
        Some(state.next - 1)
    }

    /// A block that was taken is no longer resident.
    pub(crate) fn give_back(&self, switches: u64, trace: Option<u64>) {
        let mut state = lock(&self.state);
        state.resident -= 1;
        state.switches += switches;
        state.trace = trace;
        self.check_end(state);
    }

    /// What a block cost that is about to be given back.
    pub(crate) fn count(&self, counts: crate::ptx::Counts) {
        *lock(&self.state).counts.get_or_insert_default() += counts;
    }

    /// The launch has failed. Of several errors the first counts.
    pub(crate) fn fail(&self, fault: Fault, replay: Option<Replay>) {
        let mut state = lock(&self.state);
        self.failed.store(true, Ordering::Relaxed);
        state.error.get_or_insert_with(|| LaunchError {
            kernel: self.name.clone(),
            fault: fault.into(),
            replay,
        });
        self.check_end(state);
    }

    fn check_end(&self, mut state: MutexGuard<'_, State>) {
        let over = state.error.is_some() || state.next == self.blocks;
        if over && state.resident == 0 && state.elapsed.is_none() {
            state.elapsed = Some(state.started.elapsed());
            self.ended.notify_all();
        }
    }
}

/// A launch under way. Dropping it lets the launch run on.
#[must_use = "a launch's errors are only known to those who wait for it"]
pub struct LaunchHandle(pub(crate) Arc<Launch>);

impl LaunchHandle {
    /// Waits until the launch has ended and none of its threads runs any more.
    ///
    /// # Errors
    /// Why the launch failed.
    pub fn wait(self) -> Result<LaunchReport, LaunchError> {
        let mut state = lock(&self.0.state);
        loop {
            if let Some(elapsed) = state.elapsed {
                return match state.error.take() {
                    Some(error) => Err(error),
                    None => Ok(LaunchReport {
                        elapsed,
                        threads: self.0.blocks * u64::from(self.0.threads_per_block()),
                        switches: state.switches,
                        trace: state.trace,
                        counts: state.counts,
                    }),
                };
            }
            state = self.0.ended.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }

    /// Whether the launch has ended, well or not.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        lock(&self.0.state).elapsed.is_some()
    }
}

impl std::fmt::Debug for LaunchHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LaunchHandle").field("kernel", &self.0.name).finish_non_exhaustive()
    }
}

fn check(config: &LaunchConfig, emulator: &Config) -> Result<(), Fault> {
    let threads = config.block.count();
    if threads == 0 || config.grid.count() == 0 {
        return Err(Fault::Empty { grid: config.grid, block: config.block });
    }
    if threads > u64::from(MAX_BLOCK_THREADS) {
        return Err(Fault::BlockTooLarge { threads });
    }
    if threads > u64::from(emulator.resident_threads) {
        return Err(Fault::BlockDoesNotFit { threads, resident: emulator.resident_threads });
    }
    if config.shared_bytes > MAX_SHARED_BYTES {
        return Err(Fault::SharedTooLarge { bytes: config.shared_bytes });
    }
    Ok(())
}
