//! A client's open files: handles to descriptors, without locks.
//!
//! ```text
//!  handle = generation << bits | index            state of a slot, one 64-bit word
//!                                                 | handle (32) | open (1) | users (31) |
//!   insert: state = handle | OPEN | 0
//!   hold:   users += 1    if the handle is this one and it is open
//!   close:  open = 0      then no new user comes; whoever makes users 0 closes the descriptor
//! ```
//!
//! A descriptor is thus never closed under a read or a write: were it, its number could be taken by
//! another file of this process, and the request would reach bytes that were never granted. A slot goes to
//! the end of the queue of free ones and comes back with the next generation, so that a forged or
//! stale handle meets another file only by guessing.

use gpu_abi::Errno;
use gpu_abi::request::HANDLE_NONE;
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

const OPEN: u64 = 1 << 31;
const USERS: u64 = OPEN - 1;

/// What kind of waiting a file's reads and writes involve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Regular file or block device: may wait for a device, reads are retried until full.
    Stored = 0,
    /// The same, but reads that must not wait are not supported.
    StoredNoNowait = 1,
    /// Regular file in memory (tmpfs): never waits.
    InMemory = 2,
    /// Anything else, opened non-blocking: one system call, whatever it returns.
    Other = 3,
}

impl Kind {
    fn from_raw(raw: u8) -> Kind {
        match raw {
            0 => Kind::Stored,
            1 => Kind::StoredNoNowait,
            2 => Kind::InMemory,
            _ => Kind::Other,
        }
    }
}

#[repr(align(64))]
struct Slot {
    state: AtomicU64,
    fd: AtomicI32,
    kind: AtomicU8,
    /// Whether the descriptor still has the `O_NONBLOCK` that it was opened with.
    nonblocking: AtomicBool,
    writable: AtomicBool,
    size: AtomicU64,
    /// Position of the descriptor in its directory. Locked during a listing, and while an append
    /// moves the position of a file's descriptor and looks where it is.
    position: Mutex<u64>,
}

/// A file that has been opened, non-blocking.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) fd: OwnedFd,
    pub(crate) kind: Kind,
    /// See [`Held::size`].
    pub(crate) size: u64,
    pub(crate) writable: bool,
}

/// A file in use: its descriptor stays open until it is given back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) index: u32,
    pub(crate) handle: u32,
    pub(crate) fd: RawFd,
    pub(crate) kind: Kind,
    /// Whether it was opened for writing.
    pub(crate) writable: bool,
    /// Bytes of a regular file when it was opened for reading alone; 0 for others, and where that
    /// says nothing.
    pub(crate) size: u64,
}

impl Held {
    /// A descriptor that has no place among the open files: for a read that ends before it is closed.
    pub(crate) fn unlisted(fd: &OwnedFd) -> Held {
        // No file is that long, so that a read goes on until the file says where it ends.
        Held {
            index: u32::MAX,
            handle: HANDLE_NONE,
            fd: fd.as_raw_fd(),
            kind: Kind::Stored,
            writable: false,
            size: u64::MAX,
        }
    }
}

/// A client's open files.
pub(crate) struct Files {
    slots: Box<[Slot]>,
    bits: u32,
    /// Free slots, the longest unused first, each with its next handle.
    free: Mutex<VecDeque<u32>>,
}

impl Files {
    /// Room for `max` files, at most 2^20.
    pub(crate) fn new(max: u32) -> Files {
        let slots = (0..max).map(|_| Slot {
            state: AtomicU64::new(0),
            fd: AtomicI32::new(-1),
            kind: AtomicU8::new(0),
            nonblocking: AtomicBool::new(false),
            writable: AtomicBool::new(false),
            size: AtomicU64::new(0),
            position: Mutex::new(0),
        });
        let bits = max.next_power_of_two().trailing_zeros();
        // Generation 1: handle 0, which zeroed requests carry, names nothing.
        let free = (0..max).map(|index| 1 << bits | index).collect();
        Files { slots: slots.collect(), bits, free: Mutex::new(free) }
    }

