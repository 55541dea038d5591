//! Views whose bytes may be changed: pinned pages, each with a twin.
//!
//! A twin is a copy of what the view has of the page, as it was when it was mapped, in a frame of its own. What
//! differs from it when the view is unmapped or synchronised was changed through the view (or otherwise on this device
//! meanwhile, which is as well), and is marked as dirty: byte by byte, so that what others have written
//! beside it survives (P. Keleher et al., "TreadMarks", USENIX Winter 1994).

use crate::cache::Page;
use crate::evict::{Clock, Eviction};
use crate::file::File;
use crate::frames::Room;
use crate::index::{HashIndex, PageIndex};
use crate::mount::Fs;
use crate::port::Pool;
use crate::view::View;
use crate::writeback::Wrote;
use gpu_abi::{DeviceSlice, Errno};
use gpu_rt::{Group, mem};

/// How many pages are written back to make room for a twin before that is given up.
const VICTIMS: u32 = 4;

/// A range of a file that the group may change, pinned in the page cache.
///
/// Its bytes are this device's at once: whoever reads the file here sees them change. Dropping the view makes
/// the changes the file's, as far as that needs no writing to the host; [`ViewMut::unmap`] says if it failed.
pub struct ViewMut<G: Group, I: PageIndex = HashIndex, E: Eviction = Clock> {
    group: G,
    file: File<I, E>,
    pages: [Page; 8],
    /// Frames with the pages as they were.
    twins: [u32; 8],
    count: u32,
    /// Offset of the first byte in the first page.
    start: u32,
    len: usize,
}

impl<G: Group, I: PageIndex, E: Eviction> ViewMut<G, I, E> {
    /// Pages that one view can span.
    pub const MAX_PAGES: usize = View::<G, I, E>::MAX_PAGES;

    pub(crate) fn new(
        group: &G,
        file: &File<I, E>,
        offset: u64,
        len: usize,
    ) -> Result<Self, Errno> {
        let fs = &file.fs;
        let is_within = file.is_cached()
            && offset.checked_add(len as u64).is_some_and(|end| end <= file.size());
        let (first, spans, start) = file.span(offset, len)?;
        if !is_within || spans > Self::MAX_PAGES {
            return Err(Errno::EINVAL);
        }
        let mut view = ViewMut {
            group: *group,
            file: *file,
            pages: [Page { frame: 0, len: 0 }; 8],
            twins: [0; 8],
            count: 0,
            start: start as u32,
            len,
        };
        for i in 0..spans {
            // On an error the pages so far are given back as the view is dropped.
            let page = file.pin(group, first + i as u32)?;
            let twin = match fs.spare_frame(group) {
                Ok(twin) => twin,
                Err(e) => {
                    if group.is_leader() {
                        fs.unpin(page, false);
                    }
                    return Err(e);
                }
            };
            view.pages[i] = page;
            view.twins[i] = twin;
            view.count += 1;
            view.make_twin(i);
        }
        Ok(view)
    }

    /// Bytes in the view.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the view has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The view's bytes, page by page. They are memory that threads share, like a buffer in device memory:
    /// who makes a slice of them promises that nobody else uses those bytes meanwhile.
    pub fn pieces(&self) -> impl Iterator<Item = DeviceSlice<u8>> {
        (0..self.count as usize).map(|i| {
            let (from, to) = self.bounds(i);
            DeviceSlice::new(self.data(i) as u64 + u64::from(from), u64::from(to - from))
        })
    }

    /// All bytes as one piece, if the view lies within one page.
    pub fn as_piece(&self) -> Option<DeviceSlice<u8>> {
        if self.count > 1 {
            return None;
        }
        Some(self.pieces().next().unwrap_or(DeviceSlice::new(0, 0)))
    }

    /// What part of page `i` the view has.
    fn bounds(&self, i: usize) -> (u32, u32) {
        let page_size = self.file.page_size();
        let from = if i == 0 { self.start as usize } else { 0 };
        let end = self.start as usize + self.len - i * page_size;
        (from as u32, end.min(page_size) as u32)
    }

    fn data(&self, i: usize) -> *mut u8 {
        self.file.fs.frame_data(self.pages[i].frame)
    }

    /// Copies what the view has of page `i` to its twin: the bytes beside it may be others', who write them.
    fn make_twin(&self, i: usize) {
        let (from, to) = self.bounds(i);
        let (from, len) = (from as usize, (to - from) as usize);
        let twin = self.file.fs.frame_data(self.twins[i]);
        // SAFETY: the page is pinned, the twin is a BUSY frame of ours; both are a page long.
        unsafe { mem::copy(&self.group, twin.add(from), self.data(i).add(from), len) };
        self.group.sync();
    }

    /// Marks what has changed in page `i`.
    fn mark_changes(&self, i: usize) -> Result<(), Errno> {
        let (from, to) = self.bounds(i);
        let (page, twin) = (self.data(i), self.file.fs.frame_data(self.twins[i]));
        let fs = &self.file.fs;
        let mut outcome = Ok(());
        changes(page, twin, from, to, |start, end| {
            let frame = self.pages[i].frame;
            if let Err(e) = fs.mark_dirty(frame, self.file.index(), start, end) {
                outcome = Err(e);
                // The file's own bytes between them go along, rather than that these are lost.
                fs.mark_somehow(frame, self.file.index(), start, end);
            }
        });
        outcome
    }

