//! What a session has on a GPU, and the device that it is to the session.

use super::CudaOptions;
use super::calls::{self, Status};
use super::driver::{self, Context, Current, Properties, check};
use super::error::CudaError;
use super::failure::is_fatal;
use super::kernels::Loaded;
use super::launch::CudaLaunch;
use super::limits;
use super::log::Log;
use super::memory::Memory;
use super::under_way::UnderWay;
use crate::device::{Device, KernelCall, Running, Window};
use crate::service::Service;
use crate::{HostError, Module};
use cudarc::driver::sys;
use gpu_emu::{LaunchConfig, LogSink};
use host_daemon::RegionMemory;
use std::mem::ManuallyDrop;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Multiprocessors share rings beyond this: the daemon looks at each ring.
const MAX_SHARDS: u32 = 32;

/// Between two looks at whether kernels still run that the driver would wait for.
const NAP: Duration = Duration::from_micros(200);

/// Why the context cannot be used any more.
pub(super) struct Lost {
    why: String,
    /// Whether a kernel still runs in it: then nothing of it can be taken back.
    running: bool,
}

/// A context with kernels, memory and streams; shared by a session and its launches.
pub(super) struct Gpu {
    pub(super) properties: Properties,
    /// Left as it is where a kernel never ends.
    context: ManuallyDrop<Context>,
    module: Module,
    copies: sys::CUstream,
    memory: Mutex<Memory>,
    pub(super) under_way: Mutex<UnderWay>,
    pub(super) timeout: Option<Duration>,
    pointer_stack: u32,
    pub(super) sink: Option<LogSink>,
    region: OnceLock<Arc<RegionMemory>>,
    service: OnceLock<Service>,
    lost: OnceLock<Lost>,
}

// SAFETY: the driver's handles may be used from any thread in which the context is current.
unsafe impl Send for Gpu {}
// SAFETY: the driver's calls may be made from several threads at once; the rest is behind locks.
unsafe impl Sync for Gpu {}

/// A GPU as a device.
pub(crate) struct Cuda(Arc<Gpu>);

impl Cuda {
    /// The GPU that `options` name, with `memory` bytes of memory at most, to run `module`, of which the
    /// kernels `preload` are compiled now.
    pub(crate) fn new(
        options: CudaOptions,
        memory: usize,
        module: Module,
        preload: &[String],
    ) -> Result<Cuda, HostError> {
        let gpu = Gpu::new(options, memory, module)?;
        gpu.attempt(|| {
            for kernel in preload {
                gpu.module.has(kernel)?;
                gpu.kernel(kernel, None)?;
            }
            Ok(())
        })?;
        Ok(Cuda(Arc::new(gpu)))
    }
}

impl Gpu {
    fn new(options: CudaOptions, memory: usize, module: Module) -> Result<Gpu, CudaError> {
        let properties = driver::device(options.ordinal)?;
        let context = Context::new(properties.device)?;
        let current = context.enter()?;
        let copies = driver::stream()?;
        drop(current);
        Ok(Gpu {
            properties,
            context: ManuallyDrop::new(context),
            module,
            copies,
            memory: Mutex::new(Memory::new(memory)),
            under_way: Mutex::new(UnderWay::new(options.log_lines)),
            timeout: options.timeout,
            pointer_stack: options.pointer_stack,
            sink: options.log,
            region: OnceLock::new(),
            service: OnceLock::new(),
            lost: OnceLock::new(),
        })
    }

