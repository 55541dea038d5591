//! Doorbells: how either side sleeps and is woken (clauses D1 to D4).
//!
//! ```text
//!   host worker                            device
//!   -----------                            ------
//!   d = doorbell                           publish the entry
//!   parked += 1                            fence (SeqCst)
//!   fence (SeqCst)                         if parked != 0:
//!   any entry published? -> don't sleep        doorbell = another value; futex wake 1
//!   futex wait while doorbell == d
//!   parked -= 1
//! ```
//!
//! One of the two fences comes first. If the host's does, the device sees `parked` and rings; if
//! the device's does, the host sees the entry. `d` is read before `parked` is raised, so a ring
//! after that changes the word and the wait ends at once. The other direction is the mirror image,
//! with `bell` and the device's `parked`.
//!
//! The futexes are shared ones: the other side may be another process.

use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::time::Duration;

/// Sleeps while `word` is `expected`, for `timeout` at most. May return early.
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, timeout: Duration) {
    let timeout = timespec(timeout);
    // SAFETY: the word and the time outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            expected,
            &raw const timeout,
        )
    };
}

/// Sleeps while all words (one or two) are as expected, for `timeout` at most. May return early.
pub(crate) fn futex_wait_any(words: &[(&AtomicU32, u32)], timeout: Duration) {
    #[repr(C)]
    struct Waiter {
        value: u64,
        address: u64,
        flags: u32,
        reserved: u32,
    }
    let [first, second] = *words else {
        if let [(word, expected)] = *words {
            futex_wait(word, expected, timeout);
        }
        return;
    };
    let waiters = [first, second].map(|(word, value)| Waiter {
        value: value.into(),
        address: word.as_ptr() as u64,
        flags: FUTEX2_SIZE_U32,
        reserved: 0,
    });
    // This call takes a point in time.
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let until = timespec(Duration::new(now.tv_sec as u64, now.tv_nsec as u32) + timeout);
    // SAFETY: the waiters, their words and the time outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_futex_waitv,
            waiters.as_ptr(),
            waiters.len(),
            0,
            &raw const until,
            libc::CLOCK_MONOTONIC,
        )
    };
    if result < 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS) {
        // Linux before 5.16: the second word is looked at every millisecond.
        futex_wait(first.0, first.1, timeout.min(Duration::from_millis(1)));
    }
}

/// `FUTEX2_SIZE_U32`, shared between processes.
pub(crate) const FUTEX2_SIZE_U32: u32 = 2;

/// Wakes up to `count` sleepers on `word`.
pub(crate) fn futex_wake(word: &AtomicU32, count: i32) {
    // SAFETY: the word outlives the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) };
}

fn timespec(d: Duration) -> libc::timespec {
    libc::timespec { tv_sec: d.as_secs() as libc::time_t, tv_nsec: d.subsec_nanos().into() }
}

/// D4: rings the device if it sleeps. Call once after a batch of completions; whether it rang.
#[inline]
pub(crate) fn ring_device(device_parked: &AtomicU32, bell: &AtomicU32) -> bool {
    // Pairs with the device's fence between raising its `parked` and its last look at the cells:
    // either it sees the completions, or we see that it sleeps.
    fence(Ordering::SeqCst);
    if device_parked.load(Ordering::Relaxed) == 0 {
        return false;
    }
    // A read-modify-write, since several workers may ring. The word lies in host memory and only
    // the host writes it.
    bell.fetch_add(1, Ordering::Relaxed);
    futex_wake(bell, i32::MAX);
    true
}