    /// Makes what has changed so far the file's: what [`File::sync`] or [`File::flush`] then writes.
    ///
    /// # Errors
    /// Where the marks take room that is made by writing to the host: what it said (`ENOSPC`, `EIO`). Nothing
    /// is lost.
    pub fn commit(&self) -> Result<(), Errno> {
        self.group.sync();
        let outcome = self.file.fs.by_leader(&self.group, || {
            (0..self.count as usize).map(|i| self.mark_changes(i)).fold(Ok(()), Result::and)
        });
        for i in 0..self.count as usize {
            self.make_twin(i);
        }
        outcome
    }

    /// As [`ViewMut::commit`], and everything that is dirty of the file goes to stable storage: msync(2).
    ///
    /// # Errors
    /// As [`File::sync`].
    pub fn sync(&self) -> Result<(), Errno> {
        self.commit()?;
        self.file.sync(&self.group)
    }

    /// Gives the view back: as dropping it, with an answer.
    ///
    /// # Errors
    /// As [`ViewMut::commit`].
    pub fn unmap(mut self) -> Result<(), Errno> {
        self.give_back()
    }

    fn give_back(&mut self) -> Result<(), Errno> {
        let count = core::mem::take(&mut self.count) as usize;
        self.group.sync();
        let fs = &self.file.fs;
        fs.by_leader(&self.group, || {
            let mut outcome = Ok(());
            for i in 0..count {
                outcome = outcome.and(self.mark_changes(i));
                fs.put_frame(self.twins[i]);
                fs.unpin(self.pages[i], self.file.drops_pages());
            }
            outcome
        })
    }
}

impl<G: Group, I: PageIndex, E: Eviction> Drop for ViewMut<G, I, E> {
    fn drop(&mut self) {
        if self.count != 0 {
            // `unmap` is for those who want to know.
            self.give_back().ok();
        }
    }
}

impl<I: PageIndex, E: Eviction> Fs<I, E> {
    /// A BUSY frame that is no page's, for a group that holds pins.
    #[inline(never)]
    fn spare_frame<G: Group>(&self, group: &G) -> Result<u32, Errno> {
        let mut failures = 0;
        loop {
            let [frame, is_dirty] = self.by_leader(group, || {
                Ok(match self.take_frame()? {
                    Room::Frame(frame) => [frame, 0],
                    Room::Dirty(frame) => [frame, 1],
                })
            })?;
            if is_dirty == 0 {
                return Ok(frame);
            }
            let cell = self.by_leader(group, || self.claim(Pool::Slots))?;
            let written = self.write_back(group, frame, cell);
            if written == Ok(Wrote::Lost) {
                return Err(Errno::EIO);
            }
            if group.is_leader() {
                self.release_cell(cell);
                self.let_others_write(frame, written);
            }
            // A page that cannot be written stays; another may go. One that was written in part is at
            // least further than before.
            if let Err(e) = written {
                failures += 1;
                if failures == VICTIMS {
                    return Err(e);
                }
            }
        }
    }
}

/// Calls `found` with each run of bytes from `from` to before `to` in which two pages differ.
fn changes(page: *const u8, twin: *const u8, from: u32, to: u32, mut found: impl FnMut(u32, u32)) {
    /// Bytes compared at once.
    const WORD: u32 = 8;
    // Others may write the page meanwhile: what they change belongs to the device either way, and they mark
    // it themselves.
    // SAFETY: within the pages.
    let byte = |at: u32| unsafe { *page.add(at as usize) != *twin.add(at as usize) };
    let word = |at: u32| {
        let (page, twin) = (page.wrapping_add(at as usize), twin.wrapping_add(at as usize));
        // SAFETY: within the pages, and aligned.
        unsafe { page.cast::<u64>().read() != twin.cast::<u64>().read() }
    };
    let mut begun = None;
    let mut at = from;
    while at < to {
        if begun.is_none() && at.is_multiple_of(WORD) && to - at >= WORD && !word(at) {
            at += WORD;
            continue;
        }
        match (byte(at), begun) {
            (true, None) => begun = Some(at),
            (false, Some(start)) => {
                found(start, at);
                begun = None;
            }
            _ => {}
        }
        at += 1;
    }
    if let Some(start) = begun {
        found(start, to);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[repr(align(8))]
    struct Bytes([u8; 64]);

    #[test]
    fn changes_are_exactly_the_bytes_that_differ() {
        let twin = Bytes([7; 64]);
        for (places, from, to, want) in [
            (&[][..], 0, 64, &[][..]),
            (&[0, 63], 0, 64, &[(0, 1), (63, 64)]),
            (&[5, 6, 7, 8, 9], 0, 64, &[(5, 10)]),
            (&[5, 6, 7, 8, 9], 6, 9, &[(6, 9)]),
            (&[3, 5, 16], 4, 64, &[(5, 6), (16, 17)]),
        ] {
            let mut page = Bytes([7; 64]);
            places.iter().for_each(|at: &usize| page.0[*at] = 8);
            let mut got = Vec::new();
            changes(page.0.as_ptr(), twin.0.as_ptr(), from, to, |a, b| got.push((a, b)));
            assert_eq!(got, want);
        }
    }
}
