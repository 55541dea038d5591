//! Many places of a text at once: loops over arrays of this length become vector code. Not for threads of a GPU,
//! which are lanes themselves.

/// Places that are looked at together: a multiple of every vector's width.
pub(super) const LANES: usize = 64;

/// A byte for each of the places. Arrays are passed by value, so that they stay in registers.
#[derive(Clone, Copy)]
pub(super) struct Lanes([u8; LANES]);

impl Lanes {
    /// The same everywhere.
    #[inline(always)]
    pub(super) fn all(value: u8) -> Self {
        Lanes([value; LANES])
    }

    /// The bytes of `text` from `at` on, of which there are enough.
    #[inline(always)]
    pub(super) fn of(text: &[u8], at: usize) -> Self {
        let mut lanes = [0; LANES];
        lanes.copy_from_slice(&text[at..at + LANES]);
        Lanes(lanes)
    }

    /// Each byte as `f` has it.
    #[inline(always)]
    pub(super) fn map(self, f: impl Fn(u8) -> u8) -> Self {
        let mut lanes = self.0;
        lanes.iter_mut().for_each(|lane| *lane = f(*lane));
        Lanes(lanes)
    }

    /// Each byte and that of `other` as `f` has them.
    #[inline(always)]
    pub(super) fn with(self, other: Self, f: impl Fn(u8, u8) -> u8) -> Self {
        let mut lanes = self.0;
        lanes.iter_mut().zip(&other.0).for_each(|(lane, b)| *lane = f(*lane, *b));
        Lanes(lanes)
    }

    /// The places whose byte is not zero, in order.
    #[inline(always)]
    pub(super) fn marked(self) -> Marked {
        let words: [u64; LANES / 8] = bytemuck::cast(self.0);
        match words.iter().fold(0, |all, word| all | word) {
            0 => Marked { words: [0; LANES / 8], next: LANES / 8 },
            _ => Marked { words: kept(&words), next: 0 },
        }
    }
}

/// The words as they are. Not inlined, lest they leave their registers also where there is no mark.
#[inline(never)]
fn kept(words: &[u64; LANES / 8]) -> [u64; LANES / 8] {
    *words
}

/// Where to look at lanes so that every place of `from..len` with `ahead` more bytes behind it is
/// looked at, some of them twice. None if there are fewer than [`LANES`] such places.
#[inline(always)]
pub(super) fn stretches(from: usize, len: usize, ahead: usize) -> impl Iterator<Item = usize> {
    let last = len.checked_sub(ahead + LANES).filter(|&last| from <= last);
    let mut next = last.map(|_| from);
    core::iter::from_fn(move || {
        let (at, last) = next.zip(last)?;
        next = (at < last).then(|| last.min(at + LANES));
        Some(at)
    })
}

/// An iterator over places that are marked.
pub(super) struct Marked {
    /// The marks of eight places each.
    words: [u64; LANES / 8],
    /// The first word that is not used up.
    next: usize,
}

impl Iterator for Marked {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        while let Some(word) = self.words.get_mut(self.next) {
            if *word != 0 {
                let place = u64::from_le(*word).trailing_zeros() as usize / 8;
                *word &= !u64::to_le(0xff << (8 * place));
                return Some(self.next * 8 + place);
            }
            self.next += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mark_is_found_once_and_in_order() {
        assert_eq!(Lanes::all(0).marked().next(), None);
        for (places, mark) in [(&[0, 7, 8, LANES - 1][..], 1), (&[31, 32, 33], 0xff)] {
            let mut text = [0; LANES + 1];
            places.iter().for_each(|&p: &usize| text[p + 1] = mark);
            assert!(Lanes::of(&text, 1).marked().eq(places.iter().copied()));
        }
    }

    #[test]
    fn every_place_lies_in_a_stretch() {
        for (from, len, ahead) in [(0, LANES + 3, 3), (5, 300, 0), (5, 300, 9), (0, 4 * LANES, 0)] {
            let mut looked_at = [false; 300];
            for at in stretches(from, len, ahead) {
                looked_at[at..at + LANES].fill(true);
            }
            let places = from..len - ahead;
            assert!(
                (0..300).all(|at| looked_at[at] == places.contains(&at)),
                "{from} {len} {ahead}"
            );
        }
        assert_eq!(stretches(0, LANES + 3, 4).next(), None);
        assert_eq!(stretches(9, LANES + 3, 4).next(), None);
    }
}
