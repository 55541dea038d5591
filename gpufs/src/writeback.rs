//! Dirty bytes: marking them, and bringing them to the file.
//!
//! One request carries an *extent*: the dirty bytes of a page and of the dirty pages that follow it in
//! the file. Where the host can address device memory it is told where the bytes are; elsewhere the group
//! packs them into the transfer slot of the one cell that it holds. Only bytes that were written here are
//! written there: others may have written those beside them.

use crate::cache::{Located, NO_CELL, Page};
use crate::dirty::{ByteMap, Dirty, Marked, Marks};
use crate::evict::Eviction;
use crate::frame::{Frame, PageKey};
use crate::index::PageIndex;
use crate::mount::Fs;
use crate::port::{Patience, Pool};
use crate::stats::Count;
use bytemuck::{Pod, Zeroable};
use gpu_abi::request::{RUNS_BYTES_MAX, RUNS_MAX, Run, WINDOW_DEVICE, WINDOW_SLOTS};
use gpu_abi::{Errno, Op, Request};
use gpu_rt::atomic::Ordering;
use gpu_rt::{Group, mem};

/// Pages of one extent.
const MAX_PAGES: usize = 32;
/// The longest piece of one request in device memory (clause V5).
const MAX_PIECE: u32 = 2 << 20;

/// What became of an attempt to write a page back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrote {
    /// What was dirty when it began is in the file.
    All,
    /// Some of it is: more than one request takes, or than the host took.
    Some,
    /// Another thread has the page's lock: wait while it has this value.
    Locked(u32),
    /// The host is gone. What it was asked for may still be done: the cell is not to be used again.
    Lost,
}

/// The leader's notes on an extent. In the other threads it stays empty.
struct Extent {
    /// Locked and pinned frames; their pages follow each other in the file.
    frames: [u32; MAX_PAGES],
    count: u32,
    /// The first page's key.
    first: PageKey,
    record: u32,
    handle: u32,
    /// Where in the present page's map to go on; its end if there is no more.
    map_at: u32,
    /// The page that pieces come from now, and its marks.
    page: u32,
    marks: Marks,
    /// Whether more than fits was found.
    more: bool,
    /// Pieces so far. The last one is here until another one begins, the others in the table.
    runs: u32,
    last: Run,
    /// Bytes so far.
    bytes: u64,
    /// Of the cell: its slot, or null, and the slot's place in the window.
    slot: *mut u8,
    slot_at: u64,
    most_bytes: u64,
    most_runs: u32,
}

/// What a leader tells its group after each step.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Step {
    errno: u32,
    what: u32,
    lock: u32,
    reserved: u32,
}

