//! Writing into pages of the cache.

use crate::cache::{Found, Page};
use crate::evict::Eviction;
use crate::file::File;
use crate::frame::PageKey;
use crate::index::PageIndex;
use bytemuck::{Pod, Zeroable};
use gpu_abi::{DeviceSlice, Errno};
use gpu_rt::atomic::Ordering;
use gpu_rt::{Group, mem};

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
                    Err(e) => (mem::Plan::NOTHING, Piece { errno: e.raw(), ..piece }),
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

    fn copy_piece(&self, src: *const u8, done: u64, piece: &Piece) -> (mem::Plan, Piece) {
        // SAFETY: within the buffer, and within the frame.
        let (src, dst) = unsafe {
            (src.add(done as usize), self.fs.frame_data(piece.page.frame).add(piece.start as usize))
        };
        let plan = mem::Plan { dst, src, len: piece.len as usize };
        (plan, Piece { what: Piece::COPIED, ..*piece })
    }

    /// Writes to a page that was not in the cache; it is pinned then.
    #[inline(never)]
    fn write_missing<G: Group>(
        &self,
        group: &G,
        src: *const u8,
        done: u64,
        piece: &mut Piece,
    ) -> Result<(), Errno> {
        let found = self.pin_or_begin(group, piece.number, piece.fresh != 0)?;
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
}
