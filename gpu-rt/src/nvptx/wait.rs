//! Waiting: polls with naps between them. Nobody wakes a thread of a GPU.

use core::arch::asm;

use super::{DeviceRaw32, SystemRaw32, clock};
use crate::atomic::Ordering;

/// Nanoseconds between two polls, at first and at most: an answer over the bus takes one or two
/// microseconds, and a poll of the host's memory takes about as long as the longest nap.
const FIRST_NAP: u32 = 32;
const LONGEST_NAP: u32 = 1024;

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
    while word.poll(Ordering::Relaxed) == value && clock().wrapping_sub(start) < timeout_ns {
        nanosleep(nap);
        nap = (nap * 2).min(LONGEST_NAP);
    }
    word.poll(Ordering::Acquire)
}

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
