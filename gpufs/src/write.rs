//! Writing: into pages of the cache, at the end of a file, and to what has no pages; making durable, cutting.

use crate::cache::{Found, Located, Page};
use crate::evict::Eviction;
use crate::file::File;
use crate::frame::PageKey;
use crate::index::PageIndex;
use crate::mount::Fs;
use crate::port::Pool;
use crate::stats::Count;
use bytemuck::{Pod, Zeroable};
use gpu_abi::request::{SYNC_DATA, WINDOW_DEVICE, WINDOW_SLOTS};
use gpu_abi::{DeviceSlice, Errno, Op, Request};
use gpu_rt::atomic::Ordering;
use gpu_rt::{Group, mem};

/// The longest piece that goes past the cache in one request where the host addresses device memory.
const MAX_DIRECT: usize = 2 << 20;

/// Bytes that a group writes: a slice, or a slice of device memory.
pub trait IoBuf: sealed::Sealed {
    /// Address and length.
    #[doc(hidden)]
    fn raw(&self) -> (*const u8, usize);
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for &[u8] {}
    impl Sealed for super::DeviceSlice<u8> {}
}

impl IoBuf for &[u8] {
    fn raw(&self) -> (*const u8, usize) {
        (self.as_ptr(), self.len())
    }
}

impl IoBuf for DeviceSlice<u8> {
    fn raw(&self) -> (*const u8, usize) {
        (self.as_ptr(), self.len())
    }
}

/// A page's worth of a write, as its leader tells the group of it.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Piece {
    errno: u32,
    /// One of the below.
    what: u32,
    /// The page's number.
    number: u32,
    /// Where in the page.
    start: u32,
    len: u32,
    /// Not 0 if nothing of the page that is not written need be fetched.
    fresh: u32,
    page: Page,
}

impl Piece {
    /// There is nothing left to write.
    const END: u32 = 0;
    /// The page is not in the cache.
    const MISS: u32 = 1;
    /// The bytes are in the page, which is pinned.
    const COPIED: u32 = 2;
}

impl<I: PageIndex, E: Eviction> File<I, E> {
    /// Writes the leader's `buf` at `offset`; how many bytes that were. Returns to all threads of the
    /// group, after whoever reads the file on this device can see them; the file has them after
    /// [`File::sync`] or [`File::close`], or when their page makes room for others.
    ///
    /// Exactly these bytes will be written there: other devices and the host may write the ones beside them,
    /// in the same page, at the same time.
    ///
    /// A page of which only a part is written, and which has more of the file, is fetched first, unless the
    /// file was opened with [`OpenOptions::write_once`](crate::OpenOptions::write_once).
    ///
    /// # Errors
    /// `EBADF` if the file was not opened for writing; `EFBIG` past the largest offset; `EBUSY` if no page
    /// frame came free for long; what reading a page says; where all pages that could make room are dirty
    /// and cannot be written back, what the host said to that (`ENOSPC`). An error after some bytes is not
    /// told: the answer is then less than the length of `buf`.
    pub fn write_at<G: Group>(
        &self,
        group: &G,
        buf: impl IoBuf,
        offset: u64,
    ) -> Result<usize, Errno> {
        self.may_write_at()?;
        let (src, len) = buf.raw();
        if !self.is_cached() {
            return self.write_past_cache(group, src, len, offset);
        }
        let mut done = 0;
        loop {
            // SAFETY: the plan copies from the leader's buffer to a page that stays pinned; the two do not
            // overlap, unless the caller writes what it has mapped, which is its own affair.
            let mut piece =
                unsafe { mem::copy_led(group, || self.begin_piece(src, len, offset, done)) };
            let outcome = match piece.what {
                _ if piece.errno != 0 => Err(Errno::check(piece.errno).err().unwrap_or(Errno::EIO)),
                Piece::END => return Ok(done as usize),
                Piece::MISS => self.write_missing(group, src, done, &mut piece),
                _ => Ok(()),
            };
            let outcome = match outcome {
                Ok(()) => self.fs.by_leader(group, || {
                    self.end_piece(&piece, offset + done + u64::from(piece.len))
                }),
                Err(e) => Err(e),
            };
            match outcome {
                Ok(()) => done += u64::from(piece.len),
                Err(e) if done == 0 => return Err(e),
                Err(_) => return Ok(done as usize),
            }
        }
    }

    /// A leader's look at where a write stands: copies if the page is in the cache.
    fn begin_piece(
        &self,
        src: *const u8,
        len: usize,
        offset: u64,
        done: u64,
    ) -> (mem::Plan, Piece) {
        let piece = Piece::zeroed();
        let left = len as u64 - done;
        if left == 0 {
            return (mem::Plan::NOTHING, piece);
        }
        match self.plan_piece(offset, done, left) {
            Ok(piece) => match self.fs.pin_if_cached(PageKey::new(self.version(), piece.number)) {
                Some(page) => match self.whole(page) {
                    Ok(page) => self.copy_piece(src, done, &Piece { page, ..piece }),
                    Err(e) => {
                        self.fs.unpin(page, false);
                        (mem::Plan::NOTHING, Piece { errno: e.raw(), ..piece })
                    }
                },
                None => (mem::Plan::NOTHING, Piece { what: Piece::MISS, ..piece }),
            },
            Err(e) => (mem::Plan::NOTHING, Piece { errno: e.raw(), ..piece }),
        }
    }

