//! The marks of dirty bytes as the cache makes and takes them, and what else happens to the bytes of cached pages.

use crate::cache::Page;
use crate::dirty::{ByteMap, Dirty, Marked, Marks};
use crate::evict::Eviction;
use crate::frame::Frame;
use crate::index::{Entry, PageIndex};
use crate::mount::Fs;
use crate::port::Patience;
use gpu_abi::Errno;
use gpu_rt::atomic::Ordering;

impl<I: PageIndex, E: Eviction> Fs<I, E> {
    /// Marks bytes of a page, which the caller has pinned and has just written, as dirty.
    ///
    /// # Errors
    /// If the page needs a map, there is none, and what is dirty cannot be written back: then the marks
    /// are not made.
    pub(crate) fn mark_dirty(
        &self,
        frame: u32,
        record: u32,
        start: u32,
        end: u32,
    ) -> Result<(), Errno> {
        while !self.try_mark(frame, record, start, end) {
            self.spare_map(frame)?;
        }
        Ok(())
    }

    /// As [`Fs::mark_dirty`]; `false` if the page needs a map and there is none.
    #[inline(never)]
    fn try_mark(&self, frame: u32, record: u32, start: u32, end: u32) -> bool {
        let page = &self.frames()[frame as usize];
        // Before the marks: whoever sees them sees whose they are. All who write the page have one record.
        page.owner.store(record, Ordering::Relaxed);
        loop {
            match page.dirty.mark(start, end) {
                Marked::Again => return true,
                Marked::First => {
                    self.note_dirty(record);
                    return true;
                }
                Marked::NeedsBits(map) => {
                    self.byte_map(map).set(start, end);
                    if page.dirty.raise() {
                        self.note_dirty(record);
                    }
                    return true;
                }
                Marked::NeedsMap(seen) => {
                    if !self.give_map(frame, seen) {
                        return false;
                    }
                }
            }
        }
    }

    /// Gives a page a map instead of the range that was `seen`, unless its marks have changed: to be looked at
    /// again. `false` if no map is free.
    #[inline(never)]
    fn give_map(&self, frame: u32, seen: u64) -> bool {
        let Some(map) = self.map_bits().claim(frame) else { return false };
        let (start, end) = Dirty::range_of(seen);
        self.byte_map(map).set(start, end);
        if !self.frames()[frame as usize].dirty.attach(seen, map) {
            self.byte_map(map).clear(0);
            self.map_bits().release(map);
        }
        true
    }

    pub(crate) fn note_dirty(&self, record: u32) {
        self.open_file(record).dirty_pages.fetch_add(1, Ordering::Relaxed);
    }

    /// Marks bytes of a page of the extent again. Its lock is held, so that nobody can be asked to write
    /// it back if a map is wanted and there is none: the marks then grow to one range. That is the one
    /// case in which bytes may be written that were not written here: they are those read from the file.
    #[inline(never)]
    pub(crate) fn mark_again(&self, frame: u32, start: u32, end: u32) {
        let page = &self.frames()[frame as usize];
        let (mut start, mut end) = (start, end);
        loop {
            let first = match page.dirty.mark(start, end) {
                Marked::Again => false,
                Marked::First => true,
                Marked::NeedsBits(map) => {
                    self.byte_map(map).set(start, end);
                    page.dirty.raise()
                }
                Marked::NeedsMap(seen) => {
                    if !self.give_map(frame, seen) {
                        let (a, b) = Dirty::range_of(seen);
                        (start, end) = (start.min(a), end.max(b));
                    }
                    continue;
                }
            };
            if first {
                self.note_dirty(page.owner.load(Ordering::Relaxed));
            }
            return;
        }
    }

    /// As [`Fs::mark_dirty`] where that has failed: nothing is written to the host for it.
    pub(crate) fn mark_somehow(&self, frame: u32, record: u32, start: u32, end: u32) {
        self.frames()[frame as usize].owner.store(record, Ordering::Relaxed);
        self.mark_again(frame, start, end);
    }

    /// Makes the bytes past the end of the file, in the page that was its last when it was fetched,
    /// valid: zeroes. The caller has pinned it. The valid bytes after that.
    #[inline(never)]
    pub(crate) fn make_whole(&self, page: Page) -> Result<u32, Errno> {
        let frame = &self.frames()[page.frame as usize];
        let whole = self.page_size() as u32;
        if frame.len() < whole {
            self.lock_page(frame)?;
            let len = frame.len();
            if len < whole {
                // SAFETY: pinned, so the frame is this page's; no thread reads or writes past the valid
                // bytes but under the lock, which is ours.
                unsafe {
                    let rest = self.frame_data(page.frame).add(len as usize);
                    gpu_rt::mem::fill(&gpu_rt::Thread, rest, 0, (whole - len) as usize);
                }
                frame.lengthen(whole);
            }
            frame.unlock();
        }
        Ok(whole)
    }

    /// Takes the lock of a pinned page; waits for it.
    pub(crate) fn lock_page(&self, frame: &Frame) -> Result<(), Errno> {
        let mut patience = Patience::new();
        while !frame.try_lock() {
            let seen = frame.lock_word().load(Ordering::Relaxed);
            if seen & 1 == 1 {
                patience.wait(self.region().header(), frame.lock_word(), seen)?;
            }
        }
        Ok(())
    }

