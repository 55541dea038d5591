//! Time.

use crate::arch;

/// Nanoseconds since some fixed moment; never decreases. Under a deterministic scheduler, virtual.
#[inline]
#[must_use]
pub fn clock() -> u64 {
    arch::clock()
}

/// Lets about `ns` nanoseconds pass, perhaps fewer; other threads run meanwhile.
#[inline]
#[track_caller]
pub fn nanosleep(ns: u32) {
    arch::nanosleep(ns);
}
