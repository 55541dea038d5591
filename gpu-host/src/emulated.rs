//! The emulated GPU as a device.

use crate::HostError;
use crate::arena::Arena;
use crate::device::{Device, KernelCall, Running, Window};
use crate::service::Service;
use gpu_emu::{Config, Emulator, LaunchConfig, LaunchHandle, LaunchReport, LogSink, Mode};
use host_daemon::RegionMemory;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How to emulate.
#[derive(Clone)]
pub struct EmulatedOptions {
    /// Emulated multiprocessors, each a host thread. One in deterministic mode.
    pub workers: usize,
    /// The most threads resident on each.
    pub resident_threads: u32,
    /// Fast, or deterministic under a schedule.
    pub mode: Mode,
    /// How long a launch may take that does not say itself.
    pub timeout: Option<Duration>,
    /// Where `gpu_rt::log!` goes; standard error without it.
    pub log: Option<LogSink>,
}

impl Default for EmulatedOptions {
    fn default() -> Self {
        let config = Config::default();
        EmulatedOptions {
            workers: config.workers,
            resident_threads: config.resident_threads,
            mode: config.mode,
            timeout: config.timeout,
            log: None,
        }
    }
}

/// An emulated GPU with its memory. Its emulator starts when what serves it is known.
pub(crate) struct Emulated {
    options: EmulatedOptions,
    emulator: OnceLock<Emulator>,
    arena: Arc<Arena>,
}

impl Emulated {
    pub(crate) fn new(options: EmulatedOptions, memory: usize) -> Result<Emulated, HostError> {
        let arena = Arc::new(Arena::new(memory)?);
        Ok(Emulated { options, emulator: OnceLock::new(), arena })
    }
}

impl Device for Emulated {
    fn name(&self) -> String {
        format!("emulated GPU ({} workers)", self.host_workers())
    }

    fn shards(&self) -> u32 {
        self.host_workers().min(256) as u32
    }

    fn host_workers(&self) -> usize {
        match self.options.mode {
            Mode::Fast => self.options.workers,
            Mode::Deterministic(_) => 1,
        }
    }

    fn is_deterministic(&self) -> bool {
        matches!(self.options.mode, Mode::Deterministic(_))
    }

    fn alloc(&self, bytes: usize, align: usize) -> Result<u64, HostError> {
        self.arena.alloc(bytes, align)
    }

    unsafe fn free(&self, addr: u64, bytes: usize) {
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
        Ok(region.base().as_ptr() as u64)
    }

    fn window(&self) -> Option<Window> {
        let memory = self.arena.clone();
        Some(Window { base: memory.base(), len: memory.len(), memory })
    }

    fn start(&self, service: Service) {
        let config = Config {
            workers: self.host_workers(),
            resident_threads: self.options.resident_threads,
            mode: self.options.mode,
            timeout: self.options.timeout,
            host: service.host(),
            log: self.options.log.clone(),
            ..Config::default()
        };
        self.emulator.get_or_init(|| Emulator::new(config));
    }

    fn launch(&self, call: KernelCall, shape: LaunchConfig) -> Result<Box<dyn Running>, HostError> {
        let emulator = self.emulator.get().expect("a session starts its device");
        Ok(Box::new(EmulatedLaunch(emulator.submit_fn(call.name, shape, call.on_host)?)))
    }
}

struct EmulatedLaunch(LaunchHandle);

impl Running for EmulatedLaunch {
    fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    fn wait(self: Box<Self>) -> Result<LaunchReport, HostError> {
        Ok(self.0.wait()?)
    }
}
