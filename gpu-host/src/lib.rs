//! Devices, sessions and typed launches: what a host program needs to run kernels that use files.
//!
//! ```
//! use gpu_host::{LaunchConfig, Session};
//! use gpu_rt::kernel;
//!
//! #[derive(Clone, Copy, gpu_rt::Pod, gpu_rt::Zeroable)]
//! #[repr(C)]
//! struct Args {
//!     sums: gpufs::DeviceSlice<u32>,
//! }
//!
//! #[kernel]
//! fn square(args: Args) {
//!     let i = gpu_rt::thread::index() as usize;
//!     // SAFETY: one thread per value, and the host reads after the launch.
//!     unsafe { args.sums.as_ptr().add(i).write((i * i) as u32) };
//! }
//!
//! let session = Session::builder().build()?;
//! let sums = session.alloc::<u32>(64)?;
//! session.run(&square, LaunchConfig::new(2, 32), Args { sums: sums.slice() })?;
//! assert_eq!(sums.to_vec()?[63], 63 * 63);
//! # Ok::<(), gpu_host::HostError>(())
//! ```
//!
//! | module | owns |
//! |---|---|
//! | [`device`] | the seam between a session and whatever runs its kernels |
//! | [`emulated`] | the emulated GPU behind that seam |
//! | `arena` | an emulated device's memory |
//! | [`ptx`] | the PTX interpreter behind it |
//! | [`cuda`] | NVIDIA GPUs behind it |
//! | `free_list` | which parts of a range of addresses are free |
//! | [`choice`] | which device: by name |
//! | [`module`] | kernels as PTX, for devices that run that |
//! | [`service`] | what serves a session's requests, as its device sees it |
//! | [`session`] | device, region, daemon and mount, wired up |
//! | [`buffer`] | device memory that a host program owns |
#![deny(unsafe_op_in_unsafe_fn)]

mod arena;
pub mod buffer;
pub mod choice;
pub mod cuda;
pub mod device;
pub mod emulated;
mod error;
mod free_list;
pub mod module;
pub mod ptx;
pub mod service;
pub mod session;

pub use buffer::DeviceBuffer;
pub use choice::{DeviceChoice, ParseDeviceError};
pub use cuda::{CudaError, CudaOptions};
pub use device::{Device, Launch};
pub use emulated::EmulatedOptions;
pub use error::HostError;
pub use gpu_emu::ptx::{Counts, ProfileLine};
pub use gpu_emu::{LaunchConfig, LaunchError, LaunchReport, Mode, Schedule};
pub use gpufs::DeviceSlice;
pub use gpufs::Stats;
pub use gpunet::NetAddr;
pub use host_daemon::{
    EngineChoice, EngineKind, Fault, FaultAt, Faults, NetGrant, NetStats, Reach,
};
pub use module::{Module, ModuleError};
pub use ptx::PtxOptions;
pub use session::{DaemonMode, Ender, Session, SessionBuilder};

/// The README's program compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
