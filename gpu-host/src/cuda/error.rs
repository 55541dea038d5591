//! What can go wrong with an NVIDIA GPU.

use std::time::Duration;

/// Why a GPU cannot be used, or has failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// The driver's library is not there.
    #[error(
        "no NVIDIA driver on this machine (libcuda.so is not found): install it, or choose --device emulated"
    )]
    NoDriver,
    /// There is a driver, and it lacks a function.
    #[error(
        "the NVIDIA driver of this machine has no function `{missing}`: install a later one, or choose --device emulated"
    )]
    OldDriver {
        /// The function's name.
        missing: &'static str,
    },
    /// There is a driver, and not that device.
    #[error(
        "no device cuda:{ordinal}: the driver has {count}, numbered from 0 (nvidia-smi lists them, and \
         CUDA_VISIBLE_DEVICES hides some)"
    )]
    NoDevice {
        /// The number asked for.
        ordinal: u32,
        /// How many there are.
        count: u32,
    },
    /// The device is older than the kernels' instructions.
    #[error(
        "{device} has compute capability {major}.{minor}, and kernels need 7.0, the first whose threads progress \
         independently: choose another device, or --device emulated"
    )]
    TooOld {
        /// Its name.
        device: String,
        /// The capability's first part.
        major: u32,
        /// Its second.
        minor: u32,
    },
    /// A call of the driver failed.
    #[error("the driver cannot {doing}: {name} ({code}), {text}")]
    Driver {
        /// What was attempted.
        doing: &'static str,
        /// The error's number.
        code: u32,
        /// Its name, such as `CUDA_ERROR_OUT_OF_MEMORY`.
        name: String,
        /// What the driver says about it.
        text: String,
    },
    /// The driver's compiler refused the module.
    #[error(
        "the driver refuses the module ({name}); is the driver older than the PTX? Its compiler says:\n{log}"
    )]
    Module {
        /// The error's name.
        name: String,
        /// What the compiler said.
        log: String,
    },
    /// A launch is larger than the device or the kernel allows.
    #[error("kernel `{kernel}`: {wanted} {what} exceed the {limit} of {device}: {remedy}")]
    Limit {
        /// The kernel.
        kernel: String,
        /// The device.
        device: String,
        /// What there is too much of.
        what: &'static str,
        /// How much was asked for.
        wanted: u64,
        /// How much there can be.
        limit: u64,
        /// What to do.
        remedy: &'static str,
    },
    /// A kernel could not be compiled, since others run and the driver would wait for them.
    #[error(
        "kernel `{kernel}` is to be compiled and others have run for {limit:?}: have it compiled before \
         (SessionBuilder::preload), or launch it in a session of its own"
    )]
    Busy {
        /// The kernel.
        kernel: String,
        /// How long it has waited.
        limit: Duration,
    },
    /// A launch took longer than it may.
    #[error(
        "kernel `{kernel}` was not finished within {limit:?}; {end}; build a new session to go on"
    )]
    Timeout {
        /// The kernel.
        kernel: String,
        /// The time it had.
        limit: Duration,
        /// What became of it.
        end: Abandoned,
    },
    /// A launch failed, and left no message.
    #[error(
        "kernel `{kernel}` failed: {name} ({code}), {text}{hint}; build a new session to go on"
    )]
    Failed {
        /// The kernel.
        kernel: String,
        /// The error's number.
        code: u32,
        /// Its name, such as `CUDA_ERROR_ILLEGAL_ADDRESS`.
        name: String,
        /// What the driver says about it.
        text: String,
        /// What may help to find the cause, and what else it may have been; begins with a semicolon, or is empty.
        hint: String,
    },
    /// An earlier failure took the session's context with it.
    #[error("{device} is lost to this session since: {why}\nbuild a new session to go on")]
    Lost {
        /// The device.
        device: String,
        /// What happened.
        why: String,
    },
}

/// What became of a launch that took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abandoned {
    /// It ended once the host had stopped answering.
    Ended,
    /// It runs on; what it uses stays allocated until the process ends.
    Running,
}

impl std::fmt::Display for Abandoned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Abandoned::Ended => "it ended when its calls to the host were failed",
            Abandoned::Running => "it runs on, and keeps what it uses until this process ends",
        })
    }
}
