//! What can go wrong before any request is served.

use std::io;
use std::path::PathBuf;

/// Why a daemon or a client could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DaemonError {
    /// io_uring was asked for and is not to be had.
    #[error(
        "io_uring cannot be set up ({source}); use EngineChoice::Auto or PreadPool, or allow it: \
         sysctl kernel.io_uring_disabled=0, a seccomp profile that admits io_uring_setup, and \
         enough file descriptors (ulimit -n)"
    )]
    RingUnavailable {
        /// What the kernel said.
        source: io::Error,
    },
    /// The environment names an engine that does not exist.
    #[error("GPU_HOSTD_ENGINE={value:?} names no engine; set it to pread or io_uring, or unset it")]
    EngineVariable {
        /// What it was set to.
        value: String,
    },
    /// An option is outside its documented limits.
    #[error("option {name} = {value} is out of range; use {limits}")]
    Option {
        /// The field of [`crate::Options`] or [`crate::Grant`].
        name: &'static str,
        /// Its value.
        value: usize,
        /// What it may be.
        limits: &'static str,
    },
    /// The root of a grant cannot be opened.
    #[error(
        "the granted root {path} cannot be opened ({source}); grant an existing directory that this process may search"
    )]
    Root {
        /// The root.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another client serves this region already, or did.
    #[error("the region has been served before; create a fresh RegionMemory for each client")]
    RegionUsed,
    /// What waits for bytes from outside could not be set up.
    #[error("sockets cannot be watched ({source}); raise the limit on descriptors (ulimit -n)")]
    Arrivals {
        /// What the operating system said.
        source: io::Error,
    },
    /// A thread could not be started.
    #[error(
        "a serving thread cannot be started ({source}); raise the limit on threads (ulimit -u) or drive the client with poll"
    )]
    Spawn {
        /// What the operating system said.
        source: io::Error,
    },
}
