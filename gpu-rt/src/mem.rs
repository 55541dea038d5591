//! Memory moved by a whole group.

use crate::{Group, arch};

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
