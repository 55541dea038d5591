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
}

impl InFlight {
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
        // Release: pairs with the acquire of `turn` in `Fs::locate` and of the wait.
        self.turn.fetch_add(1, Ordering::Release);
    }
}
