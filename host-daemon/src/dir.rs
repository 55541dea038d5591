//! Directory listings: the kernel's records, rewritten as the protocol's.

use bytemuck::bytes_of;
use gpu_abi::Errno;
use gpu_abi::request::DirRecord;
use std::os::fd::RawFd;

/// Bytes of the kernel's records read at a time.
pub(crate) const SCRATCH: usize = 32 << 10;

/// Offsets within the kernel's `linux_dirent64`.
const INO: usize = 0;
const OFF: usize = 8;
const RECLEN: usize = 16;
const TYPE: usize = 18;
const NAME: usize = 19;

fn last_errno() -> Errno {
    let raw = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
    Errno::from_raw(raw as u32).unwrap_or(Errno::EIO)
}

/// Lists a directory from `cookie` on into at most `room` bytes, handing each piece to `emit` with
/// its offset. Returns the bytes filled and the next cookie. `cursor` is the descriptor's position.
pub(crate) fn list(
    fd: RawFd,
    cursor: &mut u64,
    cookie: u64,
    room: usize,
    scratch: &mut [u8],
    mut emit: impl FnMut(usize, &[u8]),
) -> Result<(usize, u64), Errno> {
    // First of all: `u64::MAX` stands for an unknown position in `cursor`.
    let offset = i64::try_from(cookie).map_err(|_| Errno::EINVAL)?;
    if *cursor != cookie {
        // SAFETY: no memory is involved.
        if unsafe { libc::lseek(fd, offset, libc::SEEK_SET) } < 0 {
            return Err(last_errno());
        }
        *cursor = cookie;
    }
    let (mut filled, mut next) = (0, cookie);
    loop {
        // SAFETY: the kernel writes at most `scratch.len()` bytes there.
        let n =
            unsafe { libc::syscall(libc::SYS_getdents64, fd, scratch.as_mut_ptr(), scratch.len()) };
        if n < 0 {
            // The position is unknown now.
            *cursor = u64::MAX;
            return if filled > 0 { Ok((filled, next)) } else { Err(last_errno()) };
        }
        if n == 0 {
            return Ok((filled, next));
        }
        let mut rest = &scratch[..n as usize];
        while rest.len() > NAME {
            let word =
                |at: usize| u64::from_ne_bytes(rest[at..at + 8].try_into().unwrap_or([0; 8]));
            let len = u16::from_ne_bytes([rest[RECLEN], rest[RECLEN + 1]]) as usize;
            let name = rest[NAME..len].split(|&b| b == 0).next().unwrap_or(&[]);
            let after = word(OFF);
            if name != b"." && name != b".." {
                let total = DirRecord::len_for(name.len());
                if filled + total > room {
                    // The descriptor stands behind records that were not taken.
                    *cursor = u64::MAX;
                    // As getdents: a buffer in which not even one record fits is an error.
                    return if filled > 0 { Ok((filled, next)) } else { Err(Errno::EINVAL) };
                }
                let record = DirRecord {
                    ino: word(INO),
                    next: after,
                    record_len: total as u16,
                    name_len: name.len() as u16,
                    kind: rest[TYPE],
                    reserved: [0; 3],
                };
                let head = size_of::<DirRecord>();
                emit(filled, bytes_of(&record));
                emit(filled + head, name);
                emit(filled + head + name.len(), &[0; 8][..total - head - name.len()]);
                filled += total;
            }
            next = after;
            rest = &rest[len..];
        }
        *cursor = next;
    }
}
