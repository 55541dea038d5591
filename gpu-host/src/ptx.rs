//! The PTX interpreter as a device: the very module that a GPU would get, run on the CPU.

use crate::arena::Arena;
use crate::device::{Device, KernelCall, Running, Window};
use crate::service::Service;
use crate::{HostError, Module, ModuleError};
use gpu_emu::ptx::{Interpreter, Module as Program, Options, PtxLaunch};
use gpu_emu::{Config, LaunchConfig, LaunchReport, LogSink};
use host_daemon::RegionMemory;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// How to interpret.
#[derive(Clone)]
pub struct PtxOptions {
    /// Interpreted multiprocessors, each a host thread.
    pub workers: usize,
    /// The most threads resident on each.
    pub resident_threads: u32,
    /// How long a launch may take that does not say itself.
    pub timeout: Option<Duration>,
    /// Where `gpu_rt::log!` goes; standard error without it.
    pub log: Option<LogSink>,
    /// Whether loads of shared memory that nobody has written, and races of blocks for plain words,
    /// are errors. Much slower.
    pub check: bool,
}

impl Default for PtxOptions {
    fn default() -> Self {
        let config = Config::default();
        PtxOptions {
            workers: config.workers,
            resident_threads: config.resident_threads,
            timeout: config.timeout,
            log: None,
            check: false,
        }
    }
}

/// An interpreted GPU with its memory. Its interpreter starts when what serves it is known.
pub(crate) struct Ptx {
    options: PtxOptions,
    program: Program,
    module: Module,
    interpreter: OnceLock<Interpreter>,
    /// What was allocated and mapped before the interpreter started: addresses and bytes.
    early: Mutex<Vec<(u64, u64)>>,
    arena: Arc<Arena>,
    /// Regions that kernels may use, kept mapped.
    regions: Mutex<Vec<Arc<RegionMemory>>>,
}

impl Ptx {
    pub(crate) fn new(
        options: PtxOptions,
        memory: usize,
        module: Module,
    ) -> Result<Ptx, HostError> {
        Ok(Ptx {
            options,
            program: Program::parse(module.text()).map_err(ModuleError::from)?,
            module,
            interpreter: OnceLock::new(),
            early: Mutex::default(),
            arena: Arc::new(Arena::new(memory)?),
            regions: Mutex::default(),
        })
    }

    /// Lets kernels access this memory.
    ///
    /// # Safety
    /// As [`gpu_emu::ptx::Allocations::add`].
    unsafe fn allow(&self, address: u64, bytes: u64) {
        match self.interpreter.get() {
            // SAFETY: the caller's contract is the same.
            Some(interpreter) => unsafe { interpreter.memory().add(address, bytes) },
            None => lock(&self.early).push((address, bytes)),
        }
    }

    fn started(&self) -> &Interpreter {
        self.interpreter.get().expect("a session starts its device")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Device for Ptx {
    fn name(&self) -> String {
        format!("PTX interpreter ({} workers)", self.host_workers())
    }

    fn shards(&self) -> u32 {
        self.host_workers().min(256) as u32
    }

    fn host_workers(&self) -> usize {
        self.options.workers.max(1)
    }

    fn alloc(&self, bytes: usize, align: usize) -> Result<u64, HostError> {
        let address = self.arena.alloc(bytes, align)?;
        // SAFETY: the arena outlives the interpreter's launches; the host copies in and out between
        // them, by the contracts of `read` and `write`, and the daemon writes what kernels await.
        unsafe { self.allow(address, bytes as u64) };
        Ok(address)
    }

    unsafe fn free(&self, addr: u64, bytes: usize) {
        if bytes > 0 {
            match self.interpreter.get() {
                Some(interpreter) => interpreter.memory().remove(addr),
                None => lock(&self.early).retain(|(address, _)| *address != addr),
            }
        }
        self.arena.free(addr, bytes);
    }

    unsafe fn read(&self, addr: u64, to: &mut [u8]) -> Result<(), HostError> {
        assert!(self.arena.contains(addr, to.len()), "not device memory");
        // SAFETY: within the arena; the caller vouches that no kernel writes it.
        unsafe { std::ptr::copy_nonoverlapping(addr as *const u8, to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    unsafe fn write(&self, addr: u64, from: &[u8]) -> Result<(), HostError> {
        assert!(self.arena.contains(addr, from.len()), "not device memory");
        // SAFETY: within the arena; the caller vouches that no kernel uses it.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), addr as *mut u8, from.len()) };
        Ok(())
    }

    fn map_region(&self, region: Arc<RegionMemory>) -> Result<u64, HostError> {
        let address = region.base().as_ptr() as u64;
        // SAFETY: kept mapped below; the daemon shares it by atomic accesses.
        unsafe { self.allow(address, region.len() as u64) };
        lock(&self.regions).push(region);
        Ok(address)
    }

    fn window(&self) -> Option<Window> {
        let memory = self.arena.clone();
        Some(Window { base: memory.base(), len: memory.len(), memory })
    }

    fn start(&self, service: Service) {
        let config = Config {
            workers: self.host_workers(),
            resident_threads: self.options.resident_threads,
            timeout: self.options.timeout,
            host: service.host(),
            log: self.options.log.clone(),
            ..Config::default()
        };
        let options = Options { check: self.options.check };
        let interpreter = self
            .interpreter
            .get_or_init(|| Interpreter::new(config, self.program.clone(), options));
        for (address, bytes) in std::mem::take(&mut *lock(&self.early)) {
            // SAFETY: as where it was allocated or mapped.
            unsafe { interpreter.memory().add(address, bytes) };
        }
    }

    fn launch(&self, call: KernelCall, shape: LaunchConfig) -> Result<Box<dyn Running>, HostError> {
        self.module.check(call.name, call.args.len())?;
        Ok(Box::new(Interpreted(self.started().submit(call.name, shape, &call.args)?)))
    }
}

struct Interpreted(PtxLaunch);

impl Running for Interpreted {
    fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    fn wait(self: Box<Self>) -> Result<LaunchReport, HostError> {
        Ok(self.0.wait()?)
    }
}
