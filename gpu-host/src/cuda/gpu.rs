//! What a session has on a GPU, and the device that it is to the session.

use super::CudaOptions;
use super::driver::{self, Context, Current, Properties, check, describe};
use super::error::CudaError;
use super::kernels::{Kernels, Loaded};
use super::launch::{CudaLaunch, UnderWay};
use super::limits;
use super::log::Log;
use super::memory::Memory;
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
/// Shared memory of a block that needs no permission, in bytes.
const PLAIN_SHARED: usize = 48 << 10;

/// Between two looks at whether kernels still run that the driver would wait for.
const NAP: Duration = Duration::from_micros(200);

/// Why the context cannot be used any more.
struct Lost {
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
    loaded: Kernels,
    kernels: sys::CUstream,
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
        let current = gpu.enter()?;
        for kernel in preload {
            gpu.module.has(kernel)?;
            gpu.kernel(kernel, None)?;
        }
        drop(current);
        Ok(Cuda(Arc::new(gpu)))
    }
}

impl Gpu {
    fn new(options: CudaOptions, memory: usize, module: Module) -> Result<Gpu, CudaError> {
        let properties = driver::device(options.ordinal)?;
        let context = Context::new(properties.device)?;
        let current = context.enter()?;
        let (kernels, copies) = (driver::stream()?, driver::stream()?);
        drop(current);
        Ok(Gpu {
            properties,
            context: ManuallyDrop::new(context),
            module,
            loaded: Kernels::default(),
            kernels,
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
        match self.lost.get() {
            Some(lost) => {
                Err(CudaError::Lost { device: self.properties.name.clone(), why: lost.why.clone() })
            }
            None => self.context.enter(),
        }
    }

    /// From now on every call says so.
    pub(super) fn lose(&self, why: String, running: bool) {
        self.lost.get_or_init(|| Lost { why, running });
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

    /// The outcome of a call that comes late to learn of a kernel's failure.
    fn checked(&self, doing: &'static str, result: sys::CUresult) -> Result<(), CudaError> {
        check(doing, result).inspect_err(|e| {
            if is_fatal(result) {
                self.lose(e.to_string(), false);
            }
        })
    }

    /// A kernel of the module, in the current context; loaded, if it is the first time that it is asked for.
    fn kernel(&self, name: &str, limit: Option<Duration>) -> Result<Loaded, CudaError> {
        let mut kernels = self.loaded.lock();
        if let Some(&loaded) = kernels.get(name) {
            return Ok(loaded);
        }
        // The driver may wait for kernels that run, for as long as they do.
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        // SAFETY: our own stream, of this context.
        while unsafe { sys::cuStreamQuery(self.kernels) } == sys::CUresult::CUDA_ERROR_NOT_READY {
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Err(CudaError::Busy {
                    kernel: name.into(),
                    limit: limit.unwrap_or_default(),
                });
            }
            std::thread::sleep(NAP);
        }
        let loaded = Loaded::new(&self.module, name)?;
        // Now, while nothing runs: the driver would wait for it.
        if kernels.values().all(|other| other.stack < loaded.stack) {
            driver::set_stack(loaded.stack.saturating_add(self.pointer_stack))?;
        }
        if loaded.control.is_some() {
            self.under_way().add_log(name)?;
        }
        kernels.insert(name.to_owned(), loaded);
        Ok(loaded)
    }

    /// Copies to device memory, in the current context.
    ///
    /// # Safety
    /// As [`Device::write`].
    unsafe fn put(&self, addr: u64, from: &[u8]) -> Result<(), CudaError> {
        if from.is_empty() {
            return Ok(());
        }
        // SAFETY: the caller vouches for the range; `from` outlives the copy, which is waited for.
        unsafe {
            let (at, len) = (from.as_ptr().cast(), from.len());
            let copied = sys::cuMemcpyHtoDAsync_v2(addr, at, len, self.copies);
            self.checked("copy to the device", copied)?;
            self.checked("copy to the device", sys::cuStreamSynchronize(self.copies))
        }
    }
}

/// Whether an error has taken the context with it.
pub(super) fn is_fatal(result: sys::CUresult) -> bool {
    use sys::CUresult as R;
    matches!(
        result,
        R::CUDA_ERROR_ILLEGAL_ADDRESS
            | R::CUDA_ERROR_LAUNCH_TIMEOUT
            | R::CUDA_ERROR_ASSERT
            | R::CUDA_ERROR_HARDWARE_STACK_ERROR
            | R::CUDA_ERROR_ILLEGAL_INSTRUCTION
            | R::CUDA_ERROR_MISALIGNED_ADDRESS
            | R::CUDA_ERROR_INVALID_ADDRESS_SPACE
            | R::CUDA_ERROR_INVALID_PC
            | R::CUDA_ERROR_LAUNCH_FAILED
            | R::CUDA_ERROR_ECC_UNCORRECTABLE
            | R::CUDA_ERROR_CONTEXT_IS_DESTROYED
            | R::CUDA_ERROR_UNKNOWN
    )
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
        let _current = gpu.enter()?;
        let addr = gpu.memory().alloc(bytes, align)?;
        if bytes == 0 {
            return Ok(addr);
        }
        // SAFETY: our own piece, which nobody knows yet.
        unsafe {
            let cleared = sys::cuMemsetD8Async(addr, 0, bytes, gpu.copies);
            gpu.checked("clear device memory", cleared)?;
            gpu.checked("clear device memory", sys::cuStreamSynchronize(gpu.copies))?;
        }
        Ok(addr)
    }

    unsafe fn free(&self, addr: u64, bytes: usize) {
        self.0.memory().free(addr, bytes);
    }

    unsafe fn read(&self, addr: u64, to: &mut [u8]) -> Result<(), HostError> {
        let gpu = &*self.0;
        let _current = gpu.enter()?;
        if to.is_empty() {
            return Ok(());
        }
        // SAFETY: the caller vouches for the range; `to` outlives the copy, which is waited for.
        unsafe {
            let (at, len) = (to.as_mut_ptr().cast(), to.len());
            let copied = sys::cuMemcpyDtoHAsync_v2(at, addr, len, gpu.copies);
            gpu.checked("copy from the device", copied)?;
            gpu.checked("copy from the device", sys::cuStreamSynchronize(gpu.copies))?;
        }
        Ok(())
    }

    unsafe fn write(&self, addr: u64, from: &[u8]) -> Result<(), HostError> {
        let _current = self.0.enter()?;
        // SAFETY: the caller's promise.
        unsafe { self.0.put(addr, from)? };
        Ok(())
    }

    fn map_region(&self, region: Arc<RegionMemory>) -> Result<u64, HostError> {
        let _current = self.0.enter()?;
        // SAFETY: kept until the context is gone, or for good.
        let address = unsafe { driver::register(region.base().as_ptr(), region.len())? };
        self.0.region.get_or_init(|| region);
        Ok(address)
    }

    fn window(&self) -> Option<Window> {
        None
    }

    fn start(&self, service: Service) {
        self.0.service.get_or_init(|| service);
    }

    fn launch(&self, call: KernelCall, shape: LaunchConfig) -> Result<Box<dyn Running>, HostError> {
        let gpu = &self.0;
        let _current = gpu.enter()?;
        gpu.module.check(call.name, call.args.len())?;
        let function = gpu.kernel(call.name, shape.timeout.or(gpu.timeout))?;
        limits::check(call.name, &shape, &gpu.properties, function.limits)?;
        if shape.shared_bytes > PLAIN_SHARED {
            let dynamic =
                sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: a kernel of our module; below the device's limit, which fits.
            check("give a kernel more shared memory", unsafe {
                sys::cuFuncSetAttribute(function.raw, dynamic, shape.shared_bytes as i32)
            })?;
        }
        let awake = gpu.service.get().map(Service::keep_awake);
        let mut under_way = gpu.under_way();
        if let (Some(control), Some(log)) = (function.control, under_way.idle_log(call.name)) {
            // SAFETY: this kernel does not run; the control block is its own and as long.
            unsafe {
                log.clear();
                gpu.put(control, &log.control())?;
            }
        }
        let mut args = call.args;
        let mut parameter = args.as_mut_ptr().cast();
        // The module was asked: the kernel takes one parameter of so many bytes, or none.
        let parameters = if args.is_empty() { std::ptr::null_mut() } else { &raw mut parameter };
        let mut event = std::ptr::null_mut();
        let (grid, block) = (shape.grid, shape.block);
        // SAFETY: a kernel of our module with as many bytes as it takes, which the driver copies; what they
        // point to is vouched for by whoever launches.
        let recorded = unsafe {
            let flags = sys::CUevent_flags_enum::CU_EVENT_DISABLE_TIMING as u32;
            gpu.checked("make an event", sys::cuEventCreate(&raw mut event, flags))?;
            let launched = sys::cuLaunchKernel(
                function.raw,
                grid.x,
                grid.y,
                grid.z,
                block.x,
                block.y,
                block.z,
                shape.shared_bytes as u32,
                gpu.kernels,
                parameters,
                std::ptr::null_mut(),
            );
            gpu.checked("launch a kernel", launched)?;
            sys::cuEventRecord(event, gpu.kernels)
        };
        // A kernel can have failed already: that is for whoever waits for it.
        if !is_fatal(recorded) {
            check("record an event", recorded)?;
        }
        let number = under_way.begin(call.name, grid, block);
        drop(under_way);
        Ok(Box::new(CudaLaunch::new(
            gpu.clone(),
            number,
            call.name,
            shape,
            (event, recorded),
            awake,
        )))
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        let region = self.region.take();
        if self.lost.get().is_some_and(|lost| lost.running) {
            // A kernel may still write to all of it.
            std::mem::forget((region, self.under_way().take_logs()));
            return;
        }
        let logs = self.under_way().take_logs();
        if let Ok(_current) = self.context.enter() {
            let of_region = region.iter().map(|region| region.base().as_ptr());
            for base in logs.values().map(Log::base).chain(of_region) {
                // SAFETY: launches keep us, so that none is under way.
                unsafe { driver::unregister(base) };
            }
        }
        // SAFETY: not used again. The logs and the region are dropped after this.
        unsafe { ManuallyDrop::drop(&mut self.context) };
    }
}

/// The error of a launch that failed, with a hint where there is one.
pub(super) fn failure(kernel: &str, result: sys::CUresult) -> CudaError {
    use sys::CUresult as R;
    let hint = match result {
        R::CUDA_ERROR_ILLEGAL_ADDRESS | R::CUDA_ERROR_MISALIGNED_ADDRESS => {
            "; a run on an emulated device may say where it goes wrong"
        }
        R::CUDA_ERROR_HARDWARE_STACK_ERROR => {
            "; give threads a larger stack, by `CudaOptions::pointer_stack`"
        }
        R::CUDA_ERROR_LAUNCH_TIMEOUT => {
            "; the driver's watchdog ends long kernels on GPUs that drive a display"
        }
        _ => "",
    };
    let (code, name, text) = describe(result);
    CudaError::Failed { kernel: kernel.into(), code, name, text, hint }
}
