//! Barriers, votes and shuffles.
//!
//! Every function that takes a mask is a rendezvous of the lanes that the mask names: each of them
//! must call the same function with the same mask. The emulator checks that, and reports who did
//! not.

use crate::arch;

/// Waits until every thread of the block that has not exited is here. All must wait at the same
/// place.
#[inline]
#[track_caller]
pub fn sync_threads() {
    arch::sync_threads();
}

/// Waits until every lane named by `mask` is here; what they wrote before is visible to all of them
/// after.
#[inline]
#[track_caller]
pub fn sync_warp(mask: u32) {
    arch::sync_warp(mask);
}

/// The set of lanes in `mask` whose `pred` is true.
#[inline]
#[track_caller]
#[must_use]
pub fn ballot(mask: u32, pred: bool) -> u32 {
    arch::ballot(mask, pred)
}

/// The `value` of the lane `src_lane`, which must be in `mask`.
#[inline]
#[track_caller]
#[must_use]
pub fn shfl(mask: u32, value: u32, src_lane: u32) -> u32 {
    arch::shfl(mask, value, src_lane)
}

/// The 64-bit `value` of the lane `src_lane`, which must be in `mask`.
#[inline]
#[track_caller]
#[must_use]
pub fn shfl_u64(mask: u32, value: u64, src_lane: u32) -> u64 {
    arch::shfl_u64(mask, value, src_lane)
}

/// The set of lanes in `mask` whose `value` equals the caller's.
#[inline]
#[track_caller]
#[must_use]
pub fn match_any(mask: u32, value: u64) -> u32 {
    arch::match_any(mask, value)
}

/// The lanes that run together with the caller right now, the caller among them.
///
/// No kernel may rely on a particular answer, only on all lanes named being at this call. On the
/// emulator a lane that asks waits until the others of its warp have asked at the same place too,
/// have exited, or are blocked elsewhere; the random schedulers also answer with smaller sets.
#[inline]
#[track_caller]
#[must_use]
pub fn active_mask() -> u32 {
    arch::active_mask()
}
