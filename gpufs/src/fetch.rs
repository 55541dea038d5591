//! Pages that are not there: entered, fetched, published. The life of a miss, in the order in which
//! resources are taken: completion cell (with its transfer slot) → index entry → frame. Whoever waits for a
//! frame holds no lock, and whoever holds a frame waits for nothing but the host.

use crate::cache::{Found, Located, Page};
use crate::evict::Eviction;
use crate::file::File;
use crate::frame::PageKey;
use crate::frames::Room;
use crate::index::{Entry, PageIndex};
use crate::inflight::{IDLE, NO_FRAME, OWNED};
use crate::mount::Fs;
use crate::port::{Patience, Pool};
use crate::stats::Count;
use bytemuck::Zeroable;
use gpu_abi::request::{WINDOW_DEVICE, WINDOW_SLOTS};
use gpu_abi::{Errno, Op, Request};
use gpu_rt::Group;
use gpu_rt::atomic::Ordering;

/// What a leader who fetches a page has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Look for it.
    Search,
    /// Somebody fetches it: wait for that, or adopt it.
    Join,
    /// Enter it as being fetched.
    Enter,
    /// Find a frame for it.
    TakeFrame,
    /// Ask the host for it.
    Read,
    /// Find a frame for an adopted prefetch.
    TakeFrameForAdopted,
    /// Wait for an adopted prefetch.
    ReceiveAdopted,
    /// Claim a cell by way of which another page is written back.
    ClaimForWash,
    /// Nothing more.
    Done,
}

/// A page on its way to a frame, as a leader works on it.
///
/// It lies in memory, and the steps are called one after the other from one place: on a GPU a kernel and all
/// that it calls share one set of registers, so that what a step kept while it called the next would
/// be missing further down, where frames are looked for.
struct Fetch<'a, I: PageIndex, E: Eviction> {
    file: &'a File<I, E>,
    key: PageKey,
    /// Whether the caller fills the page, all of it.
    fresh: bool,
    /// The cell that it is fetched by.
    cell: u32,
    /// While another fetches it: the turn to wait for the end of.
    turn: u32,
    /// The tag of the request for it.
    tag: u32,
    /// What the group is told in the end.
    found: Found,
    patience: Patience,
}

impl<I: PageIndex, E: Eviction> File<I, E> {
    /// A leader's part of [`File::pin_or_begin`], when the page is not in a frame. If it is entered as being
    /// fetched already, `cell` is by which.
    #[inline(never)]
    pub(crate) fn fetch<G: Group>(
        &self,
        number: u32,
        fresh: bool,
        cell: u32,
        mut step: Step,
    ) -> Result<Found, Errno> {
        let mut fetch = Fetch {
            file: self,
            key: PageKey::new(self.version(), number),
            fresh,
            cell,
            turn: 0,
            tag: 0,
            found: Found::ready(Page::zeroed()),
            patience: Patience::new(),
        };
        loop {
            step = match step {
                Step::Search => fetch.search()?,
                Step::Join => fetch.join()?,
                Step::Enter => fetch.enter()?,
                Step::TakeFrame => {
                    let room = self.fs.take_frame();
                    fetch.with_room(room)?
                }
                Step::Read => {
                    fetch.post::<G>()?;
                    fetch.read_ahead();
                    fetch.receive()?
                }
                Step::TakeFrameForAdopted => {
                    let room = self.fs.take_frame();
                    fetch.adopted_with_room(room)?
                }
                Step::ReceiveAdopted => {
                    let step = fetch.receive_adopted()?;
                    if step == Step::Done {
                        fetch.read_ahead();
                    }
                    step
                }
                Step::ClaimForWash => fetch.claim_for_wash()?,
                Step::Done => return Ok(fetch.found),
            };
        }
    }
}

