//! The emulator: workers, and what is launched on them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use gpu_rt::host::Preemption;
use gpu_rt::{Kernel, Pod};

use crate::config::{Config, LaunchConfig, Mode};
use crate::error::{Fault, LaunchError};
use crate::launch::{Launch, LaunchHandle, LaunchReport, Work};
use crate::shared::Shared;
use crate::worker::Core;
use crate::{deterministic, fast, overflow, panics};

/// An emulated GPU: see the [crate](crate).
pub struct Emulator {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    _preemption: Option<Preemption>,
}

/// A kernel's argument, on its way to the workers.
struct Argument<A>(A);

// SAFETY: plain bytes. What addresses among them refer to is the business of the kernel, as on a
// GPU.
unsafe impl<A: Pod> Send for Argument<A> {}
// SAFETY: as above.
unsafe impl<A: Pod> Sync for Argument<A> {}

impl<A: Pod> Argument<A> {
    fn get(&self) -> A {
        self.0
    }
}

impl Emulator {
    /// An emulator with its workers started, which sleep until something is launched.
    ///
    /// # Panics
    /// Where the system gives no threads.
    #[must_use]
    pub fn new(mut config: Config) -> Self {
        panics::install();
        overflow::install();
        let deterministic = matches!(config.mode, Mode::Deterministic(_));
        config.workers = if deterministic { 1 } else { config.workers.max(1) };
        let shared = Arc::new(Shared::new(config));
        let workers: Vec<_> = (0..shared.config.workers)
            .map(|number| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(format!("gpu-emu-{number}"))
                    .spawn(move || work(number, shared))
                    .expect("the system gives no more threads: lower Config::workers")
            })
            .collect();
        shared.set_threads(workers.iter().map(|worker| worker.thread().clone()).collect());
        Self { shared, workers, _preemption: deterministic.then(Preemption::enable) }
    }

    /// The configuration, as it came out: at least one worker, exactly one in deterministic mode.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Launches a kernel. Launches run side by side: the blocks of one start as soon as workers
    /// have room.
    ///
    /// # Errors
    /// Where no worker could ever hold a block of that shape.
    pub fn submit<A: Pod>(
        &self,
        kernel: &Kernel<A>,
        args: A,
        config: LaunchConfig,
    ) -> Result<LaunchHandle, LaunchError> {
        let (entry, args) = (kernel.entry(), Argument(args));
        self.submit_fn(kernel.name(), config, move || entry(args.get()))
    }

    /// Launches a closure, which each thread calls.
    ///
    /// # Errors
    /// Where no worker could ever hold a block of that shape.
    pub fn submit_fn(
        &self,
        name: &str,
        config: LaunchConfig,
        entry: impl Fn() + Send + Sync + 'static,
    ) -> Result<LaunchHandle, LaunchError> {
        self.enqueue(name, Work::Function(Box::new(entry)), config)
    }

    fn enqueue(
        &self,
        name: &str,
        work: Work,
        config: LaunchConfig,
    ) -> Result<LaunchHandle, LaunchError> {
        let launch = Arc::new(Launch::new(name, work, config, &self.shared.config)?);
        self.shared.submit(Arc::clone(&launch));
        Ok(LaunchHandle(launch))
    }

    /// Launches a kernel and waits for its end.
    ///
    /// # Errors
    /// Why the launch failed.
    pub fn run<A: Pod>(
        &self,
        kernel: &Kernel<A>,
        args: A,
        config: LaunchConfig,
    ) -> Result<LaunchReport, LaunchError> {
        self.submit(kernel, args, config)?.wait()
    }

    /// Launches a closure, which may borrow, and waits for its end.
    ///
    /// When the launch fails, its threads are dropped where they stand: destructors of what they
    /// hold do not run.
    ///
    /// # Errors
    /// Why the launch failed.
    pub fn run_fn(
        &self,
        name: &str,
        config: LaunchConfig,
        entry: &(dyn Fn() + Sync),
    ) -> Result<LaunchReport, LaunchError> {
        // SAFETY: the launch ends before this returns, and after its end no thread of it runs and
        // nobody calls `entry`; dropping the box then drops a reference.
        let entry: &'static (dyn Fn() + Sync) = unsafe { std::mem::transmute(entry) };
        self.enqueue(name, Work::Function(Box::new(entry)), config)?.wait()
    }

    /// A handle that wakes the workers, for host threads that change the words that GPU threads
    /// wait for.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.shared))
    }
}

impl Drop for Emulator {
    /// Fails the launches that are under way, and ends the workers.
    fn drop(&mut self) {
        self.shared.shut_down();
        for worker in self.workers.drain(..) {
            // A worker that panicked has said so.
            let _ = worker.join();
        }
    }
}

impl std::fmt::Debug for Emulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Emulator").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

/// Wakes the workers of an emulator; see [`Emulator::waker`].
#[derive(Clone)]
pub struct Waker(Arc<Shared>);

impl Waker {
    /// Has all workers look at the words that their threads wait for. Without it they do so within
    /// fifty milliseconds.
    pub fn wake(&self) {
        self.0.unpark();
    }
}

impl std::fmt::Debug for Waker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waker")
    }
}

/// The body of a worker thread.
fn work(number: usize, shared: Arc<Shared>) {
    let core = Core::new(number, shared);
    let _watch = overflow::watch(&core);
    loop {
        let result = catch_unwind(AssertUnwindSafe(|| match &core.deterministic {
            Some(state) => deterministic::run(&core, state),
            None => fast::run(&core),
        }));
        let fault = match result {
            Ok(()) => Fault::ShutDown,
            Err(payload) => Fault::Host(panics::message(&*payload).to_owned()),
        };
        core.abandon(&fault);
        if matches!(fault, Fault::ShutDown) {
            break;
        }
    }
}
