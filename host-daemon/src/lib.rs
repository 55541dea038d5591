//! Serves regions: validates what devices ask for and does the I/O.
//!
//! The daemon knows no device. It sees one region of shared memory per client ([`RegionMemory`])
//! and the operating system; what a client may touch is its [`Grant`]. It believes nothing that a
//! ring says: the peer may write any byte of the region at any time, and the worst that this can
//! do is to spoil the peer's own answers. The clauses named in comments and tests stand in
//! `docs/protocol.md`.
//!
//! ```no_run
//! use host_daemon::{Daemon, Grant, Options, RegionConfig, RegionMemory};
//! use std::sync::Arc;
//!
//! let daemon = Daemon::new(Options::default())?;
//! let region = Arc::new(RegionMemory::new(RegionConfig::default())?);
//! let client = daemon.attach(region.clone(), Grant::default())?;
//! client.spawn(2)?; // threads of its own; or call `client.poll(worker)` wherever you wait
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `memory` | a region's memory |
//! | `daemon`, `options` | what all clients share: options, the version table |
//! | `client` | one client: poll, park, spawn, drop |
//! | `validate` | the judgement on a request: pure, no I/O |
//! | `serve` | carrying a valid request out |
//! | `files`, `paths`, `dir`, `versions` | open files, path resolution, listings, content versions |
//! | `net` | sockets |
//! | `engine` | reads and writes; those that have to wait: io_uring, or a pool of threads |
//! | `faults` | system calls that fail on purpose, for tests |
//! | `wake` | doorbells |

mod client;
mod daemon;
mod dir;
mod engine;
mod error;
mod faults;
mod files;
mod grant;
mod memory;
mod net;
mod options;
mod paths;
mod serve;
mod stats;
mod threads;
mod validate;
mod versions;
mod wake;

pub use client::{Client, Progress};
pub use daemon::Daemon;
pub use error::DaemonError;
pub use faults::{Fault, FaultAt, Faults, Stall};
pub use gpu_abi::RegionConfig;
pub use grant::{DeviceWindow, Grant};
pub use memory::RegionMemory;
pub use net::{NetGrant, Reach};
pub use options::{EngineChoice, EngineKind, Options};
pub use stats::{NetStats, Stats};
pub use threads::AwakeGuard;
pub use validate::MAX_READ;
