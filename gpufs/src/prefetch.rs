//! Pages fetched before anybody asks: sequential read-ahead, and the start of asynchronous reads.
//!
//! A prefetched page stays in its request's cell (and transfer slot) until it is first touched: who
//! touches it adopts the request and finishes it. At most a quarter of the cells may be so taken. A ring
//! remembers them; when no more may be begun, or a frame is wanted that one may have, those that have arrived
//! join the cache.

use crate::cache::Located;
use crate::evict::Eviction;
use crate::file::File;
use crate::frame::PageKey;
use crate::index::PageIndex;
use crate::inflight::{AHEAD, IDLE, NO_FRAME, STARTING};
use crate::mount::Fs;
use crate::stats::Count;
use gpu_abi::Errno;
use gpu_rt::Thread;
use gpu_rt::atomic::Ordering;

/// Pages that sequential reading keeps ahead of the reader, at most.
const MAX_WINDOW: u32 = 16;

impl<I: PageIndex, E: Eviction> Fs<I, E> {
    /// Starts to fetch a page without waiting for anything.
    ///
    /// # Errors
    /// `EAGAIN` if that needs something that is not free now.
    pub(crate) fn prefetch_page(&self, file: &File<I, E>, number: u32) -> Result<(), Errno> {
        let key = PageKey::new(file.version(), number);
        match self.locate(key) {
            Located::Pinned(page) => {
                self.unpin(page, false);
                return Ok(());
            }
            Located::InFlight { .. } => return Ok(()),
            Located::Absent => {}
        }
        let globals = self.globals();
        let quota = self.header().prefetch_quota;
        if globals.prefetches.fetch_add(1, Ordering::Relaxed) >= quota {
            globals.prefetches.fetch_sub(1, Ordering::Relaxed);
            self.reap_prefetches();
            return Err(Errno::EAGAIN);
        }
        let begun = self.try_begin(key);
        let Ok((cell, frame)) = begun else {
            globals.prefetches.fetch_sub(1, Ordering::Relaxed);
            return begun.map(drop);
        };
        let record = self.in_flight(cell);
        record.frame.store(frame, Ordering::Relaxed);
        let request = self.read_request(file, number, cell, frame);
        match self.post_alone(cell, request) {
            Ok(tag) => record.tag.store(tag, Ordering::Relaxed),
            Err(e) => {
                globals.prefetches.fetch_sub(1, Ordering::Relaxed);
                return Err(e);
            }
        }
        self.count(Count::Prefetches, 1);
        // Release: pairs with `adopt`. Whoever waits already may adopt now.
        record.state.store(AHEAD, Ordering::Release);
        record.change_turn();
        self.remember(cell);
        Ok(())
    }

    /// A cell, an index entry and, for direct reads, a frame, without waiting.
    #[inline(never)]
    fn try_begin(&self, key: PageKey) -> Result<(u32, u32), Errno> {
        let cell = self.try_claim(self.read_pool()).ok_or(Errno::EAGAIN)?;
        if !self.begin(key, cell, STARTING) {
            self.release_cell(cell);
            return Err(Errno::EAGAIN);
        }
        if !self.is_direct() {
            return Ok((cell, NO_FRAME));
        }
        match self.take_clean_frame() {
            Ok(frame) => Ok((cell, frame)),
            Err(e) => {
                self.abandon(key, cell, NO_FRAME);
                Err(e)
            }
        }
    }

    /// Notes a prefetch in the ring, in a place whose note can be forgotten: there are as many as there can be
    /// prefetches. A note that stands in its way moves on to the next place.
    #[inline(never)]
    fn remember(&self, cell: u32) {
        let ring = self.prefetch_ring();
        // A cell's requests have different tags.
        let tag = self.in_flight(cell).tag.load(Ordering::Relaxed);
        let mut noted = u64::from(tag) << 32 | u64::from(cell + 1);
        for _ in ring {
            let next = self.globals().prefetch_next.fetch_add(1, Ordering::Relaxed);
            // AcqRel: pairs with itself, for the tag and the state of the record that is noted there.
            noted = ring[next as usize % ring.len()].swap(noted, Ordering::AcqRel);
            if self.is_gone(noted) {
                return;
            }
        }
    }