impl Step {
    /// A piece was copied; there may be another.
    const PIECE: u32 = 0;
    const ALL: u32 = 1;
    const SOME: u32 = 2;
    const LOCKED: u32 = 3;
    const LOST: u32 = 4;
}

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
        let page = &self.frames()[frame as usize];
        // Before the marks: whoever sees them sees whose they are. All who write the page have one record.
        page.owner.store(record, Ordering::Relaxed);
        loop {
            match page.dirty.mark(start, end) {
                Marked::Again => return Ok(()),
                Marked::First => {
                    self.note_dirty(record);
                    return Ok(());
                }
                Marked::NeedsBits(map) => {
                    self.byte_map(map).set(start, end);
                    if page.dirty.raise() {
                        self.note_dirty(record);
                    }
                    return Ok(());
                }
                Marked::NeedsMap(seen) => match self.map_bits().claim(frame) {
                    Some(map) => {
                        let (a, b) = Dirty::range_of(seen);
                        self.byte_map(map).set(a, b);
                        if !page.dirty.attach(seen, map) {
                            self.byte_map(map).take_runs(0, |_, _| true);
                            self.map_bits().release(map);
                        }
                    }
                    // No map is left: what is dirty goes to the file now, and this begins a new range.
                    None => self.write_back_alone(frame)?,
                },
            }
        }
    }

    fn note_dirty(&self, record: u32) {
        self.open_file(record).dirty_pages.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives the map of a BUSY frame back, which has no marks.
    pub(crate) fn detach_map(&self, frame: u32) {
        let page = &self.frames()[frame as usize];
        if let Some(map) = page.dirty.map() {
            page.dirty.detach();
            // There are none, unless a mark was taken back; a map that is free has no bits.
            self.byte_map(map).take_runs(0, |_, _| true);
            self.map_bits().release(map);
        }
    }

    /// Makes the bytes past the end of the file, in the page that was its last when it was fetched,
    /// valid: zeroes. The caller has pinned it. The valid bytes after that.
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
                    self.frame_data(page.frame)
                        .add(len as usize)
                        .write_bytes(0, (whole - len) as usize);
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
                patience.wait(&self.region(), frame.lock_word(), seen)?;
            }
        }
        Ok(())
    }

    /// Writes a page back by one thread, with a cell of its own, until no mark of before is left.
    fn write_back_alone(&self, frame: u32) -> Result<(), Errno> {
        let mut cell = self.claim(Pool::Slots)?;
        let outcome = self.write_back_page(&gpu_rt::Thread, frame, &mut cell);
        if cell != NO_CELL {
            self.release_cell(cell);
        }
        outcome
    }

    /// Writes a page back, until no mark of before is left. Sets `cell` to [`NO_CELL`] if it is lost.
    pub(crate) fn write_back_page<G: Group>(
        &self,
        group: &G,
        frame: u32,
        cell: &mut u32,
    ) -> Result<(), Errno> {
        let mut patience = Patience::new();
        loop {
            match self.write_back(group, frame, *cell)? {
                Wrote::All => return Ok(()),
                Wrote::Some => gpu_rt::relax(),
                Wrote::Locked(seen) => {
                    let word = self.frames()[frame as usize].lock_word();
                    self.by_leader(group, || patience.wait(&self.region(), word, seen))?;
                }
                Wrote::Lost => {
                    *cell = NO_CELL;
                    return Err(Errno::EIO);
                }
            }
        }
    }

    /// Writes back a page, and what fits of those that follow it, by way of `cell`. Waits for the host only.
    ///
    /// # Errors
    /// What the host says; what was not written is marked as dirty again.
    pub(crate) fn write_back<G: Group>(
        &self,
        group: &G,
        frame: u32,
        cell: u32,
    ) -> Result<Wrote, Errno> {
        let mut extent = Extent::new();
        let mut own_slot = None;
        let mut begun = false;
        loop {
            // SAFETY: a piece is copied from a page that is pinned until the extent ends to the slot of a
            // cell that is ours; the two do not overlap.
            let step = unsafe {
                mem::copy_led(group, || {
                    if !begun {
                        begun = true;
                        let slot = self.slot_for_extent(cell, &mut own_slot);
                        if let Some(step) = self.begin_extent(&mut extent, frame, slot) {
                            return (mem::Plan::NOTHING, step);
                        }
                    }
                    if let Some(plan) = self.next_piece(&mut extent) {
                        return (plan, Step { what: Step::PIECE, ..Step::zeroed() });
                    }
                    (
                        mem::Plan::NOTHING,
                        self.end_extent::<G>(&mut extent, own_slot.unwrap_or(cell)),
                    )
                })
            };
            if step.what == Step::PIECE && step.errno == 0 {
                continue;
            }
            if let Some(slot) = own_slot
                && step.what != Step::LOST
            {
                self.release_cell(slot);
            }
            Errno::check(step.errno)?;
            return Ok(match step.what {
                Step::ALL => Wrote::All,
                Step::LOCKED => Wrote::Locked(step.lock),
                Step::LOST => Wrote::Lost,
                _ => Wrote::Some,
            });
        }
    }

    /// The cell whose slot an extent uses: `cell`, if it has one; else another one that is free now, or
    /// none, as nobody may wait for a slot here.
    fn slot_for_extent(&self, cell: u32, own: &mut Option<u32>) -> Option<u32> {
        if cell < self.header().slots {
            return Some(cell);
        }
        *own = self.try_claim(Pool::Slots);
        *own
    }

    /// Pins and locks the page, and takes its marks. `Some`: there is nothing to do, or not now.
    fn begin_extent(&self, x: &mut Extent, frame: u32, slot: Option<u32>) -> Option<Step> {
        let page = &self.frames()[frame as usize];
        let nothing = Some(Step { what: Step::ALL, ..Step::zeroed() });
        let Some(key) = page.pin_any() else { return nothing };
        if !page.try_lock() {
            let lock = page.lock_word().load(Ordering::Relaxed);
            self.unpin(Page { frame, len: 0 }, false);
            let what = if lock & 1 == 1 { Step::LOCKED } else { Step::SOME };
            return Some(Step { what, lock, ..Step::zeroed() });
        }
        if !page.dirty.is_dirty() {
            page.unlock();
            self.unpin(Page { frame, len: 0 }, false);
            return nothing;
        }
        // It is dirty and we have its lock: its record stays open until its marks are carried out.
        x.record = page.owner.load(Ordering::Relaxed);
        if self.open_file(x.record).cutting.load(Ordering::Relaxed) != 0 {
            page.unlock();
            self.unpin(Page { frame, len: 0 }, false);
            return Some(Step { what: Step::SOME, ..Step::zeroed() });
        }
        x.handle = self.open_file(x.record).handle.load(Ordering::Relaxed);
        x.first = key;
        let slot_size = u64::from(self.header().slot_size);
        if let Some(slot) = slot {
            x.slot = self.region().slot(slot).unwrap_or(core::ptr::null_mut());
            x.slot_at = u64::from(slot) * slot_size;
        }
        let table = (slot_size as usize / size_of::<Run>()).min(RUNS_MAX) as u32;
        (x.most_runs, x.most_bytes) = match (self.is_direct(), x.slot.is_null()) {
            (true, true) => (1, RUNS_BYTES_MAX),
            (true, false) => (table, RUNS_BYTES_MAX),
            // The table takes its share as it grows.
            (false, _) => (table, slot_size),
        };
        self.add_page(x, frame);
        None
    }

    /// Goes on with the pieces of a page that is pinned, locked and dirty.
    fn add_page(&self, x: &mut Extent, frame: u32) {
        x.frames[x.count as usize] = frame;
        x.page = x.count;
        x.count += 1;
        x.map_at = 0;
        x.marks = self.frames()[frame as usize].dirty.take();
    }

    /// Adds the next piece of the extent; what the group is to copy for it. `None`: there is no more, or no
    /// more fits. Where nothing is to be copied it goes on to the end at once.
    fn next_piece(&self, x: &mut Extent) -> Option<mem::Plan> {
        loop {
            let frame = x.frames[x.page as usize];
            let page_at =
                (u64::from(x.first.page()) + u64::from(x.page)) << self.header().page_shift;
            let piece = match x.marks {
                Marks::Clean => None,
                Marks::Range { start, end } => {
                    x.marks = Marks::Clean;
                    if x.fits(end - start, self.continues(x, frame, page_at, start, end)) {
                        Some((start, end))
                    } else {
                        self.mark_again(frame, start, end);
                        x.more = true;
                        return None;
                    }
                }
                Marks::Map(map) => self.next_of_map(x, map, frame, page_at),
            };
            if let Some((start, end)) = piece {
                let plan = self.add_piece(x, frame, page_at, start, end);
                if plan.len != 0 {
                    return Some(plan);
                }
            } else if x.more || !self.add_next_page(x) {
                return None;
            }
        }
    }

    /// The next piece of a page that has a map.
    fn next_of_map(
        &self,
        x: &mut Extent,
        map: u32,
        frame: u32,
        page_at: u64,
    ) -> Option<(u32, u32)> {
        let mut piece = None;
        let mut full = false;
        x.map_at = self.byte_map(map).take_runs(x.map_at, |start, end| {
            if piece.is_some() {
                return false;
            }
            full = !x.fits(end - start, self.continues(x, frame, page_at, start, end));
            if !full {
                piece = Some((start, end));
            }
            !full
        });
        if full {
            x.more = true;
            if self.frames()[frame as usize].dirty.raise() {
                self.note_dirty(x.record);
            }
            x.marks = Marks::Clean;
        } else if piece.is_none() {
            x.marks = Marks::Clean;
        }
        piece
    }

    /// Where in the window the bytes of a piece are, or will be.
    fn place(&self, x: &Extent, frame: u32, start: u32) -> u64 {
        if self.is_direct() {
            self.frame_data(frame) as u64 + u64::from(start) - self.header().window_base
        } else {
            x.slot_at + x.bytes
        }
    }

    /// Whether a piece that begins at `start` of this page goes on where the last one ended, in the file and
    /// in the window: then it needs no entry of its own.
    fn continues(&self, x: &Extent, frame: u32, page_at: u64, start: u32, end: u32) -> bool {
        x.runs > 0
            && x.last.offset + u64::from(x.last.len) == page_at + u64::from(start)
            && x.last.buf + u64::from(x.last.len) == self.place(x, frame, start)
            && x.last.len + (end - start) <= MAX_PIECE
    }

    /// Adds a piece that fits.
    fn add_piece(
        &self,
        x: &mut Extent,
        frame: u32,
        page_at: u64,
        start: u32,
        end: u32,
    ) -> mem::Plan {
        let len = end - start;
        let buf = self.place(x, frame, start);
        // SAFETY: within the slot, by `fits`; and within the frame.
        let (dst, src) = unsafe {
            (x.slot.wrapping_add(x.bytes as usize), self.frame_data(frame).add(start as usize))
        };
        if self.continues(x, frame, page_at, start, end) {
            x.last.len += len;
        } else {
            x.put_last(self.is_direct(), self.header().slot_size as usize);
            x.runs += 1;
            x.last = Run { offset: page_at + u64::from(start), buf, len, reserved: 0 };
        }
        x.bytes += u64::from(len);
        if self.is_direct() {
            mem::Plan::NOTHING
        } else {
            mem::Plan { dst, src, len: len as usize }
        }
    }

    /// Goes on to the page that follows in the file, if it is here, dirty, and nobody is at it.
    fn add_next_page(&self, x: &mut Extent) -> bool {
        if x.count as usize == MAX_PAGES || x.runs == x.most_runs && self.is_direct() {
            return false;
        }
        let Some(number) = x.first.page().checked_add(x.count) else { return false };
        let key = PageKey::new(x.first.version(), number);
        let Located::Pinned(page) = self.locate(key) else { return false };
        let frame = &self.frames()[page.frame as usize];
        if frame.dirty.is_dirty() && frame.try_lock() {
            // The file may be about to be cut since the extent was begun.
            let cutting = self.open_file(x.record).cutting.load(Ordering::Relaxed);
            if frame.dirty.is_dirty() && cutting == 0 {
                self.add_page(x, page.frame);
                return true;
            }
            frame.unlock();
        }
        self.unpin(page, false);
        false
    }

    /// Writes the extent, and gives its pages back.
    fn end_extent<G: Group>(&self, x: &mut Extent, cell: u32) -> Step {
        let answer = if x.runs == 0 { Some(Ok(0)) } else { self.write_extent::<G>(x, cell) };
        let written = answer.and_then(Result::ok).unwrap_or(0).min(x.bytes);
        self.count(Count::BytesWritten, written);
        if written < x.bytes {
            self.mark_unwritten(x, written);
        }
        let record = self.open_file(x.record);
        for &frame in &x.frames[..x.count as usize] {
            let page = &self.frames()[frame as usize];
            page.unlock();
            self.retire_map(frame);
        }
        // Release: pairs with the acquire of whoever finds that nothing is dirty any more.
        record.dirty_pages.fetch_sub(x.count, Ordering::Release);
        let what = match answer {
            None => Step::LOST,
            _ if x.more || written < x.bytes => Step::SOME,
            _ => Step::ALL,
        };
        let errno = answer.and_then(Result::err).map_or(0, Errno::raw);
        Step { errno, what, ..Step::zeroed() }
    }

    /// The request, and its answer: how many bytes the host has written. `None` if it is gone.
    fn write_extent<G: Group>(&self, x: &mut Extent, cell: u32) -> Option<Result<u64, Errno>> {
        let window = if self.is_direct() { WINDOW_DEVICE } else { WINDOW_SLOTS };
        let request = Request { window, handle: x.handle, ..Request::zeroed() };
        let request = if x.runs == 1 {
            let Run { offset, buf, len, .. } = x.last;
            Request { op: Op::Write as u8, offset, buf, len, ..request }
        } else {
            let slot_size = self.header().slot_size as usize;
            x.put_last(self.is_direct(), slot_size);
            let len = x.runs as usize * size_of::<Run>();
            let at = if self.is_direct() {
                0
            } else {
                slot_size / size_of::<Run>() * size_of::<Run>() - len
            };
            let buf = x.slot_at + at as u64;
            self.count(Count::Runs, x.runs.into());
            Request { op: Op::WriteRuns as u8, buf, len: len as u32, ..request }
        };
        self.count(Count::Writebacks, 1);
        let tag = self.post::<G>(cell, request).ok()?;
        Some(self.wait_for(cell, tag).ok()?.result())
    }

    /// Marks what the host has not written as dirty again: all but the first `written` bytes.
    fn mark_unwritten(&self, x: &Extent, written: u64) {
        let mut skip = written;
        for number in 0..x.runs {
            let run = x.run(number, self.is_direct(), self.header().slot_size as usize);
            let skipped = skip.min(u64::from(run.len));
            skip -= skipped;
            let (mut at, end) = (run.offset + skipped, run.offset + u64::from(run.len));
            while at < end {
                let page_size = self.page_size() as u64;
                let next = (at / page_size + 1) * page_size;
                let index = (at >> self.header().page_shift) - u64::from(x.first.page());
                let start = at % page_size;
                let stop = start + next.min(end) - at;
                self.mark_again(x.frames[index as usize], start as u32, stop as u32);
                at = next;
            }
        }
    }

    /// Marks bytes of a page of the extent again. Its lock is held, so that nobody can be asked to write
    /// it back if a map is wanted and there is none: the marks then grow to one range. That is the one
    /// case in which bytes may be written that were not written here: they are those read from the file.
    fn mark_again(&self, frame: u32, start: u32, end: u32) {
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
                    let (a, b) = Dirty::range_of(seen);
                    match self.map_bits().claim(frame) {
                        Some(map) => {
                            self.byte_map(map).set(a, b);
                            if !page.dirty.attach(seen, map) {
                                self.byte_map(map).take_runs(0, |_, _| true);
                                self.map_bits().release(map);
                            }
                        }
                        None => (start, end) = (start.min(a), end.max(b)),
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
                self.byte_map(map).take_runs(from, |_, _| true);
                if from > 0 && page.dirty.raise() {
                    self.note_dirty(page.owner.load(Ordering::Relaxed));
                }
            }
        }
        // SAFETY: pinned and locked; the file has no bytes there any more, so that nobody may read them.
        unsafe {
            self.frame_data(frame).add(from as usize).write_bytes(0, (whole - from) as usize);
        }
        page.lengthen(whole);
        if marks != Marks::Clean {
            let record = self.open_file(page.owner.load(Ordering::Relaxed));
            // Release: as in `end_extent`.
            record.dirty_pages.fetch_sub(1, Ordering::Release);
        }
    }

    /// Unpins a page that was written back, and takes its map away if nobody uses it.
    fn retire_map(&self, frame: u32) {
        let page = &self.frames()[frame as usize];
        let has_map = page.dirty.map().is_some();
        self.unpin(Page { frame, len: 0 }, false);
        if has_map && page.take_for_eviction().is_some() && self.settle_marks(frame) {
            page.restore();
        }
    }

    pub(crate) fn byte_map(&self, number: u32) -> ByteMap<'_> {
        ByteMap::new(self.map_words(number))
    }

    /// Writes back all that is dirty of an open file.
    ///
    /// # Errors
    /// What the host says to the first page that it does not take; that one and others stay dirty.
    pub(crate) fn write_back_file<G: Group>(&self, group: &G, index: u32) -> Result<(), Errno> {
        let record = self.open_file(index);
        // Acquire: pairs with the release in `end_extent`.
        let dirty = || Ok(record.dirty_pages.load(Ordering::Acquire));
        if self.by_leader(group, dirty)? == 0 {
            return Ok(());
        }
        let version = record.load_info().version;
        let mut cell = self.by_leader(group, || self.claim(Pool::Slots))?;
        let mut at = 0;
        let outcome = loop {
            let frame = self.by_leader(group, || Ok(self.next_dirty(record, version, at)))?;
            if frame == u32::MAX {
                break Ok(());
            }
            if let Err(e) = self.write_back_page(group, frame, &mut cell) {
                break Err(e);
            }
            at = frame + 1;
        };
        if group.is_leader() && cell != NO_CELL {
            self.release_cell(cell);
        }
        outcome
    }

    /// The first frame from `at` on that holds a page of the file which is dirty, or being written back;
    /// `u32::MAX` if there is none.
    fn next_dirty(&self, record: &crate::file::OpenFile, version: u32, at: u32) -> u32 {
        let frames = self.frames();
        for (number, frame) in (at..).zip(&frames[at as usize..]) {
            if frame.key_hint().version() == version
                && (frame.dirty.is_dirty() || frame.lock_word().load(Ordering::Relaxed) & 1 == 1)
            {
                return number;
            }
            // Acquire: as above.
            if number % 1024 == 1023 && record.dirty_pages.load(Ordering::Acquire) == 0 {
                break;
            }
        }
        u32::MAX
    }
}

