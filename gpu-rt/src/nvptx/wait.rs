//! Waiting: polls with naps between them. Nobody wakes a thread of a GPU.

use core::arch::asm;

use super::{DeviceRaw32, SystemRaw32, clock};
use crate::atomic::Ordering;

/// Nanoseconds between two polls at first.
const FIRST_NAP: u32 = 32;
/// And where an answer takes no longer than it has to: over the bus one or two microseconds, as does a poll of the host's
/// memory.
const SHORT_NAP: u64 = 1024;
/// Who has waited for long naps for an eighth of that, but no longer than so: thousands may wait, and their polls keep
/// the bus from what they wait for.
const LONGEST_NAP: u64 = 16 << 10;

/// A word that can be polled.
pub(crate) trait Poll {
    fn poll(&self, order: Ordering) -> u32;
}

impl Poll for DeviceRaw32 {
    #[inline(always)]
    fn poll(&self, order: Ordering) -> u32 {
        self.load(order)
    }
}

impl Poll for SystemRaw32 {
    #[inline(always)]
    fn poll(&self, order: Ordering) -> u32 {
        self.load(order)
    }
}

#[inline]
pub(crate) fn wait_while_eq(word: &impl Poll, value: u32, timeout_ns: u64) -> u32 {
    // Acquire, here and below: pairs with the Release store of whoever changes the word.
    let seen = word.poll(Ordering::Acquire);
    if seen != value || timeout_ns == 0 {
        return seen;
    }
    let start = clock();
    let mut nap = FIRST_NAP;
    // Relaxed: the load after the loop is the one that counts.
    while word.poll(Ordering::Relaxed) == value {
        let waited = clock().wrapping_sub(start);
        if waited >= timeout_ns {
            break;
        }
        nanosleep(nap);
        nap = (nap * 2).min((waited / 8).clamp(SHORT_NAP, LONGEST_NAP) as u32);
    }
    word.poll(Ordering::Acquire)
}

pub(crate) const WAKES: bool = false;

/// The host polls.
#[inline(always)]
pub(crate) fn wake(_word: &SystemRaw32) {}

/// Lets the scheduler run other warps, and other lanes of this one, before the next look.
#[inline(always)]
pub(crate) fn relax() {
    nanosleep(FIRST_NAP);
}

/// At most a millisecond: longer naps are cut short, as the contract allows.
#[inline(always)]
pub(crate) fn nanosleep(ns: u32) {
    // SAFETY: suspends the thread and accesses nothing. It involves no other lane, so that `asm!`
    // may say it.
    unsafe { asm!("nanosleep.u32 {};", in(reg32) ns, options(nostack, nomem)) };
}
