//! Bringing dirty bytes to the file. Only bytes that were written here are written there: others may have
//! written those beside them. What goes in one request is an *extent* (`extent.rs`).

use crate::cache::NO_CELL;
use crate::evict::Eviction;
use crate::extent::{Extent, Step};
use crate::file::OpenFile;
use crate::frames::LOOK_AGAIN_NS;
use crate::index::PageIndex;
use crate::mount::Fs;
use crate::port::{Patience, Pool};
use bytemuck::Zeroable;
use gpu_abi::Errno;
use gpu_rt::atomic::Ordering;
use gpu_rt::{Group, mem};

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

impl<I: PageIndex, E: Eviction> Fs<I, E> {
    /// Writes a page back by one thread, with a cell of its own, until no mark of before is left.
    #[inline(never)]
    pub(crate) fn write_back_alone(&self, frame: u32) -> Result<(), Errno> {
        let mut cell = self.claim(Pool::Slots)?;
        let outcome = self.write_back_page(&gpu_rt::Thread, frame, &mut cell);
        if cell != NO_CELL {
            self.release_cell(cell);
        }
        outcome
    }

    /// Writes a page back, until no mark of before is left. Sets `cell` to [`NO_CELL`] if it is lost.
    #[inline(never)]
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
                    self.by_leader(group, || patience.wait(self.region().header(), word, seen))?;
                }
                Wrote::Lost => {
                    *cell = NO_CELL;
                    return Err(Errno::EIO);
                }
            }
        }
    }

    /// After an attempt to make room by writing a page back: waits a little if somebody else is at it.
    #[inline(never)]
    pub(crate) fn let_others_write(&self, frame: u32, outcome: Result<Wrote, Errno>) {
        match outcome {
            Ok(Wrote::Locked(seen)) => {
                let word = self.frames()[frame as usize].lock_word();
                gpu_rt::wait_while_eq(word, seen, LOOK_AGAIN_NS);
            }
            Ok(Wrote::Some) => gpu_rt::relax(),
            _ => {}
        }
    }

    /// Writes back a page, and what fits of those that follow it, by way of `cell`. Waits for the host only.
    ///
    /// # Errors
    /// What the host says; what was not written is marked as dirty again.
    #[inline(never)]
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

    /// Writes back all that is dirty of an open file.
    ///
    /// # Errors
    /// What the host says to the first page that it does not take; that one and others stay dirty.
    #[inline(never)]
    pub(crate) fn write_back_file<G: Group>(&self, group: &G, index: u32) -> Result<(), Errno> {
        let record = self.open_file(index);
        // Acquire: pairs with the release in `end_extent`.
        let dirty = || Ok(record.dirty_pages.load(Ordering::Acquire));
        if self.by_leader(group, dirty)? == 0 {
            return Ok(());
        }
        let version = record.version();
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
    fn next_dirty(&self, record: &OpenFile, version: u32, at: u32) -> u32 {
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
