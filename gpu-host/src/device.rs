//! The seam between a session and whatever runs its kernels.

use crate::HostError;
use crate::service::Service;
use gpu_emu::{LaunchConfig, LaunchReport};
use host_daemon::RegionMemory;
use std::any::Any;
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::Arc;

/// A kernel with its arguments, its types forgotten: by name and bytes for a device that has a
/// module loaded, as a function for one that runs host code.
pub struct KernelCall {
    /// The kernel's name: its symbol in the module.
    pub name: &'static str,
    /// The arguments' bytes.
    pub args: Vec<u8>,
    /// What one thread runs, where threads are host code.
    pub on_host: Box<dyn Fn() + Send + Sync>,
}

/// Device memory that the host can address, all of it: the window of direct reads.
pub struct Window {
    /// Its first byte, the same address on both sides.
    pub base: NonNull<u8>,
    /// Its bytes.
    pub len: usize,
    /// What keeps it mapped.
    pub memory: Arc<dyn Any + Send + Sync>,
}

/// Something that runs kernels and has memory of its own. Addresses are the device's.
pub trait Device: Send + Sync {
    /// What to call it in messages.
    fn name(&self) -> String;

    /// How many submission rings suit it: as many as it has multiprocessors, within reason.
    fn shards(&self) -> u32;

    /// Threads of the host that run its kernels, and can serve the rings while those wait. A GPU has
    /// none: it needs [`DaemonMode::Threads`](crate::DaemonMode::Threads).
    fn host_workers(&self) -> usize;

    /// Whether a launch repeats an earlier one step by step, so that answers have to come in an order
    /// that follows from the requests alone.
    fn is_deterministic(&self) -> bool {
        false
    }

    /// Zeroed memory; `align` is a power of two.
    ///
    /// # Errors
    /// [`HostError::OutOfDeviceMemory`].
    fn alloc(&self, bytes: usize, align: usize) -> Result<u64, HostError>;

    /// Takes memory back that [`Device::alloc`] gave for as many bytes.
    ///
    /// # Safety
    /// No kernel and no host code uses it any more.
    unsafe fn free(&self, addr: u64, bytes: usize);

    /// Copies from device memory.
    ///
    /// # Errors
    /// If the device fails.
    ///
    /// # Safety
    /// The range is allocated and no kernel writes it now.
    unsafe fn read(&self, addr: u64, to: &mut [u8]) -> Result<(), HostError>;

    /// Copies to device memory.
    ///
    /// # Errors
    /// If the device fails.
    ///
    /// # Safety
    /// The range is allocated and no kernel uses it now.
    unsafe fn write(&self, addr: u64, from: &[u8]) -> Result<(), HostError>;

    /// The device address of a region, which the device may use from now on, and keeps as long as a
    /// kernel might.
    ///
    /// # Errors
    /// If the device cannot address it.
    fn map_region(&self, region: Arc<RegionMemory>) -> Result<u64, HostError>;

    /// Device memory as the host addresses it, where it can.
    fn window(&self) -> Option<Window>;

    /// Says what serves the requests of its kernels: called once, before the first launch.
    fn start(&self, service: Service);

    /// What its launches so far cost, by kernel, where it counts that.
    fn counts(&self) -> Option<BTreeMap<String, gpu_emu::ptx::Counts>> {
        None
    }

    /// The lines of PTX that its launches so far executed, where it counts them.
    fn profile(&self) -> Vec<gpu_emu::ptx::ProfileLine> {
        Vec::new()
    }

    /// Starts a launch.
    ///
    /// # Errors
    /// If it cannot start.
    fn launch(&self, call: KernelCall, shape: LaunchConfig) -> Result<Box<dyn Running>, HostError>;
}

/// A launch under way.
pub trait Running: Send {
    /// Whether it has ended.
    fn is_finished(&self) -> bool;

    /// Waits for its end.
    ///
    /// # Errors
    /// Why it failed.
    fn wait(self: Box<Self>) -> Result<LaunchReport, HostError>;
}

/// A launch of a session, under way.
#[must_use = "a launch's errors are known only to those who wait for it"]
pub struct Launch {
    pub(crate) running: Box<dyn Running>,
}

impl Launch {
    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.running.is_finished()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Why it failed: [`HostError::Launch`] with the thread and the place.
    pub fn wait(self) -> Result<LaunchReport, HostError> {
        self.running.wait()
    }
}
