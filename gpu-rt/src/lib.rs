//! What it is to be a GPU thread: ids, groups, barriers, votes, scoped atomics.
//!
//! Device crates are written against this crate alone and know nothing of the hardware. The same
//! source runs in three places:
//!
//! | where | how |
//! |---|---|
//! | an emulated GPU | each GPU thread is a fiber; every function goes through the current [`host::Lane`] |
//! | a plain CPU thread | no lane is current: a launch of one thread, barriers do nothing, spinning yields to the OS |
//! | a GPU | one instruction, or a few, each |
//!
//! ```
//! use gpu_rt::{Block, Group, kernel, thread};
//!
//! /// Every thread greets the log.
//! #[kernel]
//! pub fn hello() {
//!     gpu_rt::log!("hello from thread {}", thread::index());
//!     Block.sync();
//! }
//!
//! hello.call(()); // no GPU, no emulator: one lane on this CPU thread
//! ```
//!
//! This is the only crate that asks for the target architecture: `arch` is the body of every
//! function, and the public modules only dispatch to it.
#![no_std]
#![cfg_attr(
    target_arch = "nvptx64",
    feature(asm_experimental_arch, link_llvm_intrinsics, stdarch_nvptx)
)]

#[cfg(not(target_arch = "nvptx64"))]
extern crate std;

// `#[kernel]` expands to paths that start with `::gpu_rt`.
extern crate self as gpu_rt;

pub mod atomic;
pub mod device_log;
mod dim;
mod group;
#[cfg(not(target_arch = "nvptx64"))]
pub mod host;
#[doc(hidden)]
pub mod kernel;
mod log;
pub mod mem;
#[cfg(target_arch = "nvptx64")]
mod nvptx;
pub mod shared;
pub mod thread;
mod time;
mod wait;
mod warp;
mod wide;

#[cfg(not(target_arch = "nvptx64"))]
use host::body as arch;
#[cfg(target_arch = "nvptx64")]
use nvptx as arch;

pub use bytemuck::{Pod, Zeroable};
pub use dim::Dim3;
pub use gpu_rt_macros::kernel;
pub use group::{BROADCAST_MAX, Block, Group, GroupKind, Thread, Warp};
#[cfg(not(target_arch = "nvptx64"))]
pub use kernel::Kernel;
#[doc(hidden)]
pub use log::__log;
pub use time::{clock, nanosleep};
pub use wait::{WAKES, WaitWord, relax, wait_while_eq, wake};
pub use warp::{active_mask, ballot, match_any, shfl, shfl_u64, sync_threads, sync_warp};
pub use wide::{VECTORS, Wide, wide};
