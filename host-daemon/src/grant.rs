//! What a client may touch.

use crate::net::NetGrant;
use std::path::PathBuf;
use std::ptr::NonNull;

/// Device memory that requests may name as their buffer (window 1).
#[derive(Clone, Copy, Debug)]
pub struct DeviceWindow {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a range of addresses; whoever made it vouches that any thread may write there.
unsafe impl Send for DeviceWindow {}
// SAFETY: as above.
unsafe impl Sync for DeviceWindow {}

impl DeviceWindow {
    /// A window over `len` bytes at `base`.
    ///
    /// # Safety
    /// The bytes must be valid for reads and writes, by any thread and by the kernel, for as long
    /// as a client with this grant lives, and never be accessed through Rust references meanwhile.
    pub unsafe fn new(base: NonNull<u8>, len: usize) -> DeviceWindow {
        DeviceWindow { base, len }
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Bytes of the window.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// What a client may touch.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Paths resolve inside this directory: `/` means it, and neither `..` nor a symbolic link
    /// leads out. `None` is the process's own view: its root and its working directory.
    pub root: Option<PathBuf>,
    /// Files that may be open at once: 1 to 1,048,576.
    pub max_open: u32,
    /// Device memory that requests may name. The smaller of this and the region's own
    /// `device_window` counts.
    pub device_window: Option<DeviceWindow>,
    /// Clause V13: nothing may be written, made, renamed or removed. Otherwise attaching makes the
    /// process ignore `SIGXFSZ` if nobody handles it, so that a client that exceeds `RLIMIT_FSIZE`
    /// gets `EFBIG` and does not end the process.
    pub read_only: bool,
    /// What it may do in the network.
    pub net: NetGrant,
}

impl Default for Grant {
    fn default() -> Self {
        Grant {
            root: None,
            max_open: 4096,
            device_window: None,
            read_only: false,
            net: NetGrant::default(),
        }
    }
}
