//! What the workers of an emulator share: the queue of launches, and who sleeps.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use crate::config::Config;
use crate::error::Fault;
use crate::launch::Launch;
use crate::report::Roll;
use crate::sync::lock;

/// See the module.
pub(crate) struct Shared {
    pub(crate) config: Config,
    /// Launches that have blocks left to take, oldest first.
    queue: Mutex<Vec<Arc<Launch>>>,
    /// How many launches were ever queued.
    submitted: AtomicU64,
    shut_down: AtomicBool,
    /// How many workers are in [`Shared::park`].
    parked: AtomicUsize,
    threads: OnceLock<Vec<Thread>>,
}

impl Shared {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            config,
            queue: Mutex::default(),
            submitted: AtomicU64::new(0),
            shut_down: AtomicBool::new(false),
            parked: AtomicUsize::new(0),
            threads: OnceLock::new(),
        }
    }

    /// Makes the worker threads known to those who wake them; once.
    pub(crate) fn set_threads(&self, threads: Vec<Thread>) {
        self.threads.set(threads).expect("set once");
    }

    pub(crate) fn submit(&self, launch: Arc<Launch>) {
        lock(&self.queue).push(launch);
        // Release: pairs with the Acquire load in `submitted`, so that who sees the number finds
        // the launch.
        self.submitted.fetch_add(1, Ordering::Release);
        self.unpark();
    }

    /// How many launches were ever queued.
    #[inline]
    pub(crate) fn submitted(&self) -> u64 {
        // Acquire: pairs with the Release in `submit`.
        self.submitted.load(Ordering::Acquire)
    }

    /// Takes a block of the first launch that `fits`.
    pub(crate) fn take(&self, fits: impl Fn(&Arc<Launch>) -> bool) -> Option<(Arc<Launch>, u64)> {
        let mut queue = lock(&self.queue);
        let mut number = 0;
        while let Some(launch) = queue.get(number) {
            if !fits(launch) {
                number += 1;
            } else if let Some(index) = launch.take() {
                return Some((Arc::clone(launch), index));
            } else {
                queue.remove(number);
            }
        }
        None
    }

    /// Fails the queued launches whose time is out at `now`, since no worker may hold a block of
    /// them.
    pub(crate) fn expire(&self, now: u64) {
        for launch in lock(&self.queue).iter() {
            if let (false, Some(limit)) = (launch.failed(), launch.overdue(now)) {
                launch.fail(Fault::Timeout { limit, roll: Roll::default() }, None);
            }
        }
    }

    /// Ends all workers, and fails what is queued.
    pub(crate) fn shut_down(&self) {
        // Release: pairs with the Acquire load in `shutting_down`.
        self.shut_down.store(true, Ordering::Release);
        for launch in lock(&self.queue).drain(..) {
            launch.fail(Fault::ShutDown, None);
        }
        self.unpark();
    }

    #[inline]
    pub(crate) fn shutting_down(&self) -> bool {
        // Acquire: pairs with the Release in `shut_down`.
        self.shut_down.load(Ordering::Acquire)
    }

    /// Lets a worker sleep until it is unparked or `timeout` has passed; in its host's manner.
    pub(crate) fn park(&self, worker: usize, timeout: Duration) {
        self.parked.fetch_add(1, Ordering::Relaxed);
        self.config.host.park(worker, timeout);
        self.parked.fetch_sub(1, Ordering::Relaxed);
    }

    /// Lets a worker without blocks sleep until it is unparked or `timeout` has passed.
    pub(crate) fn sleep(&self, timeout: Duration) {
        self.parked.fetch_add(1, Ordering::Relaxed);
        std::thread::park_timeout(timeout);
        self.parked.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether all other workers sleep, so that no thread of theirs can change a word soon.
    pub(crate) fn others_parked(&self) -> bool {
        self.parked.load(Ordering::Relaxed) + 1 >= self.config.workers
    }

    /// Wakes all workers.
    pub(crate) fn unpark(&self) {
        for (worker, thread) in self.threads.get().into_iter().flatten().enumerate() {
            self.config.host.unpark(worker);
            thread.unpark();
        }
    }
}
