//! An emulated device's memory: one mapping, handed out in pieces.

use crate::HostError;
use crate::free_list::{FreeList, rounded};
use std::ptr::NonNull;
use std::sync::Mutex;

/// Bytes of a huge page.
const HUGE: usize = 2 << 20;
/// Freed pieces of at least this much go back to the operating system, and come again as zeroes.
const GIVE_BACK: usize = 1 << 20;

/// A mapping of zero pages that become memory as they are touched.
pub(crate) struct Arena {
    base: NonNull<u8>,
    len: usize,
    /// What `mmap` returned, and how much that is.
    mapping: (*mut libc::c_void, usize),
    free: Mutex<FreeList>,
}

// SAFETY: the mapping is plain memory; what is done with it is up to its users.
unsafe impl Send for Arena {}
// SAFETY: as above; the free list is behind a lock.
unsafe impl Sync for Arena {}

impl Arena {
    pub(crate) fn new(len: usize) -> Result<Arena, HostError> {
        let refused = |source| HostError::Map { bytes: len, source };
        let sizes =
            len.checked_next_multiple_of(HUGE).and_then(|len| Some((len, len.checked_add(HUGE)?)));
        let Some((len, mapped)) = sizes else {
            return Err(refused(std::io::ErrorKind::OutOfMemory.into()));
        };
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh anonymous mapping, wherever the kernel likes.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), mapped, prot, flags, -1, 0) };
        if at == libc::MAP_FAILED {
            return Err(refused(std::io::Error::last_os_error()));
        }
        let base = (at as usize).next_multiple_of(HUGE) as *mut libc::c_void;
        let base = NonNull::new(base.cast()).expect("a mapping is not at address 0");
        let free = Mutex::new(FreeList::new(base.as_ptr() as u64, len));
        Ok(Arena { base, len, mapping: (at, mapped), free })
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// A zeroed piece; `align` is a power of two. Empty pieces get an address too. What is aligned to
    /// huge pages is made of them: page frames profit, but a buffer of which each thread touches a
    /// little would be cleared whole.
    pub(crate) fn alloc(&self, bytes: usize, align: usize) -> Result<u64, HostError> {
        let mut free = self.free.lock().expect("no code panics under this lock");
        let taken = rounded(bytes).and_then(|size| Some((free.take(size, align)?, size)));
        let Some((addr, size)) = taken else {
            let free = free.free();
            return Err(HostError::OutOfDeviceMemory { wanted: bytes, free, total: self.len });
        };
        if align >= HUGE {
            // SAFETY: within the mapping. Only advice: a failure changes nothing.
            unsafe { libc::madvise(addr as *mut libc::c_void, size, libc::MADV_HUGEPAGE) };
        }
        Ok(addr)
    }

    /// Takes a piece back and makes it zero.
    pub(crate) fn free(&self, addr: u64, bytes: usize) {
        let size = rounded(bytes).expect("as many as were allocated");
        self.clear(addr as usize, size);
        self.free.lock().expect("no code panics under this lock").give_back(addr, size);
    }

    fn clear(&self, start: usize, size: usize) {
        let end = start + size;
        let (inner, inner_end) = (start.next_multiple_of(4096), end & !4095);
        if size >= GIVE_BACK {
            // SAFETY: whole pages within the piece, which nobody uses any more.
            let r = unsafe {
                libc::madvise(inner as *mut libc::c_void, inner_end - inner, libc::MADV_DONTNEED)
            };
            if r == 0 {
                // SAFETY: the piece's ends.
                unsafe {
                    std::ptr::write_bytes(start as *mut u8, 0, inner - start);
                    std::ptr::write_bytes(inner_end as *mut u8, 0, end - inner_end);
                }
                return;
            }
        }
        // SAFETY: the piece, which nobody uses any more.
        unsafe { std::ptr::write_bytes(start as *mut u8, 0, size) };
    }

    /// Copies from device memory.
    ///
    /// # Safety
    /// As [`Device::read`](crate::Device::read).
    pub(crate) unsafe fn read(&self, addr: u64, to: &mut [u8]) {
        assert!(self.contains(addr, to.len()), "not device memory");
        // SAFETY: within the arena; the caller vouches that no kernel writes it.
        unsafe { std::ptr::copy_nonoverlapping(addr as *const u8, to.as_mut_ptr(), to.len()) };
    }

    /// Copies to device memory.
    ///
    /// # Safety
    /// As [`Device::write`](crate::Device::write).
    pub(crate) unsafe fn write(&self, addr: u64, from: &[u8]) {
        assert!(self.contains(addr, from.len()), "not device memory");
        // SAFETY: within the arena; the caller vouches that no kernel uses it.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), addr as *mut u8, from.len()) };
    }

    /// Whether a range lies within the arena.
    pub(crate) fn contains(&self, addr: u64, len: usize) -> bool {
        let base = self.base.as_ptr() as u64;
        addr >= base
            && addr - base <= self.len as u64
            && len as u64 <= self.len as u64 - (addr - base)
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: our own mapping, whose last user is gone.
        unsafe { libc::munmap(self.mapping.0, self.mapping.1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_address_space_holds_is_refused() {
        let arena = Arena::new(1 << 20).unwrap();
        for wanted in [usize::MAX, usize::MAX - 255, 1 << 63] {
            for align in [1, 4096] {
                let outcome = arena.alloc(wanted, align);
                let Err(HostError::OutOfDeviceMemory { wanted: named, .. }) = outcome else {
                    panic!("{outcome:?}")
                };
                assert_eq!(named, wanted);
            }
        }
        for len in [usize::MAX, usize::MAX - 2 * HUGE + 1] {
            let outcome = Arena::new(len).map(drop);
            assert!(
                matches!(outcome, Err(HostError::Map { bytes, .. }) if bytes == len),
                "{outcome:?}"
            );
        }
    }

    #[test]
    fn pieces_do_not_overlap_are_zero_and_come_back() {
        let arena = Arena::new(4 << 20).unwrap();
        let mut held: Vec<(u64, usize)> = Vec::new();
        let mut seed = 7u64;
        for step in 0..5000 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let bytes = (seed >> 33) as usize % if step % 50 == 0 { 2 << 20 } else { 5000 };
            let align = 1 << ((seed >> 20) % 13);
            match arena.alloc(bytes, align) {
                Ok(addr) => {
                    assert_eq!(addr % align as u64, 0);
                    assert!(arena.contains(addr, bytes));
                    // SAFETY: just allocated.
                    let piece = unsafe { std::slice::from_raw_parts_mut(addr as *mut u8, bytes) };
                    assert!(piece.iter().all(|b| *b == 0), "step {step}");
                    piece.fill(0xff);
                    for (a, l) in &held {
                        assert!(addr + bytes as u64 <= *a || a + *l as u64 <= addr);
                    }
                    held.push((addr, bytes));
                }
                Err(HostError::OutOfDeviceMemory { .. }) => {}
                Err(e) => panic!("{e}"),
            }
            if held.len() > 40 {
                let (addr, bytes) = held.swap_remove(seed as usize % held.len());
                arena.free(addr, bytes);
            }
        }
        for (addr, bytes) in held {
            arena.free(addr, bytes);
        }
        let all = FreeList::new(arena.base().as_ptr() as u64, arena.len());
        assert_eq!(*arena.free.lock().unwrap(), all);
    }
}
