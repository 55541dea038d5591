//! Names: removing, renaming, making directories. One request each; the host's errors are the answer.

use crate::evict::Eviction;
use crate::index::PageIndex;
use crate::mount::Fs;
use crate::open::check_path;
use crate::port::Pool;
use bytemuck::Zeroable;
use gpu_abi::request::RENAME_NO_REPLACE;
use gpu_abi::{Errno, Op, OpenFlags, Request};
use gpu_rt::Group;

impl<I: PageIndex, E: Eviction> Fs<I, E> {
    /// Removes the file at `path`: `std::fs::remove_file`. Whoever has it open goes on using it, on this device
    /// and elsewhere; a symbolic link is removed itself.
    ///
    /// # Errors
    /// As unlink(2); `EROFS` where the session may not write.
    pub fn unlink<G: Group>(&self, group: &G, path: &[u8]) -> Result<(), Errno> {
        self.change_name(group, Op::Unlink, OpenFlags(0), path)
    }

    /// Removes the empty directory at `path`: `std::fs::remove_dir`.
    ///
    /// # Errors
    /// As rmdir(2).
    pub fn rmdir<G: Group>(&self, group: &G, path: &[u8]) -> Result<(), Errno> {
        self.change_name(group, Op::Unlink, OpenFlags::DIRECTORY, path)
    }

    /// Makes a directory at `path`: `std::fs::create_dir`.
    ///
    /// # Errors
    /// As mkdir(2).
    pub fn mkdir<G: Group>(&self, group: &G, path: &[u8]) -> Result<(), Errno> {
        self.change_name(group, Op::MakeDir, OpenFlags(0), path)
    }

    fn change_name<G: Group>(
        &self,
        group: &G,
        op: Op,
        flags: OpenFlags,
        path: &[u8],
    ) -> Result<(), Errno> {
        self.by_leader(group, || {
            let request = Request { op: op as u8, flags: flags.0, ..Request::zeroed() };
            self.call_with_path::<G>(request, path)?.result().map(drop)
        })
    }

    /// Gives what is at `from` the name `to`, in the place of what has it: `std::fs::rename`. What is open stays
    /// open; `from`'s dirty pages go to the same file as before.
    ///
    /// # Errors
    /// As rename(2); `ENAMETOOLONG` also if both paths together do not fit in a transfer slot.
    pub fn rename<G: Group>(&self, group: &G, from: &[u8], to: &[u8]) -> Result<(), Errno> {
        self.rename_with(group, from, to, 0)
    }

    /// As [`Fs::rename`], but `EEXIST` if the name `to` is taken.
    ///
    /// # Errors
    /// As [`Fs::rename`]; `EINVAL` where the file system cannot do that.
    pub fn rename_new<G: Group>(&self, group: &G, from: &[u8], to: &[u8]) -> Result<(), Errno> {
        self.rename_with(group, from, to, RENAME_NO_REPLACE)
    }

    fn rename_with<G: Group>(
        &self,
        group: &G,
        from: &[u8],
        to: &[u8],
        flags: u8,
    ) -> Result<(), Errno> {
        self.by_leader(group, || {
            check_path(from)?;
            check_path(to)?;
            let slot_size = self.header().slot_size as usize;
            if from.len() + to.len() > slot_size {
                return Err(Errno::ENAMETOOLONG);
            }
            let cell = self.claim(Pool::Slots)?;
            let slot = self.region().slot(cell).ok_or(Errno::EPROTO)?;
            // SAFETY: the slot is ours with its cell, and both fit.
            unsafe {
                slot.copy_from_nonoverlapping(from.as_ptr(), from.len());
                slot.add(from.len()).copy_from_nonoverlapping(to.as_ptr(), to.len());
            }
            let request = Request {
                op: Op::Rename as u8,
                flags,
                buf: u64::from(cell) * slot_size as u64,
                len: (from.len() + to.len()) as u32,
                path_len: from.len() as u32,
                ..Request::zeroed()
            };
            let tag = self.post::<G>(cell, request)?;
            let answer = self.wait_for(cell, tag)?;
            self.release_cell(cell);
            answer.result().map(drop)
        })
    }
}
