//! Which parts of a range of addresses are free.

use std::collections::BTreeMap;

/// Pieces are multiples of this.
pub(crate) const GRAIN: usize = 256;

/// The bytes that a piece of `bytes` takes; empty pieces take some too, so that each has an address.
pub(crate) fn rounded(bytes: usize) -> usize {
    bytes.max(1).next_multiple_of(GRAIN)
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
            let at = start.next_multiple_of(align);
            ((at - start) as usize + size <= len).then_some((start, len, at))
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
