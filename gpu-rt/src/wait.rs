//! Waiting for a word to change.

use crate::arch;
use crate::atomic::{DeviceAtomicU32, SystemAtomicU32};

mod sealed {
    pub trait Sealed {
        #[track_caller]
        fn wait_while_eq(&self, value: u32, timeout_ns: u64) -> u32;
    }
}

/// A word that [`wait_while_eq`] can watch: [`DeviceAtomicU32`] or [`SystemAtomicU32`].
pub trait WaitWord: sealed::Sealed {}

impl WaitWord for DeviceAtomicU32 {}
impl WaitWord for SystemAtomicU32 {}

impl sealed::Sealed for DeviceAtomicU32 {
    #[inline]
    #[track_caller]
    fn wait_while_eq(&self, value: u32, timeout_ns: u64) -> u32 {
        arch::wait_while_eq(&self.0, value, timeout_ns)
    }
}

impl sealed::Sealed for SystemAtomicU32 {
    #[inline]
    #[track_caller]
    fn wait_while_eq(&self, value: u32, timeout_ns: u64) -> u32 {
        arch::wait_while_eq(&self.0, value, timeout_ns)
    }
}

/// To be called in the body of every spin loop: lets other threads run. On the emulator the fiber
/// yields.
#[inline]
#[track_caller]
pub fn relax() {
    arch::relax();
}

/// Waits until an `Acquire` load of `word` differs from `value`, or `timeout_ns` nanoseconds have
/// passed; the last value seen.
///
/// May return before either, so the caller decides by the answer and by [`clock`](crate::clock)
/// whether to wait on. The emulator does not run the waiting fiber at all: its scheduler looks at
/// the word.
#[inline]
#[track_caller]
pub fn wait_while_eq(word: &impl WaitWord, value: u32, timeout_ns: u64) -> u32 {
    word.wait_while_eq(value, timeout_ns)
}

/// Whether [`wake`] wakes anybody. From a GPU it does not: while kernels run there, the host sleeps for no longer than
/// it may leave a request.
pub const WAKES: bool = arch::WAKES;

/// Wakes the host threads that sleep on `word`, which the caller has just stored to.
///
/// On the host a futex wake, shared between processes; on a GPU nothing, as the host polls there.
#[inline]
pub fn wake(word: &SystemAtomicU32) {
    arch::wake(&word.0);
}
