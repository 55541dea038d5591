//! Pages: found, fetched, pinned. The life of a miss, in the order in which resources are taken:
//! completion cell (with its transfer slot) → index entry → frame. Whoever waits for a frame holds
//! no lock, and whoever holds a frame waits for nothing but the host.

use crate::evict::Eviction;
use crate::file::File;
use crate::frame::PageKey;
use crate::frames::Room;
use crate::index::{Entry, PageIndex};
use crate::inflight::{IDLE, NO_FRAME, OWNED};
use crate::mount::Fs;
use crate::port::{Patience, Pool};
use crate::stats::Count;
use crate::writeback::Wrote;
use bytemuck::{Pod, Zeroable};
use gpu_abi::request::{WINDOW_DEVICE, WINDOW_SLOTS};
use gpu_abi::{Errno, Op, Request};
use gpu_rt::atomic::Ordering;
use gpu_rt::{Group, Thread};

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

/// How far a leader came, for its group.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Found {
    /// The page; in [`Found::DIRTY`] and [`Found::WASH`], that of another page, to be written back.
    pub(crate) page: Page,
    /// The cell that is still ours, unless it is [`NO_CELL`].
    pub(crate) cell: u32,
    /// One of the below.
    pub(crate) what: u32,
}

impl Found {
    /// The page is there, and pinned.
    pub(crate) const READY: u32 = 0;
    /// Its bytes are in the cell's transfer slot, its frame is BUSY.
    const SLOT: u32 = 1;
    /// Its frame is BUSY, and the caller, who writes all of it, fills it.
    pub(crate) const FRESH: u32 = 2;
    /// It is entered as being fetched, and for want of a clean page this one is to be written back
    /// first, by way of the cell.
    const DIRTY: u32 = 3;
    /// The same, but the page is not entered: the search begins anew after that.
    const WASH: u32 = 4;
}

