//! Reads of files, whole files and directories.

use super::Worker;
use crate::client::Inner;
use crate::engine::{self, Flight, Job, Outcome};
use crate::files::{Held, Kind, Opened};
use crate::stats::bump;
use crate::validate::Buffer;
use crate::{EngineKind, dir, paths};
use gpu_abi::{Completion, Errno, OpenFlags, Request};
use std::os::fd::OwnedFd;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU8, Ordering};

impl Worker {
    /// O3. `None`: as for [`Worker::fly`].
    #[inline]
    pub(super) fn read(
        &mut self,
        inner: &Inner,
        r: &Request,
        handle: u32,
        offset: u64,
        buffer: Buffer,
    ) -> Option<Completion> {
        let Some(file) = inner.files.hold(handle) else {
            return Some(Completion::of(Err(Errno::EBADF)));
        };
        let flight = Flight::new(file, r.cell, r.tag, Job::Read);
        self.fly(inner, flight.at(inner.locate(buffer), offset))
    }

    /// O8. `None`: as for [`Worker::fly`].
    pub(super) fn read_file(
        &mut self,
        inner: &Inner,
        r: &Request,
        path: Buffer,
        flags: OpenFlags,
        buffer: Buffer,
    ) -> Option<Completion> {
        let opened = self.with_path(inner, path, |path| {
            inner.open_fault()?;
            inner.view.open_file(path, flags)
        });
        let fd = match opened {
            Ok(fd) => fd,
            Err(e) => return Some(Completion::of(Err(e))),
        };
        let flight = Flight::new(Held::unlisted(&fd), r.cell, r.tag, Job::Read);
        let mut flight = flight.at(inner.locate(buffer), 0);
        // Most files are small and cached: they are read and closed without ever having a handle. Not
        // those of which nothing is wanted: preadv2 then does not even say that one is a directory.
        let options = &inner.shared.options;
        if options.nowait_first && inner.shared.engine != EngineKind::Pread && flight.len > 0 {
            match engine::read_without_waiting(flight) {
                (Outcome::Ended(_, result), _) => {
                    let counters = &inner.counters[self.index];
                    bump(&counters.bytes_read, result.unwrap_or(0));
                    return Some(Completion::of(result));
                }
                (Outcome::Waits(rest), _) => flight = rest,
            }
        }
        match inner.list(fd) {
            Ok(file) => {
                flight.file = file;
                self.fly(inner, flight)
            }
            Err(e) => Some(Completion::of(Err(e))),
        }
    }

    /// O6.
    pub(super) fn read_dir(
        &mut self,
        inner: &Inner,
        handle: u32,
        cookie: u64,
        buffer: Buffer,
    ) -> Completion {
        let (at, room) = inner.locate(buffer);
        let scratch = &mut self.scratch;
        let listed = inner.with_file(handle, |file| {
            let position = inner.files.position(file.index);
            let mut position = position.lock().unwrap_or_else(PoisonError::into_inner);
            dir::list(file.fd, &mut position, cookie, room, scratch, |offset, bytes| {
                debug_assert!(offset + bytes.len() <= room);
                for (i, byte) in bytes.iter().enumerate() {
                    // SAFETY: `list` stays within `room`; atomic, as the peer may look on.
                    unsafe { AtomicU8::from_ptr(at.add(offset + i)) }
                        .store(*byte, Ordering::Relaxed);
                }
            })
        });
        let mut completion = Completion::of(listed.map(|(filled, _)| filled as u64));
        if let Ok((_, next)) = listed {
            completion.detail[0] = next;
        }
        completion
    }
}

impl Inner {
    /// Reads at once as far as that needs no waiting; under the synchronous engine, to the end.
    #[inline]
    pub(super) fn read_now(&self, mut flight: Flight) -> Outcome {
        let waits = match flight.file.kind {
            Kind::Stored | Kind::StoredNoNowait if self.shared.engine == EngineKind::Pread => false,
            Kind::InMemory => false,
            Kind::Other => {
                let result = engine::read_once(&flight);
                return Outcome::Ended(flight, result);
            }
            Kind::Stored | Kind::StoredNoNowait => true,
        };
        if !waits {
            let result = engine::read_waiting(&mut flight);
            return Outcome::Ended(flight, result);
        }
        if flight.file.kind == Kind::StoredNoNowait || !self.shared.options.nowait_first {
            return Outcome::Waits(flight);
        }
        let index = flight.file.index;
        let (outcome, unsupported) = engine::read_without_waiting(flight);
        if unsupported {
            self.files.without_nowait(index);
        }
        outcome
    }

    /// Gives a descriptor a place among the open files, for one read alone: it is closed when that
    /// has ended.
    fn list(&self, fd: OwnedFd) -> Result<Held, Errno> {
        let kind = paths::kind(&fd, &self.shared.file_systems)?;
        let handle = self.files.insert(Opened { fd, kind, size: 0, writable: false })?;
        // Nobody else knows the handle, so that it is still open.
        let held = self.files.hold(handle).ok_or(Errno::EBADF)?;
        self.files.close(handle)?;
        Ok(held)
    }
}
