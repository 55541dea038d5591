//! The words of shared memory, whoever looks at them.
//!
//! A GPU reads and writes the region with system-scoped instructions, the host with its ordinary
//! atomics, a model checker with its own. [`Atomics`] names one such family, and the protocol steps
//! in [`crate::ring`] are written once over it. No read-modify-write is part of it: none may cross
//! the bus.

/// A 32-bit word that the other side may read or write at any time.
pub trait Word32 {
    /// A load that orders nothing.
    fn load_relaxed(&self) -> u32;
    /// A load after which everything is seen that was written before the release it read from.
    fn load_acquire(&self) -> u32;
    /// A store that orders nothing.
    fn store_relaxed(&self, value: u32);
    /// A store that publishes everything written before it.
    fn store_release(&self, value: u32);
}

/// A 64-bit word that the other side may read or write at any time.
pub trait Word64 {
    /// A load that orders nothing.
    fn load_relaxed(&self) -> u64;
    /// A store that orders nothing.
    fn store_relaxed(&self, value: u64);
}

/// A family of atomic words with the layout of `u32` and `u64` (except under a model checker).
pub trait Atomics {
    /// Its 32-bit word.
    type U32: Word32;
    /// Its 64-bit word.
    type U64: Word64;
}

/// The host's family: `core::sync::atomic`, or loom's stand-ins under `cfg(loom)`.
#[derive(Clone, Copy, Debug)]
pub struct HostAtomics;

#[cfg(not(loom))]
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};

impl Atomics for HostAtomics {
    type U32 = AtomicU32;
    type U64 = AtomicU64;
}

impl Word32 for AtomicU32 {
    fn load_relaxed(&self) -> u32 {
        self.load(Ordering::Relaxed)
    }
    fn load_acquire(&self) -> u32 {
        // Pairs with the other side's `store_release`; each caller names which.
        self.load(Ordering::Acquire)
    }
    fn store_relaxed(&self, value: u32) {
        self.store(value, Ordering::Relaxed)
    }
    fn store_release(&self, value: u32) {
        // Pairs with the other side's `load_acquire`; each caller names which.
        self.store(value, Ordering::Release)
    }
}

impl Word64 for AtomicU64 {
    fn load_relaxed(&self) -> u64 {
        self.load(Ordering::Relaxed)
    }
    fn store_relaxed(&self, value: u64) {
        self.store(value, Ordering::Relaxed)
    }
}
