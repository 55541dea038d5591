//! Who the calling thread is.

use crate::{Dim3, arch};

/// The position of this thread in its block.
#[inline]
#[must_use]
pub fn thread_idx() -> Dim3 {
    arch::thread_idx()
}

/// The position of this thread's block in the grid.
#[inline]
#[must_use]
pub fn block_idx() -> Dim3 {
    arch::block_idx()
}

/// The extent of a block, in threads.
#[inline]
#[must_use]
pub fn block_dim() -> Dim3 {
    arch::block_dim()
}

/// The extent of the grid, in blocks.
#[inline]
#[must_use]
pub fn grid_dim() -> Dim3 {
    arch::grid_dim()
}

/// The number of this thread in its warp, 0 to 31.
#[inline]
#[must_use]
pub fn lane_id() -> u32 {
    arch::lane_id()
}

/// The number of this thread's warp in its block.
#[inline]
#[must_use]
pub fn warp_id() -> u32 {
    arch::warp_id()
}

/// The number of the multiprocessor that runs this thread's block; on the emulator, of the worker.
#[inline]
#[must_use]
pub fn sm_id() -> u32 {
    arch::sm_id()
}

/// The number of this thread in its block, `x` fastest.
#[inline]
#[must_use]
pub fn rank() -> u32 {
    arch::rank()
}

/// The number of this thread in the launch: block by block, `x` fastest.
#[inline]
#[must_use]
pub fn index() -> u64 {
    grid_dim().linear(block_idx()) * block_dim().count() + u64::from(rank())
}

/// The number of threads of the launch.
#[inline]
#[must_use]
pub fn count() -> u64 {
    grid_dim().count() * block_dim().count()
}
