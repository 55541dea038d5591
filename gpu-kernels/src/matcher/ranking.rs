//! The matches that a query keeps: a few words of device memory that many threads improve.
//!
//! A match is a *key*: what is smaller is better. Words hold its complement, so that zeroed memory is a
//! ranking without any match, and `fetch_max` keeps the better of two. A match goes in at the first
//! place; whichever is worse there, it or what it found, goes on to the next. Each place sees a sequence
//! of such exchanges in some order, and ends with the best that ever came to it, whatever the order: so
//! the outcome does not depend on who was faster.

use gpu_rt::atomic::{DeviceAtomicU64, Ordering};

/// Which of two matches is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The nearer; of equals, the one that comes first.
    Best,
    /// The one that comes first, in the order of databases and of their records.
    First,
}

impl Order {
    /// From a kernel's arguments.
    pub fn from_raw(raw: u32) -> Order {
        if raw == Order::First as u32 { Order::First } else { Order::Best }
    }

    /// The key of a match.
    pub fn key(self, squared: u32, number: u32) -> u64 {
        let (high, low) = match self {
            Order::Best => (squared, number),
            Order::First => (number, squared),
        };
        u64::from(high) << 32 | u64::from(low)
    }

    /// Squared distance and number of the match with this key.
    pub fn parts(self, key: u64) -> (u32, u32) {
        let (high, low) = ((key >> 32) as u32, key as u32);
        match self {
            Order::Best => (high, low),
            Order::First => (low, high),
        }
    }
}

/// A query's matches.
pub struct Ranking<'a>(pub &'a [DeviceAtomicU64]);

impl Ranking<'_> {
    /// The key that a match must be below to be kept.
    #[inline(always)]
    pub fn bar(&self) -> u64 {
        // Relaxed, as all here: a bar that is too high costs time only, and the host looks after the
        // launch, which orders everything.
        self.0.last().map_or(0, |word| !word.load(Ordering::Relaxed))
    }

    /// Takes a match in.
    pub fn insert(&self, key: u64) {
        let mut moving = !key;
        for word in self.0 {
            let found = word.fetch_max(moving, Ordering::Relaxed);
            moving = moving.min(found);
            if moving == 0 {
                return;
            }
        }
    }

    /// The keys in words that the host has copied, best first.
    pub fn keys(words: &[u64]) -> impl Iterator<Item = u64> {
        words.iter().filter(|word| **word != 0).map(|word| !word)
    }
}

/// Those of all queries, of `keep` words each.
#[derive(Clone, Copy)]
pub(super) struct Rankings<'a> {
    pub(super) words: &'a [DeviceAtomicU64],
    pub(super) keep: usize,
}

impl<'a> Rankings<'a> {
    #[inline(always)]
    pub(super) fn of(&self, query: usize) -> Ranking<'a> {
        Ranking(&self.words[query * self.keep..(query + 1) * self.keep])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;
    extern crate std;

    #[test]
    fn the_best_stay_in_order() {
        let words: [DeviceAtomicU64; 3] = Default::default();
        let ranking = Ranking(&words);
        assert_eq!(ranking.bar(), u64::MAX);
        for (key, bar) in [(5, u64::MAX), (9, u64::MAX), (7, 9), (8, 8), (2, 7), (7, 7)] {
            ranking.insert(key);
            assert_eq!(ranking.bar(), bar, "after {key}");
        }
        let words: Vec<u64> = words.iter().map(|word| word.load(Ordering::Relaxed)).collect();
        assert!(Ranking::keys(&words).eq([2, 5, 7]));
    }

    #[test]
    fn threads_do_not_lose_a_match() {
        let words: [DeviceAtomicU64; 8] = Default::default();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let words = &words;
                scope.spawn(move || (0..1000).for_each(|i| Ranking(words).insert(i * 4 + thread)));
            }
        });
        let words: Vec<u64> = words.iter().map(|word| word.load(Ordering::Relaxed)).collect();
        assert!(Ranking::keys(&words).eq(0..8));
    }

    #[test]
    fn keys_order_as_they_say() {
        for (order, better, worse) in [
            (Order::Best, (3, 9), (4, 1)),
            (Order::Best, (3, 1), (3, 9)),
            (Order::First, (4, 1), (3, 9)),
        ] {
            let [a, b] = [better, worse].map(|(squared, number)| order.key(squared, number));
            assert!(a < b);
            assert_eq!((order.parts(a), order.parts(b)), (better, worse));
            assert_eq!(Order::from_raw(order as u32), order);
        }
    }
}
