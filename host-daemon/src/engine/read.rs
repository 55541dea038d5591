//! Reads by system calls on the calling thread.

use super::{Flight, Outcome, errno, last_errno};
use gpu_abi::Errno;

/// What the page cache holds, it holds in multiples of this, but for the last bytes of a file.
const CACHED_PAGE: u64 = 4096;

/// Reads to the end, waiting as long as it takes. Anything shorter than that is asked for again.
#[inline]
pub(crate) fn read_waiting(flight: &mut Flight) -> Result<u64, Errno> {
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
pub(crate) fn read_once(flight: &Flight) -> Result<u64, Errno> {
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
                let done = flight.done as u64;
                return (Outcome::Ended(flight, Ok(done)), false);
            }
            continue;
        }
        match last_errno() {
            libc::EINTR => {}
            libc::EAGAIN => return (Outcome::Waits(flight), false),
            libc::EOPNOTSUPP | libc::ENOSYS => return (Outcome::Waits(flight), true),
            raw => {
                let result = flight.ended_by(errno(raw));
                return (Outcome::Ended(flight, result), false);
            }
        }
    }
}
