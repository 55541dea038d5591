//! Which parts of a range of addresses are free.

use std::collections::BTreeMap;

/// Pieces are multiples of this.
pub(crate) const GRAIN: usize = 256;

/// The bytes that a piece of `bytes` takes; empty pieces take some too, so that each has an address. None if
/// that is more than a number holds.
pub(crate) fn rounded(bytes: usize) -> Option<usize> {
    bytes.max(1).checked_next_multiple_of(GRAIN)
}

/// The free pieces of a range: address → length. No two of them touch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FreeList(BTreeMap<u64, usize>);

impl FreeList {
    /// All of `len` bytes from `base` on.
    pub(crate) fn new(base: u64, len: usize) -> FreeList {
        FreeList(BTreeMap::from([(base, len)]))
    }

    /// Takes a piece that was [`rounded`] from the first place that has room; `align` is a power of
    /// two.
    pub(crate) fn take(&mut self, size: usize, align: usize) -> Option<u64> {
        let align = align.max(GRAIN) as u64;
        let (start, len, at) = self.0.iter().find_map(|(&start, &len)| {
            let at = start.checked_next_multiple_of(align)?;
            let room = (len as u64).checked_sub(at - start)?;
            (size as u64 <= room).then_some((start, len, at))
        })?;
        let (before, end) = ((at - start) as usize, at + size as u64);
        self.0.remove(&start);
        if before > 0 {
            self.0.insert(start, before);
        }
        if before + size < len {
            self.0.insert(end, len - before - size);
        }
        Some(at)
    }

    /// Gives back a piece that was taken.
    pub(crate) fn give_back(&mut self, mut at: u64, mut size: usize) {
        if let Some((&before, &len)) = self.0.range(..at).next_back()
            && before + len as u64 == at
        {
            self.0.remove(&before);
            (at, size) = (before, len + size);
        }
        if let Some(len) = self.0.remove(&(at + size as u64)) {
            size += len;
        }
        self.0.insert(at, size);
    }

    /// Bytes that are free, if not in one piece.
    pub(crate) fn free(&self) -> usize {
        self.0.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_beyond_all_numbers_fit_nowhere() {
        assert_eq!(rounded(0), Some(GRAIN));
        assert_eq!(rounded(usize::MAX - GRAIN + 1), Some(usize::MAX - GRAIN + 1));
        assert_eq!(rounded(usize::MAX - GRAIN + 2), None);
        // A piece before the first multiple of its alignment, and one at the end of all addresses.
        for base in [GRAIN as u64, 0u64.wrapping_sub(4096)] {
            let mut list = FreeList::new(base, 2048);
            for (size, align) in
                [(usize::MAX - GRAIN + 1, 1), (usize::MAX - GRAIN + 1, 512), (GRAIN, 1 << 63)]
            {
                assert_eq!(list.take(size, align), None);
            }
            assert_eq!(list, FreeList::new(base, 2048));
        }
    }
}
