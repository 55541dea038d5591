//! What is asked for by name: open, stat, rename.

use super::Worker;
use crate::client::Inner;
use crate::faults::{self, Fate, FaultAt};
use crate::paths::{self, Patience};
use crate::validate::{Buffer, Subject};
use gpu_abi::request::HANDLE_NONE;
use gpu_abi::{Errno, FileInfo, OpenFlags};
use std::ffi::CStr;
use std::os::fd::BorrowedFd;

impl Worker {
    /// Lends a path that lies in the region, copied out and checked.
    pub(super) fn with_path<T>(
        &mut self,
        inner: &Inner,
        buffer: Buffer,
        use_it: impl FnOnce(&CStr) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        // V6: copied out before it is looked at.
        Worker::copy_out(inner, buffer, &mut self.copied);
        use_it(paths::c_path(&mut self.copied)?)
    }

    /// O2.
    pub(super) fn open(
        &mut self,
        inner: &Inner,
        path: Buffer,
        flags: OpenFlags,
    ) -> Result<(u32, FileInfo), Errno> {
        // Before anything is made that could then not be opened.
        if !inner.files.has_room() {
            return Err(Errno::EMFILE);
        }
        let shared = &inner.shared;
        let (file, info) = self.with_path(inner, path, |path| {
            inner.open_fault()?;
            inner.view.open(path, flags, &shared.versions, &shared.file_systems)
        })?;
        Ok((inner.files.insert(file)?, info))
    }

    /// O5.
    pub(super) fn stat(&mut self, inner: &Inner, subject: Subject) -> Result<FileInfo, Errno> {
        let versions = &inner.shared.versions;
        match subject {
            Subject::Handle(handle) => inner.with_file(handle, |file| {
                // SAFETY: held, so it stays open for the call.
                let fd = unsafe { BorrowedFd::borrow_raw(file.fd) };
                let patience = if file.writable { Patience::None } else { Patience::ForTheTick };
                paths::describe(fd, c"", versions, patience)
            }),
            Subject::Path(path) => {
                self.with_path(inner, path, |path| inner.view.stat(path, versions))
            }
        }
    }

    /// O15.
    pub(super) fn rename(
        &mut self,
        inner: &Inner,
        old: Buffer,
        new: Buffer,
        replace: bool,
    ) -> Result<(), Errno> {
        // V6: both are copied out before one is looked at.
        Worker::copy_out(inner, old, &mut self.copied);
        Worker::copy_out(inner, new, &mut self.second);
        let (old, new) = (paths::c_path(&mut self.copied)?, paths::c_path(&mut self.second)?);
        inner.view.rename(old, new, replace)
    }
}

impl Inner {
    /// What [`crate::Faults`] have to say to an open.
    pub(super) fn open_fault(&self) -> Result<(), Errno> {
        let faults = self.shared.options.faults.as_deref();
        match faults::fate(faults, FaultAt::Open, HANDLE_NONE, 0) {
            Fate::Upto(_) => Ok(()),
            Fate::Fails(errno) => Err(errno),
        }
    }
}
