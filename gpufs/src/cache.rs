//! Pages: found, fetched, pinned. The life of a miss, in the order in which resources are taken:
//! completion cell (with its transfer slot) → index entry → frame. Whoever waits for a frame holds
//! no lock, and whoever holds a frame waits for nothing but the host.

use crate::evict::Eviction;
use crate::file::File;
use crate::frame::PageKey;
use crate::index::{Entry, PageIndex};
use crate::inflight::{IDLE, NO_FRAME, OWNED};
use crate::mount::Fs;
use crate::port::{Patience, Pool};
use crate::stats::Count;
use bytemuck::{Pod, Zeroable};
use gpu_abi::request::{WINDOW_DEVICE, WINDOW_SLOTS};
use gpu_abi::{Errno, Op, Request};
use gpu_rt::atomic::Ordering;
use gpu_rt::{Group, Thread};

/// How long to look for a frame, while nobody else gets one either, before saying `EBUSY`.
const BUSY_AFTER_NS: u64 = 200_000_000;
/// How long threads that wait for a frame trust others to tell them of one.
const LOOK_AGAIN_NS: u64 = 2_000_000;

/// A pinned page.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Page {
    pub(crate) frame: u32,
    /// Valid bytes: fewer than the page size at the end of the file.
    pub(crate) len: u32,
}

/// Where a page is.
pub(crate) enum Located {
    /// In a frame, and pinned now.
    Pinned(Page),
    /// Being fetched in this cell; its `turn` as last seen.
    InFlight { cell: u32, turn: u32 },
    /// Nowhere.
    Absent,
}

/// What a leader found, for its group.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Found {
    page: Page,
    /// The cell whose transfer slot still holds the bytes, or [`NO_CELL`].
    cell: u32,
}

const NO_CELL: u32 = u32::MAX;

impl<I: PageIndex, E: Eviction> Fs<I, E> {
    /// Looks for a page, and pins it if it is there.
    #[inline]
    pub(crate) fn locate(&self, key: PageKey) -> Located {
        let found = self.pages().find(key, |entry| {
            let number = entry.number();
            if entry.is_in_flight() {
                let record = self.in_flight(number);
                let turn = record.turn_of(key.0)?;
                Some(Located::InFlight { cell: number, turn })
            } else {
                let frame = self.frames().get(number as usize)?;
                let len = frame.try_pin(key)?;
                Some(Located::Pinned(Page { frame: number, len }))
            }
        });
        found.unwrap_or(Located::Absent)
    }

    /// As [`Fs::locate`], for those who have waited: not inlined, so that what it needs takes no
    /// registers of theirs.
    #[inline(never)]
    fn locate_again(&self, key: PageKey) -> Located {
        self.locate(key)
    }

    /// Pins a page if it is in the cache.
    #[inline]
    pub(crate) fn pin_if_cached(&self, key: PageKey) -> Option<Page> {
        let Located::Pinned(page) = self.locate(key) else { return None };
        self.note_hit(page);
        Some(page)
    }

    /// Tells the counters and the eviction policy of a hit.
    #[inline]
    fn note_hit(&self, page: Page) {
        self.count(Count::Hits, 1);
        E::used(self.policy(), &self.frames()[page.frame as usize]);
    }

    /// Pins page `number` of `file` for the group, fetching it if need be.
    pub(crate) fn pin<G: Group>(
        &self,
        group: &G,
        file: &File<I, E>,
        number: u32,
    ) -> Result<Page, Errno> {
        let key = PageKey::new(file.version(), number);
        let found = self.by_leader(group, || {
            let located = self.locate(key);
            if let Located::Pinned(page) = located {
                self.note_hit(page);
                return Ok(Found { page, cell: NO_CELL });
            }
            self.find_or_fetch::<G>(file, key, located)
        })?;
        if found.cell != NO_CELL {
            let slot = self.region().slot(found.cell).ok_or(Errno::EPROTO)?;
            let data = self.frame_data(found.page.frame);
            // SAFETY: the frame is BUSY and ours, the slot belongs to our cell, whose answer has
            // come; both hold a page, and `len` is at most that.
            unsafe { gpu_rt::mem::copy(group, data, slot, found.page.len as usize) };
            group.sync();
            if group.is_leader() {
                self.publish_page(key, found.cell, found.page);
            }
        }
        Ok(found.page)
    }

