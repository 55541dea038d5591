//! The C functions that compiled code may call; nobody else provides them on a GPU.
//!
//! Elsewhere the danger of writing them in Rust is that the compiler recognises their loops and
//! makes calls of themselves out of them. For this target it knows no library functions, and turns
//! its own copy operations into loops; `ptx-build check` fails if a function here calls itself all
//! the same.
//!
//! Each is one thread's work. What a group moves together goes through `crate::mem`.

use super::mem;

/// # Safety
/// C's contract: `src` readable and `dst` writable for `len` bytes, not overlapping.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(dst: *mut u8, src: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the caller's contract; the one thread is a group of one.
    unsafe { mem::copy(0, 1, dst, src, len) };
    dst
}

/// # Safety
/// C's contract: `src` readable and `dst` writable for `len` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(dst: *mut u8, src: *const u8, len: usize) -> *mut u8 {
    // Wraps to a large number when `dst` is below `src`: forwards, no byte is overwritten before it
    // has been read. The wide copy reads ahead of its writes, so that it needs them apart.
    let ahead = dst.addr().wrapping_sub(src.addr());
    if ahead >= len && ahead.wrapping_neg() >= len {
        // SAFETY: the two do not overlap.
        unsafe { mem::copy(0, 1, dst, src, len) };
    } else if ahead >= len {
        for i in 0..len {
            // SAFETY: `i` is below `len`.
            unsafe { dst.add(i).write(src.add(i).read()) };
        }
    } else {
        for i in (0..len).rev() {
            // SAFETY: `i` is below `len`.
            unsafe { dst.add(i).write(src.add(i).read()) };
        }
    }
    dst
}

/// # Safety
/// C's contract: `dst` writable for `len` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(dst: *mut u8, byte: i32, len: usize) -> *mut u8 {
    // SAFETY: the caller's contract. C converts the byte so.
    unsafe { mem::fill(0, 1, dst, byte as u8, len) };
    dst
}

/// # Safety
/// C's contract: both readable for `len` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    let mut i = 0;
    // Where both can be aligned, by words up to the first that differs.
    if (a.addr() ^ b.addr()).is_multiple_of(8) {
        let head = (a.addr().wrapping_neg() % 8).min(len);
        // SAFETY: every index is below `len`; `i` is where both are aligned to 8.
        unsafe {
            while i < head && a.add(i).read() == b.add(i).read() {
                i += 1;
            }
            if i == head {
                while i + 8 <= len && a.add(i).cast::<u64>().read() == b.add(i).cast::<u64>().read()
                {
                    i += 8;
                }
            }
        }
    }
    while i < len {
        // SAFETY: `i` is below `len`.
        let (x, y) = unsafe { (a.add(i).read(), b.add(i).read()) };
        if x != y {
            return i32::from(x) - i32::from(y);
        }
        i += 1;
    }
    0
}

/// # Safety
/// C's contract: both readable for `len` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    // SAFETY: the same contract.
    unsafe { memcmp(a, b, len) }
}
