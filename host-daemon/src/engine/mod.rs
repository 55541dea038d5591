//! Reads and writes: those that are done at once, and who carries out those that have to wait.
//!
//! A read that hits the host's page cache costs least as a plain system call on the thread that
//! polls, and leaves its bytes in that CPU's cache for whoever asked: so each read is first tried
//! with `RWF_NOWAIT`. What is left of it, if anything, goes to the [`Ring`] or to the [`Pool`].
//! Writes go to the host's page cache, at once; waiting for storage (`Sync`) goes to the engine.

mod gather;
mod pool;
mod read;
pub(crate) mod ring;
mod write;

pub(crate) use gather::{Gather, Piece};
pub(crate) use pool::Pool;
pub(crate) use read::{read_once, read_waiting, read_without_waiting};
pub(crate) use ring::Ring;
pub(crate) use write::append;

use crate::faults::{self, Fate, FaultAt, Faults};
use crate::files::Held;
use gpu_abi::Errno;

/// What is to be done with a file.
#[derive(Debug)]
pub(crate) enum Job {
    /// From the file at `offset` to the `len` bytes at `target`.
    Read,
    /// The other way round.
    Write,
    /// The pieces, `len` bytes in all, to places of their own.
    WriteRuns(Box<Gather>),
    /// The `len` bytes at `target` to the end, which becomes `offset`.
    Append,
    /// Waits for storage.
    Sync { data_only: bool },
}

/// A request that has been validated: its memory is the client's, its file is held.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) file: Held,
    pub(crate) cell: u32,
    pub(crate) tag: u32,
    pub(crate) job: Job,
    pub(crate) target: *mut u8,
    pub(crate) len: usize,
    /// Bytes done so far.
    pub(crate) done: usize,
    /// Where in the file it began.
    pub(crate) offset: u64,
    /// For a write: [`crate::versions::Versions::asked`], before it began.
    pub(crate) asked: u64,
    /// What its system call comes to, by order of [`Faults`], whatever the kernel says.
    doom: Option<Errno>,
}

// SAFETY: the target, and the pieces of a `Gather`, are memory that any thread may read and write,
// for as long as the client lives.
unsafe impl Send for Flight {}

impl Flight {
    /// A request for the file that begins at offset 0 and has no bytes yet.
    pub(crate) fn new(file: Held, cell: u32, tag: u32, job: Job) -> Flight {
        let target = std::ptr::null_mut();
        Flight { file, cell, tag, job, target, len: 0, done: 0, offset: 0, asked: 0, doom: None }
    }

    /// The same, for `len` bytes at `target` and `offset` in the file.
    pub(crate) fn at(self, (target, len): (*mut u8, usize), offset: u64) -> Flight {
        Flight { target, len, offset, ..self }
    }

    /// Where the next byte lies, how many are left, and where in the file they are.
    pub(crate) fn rest(&self) -> (*mut u8, usize, i64) {
        // `done <= len`, and V7 keeps `offset + len` within an i64.
        debug_assert!(self.done <= self.len);
        // SAFETY: within the target's `len` bytes.
        let at = unsafe { self.target.add(self.done) };
        (at, self.len - self.done, (self.offset + self.done as u64) as i64)
    }

    /// Whether there is nothing left to ask for: all of it is done, or all up to the end that the
    /// file had when it was opened, which need not be asked for again.
    pub(crate) fn is_complete(&self) -> bool {
        let end = self.offset + self.done as u64;
        let is_end = || matches!(self.job, Job::Read) && self.done > 0 && end == self.file.size;
        self.done >= self.len || is_end()
    }

    /// What the client is told when it ends with this error: bytes that have been read or written
    /// come first, as in pread and pwrite.
    pub(crate) fn ended_by(&self, errno: Errno) -> Result<u64, Errno> {
        if self.done > 0 { Ok(self.done as u64) } else { Err(errno) }
    }

    /// What its next system call shall come to, for at most so many bytes.
    fn fate(&self, faults: Option<&Faults>) -> Fate {
        let (at, left) = match self.job {
            Job::Read => return Fate::Upto(self.len - self.done),
            Job::Write | Job::WriteRuns(_) | Job::Append => (FaultAt::Write, self.len - self.done),
            Job::Sync { .. } => (FaultAt::Sync, 0),
        };
        faults::fate(faults, at, self.file.handle, left)
    }

    /// A system call has done `n` bytes of it; the result, if that was all.
    fn went_on(&mut self, n: usize) -> Option<Result<u64, Errno>> {
        self.done += n;
        if let Job::WriteRuns(gather) = &mut self.job {
            gather.advance(n);
        }
        match self.job {
            // The end of the file.
            Job::Read if n == 0 => Some(Ok(self.done as u64)),
            Job::Sync { .. } => Some(Ok(0)),
            _ if self.is_complete() => Some(Ok(self.done as u64)),
            // Nothing was written and no reason given: asking on might never end.
            Job::Write | Job::WriteRuns(_) | Job::Append if n == 0 => {
                Some(self.ended_by(Errno::EIO))
            }
            _ => None,
        }
    }
}

/// Carries a request out on the calling thread, waiting as long as it takes. Appends need more than
/// that: [`append`].
pub(crate) fn carry_out(flight: &mut Flight, faults: Option<&Faults>) -> Result<u64, Errno> {
    match flight.job {
        Job::Read => read_waiting(flight),
        Job::Write | Job::WriteRuns(_) | Job::Append => write::write_waiting(flight, faults),
        Job::Sync { data_only } => write::sync(flight, data_only, faults),
    }
}

/// What became of a first attempt.
pub(crate) enum Outcome {
    Ended(Flight, Result<u64, Errno>),
    /// The rest of it would have to wait.
    Waits(Flight),
}

fn last_errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

pub(crate) fn errno(raw: i32) -> Errno {
    Errno::from_raw(raw as u32).unwrap_or(Errno::EIO)
}
