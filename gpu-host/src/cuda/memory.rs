//! A session's device memory: taken from the driver in large pieces, handed out in small ones.
//!
//! The driver's own allocator waits for kernels when memory is freed, and a session's kernels may wait
//! for what its host program does next. So nothing goes back before the session ends.

use super::calls;
use super::driver::check;
use crate::HostError;
use crate::free_list::{FreeList, rounded};
use cudarc::driver::sys::CUresult;

/// The least that is taken from the driver.
const CHUNK: usize = 64 << 20;
/// Larger alignments than this are made by taking more.
const DRIVER_ALIGN: usize = 256;

struct Chunk {
    base: u64,
    len: usize,
    free: FreeList,
}

/// The memory. All of it is gone with its context.
pub(super) struct Memory {
    chunks: Vec<Chunk>,
    limit: usize,
}

impl Memory {
    /// At most `limit` bytes.
    pub(super) fn new(limit: usize) -> Memory {
        Memory { chunks: Vec::new(), limit }
    }

    /// A piece, not cleared; `align` is a power of two. The context is current.
    pub(super) fn alloc(&mut self, bytes: usize, align: usize) -> Result<u64, HostError> {
        let taken: usize = self.chunks.iter().map(|c| c.len).sum();
        let left = self.limit.saturating_sub(taken);
        let exhausted = |chunks: &[Chunk]| {
            let free = left + chunks.iter().map(|c| c.free.free()).sum::<usize>();
            HostError::OutOfDeviceMemory { wanted: bytes, free, total: self.limit }
        };
        let size = rounded(bytes).ok_or_else(|| exhausted(&self.chunks))?;
        if let Some(at) = self.chunks.iter_mut().find_map(|c| c.free.take(size, align)) {
            return Ok(at);
        }
        let need = size.checked_add(if align > DRIVER_ALIGN { align } else { 0 });
        let need = need.filter(|&need| need <= left).ok_or_else(|| exhausted(&self.chunks))?;
        // As much as may be, but not less than needed.
        let len = need.max(CHUNK.min(left));
        let mut base = 0;
        // SAFETY: the place for the result outlives the call.
        let result = unsafe { calls::cuMemAlloc_v2(&raw mut base, len) };
        if result == CUresult::CUDA_ERROR_OUT_OF_MEMORY {
            let (mut free, mut total) = (0, 0);
            // SAFETY: as above.
            check("ask for free memory", unsafe {
                calls::cuMemGetInfo_v2(&raw mut free, &raw mut total)
            })?;
            return Err(HostError::OutOfDeviceMemory { wanted: bytes, free, total });
        }
        check("allocate device memory", result)?;
        let mut free = FreeList::new(base, len);
        let at = free.take(size, align);
        self.chunks.push(Chunk { base, len, free });
        Ok(at.expect("the piece was taken large enough"))
    }

    /// Takes a piece back.
    pub(super) fn free(&mut self, addr: u64, bytes: usize) {
        let chunk =
            self.chunks.iter_mut().find(|c| (c.base..c.base + c.len as u64).contains(&addr));
        let chunk = chunk.expect("memory of this device");
        chunk.free.give_back(addr, rounded(bytes).expect("as many as were allocated"));
    }
}
