//! The driver's calls: checked, and given back what they gave.
//!
//! The driver's library is loaded when a [`device`] is first asked for.

use super::calls::{self, Status};
use super::error::CudaError;
use super::failure::is_fatal;
use cudarc::driver::sys::{self, CUresult};
use std::ffi::{CStr, c_char, c_void};
use std::ptr::{null, null_mut};

/// The error of a call that failed, as the driver describes it.
pub(super) fn check(doing: &'static str, result: Status) -> Result<(), CudaError> {
    if result == CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    let (code, name, text) = describe(result);
    Err(CudaError::Driver { doing, code, name, text })
}

/// Number, name and meaning of an error.
pub(super) fn describe(result: Status) -> (u32, String, String) {
    let mut name = null();
    let mut text = null();
    // SAFETY: both leave a string that lives for ever, or null for a number that they do not know.
    let (name, text) = unsafe {
        let _ = calls::cuGetErrorName(result, &raw mut name);
        let _ = calls::cuGetErrorString(result, &raw mut text);
        let owned = |at: *const c_char| {
            (!at.is_null()).then(|| CStr::from_ptr(at).to_string_lossy().into_owned())
        };
        (owned(name), owned(text))
    };
    (
        result.0,
        name.unwrap_or_else(|| "unknown error".into()),
        text.unwrap_or_else(|| "of which the driver says no more".into()),
    )
}

/// A device of the driver's, and what it is like.
#[derive(Clone, Debug)]
pub(super) struct Properties {
    pub(super) device: sys::CUdevice,
    pub(super) name: String,
    pub(super) multiprocessors: u32,
    pub(super) grid: [u32; 3],
    pub(super) block: [u32; 3],
    pub(super) shared_bytes: u32,
}

