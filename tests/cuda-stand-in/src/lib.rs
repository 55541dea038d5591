//! A library that answers as NVIDIA's driver does, as far as `gpu-host` uses that: for tests of the
//! host's side on machines without a GPU. It proves nothing about a GPU.
//!
//! Device memory is the host's, full of rubbish until it is written. Kernels are run by the interpreter of
//! PTX, unless an [`Executor`] has been set that takes them; one that fails takes its context down, as on
//! a GPU. Streams have a thread each, and work in order.
//!
//! In a folder of its own under the name `libcuda.so`, and with that folder in `LD_LIBRARY_PATH`, it is the
//! driver of any program.
//!
//! | device | what it is |
//! |---|---|
//! | 0 | compute capability 9.0, 1 GiB |
//! | 1 | compute capability 6.1: too old |
//!
//! | module | owns |
//! |---|---|
//! | `calls` | the driver's functions |
//! | `context` | contexts, and what they own |
//! | `faults` | calls that fail since a test wants them to |
//! | `modules` | what it reads of PTX |
//! | `ptx` | the interpreter, as a GPU |
//! | `stream` | work in order |

mod calls;
mod context;
mod faults;
mod modules;
mod ptx;
mod stream;

use std::ffi::c_char;

/// A launch, as an executor gets it.
#[repr(C)]
#[derive(Debug)]
pub struct LaunchCall {
    /// The kernel's name, so many bytes.
    pub name: *const u8,
    /// Bytes of the name.
    pub name_len: usize,
    /// The bytes of the kernel's argument.
    pub args: *const u8,
    /// How many there are.
    pub args_len: usize,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Dynamic shared memory of a block, in bytes.
    pub shared_bytes: u32,
    /// The address of the module's log, or 0.
    pub log: u64,
}

/// Runs a kernel to its end; the driver's number for how it went, 0 for well, [`NOT_MINE`] for a kernel
/// that it leaves to the interpreter.
pub type Executor = extern "C" fn(&LaunchCall) -> u32;

/// What an [`Executor`] returns of a kernel that it does not know.
pub const NOT_MINE: u32 = u32::MAX;

/// The name of the function, a [`SetExecutor`], that sets the executor.
pub const SET_EXECUTOR: &str = "stand_in_set_executor";

/// The name of the function, a [`FailNext`], that has a call fail.
pub const FAIL_NEXT: &str = "stand_in_fail_next";

/// Has the next call that this thread makes of the driver's function of that name, which ends with a zero, fail with that
/// error.
pub type FailNext = unsafe extern "C" fn(*const c_char, u32);

/// Sets the executor for all launches from now on.
pub type SetExecutor = extern "C" fn(Executor);
