//! A hash table of one-cache-line buckets.
//!
//! ```text
//!   bucket (64 B):  | control | slot 0 | … | slot 6 |
//!   control:        63 … 32 reach | 31 … 1 strays | 0 lock
//! ```
//!
//! A key lives in its home bucket, or, when that is full, in one of the next: then it is a *stray* of
//! its home bucket, which counts its strays and remembers how far the farthest went (*reach*).
//! Look-ups take no lock: they read the home bucket, and on to `reach` only if there are strays.
//! Inserting, and removing a stray, take the home bucket's lock; nothing waits while holding it.

use super::{Entry, PageIndex};
use crate::frame::PageKey;
use gpu_rt::atomic::{DeviceAtomicU64, Ordering};

/// A model checker gets along with one: then the second key of a bucket is a stray.
const SLOTS: usize = if cfg!(loom) { 1 } else { 7 };
const LOCK: u64 = 1;
const STRAY: u64 = 2;
const STRAYS: u64 = (1 << 32) - 2;

#[repr(C, align(64))]
struct Bucket {
    control: DeviceAtomicU64,
    slots: [DeviceAtomicU64; SLOTS],
}

/// See the module's documentation.
#[derive(Clone, Copy)]
pub struct HashIndex {
    buckets: *const Bucket,
    mask: u32,
}

// SAFETY: it points at atomic words only.
unsafe impl Send for HashIndex {}
// SAFETY: it points at atomic words only.
unsafe impl Sync for HashIndex {}