    fn plan_piece(&self, offset: u64, done: u64, left: u64) -> Result<Piece, Errno> {
        let at = offset.checked_add(done).ok_or(Errno::EFBIG)?;
        let number = self.page_number(at)?;
        let page_size = self.page_size() as u64;
        let start = at % page_size;
        let len = left.min(page_size - start);
        let page_at = at - start;
        // What is not written of a page is fetched, unless the file ends before that, or whoever opened it
        // says that it was never written.
        let size = self.size();
        let is_all = page_at >= size || start == 0 && at + len >= size.min(page_at + page_size);
        Ok(Piece {
            number,
            start: start as u32,
            len: len as u32,
            fresh: u32::from(is_all || !self.fetches()),
            ..Piece::zeroed()
        })
    }

    /// A pinned page with all its bytes valid.
    fn whole(&self, page: Page) -> Result<Page, Errno> {
        let len = self.fs.make_whole(page)?;
        Ok(Page { len, ..page })
    }

    fn copy_piece(&self, src: *const u8, done: u64, piece: &Piece) -> (mem::Plan, Piece) {
        // SAFETY: within the buffer, and within the frame.
        let (src, dst) = unsafe {
            (src.add(done as usize), self.fs.frame_data(piece.page.frame).add(piece.start as usize))
        };
        let plan = mem::Plan { dst, src, len: piece.len as usize };
        (plan, Piece { what: Piece::COPIED, ..*piece })
    }

    /// Writes to a page that was not in the cache; it is pinned then.
    fn write_missing<G: Group>(
        &self,
        group: &G,
        src: *const u8,
        done: u64,
        piece: &mut Piece,
    ) -> Result<(), Errno> {
        let found = self.fs.pin_or_begin(group, self, piece.number, piece.fresh != 0)?;
        piece.page = found.page;
        if found.what != Found::FRESH {
            // SAFETY: as in `write_at`.
            *piece = unsafe { mem::copy_led(group, || self.copy_piece(src, done, piece)) };
            return Ok(());
        }
        // All of a frame is filled before anybody can see it: it has another page's bytes.
        let data = self.fs.frame_data(piece.page.frame);
        let (start, end) = (piece.start as usize, (piece.start + piece.len) as usize);
        // SAFETY: the frame is BUSY and ours, and a page long.
        unsafe {
            mem::fill(group, data, 0, start);
            mem::fill(group, data.add(end), 0, self.page_size() - end);
            *piece = mem::copy_led(group, || self.copy_piece(src, done, piece));
        }
        group.sync();
        if group.is_leader() {
            let key = PageKey::new(self.version(), piece.number);
            self.fs.publish_page(key, found.cell, piece.page);
        }
        Ok(())
    }

    /// The bytes are in the page: marks them, lets the file grow, and unpins the page.
    fn end_piece(&self, piece: &Piece, end: u64) -> Result<(), Errno> {
        let marked = self.fs.mark_dirty(
            piece.page.frame,
            self.index(),
            piece.start,
            piece.start + piece.len,
        );
        if marked.is_ok() {
            // After the bytes: a reader who sees the size may read them. Relaxed: the page's pins order that.
            self.record().size().fetch_max(end, Ordering::Relaxed);
        }
        self.fs.unpin(piece.page, self.drops_pages());
        marked
    }

    /// Writes at the end of the file, wherever that is when the host does so; the offset of the first byte.
    /// One request for what fits in a transfer slot (or, where the host addresses device memory, 2 MiB);
    /// more comes in several pieces, between which others may write.
    ///
    /// # Errors
    /// `EBADF` if the file was not opened for writing; `EINVAL` for an empty buffer; what the host says: if
    /// that was not to the first piece, some bytes are in the file.
    pub fn append<G: Group>(&self, group: &G, buf: impl IoBuf) -> Result<u64, Errno> {
        self.may_write()?;
        let (src, len) = buf.raw();
        let [src, len] = group.broadcast([src as u64, len as u64]);
        let mut first = None;
        let mut done = 0;
        while done < len {
            let (wrote, at) =
                self.post_bytes(group, Op::Append, (src + done) as *const u8, len - done, 0)?;
            first.get_or_insert(at);
            if self.is_live() {
                self.note_appended(group, (src + done) as *const u8, wrote, at)?;
            }
            done += wrote;
        }
        first.ok_or(Errno::EINVAL)
    }

