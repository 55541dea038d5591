//! What ends a file's writing: making it durable, cutting it, closing it.

use crate::cache::Page;
use crate::evict::Eviction;
use crate::file::File;
use crate::frame::PageKey;
use crate::index::PageIndex;
use crate::mount::Fs;
use crate::port::Patience;
use bytemuck::Zeroable;
use gpu_abi::request::SYNC_DATA;
use gpu_abi::{Errno, Op, Request};
use gpu_rt::Group;
use gpu_rt::atomic::Ordering;

impl<I: PageIndex, E: Eviction> File<I, E> {
    /// Returns when every byte that was written before, by whichever thread of this device, is on stable
    /// storage: fsync(2).
    ///
    /// # Errors
    /// `EBADF` if the file was not opened for writing. What the host says to the writing (`ENOSPC`, `EIO`): what
    /// it has not taken stays dirty, so that a further `sync` tries again. What it says to making it durable:
    /// as after fsync(2), what was written since the last success may then be lost if the host goes down.
    pub fn sync<G: Group>(&self, group: &G) -> Result<(), Errno> {
        self.sync_with(group, 0)
    }

    /// As [`File::sync`], but the file's times need not be stored: fdatasync(2).
    ///
    /// # Errors
    /// As [`File::sync`].
    pub fn sync_data<G: Group>(&self, group: &G) -> Result<(), Errno> {
        self.sync_with(group, SYNC_DATA)
    }

    #[inline(never)]
    fn sync_with<G: Group>(&self, group: &G, flags: u8) -> Result<(), Errno> {
        self.may_write()?;
        // Every thread of the group is done with its writes.
        group.sync();
        if self.record().temporary.load(Ordering::Relaxed) != 0 {
            return Ok(());
        }
        self.flush(group)?;
        self.fs.by_leader(group, || {
            let request =
                Request { op: Op::Sync as u8, flags, handle: self.handle(), ..Request::zeroed() };
            self.fs.call::<G>(request)?.result().map(drop)
        })
    }

    /// Writes what is dirty to the host, where other devices and programs see it when they open the file:
    /// [`File::sync`] without the wait for the storage.
    ///
    /// # Errors
    /// As [`File::sync`].
    pub fn flush<G: Group>(&self, group: &G) -> Result<(), Errno> {
        self.may_write()?;
        group.sync();
        if self.is_cached() { self.fs.write_back_file(group, self.index()) } else { Ok(()) }
    }

    /// Makes the file `len` bytes long: what is beyond is gone, and what is new is zeroes.
    ///
    /// # Errors
    /// `EBADF` if the file was not opened for writing; what ftruncate(2) says: nothing has changed then.
    pub fn set_len<G: Group>(&self, group: &G, len: u64) -> Result<(), Errno> {
        self.may_write()?;
        group.sync();
        let outcome = self.fs.by_leader(group, || self.cut::<G>(len));
        group.sync();
        outcome
    }

    /// A leader's part of [`File::set_len`].
    #[inline(never)]
    fn cut<G: Group>(&self, len: u64) -> Result<(), Errno> {
        let request = Request {
            op: Op::Truncate as u8,
            handle: self.handle(),
            offset: len,
            ..Request::zeroed()
        };
        let host = || self.fs.call::<G>(request)?.result().map(drop);
        let record = self.record();
        if !self.is_cached() {
            return host();
        }
        if len >= record.size().load(Ordering::Relaxed) {
            host()?;
            record.size().fetch_max(len, Ordering::Relaxed);
            return Ok(());
        }
        let (first, start) = (self.page_number(len)?, len as usize & (self.page_size() - 1));
        // From here on nobody begins to write pages of this file back: what is past the end would come
        // back. Whoever has begun holds the lock of a page: after a look at each they are done. Relaxed:
        // the locks order it.
        record.cutting.fetch_add(1, Ordering::Relaxed);
        let outcome = self
            .fs
            .each_page_from(self.version(), first, |_, _| ())
            .and_then(|()| host())
            .and_then(|()| {
                record.size().store(len, Ordering::Relaxed);
                self.fs.end_fetches(self.version(), first)?;
                self.fs.cut_pages(self.version(), first, start as u32)
            });
        record.cutting.fetch_sub(1, Ordering::Relaxed);
        outcome
    }
}

