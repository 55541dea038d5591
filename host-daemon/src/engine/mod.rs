//! Reads: those that end at once, and who carries out those that have to wait.
//!
//! A read that hits the host's page cache costs least as a plain system call on the thread that
//! polls, and leaves its bytes in that CPU's cache for whoever asked: so each read is first tried
//! with `RWF_NOWAIT`. What is left of it, if anything, goes to the [`Ring`] or to the [`Pool`].

mod pool;
pub(crate) mod ring;

pub(crate) use pool::Pool;
pub(crate) use ring::Ring;

use crate::files::Held;
use gpu_abi::Errno;

/// A read that has been validated: its target is the client's, its file is held.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flight {
    pub(crate) file: Held,
    pub(crate) cell: u32,
    pub(crate) tag: u32,
    pub(crate) target: *mut u8,
    pub(crate) len: usize,
    /// Bytes read so far.
    pub(crate) done: usize,
    /// Where in the file it began.
    pub(crate) offset: u64,
}

// SAFETY: the target is memory that any thread may write, for as long as the client lives.
unsafe impl Send for Flight {}

impl Flight {
    /// Where the next byte goes, how many are left, and where in the file they are.
    pub(crate) fn rest(&self) -> (*mut u8, usize, i64) {
        // `done <= len`, and V7 keeps `offset + len` within an i64.
        debug_assert!(self.done <= self.len);
        // SAFETY: within the target's `len` bytes.
        let at = unsafe { self.target.add(self.done) };
        (at, self.len - self.done, (self.offset + self.done as u64) as i64)
    }

    /// Whether there is nothing left to ask for: all of it has been read, or all up to the end that
    /// the file had when it was opened, which need not be asked for again.
    pub(crate) fn is_complete(&self) -> bool {
        let end = self.offset + self.done as u64;
        self.done >= self.len || (self.done > 0 && end == self.file.size)
    }

    /// What the client is told when the read ends with this error: bytes that have been read come
    /// first, as in pread.
    pub(crate) fn ended_by(&self, errno: Errno) -> Result<u64, Errno> {
        if self.done > 0 { Ok(self.done as u64) } else { Err(errno) }
    }
}

/// What the page cache holds, it holds in multiples of this, but for the last bytes of a file.
const CACHED_PAGE: u64 = 4096;

/// What became of a first attempt.
pub(crate) enum Outcome {
    Ended(Result<u64, Errno>),
    /// The rest of it would have to wait.
    Waits(Flight),
}

fn last_errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

pub(crate) fn errno(raw: i32) -> Errno {
    Errno::from_raw(raw as u32).unwrap_or(Errno::EIO)
}

/// Reads to the end, waiting as long as it takes. Anything shorter than that is asked for again.
#[inline]
pub(crate) fn read_waiting(mut flight: Flight) -> Result<u64, Errno> {
    loop {
        let (at, left, offset) = flight.rest();
        // SAFETY: the target is valid for writes of `left` bytes.
        match unsafe { libc::pread(flight.file.fd, at.cast(), left, offset) } {
            n if n >= 0 => {
                flight.done += n as usize;
                if n == 0 || flight.is_complete() {
                    return Ok(flight.done as u64);
                }
            }
            _ => match last_errno() {
                libc::EINTR => {}
                raw => return flight.ended_by(errno(raw)),
            },
        }
    }
}

/// One system call on something that is no stored file: a device, a pipe, a directory.
pub(crate) fn read_once(flight: Flight) -> Result<u64, Errno> {
    loop {
        let (at, left, offset) = flight.rest();
        // SAFETY: the target is valid for writes of `left` bytes.
        match unsafe { libc::pread(flight.file.fd, at.cast(), left, offset) } {
            n if n >= 0 => return Ok(n as u64),
            _ => match last_errno() {
                libc::EINTR => {}
                raw => return Err(errno(raw)),
            },
        }
    }
}

/// Reads what the page cache holds. The second value: the file does not support that.
#[inline]
pub(crate) fn read_without_waiting(mut flight: Flight) -> (Outcome, bool) {
    loop {
        let (at, left, offset) = flight.rest();
        let iovec = libc::iovec { iov_base: at.cast(), iov_len: left };
        // SAFETY: the target is valid for writes of `left` bytes.
        let n =
            unsafe { libc::preadv2(flight.file.fd, &raw const iovec, 1, offset, libc::RWF_NOWAIT) };
        if n >= 0 {
            flight.done += n as usize;
            // Less than asked for: the end of the file, or the end of what is cached. Ask again, unless
            // that is within a page: what is cached ends with one.
            let ends_in_page = !(flight.offset + flight.done as u64).is_multiple_of(CACHED_PAGE);
            if n == 0 || flight.is_complete() || ends_in_page {
                return (Outcome::Ended(Ok(flight.done as u64)), false);
            }
            continue;
        }
        match last_errno() {
            libc::EINTR => {}
            libc::EAGAIN => return (Outcome::Waits(flight), false),
            libc::EOPNOTSUPP | libc::ENOSYS => return (Outcome::Waits(flight), true),
            raw => return (Outcome::Ended(flight.ended_by(errno(raw))), false),
        }
    }
}
