//! Whole files, in one request each and past the page cache.

use crate::evict::Eviction;
use crate::file::IoBufMut;
use crate::index::PageIndex;
use crate::mount::Fs;
use crate::open::check_path;
use crate::options::OpenOptions;
use crate::port::Pool;
use crate::stats::Count;
use bytemuck::{Pod, Zeroable};
use gpu_abi::request::{WINDOW_DEVICE, WINDOW_SLOTS};
use gpu_abi::{DeviceSlice, Errno, Op, OpenFlags, Request};
use gpu_rt::{Group, Thread, mem};

/// The longest buffer of one request in device memory (clause V5).
const MAX_DIRECT: usize = 2 << 20;

/// What a leader's request came to.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Outcome {
    len: u64,
    errno: u32,
    /// The cell that is to be given back after the copy, or [`NO_CELL`].
    cell: u32,
    /// Not 0 if the file may go on beyond what one request can bring, while the buffer does.
    more: u32,
    reserved: u32,
}

const NO_CELL: u32 = u32::MAX;

impl<I: PageIndex, E: Eviction> Fs<I, E> {
    /// Reads the file at `path` into the leader's `buf`, from its beginning until it or the buffer
    /// ends; how many bytes that were. Fewer than the buffer holds: that is the whole file.
    ///
    /// As `std::fs::read`, the file is opened, read and closed: a single request does all three,
    /// unless the buffer and the file are both longer than one can bring (2 MiB into device memory
    /// that the host addresses, else a transfer slot). No page of the file enters the cache, and
    /// pages that are there are not looked at: for small files that are read once. What many threads
    /// read is better opened.
    ///
    /// # Errors
    /// As [`Fs::open`] and [`File::read_at`](crate::File::read_at).
    pub fn read<G: Group>(
        &self,
        group: &G,
        path: &[u8],
        mut buf: impl IoBufMut,
    ) -> Result<usize, Errno> {
        let buf = buf.raw();
        // SAFETY: the plan copies from the transfer slot of a cell that is ours until it is given
        // back below, to the leader's buffer, exclusively ours.
        let outcome = unsafe { mem::copy_led(group, || self.read_whole::<G>(path, buf)) };
        if outcome.cell != NO_CELL && group.is_leader() {
            self.release_cell(outcome.cell);
        }
        Errno::check(outcome.errno)?;
        if outcome.more == 0 {
            return Ok(outcome.len as usize);
        }
        // By one open: what is read then is of one file, even if another takes its name.
        let file = self.open(group, path, OpenOptions::new().once())?;
        let result = file.read_at(group, DeviceSlice::new(buf.0 as u64, buf.1 as u64), 0);
        file.close(group)?;
        result
    }

    /// A leader's part of [`Fs::read`]: the request, and what is left to copy.
    fn read_whole<G: Group>(&self, path: &[u8], buf: (*mut u8, usize)) -> (mem::Plan, Outcome) {
        self.request_whole::<G>(path, buf).unwrap_or_else(|e| {
            (mem::Plan::NOTHING, Outcome { errno: e.raw(), cell: NO_CELL, ..Outcome::zeroed() })
        })
    }

    fn request_whole<G: Group>(
        &self,
        path: &[u8],
        (dst, room): (*mut u8, usize),
    ) -> Result<(mem::Plan, Outcome), Errno> {
        let h = self.header();
        let window_at = (dst as u64).wrapping_sub(h.window_base);
        let direct = self.is_direct()
            && h.device_window.checked_sub(room as u64).is_some_and(|last| window_at <= last);
        let most = room.min(if direct { MAX_DIRECT } else { h.slot_size as usize });
        let (cell, slot) = self.claim_with_path(path)?;
        let slot_at = u64::from(cell) * u64::from(h.slot_size);
        let (window, buf) =
            if direct { (WINDOW_DEVICE, window_at) } else { (WINDOW_SLOTS, slot_at) };
        let request = Request {
            op: Op::ReadFile as u8,
            flags: OpenFlags::READ.0,
            window,
            buf,
            len: most as u32,
            path_len: path.len() as u32,
            ..Request::zeroed()
        };
        let tag = self.post::<G>(cell, request)?;
        self.count(Count::Opens, 1);
        let answer = self.wait_for_result(cell, tag)?;
        let len = match answer {
            Ok(len) => len.min(most as u64),
            Err(e) => {
                self.release_cell(cell);
                return Err(e);
            }
        };
        self.count(Count::BytesFetched, len);
        let more = u32::from(len as usize == most && most < room);
        let outcome = Outcome { len, cell: NO_CELL, more, ..Outcome::zeroed() };
        if direct || more != 0 {
            self.release_cell(cell);
            return Ok((mem::Plan::NOTHING, outcome));
        }
        Ok((mem::Plan { dst, src: slot, len: len as usize }, Outcome { cell, ..outcome }))
    }

    /// A cell whose transfer slot, which is returned too, begins with `path`.
    pub(crate) fn claim_with_path(&self, path: &[u8]) -> Result<(u32, *const u8), Errno> {
        check_path(path)?;
        let cell = self.claim(Pool::Slots)?;
        let slot = self.region().slot(cell).ok_or(Errno::EPROTO)?;
        // SAFETY: the slot is ours with its cell, and at least PATH_MAX bytes long.
        unsafe { mem::copy(&Thread, slot, path.as_ptr(), path.len()) };
        Ok((cell, slot))
    }
}
