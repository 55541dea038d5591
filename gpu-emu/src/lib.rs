//! The emulated GPU: fibers, warps, blocks, schedulers, replay.
//!
//! Runs kernels written against [`gpu_rt`] on the CPU, with a GPU's semantics: blocks of warps of
//! lanes, barriers, votes and shuffles with checked masks, device and shared memory. Each GPU
//! thread is a fiber; each worker thread is a multiprocessor that holds whole blocks. What would be
//! undefined or a hang on a GPU is a [`LaunchError`] here that names blocks, threads and places in
//! the source.
//!
//! ```
//! use gpu_emu::{Config, Emulator, LaunchConfig};
//! use gpu_rt::atomic::{DeviceAtomicU32, Ordering};
//! use gpu_rt::{Block, Group};
//!
//! let emulator = Emulator::new(Config::default());
//! let blocks = DeviceAtomicU32::new(0);
//! let kernel = || {
//!     Block.sync();
//!     if Block.is_leader() {
//!         blocks.fetch_add(1, Ordering::Relaxed);
//!     }
//! };
//! emulator.run_fn("count_blocks", LaunchConfig::new(8, 256), &kernel)?;
//! assert_eq!(blocks.load(Ordering::Relaxed), 8);
//! # Ok::<(), gpu_emu::LaunchError>(())
//! ```
//!
//! [`Mode::Deterministic`] runs one operation at a time in an order that follows from a seed;
//! [`explore`] tries many seeds, and a failure prints the command that replays it.

mod block;
mod config;

mod deterministic;
mod emulator;
mod error;
mod explore;
mod fast;
mod fiber;
mod host;
mod launch;
mod machine;
mod overflow;
mod panics;
pub mod ptx;
mod report;
mod sched;
mod schedule;
mod shared;
mod stack;
mod sync;
mod warp;
mod worker;

pub use config::{Config, Guard, LaunchConfig, LogSink, MAX_BLOCK_THREADS, MAX_SHARED_BYTES, Mode};
pub use emulator::{Emulator, Waker};
pub use error::{Fault, LaunchError, Replay};
pub use explore::explore;
pub use host::{Host, NoHost, Progress};
pub use launch::{LaunchHandle, LaunchReport};
pub use report::{Doing, LaneId, Roll, Whereabouts};
pub use schedule::{ParseScheduleError, Schedule, VARIABLE};
