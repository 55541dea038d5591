//! A region's memory: a sealed memfd, mapped.

use gpu_abi::{HostAtomics, Region, RegionConfig, RegionLayout};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicBool;

/// A fresh region in memory that can be shared with another process.
///
/// The size is sealed: a peer that holds the descriptor cannot shrink the file under our feet,
/// which would turn our next access into SIGBUS.
pub struct RegionMemory {
    /// Made once: later changes that a peer makes to the header have no effect on us.
    region: Region<HostAtomics>,
    fd: OwnedFd,
    /// Set by the first client that serves it.
    pub(crate) served: AtomicBool,
}

impl RegionMemory {
    /// Allocates and lays out a region; `InvalidInput` for a configuration outside its limits.
    pub fn new(config: RegionConfig) -> io::Result<RegionMemory> {
        let layout = RegionLayout::new(config).map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{config:?} exceeds a limit documented at RegionConfig"),
            )
        })?;
        let fd = memfd_create("gpu-region", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&fd, layout.total as u64)?;
        fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        // Not populated: most sessions use few of the slots, and a page's first touch costs a fraction
        // of what clearing all of them adds to the start.
        let flags = MapFlags::SHARED;
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe { mmap(std::ptr::null_mut(), layout.total, prot, flags, &fd, 0)? };
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: fresh, zeroed, page-aligned, of that length, unknown to anybody else; `region`
        // documents that copies live only as long as `self`.
        let region = unsafe { Region::create(base, layout) };
        Ok(RegionMemory { region, fd, served: AtomicBool::new(false) })
    }

    /// The region, for as long as this memory lives: keep the `RegionMemory` with it.
    pub fn region(&self) -> Region<HostAtomics> {
        self.region
    }

    /// The first byte.
    pub fn base(&self) -> NonNull<u8> {
        self.region.base()
    }

    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.region.layout().total
    }

    /// Never: a region has at least a header.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Where everything lies.
    pub fn layout(&self) -> &RegionLayout {
        self.region.layout()
    }

    /// The memfd, to be sent to another process.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for RegionMemory {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length; nothing that borrowed it is left.
        let _ = unsafe { munmap(self.base().as_ptr().cast(), self.len()) };
    }
}
