//! The GPU body of every function: one instruction, or a few, each.
//!
//! Two ways lead to an instruction, and which one is right follows from what the compiler may do:
//!
//! - **Intrinsics** for whatever involves other lanes (barriers, votes, shuffles). They are marked
//!   convergent: the compiler neither moves them into a branch nor duplicates them. `asm!` blocks
//!   are not so marked, and may not be used for these.
//! - **`asm!`** for loads, stores, atomics and fences: it alone can name scope and order together
//!   (see `atomic`).

use core::arch::asm;
use core::arch::nvptx as core_nvptx;

use crate::Dim3;

mod atomic;
mod builtins;
mod mem;
mod panic;
mod shared;
mod wait;

pub(crate) use atomic::{DeviceRaw32, DeviceRaw64, SystemRaw32, SystemRaw64};
pub(crate) use atomic::{fence_device, fence_system};
pub(crate) use mem::{LEADER_COPIES, copy, fill};
pub(crate) use panic::log;
pub(crate) use shared::{broadcast_block, shared_dynamic, shared_dynamic_len};
pub(crate) use wait::{WAKES, nanosleep, relax, wait_while_eq, wake};

mod intrinsics {
    // Scalars only, so that the C ABI passes each as it is.
    unsafe extern "C" {
        #[link_name = "llvm.nvvm.activemask"]
        pub(super) fn activemask() -> u32;
        #[link_name = "llvm.nvvm.vote.ballot.sync"]
        pub(super) fn ballot(mask: u32, pred: bool) -> u32;
        #[link_name = "llvm.nvvm.shfl.sync.idx.i32"]
        pub(super) fn shfl(mask: u32, value: u32, lane: u32, clamp: u32) -> u32;
        #[link_name = "llvm.nvvm.match.any.sync.i64"]
        pub(super) fn match_any(mask: u32, value: u64) -> u32;
        #[link_name = "llvm.nvvm.bar.warp.sync"]
        pub(super) fn sync_warp(mask: u32);
        #[link_name = "llvm.nvvm.barrier.cta.sync.all"]
        pub(super) fn sync_block(barrier: u32);
        #[link_name = "llvm.nvvm.read.ptx.sreg.laneid"]
        pub(super) fn lane_id() -> u32;
        #[link_name = "llvm.nvvm.read.ptx.sreg.smid"]
        pub(super) fn sm_id() -> u32;
    }
}

/// The emulator's preemption point; nothing here.
#[inline(always)]
pub(crate) fn point() {}

pub(crate) const VECTORS: bool = false;

#[inline(always)]
pub(crate) fn wide<W: crate::Wide>(work: W) -> W::Output {
    work.run()
}

macro_rules! position {
    ($($name:ident: $x:ident, $y:ident, $z:ident;)*) => {$(
        #[inline(always)]
        pub(crate) fn $name() -> Dim3 {
            // SAFETY: they read a special register. None of them is negative: the largest extent of
            // a grid is 2^31 - 1.
            let (x, y, z) = unsafe { (core_nvptx::$x(), core_nvptx::$y(), core_nvptx::$z()) };
            Dim3::new(x as u32, y as u32, z as u32)
        }
    )*};
}

position! {
    thread_idx: _thread_idx_x, _thread_idx_y, _thread_idx_z;
    block_idx: _block_idx_x, _block_idx_y, _block_idx_z;
    block_dim: _block_dim_x, _block_dim_y, _block_dim_z;
    grid_dim: _grid_dim_x, _grid_dim_y, _grid_dim_z;
}

#[inline(always)]
pub(crate) fn rank() -> u32 {
    let (at, extent) = (thread_idx(), block_dim());
    // A block has at most 1,024 threads.
    (at.z * extent.y + at.y) * extent.x + at.x
}

#[inline(always)]
pub(crate) fn lane_id() -> u32 {
    // SAFETY: reads a special register.
    unsafe { intrinsics::lane_id() }
}

/// Not `%warpid`, which names a place in the scheduler and may change.
#[inline(always)]
pub(crate) fn warp_id() -> u32 {
    rank() / 32
}

/// The same mask, but not for the compiler: what follows from it is worked out anew, by an instruction or two, wherever
/// it is asked for. It would be kept in registers otherwise, across calls and loops.
#[inline(always)]
pub(crate) fn anew(mut mask: u32) -> u32 {
    // SAFETY: no instruction at all. Not `pure`: each is to stay where it is.
    unsafe { asm!("/* {} */", inout(reg32) mask, options(nomem, nostack)) };
    mask
}

#[inline(always)]
pub(crate) fn sm_id() -> u32 {
    // SAFETY: reads a special register.
    unsafe { intrinsics::sm_id() }
}

/// `barrier.sync`, not `bar.sync`: each thread arrives for itself, so that a warp whose lanes have
/// diverged may arrive in parts.
#[inline(always)]
pub(crate) fn sync_threads() {
    // SAFETY: a barrier of the whole block; who must come is the contract of the public function,
    // and a thread that does not come makes the others wait, no more.
    unsafe { intrinsics::sync_block(0) }
}

#[inline(always)]
pub(crate) fn sync_warp(mask: u32) {
    // SAFETY: the same.
    unsafe { intrinsics::sync_warp(mask) }
}

#[inline(always)]
pub(crate) fn ballot(mask: u32, pred: bool) -> u32 {
    // SAFETY: the same.
    unsafe { intrinsics::ballot(mask, pred) }
}

#[inline(always)]
pub(crate) fn shfl(mask: u32, value: u32, src_lane: u32) -> u32 {
    // SAFETY: the same. The last argument: segments of 32 lanes.
    unsafe { intrinsics::shfl(mask, value, src_lane, 31) }
}

#[inline(always)]
pub(crate) fn shfl_u64(mask: u32, value: u64, src_lane: u32) -> u64 {
    let low = shfl(mask, value as u32, src_lane);
    let high = shfl(mask, (value >> 32) as u32, src_lane);
    u64::from(high) << 32 | u64::from(low)
}

#[inline(always)]
pub(crate) fn match_any(mask: u32, value: u64) -> u32 {
    // SAFETY: as `sync_threads`.
    unsafe { intrinsics::match_any(mask, value) }
}

#[inline(always)]
pub(crate) fn active_mask() -> u32 {
    // SAFETY: asks, and has no effect.
    unsafe { intrinsics::activemask() }
}

/// Word by word: each lane takes the leader's. The barrier at the end is what orders memory, which
/// shuffles do not.
#[inline(always)]
pub(crate) fn broadcast_warp(mask: u32, bytes: &mut [u8]) {
    // The lowest lane. There is one: the caller.
    let lanes = anew(mask);
    let leader = 31 - (lanes & lanes.wrapping_neg()).leading_zeros();
    let mut words = bytes.chunks_exact_mut(4);
    for chunk in &mut words {
        let word = u32::from_ne_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
        chunk.copy_from_slice(&shfl(mask, word, leader).to_ne_bytes());
    }
    for byte in words.into_remainder() {
        *byte = shfl(mask, u32::from(*byte), leader) as u8;
    }
    sync_warp(mask);
}

/// The GPU's own nanosecond counter: one for all multiprocessors. It may advance in steps of about
/// a microsecond.
#[inline(always)]
pub(crate) fn clock() -> u64 {
    let now;
    // SAFETY: reads a special register. Not `pure`: each look must happen.
    unsafe { asm!("mov.u64 {}, %globaltimer;", out(reg64) now, options(nomem, nostack)) };
    now
}