    /// Makes the context current, unless it is lost.
    pub(super) fn enter(&self) -> Result<Current<'_>, CudaError> {
        self.alive()?;
        self.context.enter()
    }

    fn alive(&self) -> Result<(), CudaError> {
        self.lost.get().map_or(Ok(()), |lost| Err(self.lost(lost)))
    }

    fn lost(&self, Lost { why, .. }: &Lost) -> CudaError {
        CudaError::Lost { device: self.properties.name.clone(), why: why.clone() }
    }

    /// Does something in the context. If it learns of the failure of a kernel, which whatever is done next
    /// learns of, it is that kernel's failure and the end of the session.
    fn attempt<T>(&self, what: impl FnOnce() -> Result<T, HostError>) -> Result<T, HostError> {
        let _current = self.enter()?;
        what().map_err(|error| {
            let code = match &error {
                HostError::Cuda(CudaError::Driver { code, .. }) => Status(*code),
                _ => return error,
            };
            if !is_fatal(code) {
                return error;
            }
            let culprit = self.under_way().failure(code, None).unwrap_or(error);
            self.lost(self.lose(culprit.to_string(), false)).into()
        })
    }

    /// From now on every call says so.
    pub(super) fn lose(&self, why: String, running: bool) -> &Lost {
        self.lost.get_or_init(|| Lost { why, running })
    }

    /// Has the service fail what kernels ask of it.
    pub(super) fn give_up(&self) {
        if let Some(service) = self.service.get() {
            service.give_up();
        }
    }

    pub(super) fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loses the session to a launch that took too long. What runs beside it was told to end as well, and
    /// may not heed it: that is known at `deadline`.
    pub(super) fn abandon(&self, why: String, deadline: Option<Instant>) {
        let Ok(_current) = self.enter() else { return };
        loop {
            // Nothing is launched between the look and the loss.
            let under_way = self.under_way();
            let running = under_way.is_busy();
            if !running || deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                self.lose(why, running);
                return;
            }
            drop(under_way);
            std::thread::sleep(NAP);
        }
    }

    /// A kernel of the module, in the current context; loaded, if it is the first time that it is asked for.
    fn kernel(&self, name: &str, limit: Option<Duration>) -> Result<Loaded, CudaError> {
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        loop {
            // Nothing is launched under this lock.
            let mut under_way = self.under_way();
            // What runs then may run for ever.
            self.alive()?;
            if let Some(&loaded) = under_way.kernels.get(name) {
                return Ok(loaded);
            }
            // The driver may wait for kernels that run, for as long as they do.
            if !under_way.is_busy() {
                return self.load(name, &mut under_way);
            }
            // Kernels that are loaded can be launched meanwhile.
            drop(under_way);
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                let limit = limit.unwrap_or_default();
                return Err(CudaError::Busy { kernel: name.into(), limit });
            }
            std::thread::sleep(NAP);
        }
    }

    /// Loads a kernel, while nothing runs.
    fn load(&self, name: &str, under_way: &mut UnderWay) -> Result<Loaded, CudaError> {
        let loaded = Loaded::new(&self.module, name)?;
        // Now, while nothing runs: the driver would wait for it.
        if under_way.kernels.values().all(|other| other.stack < loaded.stack) {
            driver::set_stack(loaded.stack.saturating_add(self.pointer_stack))?;
        }
        if loaded.control.is_some() {
            under_way.add_log(name)?;
        }
        under_way.kernels.insert(name.to_owned(), loaded);
        Ok(loaded)
    }

    /// Launches a kernel, in the current context.
    fn launch(
        self: &Arc<Gpu>,
        call: KernelCall,
        shape: LaunchConfig,
    ) -> Result<CudaLaunch, HostError> {
        self.module.check(call.name, call.args.len())?;
        let function = self.kernel(call.name, shape.timeout.or(self.timeout))?;
        limits::check(call.name, &shape, &self.properties, function.limits)?;
        let awake = self.service.get().map(Service::keep_awake);
        let mut under_way = self.under_way();
        self.alive()?;
        let stream = under_way.stream()?;
        let log = under_way.idle_log(call.name);
        // SAFETY: the kernel takes so many bytes, as the module says; what they point to is vouched for by whoever
        // launches. The log is idle.
        if let Err(error) = unsafe { function.begin(call.args, &shape, log, stream) } {
            under_way.give_back(stream);
            return Err(error.into());
        }
        let (grid, block) = (shape.grid, shape.block);
        let number = under_way.begin(call.name, (grid, block), stream);
        drop(under_way);
        Ok(CudaLaunch::new(self.clone(), number, call.name, shape, stream, awake))
    }
}

