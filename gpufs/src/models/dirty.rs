//! Marks of dirty bytes: every byte that was written is written back, whoever takes the marks and when.

use super::check;
use super::std::sync::Arc;
use crate::dirty::{ByteMap, Dirty, Marked, Marks};
use crate::frame::{Frame, PageKey};
use gpu_rt::atomic::{DeviceAtomicU64, Ordering};
use loom::cell::UnsafeCell;
use loom::thread;

const KEY: PageKey = PageKey::new(1, 1);
/// Where bytes are written: far enough apart that they need a map.
const PLACES: [u32; 2] = [0, 5];

/// A page of which two bytes are used, and the one map that there is.
struct Page {
    frame: Frame,
    map: [DeviceAtomicU64; 1],
    map_taken: DeviceAtomicU64,
    bytes: [UnsafeCell<u8>; 2],
    /// What the file has.
    file: [loom::sync::atomic::AtomicU8; 2],
}

impl Page {
    fn new() -> Arc<Page> {
        let page = Page {
            frame: Frame::new(),
            map: [DeviceAtomicU64::new(0)],
            map_taken: DeviceAtomicU64::new(0),
            bytes: [UnsafeCell::new(0), UnsafeCell::new(0)],
            file: core::array::from_fn(|_| loom::sync::atomic::AtomicU8::new(0)),
        };
        page.frame.take_free();
        page.frame.publish(KEY, 64, 0);
        Arc::new(page)
    }

    /// Writes a byte, as `write_at` does; whether the page was there to be written.
    fn write(&self, i: usize) -> bool {
        if self.frame.try_pin(KEY).is_none() {
            return false;
        }
        // SAFETY: the model's own pointer; loom fails on a race with whoever reads.
        self.bytes[i].with_mut(|byte| unsafe { *byte = 1 });
        let (start, end) = (PLACES[i], PLACES[i] + 1);
        let map = ByteMap::new(&self.map);
        loop {
            match self.frame.dirty.mark(start, end) {
                Marked::First | Marked::Again => break,
                Marked::NeedsBits(_) => {
                    map.set(start, end);
                    self.frame.dirty.raise();
                    break;
                }
                Marked::NeedsMap(seen) => {
                    if self.map_taken.fetch_or(1, Ordering::Acquire) & 1 != 0 {
                        loom::thread::yield_now();
                        continue;
                    }
                    let (a, b) = Dirty::range_of(seen);
                    map.set(a, b);
                    if !self.frame.dirty.attach(seen, 0) {
                        map.clear(0);
                        self.map_taken.fetch_and(0, Ordering::Release);
                    }
                }
            }
        }
        self.frame.unpin();
        true
    }

    /// Writes back what is marked, as `write_back` does.
    fn write_back(&self) {
        if self.frame.pin_any().is_none() {
            return;
        }
        if self.frame.try_lock() {
            let to_file = |start: u32, end: u32| {
                for (i, place) in PLACES.iter().enumerate() {
                    if (start..end).contains(place) {
                        // SAFETY: as in `write`: a mark comes with its byte.
                        let byte = self.bytes[i].with(|byte| unsafe { *byte });
                        self.file[i].store(byte, Ordering::Relaxed);
                    }
                }
            };
            match self.frame.dirty.take() {
                Marks::Clean => {}
                Marks::Range { start, end } => to_file(start, end),
                Marks::Map(_) => {
                    let (map, mut from) = (ByteMap::new(&self.map), 0);
                    while let Some((start, end)) = map.take_run(from) {
                        to_file(start, end);
                        from = end;
                    }
                }
            }
            self.frame.unlock();
        }
        self.frame.unpin();
    }

    /// Takes the frame, as whoever makes room does, if the page is clean.
    fn evict(&self) -> bool {
        if self.frame.take_for_eviction().is_none() {
            return false;
        }
        if self.frame.dirty.is_dirty() {
            self.frame.restore();
            return false;
        }
        self.frame.dirty.detach();
        self.frame.forget();
        true
    }
}

/// Two who write different bytes, and one who writes back and evicts at any time.
fn no_written_byte_is_lost_of(page: &Arc<Page>) {
    let writers = [0, 1].map(|i| {
        let page = page.clone();
        thread::spawn(move || page.write(i))
    });
    page.write_back();
    let evicted = page.evict();
    let wrote = writers.map(|writer| writer.join().unwrap());
    if !evicted {
        page.write_back();
        assert!(page.evict(), "clean, and unpinned");
    }
    for (file, wrote) in page.file.iter().zip(wrote) {
        assert_eq!(file.load(Ordering::Relaxed), u8::from(wrote));
    }
}

#[test]
fn no_written_byte_is_lost() {
    check(Some(3), || no_written_byte_is_lost_of(&Page::new()));
}

/// The same of a page that has a map: whoever takes the bits may find one whose writer has not said yet that
/// the page is dirty.
#[test]
fn no_written_byte_is_lost_with_a_map() {
    check(Some(3), || {
        let page = Page::new();
        let (dirty, map) = (&page.frame.dirty, ByteMap::new(&page.map));
        assert_eq!(dirty.mark(60, 61), Marked::First);
        let Marked::NeedsMap(seen) = dirty.mark(63, 64) else { panic!("a gap needs a map") };
        page.map_taken.fetch_or(1, Ordering::Relaxed);
        map.set(60, 61);
        assert!(dirty.attach(seen, 0));
        no_written_byte_is_lost_of(&page);
    });
}