    /// Whether what was noted is no prefetch any more. Who has adopted one may give it up again.
    fn is_gone(&self, noted: u64) -> bool {
        (noted as u32).checked_sub(1).is_none_or(|cell| {
            let record = self.in_flight(cell);
            record.tag.load(Ordering::Relaxed) != (noted >> 32) as u32
                || record.state.load(Ordering::Relaxed) == IDLE
        })
    }

    /// Lets prefetched pages that have arrived, and that nobody touched, join the cache, so that
    /// others can be asked for. Who waits for a cell need not: they have a quarter of them at most.
    pub(crate) fn reap_prefetches(&self) {
        if self.globals().prefetches.load(Ordering::Relaxed) == 0 {
            return;
        }
        for place in self.prefetch_ring() {
            if let Some(cell) = self.adopt_noted(place.load(Ordering::Relaxed)) {
                if self.is_direct() { self.join(cell) } else { self.join_from_slot(cell) }
            }
        }
    }

    /// As [`Fs::reap_prefetches`], for those who found no frame: where pages come by way of slots, a prefetched
    /// one has none to give.
    #[inline(never)]
    pub(crate) fn reap_frames(&self) {
        if !self.is_direct() || self.globals().prefetches.load(Ordering::Relaxed) == 0 {
            return;
        }
        for place in self.prefetch_ring() {
            if let Some(cell) = self.adopt_noted(place.load(Ordering::Relaxed)) {
                self.join(cell);
            }
        }
    }

    /// An adopted prefetch that has arrived in its frame joins the cache, unpinned.
    fn join(&self, cell: u32) {
        self.globals().prefetches.fetch_sub(1, Ordering::Relaxed);
        // This does not wait; an error leaves the page absent.
        if let Ok(Some(found)) = self.finish_adopted(cell) {
            self.unpin(found.page, false);
        }
    }

    /// The same, for one that has arrived in a slot. It is nobody's again if there is no frame for it without
    /// waiting.
    fn join_from_slot(&self, cell: u32) {
        let record = self.in_flight(cell);
        let Some(frame) = self.try_take_frame() else { return record.give_up() };
        record.frame.store(frame, Ordering::Relaxed);
        let key = PageKey(record.key.load(Ordering::Relaxed));
        self.globals().prefetches.fetch_sub(1, Ordering::Relaxed);
        if let Ok(Some(found)) = self.finish_adopted(cell) {
            match self.fill_from_slot(&Thread, found, 0) {
                Ok(()) => {
                    self.publish_page(key, cell, found.page);
                    self.unpin(found.page, false);
                }
                Err(_) => self.abandon(key, cell, frame),
            }
        }
    }

    /// Adopts a noted prefetch that has arrived.
    fn adopt_noted(&self, noted: u64) -> Option<u32> {
        if self.is_gone(noted) {
            return None;
        }
        let (cell, tag) = (noted as u32 - 1, (noted >> 32) as u32);
        let record = self.in_flight(cell);
        let key = record.key.load(Ordering::Relaxed);
        if !self.is_answered(cell, tag) || !record.adopt(key) {
            return None;
        }
        // The cell may have come to another prefetch since, which has not arrived.
        if record.tag.load(Ordering::Relaxed) != tag {
            record.give_up();
            return None;
        }
        Some(cell)
    }

    /// Called when page `number` of `file` was fetched: keeps some pages ahead of a reader who
    /// goes through the file from page to page.
    pub(crate) fn read_ahead(&self, file: &File<I, E>, number: u32) {
        if !file.reads_ahead() {
            return;
        }
        let record = file.record();
        let is_next = record.next_page.swap(number.wrapping_add(1), Ordering::Relaxed) == number;
        if !is_next || number == 0 {
            record.window.store(0, Ordering::Relaxed);
            record.ahead.store(number, Ordering::Relaxed);
            return;
        }
        let window = (record.window.load(Ordering::Relaxed) * 2).clamp(2, MAX_WINDOW);
        record.window.store(window, Ordering::Relaxed);
        let begun = record.ahead.load(Ordering::Relaxed).max(number);
        let end = file.size().div_ceil(self.page_size() as u64).min(u64::from(u32::MAX)) as u32;
        let goal = number.saturating_add(window).min(end.saturating_sub(1));
        // In batches of half a window.
        if begun >= number.saturating_add(window / 2) {
            return;
        }
        for page in begun + 1..=goal {
            if self.prefetch_page(file, page).is_err() {
                break;
            }
            record.ahead.store(page, Ordering::Relaxed);
        }
    }
}
