//! Kernels as the driver has them: each a module of its own, compiled when it is first asked for.

use super::calls;
use super::driver::{self, check};
use super::error::CudaError;
use super::limits::KernelLimits;
use super::log::Log;
use crate::Module;
use cudarc::driver::sys;
use gpu_emu::LaunchConfig;
use gpu_rt::device_log::SYMBOL;
use std::ffi::CString;

/// Shared memory of a block that needs no permission, in bytes: a kernel's own, and what its launch adds.
const PLAIN_SHARED: usize = 48 << 10;

/// A kernel that has been loaded. Its context unloads it.
#[derive(Clone, Copy)]
pub(super) struct Loaded {
    pub(super) raw: sys::CUfunction,
    pub(super) limits: KernelLimits,
    /// Bytes of a thread's stack, as far as the compiler can count.
    pub(super) stack: u32,
    /// Where its log is controlled, if it has one.
    pub(super) control: Option<u64>,
}

// SAFETY: the driver's handles may be used from any thread in which the context is current.
unsafe impl Send for Loaded {}

impl Loaded {
    /// Compiles a kernel of `module` and what it reaches, and loads that into the current context.
    pub(super) fn new(module: &Module, name: &str) -> Result<Loaded, CudaError> {
        let loaded = driver::load(&module.only(name))?;
        let symbol = CString::new(name).expect("PTX names have no zeros");
        let mut raw = std::ptr::null_mut();
        // SAFETY: a loaded module; the place for the result outlives the call.
        check("find a kernel in the module", unsafe {
            calls::cuModuleGetFunction(&raw mut raw, loaded, symbol.as_ptr())
        })?;
        let get = |attribute| {
            let mut value = 0;
            // SAFETY: a function of a loaded module; the place for the result outlives the call.
            check("describe a kernel", unsafe {
                calls::cuFuncGetAttribute(&raw mut value, attribute, raw)
            })?;
            Ok(u32::try_from(value).unwrap_or(0))
        };
        use sys::CUfunction_attribute_enum as A;
        let limits = KernelLimits {
            threads: get(A::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?,
            shared_bytes: get(A::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)?,
        };
        let stack = get(A::CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES)?;
        Ok(Loaded { raw, limits, stack, control: global(loaded, SYMBOL)? })
    }

    /// Puts a launch into a stream, with what its log needs before it. All in the current context.
    ///
    /// # Safety
    /// The kernel has one parameter of as many bytes as `args`, or none if there are none, and what they point to is
    /// what it expects. No launch of it is under way that may write to `log`, and the log is its own.
    pub(super) unsafe fn begin(
        &self,
        mut args: Vec<u8>,
        shape: &LaunchConfig,
        log: Option<&mut Log>,
        stream: sys::CUstream,
    ) -> Result<(), CudaError> {
        if shape.shared_bytes + self.limits.shared_bytes as usize > PLAIN_SHARED {
            let dynamic =
                sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: a function of a loaded module; below the device's limit, which fits.
            check("give a kernel more shared memory", unsafe {
                calls::cuFuncSetAttribute(self.raw, dynamic, shape.shared_bytes as i32)
            })?;
        }
        if let (Some(control), Some(log)) = (self.control, log) {
            // SAFETY: the caller's promise; the control block is this kernel's and as long. The copy is waited for, since
            // the next launch of this kernel has another stream, and may run before this one.
            unsafe {
                log.clear();
                driver::copy_to(control, &log.control(), stream)?;
            }
        }
        let mut parameter = args.as_mut_ptr().cast();
        let parameters = if args.is_empty() { std::ptr::null_mut() } else { &raw mut parameter };
        let (grid, block) = (shape.grid, shape.block);
        // SAFETY: the caller's promise; the driver copies the parameter.
        let launched = unsafe {
            calls::cuLaunchKernel(
                self.raw,
                grid.x,
                grid.y,
                grid.z,
                block.x,
                block.y,
                block.z,
                shape.shared_bytes as u32,
                stream,
                parameters,
                std::ptr::null_mut(),
            )
        };
        check("launch a kernel", launched)
    }
}

/// The address of a global of a loaded module, if it has it.
fn global(module: sys::CUmodule, name: &str) -> Result<Option<u64>, CudaError> {
    let symbol = CString::new(name).expect("PTX names have no zeros");
    let (mut address, mut len) = (0, 0);
    // SAFETY: a loaded module; the places for the results outlive the call.
    let result = unsafe {
        calls::cuModuleGetGlobal_v2(&raw mut address, &raw mut len, module, symbol.as_ptr())
    };
    if result == sys::CUresult::CUDA_ERROR_NOT_FOUND {
        return Ok(None);
    }
    check("find a variable in the module", result)?;
    Ok(Some(address))
}
