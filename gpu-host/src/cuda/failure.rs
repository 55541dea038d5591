//! Which of the driver's errors end a context, and what is said about them.

use super::calls::Status;
use super::driver::describe;
use super::error::CudaError;
use cudarc::driver::sys::CUresult as R;

/// Those of which the driver's documentation says that nothing works after them, or that tell of a device or
/// a driver that is gone. They come late: whichever call is made next learns of them.
const FATAL: [R; 20] = [
    R::CUDA_ERROR_DEINITIALIZED,
    R::CUDA_ERROR_DEVICE_UNAVAILABLE,
    R::CUDA_ERROR_ECC_UNCORRECTABLE,
    R::CUDA_ERROR_NVLINK_UNCORRECTABLE,
    R::CUDA_ERROR_CONTAINED,
    R::CUDA_ERROR_ILLEGAL_ADDRESS,
    R::CUDA_ERROR_LAUNCH_TIMEOUT,
    R::CUDA_ERROR_CONTEXT_IS_DESTROYED,
    R::CUDA_ERROR_ASSERT,
    R::CUDA_ERROR_HARDWARE_STACK_ERROR,
    R::CUDA_ERROR_ILLEGAL_INSTRUCTION,
    R::CUDA_ERROR_MISALIGNED_ADDRESS,
    R::CUDA_ERROR_INVALID_ADDRESS_SPACE,
    R::CUDA_ERROR_INVALID_PC,
    R::CUDA_ERROR_LAUNCH_FAILED,
    R::CUDA_ERROR_TENSOR_MEMORY_LEAK,
    R::CUDA_ERROR_MPS_RPC_FAILURE,
    R::CUDA_ERROR_MPS_CLIENT_TERMINATED,
    R::CUDA_ERROR_EXTERNAL_DEVICE,
    R::CUDA_ERROR_UNKNOWN,
];

/// Whether an error has taken the context with it.
pub(super) fn is_fatal(status: Status) -> bool {
    FATAL.iter().any(|fatal| status == *fatal)
}

/// The error of a kernel that failed, or of one of those that ran `beside` it: the driver does not say which.
pub(super) fn failure(kernel: &str, beside: &[&str], status: Status) -> CudaError {
    let mut hint =
        if status == R::CUDA_ERROR_ILLEGAL_ADDRESS || status == R::CUDA_ERROR_MISALIGNED_ADDRESS {
            "; a run on an emulated device may say where it goes wrong"
        } else if status == R::CUDA_ERROR_HARDWARE_STACK_ERROR {
            "; give threads a larger stack, by `CudaOptions::pointer_stack`"
        } else if status == R::CUDA_ERROR_LAUNCH_TIMEOUT {
            "; the driver's watchdog ends long kernels on GPUs that drive a display"
        } else {
            ""
        }
        .to_owned();
    if !beside.is_empty() {
        hint += &format!("; or one that ran beside it did: `{}`", beside.join("`, `"));
    }
    let (code, name, text) = describe(status);
    CudaError::Failed { kernel: kernel.into(), code, name, text, hint }
}
