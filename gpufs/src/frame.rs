//! The state of one page frame: who may read it, who may change it.
//!
//! ```text
//!            63            34 33  32 31            0
//!   word  =  | generation    | state | pins          |
//!
//!            take_free                publish (key, len are set)
//!    FREE ─────────────▶ BUSY ─────────────────────────▶ READY ◀──┐ try_pin / unpin
//!      ▲                 │  ▲        take_for_eviction     │  └────┘
//!      └──── put_free ───┘  ├──────── (pins = 0 only) ─────┘
//!                           └─ restore ──────────────▶ READY
//! ```
//!
//! Rules:
//! 1. Only the one owner of a BUSY frame writes its key, its length and its bytes.
//! 2. The bytes and the key of a READY frame do not change while a pin is held.
//! 3. A pin may be added to any state (it is one `fetch_add`); it counts only if the state was READY
//!    and the key is the one looked for. Otherwise it is taken back at once, so owners must keep
//!    other lanes' passing pins intact: transitions add and subtract, they never store.
//! 4. Each BUSY period has a new generation, so that no stale compare-exchange can succeed.
//! 5. Bytes are written under a pin, and marked as dirty (`dirty.rs`) before it is given back. So a frame
//!    taken with no pins shows whether it is dirty, and one that is goes back to READY (`restore`).
//! 6. Dirty bytes are written to the file, a page's tail is made valid, and a page is cut, by the
//!    holder of the page's lock, who also holds a pin.

use crate::dirty::Dirty;
use gpu_rt::atomic::{DeviceAtomicU32, DeviceAtomicU64, Ordering};

/// A page's name: the file's version (see [`gpu_abi::FileInfo::version`]) and the page's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PageKey(pub u64);

impl PageKey {
    /// Page `page` of the file content called `version`.
    pub const fn new(version: u32, page: u32) -> PageKey {
        PageKey((version as u64) << 32 | page as u64)
    }

    /// The file's version.
    pub const fn version(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The page's number in the file.
    pub const fn page(self) -> u32 {
        self.0 as u32
    }
}

const STATE: u64 = 3 << 32;
const FREE: u64 = 0;
const BUSY: u64 = 1 << 32;
const READY: u64 = 2 << 32;
const GENERATION: u64 = 1 << 34;
const PINS: u64 = (1 << 32) - 1;

/// What device memory keeps about a frame. Zeroed: free.
#[repr(C, align(64))]
pub struct Frame {
    word: DeviceAtomicU64,
    key: DeviceAtomicU64,
    len: DeviceAtomicU32,
    /// For eviction policies: not 0 if the page was used since the policy last looked.
    pub referenced: DeviceAtomicU32,
    /// The next frame on the free list.
    pub(crate) next_free: DeviceAtomicU32,
    /// While the page is dirty: the record of the open file whose it is.
    pub(crate) owner: DeviceAtomicU32,
    /// Which bytes are newer here than in the file.
    pub(crate) dirty: Dirty,
    /// The page's lock: odd while somebody holds it.
    lock: DeviceAtomicU32,
    reserved: [u32; 5],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Frame>() == 64);

impl Default for Frame {
    fn default() -> Self {
        Frame::new()
    }
}

impl Frame {
    /// A free frame.
    pub fn new() -> Frame {
        Frame {
            word: DeviceAtomicU64::new(FREE),
            key: DeviceAtomicU64::new(0),
            len: DeviceAtomicU32::new(0),
            referenced: DeviceAtomicU32::new(0),
            next_free: DeviceAtomicU32::new(0),
            owner: DeviceAtomicU32::new(0),
            dirty: Dirty::new(),
            lock: DeviceAtomicU32::new(0),
            reserved: [0; 5],
        }
    }

    /// Pins the frame if it holds page `key`; its valid bytes, which stay until [`Frame::unpin`].
    #[inline]
    pub fn try_pin(&self, key: PageKey) -> Option<u32> {
        // A look first: a mismatch costs no read-modify-write.
        if self.key.load(Ordering::Relaxed) != key.0 {
            return None;
        }
        // Acquire: pairs with the release in `publish`, so that the page's bytes are seen.
        let old = self.word.fetch_add(1, Ordering::Acquire);
        if old & STATE == READY && self.key.load(Ordering::Relaxed) == key.0 {
            return Some(self.len.load(Ordering::Relaxed));
        }
        // Rule 3. Relaxed: nothing was read under this pin.
        self.word.fetch_sub(1, Ordering::Relaxed);
        None
    }

    /// Pins the frame whatever page it holds; that page's key.
    pub(crate) fn pin_any(&self) -> Option<PageKey> {
        // Acquire: as in `try_pin`.
        let old = self.word.fetch_add(1, Ordering::Acquire);
        if old & STATE == READY {
            return Some(PageKey(self.key.load(Ordering::Relaxed)));
        }
        // Rule 3.
        self.word.fetch_sub(1, Ordering::Relaxed);
        None
    }

    /// Gives a pin back; whether it was the last.
    #[inline]
    pub fn unpin(&self) -> bool {
        // Release: pairs with the acquire in `take_for_eviction`: the next owner overwrites the
        // bytes only after this reader is done with them.
        let old = self.word.fetch_sub(1, Ordering::Release);
        debug_assert!(old & PINS != 0, "unpin without a pin");
        old & PINS == 1
    }

