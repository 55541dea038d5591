//! Loads, stores, read-modify-writes and fences with scope and order in the instruction.
//!
//! `core::sync::atomic` is not used: of its operations the compiler drops the order of some
//! (`fetch_add` becomes `atom.add` with neither order nor scope) and widens the scope of others to
//! the system. Here each operation is one instruction whose text says both: `.gpu` for words of
//! device scope, `.sys` for words that the host or other devices see.
//!
//! | order | load | store | read-modify-write |
//! |---|---|---|---|
//! | Relaxed | `ld.relaxed` | `st.relaxed` | `atom.relaxed` |
//! | Acquire | `ld.acquire` | – | `atom.acquire` |
//! | Release | – | `st.release` | `atom.release` |
//! | AcqRel | – | – | `atom.acq_rel` |
//! | SeqCst | `fence.sc`, `ld.acquire` | `fence.sc`, `st.release` | `fence.sc`, `atom.acq_rel` |
//!
//! (The mapping of C++ in "A Formal Analysis of the NVIDIA PTX Memory Consistency Model", ASPLOS
//! 2019.) Addresses are generic: global memory, the host's pinned memory, and shared memory. A word
//! must not lie in a thread's local memory, where PTX leaves read-modify-writes undefined.
//!
//! Every block but that of a relaxed load clobbers memory for the compiler, which therefore moves
//! no access across it; a relaxed load is only marked as reading, since it orders nothing.

use core::arch::asm;
use core::cell::UnsafeCell;

use crate::atomic::Ordering;

macro_rules! fence {
    ($name:ident, $scope:literal) => {
        #[inline(always)]
        #[track_caller]
        pub(crate) fn $name(order: Ordering) {
            match order {
                // SAFETY: a fence accesses nothing.
                Ordering::Acquire | Ordering::Release | Ordering::AcqRel => unsafe {
                    asm!(concat!("fence.acq_rel.", $scope, ";"), options(nostack));
                },
                // SAFETY: the same.
                Ordering::SeqCst => unsafe {
                    asm!(concat!("fence.sc.", $scope, ";"), options(nostack));
                },
                _ => panic!("there is no such thing as a relaxed fence"),
            }
        }
    };
}

fence!(fence_device, "gpu");
fence!(fence_system, "sys");

/// A word with loads and stores.
macro_rules! word {
    ($name:ident, $value:ty, $reg:ident, $bits:literal, $scope:literal, $fence:ident) => {
        #[repr(transparent)]
        #[derive(Debug)]
        pub(crate) struct $name(UnsafeCell<$value>);

        // SAFETY: every access is one atomic instruction.
        unsafe impl Sync for $name {}

        impl $name {
            pub(crate) const fn new(value: $value) -> Self {
                Self(UnsafeCell::new(value))
            }

            #[inline(always)]
            #[track_caller]
            pub(crate) fn load(&self, order: Ordering) -> $value {
                let value;
                match order {
                    // SAFETY: an atomic load of a live, aligned word.
                    Ordering::Relaxed => unsafe {
                        asm!(
                            concat!("ld.relaxed.", $scope, ".b", $bits, " {}, [{}];"),
                            out($reg) value, in(reg64) self.0.get(),
                            options(nostack, readonly)
                        );
                    },
                    Ordering::Acquire | Ordering::SeqCst => {
                        if matches!(order, Ordering::SeqCst) {
                            $fence(order);
                        }
                        // SAFETY: an atomic load of a live, aligned word.
                        unsafe {
                            asm!(
                                concat!("ld.acquire.", $scope, ".b", $bits, " {}, [{}];"),
                                out($reg) value, in(reg64) self.0.get(),
                                options(nostack)
                            );
                        }
                    }
                    _ => panic!("a load cannot release"),
                }
                value
            }

            #[inline(always)]
            #[track_caller]
            pub(crate) fn store(&self, value: $value, order: Ordering) {
                match order {
                    // SAFETY: an atomic store to a live, aligned word.
                    Ordering::Relaxed => unsafe {
                        asm!(
                            concat!("st.relaxed.", $scope, ".b", $bits, " [{}], {};"),
                            in(reg64) self.0.get(), in($reg) value,
                            options(nostack)
                        );
                    },
                    Ordering::Release | Ordering::SeqCst => {
                        if matches!(order, Ordering::SeqCst) {
                            $fence(order);
                        }
                        // SAFETY: an atomic store to a live, aligned word.
                        unsafe {
                            asm!(
                                concat!("st.release.", $scope, ".b", $bits, " [{}], {};"),
                                in(reg64) self.0.get(), in($reg) value,
                                options(nostack)
                            );
                        }
                    }
                    _ => panic!("a store cannot acquire"),
                }
            }
        }
    };
}

