//! Files for GPU kernels: the device file API and its page cache.
//!
//! A kernel receives an [`Fs`] in its arguments and uses it as it would use `std::fs`; every call
//! takes a [`Group`](gpu_rt::Group) first, which says how many threads make it together:
//!
//! ```
//! use gpu_rt::{Block, Group};
//! # use gpufs::{Errno, Fs, IoBufMut, OpenOptions};
//! fn first_bytes(fs: Fs, path: &[u8], buf: &mut [u8]) -> Result<usize, Errno> {
//!     let file = fs.open(&Block, path, OpenOptions::new())?;   // one request for the block
//!     let n = file.read_at(&Block, buf, 0)?;                   // a hit needs no request at all
//!     file.close(&Block)?;
//!     Ok(n)
//! }
//! ```
//!
//! Modules, from the top:
//!
//! | module | owns |
//! |---|---|
//! | [`mod@file`], [`options`], `open` | open files, and how they are opened and shared |
//! | [`mod@write`], `append`, `finish` | writing; past the cache; making durable, cutting, closing |
//! | [`view`], [`view_mut`], [`typed`], [`pending`] | pages lent, lent to be changed, as values; begun and finished later |
//! | [`dir`], `names`, `whole` | directories, names, files in one request each |
//! | `cache`, `fetch`, `frames`, [`frame`], `inflight`, `prefetch` | pages: found, fetched, pinned, evicted, fetched ahead |
//! | `dirty`, `marks`, `extent`, `writeback` | dirty bytes: what is marked, and how it gets to the file |
//! | [`index`], [`evict`] | policies, type parameters of [`Fs`] |
//! | `port`, [`layout`], [`stats`] | requests; what the host mounts (a header: zeroed memory is a valid initial state for all the rest); counters |
#![no_std]
#![deny(unsafe_op_in_unsafe_fn)]

mod append;
mod bitmap;
mod cache;
pub mod dir;
mod dirty;
pub mod evict;
mod extent;
mod fetch;
pub mod file;
mod finish;
pub mod frame;
mod frames;
pub mod index;
mod inflight;
pub mod layout;
mod marks;
#[cfg(all(test, loom))]
mod models;
mod mount;
mod names;
mod open;
pub mod options;
pub mod pending;
mod port;
mod prefetch;
pub mod stats;
pub mod typed;
pub mod view;
pub mod view_mut;
mod whole;
pub mod write;
mod writeback;

pub use dir::Dir;
pub use evict::{Clock, Eviction, Fifo};
pub use file::{File, IoBufMut};
pub use gpu_abi::request::DirEntry;
pub use gpu_abi::{DeviceSlice, Errno, FileInfo};
pub use index::{HashIndex, PageIndex, RadixIndex};
pub use layout::{MountConfig, MountHeader, MountLayout};
pub use mount::Fs;
pub use options::OpenOptions;
pub use pending::{Batch, Pending, PendingWrite};
pub use stats::Stats;
pub use typed::TypedView;
pub use view::View;
pub use view_mut::ViewMut;
pub use write::IoBuf;
