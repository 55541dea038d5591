//! gpu-rt's system-scoped words as the wire contract sees them.

use crate::atomic::{Ordering, SystemAtomicU32, SystemAtomicU64};
use gpu_abi::{Atomics, Word32, Word64};

/// The family of words that device code uses on the shared region.
#[derive(Clone, Copy, Debug)]
pub struct SystemWords;

impl Atomics for SystemWords {
    type U32 = SystemAtomicU32;
    type U64 = SystemAtomicU64;
}

impl Word32 for SystemAtomicU32 {
    #[inline]
    fn load_relaxed(&self) -> u32 {
        self.load(Ordering::Relaxed)
    }
    #[inline]
    fn load_acquire(&self) -> u32 {
        // Pairs with the host's `store_release`; each caller names which.
        self.load(Ordering::Acquire)
    }
    #[inline]
    fn store_relaxed(&self, value: u32) {
        self.store(value, Ordering::Relaxed);
    }
    #[inline]
    fn store_release(&self, value: u32) {
        // Pairs with the host's `load_acquire`; each caller names which.
        self.store(value, Ordering::Release);
    }
}

impl Word64 for SystemAtomicU64 {
    #[inline]
    fn load_relaxed(&self) -> u64 {
        self.load(Ordering::Relaxed)
    }
    #[inline]
    fn store_relaxed(&self, value: u64) {
        self.store(value, Ordering::Relaxed);
    }
}
