//! The page-state word.

use super::check;
use super::std::sync::Arc;
use crate::frame::{Frame, PageKey};
use loom::cell::UnsafeCell;
use loom::thread;

const OLD: PageKey = PageKey::new(1, 1);
const NEW: PageKey = PageKey::new(1, 2);

/// A frame and its bytes, which hold the page's number.
struct Cache {
    frame: Frame,
    bytes: UnsafeCell<u64>,
}

impl Cache {
    /// A frame that holds OLD, unpinned.
    fn new() -> Arc<Cache> {
        let cache = Cache { frame: Frame::new(), bytes: UnsafeCell::new(OLD.0) };
        cache.frame.take_free();
        cache.frame.publish(OLD, 8, 0);
        Arc::new(cache)
    }

    /// Reads page `key` if it is here: its bytes, and no others.
    fn read(&self, key: PageKey) -> bool {
        let Some(len) = self.frame.try_pin(key) else { return false };
        assert_eq!(len, if key == OLD { 8 } else { 9 });
        // SAFETY: the model's own pointer; loom fails on a race with whoever writes.
        assert_eq!(self.bytes.with(|bytes| unsafe { *bytes }), key.0);
        self.frame.unpin();
        true
    }

    /// Makes room for page NEW and fetches it.
    fn evict(&self) -> bool {
        let Some(old) = self.frame.take_for_eviction() else { return false };
        assert_eq!(old, OLD);
        self.frame.forget();
        // SAFETY: as in `read`.
        self.bytes.with_mut(|bytes| unsafe { *bytes = NEW.0 });
        self.frame.publish(NEW, 9, 1);
        self.frame.unpin();
        true
    }
}

/// Readers of the old page and of the new, and one who takes the frame for the new one.
#[test]
fn a_pinned_page_is_the_one_asked_for() {
    check(Some(3), || {
        let cache = Cache::new();
        let [old, new] = [cache.clone(), cache.clone()];
        let old = thread::spawn(move || old.read(OLD));
        let new = thread::spawn(move || new.read(NEW));
        let evicted = cache.evict();
        old.join().unwrap();
        let found = new.join().unwrap();
        assert!(evicted || !found);
        // All pins are back.
        assert!(cache.frame.is_evictable());
        assert_eq!(cache.read(NEW), evicted);
    });
}

/// Of two who want the frame one gets it, and only while nobody reads.
#[test]
fn a_frame_is_taken_by_one() {
    check(Some(3), || {
        let cache = Cache::new();
        let take = |cache: &Arc<Cache>| {
            let cache = cache.clone();
            thread::spawn(move || cache.frame.take_for_eviction().is_some())
        };
        let takers = [take(&cache), take(&cache)];
        let pinned = cache.frame.try_pin(OLD).is_some();
        let taken = takers.map(|taker| taker.join().unwrap());
        assert!(!(taken[0] && taken[1]));
        assert!(!(pinned && (taken[0] || taken[1])), "taken under a reader");
        // A passing pin may make both fail, but not the frame unusable.
        if pinned {
            assert!(cache.frame.unpin());
            assert!(cache.frame.take_for_eviction().is_some());
        }
    });
}
