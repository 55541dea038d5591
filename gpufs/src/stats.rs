//! What a mount counted, in device memory, spread over lines so that SMs do not share one.

use gpu_rt::atomic::{DeviceAtomicU64, Ordering};

/// Lines of counters in a mount; an SM uses the one of its number modulo this.
pub const STATS_LINES: usize = 16;

/// Counters in a line.
pub const STATS_WORDS: usize = 16;

/// One line of counters.
#[repr(C, align(64))]
pub struct StatsLine {
    words: [DeviceAtomicU64; STATS_WORDS],
}

/// What is counted: the word's place in its line.
#[derive(Clone, Copy)]
pub(crate) enum Count {
    Hits = 0,
    Misses = 1,
    Evictions = 2,
    Requests = 3,
    BytesFetched = 4,
    Prefetches = 5,
    Waits = 6,
    Opens = 7,
    Writebacks = 8,
    BytesWritten = 9,
    Runs = 10,
}

impl StatsLine {
    #[inline]
    pub(crate) fn add(&self, what: Count, n: u64) {
        self.words[what as usize].fetch_add(n, Ordering::Relaxed);
    }
}

/// The sums over all lines at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Page look-ups answered from the cache.
    pub hits: u64,
    /// Page look-ups that posted a read.
    pub misses: u64,
    /// Pages that made room for others.
    pub evictions: u64,
    /// Requests posted to the host, of every kind.
    pub requests: u64,
    /// Bytes that arrived from files.
    pub bytes_fetched: u64,
    /// Pages fetched ahead of use.
    pub prefetches: u64,
    /// Page look-ups that waited for a fetch begun by another thread.
    pub waits: u64,
    /// Calls of `open`, those answered without a request included.
    pub opens: u64,
    /// Requests that wrote dirty pages, or parts of them, to their files.
    pub writebacks: u64,
    /// Bytes that went to files.
    pub bytes_written: u64,
    /// Records ([`Run`](gpu_abi::request::Run)) of the tables that went with requests of several pieces.
    pub runs: u64,
}

impl Stats {
    /// The sums of the counters in `lines`.
    pub fn sum(lines: &[StatsLine]) -> Stats {
        let counts =
            |line: &StatsLine| core::array::from_fn(|i| line.words[i].load(Ordering::Relaxed));
        Stats::sum_counts(lines.iter().map(counts))
    }

    /// The sums over copies of lines' words, such as a host has of another device's memory.
    pub fn sum_counts(lines: impl Iterator<Item = [u64; STATS_WORDS]>) -> Stats {
        let mut sums = [0u64; STATS_WORDS];
        for line in lines {
            for (sum, count) in sums.iter_mut().zip(line) {
                *sum = sum.wrapping_add(count);
            }
        }
        let total = |what: Count| sums[what as usize];
        Stats {
            hits: total(Count::Hits),
            misses: total(Count::Misses),
            evictions: total(Count::Evictions),
            requests: total(Count::Requests),
            bytes_fetched: total(Count::BytesFetched),
            prefetches: total(Count::Prefetches),
            waits: total(Count::Waits),
            opens: total(Count::Opens),
            writebacks: total(Count::Writebacks),
            bytes_written: total(Count::BytesWritten),
            runs: total(Count::Runs),
        }
    }
}
