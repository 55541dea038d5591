//! Pages: found, and pinned. Those that are not there are fetched (`fetch.rs`).

use crate::evict::Eviction;
use crate::fetch::Step;
use crate::file::File;
use crate::frame::PageKey;
use crate::index::PageIndex;
use crate::inflight::NO_FRAME;
use crate::mount::Fs;
use crate::stats::Count;
use crate::writeback::Wrote;
use bytemuck::{Pod, Zeroable};
use gpu_abi::Errno;
use gpu_rt::Group;

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
    pub(crate) const SLOT: u32 = 1;
    /// Its frame is BUSY, and the caller, who writes all of it, fills it.
    pub(crate) const FRESH: u32 = 2;
    /// It is entered as being fetched, and for want of a clean page this one is to be written back
    /// first, by way of the cell.
    pub(crate) const DIRTY: u32 = 3;
    /// The same, but the page is not entered: the search begins anew after that.
    pub(crate) const WASH: u32 = 4;

    #[inline]
    pub(crate) fn ready(page: Page) -> Found {
        Found { page, cell: NO_CELL, what: Found::READY }
    }
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
    pub(crate) fn note_hit(&self, page: Page) {
        self.count(Count::Hits, 1);
        E::used(self.policy(), &self.frames()[page.frame as usize]);
    }

    /// Copies a page from the transfer slot to its frame, and writes `rest` zeroes behind it.
    pub(crate) fn fill_from_slot<G: Group>(
        &self,
        group: &G,
        found: Found,
        rest: u32,
    ) -> Result<(), Errno> {
        let slot = self.region().slot(found.cell).ok_or(Errno::EPROTO)?;
        let data = self.frame_data(found.page.frame);
        // SAFETY: the frame is BUSY and ours, the slot belongs to our cell, whose answer has come; both
        // hold a page, and `len` and `rest` together are at most that.
        unsafe {
            let len = found.page.len as usize;
            gpu_rt::mem::copy(group, data, slot, len);
            gpu_rt::mem::fill(group, data.add(len), 0, rest as usize);
        }
        group.sync();
        Ok(())
    }
}

impl<I: PageIndex, E: Eviction> File<I, E> {
    /// Pins page `number` for the group, fetching it if need be.
    pub(crate) fn pin<G: Group>(&self, group: &G, number: u32) -> Result<Page, Errno> {
        Ok(self.pin_or_begin(group, number, false)?.page)
    }

    /// Pins page `number` for the group. If it is not there it is fetched, or, if it is to be `fresh`, left to the
    /// caller: [`Found::FRESH`].
    #[inline(never)]
    pub(crate) fn pin_or_begin<G: Group>(
        &self,
        group: &G,
        number: u32,
        fresh: bool,
    ) -> Result<Found, Errno> {
        let key = PageKey::new(self.version(), number);
        let fs = &self.fs;
        let mut found = fs.by_leader(group, || match fs.locate(key) {
            Located::Pinned(page) => {
                fs.note_hit(page);
                Ok(Found::ready(self.as_it_is(page)))
            }
            Located::InFlight { .. } => self.fetch::<G>(number, fresh, NO_CELL, Step::Search),
            Located::Absent => self.fetch::<G>(number, fresh, NO_CELL, Step::Enter),
        })?;
        let mut victims = 0;
        loop {
            match found.what {
                Found::SLOT => {
                    // Where a file is written all of a page is valid: past its end are zeroes.
                    let whole = self.is_live().then_some(self.page_size() as u32);
                    let rest = whole.unwrap_or(found.page.len) - found.page.len;
                    fs.fill_from_slot(group, found, rest)?;
                    found.page.len += rest;
                    if group.is_leader() {
                        fs.publish_page(key, found.cell, found.page);
                    }
                    found.what = Found::READY;
                }
                Found::DIRTY | Found::WASH => {
                    victims += 1;
                    let written = fs.write_back(group, found.page.frame, found.cell);
                    if written == Ok(Wrote::Lost) {
                        return Err(Errno::EIO);
                    }
                    found = fs.by_leader(group, || {
                        fs.let_others_write(found.page.frame, written);
                        // A page that cannot be written stays; another may go.
                        let written = if victims < VICTIMS { Ok(()) } else { written.map(drop) };
                        if found.what == Found::WASH {
                            fs.release_cell(found.cell);
                            written?;
                            return self.fetch::<G>(number, fresh, NO_CELL, Step::Search);
                        }
                        if let Err(e) = written {
                            return Err(fs.fail(key, found.cell, NO_FRAME, e));
                        }
                        self.fetch::<G>(number, fresh, found.cell, Step::TakeFrame)
                    })?;
                    continue;
                }
                _ => {}
            }
            if self.is_live()
                && found.what == Found::READY
                && found.page.len < self.page_size() as u32
            {
                found.page.len = fs.by_leader(group, || {
                    fs.make_whole(found.page).inspect_err(|_| fs.unpin(found.page, false))
                })?;
            }
            return Ok(found);
        }
    }

    /// A page that was pinned, all of which is valid where the file is written. The pin is given back if that fails.
    pub(crate) fn whole(&self, page: Page) -> Result<Page, Errno> {
        let mut page = self.as_it_is(page);
        if self.is_live() && page.len < self.page_size() as u32 {
            page.len = self.fs.make_whole(page).inspect_err(|_| self.fs.unpin(page, false))?;
        }
        Ok(page)
    }

    /// A page that was pinned, with its length as it is now: where a file is written, whoever made it longer
    /// has written zeroes first.
    #[inline]
    pub(crate) fn as_it_is(&self, page: Page) -> Page {
        if !self.is_live() {
            return page;
        }
        Page { len: self.fs.frames()[page.frame as usize].len(), ..page }
    }
}
