//! Writes, syncs, truncations.

use super::Worker;
use crate::EngineKind;
use crate::client::Inner;
use crate::engine::{Flight, Gather, Job, Outcome, Piece};
use crate::faults::{self, Fate, FaultAt};
use crate::files::{Held, Kind};
use crate::paths::{self, Patience};
use crate::validate::Buffer;
use gpu_abi::request::Run;
use gpu_abi::{Completion, Errno, FileInfo, Request};
use std::os::fd::BorrowedFd;

impl Worker {
    /// O9. `None`: as for [`Worker::fly`].
    #[inline]
    pub(super) fn write(
        &mut self,
        inner: &Inner,
        r: &Request,
        handle: u32,
        offset: u64,
        buffer: Buffer,
    ) -> Option<Completion> {
        let file = match inner.hold_to_write(handle) {
            Ok(file) => file,
            Err(e) => return Some(Completion::of(Err(e))),
        };
        let flight = Flight::new(file, r.cell, r.tag, Job::Write);
        self.fly(inner, flight.at(inner.locate(buffer), offset))
    }

    /// O10. `None`: as for [`Worker::fly`].
    pub(super) fn write_runs(
        &mut self,
        inner: &Inner,
        r: &Request,
        handle: u32,
        table: Buffer,
    ) -> Option<Completion> {
        Worker::copy_out(inner, table, &mut self.copied);
        // All of them are judged before one is written.
        let gathered = inner.gather(r, &self.copied);
        match gathered.and_then(|gathered| Ok((gathered, inner.hold_to_write(handle)?))) {
            Ok(((gather, total), file)) => {
                let mut flight = Flight::new(file, r.cell, r.tag, Job::WriteRuns(Box::new(gather)));
                flight.len = total;
                self.fly(inner, flight)
            }
            Err(e) => Some(Completion::of(Err(e))),
        }
    }

    /// O11. `None`: as for [`Worker::fly`].
    pub(super) fn append(
        &mut self,
        inner: &Inner,
        r: &Request,
        handle: u32,
        buffer: Buffer,
    ) -> Option<Completion> {
        let file = match inner.hold_to_write(handle) {
            Ok(file) => file,
            Err(e) => return Some(Completion::of(Err(e))),
        };
        let flight = Flight::new(file, r.cell, r.tag, Job::Append);
        self.fly(inner, flight.at(inner.locate(buffer), 0))
    }

    /// O12. `None`: as for [`Worker::fly`]. What it promises needs nothing but this order: a write is
    /// answered when the kernel has it, whichever worker or engine handed it over, and the kernel
    /// syncs all that it has of the file, whichever descriptor it came by.
    pub(super) fn sync(
        &mut self,
        inner: &Inner,
        r: &Request,
        handle: u32,
        data_only: bool,
    ) -> Option<Completion> {
        let Some(file) = inner.files.hold(handle) else {
            return Some(Completion::of(Err(Errno::EBADF)));
        };
        self.fly(inner, Flight::new(file, r.cell, r.tag, Job::Sync { data_only }))
    }
}

impl Inner {
    /// Begins what is to be done with a file, and does what is done at once: what waits for storage
    /// does not.
    ///
    /// A write ends in the host's page cache, so that to hand it over costs more than to do it. On
    /// Linux 6.18 with ext4 (`benches/write.rs`, µs per write, ring always full):
    ///
    /// | bytes | system call alone | at once | by io_uring | by the pool |
    /// |---|---|---|---|---|
    /// | 64 | 1.40 | 1.39 | 3.90 | 3.12 |
    /// | 4096 | 1.92 | 1.90 | 4.74 | 3.93 |
    /// | 65,536 | 20.0 | 19.8 | 25.7 | 29.4 |
    ///
    /// There is nothing to try first: ext4 and tmpfs refuse every write with `RWF_NOWAIT` (0.3 µs, in
    /// vain). The price: when so much is dirty that the kernel slows writers down, a worker is slowed
    /// down with its client.
    #[inline]
    pub(super) fn begin(&self, mut flight: Flight) -> Outcome {
        if matches!(flight.job, Job::Read) {
            return self.read_now(flight);
        }
        let at_once = self.shared.engine == EngineKind::Pread
            || matches!(flight.file.kind, Kind::InMemory)
            || match flight.job {
                Job::Sync { .. } => false,
                // Only who makes the system call learns where the bytes went.
                Job::Append if self.shared.engine == EngineKind::IoUring => true,
                _ => flight.file.kind == Kind::Other || self.shared.options.nowait_first,
            };
        flight.asked = self.shared.versions.asked();
        if !at_once {
            return Outcome::Waits(flight);
        }
        let result = self.carry_out(&mut flight);
        Outcome::Ended(flight, result)
    }

    /// The file of a handle that was opened for writing.
    fn hold_to_write(&self, handle: u32) -> Result<Held, Errno> {
        let file = self.files.hold(handle).ok_or(Errno::EBADF)?;
        if file.writable {
            return Ok(file);
        }
        self.files.give_back(file.index);
        Err(Errno::EBADF)
    }

    /// O10: the pieces of a table that has been copied out, and their bytes in all.
    fn gather(&self, r: &Request, table: &[u8]) -> Result<(Gather, usize), Errno> {
        let records = table.chunks_exact(size_of::<Run>());
        let (mut gather, mut total) = (Gather::with_capacity(records.len()), 0);
        for record in records {
            let run: Run = bytemuck::pod_read_unaligned(record);
            let (at, len) = self.locate(self.limits.check_run(r, &run, &mut total)?);
            gather.push(Piece { at, len, offset: run.offset });
        }
        Ok((gather, total as usize))
    }

    /// O13.
    pub(super) fn truncate(&self, handle: u32, size: u64) -> Result<FileInfo, Errno> {
        let file = self.hold_to_write(handle)?;
        let versions = &self.shared.versions;
        let asked = versions.asked();
        let result = self.truncate_file(&file, size);
        versions.wrote(asked, || paths::identity(&file));
        // Only now: what this client is told comes after the change.
        // SAFETY: held, so it stays open for the call.
        let fd = unsafe { BorrowedFd::borrow_raw(file.fd) };
        let info = result.and_then(|()| paths::describe(fd, c"", versions, Patience::None));
        self.files.give_back(file.index);
        info
    }

    fn truncate_file(&self, file: &Held, size: u64) -> Result<(), Errno> {
        let faults = self.shared.options.faults.as_deref();
        if let Fate::Fails(errno) = faults::fate(faults, FaultAt::Truncate, file.handle, 0) {
            return Err(errno);
        }
        // SAFETY: held, so it stays open for the call.
        let fd = unsafe { BorrowedFd::borrow_raw(file.fd) };
        loop {
            match rustix::fs::ftruncate(fd, size) {
                Err(rustix::io::Errno::INTR) => {}
                result => return result.map_err(paths::errno),
            }
        }
    }
}