impl<I: PageIndex, E: Eviction> Fs<I, E> {
    /// Closes a file that was opened for writing: who closes last writes back what is dirty.
    #[inline(never)]
    pub(crate) fn close_written<G: Group>(&self, group: &G, index: u32) -> Result<(), Errno> {
        const CLOSED: u32 = 0;
        const DIRTY: u32 = 1;
        let record = self.open_file(index);
        loop {
            let step = self.by_leader(group, || {
                loop {
                    let opens = record.opens.load(Ordering::Relaxed);
                    // Acquire: pairs with the release in `end_extent`. Who has the file open alone is the only
                    // one who could make it dirty.
                    if opens == 1 && record.dirty_pages.load(Ordering::Acquire) != 0 {
                        return Ok(DIRTY);
                    }
                    let left = opens.wrapping_sub(1);
                    let swapped = record.opens.compare_exchange(
                        opens,
                        left,
                        Ordering::AcqRel,
                        Ordering::Relaxed,
                    );
                    if swapped.is_ok() {
                        self.unreference(index);
                        return Ok(CLOSED);
                    }
                }
            })?;
            if step == CLOSED {
                return Ok(());
            }
            if record.temporary.load(Ordering::Relaxed) != 0 {
                self.by_leader(group, || self.discard_file(record.version()))?;
            } else {
                self.write_back_file(group, index)?;
            }
            gpu_rt::relax();
        }
    }

    /// Waits for the fetches of a file's pages from `first` on that were begun before now, and throws away those
    /// that nobody has come for: they bring bytes that the file has no more.
    #[inline(never)]
    fn end_fetches(&self, version: u32, first: u32) -> Result<(), Errno> {
        let mut patience = Patience::new();
        for cell in 0..self.header().slots + self.header().calls {
            let record = self.in_flight(cell);
            loop {
                let key = PageKey(record.key.load(Ordering::Relaxed));
                if key.version() != version || key.page() < first {
                    break;
                }
                if record.adopt(key.0) {
                    self.globals().prefetches.fetch_sub(1, Ordering::Relaxed);
                    self.wait_for_result(cell, record.tag.load(Ordering::Relaxed))?.ok();
                    let frame = record.frame.load(Ordering::Relaxed);
                    self.abandon(key, cell, frame);
                    break;
                }
                // Somebody's: it ends as a page in a frame, or begins to be nobody's.
                if let Some(turn) = record.turn_of(key.0) {
                    patience.wait(self.region().header(), &record.turn, turn)?;
                }
            }
        }
        Ok(())
    }

    /// Zeroes what the pages of a file have from byte `start` of page `first` on, and takes the marks there.
    pub(crate) fn cut_pages(&self, version: u32, first: u32, start: u32) -> Result<(), Errno> {
        self.each_page_from(version, first, |frame, number| {
            self.cut_page(frame, if number == first { start } else { 0 });
        })
    }

    /// Calls `act` with the frame and the number of each cached page of a file from `first` on, locked.
    #[inline(never)]
    fn each_page_from(
        &self,
        version: u32,
        first: u32,
        act: impl Fn(u32, u32),
    ) -> Result<(), Errno> {
        let wanted = |key: PageKey| key.version() == version && key.page() >= first;
        for (number, frame) in (0..).zip(self.frames()) {
            if !wanted(frame.key_hint()) {
                continue;
            }
            let Some(key) = frame.pin_any() else { continue };
            let mut locked = Ok(());
            if wanted(key) {
                locked = self.lock_page(frame);
                if locked.is_ok() {
                    act(number, key.page());
                    frame.unlock();
                }
            }
            self.unpin(Page { frame: number, len: 0 }, false);
            locked?;
        }
        Ok(())
    }
}