/// Looks for device `ordinal`.
pub(super) fn device(ordinal: u32) -> Result<Properties, CudaError> {
    calls::load()?;
    let mut count = 0;
    let mut device = 0;
    // SAFETY: the places for results outlive the calls, here and below.
    unsafe {
        let started = calls::cuInit(0);
        if started == CUresult::CUDA_ERROR_NO_DEVICE {
            return Err(CudaError::NoDevice { ordinal, count: 0 });
        }
        check("start", started)?;
        check("count devices", calls::cuDeviceGetCount(&raw mut count))?;
        let count = u32::try_from(count).unwrap_or(0);
        let (true, Ok(number)) = (ordinal < count, i32::try_from(ordinal)) else {
            return Err(CudaError::NoDevice { ordinal, count });
        };
        check("find the device", calls::cuDeviceGet(&raw mut device, number))?;
    }
    let mut name = [0; 256];
    // SAFETY: as above; the driver writes at most as many bytes, the last one zero.
    let name = unsafe {
        check("name the device", calls::cuDeviceGetName(name.as_mut_ptr(), 256, device))?;
        CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned()
    };
    use sys::CUdevice_attribute_enum as A;
    let get = |attribute| attribute_of(device, attribute);
    let major = get(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = get(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    if major < 7 {
        return Err(CudaError::TooOld { device: name, major, minor });
    }
    Ok(Properties {
        device,
        name,
        multiprocessors: get(A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?.max(1),
        grid: [
            get(A::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X)?,
            get(A::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y)?,
            get(A::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z)?,
        ],
        block: [
            get(A::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X)?,
            get(A::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y)?,
            get(A::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z)?,
        ],
        shared_bytes: get(A::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
    })
}

fn attribute_of(
    device: sys::CUdevice,
    attribute: sys::CUdevice_attribute,
) -> Result<u32, CudaError> {
    let mut value = 0;
    // SAFETY: as above.
    check("describe the device", unsafe {
        calls::cuDeviceGetAttribute(&raw mut value, attribute, device)
    })?;
    Ok(u32::try_from(value).unwrap_or(0))
}

/// A context of our own: what fails in it leaves others alone. Dropping it ends all that was made in it,
/// and waits for kernels that run; whoever made something gives it up before.
pub(super) struct Context(sys::CUcontext);

// SAFETY: contexts may be used from any thread that has made them current.
unsafe impl Send for Context {}
// SAFETY: the driver's calls may be made from several threads at once.
unsafe impl Sync for Context {}

/// While it lives, this thread's calls go to the context.
pub(super) struct Current<'a>(#[expect(dead_code, reason = "keeps the context")] &'a Context);

impl Context {
    pub(super) fn new(device: sys::CUdevice) -> Result<Context, CudaError> {
        let mut context = null_mut();
        // The processor's cores are for the daemon: waiting threads sleep.
        let flags = sys::CUctx_flags_enum::CU_CTX_SCHED_BLOCKING_SYNC as u32
            | sys::CUctx_flags_enum::CU_CTX_MAP_HOST as u32;
        // SAFETY: the place for the result outlives the call. It also makes the context current,
        // which is taken back: `Current` does that where it is wanted.
        unsafe {
            check("make a context", calls::cuCtxCreate_v2(&raw mut context, flags, device))?;
            let _ = calls::cuCtxPopCurrent_v2(&raw mut context);
        }
        Ok(Context(context))
    }

    pub(super) fn enter(&self) -> Result<Current<'_>, CudaError> {
        // SAFETY: the context lives.
        check("use the context", unsafe { calls::cuCtxPushCurrent_v2(self.0) })?;
        Ok(Current(self))
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and nobody has it current: `Current` borrows. A context that a kernel has
        // taken down says so again: there is nothing left to do about it.
        let _ = unsafe { calls::cuCtxDestroy_v2(self.0) };
    }
}

impl Drop for Current<'_> {
    fn drop(&mut self) {
        let mut context = null_mut();
        // SAFETY: pops what `enter` pushed on this thread.
        let _ = unsafe { calls::cuCtxPopCurrent_v2(&raw mut context) };
    }
}

/// Gives each thread of kernels in the current context a stack of so many bytes, which takes device memory.
pub(super) fn set_stack(bytes: u32) -> Result<(), CudaError> {
    let limit = sys::CUlimit_enum::CU_LIMIT_STACK_SIZE;
    // SAFETY: the current context's own limit; numbers alone.
    check("set the size of stacks", unsafe { calls::cuCtxSetLimit(limit, bytes as usize) })
}

/// Bytes of the compiler's messages that are kept.
const JIT_LOG: usize = 16 << 10;

/// Compiles and loads a module into the current context.
pub(super) fn load(text: &str) -> Result<sys::CUmodule, CudaError> {
    let mut image = Vec::with_capacity(text.len() + 1);
    image.extend_from_slice(text.as_bytes());
    image.push(0);
    let mut log = vec![0u8; JIT_LOG];
    let mut options = [
        sys::CUjit_option_enum::CU_JIT_ERROR_LOG_BUFFER,
        sys::CUjit_option_enum::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
    ];
    // The driver takes the size as the value of a pointer.
    let mut values: [*mut c_void; 2] = [log.as_mut_ptr().cast(), JIT_LOG as *mut c_void];
    let mut module = null_mut();
    // SAFETY: text that ends with a zero; as many options as values; a buffer of the size told.
    let result = unsafe {
        calls::cuModuleLoadDataEx(
            &raw mut module,
            image.as_ptr().cast(),
            2,
            options.as_mut_ptr(),
            values.as_mut_ptr(),
        )
    };
    if result == CUresult::CUDA_SUCCESS {
        return Ok(module);
    }
    let end = log.iter().position(|&b| b == 0).unwrap_or(JIT_LOG);
    let log = String::from_utf8_lossy(&log[..end]).trim_end().to_owned();
    if log.is_empty() || is_fatal(result) {
        check("load the module", result)?;
    }
    Err(CudaError::Module { name: describe(result).1, log })
}

/// A stream that waits for no other, the context's default one included.
pub(super) fn stream() -> Result<sys::CUstream, CudaError> {
    let mut stream = null_mut();
    let flags = sys::CUstream_flags_enum::CU_STREAM_NON_BLOCKING as u32;
    // SAFETY: the place for the result outlives the call.
    check("make a stream", unsafe { calls::cuStreamCreate(&raw mut stream, flags) })?;
    Ok(stream)
}

/// Copies to device memory in a stream, and waits for that.
///
/// # Safety
/// A range of the current context's memory, which nobody else uses meanwhile.
pub(super) unsafe fn copy_to(
    addr: u64,
    from: &[u8],
    stream: sys::CUstream,
) -> Result<(), CudaError> {
    if from.is_empty() {
        return Ok(());
    }
    // SAFETY: the caller vouches for the range; `from` outlives the copy, which is waited for.
    unsafe {
        let copied = calls::cuMemcpyHtoDAsync_v2(addr, from.as_ptr().cast(), from.len(), stream);
        check("copy to the device", copied)?;
        check("copy to the device", calls::cuStreamSynchronize(stream))
    }
}

/// Lets the device use `len` bytes of the host's memory; their device address.
///
/// # Safety
/// The memory stays mapped until the context is gone.
pub(super) unsafe fn register(base: *mut u8, len: usize) -> Result<u64, CudaError> {
    let flags = sys::CU_MEMHOSTREGISTER_PORTABLE | sys::CU_MEMHOSTREGISTER_DEVICEMAP;
    let mut address = 0;
    // SAFETY: the caller vouches for the memory.
    unsafe {
        check(
            "pin host memory (is the limit of locked memory, `ulimit -l`, too low?)",
            calls::cuMemHostRegister_v2(base.cast(), len, flags),
        )?;
        let mapped = calls::cuMemHostGetDevicePointer_v2(&raw mut address, base.cast(), 0);
        // Whoever is told of an error gives the memory up.
        check("map host memory", mapped).inspect_err(|_| drop(unregister(base)))?;
    }
    Ok(address)
}

/// Takes that back. If it fails the memory is to be kept for good: the driver may take it for pinned whoever has it next.
///
/// # Safety
/// No kernel uses the memory any more.
pub(super) unsafe fn unregister(base: *mut u8) -> Result<(), CudaError> {
    // SAFETY: the caller's promise.
    check("unpin host memory", unsafe { calls::cuMemHostUnregister(base.cast()) })
}
