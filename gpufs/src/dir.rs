//! Directories.

use crate::evict::{Clock, Eviction};
use crate::file::{File, IoBufMut};
use crate::index::{HashIndex, PageIndex};
use crate::mount::Fs;
use crate::options::OpenOptions;
use crate::port::Pool;
use bytemuck::{Pod, Zeroable};
use gpu_abi::request::{DirEntry, DirRecord};
use gpu_abi::{Errno, Op, Request};
use gpu_rt::{Group, mem};

/// An open directory. Entries come in the host's order, without `.` and `..`.
pub struct Dir<I: PageIndex = HashIndex, E: Eviction = Clock> {
    file: File<I, E>,
    cookie: u64,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Batch {
    cell: u64,
    len: u64,
    next: u64,
}

impl<I: PageIndex, E: Eviction> Fs<I, E> {
    /// Opens the directory at `path`.
    ///
    /// # Errors
    /// As [`Fs::open`]; `ENOTDIR`.
    pub fn read_dir<G: Group>(&self, group: &G, path: &[u8]) -> Result<Dir<I, E>, Errno> {
        let file = self.open(group, path, OpenOptions::new().directory())?;
        Ok(Dir { file, cookie: 0 })
    }
}

impl<I: PageIndex, E: Eviction> Dir<I, E> {
    /// Bytes that [`Dir::read`]'s buffer needs at least: one entry with the longest of names.
    pub const MIN_BUF: usize = DirRecord::len_for(255);

    /// Reads the next entries into the leader's `buf`; the bytes filled, 0 after the last entry.
    /// [`entries`] takes them apart.
    ///
    /// # Errors
    /// `EINVAL` if the buffer is shorter than [`Dir::MIN_BUF`]; `EIO`.
    pub fn read<G: Group>(&mut self, group: &G, mut buf: impl IoBufMut) -> Result<usize, Errno> {
        let (base, len) = buf.raw();
        let [base, len] = group.broadcast([base as u64, len as u64]);
        if (len as usize) < Self::MIN_BUF {
            return Err(Errno::EINVAL);
        }
        let fs = self.file.fs;
        let slot_size = u64::from(fs.header().slot_size);
        let batch = fs.by_leader(group, || {
            let cell = fs.claim(Pool::Slots)?;
            let request = Request {
                op: Op::ReadDir as u8,
                handle: self.file.handle(),
                offset: self.cookie,
                buf: u64::from(cell) * slot_size,
                len: len.min(slot_size) as u32,
                ..Request::zeroed()
            };
            let tag = fs.post::<G>(cell, request)?;
            let completion = fs.wait_for(cell, tag)?;
            match completion.result() {
                Ok(n) => Ok(Batch {
                    cell: u64::from(cell),
                    len: n.min(u64::from(request.len)),
                    next: completion.detail[0],
                }),
                Err(e) => {
                    fs.release_cell(cell);
                    Err(e)
                }
            }
        })?;
        let slot = fs.region().slot(batch.cell as u32).ok_or(Errno::EPROTO)?;
        // SAFETY: the slot is ours until the cell is given back, the caller's buffer is `len` bytes
        // long and exclusively ours; `batch.len` is at most either's length.
        unsafe { mem::copy(group, base as usize as *mut u8, slot, batch.len as usize) };
        group.sync();
        if group.is_leader() {
            fs.release_cell(batch.cell as u32);
        }
        self.cookie = batch.next;
        Ok(batch.len as usize)
    }

    /// Gives the directory back.
    pub fn close<G: Group>(self, group: &G) {
        // A directory has nothing to write back, so there is nothing to go wrong.
        self.file.close(group).ok();
    }
}

/// The entries in the bytes that [`Dir::read`] filled.
pub fn entries(bytes: &[u8]) -> impl Iterator<Item = DirEntry<'_>> {
    let mut rest = bytes;
    core::iter::from_fn(move || {
        let (entry, after) = DirEntry::split_first(rest)?;
        rest = after;
        Some(entry)
    })
}