    /// A leader's part of [`Fs::pin`], when the page is not in a frame. Not inlined: to find it there
    /// takes few registers.
    #[inline(never)]
    fn find_or_fetch<G: Group>(
        &self,
        file: &File<I, E>,
        key: PageKey,
        mut located: Located,
    ) -> Result<Found, Errno> {
        let mut patience = Patience::new();
        loop {
            match located {
                Located::Pinned(page) => {
                    self.note_hit(page);
                    return Ok(Found { page, cell: NO_CELL });
                }
                Located::InFlight { cell, turn } => {
                    let record = self.in_flight(cell);
                    if record.adopt(key.0) {
                        self.count(Count::Hits, 1);
                        self.globals().prefetches.fetch_sub(1, Ordering::Relaxed);
                        if let Some(found) = self.finish_adopted(cell)? {
                            self.read_ahead(file, key.page());
                            return Ok(found);
                        }
                    } else {
                        self.count(Count::Waits, 1);
                        patience.wait(&self.region(), &record.turn, turn)?;
                        if let Some(e) = record.failure(turn) {
                            return Err(e);
                        }
                    }
                }
                Located::Absent => {
                    let cell = self.claim(self.read_pool())?;
                    if self.begin(key, cell, OWNED) {
                        self.count(Count::Misses, 1);
                        return self.fetch::<G>(file, key, cell);
                    }
                    self.release_cell(cell);
                    // Another thread was faster, or the page's old frame is on its way out.
                    patience.spin(&self.region())?;
                }
            }
            located = self.locate_again(key);
        }
    }

    /// The cells that page reads use.
    pub(crate) fn read_pool(&self) -> Pool {
        if self.is_direct() { Pool::Calls } else { Pool::Slots }
    }

    pub(crate) fn is_direct(&self) -> bool {
        self.header().window_base != 0
    }

    /// Enters the page as being fetched in `cell`, which the caller has claimed; `false` if it is in
    /// the index already.
    pub(crate) fn begin(&self, key: PageKey, cell: u32, state: u32) -> bool {
        let record = self.in_flight(cell);
        record.frame.store(NO_FRAME, Ordering::Relaxed);
        record.state.store(state, Ordering::Relaxed);
        record.set_key(key.0);
        let is_same = |entry: Entry| {
            let number = entry.number();
            if entry.is_in_flight() {
                self.in_flight(number).has_key(key.0)
            } else {
                self.frames()[number as usize].holds(key)
            }
        };
        // The release inside `insert` publishes the record.
        if self.pages().insert(key, Entry::in_flight(cell), is_same) {
            return true;
        }
        record.set_key(0);
        record.state.store(IDLE, Ordering::Relaxed);
        // An old entry of this cell may have led somebody here who now waits.
        record.change_turn();
        false
    }

    /// Fetches a page that [`Fs::begin`] entered, and waits for it.
    fn fetch<G: Group>(&self, file: &File<I, E>, key: PageKey, cell: u32) -> Result<Found, Errno> {
        let frame = match self.take_frame(true) {
            Ok(frame) => frame,
            Err(e) => {
                self.in_flight(cell).fail(e);
                self.abandon(key, cell, None);
                return Err(e);
            }
        };
        let tag = self.post::<G>(cell, self.read_request(file, key.page(), cell, frame))?;
        self.read_ahead(file, key.page());
        let answer = self.wait_for_result(cell, tag)?;
        if let Err(e) = answer {
            self.in_flight(cell).fail(e);
        }
        self.arrived(key, cell, frame, answer)
    }

    /// The request that reads a page into a frame, or into the cell's transfer slot.
    pub(crate) fn read_request(
        &self,
        file: &File<I, E>,
        page: u32,
        cell: u32,
        frame: u32,
    ) -> Request {
        let h = self.header();
        let (window, buf) = if self.is_direct() {
            (WINDOW_DEVICE, self.frame_data(frame) as u64 - h.window_base)
        } else {
            (WINDOW_SLOTS, u64::from(cell) * u64::from(h.slot_size))
        };
        Request {
            op: Op::Read as u8,
            window,
            handle: file.handle(),
            offset: u64::from(page) << h.page_shift,
            buf,
            len: self.page_size() as u32,
            ..Request::zeroed()
        }
    }

    /// The answer to a page's read is there: the page is published, unless it lies in a slot.
    fn arrived(
        &self,
        key: PageKey,
        cell: u32,
        frame: u32,
        answer: Result<u64, Errno>,
    ) -> Result<Found, Errno> {
        let len = match answer {
            Ok(len) => len.min(self.page_size() as u64) as u32,
            Err(e) => {
                self.abandon(key, cell, Some(frame));
                return Err(e);
            }
        };
        self.count(Count::BytesFetched, u64::from(len));
        let page = Page { frame, len };
        if !self.is_direct() {
            return Ok(Found { page, cell });
        }
        self.publish_page(key, cell, page);
        Ok(Found { page, cell: NO_CELL })
    }

