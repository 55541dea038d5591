//! Which bytes of a page are newer in its frame than in the file: exactly those, since others may have
//! written the bytes beside them.
//!
//! ```text
//!            63      62    61     48 47    24 23     0
//!   word  =  | dirty | map |  0      | end   | start |     map = 0: one range of bytes
//!            | dirty | map |  0          | number    |     map = 1: a bit for each byte, in map `number`
//! ```
//!
//! Most pages are written from end to end, or from one place onwards: one range says all of it, and
//! costs no memory. Bytes that do not touch the range need a *map*, of which there are few: a page
//! gets one when it first needs it and keeps it until it is taken out of use (`Fs::detach_map`). When
//! there is none left the range is written back at once, and a new one begins.
//!
//! Rules:
//! 1. Bytes first, marks after them (release); whoever takes the marks (acquire) sees the bytes.
//! 2. Marks are made under a pin. A map is attached under one, too, and detached only where there is none
//!    (the frame is BUSY): who has seen a map may set bits in it as long as it holds its pin.
//! 3. Marks are taken under the page's lock (`frame.rs`), which is held until the bytes are in the file or
//!    the marks are back.
//! 4. In a map, bits are set before `dirty`, and `dirty` is taken before the bits: a bit that the taker
//!    misses comes with a `dirty` that is set after.

use gpu_rt::atomic::{DeviceAtomicU64, Ordering};

const DIRTY: u64 = 1 << 63;
const MAP: u64 = 1 << 62;
const END_SHIFT: u32 = 24;
const FIELD: u64 = (1 << END_SHIFT) - 1;

/// The word. Zeroed: clean, no map.
#[repr(transparent)]
pub(crate) struct Dirty(DeviceAtomicU64);

/// What is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marks {
    /// Nothing. There may be a map.
    Clean,
    /// These bytes.
    Range { start: u32, end: u32 },
    /// The bytes whose bits are set in this map.
    Map(u32),
}

/// What came of an attempt to mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marked {
    /// It is done, and the page was dirty before.
    Again,
    /// It is done; the page was clean.
    First,
    /// It takes this map, in which the bits are to be set before [`Dirty::raise`] is called.
    NeedsBits(u32),
    /// It takes a map, and there is none; the word as it was seen.
    NeedsMap(u64),
}

const fn range(start: u32, end: u32) -> u64 {
    DIRTY | (end as u64) << END_SHIFT | start as u64
}

const fn marks(word: u64) -> Marks {
    if word & DIRTY == 0 {
        Marks::Clean
    } else if word & MAP != 0 {
        Marks::Map(word as u32)
    } else {
        Marks::Range { start: (word & FIELD) as u32, end: (word >> END_SHIFT & FIELD) as u32 }
    }
}

impl Dirty {
    pub(crate) fn new() -> Dirty {
        Dirty(DeviceAtomicU64::new(0))
    }

    /// Whether anything is marked: a moment's truth, unless the frame is BUSY.
    pub(crate) fn is_dirty(&self) -> bool {
        // Acquire: pairs with `take`'s clearing, so that who finds it clean finds the lock taken.
        self.0.load(Ordering::Acquire) & DIRTY != 0
    }

    /// The map that the page has, dirty or not.
    pub(crate) fn map(&self) -> Option<u32> {
        let word = self.0.load(Ordering::Relaxed);
        (word & MAP != 0).then_some(word as u32)
    }

