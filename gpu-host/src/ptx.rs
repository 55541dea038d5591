//! The PTX interpreter as a device.

use crate::arena::Arena;
use crate::device::{Device, KernelCall, Running, Window};
use crate::service::Service;
use crate::{HostError, Module, ModuleError};
use gpu_emu::ptx::{self, Allocations, Interpreter, PtxLaunch};
use gpu_emu::{Config, LaunchConfig, LaunchReport, LogSink};
use host_daemon::{AwakeGuard, RegionMemory};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// How to interpret.
#[derive(Clone)]
pub struct PtxOptions {
    /// Interpreted multiprocessors, each a host thread.
    pub workers: usize,
    /// The most threads resident on each.
    pub resident_threads: u32,
    /// Whether loads of shared memory that nobody has written, and races of blocks for plain words,
    /// are errors. Much slower.
    pub check: bool,
    /// Whether to count for each instruction by how many threads it was executed: see
    /// [`Session::profile`](crate::Session::profile). A little slower.
    pub profile: bool,
    /// How long a launch may take that does not say itself.
    pub timeout: Option<Duration>,
    /// Where `gpu_rt::log!` goes; standard error without it.
    pub log: Option<LogSink>,
}

impl Default for PtxOptions {
    fn default() -> Self {
        let Config { workers, resident_threads, timeout, .. } = Config::default();
        PtxOptions { workers, resident_threads, check: false, profile: false, timeout, log: None }
    }
}

/// An interpreted GPU with its memory. Its workers start when what serves it is known.
pub(crate) struct Ptx {
    // Its workers end before the memory that they use goes.
    started: OnceLock<(Interpreter, Service)>,
    options: PtxOptions,
    module: Module,
    program: ptx::Module,
    arena: Arc<Arena>,
    allocations: Allocations,
    /// Kept mapped.
    regions: Mutex<Vec<Arc<RegionMemory>>>,
}

impl Ptx {
    pub(crate) fn new(
        options: PtxOptions,
        memory: usize,
        module: Module,
    ) -> Result<Ptx, HostError> {
        Ok(Ptx {
            started: OnceLock::new(),
            program: ptx::Module::parse(module.text()).map_err(ModuleError::from)?,
            options,
            module,
            arena: Arc::new(Arena::new(memory)?),
            allocations: Allocations::default(),
            regions: Mutex::default(),
        })
    }
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
        let addr = self.arena.alloc(bytes, align)?;
        // SAFETY: of the arena, which outlives the workers; the host's side copies to and from it
        // while no kernel uses it, and the daemon writes pages that no kernel reads meanwhile.
        unsafe { self.allocations.add(addr, bytes as u64) };
        Ok(addr)
    }

    unsafe fn free(&self, addr: u64, bytes: usize) {
        self.allocations.remove(addr);
        self.arena.free(addr, bytes);
    }

    unsafe fn read(&self, addr: u64, to: &mut [u8]) -> Result<(), HostError> {
        // SAFETY: the caller's contract is the same.
        unsafe { self.arena.read(addr, to) };
        Ok(())
    }

    unsafe fn write(&self, addr: u64, from: &[u8]) -> Result<(), HostError> {
        // SAFETY: the caller's contract is the same.
        unsafe { self.arena.write(addr, from) };
        Ok(())
    }

    fn map_region(&self, region: Arc<RegionMemory>) -> Result<u64, HostError> {
        let addr = region.base().as_ptr() as u64;
        // SAFETY: kept below, as long as the workers; the daemon accesses it atomically, or what the
        // protocol has lent to it.
        unsafe { self.allocations.add(addr, region.len() as u64) };
        self.regions.lock().unwrap_or_else(PoisonError::into_inner).push(region);
        Ok(addr)
    }

    fn window(&self) -> Option<Window> {
        let memory = self.arena.clone();
        Some(Window { base: memory.base(), len: memory.len(), memory })
    }

    fn start(&self, service: Service) {
        self.started.get_or_init(|| {
            let config = Config {
                workers: self.host_workers(),
                resident_threads: self.options.resident_threads,
                timeout: self.options.timeout,
                host: service.host(),
                log: self.options.log.clone(),
                ..Config::default()
            };
            let options = ptx::Options { check: self.options.check, profile: self.options.profile };
            let (program, memory) = (self.program.clone(), self.allocations.clone());
            (Interpreter::with_memory(config, program, options, memory), service)
        });
    }

    fn counts(&self) -> Option<BTreeMap<String, ptx::Counts>> {
        self.started.get().map(|(interpreter, _)| interpreter.counts_by_kernel())
    }

    fn profile(&self) -> Vec<ptx::ProfileLine> {
        self.started.get().map_or(Vec::new(), |(interpreter, _)| interpreter.profile())
    }

    fn launch(&self, call: KernelCall, shape: LaunchConfig) -> Result<Box<dyn Running>, HostError> {
        let (interpreter, service) = self.started.get().expect("a session starts its device");
        self.module.check(call.name, call.args.len())?;
        let awake = service.keep_awake();
        let launch = interpreter.submit(call.name, shape, &call.args)?;
        Ok(Box::new(Interpreted { launch, _awake: awake }))
    }
}

struct Interpreted {
    launch: PtxLaunch,
    /// PTX cannot ring the doorbell: threads of the daemon look for requests as long as this lives.
    _awake: AwakeGuard,
}

impl Running for Interpreted {
    fn is_finished(&self) -> bool {
        self.launch.is_finished()
    }

    fn wait(self: Box<Self>) -> Result<LaunchReport, HostError> {
        Ok(self.launch.wait()?)
    }
}