impl Device for Cuda {
    fn name(&self) -> String {
        self.0.properties.name.clone()
    }

    fn shards(&self) -> u32 {
        self.0.properties.multiprocessors.min(MAX_SHARDS)
    }

    fn host_workers(&self) -> usize {
        0
    }

    fn alloc(&self, bytes: usize, align: usize) -> Result<u64, HostError> {
        let gpu = &*self.0;
        gpu.attempt(|| {
            let addr = gpu.memory().alloc(bytes, align)?;
            if bytes == 0 {
                return Ok(addr);
            }
            // SAFETY: our own piece, which nobody knows yet.
            let cleared = unsafe {
                let begun = calls::cuMemsetD8Async(addr, 0, bytes, gpu.copies);
                check("clear device memory", begun).and_then(|()| {
                    check("clear device memory", calls::cuStreamSynchronize(gpu.copies))
                })
            };
            if let Err(error) = cleared {
                gpu.memory().free(addr, bytes);
                return Err(error.into());
            }
            Ok(addr)
        })
    }

    unsafe fn free(&self, addr: u64, bytes: usize) {
        self.0.memory().free(addr, bytes);
    }

    unsafe fn read(&self, addr: u64, to: &mut [u8]) -> Result<(), HostError> {
        let gpu = &*self.0;
        gpu.attempt(|| {
            if to.is_empty() {
                return Ok(());
            }
            // SAFETY: the caller vouches for the range; `to` outlives the copy, which is waited for.
            unsafe {
                let (at, len) = (to.as_mut_ptr().cast(), to.len());
                let copied = calls::cuMemcpyDtoHAsync_v2(at, addr, len, gpu.copies);
                check("copy from the device", copied)?;
                check("copy from the device", calls::cuStreamSynchronize(gpu.copies))?;
            }
            Ok(())
        })
    }

    unsafe fn write(&self, addr: u64, from: &[u8]) -> Result<(), HostError> {
        // SAFETY: the caller's promise.
        self.0.attempt(|| Ok(unsafe { driver::copy_to(addr, from, self.0.copies) }?))
    }

    fn map_region(&self, region: Arc<RegionMemory>) -> Result<u64, HostError> {
        self.0.attempt(|| {
            // SAFETY: kept until the context is gone, or for good.
            let address = unsafe { driver::register(region.base().as_ptr(), region.len())? };
            self.0.region.get_or_init(|| region);
            Ok(address)
        })
    }

    fn window(&self) -> Option<Window> {
        None
    }

    fn start(&self, service: Service) {
        self.0.service.get_or_init(|| service);
    }

    fn launch(&self, call: KernelCall, shape: LaunchConfig) -> Result<Box<dyn Running>, HostError> {
        let launch = self.0.attempt(|| self.0.launch(call, shape))?;
        Ok(Box::new(launch))
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        let region = self.region.take();
        let logs = self.under_way().take_logs();
        if self.lost.get().is_some_and(|lost| lost.running) {
            // A kernel may still write to all of it.
            std::mem::forget((region, logs));
            return;
        }
        let pinned = region.iter().map(|region| region.base().as_ptr());
        let unpinned = self.context.enter().and_then(|_current| {
            // SAFETY: launches keep us, so that none is under way.
            pinned
                .chain(logs.values().map(Log::base))
                .try_for_each(|base| unsafe { driver::unregister(base) })
        });
        // SAFETY: not used again.
        unsafe { ManuallyDrop::drop(&mut self.context) };
        if unpinned.is_err() {
            // As it may be where a kernel has taken the context down.
            std::mem::forget((region, logs));
        }
    }
}