    /// Takes over a prefetched page: waits for its bytes. `None` if the prefetch had failed: the
    /// page is then absent again.
    fn finish_adopted(&self, cell: u32) -> Result<Option<Found>, Errno> {
        let record = self.in_flight(cell);
        let key = PageKey(record.key.load(Ordering::Relaxed));
        let frame = match record.frame.load(Ordering::Relaxed) {
            // Through a slot: the frame comes last.
            NO_FRAME => match self.take_frame(true) {
                Ok(frame) => frame,
                Err(e) => {
                    // The read may be under way still; its slot is ours until it ends.
                    self.wait_for_result(cell, record.tag.load(Ordering::Relaxed))?.ok();
                    record.fail(e);
                    self.abandon(key, cell, None);
                    return Err(e);
                }
            },
            frame => frame,
        };
        let answer = self.wait_for_result(cell, record.tag.load(Ordering::Relaxed))?;
        Ok(self.arrived(key, cell, frame, answer).ok())
    }

    /// As [`Fs::finish_adopted`], for a page that nobody came for: it joins the cache unpinned.
    pub(crate) fn settle_adopted(&self, cell: u32) -> Result<(), Errno> {
        let key = PageKey(self.in_flight(cell).key.load(Ordering::Relaxed));
        if let Some(found) = self.finish_adopted(cell)? {
            if found.cell != NO_CELL {
                let slot = self.region().slot(cell).ok_or(Errno::EPROTO)?;
                let data = self.frame_data(found.page.frame);
                // SAFETY: as in `pin`, by this thread alone.
                unsafe { gpu_rt::mem::copy(&Thread, data, slot, found.page.len as usize) };
                self.publish_page(key, cell, found.page);
            }
            self.unpin(found.page, false);
        }
        Ok(())
    }

    /// BUSY frame → READY with one pin, in the index; the cell is given back.
    fn publish_page(&self, key: PageKey, cell: u32, page: Page) {
        self.frames()[page.frame as usize].publish(key, page.len, 1);
        self.pages().replace(key, Entry::in_flight(cell), Entry::frame(page.frame));
        self.retire(cell);
    }

    /// Undoes [`Fs::begin`]: the page is absent again.
    pub(crate) fn abandon(&self, key: PageKey, cell: u32, frame: Option<u32>) {
        self.pages().remove(key, Entry::in_flight(cell));
        if let Some(frame) = frame {
            self.put_frame(frame);
        }
        self.retire(cell);
    }

    #[inline]
    fn retire(&self, cell: u32) {
        let record = self.in_flight(cell);
        // After the index: rule 4 of `PageIndex`.
        record.set_key(0);
        record.state.store(IDLE, Ordering::Relaxed);
        record.change_turn();
        self.release_cell(cell);
    }