    /// Marks bytes from `start` to before `end`, which the caller has written under its pin.
    pub(crate) fn mark(&self, start: u32, end: u32) -> Marked {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            if word & MAP != 0 {
                return Marked::NeedsBits(word as u32);
            }
            let new = match marks(word) {
                Marks::Range { start: a, end: b } if start <= b && a <= end => {
                    range(start.min(a), end.max(b))
                }
                Marks::Range { .. } => return Marked::NeedsMap(word),
                _ => range(start, end),
            };
            // Release: rule 1; also where the word stays the same, as the bytes are new.
            match self.0.compare_exchange(word, new, Ordering::Release, Ordering::Relaxed) {
                Ok(0) => return Marked::First,
                Ok(_) => return Marked::Again,
                Err(now) => word = now,
            }
        }
    }

    /// Puts map `number`, in which the bits of the range in `seen` are set, in that range's place; false
    /// if the word has changed.
    pub(crate) fn attach(&self, seen: u64, number: u32) -> bool {
        let new = DIRTY | MAP | u64::from(number);
        // Release: pairs with the acquires in `take` and `mark`'s callers: a map comes with its bits.
        self.0.compare_exchange(seen, new, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// The range in a word that [`Marked::NeedsMap`] brought.
    pub(crate) fn range_of(seen: u64) -> (u32, u32) {
        match marks(seen) {
            Marks::Range { start, end } => (start, end),
            _ => (0, 0),
        }
    }

    /// After bits were set in the page's map: whether the page was clean until now.
    pub(crate) fn raise(&self) -> bool {
        // Release: rule 4, pairs with the acquire in `take`.
        self.0.fetch_or(DIRTY, Ordering::Release) & DIRTY == 0
    }

    /// Takes all marks; those of a map are its bits, which the caller takes next. The caller holds the
    /// page's lock.
    pub(crate) fn take(&self) -> Marks {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let rest = if word & MAP != 0 { word & !DIRTY } else { 0 };
            // Acquire: rule 1. Release: pairs with the acquire in `is_dirty`.
            match self.0.compare_exchange(word, rest, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(word) => return marks(word),
                Err(now) => word = now,
            }
        }
    }

    /// Takes the map away. The frame is BUSY, and the caller has found no mark.
    pub(crate) fn detach(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// A bit for each byte of a page.
#[derive(Clone, Copy)]
pub(crate) struct ByteMap<'a>(&'a [DeviceAtomicU64]);

impl<'a> ByteMap<'a> {
    /// Words for pages of `page_size` bytes.
    pub(crate) const fn words(page_size: usize) -> usize {
        page_size / 64
    }

    pub(crate) fn new(words: &'a [DeviceAtomicU64]) -> Self {
        ByteMap(words)
    }

    /// Sets the bits from `start` to before `end`.
    pub(crate) fn set(&self, start: u32, end: u32) {
        let mut at = start;
        while at < end {
            let bits = (64 - at % 64).min(end - at);
            let mask = (u64::MAX >> (64 - bits)) << (at % 64);
            // Release: rule 1, pairs with the acquire in `take_run`.
            self.0[at as usize / 64].fetch_or(mask, Ordering::Release);
            at += bits;
        }
    }

    /// Takes all bits from `from` on.
    pub(crate) fn clear(&self, from: u32) {
        let mut before = (1 << (from % 64)) - 1;
        for word in &self.0[from as usize / 64..] {
            // A look first: most are 0. Relaxed: nobody wants the bytes.
            if word.load(Ordering::Relaxed) & !before != 0 {
                word.fetch_and(before, Ordering::Relaxed);
            }
            before = 0;
        }
    }

    /// Takes the first run of set bits from `from` on: where it begins and ends.
    pub(crate) fn take_run(&self, from: u32) -> Option<(u32, u32)> {
        let total = self.0.len() as u32 * 64;
        let mut start = from;
        loop {
            if start >= total {
                return None;
            }
            // A look first: most are 0. Relaxed: taking them synchronises.
            let bits = self.0[start as usize / 64].load(Ordering::Relaxed) >> (start % 64);
            if bits != 0 {
                start += bits.trailing_zeros();
                break;
            }
            start = (start / 64 + 1) * 64;
        }
        let mut end = start;
        while end < total {
            let (word, skip) = (&self.0[end as usize / 64], end % 64);
            let ones = (word.load(Ordering::Relaxed) >> skip).trailing_ones();
            if ones != 0 {
                let taken = (u64::MAX >> (64 - ones)) << skip;
                // Acquire: rule 1, pairs with the release in `set`. Nobody else takes bits (rule 3).
                word.fetch_and(!taken, Ordering::Acquire);
                end += ones;
            }
            if skip + ones < 64 {
                break;
            }
        }
        Some((start, end))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn ranges_grow_where_they_touch_and_ask_for_a_map_where_not() {
        let dirty = Dirty::new();
        assert!(!dirty.is_dirty());
        assert_eq!(dirty.mark(100, 200), Marked::First);
        assert_eq!(dirty.mark(200, 300), Marked::Again);
        assert_eq!(dirty.mark(50, 120), Marked::Again);
        let Marked::NeedsMap(seen) = dirty.mark(301, 302) else { panic!("a gap needs a map") };
        assert_eq!(Dirty::range_of(seen), (50, 300));
        assert_eq!(dirty.take(), Marks::Range { start: 50, end: 300 });
        assert!(!dirty.is_dirty());
        assert!(!dirty.attach(seen, 3), "the range is gone");
        // The largest page there can be, from end to end.
        assert_eq!(dirty.mark(0, 2 << 20), Marked::First);
        assert_eq!(dirty.take(), Marks::Range { start: 0, end: 2 << 20 });
    }

    #[test]
    fn a_map_stays_when_its_marks_are_taken() {
        let dirty = Dirty::new();
        assert_eq!(dirty.mark(0, 1), Marked::First);
        let Marked::NeedsMap(seen) = dirty.mark(5, 6) else { panic!("a gap needs a map") };
        assert!(dirty.attach(seen, 7));
        assert_eq!(dirty.mark(5, 6), Marked::NeedsBits(7));
        assert!(!dirty.raise());
        assert_eq!((dirty.take(), dirty.map()), (Marks::Map(7), Some(7)));
        assert_eq!((dirty.take(), dirty.is_dirty()), (Marks::Clean, false));
        assert!(dirty.raise(), "it was clean");
        dirty.take();
        dirty.detach();
        assert_eq!(dirty.map(), None);
    }

    /// Whatever bits are set, and whichever are put back, each byte is handed over once.
    #[test]
    fn runs_are_the_set_bits() {
        let words: Vec<DeviceAtomicU64> = (0..64).map(|_| DeviceAtomicU64::new(0)).collect();
        let map = ByteMap::new(&words);
        let mut state = 1u64;
        let mut random = |n: u32| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as u32 % n
        };
        for round in 0..300 {
            let mut want = [false; 4096];
            for _ in 0..random(40) {
                let start = random(4096);
                let end = (start + 1 + random(if round % 3 == 0 { 500 } else { 5 })).min(4096);
                map.set(start, end);
                want[start as usize..end as usize].fill(true);
            }
            let mut got = [false; 4096];
            let mut from = 0;
            while let Some((start, end)) = map.take_run(from) {
                assert!(start < end && from <= start);
                // Runs do not touch: each is as long as can be.
                assert!(end == 4096 || !want[end as usize]);
                for byte in start..end {
                    assert!(!core::mem::replace(&mut got[byte as usize], true), "twice");
                }
                from = end;
                if random(8) == 0 {
                    // It did not fit: the next to look takes it.
                    map.set(start, end);
                    got[start as usize..end as usize].fill(false);
                    from = start;
                }
            }
            assert!(got == want, "round {round}");
            assert!(words.iter().all(|word| word.load(Ordering::Relaxed) == 0));
            // What is cleared is what lies beyond.
            let (cut, end) = (random(4097), random(4096) + 1);
            map.set(0, end);
            if cut < 4096 {
                map.clear(cut);
            }
            assert_eq!(map.take_run(0), (cut > 0).then_some((0, end.min(cut))), "{cut} {end}");
            assert_eq!(map.take_run(0), None);
        }
    }
}