    /// Zeroes the bytes of a page from `from` on, and takes their marks. The caller has its lock.
    pub(crate) fn cut_page(&self, frame: u32, from: u32) {
        let page = &self.frames()[frame as usize];
        let whole = self.page_size() as u32;
        let keep = |start: u32, end: u32| (start < from).then_some((start, end.min(from)));
        let marks = page.dirty.take();
        match marks {
            Marks::Clean => {}
            Marks::Range { start, end } => {
                if let Some((start, end)) = keep(start, end) {
                    self.mark_again(frame, start, end);
                }
            }
            Marks::Map(map) => {
                // The bits before stay where they are.
                self.byte_map(map).clear(from);
                if from > 0 && page.dirty.raise() {
                    self.note_dirty(page.owner.load(Ordering::Relaxed));
                }
            }
        }
        // A page that nobody has written to since it was fetched ahead may have fewer valid bytes.
        let rest = from.min(page.len());
        // SAFETY: pinned and locked; the file has no bytes there any more, or had none when the page was fetched, so that
        // nobody may read them.
        unsafe {
            let at = self.frame_data(frame).add(rest as usize);
            gpu_rt::mem::fill(&gpu_rt::Thread, at, 0, (whole - rest) as usize);
        }
        page.lengthen(whole);
        if marks != Marks::Clean {
            let record = self.open_file(page.owner.load(Ordering::Relaxed));
            // Release: as in `end_extent`.
            record.dirty_pages.fetch_sub(1, Ordering::Release);
        }
    }

    /// Takes the marks of a page that nobody wants to keep, and the page out of the cache if nobody has it.
    fn discard_page(&self, frame: u32) -> Result<(), Errno> {
        let page = &self.frames()[frame as usize];
        self.lock_page(page)?;
        let marks = page.dirty.take();
        if let Marks::Map(map) = marks {
            self.byte_map(map).clear(0);
        }
        page.unlock();
        if marks != Marks::Clean {
            let record = self.open_file(page.owner.load(Ordering::Relaxed));
            // Release: as in `end_extent`.
            record.dirty_pages.fetch_sub(1, Ordering::Release);
        }
        Ok(())
    }

    /// Takes all pages of a version out of the cache, with what is dirty: they are not the file's.
    #[inline(never)]
    pub(crate) fn discard_file(&self, version: u32) -> Result<(), Errno> {
        for (number, frame) in (0..).zip(self.frames()) {
            if frame.key_hint().version() != version {
                continue;
            }
            let Some(key) = frame.pin_any() else { continue };
            let outcome = if key.version() == version { self.discard_page(number) } else { Ok(()) };
            self.unpin(Page { frame: number, len: 0 }, false);
            outcome?;
            if let Some(key) = frame.take_for_eviction()
                && self.settle_marks(number)
            {
                self.pages().remove(key, Entry::frame(number));
                self.put_frame(number);
            }
        }
        Ok(())
    }

    pub(crate) fn byte_map(&self, number: u32) -> ByteMap<'_> {
        ByteMap::new(self.map_words(number))
    }

    /// Gives the map of a BUSY frame back, which has no marks.
    pub(crate) fn detach_map(&self, frame: u32) {
        let page = &self.frames()[frame as usize];
        if let Some(map) = page.dirty.map() {
            page.dirty.detach();
            // There are none, unless a mark was taken back; a map that is free has no bits.
            self.byte_map(map).clear(0);
            self.map_bits().release(map);
        }
    }

    /// After no map was left for this page: makes another page's free, by writing that page back. Where none
    /// can be had so, what is dirty of this page goes to the file, and its marks begin anew as a range. That
    /// alone would do, but a request for each gap: of 8 bytes in every 64 it sent 14 bytes for each byte.
    #[inline(never)]
    fn spare_map(&self, frame: u32) -> Result<(), Errno> {
        if let Some(other) = self.next_with_map()
            // One that cannot be written back stays dirty, and whoever syncs its file is told.
            && (!self.frames()[other as usize].dirty.is_dirty()
                || self.write_back_alone(other).is_ok())
        {
            // It has given its map up, unless somebody held it then.
            self.take_map(other);
            return Ok(());
        }
        self.write_back_alone(frame)
    }

    /// A page that has a map, and could go now: of one after the other.
    #[inline(never)]
    fn next_with_map(&self) -> Option<u32> {
        let (frames, hand) = (self.frames(), &self.globals().map_hand);
        for _ in frames {
            let at = hand.fetch_add(1, Ordering::Relaxed) % frames.len() as u32;
            let page = &frames[at as usize];
            if page.dirty.map().is_some() && page.is_evictable() {
                return Some(at);
            }
        }
        None
    }

    /// Takes the map of a page away, if the page is clean and nobody uses it.
    #[inline(never)]
    fn take_map(&self, frame: u32) {
        let page = &self.frames()[frame as usize];
        if page.take_for_eviction().is_some() && self.settle_marks(frame) {
            page.restore();
        }
    }

    /// Unpins a page that was written back, and takes its map away if nobody uses it.
    #[inline(never)]
    pub(crate) fn retire_map(&self, frame: u32) {
        let has_map = self.frames()[frame as usize].dirty.map().is_some();
        self.unpin(Page { frame, len: 0 }, false);
        if has_map {
            self.take_map(frame);
        }
    }
}