/// One read-modify-write in one order. `$op` is all that follows the scope.
macro_rules! atom {
    ($order:literal, $scope:literal, $op:literal, $reg:ident, $at:expr, $($value:expr),+) => {{
        let old;
        // SAFETY: an atomic operation on a live, aligned word.
        unsafe {
            asm!(
                concat!("atom.", $order, ".", $scope, ".", $op, " {}, [{}]",
                    $(atom!(@hole $value)),+, ";"),
                out($reg) old, in(reg64) $at, $(in($reg) $value),+,
                options(nostack)
            );
        }
        old
    }};
    (@hole $value:expr) => { ", {}" };
}

/// A read-modify-write in any order.
macro_rules! ordered {
    ($order:expr, $scope:literal, $op:literal, $reg:ident, $fence:ident, $at:expr, $($value:expr),+) => {
        match $order {
            Ordering::Relaxed => atom!("relaxed", $scope, $op, $reg, $at, $($value),+),
            Ordering::Acquire => atom!("acquire", $scope, $op, $reg, $at, $($value),+),
            Ordering::Release => atom!("release", $scope, $op, $reg, $at, $($value),+),
            Ordering::AcqRel => atom!("acq_rel", $scope, $op, $reg, $at, $($value),+),
            _ => {
                $fence(Ordering::SeqCst);
                atom!("acq_rel", $scope, $op, $reg, $at, $($value),+)
            }
        }
    };
}

/// The read-modify-writes of a word of device scope.
macro_rules! device_word {
    ($name:ident, $value:ty, $reg:ident, $exch:literal, $cas:literal, $add:literal, $or:literal,
     $and:literal, $max:literal) => {
        impl $name {
            #[inline(always)]
            pub(crate) fn swap(&self, value: $value, order: Ordering) -> $value {
                ordered!(order, "gpu", $exch, $reg, fence_device, self.0.get(), value)
            }

            #[inline(always)]
            #[track_caller]
            pub(crate) fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                // One instruction has one order: the weakest that is both.
                let order = match (success, failure) {
                    (_, Ordering::Release | Ordering::AcqRel) => {
                        panic!("a failed exchange stores nothing and cannot release")
                    }
                    (_, Ordering::SeqCst) => Ordering::SeqCst,
                    (Ordering::Relaxed, Ordering::Acquire) => Ordering::Acquire,
                    (Ordering::Release, Ordering::Acquire) => Ordering::AcqRel,
                    (order, _) => order,
                };
                let old: $value =
                    ordered!(order, "gpu", $cas, $reg, fence_device, self.0.get(), current, new);
                if old == current { Ok(old) } else { Err(old) }
            }

            #[inline(always)]
            pub(crate) fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                ordered!(order, "gpu", $add, $reg, fence_device, self.0.get(), value)
            }

            #[inline(always)]
            pub(crate) fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                self.fetch_add(value.wrapping_neg(), order)
            }

            #[inline(always)]
            pub(crate) fn fetch_or(&self, value: $value, order: Ordering) -> $value {
                ordered!(order, "gpu", $or, $reg, fence_device, self.0.get(), value)
            }

            #[inline(always)]
            pub(crate) fn fetch_and(&self, value: $value, order: Ordering) -> $value {
                ordered!(order, "gpu", $and, $reg, fence_device, self.0.get(), value)
            }

            #[inline(always)]
            pub(crate) fn fetch_max(&self, value: $value, order: Ordering) -> $value {
                ordered!(order, "gpu", $max, $reg, fence_device, self.0.get(), value)
            }
        }
    };
}

word!(DeviceRaw32, u32, reg32, "32", "gpu", fence_device);
word!(DeviceRaw64, u64, reg64, "64", "gpu", fence_device);
word!(SystemRaw32, u32, reg32, "32", "sys", fence_system);
word!(SystemRaw64, u64, reg64, "64", "sys", fence_system);
device_word!(
    DeviceRaw32,
    u32,
    reg32,
    "exch.b32",
    "cas.b32",
    "add.u32",
    "or.b32",
    "and.b32",
    "max.u32"
);
device_word!(
    DeviceRaw64,
    u64,
    reg64,
    "exch.b64",
    "cas.b64",
    "add.u64",
    "or.b64",
    "and.b64",
    "max.u64"
);
