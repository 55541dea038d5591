//! Asynchronous reads: begun now, finished when the bytes are wanted.

use crate::cache::Located;
use crate::evict::{Clock, Eviction};
use crate::file::{File, IoBufMut};
use crate::frame::PageKey;
use crate::index::{HashIndex, PageIndex};
use crate::inflight::AHEAD;
use gpu_abi::{DeviceSlice, Errno};
use gpu_rt::Group;
use gpu_rt::atomic::Ordering;

/// A read that has begun. The bytes are in the buffer after [`Pending::wait`], or after
/// [`Pending::try_wait`] said so.
#[must_use = "the bytes arrive in the buffer only when it is waited for"]
pub struct Pending<I: PageIndex = HashIndex, E: Eviction = Clock> {
    file: File<I, E>,
    buf: DeviceSlice<u8>,
    offset: u64,
}

impl<I: PageIndex, E: Eviction> File<I, E> {
    /// Begins to read at `offset` into `buf` and returns at once.
    ///
    /// # Safety
    /// The buffer is valid, and nobody else uses it, until the read is waited for.
    ///
    /// # Errors
    /// `EAGAIN` if there is no free completion cell, transfer slot or frame now: do something else,
    /// or read synchronously.
    pub unsafe fn read_at_async<G: Group>(
        &self,
        group: &G,
        mut buf: impl IoBufMut,
        offset: u64,
    ) -> Result<Pending<I, E>, Errno> {
        let (base, len) = buf.raw();
        let [base, len] = group.broadcast([base as u64, len as u64]);
        let want = self.clamp(offset, len as usize);
        let pending = Pending { file: *self, buf: DeviceSlice::new(base, want as u64), offset };
        pending.begin(group)?;
        Ok(pending)
    }

    /// Begins to fetch the pages of a range that may be wanted soon.
    ///
    /// # Errors
    /// `EAGAIN` if not all of them could be begun now.
    pub fn prefetch<G: Group>(&self, group: &G, offset: u64, len: usize) -> Result<(), Errno> {
        let want = self.clamp(offset, len) as u64;
        Pending { file: *self, buf: DeviceSlice::new(0, want), offset }.begin(group)
    }
}

impl<I: PageIndex, E: Eviction> Pending<I, E> {
    /// Begins to fetch all its pages.
    fn begin<G: Group>(&self, group: &G) -> Result<(), Errno> {
        let file = &self.file;
        file.fs.by_leader(group, || {
            self.pages()?.try_for_each(|page| file.fs.prefetch_page(file, page))
        })
    }

    fn pages(&self) -> Result<core::ops::Range<u32>, Errno> {
        if self.buf.is_empty() {
            return Ok(0..0);
        }
        let first = self.file.page_number(self.offset)?;
        let last = self.offset.checked_add(self.buf.len() as u64 - 1).ok_or(Errno::EFBIG)?;
        let end = self.file.page_number(last)?.checked_add(1).ok_or(Errno::EFBIG)?;
        Ok(first..end)
    }

    /// Waits until the bytes are in the buffer; how many they are.
    ///
    /// # Errors
    /// As [`File::read_at`].
    pub fn wait<G: Group>(self, group: &G) -> Result<usize, Errno> {
        self.file.read_at(group, self.buf, self.offset)
    }

    /// As [`Pending::wait`] if all pages have arrived, else the read itself, still under way.
    pub fn try_wait<G: Group>(self, group: &G) -> Result<Result<usize, Errno>, Self> {
        let arrived = self.file.fs.by_leader(group, || {
            let all = self.pages()?.all(|page| self.has_arrived(page));
            Ok(u32::from(all))
        });
        if arrived == Ok(0) { Err(self) } else { Ok(self.wait(group)) }
    }

    fn has_arrived(&self, page: u32) -> bool {
        let fs = &self.file.fs;
        match fs.locate(PageKey::new(self.file.version(), page)) {
            Located::Pinned(page) => {
                fs.unpin(page, false);
                true
            }
            Located::InFlight { cell, .. } => {
                let record = fs.in_flight(cell);
                // Acquire: pairs with the release in `prefetch_page`, for the tag.
                record.state.load(Ordering::Acquire) == AHEAD
                    && fs.is_answered(cell, record.tag.load(Ordering::Relaxed))
            }
            // Evicted again, or failed: waiting will fetch it anew.
            Located::Absent => true,
        }
    }
}