    /// Whether this is the page's frame, READY or on its way in or out.
    pub(crate) fn holds(&self, key: PageKey) -> bool {
        self.key.load(Ordering::Relaxed) == key.0
    }

    /// Whether the frame is READY with no pins: a moment's truth, for policies.
    pub fn is_evictable(&self) -> bool {
        let word = self.word.load(Ordering::Relaxed);
        word & STATE == READY && word & PINS == 0
    }

    /// READY without pins → BUSY, owned by the caller; the key it held.
    pub fn take_for_eviction(&self) -> Option<PageKey> {
        let word = self.word.load(Ordering::Relaxed);
        if word & (STATE | PINS) != READY {
            return None;
        }
        let busy = word.wrapping_sub(READY).wrapping_add(BUSY).wrapping_add(GENERATION);
        // Acquire: pairs with the release in `unpin` (see there) and in `publish`.
        self.word.compare_exchange(word, busy, Ordering::Acquire, Ordering::Relaxed).ok()?;
        Some(PageKey(self.key.load(Ordering::Relaxed)))
    }

    /// BUSY → READY again, with the page that it held: it turned out to be dirty.
    pub(crate) fn restore(&self) {
        // Release: as in `publish`; nothing has changed since.
        let old = self.word.fetch_add(READY - BUSY, Ordering::Release);
        debug_assert!(old & STATE == BUSY);
    }

    /// The key, READY or not: a moment's truth, for whoever looks for pages to write back.
    pub(crate) fn key_hint(&self) -> PageKey {
        PageKey(self.key.load(Ordering::Relaxed))
    }

    /// Valid bytes of a pinned page.
    pub(crate) fn len(&self) -> u32 {
        // Acquire: pairs with `lengthen`.
        self.len.load(Ordering::Acquire)
    }

    /// Makes more bytes valid, which the caller, who holds the lock, has written.
    pub(crate) fn lengthen(&self, len: u32) {
        // Release: pairs with the acquire in `len`.
        self.len.store(len, Ordering::Release);
    }

    /// Takes the page's lock, if it is free. The caller holds a pin.
    pub(crate) fn try_lock(&self) -> bool {
        let old = self.lock.load(Ordering::Relaxed);
        // Acquire: pairs with `unlock`.
        old & 1 == 0
            && self
                .lock
                .compare_exchange(old, old + 1, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
    }

    /// The lock's word, for whoever waits while it is odd.
    pub(crate) fn lock_word(&self) -> &DeviceAtomicU32 {
        &self.lock
    }

    /// Gives the lock back.
    pub(crate) fn unlock(&self) {
        // Release: pairs with the acquire in `try_lock`, and with that of whoever waits.
        let old = self.lock.fetch_add(1, Ordering::Release);
        debug_assert!(old & 1 == 1);
    }

    /// FREE → BUSY. The caller is its one owner (it took the frame off the free list).
    pub(crate) fn take_free(&self) {
        // Relaxed: the free list orders one owner after the other.
        let old = self.word.fetch_add(BUSY - FREE + GENERATION, Ordering::Relaxed);
        debug_assert!(old & STATE == FREE);
    }

    /// BUSY → FREE. The caller puts it on the free list next.
    pub(crate) fn put_free(&self) {
        self.key.store(0, Ordering::Relaxed);
        let old = self.word.fetch_sub(BUSY - FREE, Ordering::Relaxed);
        debug_assert!(old & STATE == BUSY);
    }

    /// BUSY → READY with `pins` pins of the caller's: the frame holds `len` bytes of page `key`.
    pub fn publish(&self, key: PageKey, len: u32, pins: u32) {
        self.len.store(len, Ordering::Relaxed);
        self.key.store(key.0, Ordering::Relaxed);
        // Release: pairs with the acquire in `try_pin`: key, length and bytes first.
        let old = self.word.fetch_add(READY - BUSY + u64::from(pins), Ordering::Release);
        debug_assert!(old & STATE == BUSY);
    }

    /// BUSY: forgets the key, so that no look-up can mistake the bytes to come for the old page's.
    pub(crate) fn forget(&self) {
        self.key.store(0, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const KEY: PageKey = PageKey::new(7, 9);

    #[test]
    fn a_page_can_be_pinned_only_while_ready_and_only_by_its_key() {
        let frame = Frame::new();
        assert_eq!(frame.try_pin(KEY), None);
        frame.take_free();
        assert_eq!(frame.try_pin(KEY), None);
        frame.publish(KEY, 100, 1);
        assert_eq!(frame.try_pin(PageKey::new(7, 8)), None);
        assert_eq!(frame.try_pin(KEY), Some(100));
        assert_eq!(frame.take_for_eviction(), None, "two pins are held");
        assert!(!frame.unpin());
        assert!(frame.unpin());
        assert_eq!(frame.take_for_eviction(), Some(KEY));
        assert_eq!(frame.try_pin(KEY), None);
        frame.put_free();
        frame.take_free();
    }
}
