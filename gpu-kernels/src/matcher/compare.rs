//! Records compared with queries.

use gpu_rt::Wide;

use super::format::{STRIP, Strip};
use super::ranking::{Order, Rankings};

/// The squared distance of two strips.
#[inline(always)]
pub fn squared(a: &Strip, b: &Strip) -> u32 {
    let mut sum = 0;
    for i in 0..STRIP {
        // In 16 bits, so that a processor with vectors can multiply and add them in one.
        let d = i16::from(a.0[i]) - i16::from(b.0[i]);
        sum += (i32::from(d) * i32::from(d)) as u32;
    }
    sum
}

/// All queries, strip by strip: the first strip of each, then the second of each. So what is compared at
/// about the same time lies side by side.
#[derive(Clone, Copy)]
pub struct Queries<'a> {
    strips: &'a [Strip],
    count: usize,
}

impl<'a> Queries<'a> {
    /// `count` queries, at least one, in their strips.
    pub fn new(strips: &'a [Strip], count: usize) -> Self {
        Queries { strips, count }
    }

    /// The squared distance of a query and a record of as many strips, unless it is above `limit`:
    /// most pairs are far apart, which their first strips show.
    #[inline(always)]
    pub fn distance(&self, query: usize, record: &[Strip], limit: u32) -> Option<u32> {
        let mut sum = 0;
        let mut at = query;
        for strip in record {
            sum += squared(strip, &self.strips[at]);
            if sum > limit {
                return None;
            }
            at += self.count;
        }
        Some(sum)
    }
}

/// A thread's share of the pairs of some records and all queries.
pub(super) struct Compare<'a> {
    pub(super) queries: Queries<'a>,
    pub(super) rankings: Rankings<'a>,
    pub(super) order: Order,
    /// The greatest squared distance of a match.
    pub(super) limit: u32,
    /// The records, of `stride` strips each, of which the first `used` count.
    pub(super) records: &'a [Strip],
    pub(super) stride: usize,
    pub(super) used: usize,
    /// The number of the first record among those of all databases.
    pub(super) first: u32,
    /// This thread takes pair `rank` of each `threads`.
    pub(super) rank: usize,
    pub(super) threads: usize,
}

impl<'a> Compare<'a> {
    #[inline(always)]
    fn record(&self, record: usize) -> Option<&'a [Strip]> {
        self.records.get(record * self.stride..)?.get(..self.used)
    }

    #[inline(always)]
    fn pair(&self, record: &[Strip], number: u32, query: usize) {
        let ranking = self.rankings.of(query);
        let bar = ranking.bar();
        if self.order.key(0, number) >= bar {
            return;
        }
        let limit = match self.order {
            // A match as near as the bar's may still come before it.
            Order::Best => self.limit.min((bar >> 32) as u32),
            Order::First => self.limit,
        };
        if let Some(squared) = self.queries.distance(query, record, limit) {
            ranking.insert(self.order.key(squared, number));
        }
    }
}

impl Wide for Compare<'_> {
    type Output = ();

    /// Neighbouring threads have the same record and neighbouring queries, as long as there are so many.
    #[inline(always)]
    fn run(self) {
        let queries = self.queries.count;
        let (mut record, mut query) = (self.rank / queries, self.rank % queries);
        while let Some(strips) = self.record(record) {
            let number = self.first + record as u32;
            while query < queries {
                self.pair(strips, number, query);
                query += self.threads;
            }
            record += query / queries;
            query %= queries;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_end_where_they_are_too_great() {
        let strip = |value| Strip([value; STRIP]);
        let [dark, light] = [strip(0), strip(255)];
        assert_eq!(squared(&dark, &light), 255 * 255 * STRIP as u32);
        // Two queries of two strips.
        let strips = [strip(1), light, strip(3), light];
        let queries = Queries::new(&strips, 2);
        let all = STRIP as u32 * 10;
        for (limit, found) in [(all, Some(all)), (all - 1, None), (u32::MAX, Some(all)), (0, None)]
        {
            assert_eq!(queries.distance(0, &[dark, dark], limit), found);
        }
        assert_eq!(queries.distance(1, &[light, light], 0), Some(0));
    }
}