    fn index(&self, handle: u32) -> usize {
        (handle & ((1 << self.bits) - 1)) as usize
    }

    /// Whether the quota admits another file. A hint: `insert` decides.
    pub(crate) fn has_room(&self) -> bool {
        !self.free.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Takes a file in; `EMFILE` beyond the quota.
    pub(crate) fn insert(&self, file: Opened) -> Result<u32, Errno> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = free.pop_front().ok_or(Errno::EMFILE)?;
        drop(free);
        let slot = &self.slots[self.index(handle)];
        slot.fd.store(file.fd.into_raw_fd(), Ordering::Relaxed);
        slot.kind.store(file.kind as u8, Ordering::Relaxed);
        slot.nonblocking.store(true, Ordering::Relaxed);
        slot.writable.store(file.writable, Ordering::Relaxed);
        slot.size.store(file.size, Ordering::Relaxed);
        *slot.position.lock().unwrap_or_else(PoisonError::into_inner) = 0;
        // Release: pairs with the acquire in `hold`, which must see the descriptor.
        slot.state.store(u64::from(handle) << 32 | OPEN, Ordering::Release);
        Ok(handle)
    }

    /// The open file of this handle, kept open until [`Files::give_back`].
    #[inline]
    pub(crate) fn hold(&self, handle: u32) -> Option<Held> {
        let index = self.index(handle);
        let slot = self.slots.get(index)?;
        let mut state = slot.state.load(Ordering::Relaxed);
        loop {
            if state >> 32 != u64::from(handle) || state & OPEN == 0 {
                return None;
            }
            // The users cannot overflow: each is a request in flight, and those are bounded.
            // Acquire: pairs with the release in `insert`.
            let held = slot.state.compare_exchange_weak(
                state,
                state + 1,
                Ordering::Acquire,
                Ordering::Relaxed,
            );
            match held {
                Ok(_) => break,
                Err(now) => state = now,
            }
        }
        Some(Held {
            index: index as u32,
            handle,
            fd: slot.fd.load(Ordering::Relaxed),
            kind: Kind::from_raw(slot.kind.load(Ordering::Relaxed)),
            writable: slot.writable.load(Ordering::Relaxed),
            size: slot.size.load(Ordering::Relaxed),
        })
    }

    /// Ends one use. Closes the descriptor if the handle was closed meanwhile.
    #[inline]
    pub(crate) fn give_back(&self, index: u32) {
        // Release: this user's system calls come before the close that another user may do.
        // Acquire: pairs with that release where this one does the close.
        let before = self.slots[index as usize].state.fetch_sub(1, Ordering::AcqRel);
        debug_assert_ne!(before & USERS, 0);
        if before & (OPEN | USERS) == 1 {
            self.finish(index, before);
        }
    }

    /// Prepares a file for reads and writes that wait: io_uring would answer `EAGAIN` to them while the
    /// descriptor is non-blocking. Once per file, and only for those that come to it.
    pub(crate) fn make_blocking(&self, file: &Held) {
        // Relaxed: if two threads get here one of them may hand its request in first. It then gets its
        // `EAGAIN`, which the ring meets by a system call of its own.
        if self.slots[file.index as usize].nonblocking.swap(false, Ordering::Relaxed) {
            // SAFETY: held, so it is open.
            unsafe { libc::fcntl(file.fd, libc::F_SETFL, 0) };
        }
    }

    /// Remembers that reads of this file cannot be tried without waiting.
    pub(crate) fn without_nowait(&self, index: u32) {
        self.slots[index as usize].kind.store(Kind::StoredNoNowait as u8, Ordering::Relaxed);
    }

    /// The position of a held file's descriptor.
    pub(crate) fn position(&self, index: u32) -> &Mutex<u64> {
        &self.slots[index as usize].position
    }

