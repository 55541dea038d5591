//! Stacks, many to a mapping.
//!
//! One mapping and one guard page for each of 65,536 threads would pass `vm.max_map_count`, so
//! stacks are cut from slabs. A stack takes address space only, until it is touched:
//!
//! ```text
//!  low                                                                      high
//!   +--------------+---------------+----------------------+---------+----------+
//!   |  guard page  |  untouched .. |  frames  <-- grows   |  Fiber  |  colour  |
//!   +--------------+---------------+----------------------+---------+----------+
//! ```
//!
//! The guard is installed without splitting the mapping (`MADV_GUARD_INSTALL`, Linux 6.13); where
//! that fails, the same page must stay zero instead, which is looked at after each switch: reading
//! an untouched page costs no memory. The colour, some cache lines that differ from stack to stack,
//! keeps the hot ends of all stacks from falling into the same sets of the first-level cache.

use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use corosensei::stack::{STACK_ALIGNMENT, Stack, StackPointer};

use crate::config::Guard;

/// Stacks per slab.
const SLAB: usize = 64;
const PAGE: usize = 4096;
/// `MADV_GUARD_INSTALL`; not in `libc` yet.
const MADV_GUARD_INSTALL: libc::c_int = 102;
/// Colours differ by a line; the last takes 960 bytes of its stack's first page.
const COLOURS: usize = 16;
const LINE: usize = 64;

/// One stack of a [`Stacks`], which must outlive it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    /// The guard page, the lowest.
    low: NonNull<u8>,
    size: usize,
    colour: usize,
    /// Whether the guard page is an ordinary one that must stay zero.
    pub(crate) canary: bool,
}

impl Slot {
    /// `size` bytes at the high end, aligned to a cache line.
    pub(crate) fn top(&self, size: usize) -> NonNull<u8> {
        let down = (self.colour * LINE + size).next_multiple_of(LINE);
        // SAFETY: `down` is below two kilobytes, and a stack has at least four pages.
        unsafe { self.low.add(self.size - down) }
    }

    /// Whether the canary page was written to. Only for a slot with a canary.
    pub(crate) fn overflowed(&self) -> bool {
        (0..PAGE).step_by(LINE).any(|line| {
            // SAFETY: the page is mapped and readable, and the fiber that may write to it is
            // suspended.
            unsafe { self.low.add(line).cast::<u64>().read_volatile() != 0 }
        })
    }

    /// Gives the memory of the stack back to the system, all but that of its first pages.
    pub(crate) fn trim(&self) {
        // SAFETY: the fiber that used the stack is gone, and what is below its first page holds
        // nothing.
        unsafe {
            libc::madvise(self.low.as_ptr().cast(), self.size - PAGE, libc::MADV_DONTNEED);
        }
    }

    /// Whether `address` is in the guard page.
    pub(crate) fn guards(&self, address: usize) -> bool {
        (self.low.addr().get()..self.low.addr().get() + PAGE).contains(&address)
    }
}

/// The part of a [`Slot`] that frames may use.
#[derive(Debug)]
pub(crate) struct Frames {
    base: StackPointer,
    limit: StackPointer,
}

impl Frames {
    /// From the guard page of `slot` up to `base`, which must lie within it.
    pub(crate) fn new(slot: &Slot, base: NonNull<u8>) -> Self {
        let base = base.addr().get() & !(STACK_ALIGNMENT - 1);
        Self { base: NonZeroUsize::new(base).expect("not null"), limit: slot.low.addr() }
    }
}

// SAFETY: the memory between the two belongs to this stack alone, is larger than the minimum, and
// its lowest page is a guard page, or is looked at by the emulator where the system offers none.
unsafe impl Stack for Frames {
    fn base(&self) -> StackPointer {
        self.base
    }

    fn limit(&self) -> StackPointer {
        self.limit
    }
}

/// The stacks of one worker. Slots are never given back one by one.
#[derive(Debug)]
pub(crate) struct Stacks {
    slabs: Vec<NonNull<u8>>,
    used: usize,
    size: usize,
    canary: bool,
}

impl Stacks {
    pub(crate) fn new(size: usize, guard: Guard) -> Self {
        let size = size.max(4 * PAGE).next_multiple_of(PAGE);
        Self { slabs: Vec::new(), used: 0, size, canary: guard == Guard::Canary }
    }

    /// The size of a stack in bytes, the guard included.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    pub(crate) fn take(&mut self) -> io::Result<Slot> {
        let index = self.used % SLAB;
        if index == 0 {
            self.grow()?;
        }
        let slab = self.slabs.last().expect("grown when the last was full");
        // SAFETY: `index` is below the number of stacks in a slab.
        let low = unsafe { slab.add(index * self.size) };
        if !self.canary {
            // SAFETY: the page is part of our mapping and nothing was stored there.
            let failed = unsafe { libc::madvise(low.as_ptr().cast(), PAGE, MADV_GUARD_INSTALL) };
            self.canary = failed != 0;
        }
        self.used += 1;
        Ok(Slot { low, size: self.size, colour: index % COLOURS, canary: self.canary })
    }

    fn grow(&mut self) -> io::Result<()> {
        let len = SLAB * self.size;
        // SAFETY: a fresh private mapping wherever the system likes.
        let slab = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if slab == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // A huge page would make every stack in it resident at once. Where the call fails there are
        // none. SAFETY: our own mapping.
        unsafe { libc::madvise(slab, len, libc::MADV_NOHUGEPAGE) };
        self.slabs.push(NonNull::new(slab.cast()).expect("mmap returns no null"));
        Ok(())
    }
}

impl Drop for Stacks {
    fn drop(&mut self) {
        for slab in &self.slabs {
            // SAFETY: mapped in `grow` with this length; the owner drops all fibers first.
            unsafe { libc::munmap(slab.as_ptr().cast(), SLAB * self.size) };
        }
    }
}
