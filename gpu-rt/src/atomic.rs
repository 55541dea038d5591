//! Atomics with their scope in their names.
//!
//! `Device*` words are touched by the threads of one device only, and have every operation.
//! `System*` words are shared with the host or with other devices, each written by one side, and
//! can only be loaded and stored: no read-modify-write ever crosses the bus.
//!
//! Zeroed memory is a valid initial state of each. Every operation is a point at which the
//! deterministic schedulers of the emulator may run another thread; in its fast mode that costs a
//! relaxed load of a flag.

use crate::arch;

pub use core::sync::atomic::Ordering;

/// A fence for the threads of this device.
#[inline]
#[track_caller]
pub fn fence_device(order: Ordering) {
    arch::point();
    arch::fence_device(order);
}

/// A fence for the threads of this device, the host and other devices.
#[inline]
#[track_caller]
pub fn fence_system(order: Ordering) {
    arch::point();
    arch::fence_system(order);
}

/// The operations that every word has.
macro_rules! word {
    ($(#[$doc:meta])* $name:ident, $raw:ident, $value:ty) => {
        $(#[$doc])*
        #[repr(transparent)]
        #[derive(Debug)]
        pub struct $name(pub(crate) arch::$raw);

        // SAFETY: a transparent wrapper of an integer, of which all zeroes is a value.
        #[cfg(not(loom))]
        unsafe impl bytemuck::Zeroable for $name {}

        impl Default for $name {
            fn default() -> Self {
                Self::new(0)
            }
        }

        impl $name {
            /// A word that holds `value`.
            #[cfg(not(loom))]
            #[inline]
            #[must_use]
            pub const fn new(value: $value) -> Self {
                Self(arch::$raw::new(value))
            }

            /// A word that holds `value`, under the model checker.
            #[cfg(loom)]
            #[must_use]
            pub fn new(value: $value) -> Self {
                Self(arch::$raw::new(value))
            }

            /// The value.
            #[inline(always)]
            #[track_caller]
            #[must_use]
            pub fn load(&self, order: Ordering) -> $value {
                arch::point();
                self.0.load(order)
            }

            /// Sets the value.
            #[inline(always)]
            #[track_caller]
            pub fn store(&self, value: $value, order: Ordering) {
                arch::point();
                self.0.store(value, order);
            }

            /// The address of the word.
            #[cfg(not(loom))]
            #[inline]
            #[must_use]
            pub const fn as_ptr(&self) -> *mut $value {
                core::ptr::from_ref(self).cast::<$value>().cast_mut()
            }

            /// The word at `ptr`.
            ///
            /// # Safety
            /// `ptr` must be aligned, valid for `'a`, and accessed only atomically during it.
            #[cfg(not(loom))]
            #[inline]
            #[must_use]
            pub const unsafe fn from_ptr<'a>(ptr: *mut $value) -> &'a Self {
                // SAFETY: the type is a transparent wrapper of an atomic integer with the size and
                // alignment of the plain one; the rest is the caller's contract.
                unsafe { &*ptr.cast::<Self>() }
            }
        }
    };
}

/// The operations that only words of device scope have.
macro_rules! device_word {
    ($name:ident, $value:ty) => {
        impl $name {
            /// Sets the value; the previous one.
            #[inline(always)]
            #[track_caller]
            pub fn swap(&self, value: $value, order: Ordering) -> $value {
                arch::point();
                self.0.swap(value, order)
            }

            /// Sets the value to `new` if it is `current`; the previous value, as `Err` if it was
            /// another.
            #[inline(always)]
            #[track_caller]
            pub fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                arch::point();
                self.0.compare_exchange(current, new, success, failure)
            }

            /// Adds, wrapping around; the previous value.
            #[inline(always)]
            #[track_caller]
            pub fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                arch::point();
                self.0.fetch_add(value, order)
            }

            /// Subtracts, wrapping around; the previous value.
            #[inline(always)]
            #[track_caller]
            pub fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                arch::point();
                self.0.fetch_sub(value, order)
            }

            /// Sets the bits of `value`; the previous value.
            #[inline(always)]
            #[track_caller]
            pub fn fetch_or(&self, value: $value, order: Ordering) -> $value {
                arch::point();
                self.0.fetch_or(value, order)
            }

            /// Keeps only the bits of `value`; the previous value.
            #[inline(always)]
            #[track_caller]
            pub fn fetch_and(&self, value: $value, order: Ordering) -> $value {
                arch::point();
                self.0.fetch_and(value, order)
            }

            /// Raises the value to `value` if it is lower; the previous value.
            #[inline(always)]
            #[track_caller]
            pub fn fetch_max(&self, value: $value, order: Ordering) -> $value {
                arch::point();
                self.0.fetch_max(value, order)
            }
        }
    };
}

word!(
    /// A 32-bit word of device scope.
    DeviceAtomicU32,
    DeviceRaw32,
    u32
);
word!(
    /// A 64-bit word of device scope.
    DeviceAtomicU64,
    DeviceRaw64,
    u64
);
word!(
    /// A 32-bit word of system scope.
    SystemAtomicU32,
    SystemRaw32,
    u32
);
word!(
    /// A 64-bit word of system scope.
    SystemAtomicU64,
    SystemRaw64,
    u64
);
/// The family of words with which a device speaks the protocol of `gpu-abi`.
#[derive(Clone, Copy, Debug)]
pub struct SystemAtomics;

impl gpu_abi::words::Atomics for SystemAtomics {
    type U32 = SystemAtomicU32;
    type U64 = SystemAtomicU64;
}

impl gpu_abi::words::Word32 for SystemAtomicU32 {
    #[inline(always)]
    fn load_relaxed(&self) -> u32 {
        self.load(Ordering::Relaxed)
    }
    #[inline(always)]
    fn load_acquire(&self) -> u32 {
        // Acquire: pairs with the host's `store_release`; each caller names which.
        self.load(Ordering::Acquire)
    }
    #[inline(always)]
    fn store_relaxed(&self, value: u32) {
        self.store(value, Ordering::Relaxed);
    }
    #[inline(always)]
    fn store_release(&self, value: u32) {
        // Release: pairs with the host's `load_acquire`; each caller names which.
        self.store(value, Ordering::Release);
    }
}

impl gpu_abi::words::Word64 for SystemAtomicU64 {
    #[inline(always)]
    fn load_relaxed(&self) -> u64 {
        self.load(Ordering::Relaxed)
    }
    #[inline(always)]
    fn store_relaxed(&self, value: u64) {
        self.store(value, Ordering::Relaxed);
    }
}

device_word!(DeviceAtomicU32, u32);
device_word!(DeviceAtomicU64, u64);
