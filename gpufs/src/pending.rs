//! Asynchronous reads and writes: begun now, finished when the bytes are wanted.

use crate::cache::Located;
use crate::evict::{Clock, Eviction};
use crate::file::{File, IoBufMut};
use crate::frame::PageKey;
use crate::index::{HashIndex, PageIndex};
use crate::inflight::AHEAD;
use crate::write::IoBuf;
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
        self.may_read()?;
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
        self.may_read()?;
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

/// A write that has begun. The bytes are in the cache after [`PendingWrite::wait`], or after
/// [`PendingWrite::try_wait`] said so.
#[must_use = "the bytes are written only when it is waited for"]
pub struct PendingWrite<I: PageIndex = HashIndex, E: Eviction = Clock> {
    pages: Pending<I, E>,
}

impl<I: PageIndex, E: Eviction> File<I, E> {
    /// Begins to write `buf` at `offset` and returns at once: the pages of which only a part is written are
    /// being fetched.
    ///
    /// # Safety
    /// The buffer is valid, and nobody changes it, until the write is waited for.
    ///
    /// # Errors
    /// `EBADF` as for [`File::write_at`]; `EAGAIN` if there is no free completion cell, transfer slot or
    /// clean frame now: do something else, or write synchronously.
    pub unsafe fn write_at_async<G: Group>(
        &self,
        group: &G,
        buf: impl IoBuf,
        offset: u64,
    ) -> Result<PendingWrite<I, E>, Errno> {
        self.may_write_at()?;
        let (base, len) = buf.raw();
        let [base, len] = group.broadcast([base as u64, len as u64]);
        let pages = Pending { file: *self, buf: DeviceSlice::new(base, len), offset };
        self.fs.by_leader(group, || {
            pages
                .partial()?
                .into_iter()
                .flatten()
                .try_for_each(|page| self.fs.prefetch_page(self, page))
        })?;
        Ok(PendingWrite { pages })
    }
}

impl<I: PageIndex, E: Eviction> Pending<I, E> {
    /// Of the pages of a write, those that must be here before: the first and the last, if the file has more
    /// of them than is written.
    fn partial(&self) -> Result<[Option<u32>; 2], Errno> {
        let pages = self.pages()?;
        let (file, page_size) = (&self.file, self.file.page_size() as u64);
        if pages.is_empty() || !file.fetches() || !file.is_cached() {
            return Ok([None; 2]);
        }
        let (first, last) = (pages.start, pages.end - 1);
        let end = self.offset + self.buf.len() as u64;
        let wanted = |page: u32| {
            let at = u64::from(page) * page_size;
            let all = self.offset <= at && end >= file.size().min(at + page_size);
            (at < file.size() && !all).then_some(page)
        };
        Ok([wanted(first), if last == first { None } else { wanted(last) }])
    }
}

impl<I: PageIndex, E: Eviction> PendingWrite<I, E> {
    /// Writes the bytes, after waiting for what must be there before; how many they are.
    ///
    /// # Errors
    /// As [`File::write_at`].
    pub fn wait<G: Group>(self, group: &G) -> Result<usize, Errno> {
        self.pages.file.write_at(group, self.pages.buf, self.pages.offset)
    }

    /// As [`PendingWrite::wait`] if that need not wait for the host, else the write itself.
    pub fn try_wait<G: Group>(self, group: &G) -> Result<Result<usize, Errno>, Self> {
        let arrived = self.pages.file.fs.by_leader(group, || {
            let pages = self.pages.partial()?;
            Ok(u32::from(pages.into_iter().flatten().all(|page| self.pages.has_arrived(page))))
        });
        if arrived == Ok(0) { Err(self) } else { Ok(self.wait(group)) }
    }
}

/// Up to `N` reads that are begun together: from one file or from several.
pub struct Batch<const N: usize, I: PageIndex = HashIndex, E: Eviction = Clock> {
    reads: [Option<Pending<I, E>>; N],
}

impl<const N: usize, I: PageIndex, E: Eviction> Default for Batch<N, I, E> {
    fn default() -> Self {
        Batch::new()
    }
}

impl<const N: usize, I: PageIndex, E: Eviction> Batch<N, I, E> {
    /// An empty batch.
    pub fn new() -> Self {
        Batch { reads: [const { None }; N] }
    }

    /// Adds a read of the leader's `buf` at `offset`; its number in the batch.
    ///
    /// # Safety
    /// As [`File::read_at_async`]: the buffer is valid, and nobody else uses it, until the batch is waited for.
    ///
    /// # Errors
    /// `EAGAIN` if the batch is full; `EBADF` as for [`File::read_at`].
    pub unsafe fn read_at<G: Group>(
        &mut self,
        group: &G,
        file: &File<I, E>,
        mut buf: impl IoBufMut,
        offset: u64,
    ) -> Result<usize, Errno> {
        file.may_read()?;
        let number = self.reads.iter().position(Option::is_none).ok_or(Errno::EAGAIN)?;
        let (base, len) = buf.raw();
        let [base, len] = group.broadcast([base as u64, len as u64]);
        let want = file.clamp(offset, len as usize);
        let buf = DeviceSlice::new(base, want as u64);
        self.reads[number] = Some(Pending { file: *file, buf, offset });
        Ok(number)
    }

    /// Begins all reads, as far as cells, slots and frames are free; how many were begun. Those left over
    /// are read when they are waited for.
    ///
    /// # Errors
    /// Other than `EAGAIN`, which ends the beginning of reads and is no error here.
    pub fn submit<G: Group>(&self, group: &G) -> Result<usize, Errno> {
        let Some(first) = self.reads.iter().flatten().next() else { return Ok(0) };
        let begun = first.file.fs.by_leader(group, || {
            let mut begun = 0u64;
            for read in self.reads.iter().flatten() {
                let fs = &read.file.fs;
                match read.pages()?.try_for_each(|page| fs.prefetch_page(&read.file, page)) {
                    Ok(()) => begun += 1,
                    Err(Errno::EAGAIN) => break,
                    Err(e) => return Err(e),
                }
            }
            Ok(begun)
        })?;
        Ok(begun as usize)
    }

    /// Waits for all reads; the bytes that each has read, by its number, and 0 for those not used.
    ///
    /// # Errors
    /// As [`File::read_at`], of the first that fails; the others are not read.
    pub fn wait<G: Group>(self, group: &G) -> Result<[usize; N], Errno> {
        let mut lens = [0; N];
        for (len, read) in lens.iter_mut().zip(self.reads) {
            if let Some(read) = read {
                *len = read.wait(group)?;
            }
        }
        Ok(lens)
    }
}
