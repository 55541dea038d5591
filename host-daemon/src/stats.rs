//! What a client has been up to.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Numbers of operations, and 0 for what is none.
pub(crate) const OPS: usize = 17;
/// Numbers of operations on sockets, from `Listen` on.
pub(crate) const NET_OPS: usize = 14;

/// A client's counters since it was attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Requests taken, by the number of their operation (0: unknown operations).
    pub by_op: [u64; OPS],
    /// Bytes read into slots and device memory.
    pub bytes_read: u64,
    /// Bytes written to files.
    pub bytes_written: u64,
    /// Requests answered with `EINVAL`, `EFAULT`, `EROFS` and the like because they broke a rule.
    pub rejected: u64,
    /// Requests that could not even be answered.
    pub dropped: u64,
    /// Reads, writes and syncs that had to wait and went to the engine.
    pub deferred: u64,
    /// Polls that found something.
    pub batches: u64,
    /// Times that a worker went to sleep.
    pub parks: u64,
    /// Times that the device was woken.
    pub wakes: u64,
    /// Its sockets.
    pub net: NetStats,
}

/// What a client's sockets have been up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetStats {
    /// Requests taken, by the number of their operation less that of `Listen`.
    pub by_op: [u64; NET_OPS],
    /// Bytes that came from outside.
    pub received: u64,
    /// Bytes that went outside.
    pub sent: u64,
    /// Bytes that went from ring to ring.
    pub linked: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Events appended to queues.
    pub events: u64,
    /// Times that the device was woken.
    pub wakes: u64,
    /// Sockets in use now.
    pub sockets: usize,
}

impl NetStats {
    /// Requests of one kind.
    pub fn taken(&self, op: gpu_abi::Op) -> u64 {
        let number = (op as usize).checked_sub(gpu_abi::Op::Listen as usize);
        number.and_then(|number| self.by_op.get(number)).copied().unwrap_or(0)
    }
}

impl Stats {
    /// Requests of all kinds.
    pub fn requests(&self) -> u64 {
        self.by_op.iter().sum()
    }
}

/// One worker's counters, on cache lines of their own.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    pub(crate) by_op: [AtomicU64; OPS],
    pub(crate) bytes_read: AtomicU64,
    pub(crate) bytes_written: AtomicU64,
    pub(crate) rejected: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) deferred: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) parks: AtomicU64,
    pub(crate) wakes: AtomicU64,
}

/// Adds without a read-modify-write: for counters that one thread at a time writes.
#[inline]
pub(crate) fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(by), Relaxed);
}

/// Adds where several threads may.
pub(crate) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Relaxed);
}

impl Counters {
    pub(crate) fn add_to(&self, stats: &mut Stats) {
        for (sum, counter) in stats.by_op.iter_mut().zip(&self.by_op) {
            *sum += counter.load(Relaxed);
        }
        stats.bytes_read += self.bytes_read.load(Relaxed);
        stats.bytes_written += self.bytes_written.load(Relaxed);
        stats.rejected += self.rejected.load(Relaxed);
        stats.dropped += self.dropped.load(Relaxed);
        stats.deferred += self.deferred.load(Relaxed);
        stats.batches += self.batches.load(Relaxed);
        stats.parks += self.parks.load(Relaxed);
        stats.wakes += self.wakes.load(Relaxed);
    }
}
