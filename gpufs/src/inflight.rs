//! What device memory keeps about a page that is being fetched: one record per completion cell.
//!
//! ```text
//!                      ┌────────────── fetch ──────────────┐
//!   IDLE ── claim ──▶ OWNED ── publish or abandon ──▶ IDLE │
//!     │                 ▲                                  │
//!     └─▶ STARTING ─▶ AHEAD  (posted, nobody waits)        │
//!          prefetch      └──── adopt: the first to touch it┘
//! ```
//!
//! The page index maps the page's key to the cell while the fetch lasts. Threads that want the same
//! page wait for `turn` to change and look again; the first to find a page AHEAD adopts it.

use gpu_abi::Errno;
use gpu_rt::atomic::{DeviceAtomicU32, DeviceAtomicU64, Ordering};

pub(crate) const IDLE: u32 = 0;
pub(crate) const OWNED: u32 = 1;
pub(crate) const STARTING: u32 = 2;
pub(crate) const AHEAD: u32 = 3;

/// No frame has been chosen yet.
pub(crate) const NO_FRAME: u32 = u32::MAX;

/// One record. Zeroed: idle.
#[repr(C, align(32))]
pub(crate) struct InFlight {
    /// The page's key.
    pub(crate) key: DeviceAtomicU64,
    /// Changes whenever those who wait for the page should look again.
    pub(crate) turn: DeviceAtomicU32,
    /// IDLE, OWNED, STARTING or AHEAD.
    pub(crate) state: DeviceAtomicU32,
    /// The frame that the page goes to, or [`NO_FRAME`].
    pub(crate) frame: DeviceAtomicU32,
    /// The tag that the request was posted with.
    pub(crate) tag: DeviceAtomicU32,
    /// The last fetch that failed: 63…32 its turn, 31…0 the error number.
    failed: DeviceAtomicU64,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<InFlight>() == 32);

#[cfg(all(test, loom))]
impl InFlight {
    /// An idle record.
    pub(crate) fn for_model() -> Self {
        InFlight {
            key: DeviceAtomicU64::new(0),
            turn: DeviceAtomicU32::new(0),
            state: DeviceAtomicU32::new(IDLE),
            frame: DeviceAtomicU32::new(NO_FRAME),
            tag: DeviceAtomicU32::new(0),
            failed: DeviceAtomicU64::new(0),
        }
    }
}

impl InFlight {
    /// The turn, if this is the fetch of `key` now.
    pub(crate) fn turn_of(&self, key: u64) -> Option<u32> {
        // Acquire: pairs with `change_turn`.
        let turn = self.turn.load(Ordering::Acquire);
        // Acquire: pairs with the releases of `set_key`: a key that came after a turn comes with it.
        let same = self.key.load(Ordering::Acquire) == key;
        // If the record moved on in between, the key and the turn may be of different pages.
        (same && self.turn.load(Ordering::Relaxed) == turn).then_some(turn)
    }

    /// Whether it is, or just was, the fetch of `key`.
    pub(crate) fn has_key(&self, key: u64) -> bool {
        // Acquire: pairs with `set_key`, by rule 4 of `PageIndex`.
        self.key.load(Ordering::Acquire) == key
    }

    /// Gives the record a key, or takes it away (0).
    pub(crate) fn set_key(&self, key: u64) {
        // Release: pairs with the acquires in `turn_of` and `has_key`: whoever sees the new key sees
        // what happened to the index before, and the turns that are past.
        self.key.store(key, Ordering::Release);
    }

    /// Says why the present fetch fails, before the turn changes.
    pub(crate) fn fail(&self, e: Errno) {
        let turn = self.turn.load(Ordering::Relaxed);
        // Relaxed: `change_turn` publishes it.
        self.failed.store(u64::from(turn) << 32 | u64::from(e.raw()), Ordering::Relaxed);
    }

    /// Why the fetch with this turn failed, if it did: for those who waited until the turn changed.
    /// They share its outcome, or each would have to try, and to fail, in its turn.
    pub(crate) fn failure(&self, turn: u32) -> Option<Errno> {
        let failed = self.failed.load(Ordering::Relaxed);
        if failed >> 32 != u64::from(turn) { None } else { Errno::from_raw(failed as u32) }
    }

    /// Makes the caller the owner of the prefetch of `key`, if that is what this is and nobody has
    /// touched it yet.
    pub(crate) fn adopt(&self, key: u64) -> bool {
        // A look first: most who come find a fetch that is somebody's.
        if self.state.load(Ordering::Relaxed) != AHEAD
            // Acquire: pairs with the release in `Fs::prefetch_page`, for key, frame and tag.
            || self
                .state
                .compare_exchange(AHEAD, OWNED, Ordering::Acquire, Ordering::Relaxed)
                .is_err()
        {
            return false;
        }
        // The record may have moved on to another page since the caller looked at it.
        if self.key.load(Ordering::Relaxed) == key {
            return true;
        }
        self.give_up();
        false
    }

    /// Undoes an adoption.
    pub(crate) fn give_up(&self) {
        // Release: pairs with the acquire in `adopt`, of the next to adopt it.
        self.state.store(AHEAD, Ordering::Release);
        // Some may have begun to wait for the owner meanwhile.
        self.change_turn();
    }

    /// Tells those who wait to look again.
    pub(crate) fn change_turn(&self) {
        // Release: pairs with the acquire in `turn_of` and that of the wait.
        self.turn.fetch_add(1, Ordering::Release);
    }
}