    /// A BUSY frame for the caller: a free one, or an evicted page's. Waits if `wait`.
    pub(crate) fn take_frame(&self, wait: bool) -> Result<u32, Errno> {
        let globals = self.globals();
        // Where others wait already there is nothing to be found by looking.
        let queue = globals.frame_waiters.load(Ordering::Relaxed) != 0;
        let taken = match if queue { None } else { self.try_take_frame() } {
            Some(frame) => Ok(frame),
            None if wait => self.wait_for_frame(),
            None => Err(Errno::EAGAIN),
        };
        if taken.is_ok() {
            globals.taken.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// As [`Fs::take_frame`], in a queue. To look through all frames is dear, so only as many threads
    /// look as frames came free.
    fn wait_for_frame(&self) -> Result<u32, Errno> {
        let globals = self.globals();
        // Who comes first looks once more: frames that came free before were granted to nobody.
        let mut look = globals.frame_waiters.fetch_add(1, Ordering::Relaxed) == 0;
        let mut progress = (globals.taken.load(Ordering::Relaxed), gpu_rt::clock());
        let outcome = loop {
            let ticket = globals.frame_tickets.fetch_add(1, Ordering::Relaxed);
            if !look {
                let waited = self.wait_for_grant(ticket, &mut progress);
                let hint = globals.granted[ticket as usize % globals.granted.len()]
                    .load(Ordering::Relaxed);
                if let Some(frame) = self.try_evict(hint) {
                    break Ok(frame);
                }
                if let Err(e) = waited {
                    break Err(e);
                }
            }
            look = false;
            if let Some(frame) = self.try_take_frame() {
                break Ok(frame);
            }
            self.reap_prefetches();
        };
        globals.frame_waiters.fetch_sub(1, Ordering::Relaxed);
        outcome
    }

    /// Waits until a frame was granted to `ticket`, or until no thread has got one for a while.
    /// `progress` is the count of frames taken, and when it last changed.
    ///
    /// # Errors
    /// `EBUSY` if that has been so for long: pins of other threads pass, but those that everybody
    /// holds while waiting for more do not.
    fn wait_for_grant(&self, ticket: u32, progress: &mut (u32, u64)) -> Result<(), Errno> {
        let globals = self.globals();
        let began = gpu_rt::clock();
        let mut grants = globals.frame_grants.load(Ordering::Relaxed);
        // Modulo 2^32: they are never half of that apart.
        while (grants.wrapping_sub(ticket) as i32) <= 0 {
            grants = gpu_rt::wait_while_eq(&globals.frame_grants, grants, LOOK_AGAIN_NS);
            let (now, taken) = (gpu_rt::clock(), globals.taken.load(Ordering::Relaxed));
            if taken != progress.0 {
                *progress = (taken, now);
            } else if now - progress.1 > BUSY_AFTER_NS {
                return Err(Errno::EBUSY);
            } else if now - progress.1.max(began) > LOOK_AGAIN_NS {
                break;
            }
        }
        Ok(())
    }

    /// A frame has come free, or can be evicted now: the next of those who wait may look.
    fn frame_came_free(&self, frame: u32) {
        let globals = self.globals();
        // Relaxed, all of it: a waiter that is missed here looks by itself before long.
        if globals.frame_waiters.load(Ordering::Relaxed) == 0 {
            return;
        }
        let grants = globals.frame_grants.load(Ordering::Relaxed);
        if (grants.wrapping_sub(globals.frame_tickets.load(Ordering::Relaxed)) as i32) < 0 {
            globals.granted[grants as usize % globals.granted.len()]
                .store(frame, Ordering::Relaxed);
            globals.frame_grants.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes this frame, if it holds a page that nobody has pinned.
    fn try_evict(&self, frame: u32) -> Option<u32> {
        let record = self.frames().get(frame as usize)?;
        let key = record.take_for_eviction()?;
        self.count(Count::Evictions, 1);
        self.pages().remove(key, Entry::frame(frame));
        record.forget();
        Some(frame)
    }

    pub(crate) fn try_take_frame(&self) -> Option<u32> {
        if let Some(frame) = self.pop_free() {
            self.frames()[frame as usize].take_free();
            return Some(frame);
        }
        let frames = self.frames();
        let globals = self.globals();
        if globals.fresh.load(Ordering::Relaxed) < frames.len() as u32 {
            let fresh = globals.fresh.fetch_add(1, Ordering::Relaxed);
            if let Some(frame) = frames.get(fresh as usize) {
                frame.take_free();
                return Some(fresh);
            }
            // Do not let the counter run on and wrap.
            globals.fresh.store(frames.len() as u32, Ordering::Relaxed);
        }
        // Twice around: once to take second chances away, once to take a page.
        for _ in 0..2 * frames.len() {
            let Some(at) = E::propose(self.policy(), frames) else { continue };
            if let Some(frame) = self.try_evict(at) {
                return Some(frame);
            }
        }
        None
    }

    /// BUSY frame → free.
    fn put_frame(&self, frame: u32) {
        self.frames()[frame as usize].put_free();
        self.push_free(frame);
        self.frame_came_free(frame);
    }

    fn pop_free(&self) -> Option<u32> {
        let free = &self.globals().free;
        // Acquire: pairs with `push_free`'s release, for `next_free` and all its last owner did.
        let mut head = free.load(Ordering::Acquire);
        loop {
            let frame = (head as u32).checked_sub(1)?;
            let next = self.frames()[frame as usize].next_free.load(Ordering::Relaxed);
            // The tag makes a head that came back after a pop and a push a different one.
            let new = (head >> 32).wrapping_add(1) << 32 | u64::from(next);
            match free.compare_exchange(head, new, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Some(frame),
                Err(now) => head = now,
            }
        }
    }

    fn push_free(&self, frame: u32) {
        let free = &self.globals().free;
        let mut head = free.load(Ordering::Relaxed);
        loop {
            self.frames()[frame as usize].next_free.store(head as u32, Ordering::Relaxed);
            let new = (head >> 32).wrapping_add(1) << 32 | u64::from(frame + 1);
            // Release: pairs with `pop_free`'s acquire.
            match free.compare_exchange(head, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Gives a pin back. If `drop_page`, a page that nobody else uses leaves the cache at once, and
    /// its frame, still warm in the processor's caches, is the next to be filled.
    pub(crate) fn unpin(&self, page: Page, drop_page: bool) {
        let frame = &self.frames()[page.frame as usize];
        if !frame.unpin() {
            return;
        }
        if drop_page && let Some(key) = frame.take_for_eviction() {
            self.pages().remove(key, Entry::frame(page.frame));
            self.put_frame(page.frame);
        } else {
            self.frame_came_free(page.frame);
        }
    }
}
