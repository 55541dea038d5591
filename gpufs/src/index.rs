//! Where a page is: look-up structures, chosen at compile time.
//!
//! An application may bring its own: a `Copy` handle on the memory that the mount gives it, which implements
//! [`PageIndex`] and is named where the file system is mounted (`Session::builder().build_with::<Mine, Clock>()`)
//! and in the types of kernels that use it (`Fs<Mine>`). To keep an [`Entry`] is to keep its
//! [number](Entry::number) and [whether it is in flight](Entry::is_in_flight). The conformance suite tries the
//! rules below with any index: `tests/src/policy.rs` has the list.

pub mod hash;
pub mod radix;
pub use hash::HashIndex;
pub use radix::RadixIndex;

use crate::frame::PageKey;

/// What an index says about a key: the frame that holds the page, or the request that fetches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(pub(crate) u64);

impl Entry {
    const OCCUPIED: u64 = 1 << 63;
    const IN_FLIGHT: u64 = 1 << 62;
    const PRINT: u64 = ((1 << 30) - 1) << 32;

    /// The page is in frame `frame`.
    pub const fn frame(frame: u32) -> Entry {
        Entry(Self::OCCUPIED | frame as u64)
    }

    /// The page is being fetched by the request in completion cell `cell`.
    pub const fn in_flight(cell: u32) -> Entry {
        Entry(Self::OCCUPIED | Self::IN_FLIGHT | cell as u64)
    }

    /// Whether it names a request rather than a frame.
    pub const fn is_in_flight(self) -> bool {
        self.0 & Self::IN_FLIGHT != 0
    }

    /// The frame's, or the cell's, number.
    pub const fn number(self) -> u32 {
        self.0 as u32
    }

    /// The same, with 30 bits of the key's hash, which tell most other keys apart.
    const fn printed(self, hash: u64) -> u64 {
        self.0 & !Self::PRINT | hash >> 2 & Self::PRINT
    }
}

/// A map from page keys to [`Entry`]s in device memory.
///
/// An index need not store whole keys: it may offer entries of other keys too, and the cache checks
/// each (a frame knows its key). What it must not do is lose one:
/// 1. `find` offers the entry of `key` if its insertion happened before the call and its removal or
///    replacement did not begin; it takes no lock. It may miss what changes meanwhile.
/// 2. Of several `insert`s of one key at once, exactly one succeeds until that entry is removed.
/// 3. `replace` and `remove` are called by the one owner of the entry.
/// 4. What an entry names keeps its key until the entry is replaced or removed. It gives the key up by
///    a release store, and `check` and `is_same` look by an acquire load: an index that is told "no"
///    can look whether the entry has changed, and is not shown an older one.
pub trait PageIndex: Copy + 'static {
    /// Bytes of zeroed device memory for `capacity` entries, a multiple of 64.
    fn bytes(capacity: u32) -> usize;

    /// The index in the memory at `base`.
    ///
    /// # Safety
    /// `base` is valid for [`PageIndex::bytes`] of the same capacity for as long as the index is used,
    /// 64-byte aligned, was zeroed once, and is used by nothing else.
    unsafe fn at(base: *mut u8, capacity: u32) -> Self;

    /// Offers the entries that may be `key`'s to `check`, until it returns something.
    fn find<R>(&self, key: PageKey, check: impl FnMut(Entry) -> Option<R>) -> Option<R>;

    /// Adds an entry, unless `is_same` recognises one of the same key; whether it was added.
    fn insert(&self, key: PageKey, entry: Entry, is_same: impl FnMut(Entry) -> bool) -> bool;

    /// Puts `new` in the place of `old`.
    fn replace(&self, key: PageKey, old: Entry, new: Entry);

    /// Takes `entry` out.
    fn remove(&self, key: PageKey, entry: Entry);
}