    /// Ends the handle: `EBADF` if it is none. The descriptor goes with its last user.
    pub(crate) fn close(&self, handle: u32) -> Result<(), Errno> {
        let index = self.index(handle);
        let slot = self.slots.get(index).ok_or(Errno::EBADF)?;
        let mut state = slot.state.load(Ordering::Relaxed);
        loop {
            if state >> 32 != u64::from(handle) || state & OPEN == 0 {
                return Err(Errno::EBADF);
            }
            // Acquire: pairs with the releases in `insert` and `give_back`, for `finish`.
            let closed = slot.state.compare_exchange_weak(
                state,
                state & !OPEN,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
            match closed {
                Ok(_) => break,
                Err(now) => state = now,
            }
        }
        if state & USERS == 0 {
            self.finish(index as u32, state);
        }
        Ok(())
    }

    /// Closes the descriptor of a slot that is neither open nor used: one caller gets here.
    fn finish(&self, index: u32, state: u64) {
        let fd = self.slots[index as usize].fd.swap(-1, Ordering::Relaxed);
        // SAFETY: the descriptor came from an `OwnedFd` in `insert`, and only one caller sees the
        // slot become closed and unused.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
        let mut handle = ((state >> 32) as u32).wrapping_add(1 << self.bits);
        if handle == HANDLE_NONE || handle >> self.bits == 0 {
            handle = 1 << self.bits | index;
        }
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push_back(handle);
    }

    /// Files open or still in use.
    pub(crate) fn in_use(&self) -> usize {
        self.slots.len() - self.free.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        for slot in &mut self.slots {
            let fd = *slot.fd.get_mut();
            if fd >= 0 {
                // SAFETY: it came from an `OwnedFd` and has not been closed: `finish` sets -1.
                drop(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
}

impl AsRawFd for Held {
    fn as_raw_fd(&self) -> RawFd {
        self.fd
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn null() -> Opened {
        let fd = std::fs::File::open("/dev/null").unwrap().into();
        Opened { fd, kind: Kind::Other, size: 0, writable: false }
    }

    #[test]
    fn v8_handles_end_when_closed_and_do_not_come_back_soon() {
        let files = Files::new(2);
        let first = files.insert(null()).unwrap();
        let held = files.hold(first).unwrap();
        assert_eq!(files.close(first), Ok(()));
        assert_eq!(files.close(first), Err(Errno::EBADF));
        assert!(files.hold(first).is_none());
        assert_eq!(files.in_use(), 1, "the descriptor is still used");
        // SAFETY: a query.
        assert!(unsafe { libc::fcntl(held.fd, libc::F_GETFD) } >= 0);
        files.give_back(held.index);
        assert_eq!(files.in_use(), 0);
        let mut seen = vec![first];
        for _ in 0..1000 {
            let handle = files.insert(null()).unwrap();
            assert!(!seen.contains(&handle));
            seen.push(handle);
            files.close(handle).unwrap();
        }
        for bad in [0, 1, 2, 3, first, HANDLE_NONE, HANDLE_NONE - 1] {
            assert_eq!(files.close(bad), Err(Errno::EBADF), "{bad}");
        }
    }

    #[test]
    fn v9_the_quota_is_exact() {
        let files = Files::new(3);
        let handles: Vec<_> = (0..3).map(|_| files.insert(null()).unwrap()).collect();
        assert_eq!(files.insert(null()), Err(Errno::EMFILE));
        assert!(!files.has_room());
        files.close(handles[1]).unwrap();
        assert!(files.insert(null()).is_ok());
    }

    #[test]
    fn v8_generations_wrap_without_meeting_the_reserved_handles() {
        let files = Files::new(1 << 4);
        let last = (HANDLE_NONE >> 4 << 4) | 15;
        assert_eq!(last, HANDLE_NONE);
        // The slot 15 one generation before the last.
        let before = HANDLE_NONE - 16;
        files.free.lock().unwrap().clear();
        files.free.lock().unwrap().push_back(before);
        assert_eq!(files.insert(null()), Ok(before));
        files.close(before).unwrap();
        assert_eq!(files.insert(null()), Ok(1 << 4 | 15));
    }
}
