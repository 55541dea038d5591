//! Bytes that go to the host at once: appended ones, and those for what has no pages.

use crate::cache::Located;
use crate::evict::Eviction;
use crate::file::File;
use crate::frame::PageKey;
use crate::index::PageIndex;
use crate::port::Pool;
use crate::stats::Count;
use crate::write::IoBuf;
use bytemuck::Zeroable;
use gpu_abi::request::{WINDOW_DEVICE, WINDOW_SLOTS};
use gpu_abi::{Errno, Op, Request};
use gpu_rt::atomic::Ordering;
use gpu_rt::{Group, mem};

/// The longest piece that goes past the cache in one request where the host addresses device memory.
const MAX_DIRECT: usize = 2 << 20;

impl<I: PageIndex, E: Eviction> File<I, E> {
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
    #[inline(never)]
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
                let page = self.pin(group, number)?;
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
    pub(crate) fn write_past_cache<G: Group>(
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
    #[inline(never)]
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
}
