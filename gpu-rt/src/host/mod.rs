//! The seam between device code on the host and whatever runs it there.
//!
//! An emulator implements [`Machine`], gives each GPU thread a [`Lane`], and calls [`set_current`]
//! before it lets the thread run. Where no lane is current, a launch of a single thread is played:
//! see `body`.

use core::cell::Cell;
use core::fmt;
use core::panic::Location;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use crate::Dim3;

pub(crate) mod body;

pub use body::wall_clock;

/// A place in the source, for reports.
pub type Place = &'static Location<'static>;

/// What runs GPU threads on the host. Each call comes from the thread that `lane` describes and
/// names the place in the source from which device code called.
pub trait Machine {
    /// [`sync_threads`](crate::sync_threads).
    fn sync_threads(&self, lane: &Lane, at: Place);
    /// [`sync_warp`](crate::sync_warp).
    fn sync_warp(&self, lane: &Lane, mask: u32, at: Place);
    /// [`ballot`](crate::ballot).
    fn ballot(&self, lane: &Lane, mask: u32, pred: bool, at: Place) -> u32;
    /// [`shfl_u64`](crate::shfl_u64), and [`shfl`](crate::shfl) widened to it.
    fn shfl(&self, lane: &Lane, mask: u32, value: u64, src_lane: u32, at: Place) -> u64;
    /// [`match_any`](crate::match_any).
    fn match_any(&self, lane: &Lane, mask: u32, value: u64, at: Place) -> u32;
    /// Replaces `bytes` (at most 64) by those of the lowest lane of `mask`.
    fn broadcast_warp(&self, lane: &Lane, mask: u32, bytes: &mut [u8], at: Place);
    /// Replaces `bytes` (at most 64) by those of the thread of rank 0.
    fn broadcast_block(&self, lane: &Lane, bytes: &mut [u8], at: Place);
    /// [`active_mask`](crate::active_mask).
    fn converged(&self, lane: &Lane, at: Place) -> u32;
    /// [`relax`](crate::relax).
    fn relax(&self, lane: &Lane, at: Place);
    /// Returns when `word` may differ from `value` or `timeout_ns` have passed; may return earlier.
    fn wait(&self, lane: &Lane, word: &AtomicU32, value: u32, timeout_ns: u64, at: Place);
    /// [`nanosleep`](crate::nanosleep).
    fn sleep(&self, lane: &Lane, ns: u64, at: Place);
    /// [`clock`](crate::clock).
    fn clock(&self, lane: &Lane) -> u64;
    /// [`log!`](crate::log!).
    fn log(&self, lane: &Lane, message: fmt::Arguments<'_>);
    /// A point at which another thread may run; called only while a [`Preemption`] is alive.
    fn preempt(&self, lane: &Lane, at: Place);
}

/// What the threads of one block have in common.
#[derive(Debug)]
pub struct BlockInfo {
    /// The position of the block in the grid.
    pub block_idx: Dim3,
    /// The extent of a block.
    pub block_dim: Dim3,
    /// The extent of the grid.
    pub grid_dim: Dim3,
    /// The multiprocessor.
    pub sm_id: u32,
    /// The dynamic shared memory, aligned to 16 bytes.
    pub shared: *mut u8,
    /// Its length in bytes.
    pub shared_len: usize,
}

/// A GPU thread on the host.
#[derive(Debug)]
pub struct Lane {
    /// What runs this thread.
    pub machine: *const dyn Machine,
    /// What this thread has in common with its block.
    pub block: *const BlockInfo,
    /// The position in the block.
    pub thread_idx: Dim3,
    /// The number in the block.
    pub rank: u32,
}

impl Lane {
    #[inline]
    fn machine(&self) -> &dyn Machine {
        // SAFETY: `set_current` requires the pointer to be valid while the lane is current.
        unsafe { &*self.machine }
    }

    #[inline]
    fn block(&self) -> &BlockInfo {
        // SAFETY: `set_current` requires the pointer to be valid while the lane is current.
        unsafe { &*self.block }
    }
}

std::thread_local! {
    static CURRENT: Cell<*const Lane> = const { Cell::new(core::ptr::null()) };
}

/// Makes `lane` the GPU thread that device code on this CPU thread is; null for none.
///
/// # Safety
/// Until the next call on this CPU thread, `lane` and the machine and block that it points to must
/// stay valid, and nobody may write to them except through cells.
#[inline]
pub unsafe fn set_current(lane: *const Lane) {
    CURRENT.set(lane);
}

/// Whether device code on this CPU thread is part of a launch.
#[inline]
#[must_use]
pub fn in_lane() -> bool {
    !CURRENT.get().is_null()
}

#[inline]
fn current() -> Option<&'static Lane> {
    // SAFETY: `set_current` requires the pointer to be null or valid while it is current. The
    // lifetime is that of a call from device code, during which the lane stays current; no function
    // of `body` keeps it for longer.
    unsafe { CURRENT.get().as_ref() }
}

/// How many [`Preemption`]s are alive: anything but zero sends every atomic operation through
/// [`Machine::preempt`].
static PREEMPTIONS: AtomicUsize = AtomicUsize::new(0);

/// While one is alive, each operation on an atomic calls [`Machine::preempt`] of the current lane,
/// if there is one.
#[derive(Debug)]
pub struct Preemption(());

impl Preemption {
    /// Turns the calls on.
    #[must_use]
    pub fn enable() -> Self {
        // Relaxed: a lane that runs on after this sees it no later than through the hand-over of
        // its launch.
        PREEMPTIONS.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Preemption {
    fn drop(&mut self) {
        PREEMPTIONS.fetch_sub(1, Ordering::Relaxed);
    }
}