/// A finaliser that spreads every input bit over the word (D. Stafford's variant 13 of the
/// MurmurHash3 finaliser).
const fn mix(mut x: u64) -> u64 {
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

impl HashIndex {
    /// Buckets so that about half of all slots stay empty.
    const fn bucket_count(capacity: u32) -> u32 {
        Self::mask(capacity) + 1
    }

    /// The bits of a bucket's number: as many as `capacity / 3` has.
    const fn mask(capacity: u32) -> u32 {
        match u32::MAX.checked_shr((capacity / 3).leading_zeros()) {
            Some(mask) => mask,
            None => 0,
        }
    }

    fn bucket(&self, index: u32) -> &Bucket {
        // SAFETY: masked to the table, which `at`'s caller vouched for.
        unsafe { &*self.buckets.add((index & self.mask) as usize) }
    }

    fn reach(control: u64) -> u32 {
        if control & STRAYS == 0 { 0 } else { (control >> 32) as u32 }
    }

    fn lock(&self, home: u32) -> u64 {
        let control = &self.bucket(home).control;
        loop {
            let old = control.load(Ordering::Relaxed) & !LOCK;
            // Acquire: pairs with the release in `unlock`.
            if control
                .compare_exchange(old, old | LOCK, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
            {
                return old;
            }
            gpu_rt::relax();
        }
    }

    fn unlock(&self, home: u32, control: u64) {
        // Release: pairs with the acquire in `lock`, and with `find`'s acquire load of `control`.
        self.bucket(home).control.store(control & !LOCK, Ordering::Release);
    }

    /// The slot that holds exactly this value, from the home bucket on.
    fn slot_of(&self, home: u32, reach: u32, value: u64) -> Option<(u32, &DeviceAtomicU64)> {
        (0..=reach).find_map(|d| {
            self.bucket(home.wrapping_add(d))
                .slots
                .iter()
                .find(|slot| slot.load(Ordering::Relaxed) == value)
                .map(|slot| (d, slot))
        })
    }

    fn find_printed<R>(
        &self,
        hash: u64,
        reach: Option<u32>,
        mut check: impl FnMut(Entry) -> Option<R>,
    ) -> Option<R> {
        let home = hash as u32;
        let wanted = Entry(Entry::OCCUPIED).printed(hash);
        let mut last = reach.unwrap_or(0);
        let mut d = 0;
        loop {
            let bucket = self.bucket(home.wrapping_add(d));
            if d == 0 && reach.is_none() {
                // Acquire: pairs with `unlock`: strays counted here are seen in their slots.
                last = Self::reach(bucket.control.load(Ordering::Acquire));
            }
            let is_wanted = |value| value & (Entry::OCCUPIED | Entry::PRINT) == wanted;
            // A look first: most slots are other keys'. Through all of a bucket's without a loop, as
            // there is none in the closure.
            let looks_wanted = |slot: &DeviceAtomicU64| is_wanted(slot.load(Ordering::Relaxed));
            let mut next = bucket.slots.iter().position(looks_wanted);
            while let Some(at) = next {
                let slot = &bucket.slots[at];
                loop {
                    // Acquire: pairs with the release stores of `insert` and `replace`, so that what
                    // the entry names is seen.
                    let value = slot.load(Ordering::Acquire);
                    if !is_wanted(value) {
                        break;
                    }
                    if let Some(found) = check(Entry(value & !Entry::PRINT)) {
                        return Some(found);
                    }
                    // What it names may have lost the key because the entry was replaced meanwhile:
                    // then the key's entry is in this very slot, and `insert` must not miss it. Not
                    // Acquire: see rule 4 of `PageIndex`.
                    if slot.load(Ordering::Relaxed) == value {
                        break;
                    }
                }
                next = (at + 1..SLOTS).find(|&i| looks_wanted(&bucket.slots[i]));
            }
            if d == last {
                return None;
            }
            d += 1;
        }
    }
}

impl PageIndex for HashIndex {
    fn bytes(capacity: u32) -> usize {
        Self::bucket_count(capacity) as usize * size_of::<Bucket>()
    }

    unsafe fn at(base: *mut u8, capacity: u32) -> Self {
        HashIndex { buckets: base.cast(), mask: Self::mask(capacity) }
    }

    #[inline]
    fn find<R>(&self, key: PageKey, check: impl FnMut(Entry) -> Option<R>) -> Option<R> {
        self.find_printed(mix(key.0), None, check)
    }

    fn insert(&self, key: PageKey, entry: Entry, mut is_same: impl FnMut(Entry) -> bool) -> bool {
        let hash = mix(key.0);
        let home = hash as u32;
        let mut control = self.lock(home);
        let reach = Self::reach(control);
        if self.find_printed(hash, Some(reach), |e| is_same(e).then_some(())).is_some() {
            self.unlock(home, control);
            return false;
        }
        let value = entry.printed(hash);
        for d in 0..=self.mask {
            for slot in &self.bucket(home.wrapping_add(d)).slots {
                // By compare-exchange: strays of other homes come here under other locks.
                // Release: pairs with `find`'s acquire load of the slot.
                if slot.load(Ordering::Relaxed) == 0
                    && slot.compare_exchange(0, value, Ordering::Release, Ordering::Relaxed).is_ok()
                {
                    if d > 0 {
                        control = (u64::from(reach.max(d)) << 32) | ((control & STRAYS) + STRAY);
                    }
                    self.unlock(home, control);
                    return true;
                }
            }
        }
        // The table has twice as many slots as there can be entries.
        unreachable!("more entries than the index was made for")
    }

    fn replace(&self, key: PageKey, old: Entry, new: Entry) {
        let hash = mix(key.0);
        let home = hash as u32;
        loop {
            // Acquire: as in `find`.
            let reach = Self::reach(self.bucket(home).control.load(Ordering::Acquire));
            if let Some((_, slot)) = self.slot_of(home, reach, old.printed(hash)) {
                // Release: pairs with `find`'s acquire load of the slot.
                slot.store(new.printed(hash), Ordering::Release);
                return;
            }
            gpu_rt::relax();
        }
    }

    fn remove(&self, key: PageKey, entry: Entry) {
        let hash = mix(key.0);
        let home = hash as u32;
        let value = entry.printed(hash);
        if let Some((_, slot)) = self.slot_of(home, 0, value) {
            // Release: pairs with the compare-exchange of the next `insert` here.
            slot.store(0, Ordering::Release);
            return;
        }
        let control = self.lock(home);
        let Some((_, slot)) = self.slot_of(home, Self::reach(control), value) else {
            unreachable!("removed an entry that was never inserted")
        };
        slot.store(0, Ordering::Release);
        self.unlock(home, control - STRAY);
    }
}

#[cfg(all(test, loom))]
impl HashIndex {
    /// An index in memory of its own, which stays.
    pub(crate) fn for_model(capacity: u32) -> Self {
        extern crate std;
        let buckets: std::vec::Vec<_> = (0..Self::bucket_count(capacity))
            .map(|_| Bucket {
                control: DeviceAtomicU64::new(0),
                slots: core::array::from_fn(|_| DeviceAtomicU64::new(0)),
            })
            .collect();
        let buckets = buckets.leak().as_ptr();
        HashIndex { buckets, mask: Self::bucket_count(capacity) - 1 }
    }

    /// The bucket that a key belongs in.
    pub(crate) fn home(&self, key: PageKey) -> u32 {
        mix(key.0) as u32 & self.mask
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    extern crate std;
    use super::*;
    use std::collections::HashMap;
    use std::vec::Vec;

    fn memory(bytes: usize) -> Vec<Bucket> {
        (0..bytes / size_of::<Bucket>())
            .map(|_| Bucket {
                control: DeviceAtomicU64::new(0),
                slots: core::array::from_fn(|_| DeviceAtomicU64::new(0)),
            })
            .collect()
    }

    #[test]
    fn behaves_like_a_map_even_when_buckets_overflow() {
        const CAPACITY: u32 = 40;
        let memory = memory(HashIndex::bytes(CAPACITY));
        // SAFETY: zeroed buckets of the right number that outlive the index.
        let index = unsafe { HashIndex::at(memory.as_ptr() as *mut u8, CAPACITY) };
        let mut model: HashMap<u64, u32> = HashMap::new();
        let mut owner = [0u64; CAPACITY as usize];
        let mut seed = 1u64;
        for step in 0..200_000u32 {
            seed = mix(seed.wrapping_add(0x9e37_79b9_7f4a_7c15));
            let key = PageKey(seed % 64 + 1);
            let frame = (seed >> 32) as u32 % CAPACITY;
            let found =
                index.find(key, |e| (owner[e.number() as usize] == key.0).then_some(e.number()));
            assert_eq!(found, model.get(&key.0).copied(), "step {step}");
            match found {
                Some(n) => {
                    index.remove(key, Entry::frame(n));
                    owner[n as usize] = 0;
                    model.remove(&key.0);
                }
                None if owner[frame as usize] == 0 => {
                    assert!(index.insert(key, Entry::in_flight(frame), |_| false));
                    index.replace(key, Entry::in_flight(frame), Entry::frame(frame));
                    owner[frame as usize] = key.0;
                    model.insert(key.0, frame);
                    let same = |e: Entry| owner[e.number() as usize] == key.0;
                    assert!(!index.insert(key, Entry::frame(99), same));
                }
                None => {}
            }
        }
        // With seven slots and buckets for a third of the entries, some did stray.
        assert!(memory.iter().any(|b| b.control.load(Ordering::Relaxed) >> 32 != 0));
    }
}
