//! The one space of generic addresses: windows of its own for shared and local memory and for
//! functions, and the host's addresses for all else.
//!
//! ```text
//!   63..56   window: 0 global, 1 shared, 2 local, 3 functions
//!   55..32   for local memory, the number of the thread in its block
//!   31..0    the offset
//! ```
//!
//! No address of the host's user space reaches the windows. A thread's local window is its own, so
//! that a pointer into another thread's local memory is noticed.

/// Where shared memory begins.
pub(super) const SHARED: u64 = 1 << 56;
const LOCAL: u64 = 2 << 56;
const FUNCTION: u64 = 3 << 56;
/// Bytes between the addresses of functions: so that none lies within another.
const FUNCTION_STRIDE: u64 = 16;

/// Where the local memory of the block's thread number `rank` begins.
pub(super) fn local_window(rank: u32) -> u64 {
    LOCAL | u64::from(rank) << 32
}

/// The address of a function.
pub(super) fn function_address(function: u32) -> u64 {
    FUNCTION | (u64::from(function) * FUNCTION_STRIDE)
}

/// The function at an address.
pub(super) fn function_at(address: u64) -> Option<u32> {
    let offset = address.checked_sub(FUNCTION)?;
    let whole = offset.is_multiple_of(FUNCTION_STRIDE);
    (whole && offset < 1 << 40).then_some((offset / FUNCTION_STRIDE) as u32)
}

/// What a generic address is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Window {
    Global,
    /// At this offset.
    Shared(u64),
    /// Of this thread, at this offset.
    Local(u32, u64),
    /// Nothing that can be loaded or stored.
    Nothing,
}

/// Finds the window of an address.
#[inline(always)]
pub(super) fn window(address: u64) -> Window {
    match address >> 56 {
        0 => Window::Global,
        1 => Window::Shared(address & (SHARED - 1)),
        2 => Window::Local((address >> 32) as u32 & 0xff_ffff, address & u64::from(u32::MAX)),
        _ => Window::Nothing,
    }
}
