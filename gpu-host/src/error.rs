//! What can go wrong on the host's side of a session.

use crate::ModuleError;
use crate::cuda::CudaError;
use gpu_emu::LaunchError;
use gpufs::Errno;
use host_daemon::DaemonError;

/// Why a session could not be set up, or something in it not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// A launch failed; or it could not start.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// A module cannot be used, or has not what is to be launched.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// An NVIDIA GPU cannot be used, or has failed.
    #[error(transparent)]
    Cuda(#[from] CudaError),
    /// The daemon could not be set up.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    /// The region could not be made.
    #[error(
        "no shared memory for the rings ({source}); lower the number of transfer slots or pages"
    )]
    Region {
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The device cannot serve its own requests.
    #[error(
        "{device} has no host threads that could serve its requests: choose DaemonMode::Threads, or none"
    )]
    NobodyServes {
        /// Which.
        device: String,
    },
    /// The device has no room.
    #[error(
        "device memory is exhausted: {wanted} bytes wanted, {free} of {total} free; free buffers, or raise \
         SessionBuilder::device_memory"
    )]
    OutOfDeviceMemory {
        /// Bytes asked for.
        wanted: usize,
        /// Bytes free, if not in one piece.
        free: usize,
        /// Bytes in all.
        total: usize,
    },
    /// Nothing has so many bytes.
    #[error("a buffer of {len} values of {size} bytes each is larger than any memory")]
    TooLarge {
        /// Values asked for.
        len: usize,
        /// Bytes of each.
        size: usize,
    },
    /// The operating system gives no address space for device memory.
    #[error(
        "{bytes} bytes of device memory cannot be mapped ({source}); lower SessionBuilder::device_memory"
    )]
    Map {
        /// Bytes asked for.
        bytes: usize,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The page cache cannot be as asked for.
    #[error(
        "no page cache of {cache_size} bytes in pages of {page_size} ({errno}): pages are a power of two from 4096 to \
         2097152 bytes, and there must be at least two"
    )]
    Cache {
        /// Bytes of a page.
        page_size: u32,
        /// Bytes of all frames.
        cache_size: u64,
        /// What the mount said.
        errno: Errno,
    },
    /// The sockets cannot be as asked for.
    #[error(
        "no {sockets} sockets with rings of {ring} bytes and {pollers} event queues: there are at most 65536 sockets and 1024 queues, \
         and a ring is a power of two from 4096 to 4194304 bytes"
    )]
    Sockets {
        /// How many sockets.
        sockets: u32,
        /// Bytes of a ring.
        ring: u32,
        /// How many queues.
        pollers: u32,
    },
    /// A copy outside a buffer.
    #[error("a copy of {len} values at {start} does not fit in a buffer of {size}")]
    OutOfBuffer {
        /// The first value.
        start: usize,
        /// How many.
        len: usize,
        /// Values in the buffer.
        size: usize,
    },
}