impl<I: PageIndex, E: Eviction> Fetch<'_, I, E> {
    #[inline(never)]
    fn search(&mut self) -> Result<Step, Errno> {
        let fs = &self.file.fs;
        Ok(match fs.locate(self.key) {
            Located::Pinned(page) => {
                fs.note_hit(page);
                self.found = Found::ready(self.file.as_it_is(page));
                Step::Done
            }
            Located::InFlight { cell, turn } => {
                (self.cell, self.turn) = (cell, turn);
                Step::Join
            }
            Located::Absent => Step::Enter,
        })
    }

    #[inline(never)]
    fn join(&mut self) -> Result<Step, Errno> {
        let fs = &self.file.fs;
        let record = fs.in_flight(self.cell);
        if record.adopt(self.key.0) {
            // Through a slot: the frame comes last.
            let has_frame = record.frame.load(Ordering::Relaxed) != NO_FRAME;
            return Ok(if has_frame { Step::ReceiveAdopted } else { Step::TakeFrameForAdopted });
        }
        fs.count(Count::Waits, 1);
        self.patience.wait(fs.region().header(), &record.turn, self.turn)?;
        match record.failure(self.turn) {
            Some(e) => Err(e),
            None => Ok(Step::Search),
        }
    }

    #[inline(never)]
    fn enter(&mut self) -> Result<Step, Errno> {
        let fs = &self.file.fs;
        let cell = fs.claim(fs.read_pool())?;
        self.cell = cell;
        if fs.begin(self.key, cell, OWNED) {
            fs.count(Count::Misses, 1);
            return Ok(Step::TakeFrame);
        }
        fs.release_cell(cell);
        // Another thread was faster, or the page's old frame is on its way out.
        self.patience.spin(fs.region().header())?;
        Ok(Step::Search)
    }

    #[inline(never)]
    fn with_room(&mut self, room: Result<Room, Errno>) -> Result<Step, Errno> {
        let fs = &self.file.fs;
        match room {
            Ok(Room::Frame(frame)) => {
                if !self.fresh {
                    self.found.page.frame = frame;
                    return Ok(Step::Read);
                }
                let page = Page { frame, len: fs.page_size() as u32 };
                self.found = Found { page, cell: self.cell, what: Found::FRESH };
                Ok(Step::Done)
            }
            Ok(Room::Dirty(frame)) => {
                let page = Page { frame, len: 0 };
                self.found = Found { page, cell: self.cell, what: Found::DIRTY };
                Ok(Step::Done)
            }
            Err(e) => Err(fs.fail(self.key, self.cell, NO_FRAME, e)),
        }
    }

    #[inline(never)]
    fn post<G: Group>(&mut self) -> Result<(), Errno> {
        let fs = &self.file.fs;
        let request = fs.read_request(self.file, self.key.page(), self.cell, self.found.page.frame);
        self.tag = fs.post::<G>(self.cell, request)?;
        Ok(())
    }

    #[inline(never)]
    fn read_ahead(&self) {
        self.file.fs.read_ahead(self.file, self.key.page());
    }

    #[inline(never)]
    fn receive(&mut self) -> Result<Step, Errno> {
        let fs = &self.file.fs;
        let (cell, frame) = (self.cell, self.found.page.frame);
        match fs.wait_for_result(cell, self.tag)? {
            Ok(len) => {
                self.found = fs.arrived(self.key, cell, frame, len);
                Ok(Step::Done)
            }
            Err(e) => Err(fs.fail(self.key, cell, frame, e)),
        }
    }

    #[inline(never)]
    fn adopted_with_room(&mut self, room: Result<Room, Errno>) -> Result<Step, Errno> {
        let fs = &self.file.fs;
        let record = fs.in_flight(self.cell);
        match room {
            Ok(Room::Frame(frame)) => {
                record.frame.store(frame, Ordering::Relaxed);
                Ok(Step::ReceiveAdopted)
            }
            Ok(Room::Dirty(frame)) => {
                // This cell is taken by the read: the page waits until another one is written back by
                // way of a cell of its own, which nobody may wait for while holding this.
                record.give_up();
                self.found.page.frame = frame;
                Ok(Step::ClaimForWash)
            }
            Err(e) => {
                fs.globals().prefetches.fetch_sub(1, Ordering::Relaxed);
                // The read may be under way still; its slot is ours until it ends.
                fs.wait_for_result(self.cell, record.tag.load(Ordering::Relaxed))?.ok();
                Err(fs.fail(self.key, self.cell, NO_FRAME, e))
            }
        }
    }

    #[inline(never)]
    fn receive_adopted(&mut self) -> Result<Step, Errno> {
        let fs = &self.file.fs;
        fs.count(Count::Hits, 1);
        fs.globals().prefetches.fetch_sub(1, Ordering::Relaxed);
        match fs.finish_adopted(self.cell)? {
            Some(found) => {
                self.found = found;
                Ok(Step::Done)
            }
            // The prefetch had failed.
            None => Ok(Step::Search),
        }
    }

    #[inline(never)]
    fn claim_for_wash(&mut self) -> Result<Step, Errno> {
        self.found.cell = self.file.fs.claim(Pool::Slots)?;
        self.found.what = Found::WASH;
        Ok(Step::Done)
    }
}

impl<I: PageIndex, E: Eviction> Fs<I, E> {
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
        // Not that of a prefetch any more.
        record.tag.store(0, Ordering::Relaxed);
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

    /// Undoes [`Fs::begin`], and tells those who wait for the page why; the caller too.
    #[inline(never)]
    pub(crate) fn fail(&self, key: PageKey, cell: u32, frame: u32, e: Errno) -> Errno {
        self.in_flight(cell).fail(e);
        self.abandon(key, cell, frame);
        e
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

    /// A page of `len` bytes has come by way of a cell: it is published, unless it lies in a slot.
    fn arrived(&self, key: PageKey, cell: u32, frame: u32, len: u64) -> Found {
        let page = Page { frame, len: len.min(self.page_size() as u64) as u32 };
        self.count(Count::BytesFetched, u64::from(page.len));
        if !self.is_direct() {
            return Found { page, cell, what: Found::SLOT };
        }
        self.publish_page(key, cell, page);
        Found::ready(page)
    }

    /// Finishes a prefetched page that has a frame: waits for its bytes. `None` if the prefetch had
    /// failed: the page is then absent again.
    pub(crate) fn finish_adopted(&self, cell: u32) -> Result<Option<Found>, Errno> {
        let record = self.in_flight(cell);
        let key = PageKey(record.key.load(Ordering::Relaxed));
        let frame = record.frame.load(Ordering::Relaxed);
        Ok(match self.wait_for_result(cell, record.tag.load(Ordering::Relaxed))? {
            Ok(len) => Some(self.arrived(key, cell, frame, len)),
            Err(_) => {
                self.abandon(key, cell, frame);
                None
            }
        })
    }

    /// BUSY frame → READY with one pin, in the index; the cell is given back.
    pub(crate) fn publish_page(&self, key: PageKey, cell: u32, page: Page) {
        let frame = &self.frames()[page.frame as usize];
        E::filled(self.policy(), frame);
        frame.publish(key, page.len, 1);
        self.pages().replace(key, Entry::in_flight(cell), Entry::frame(page.frame));
        self.retire(cell);
    }

    /// Undoes [`Fs::begin`]: the page is absent again, and the frame, unless it is [`NO_FRAME`], free.
    pub(crate) fn abandon(&self, key: PageKey, cell: u32, frame: u32) {
        self.pages().remove(key, Entry::in_flight(cell));
        if frame != NO_FRAME {
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
