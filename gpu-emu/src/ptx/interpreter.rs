//! The interpreter: workers, a module, and what is launched of it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::counts::Counts;
use super::log::Log;
use super::memory::Allocations;
use super::module::Module;
use super::profile::{Profile, ProfileLine};
use super::work::Call;
use super::worker::Worker;
use crate::config::{Config, LaunchConfig};
use crate::error::{Fault, LaunchError};
use crate::launch::{Launch, LaunchHandle, LaunchReport, Work};
use crate::panics;
use crate::shared::Shared;
use crate::sync::lock;

/// How to interpret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether loads of shared memory that nobody has written, and races of blocks for plain words,
    /// are errors. Much slower.
    pub check: bool,
    /// Whether to count for each instruction by how many threads it was executed: see
    /// [`Interpreter::profile`]. A little slower.
    pub profile: bool,
}

/// What workers share.
pub(super) struct State {
    pub(super) shared: Shared,
    pub(super) memory: Allocations,
    pub(super) log: Log,
    /// Of all blocks that have ended, by kernel.
    pub(super) totals: Mutex<BTreeMap<String, Counts>>,
    /// Of the same, if it is wanted.
    pub(super) profile: Mutex<Profile>,
    /// Kept, since kernels use its variables.
    module: Module,
}

/// A GPU that runs PTX, instruction by instruction: see the [module](super).
pub struct Interpreter {
    state: Arc<State>,
    options: Options,
    workers: Vec<JoinHandle<()>>,
}

impl Interpreter {
    /// An interpreter of a module, its workers started, which sleep until something is launched. Of
    /// the configuration it heeds workers, resident threads, the size of stacks (which is that of
    /// local memory), the limit of time, the host and the log.
    ///
    /// # Panics
    /// Where the system gives no threads.
    #[must_use]
    pub fn new(config: Config, module: Module, options: Options) -> Interpreter {
        Interpreter::with_memory(config, module, options, Allocations::default())
    }

    /// The same, whose kernels may access what has been added to `memory` already.
    ///
    /// # Panics
    /// Where the system gives no threads.
    #[must_use]
    pub fn with_memory(
        mut config: Config,
        module: Module,
        options: Options,
        memory: Allocations,
    ) -> Interpreter {
        config.workers = config.workers.max(1);
        for global in &module.program.globals.variables {
            // SAFETY: it lives as long as the module, which the state keeps; the host accesses it
            // atomically.
            unsafe { memory.add(global.address, global.bytes.into()) };
        }
        let log = Log::new(&module, &memory, config.log.clone());
        let state = Arc::new(State {
            shared: Shared::new(config),
            memory,
            log,
            totals: Mutex::default(),
            profile: Mutex::default(),
            module,
        });
        let workers: Vec<_> = (0..state.shared.config.workers)
            .map(|number| {
                let state = Arc::clone(&state);
                std::thread::Builder::new()
                    .name(format!("gpu-ptx-{number}"))
                    .spawn(move || work(number, state))
                    .expect("the system gives no more threads: lower Config::workers")
            })
            .collect();
        state.shared.set_threads(workers.iter().map(|worker| worker.thread().clone()).collect());
        Interpreter { state, options, workers }
    }

    /// The module.
    #[must_use]
    pub fn module(&self) -> &Module {
        &self.state.module
    }

    /// What kernels may access besides the module's own variables: nothing until it is added.
    #[must_use]
    pub fn memory(&self) -> &Allocations {
        &self.state.memory
    }

    /// What all launches so far cost, as far as their blocks have ended.
    #[must_use]
    pub fn counts(&self) -> Counts {
        lock(&self.state.totals).values().copied().sum()
    }

    /// The same for each kernel that was launched, by name.
    #[must_use]
    pub fn counts_by_kernel(&self) -> BTreeMap<String, Counts> {
        lock(&self.state.totals).clone()
    }

    /// The lines of the PTX that all launches so far executed, in the order of the text, as far as
    /// their blocks have ended; empty without [`Options::profile`].
    #[must_use]
    pub fn profile(&self) -> Vec<ProfileLine> {
        lock(&self.state.profile).lines(&self.state.module.program)
    }

    /// Launches a kernel with the bytes of its arguments.
    ///
    /// # Errors
    /// Where there is no such kernel, the arguments are of another size, or no worker could ever
    /// hold a block of that shape.
    pub fn submit(
        &self,
        kernel: &str,
        config: LaunchConfig,
        arguments: &[u8],
    ) -> Result<PtxLaunch, LaunchError> {
        let (module, emulator) = (&self.state.module, &self.state.shared.config);
        let call = Call::new(module, kernel, &config, arguments, &self.options, emulator);
        let call = call.map_err(|fault| LaunchError {
            kernel: kernel.to_owned(),
            fault: fault.into(),
            replay: None,
        })?;
        let work = Work::Ptx(Arc::new(call));
        let launch = Arc::new(Launch::new(kernel, work, config, emulator)?);
        self.state.log.begin();
        self.state.shared.submit(Arc::clone(&launch));
        Ok(PtxLaunch { handle: Some(LaunchHandle(launch)), state: Arc::clone(&self.state) })
    }

    /// Launches a kernel and waits for its end.
    ///
    /// # Errors
    /// Why the launch failed.
    pub fn run(
        &self,
        kernel: &str,
        config: LaunchConfig,
        arguments: &[u8],
    ) -> Result<LaunchReport, LaunchError> {
        self.submit(kernel, config, arguments)?.wait()
    }
}

impl Drop for Interpreter {
    /// Fails the launches that are under way, and ends the workers.
    fn drop(&mut self) {
        self.state.shared.shut_down();
        for worker in self.workers.drain(..) {
            // A worker that panicked has said so.
            let _ = worker.join();
        }
    }
}

impl std::fmt::Debug for Interpreter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interpreter")
            .field("config", &self.state.shared.config)
            .field("module", &self.state.module)
            .finish_non_exhaustive()
    }
}

/// A launch under way. Dropping it lets the launch run on.
#[must_use = "a launch's errors are only known to those who wait for it"]
pub struct PtxLaunch {
    /// Taken by `wait`.
    handle: Option<LaunchHandle>,
    state: Arc<State>,
}

impl PtxLaunch {
    /// Waits until the launch has ended and none of its threads runs any more.
    ///
    /// # Errors
    /// Why the launch failed.
    pub fn wait(mut self) -> Result<LaunchReport, LaunchError> {
        let handle = self.handle.take().expect("taken here alone");
        let outcome = handle.wait();
        self.state.log.end();
        outcome
    }

    /// Whether the launch has ended, well or not.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.handle.as_ref().is_some_and(LaunchHandle::is_finished)
    }
}

impl std::fmt::Debug for PtxLaunch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PtxLaunch").finish_non_exhaustive()
    }
}

/// The body of a worker thread.
fn work(number: usize, state: Arc<State>) {
    let mut worker = Worker::new(number, state);
    loop {
        let fault = match catch_unwind(AssertUnwindSafe(|| worker.run())) {
            Ok(()) => Fault::ShutDown,
            Err(payload) => Fault::Host(panics::message(&*payload).to_owned()),
        };
        worker.abandon(&fault);
        if matches!(fault, Fault::ShutDown) {
            break;
        }
    }
}
