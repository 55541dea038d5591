//! One literal.

use gpu_rt::VECTORS;
use memchr::arch::all::{packedpair::Pair, twoway};
use memchr::memchr;
use memchr::memmem::Finder;

/// The literal that a program looks for.
pub(super) struct Needle<'p> {
    bytes: &'p [u8],
    /// Where in it the bytes stand that are the rarest in most texts.
    rare: [usize; 2],
    /// Where there are vector instructions. It calls its methods through pointers, for which a GPU's thread would
    /// have to save half of its registers.
    finder: Option<Finder<'p>>,
}

/// Bytes of comparisons that may come to nothing, beside as many as there are bytes of text.
const VAIN: usize = 1024;

impl<'p> Needle<'p> {
    pub(super) fn new(bytes: &'p [u8]) -> Self {
        Needle { bytes, rare: rarest(bytes), finder: VECTORS.then(|| Finder::new(bytes)) }
    }

    /// Bytes of the literal.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Where it first stands in `hay`.
    #[inline]
    pub(super) fn find(&self, hay: &[u8]) -> Option<usize> {
        match &self.finder {
            Some(finder) if VECTORS => finder.find(hay),
            _ => self.find_by_rare_bytes(hay),
        }
    }

    /// By its rarest bytes; by the two-way algorithm, which takes linear time, once too many of these were elsewhere.
    #[inline(never)]
    fn find_by_rare_bytes(&self, hay: &[u8]) -> Option<usize> {
        let needle = self.bytes;
        let [first, second] = self.rare;
        let (Some(&rare), Some(&other)) = (needle.get(first), needle.get(second)) else {
            return Some(0);
        };
        // Where it may stand.
        let places = (hay.len() + 1).checked_sub(needle.len())?;
        let (mut at, mut spent) = (0, 0);
        while at < places {
            at += memchr(rare, &hay[at + first..places + first])?;
            if hay[at + second] == other {
                if &hay[at..at + needle.len()] == needle {
                    return Some(at);
                }
                spent += needle.len();
            }
            at += 1;
            if spent > at + VAIN {
                return find_by_two_way(needle, &hay[at..]).map(|i| at + i);
            }
        }
        None
    }
}

#[inline(never)]
fn find_by_two_way(needle: &[u8], hay: &[u8]) -> Option<usize> {
    twoway::Finder::new(needle).find(hay, needle)
}

/// Where in `bytes` the ones stand that are the rarest in most texts; of fewer than two, the first.
fn rarest(bytes: &[u8]) -> [usize; 2] {
    Pair::new(bytes).map_or([0; 2], |pair| [pair.index1().into(), pair.index2().into()])
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::vec;
    use std::vec::Vec;

    /// What one letter of a text is, by a number that looks random.
    fn text(seed: u64, len: usize, letters: u64) -> Vec<u8> {
        let mut x = seed | 1;
        let mut letter = || {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            b'a' + ((x >> 33) % letters) as u8
        };
        (0..len).map(|_| letter()).collect()
    }

    #[test]
    fn both_ways_find_the_same() {
        for seed in 0..400 {
            let hay = text(seed, seed as usize * 17 % 3000, 1 + seed % 3);
            for len in [0, 1, 2, 3, 7, 30, 200] {
                let from = hay.len() / 2;
                let own = hay.get(from..from + len).unwrap_or(b"b").to_vec();
                for needle in [own, text(seed + 7, len, 2), [vec![b'a'; len], vec![b'b']].concat()]
                {
                    let by_rare = Needle::new(&needle).find_by_rare_bytes(&hay);
                    assert_eq!(by_rare, Finder::new(&needle).find(&hay), "{needle:?} in {hay:?}");
                }
            }
        }
    }
}
