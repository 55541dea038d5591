//! Writes and waits for storage by system calls on the calling thread.

use super::{Flight, Job, errno, last_errno};
use crate::faults::{Fate, Faults};
use crate::files::Kind;
use gpu_abi::Errno;
use std::os::fd::RawFd;
use std::sync::{Mutex, PoisonError};

/// Writes to the end. What comes short is asked for again: either it goes on, or the kernel says why
/// it does not.
#[inline]
pub(super) fn write_waiting(flight: &mut Flight, faults: Option<&Faults>) -> Result<u64, Errno> {
    while !flight.is_complete() {
        let limit = match flight.fate(faults) {
            Fate::Upto(limit) => limit,
            Fate::Fails(errno) => return flight.ended_by(errno),
        };
        match write_some(flight, limit) {
            n if n >= 0 => {
                if let Some(result) = flight.went_on(n as usize) {
                    return result;
                }
            }
            _ => match last_errno() {
                libc::EINTR => {}
                raw => return flight.ended_by(errno(raw)),
            },
        }
    }
    Ok(flight.done as u64)
}

/// One system call for at most `limit` bytes of what is left.
fn write_some(flight: &mut Flight, limit: usize) -> isize {
    let fd = flight.file.fd;
    if let Job::WriteRuns(gather) = &mut flight.job {
        let (call, offset) = gather.call(limit);
        // SAFETY: the pieces are valid for reads. V7 keeps offsets within an i64.
        return unsafe { libc::pwritev(fd, call.as_ptr(), call.len() as i32, offset as i64) };
    }
    let (at, left, offset) = flight.rest();
    // SAFETY: the target is valid for reads of `left` bytes.
    unsafe { libc::pwrite(fd, at.cast(), left.min(limit), offset) }
}

/// O11. Appends in one system call; `position` guards the position of the file's descriptor.
///
/// `RWF_APPEND` alone does not tell where the bytes went, and to ask for the file's length before or
/// after would be to guess, as other processes may append too. But with the offset -1 the kernel
/// moves the descriptor's position behind the bytes, in the same step that finds the end under the
/// inode's lock. Nobody else moves that position: the descriptor is this client's alone, and
/// `position` keeps its own appends apart. What is short is not continued: others' bytes may follow.
pub(crate) fn append(
    flight: &mut Flight,
    position: &Mutex<u64>,
    faults: Option<&Faults>,
) -> Result<u64, Errno> {
    if flight.file.kind == Kind::Other {
        // What has no end, such as /dev/null, has no offsets either, or refuses them.
        return write_waiting(flight, faults);
    }
    let limit = match flight.fate(faults) {
        Fate::Upto(limit) => limit,
        Fate::Fails(errno) => return Err(errno),
    };
    let _position = position.lock().unwrap_or_else(PoisonError::into_inner);
    let (at, left, _) = flight.rest();
    let iovec = libc::iovec { iov_base: at.cast(), iov_len: left.min(limit) };
    loop {
        // SAFETY: the target is valid for reads of `left` bytes.
        let n =
            unsafe { libc::pwritev2(flight.file.fd, &raw const iovec, 1, -1, libc::RWF_APPEND) };
        if n >= 0 {
            let end = end_of_last_write(flight.file.fd, n == 0)?;
            flight.offset = end.saturating_sub(n as u64);
            flight.done = n as usize;
            return Ok(n as u64);
        }
        match last_errno() {
            libc::EINTR => {}
            raw => return Err(errno(raw)),
        }
    }
}

/// The position of a descriptor; if nothing was written, which moves no position, the file's end.
fn end_of_last_write(fd: RawFd, nothing: bool) -> Result<u64, Errno> {
    let whence = if nothing { libc::SEEK_END } else { libc::SEEK_CUR };
    // SAFETY: no memory is involved.
    let end = unsafe { libc::lseek(fd, 0, whence) };
    u64::try_from(end).map_err(|_| errno(last_errno()))
}

/// O12. Waits for storage. An error is reported once: the kernel remembers for each descriptor which
/// errors it has told.
pub(super) fn sync(
    flight: &Flight,
    data_only: bool,
    faults: Option<&Faults>,
) -> Result<u64, Errno> {
    if let Fate::Fails(errno) = flight.fate(faults) {
        return Err(errno);
    }
    loop {
        let fd = flight.file.fd;
        // SAFETY: no memory is involved.
        let failed = unsafe { if data_only { libc::fdatasync(fd) } else { libc::fsync(fd) } } != 0;
        match failed.then(last_errno) {
            None => return Ok(0),
            Some(libc::EINTR) => {}
            Some(raw) => return Err(errno(raw)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Held;
    use std::os::fd::OwnedFd;

    /// As the pool's threads do, for appends of one handle that are under way together.
    #[test]
    fn o11_appends_by_one_descriptor_do_not_take_each_others_offsets() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let fd = OwnedFd::from(file.reopen().unwrap());
        let held = Held { writable: true, ..Held::unlisted(&fd) };
        let position = Mutex::new(0);
        let mut claimed: Vec<(u64, u8)> = std::thread::scope(|scope| {
            let threads: Vec<_> = (1..=4u8)
                .map(|mark| {
                    let position = &position;
                    scope.spawn(move || {
                        let mut bytes = [mark; 8];
                        let mut one = || {
                            let flight = Flight::new(held, 0, 0, Job::Append);
                            let mut flight = flight.at((bytes.as_mut_ptr(), bytes.len()), 0);
                            assert_eq!(append(&mut flight, position, None), Ok(8));
                            (flight.offset, mark)
                        };
                        (0..20_000).map(|_| one()).collect::<Vec<_>>()
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        claimed.sort();
        let content = std::fs::read(file.path()).unwrap();
        assert_eq!(content.len(), 8 * claimed.len());
        for (i, (at, mark)) in claimed.into_iter().enumerate() {
            assert_eq!(at, 8 * i as u64);
            assert_eq!(content[8 * i..8 * i + 8], [mark; 8]);
        }
    }
}