impl Extent {
    fn new() -> Extent {
        Extent {
            frames: [0; MAX_PAGES],
            count: 0,
            first: PageKey(0),
            record: 0,
            handle: 0,
            map_at: 0,
            page: 0,
            marks: Marks::Clean,
            more: false,
            runs: 0,
            last: Run::zeroed(),
            bytes: 0,
            slot: core::ptr::null_mut(),
            slot_at: 0,
            most_bytes: 0,
            most_runs: 0,
        }
    }

    /// Whether a piece of `len` bytes can be added; one that `continues` the last needs no entry.
    fn fits(&self, len: u32, continues: bool) -> bool {
        let runs = self.runs + u32::from(!continues);
        // The table shares the slot with the bytes, unless it is not needed or these are elsewhere.
        let table = if runs > 1 { u64::from(runs + 1) * size_of::<Run>() as u64 } else { 0 };
        let shared = if self.most_bytes < RUNS_BYTES_MAX { table } else { 0 };
        runs <= self.most_runs && self.bytes + u64::from(len) + shared <= self.most_bytes
    }

    /// Where in the slot entry `number` of the table is: it grows up from the beginning, or, where the
    /// bytes are there, down from the end.
    fn entry(&self, number: u32, direct: bool, slot_size: usize) -> *mut Run {
        let number = number as usize;
        let place = if direct { number } else { slot_size / size_of::<Run>() - 1 - number };
        self.slot.cast::<Run>().wrapping_add(place)
    }

    /// Writes the last piece to the table, as another one begins or all are there.
    fn put_last(&mut self, direct: bool, slot_size: usize) {
        if self.runs > 0 {
            let entry = self.entry(self.runs - 1, direct, slot_size);
            // SAFETY: within the slot, which is ours, and not where bytes are, by `fits`; slots are aligned
            // to 4 KiB and entries to 8 bytes.
            unsafe { entry.write(self.last) };
        }
    }

    /// Piece `number`, in the order of the table as the host sees it.
    fn run(&self, number: u32, direct: bool, slot_size: usize) -> Run {
        if self.runs == 1 {
            return self.last;
        }
        let number = if direct { number } else { self.runs - 1 - number };
        // SAFETY: as in `put_last`, which wrote it.
        unsafe { self.entry(number, direct, slot_size).read() }
    }
}
