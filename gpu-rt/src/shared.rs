//! Memory shared by the threads of a block.

use crate::arch;

/// The block's dynamic shared memory, aligned to 16 bytes; [`dynamic_len`] bytes, contents
/// undefined at the start of a block (the emulator hands it out zeroed). Dangling when the length
/// is zero.
#[inline]
#[must_use]
pub fn dynamic() -> *mut u8 {
    arch::shared_dynamic()
}

/// The size of the block's dynamic shared memory in bytes, as given at the launch.
#[inline]
#[must_use]
pub fn dynamic_len() -> usize {
    arch::shared_dynamic_len()
}
