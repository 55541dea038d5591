//! NVIDIA GPUs, by way of the driver's own interface.
//!
//! | module | owns |
//! |---|---|
//! | `calls` | the driver's functions, as they are found |
//! | `driver` | its calls: checked |
//! | `failure` | which errors end a context, and what is said of them |
//! | `gpu` | what a session has on a GPU: context, kernels, memory, streams; how it is lost |
//! | `kernels` | a kernel that has been compiled |
//! | `launch` | a launch: waiting, time limits, failures |
//! | `under_way` | the launches under way, with their streams and logs |
//! | `limits` | what a launch must not exceed |
//! | `memory` | device memory, in pieces |
//! | `log` | lines and panics of kernels |
//! | [`copy_rate`](mod@copy_rate) | what the driver's own copies reach, for benchmarks |
//!
//! Each session has a context of its own: a kernel that traps takes that one down, its session is lost and says so from
//! then on. Others go on and a new one can be built, as far as the driver lets them: it calls the whole process
//! inconsistent after that.
//!
//! The driver may wait for kernels that run when it is asked for something else, and a session's kernels may wait for
//! what its host program does next. So memory is never given back before the session ends; kernels are loaded while none
//! of their session's runs; logs are prepared in the stream of their launch, where nothing runs yet; and a kernel that
//! never ends costs memory and not the process. What is left is memory beyond what a session has taken so far, in pieces
//! of 64 MiB, and other sessions' pinned memory: what a program needs beside a server it had better build, allocate and
//! preload before.

mod calls;
pub mod copy_rate;
mod driver;
mod error;
mod failure;
mod gpu;
mod kernels;
mod launch;
mod limits;
mod log;
mod memory;
mod under_way;

pub use error::{Abandoned, CudaError};
pub(crate) use gpu::Cuda;

use gpu_emu::LogSink;
use std::fmt;
use std::time::Duration;

/// Which NVIDIA GPU, and how to use it.
#[derive(Clone)]
pub struct CudaOptions {
    /// Its number, as the driver counts.
    pub ordinal: u32,
    /// How long a launch may take that does not say itself. One that takes longer is told that the host
    /// is gone, and so are those beside it; two seconds later they are left alone.
    pub timeout: Option<Duration>,
    /// Where `gpu_rt::log!` goes; standard error without it. Lines arrive while somebody waits for a
    /// launch. Launches of one kernel that run side by side have one log: where their shapes differ, lines name the
    /// thread that it would be in the oldest of them.
    pub log: Option<LogSink>,
    /// Lines of the log that are kept of launches under way together; what is more is lost.
    pub log_lines: usize,
    /// Bytes of each thread's stack for what a kernel calls through pointers, such as formatting: beside what the
    /// compiler has counted, which goes no further than calls by name. A panic's message needs about 800.
    pub pointer_stack: u32,
}

/// What `ptx-build check` holds kernels to.
const POINTER_STACK: u32 = 2048;

impl Default for CudaOptions {
    fn default() -> Self {
        CudaOptions {
            ordinal: 0,
            timeout: None,
            log: None,
            log_lines: 4096,
            pointer_stack: POINTER_STACK,
        }
    }
}

impl fmt::Debug for CudaOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CudaOptions")
            .field("ordinal", &self.ordinal)
            .field("timeout", &self.timeout)
            .field("log_lines", &self.log_lines)
            .field("pointer_stack", &self.pointer_stack)
            .finish_non_exhaustive()
    }
}