    /// What the host has appended also goes to pages that are in the cache: they ended before.
    fn note_appended<G: Group>(
        &self,
        group: &G,
        src: *const u8,
        len: u64,
        at: u64,
    ) -> Result<(), Errno> {
        let page_size = self.page_size() as u64;
        let mut done = 0;
        while done < len {
            let start = (at + done) % page_size;
            let n = (len - done).min(page_size - start);
            let number = self.page_number(at + done)?;
            let cached = self.fs.by_leader(group, || {
                let key = PageKey::new(self.version(), number);
                Ok(u32::from(!matches!(self.fs.locate_unpinned(key), Located::Absent)))
            })?;
            if cached != 0 {
                let page = self.fs.pin(group, self, number)?;
                // SAFETY: within the buffer and the page, which is pinned. The bytes are the file's: to have
                // them twice, if the page was fetched just now, changes nothing.
                unsafe {
                    mem::copy_led(group, || {
                        let dst = self.fs.frame_data(page.frame).add(start as usize);
                        (mem::Plan { dst, src: src.add(done as usize), len: n as usize }, 0u32)
                    });
                }
                if group.is_leader() {
                    self.fs.unpin(page, self.drops_pages());
                }
            }
            done += n;
        }
        group.sync();
        if group.is_leader() {
            self.record().size().fetch_max(at + len, Ordering::Relaxed);
        }
        group.sync();
        Ok(())
    }

    /// To what has no pages: devices, pipes.
    fn write_past_cache<G: Group>(
        &self,
        group: &G,
        src: *const u8,
        len: usize,
        offset: u64,
    ) -> Result<usize, Errno> {
        let [src, len] = group.broadcast([src as u64, len as u64]);
        let mut done = 0;
        while done < len {
            let at = offset.checked_add(done).ok_or(Errno::EFBIG)?;
            match self.post_bytes(group, Op::Write, (src + done) as *const u8, len - done, at) {
                Ok((0, _)) => break,
                Ok((wrote, _)) => done += wrote,
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
        }
        Ok(done as usize)
    }

    /// Sends bytes to the host, as many as one request takes; how many it wrote, and where.
    fn post_bytes<G: Group>(
        &self,
        group: &G,
        op: Op,
        src: *const u8,
        len: u64,
        offset: u64,
    ) -> Result<(u64, u64), Errno> {
        let fs = &self.fs;
        let h = fs.header();
        let window_at = (src as u64).wrapping_sub(h.window_base);
        let direct = fs.is_direct()
            && h.device_window.checked_sub(len).is_some_and(|last| window_at <= last);
        let most = if direct { MAX_DIRECT as u64 } else { u64::from(h.slot_size) }.min(len);
        let cell = if direct {
            fs.by_leader(group, || fs.claim(Pool::Calls))?
        } else {
            let cell = fs.by_leader(group, || fs.claim(Pool::Slots))?;
            let slot = fs.region().slot(cell).ok_or(Errno::EPROTO)?;
            // SAFETY: the slot is ours, and at least that long; the buffer is the caller's, and is too.
            unsafe { mem::copy(group, slot, src, most as usize) };
            group.sync();
            cell
        };
        let (window, buf) = if direct {
            (WINDOW_DEVICE, window_at)
        } else {
            (WINDOW_SLOTS, u64::from(cell) * u64::from(h.slot_size))
        };
        let [wrote, at] = fs.by_leader(group, || {
            let request = Request {
                op: op as u8,
                window,
                handle: self.handle(),
                offset,
                buf,
                len: most as u32,
                ..Request::zeroed()
            };
            let tag = fs.post::<G>(cell, request)?;
            let answer = fs.wait_for(cell, tag)?;
            fs.release_cell(cell);
            let wrote = answer.result()?.min(most);
            fs.count(Count::BytesWritten, wrote);
            Ok([wrote, answer.detail[0]])
        })?;
        Ok((wrote, at))
    }

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
        self.may_write_at()?;
        group.sync();
        let outcome = self.fs.by_leader(group, || self.cut::<G>(len));
        group.sync();
        outcome
    }

    /// A leader's part of [`File::set_len`].
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
                self.fs.cut_pages(self.version(), first, start as u32)
            });
        record.cutting.fetch_sub(1, Ordering::Relaxed);
        outcome
    }
}

impl<I: PageIndex, E: Eviction> Fs<I, E> {
    /// Closes a file that was opened for writing: who closes last writes back what is dirty.
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
                self.by_leader(group, || self.cut_pages(record.load_info().version, 0, 0))?;
            } else {
                self.write_back_file(group, index)?;
            }
            gpu_rt::relax();
        }
    }

    /// Zeroes what the pages of a file have from byte `start` of page `first` on, and takes the marks there.
    pub(crate) fn cut_pages(&self, version: u32, first: u32, start: u32) -> Result<(), Errno> {
        self.each_page_from(version, first, |frame, number| {
            self.cut_page(frame, if number == first { start } else { 0 });
        })
    }

    /// Calls `act` with the frame and the number of each cached page of a file from `first` on, locked.
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
