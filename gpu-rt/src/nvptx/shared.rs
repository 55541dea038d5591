//! Shared memory: the launch's dynamic part, and a little of our own for broadcasts.

use core::arch::{asm, global_asm};

use super::{rank, sync_threads};
use crate::BROADCAST_MAX;

global_asm!(
    ".shared .align 16 .b8 gpu_rt_broadcast[{size}];",
    ".extern .shared .align 16 .b8 gpu_rt_dynamic[];",
    size = const BROADCAST_MAX,
);

macro_rules! generic_address {
    ($symbol:literal) => {{
        let at: *mut u8;
        // SAFETY: converts the address of a shared variable into a generic one; no access.
        unsafe {
            asm!(
                concat!("cvta.shared.u64 {}, ", $symbol, ";"),
                out(reg64) at,
                options(pure, nomem, nostack)
            );
        }
        at
    }};
}

#[inline(always)]
pub(crate) fn shared_dynamic() -> *mut u8 {
    generic_address!("gpu_rt_dynamic")
}

#[inline(always)]
pub(crate) fn shared_dynamic_len() -> usize {
    let len: u32;
    // SAFETY: reads a special register that does not change during a launch.
    unsafe {
        asm!("mov.u32 {}, %dynamic_smem_size;", out(reg32) len, options(pure, nomem, nostack))
    };
    len as usize
}

/// The leader leaves the bytes in the block's own area. The second barrier keeps the next broadcast
/// from overwriting them while somebody still reads.
#[inline(always)]
pub(crate) fn broadcast_block(bytes: &mut [u8]) {
    let area = generic_address!("gpu_rt_broadcast");
    if rank() == 0 {
        // SAFETY: `Group::broadcast` asserts that the value fits in the area, which only the
        // leader touches before the first barrier.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), area, bytes.len()) };
    }
    sync_threads();
    if rank() != 0 {
        // SAFETY: as above; between the barriers everybody only reads.
        unsafe { core::ptr::copy_nonoverlapping(area, bytes.as_mut_ptr(), bytes.len()) };
    }
    sync_threads();
}
