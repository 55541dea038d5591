//! Memory moved by a whole group.

use crate::{Group, arch};
use bytemuck::Pod;

/// Copies `len` bytes from `src` to `dst`; every thread of the group calls it with the same
/// arguments and does its share.
///
/// There is **no synchronisation in it**: bytes that another thread copies are there only after a
/// `group.sync()`, and whatever filled `src` must have been synchronised before.
///
/// # Safety
/// `src` must be readable and `dst` writable for `len` bytes, the two must not overlap, and nobody
/// may write either (or read `dst`) until the group has synchronised after the copy.
#[inline]
#[track_caller]
pub unsafe fn copy(group: &impl Group, dst: *mut u8, src: *const u8, len: usize) {
    // SAFETY: the caller's contract is the same.
    unsafe { arch::copy(group.rank(), group.size(), dst, src, len) }
}

/// Sets `len` bytes at `dst` to `byte`; every thread of the group calls it with the same arguments
/// and does its share.
///
/// Without synchronisation, as [`copy`].
///
/// # Safety
/// `dst` must be writable for `len` bytes, and nobody else may access them until the group has
/// synchronised.
#[inline]
#[track_caller]
pub unsafe fn fill(group: &impl Group, dst: *mut u8, byte: u8, len: usize) {
    // SAFETY: the caller's contract is the same.
    unsafe { arch::fill(group.rank(), group.size(), dst, byte, len) }
}

/// A copy that a group's leader has decided on: see [`copy_led`].
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Where to.
    pub dst: *mut u8,
    /// Where from.
    pub src: *const u8,
    /// How many bytes.
    pub len: usize,
}

impl Plan {
    /// To copy nothing.
    pub const NOTHING: Plan = Plan { dst: core::ptr::null_mut(), src: core::ptr::null(), len: 0 };
}

/// Lets the leader decide on a copy, has the group carry it out, and returns what the leader has to
/// say about it to every thread: all bytes are there then. `T` has at most 40 bytes.
///
/// The same as a broadcast of the plan, [`copy`] and `sync`; where the leader's copying alone is as
/// fast as all threads' (on an emulated GPU they share a core), the group meets once instead of twice.
///
/// # Safety
/// The plan must meet the contract of [`copy`] until this returns.
#[inline]
#[track_caller]
pub unsafe fn copy_led<T: Pod>(group: &impl Group, lead: impl FnOnce() -> (Plan, T)) -> T {
    const { assert!(size_of::<T>() <= 40, "the plan and this travel together") };
    let mut words = [0u64; 8];
    if group.is_leader() {
        let (plan, value) = lead();
        if arch::LEADER_COPIES {
            // SAFETY: the caller's contract is the same; as the only thread of the copy.
            unsafe { arch::copy(0, 1, plan.dst, plan.src, plan.len) };
        }
        words[..3].copy_from_slice(&[plan.dst as u64, plan.src as u64, plan.len as u64]);
        bytemuck::bytes_of_mut(&mut words)[24..24 + size_of::<T>()]
            .copy_from_slice(bytemuck::bytes_of(&value));
    }
    let words = group.broadcast(words);
    if !arch::LEADER_COPIES {
        let [dst, src, len] = [words[0] as usize, words[1] as usize, words[2] as usize];
        // SAFETY: the caller's contract is the same; every thread has the leader's plan.
        unsafe { arch::copy(group.rank(), group.size(), dst as *mut u8, src as *const u8, len) };
        group.sync();
    }
    bytemuck::pod_read_unaligned(&bytemuck::bytes_of(&words)[24..24 + size_of::<T>()])
}