pub(crate) const NO_CELL: u32 = u32::MAX;
/// How many pages whoever needs a frame tries to write back before it gives up.
const VICTIMS: u32 = 4;

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

    /// Looks for a page, and leaves it alone.
    pub(crate) fn locate_unpinned(&self, key: PageKey) -> Located {
        let located = self.locate(key);
        if let Located::Pinned(page) = located {
            self.unpin(page, false);
        }
        located
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
        Ok(self.pin_or_begin(group, file, number, false)?.page)
    }

    /// Pins page `number` of `file` for the group. If it is not there it is fetched, or, if it is to be
    /// `fresh`, left to the caller: [`Found::FRESH`].
    #[inline(never)]
    pub(crate) fn pin_or_begin<G: Group>(
        &self,
        group: &G,
        file: &File<I, E>,
        number: u32,
        fresh: bool,
    ) -> Result<Found, Errno> {
        let key = PageKey::new(file.version(), number);
        let mut found = self.by_leader(group, || {
            let located = self.locate(key);
            if let Located::Pinned(page) = located {
                self.note_hit(page);
                return Ok(Found { page, cell: NO_CELL, what: Found::READY });
            }
            self.find_or_begin::<G>(file, key, fresh, located)
        })?;
        let mut victims = 0;
        loop {
            match found.what {
                Found::SLOT => {
                    self.fill_from_slot(group, file, found)?;
                    found.page.len = self.valid_bytes(file, found.page.len);
                    if group.is_leader() {
                        self.publish_page(key, found.cell, found.page);
                    }
                    found.what = Found::READY;
                }
                Found::DIRTY | Found::WASH => {
                    victims += 1;
                    let written = self.write_back(group, found.page.frame, found.cell);
                    if written == Ok(Wrote::Lost) {
                        return Err(Errno::EIO);
                    }
                    found = self.by_leader(group, || {
                        self.let_others_write(found.page.frame, written);
                        // A page that cannot be written stays; another may go.
                        let written = if victims < VICTIMS { Ok(()) } else { written.map(drop) };
                        if found.what == Found::DIRTY {
                            return self.go_on::<G>(file, key, found.cell, fresh, written);
                        }
                        self.release_cell(found.cell);
                        written?;
                        self.find_or_begin::<G>(file, key, fresh, self.locate_again(key))
                    })?;
                    continue;
                }
                _ => {}
            }
            if file.is_live()
                && found.what == Found::READY
                && found.page.len < self.page_size() as u32
            {
                found.page.len = self.by_leader(group, || self.make_whole(found.page))?;
            }
            return Ok(found);
        }
    }

    /// Valid bytes of a page of which the host had `len`: where a file is written, all. Those past its end
    /// are zeroes.
    fn valid_bytes(&self, file: &File<I, E>, len: u32) -> u32 {
        if file.is_live() { self.page_size() as u32 } else { len }
    }

    /// Copies a page from the transfer slot to its frame.
    fn fill_from_slot<G: Group>(
        &self,
        group: &G,
        file: &File<I, E>,
        found: Found,
    ) -> Result<(), Errno> {
        let slot = self.region().slot(found.cell).ok_or(Errno::EPROTO)?;
        let data = self.frame_data(found.page.frame);
        let len = found.page.len as usize;
        let rest = self.valid_bytes(file, found.page.len) as usize - len;
        // SAFETY: the frame is BUSY and ours, the slot belongs to our cell, whose answer has come; both
        // hold a page, and `len` and `rest` together are at most that.
        unsafe {
            gpu_rt::mem::copy(group, data, slot, len);
            gpu_rt::mem::fill(group, data.add(len), 0, rest);
        }
        group.sync();
        Ok(())
    }

    /// A leader's part of [`Fs::pin_or_begin`], when the page is not in a frame. Not inlined: to find it
    /// there takes few registers.
    #[inline(never)]
    fn find_or_begin<G: Group>(
        &self,
        file: &File<I, E>,
        key: PageKey,
        fresh: bool,
        mut located: Located,
    ) -> Result<Found, Errno> {
        let mut patience = Patience::new();
        loop {
            match located {
                Located::Pinned(page) => {
                    self.note_hit(page);
                    return Ok(Found { page, cell: NO_CELL, what: Found::READY });
                }
                Located::InFlight { cell, turn } => {
                    let record = self.in_flight(cell);
                    if record.adopt(key.0) {
                        if let Some(found) = self.adopted(file, key, cell)? {
                            return Ok(found);
                        }
                    } else {
                        self.count(Count::Waits, 1);
                        patience.wait(self.region().header(), &record.turn, turn)?;
                        if let Some(e) = record.failure(turn) {
                            return Err(e);
                        }
                    }
                }
                Located::Absent => {
                    let cell = self.claim(self.read_pool())?;
                    if self.begin(key, cell, OWNED) {
                        self.count(Count::Misses, 1);
                        return self.go_on::<G>(file, key, cell, fresh, Ok(()));
                    }
                    self.release_cell(cell);
                    // Another thread was faster, or the page's old frame is on its way out.
                    patience.spin(self.region().header())?;
                }
            }
            located = self.locate_again(key);
        }
    }

    /// Goes on with a prefetched page that the caller has adopted. `None` if the prefetch had failed.
    #[inline(never)]
    fn adopted(&self, file: &File<I, E>, key: PageKey, cell: u32) -> Result<Option<Found>, Errno> {
        let record = self.in_flight(cell);
        if record.frame.load(Ordering::Relaxed) == NO_FRAME {
            // Through a slot: the frame comes last.
            match self.take_frame() {
                Ok(Room::Frame(frame)) => record.frame.store(frame, Ordering::Relaxed),
                Ok(Room::Dirty(frame)) => {
                    // This cell is taken by the read: the page waits until another one is written back by
                    // way of a cell of its own, which nobody may wait for while holding this.
                    record.give_up();
                    let page = Page { frame, len: 0 };
                    let cell = self.claim(Pool::Slots)?;
                    return Ok(Some(Found { page, cell, what: Found::WASH }));
                }
                Err(e) => {
                    self.globals().prefetches.fetch_sub(1, Ordering::Relaxed);
                    // The read may be under way still; its slot is ours until it ends.
                    self.wait_for_result(cell, record.tag.load(Ordering::Relaxed))?.ok();
                    record.fail(e);
                    self.abandon(key, cell, None);
                    return Err(e);
                }
            }
        }
        self.count(Count::Hits, 1);
        self.globals().prefetches.fetch_sub(1, Ordering::Relaxed);
        let found = self.finish_adopted(Some(file), cell)?;
        if found.is_some() {
            self.read_ahead(file, key.page());
        }
        Ok(found)
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

    /// Goes on with a page that [`Fs::begin`] entered: takes a frame and fetches it, unless it is to be
    /// fresh, or says which page is to be `written` back before.
    fn go_on<G: Group>(
        &self,
        file: &File<I, E>,
        key: PageKey,
        cell: u32,
        fresh: bool,
        written: Result<(), Errno>,
    ) -> Result<Found, Errno> {
        let frame = match written.and_then(|()| self.take_frame()) {
            Ok(Room::Frame(frame)) => frame,
            Ok(Room::Dirty(frame)) => {
                return Ok(Found { page: Page { frame, len: 0 }, cell, what: Found::DIRTY });
            }
            Err(e) => {
                self.in_flight(cell).fail(e);
                self.abandon(key, cell, None);
                return Err(e);
            }
        };
        if fresh {
            let len = self.page_size() as u32;
            return Ok(Found { page: Page { frame, len }, cell, what: Found::FRESH });
        }
        let tag = self.post::<G>(cell, self.read_request(file, key.page(), cell, frame))?;
        self.read_ahead(file, key.page());
        let answer = self.wait_for_result(cell, tag)?;
        if let Err(e) = answer {
            self.in_flight(cell).fail(e);
        }
        self.arrived(Some(file), key, cell, frame, answer)
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
        file: Option<&File<I, E>>,
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
        if !self.is_direct() {
            return Ok(Found { page: Page { frame, len }, cell, what: Found::SLOT });
        }
        let valid = file.map_or(len, |file| self.valid_bytes(file, len));
        // SAFETY: the frame is BUSY and ours, and a page long.
        unsafe {
            self.frame_data(frame).add(len as usize).write_bytes(0, (valid - len) as usize);
        }
        let page = Page { frame, len: valid };
        self.publish_page(key, cell, page);
        Ok(Found { page, cell: NO_CELL, what: Found::READY })
    }

    /// Finishes a prefetched page that has a frame: waits for its bytes. `None` if the prefetch had
    /// failed: the page is then absent again.
    fn finish_adopted(&self, file: Option<&File<I, E>>, cell: u32) -> Result<Option<Found>, Errno> {
        let record = self.in_flight(cell);
        let key = PageKey(record.key.load(Ordering::Relaxed));
        let frame = record.frame.load(Ordering::Relaxed);
        let answer = self.wait_for_result(cell, record.tag.load(Ordering::Relaxed))?;
        Ok(self.arrived(file, key, cell, frame, answer).ok())
    }

    /// As [`Fs::finish_adopted`], for a page that nobody came for: it joins the cache unpinned.
    pub(crate) fn settle_adopted(&self, cell: u32) -> Result<(), Errno> {
        let key = PageKey(self.in_flight(cell).key.load(Ordering::Relaxed));
        if let Some(found) = self.finish_adopted(None, cell)? {
            if found.what == Found::SLOT {
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
    pub(crate) fn publish_page(&self, key: PageKey, cell: u32, page: Page) {
        let frame = &self.frames()[page.frame as usize];
        E::filled(self.policy(), frame);
        frame.publish(key, page.len, 1);
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
}
