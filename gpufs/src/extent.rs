//! Extents: what one request carries of a file's dirty bytes.
//!
//! An extent is the dirty bytes of a page and of the dirty pages that follow it in the file. Where the host can
//! address device memory it is told where they are; elsewhere the group packs them into a transfer slot.
//!
//! ```text
//!   host addresses device memory:  slot = | run 0 | run 1 | … |            bytes stay in their frames
//!   it does not:                   slot = | bytes … →    ← … run 1 | run 0 |
//! ```
//!
//! A single run needs no table: the request itself says where it is.

use crate::cache::{Located, Page};
use crate::dirty::Marks;
use crate::evict::Eviction;
use crate::frame::PageKey;
use crate::index::PageIndex;
use crate::mount::Fs;
use crate::port::Pool;
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

/// The leader's notes on an extent. In the other threads it stays empty.
pub(crate) struct Extent {
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
    /// Bytes so far; after the host's answer, of those from piece `unwritten` on, how many need no mark.
    bytes: u64,
    /// After the host's answer: the piece that is looked at.
    unwritten: u32,
    /// Of the cell: its slot, or null, and the slot's place in the window.
    slot: *mut u8,
    slot_at: u64,
    most_bytes: u64,
    most_runs: u32,
}

/// What a leader tells its group after each step.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Step {
    pub(crate) errno: u32,
    pub(crate) what: u32,
    pub(crate) lock: u32,
    pub(crate) reserved: u32,
}

impl Step {
    /// A piece was copied; there may be another.
    pub(crate) const PIECE: u32 = 0;
    pub(crate) const ALL: u32 = 1;
    pub(crate) const SOME: u32 = 2;
    pub(crate) const LOCKED: u32 = 3;
    pub(crate) const LOST: u32 = 4;
}

impl<I: PageIndex, E: Eviction> Fs<I, E> {
    /// The cell whose slot an extent uses: `cell`, if it has one; else another one that is free now, or
    /// none, as nobody may wait for a slot here.
    pub(crate) fn slot_for_extent(&self, cell: u32, own: &mut Option<u32>) -> Option<u32> {
        if cell < self.header().slots {
            return Some(cell);
        }
        *own = self.try_claim(Pool::Slots);
        *own
    }

    /// Pins and locks the page, and takes its marks. `Some`: there is nothing to do, or not now.
    #[inline(never)]
    pub(crate) fn begin_extent(
        &self,
        x: &mut Extent,
        frame: u32,
        slot: Option<u32>,
    ) -> Option<Step> {
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
    #[inline(never)]
    pub(crate) fn next_piece(&self, x: &mut Extent) -> Option<mem::Plan> {
        loop {
            let Some((start, end)) = self.take_marks(x) else {
                if self.add_next_page(x) {
                    continue;
                }
                return None;
            };
            let frame = x.frames[x.page as usize];
            let page_at =
                (u64::from(x.first.page()) + u64::from(x.page)) << self.header().page_shift;
            let continues = self.continues(x, frame, page_at, start, end);
            if !x.fits(end - start, continues) {
                self.mark_again(frame, start, end);
                x.more = true;
                return None;
            }
            let plan = self.add_piece(x, frame, page_at, (start, end), continues);
            if plan.len != 0 {
                return Some(plan);
            }
        }
    }

    /// Takes the next marks of the present page.
    #[inline(never)]
    fn take_marks(&self, x: &mut Extent) -> Option<(u32, u32)> {
        match x.marks {
            Marks::Clean => None,
            Marks::Range { start, end } => {
                x.marks = Marks::Clean;
                Some((start, end))
            }
            Marks::Map(map) => {
                let run = self.byte_map(map).take_run(x.map_at)?;
                x.map_at = run.1;
                Some(run)
            }
        }
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
    #[inline(never)]
    fn add_piece(
        &self,
        x: &mut Extent,
        frame: u32,
        page_at: u64,
        (start, end): (u32, u32),
        continues: bool,
    ) -> mem::Plan {
        let len = end - start;
        let buf = self.place(x, frame, start);
        // SAFETY: within the slot, by `fits`; and within the frame.
        let (dst, src) = unsafe {
            (x.slot.wrapping_add(x.bytes as usize), self.frame_data(frame).add(start as usize))
        };
        if continues {
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
    #[inline(never)]
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
    #[inline(never)]
    pub(crate) fn end_extent<G: Group>(&self, x: &mut Extent, cell: u32) -> Step {
        let answer = if x.runs == 0 { Some(Ok(0)) } else { self.write_extent::<G>(x, cell) };
        let written = answer.and_then(Result::ok).unwrap_or(0).min(x.bytes);
        self.count(Count::BytesWritten, written);
        let is_short = written < x.bytes;
        if is_short {
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
            _ if x.more || is_short => Step::SOME,
            _ => Step::ALL,
        };
        let errno = answer.and_then(Result::err).map_or(0, Errno::raw);
        Step { errno, what, ..Step::zeroed() }
    }

    /// The request, and its answer: how many bytes the host has written. `None` if it is gone.
    #[inline(never)]
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
    #[inline(never)]
    fn mark_unwritten(&self, x: &mut Extent, written: u64) {
        x.bytes = written;
        x.unwritten = 0;
        while let Some((frame, start, end)) = self.next_unwritten(x) {
            self.mark_again(frame, start, end);
        }
    }

    /// Takes the next bytes, all in one page, from those after the first [`Extent::bytes`] of the runs from
    /// [`Extent::unwritten`] on. What is left is kept there and not by the caller, as in `fetch.rs`:
    /// marking goes deep.
    #[inline(never)]
    fn next_unwritten(&self, x: &mut Extent) -> Option<(u32, u32, u32)> {
        while x.unwritten < x.runs {
            let run = x.run(x.unwritten, self.is_direct(), self.header().slot_size as usize);
            if x.bytes >= u64::from(run.len) {
                x.bytes -= u64::from(run.len);
                x.unwritten += 1;
                continue;
            }
            let (at, end) = (run.offset + x.bytes, run.offset + u64::from(run.len));
            let page_size = self.page_size() as u64;
            let stop = end.min((at / page_size + 1) * page_size);
            x.bytes += stop - at;
            let index = (at >> self.header().page_shift) - u64::from(x.first.page());
            let start = (at % page_size) as u32;
            return Some((x.frames[index as usize], start, start + (stop - at) as u32));
        }
        None
    }
}

impl Extent {
    pub(crate) fn new() -> Extent {
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
            unwritten: 0,
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
