//! The judgement on a request: what it may do, or how it is refused. Pure; no I/O, no memory.
//!
//! The request is a private copy: what is judged here is what is carried out (clause V1). A table of
//! runs (O10) is judged in two steps, since it lies in the region: [`Limits::check`] says where it
//! is, and [`Limits::check_run`] judges the records of a private copy.

use gpu_abi::request::{
    CELL_NONE, HANDLE_NONE, PATH_MAX, RENAME_NO_REPLACE, RUNS_BYTES_MAX, RUNS_MAX, Run, SYNC_DATA,
    WINDOW_DEVICE, WINDOW_SLOTS,
};
use gpu_abi::{Errno, Op, OpenFlags, RegionLayout, Request};

/// Longest buffer of one request, in bytes: the size of the largest transfer slot.
pub const MAX_READ: u32 = 2 << 20;

/// A buffer inside the client's allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Buffer {
    /// Of the transfer slot with this number, from this byte on.
    Slot { slot: u32, at: usize, len: usize },
    /// Of the device window, from this byte on.
    Device { at: usize, len: usize },
}

/// Whose description is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Handle(u32),
    Path(Buffer),
}

/// A request that broke no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Valid {
    Nop,
    Time,
    Open { path: Buffer, flags: OpenFlags },
    Close { handle: u32 },
    Read { handle: u32, offset: u64, buffer: Buffer },
    Stat { subject: Subject },
    ReadDir { handle: u32, cookie: u64, buffer: Buffer },
    ReadFile { path: Buffer, flags: OpenFlags, buffer: Buffer },
    Write { handle: u32, offset: u64, buffer: Buffer },
    WriteRuns { handle: u32, table: Buffer },
    Append { handle: u32, buffer: Buffer },
    Sync { handle: u32, data_only: bool },
    Truncate { handle: u32, size: u64 },
    Unlink { path: Buffer, directory: bool },
    Rename { old: Buffer, new: Buffer, replace: bool },
    MakeDir { path: Buffer },
}

/// How a request that broke a rule is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no cell to answer in.
    Drop,
    /// The cell is told.
    Answer(Errno),
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Refusal {
        Refusal::Answer(errno)
    }
}

/// What a client has been allocated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) layout: RegionLayout,
    pub(crate) device_window: usize,
    pub(crate) read_only: bool,
}

/// The flags that an operation defines (V3).
const fn known_flags(op: Option<Op>) -> u8 {
    match op {
        Some(Op::Open) => OpenFlags::ALL,
        Some(Op::ReadFile) => {
            OpenFlags::READ.with(OpenFlags::DIRECTORY).with(OpenFlags::NO_FOLLOW).0
        }
        Some(Op::Sync) => SYNC_DATA,
        Some(Op::Unlink) => OpenFlags::DIRECTORY.0,
        Some(Op::Rename) => RENAME_NO_REPLACE,
        _ => 0,
    }
}

/// O2: whether these flags go together.
const fn opens(flags: OpenFlags) -> bool {
    let writes = flags.contains(OpenFlags::WRITE);
    if flags.contains(OpenFlags::CREATE) {
        writes && !flags.contains(OpenFlags::DIRECTORY)
    } else {
        (writes || flags.contains(OpenFlags::READ)) && !flags.contains(OpenFlags::EXCLUSIVE)
    }
}

/// V13: what a grant for reading only does not allow.
const fn writes(op: Op, flags: u8) -> bool {
    match op {
        // `CREATE` needs `WRITE`.
        Op::Open => OpenFlags(flags).contains(OpenFlags::WRITE),
        Op::Write | Op::WriteRuns | Op::Append | Op::Truncate => true,
        Op::Unlink | Op::Rename | Op::MakeDir => true,
        _ => false,
    }
}

/// V7: what no file can have is refused before the kernel sees it.
fn offset(offset: u64, len: u32) -> Result<u64, Errno> {
    if offset > i64::MAX as u64 - u64::from(len) { Err(Errno::EINVAL) } else { Ok(offset) }
}

impl Limits {
    /// Judges a request against the allocation.
    #[inline]
    pub(crate) fn check(&self, r: &Request) -> Result<Valid, Refusal> {
        let op = Op::from_raw(r.op);
        // V2: without a cell nobody hears of a failure or of data, so only requests that cannot
        // matter to anybody may come without one.
        if r.cell >= self.layout.cell_count()
            && !(r.cell == CELL_NONE && matches!(op, Some(Op::Close | Op::Nop)))
        {
            return Err(Refusal::Drop);
        }
        // V3
        if r.reserved0 != 0
            || r.reserved != [0; 5]
            || r.flags & !known_flags(op) != 0
            || r.path_len != 0 && !matches!(op, Some(Op::ReadFile | Op::Rename))
            || matches!(op, Some(Op::Open | Op::ReadFile)) && !opens(OpenFlags(r.flags))
        {
            return Err(Errno::EINVAL.into());
        }
        let op = op.ok_or(Errno::EINVAL)?;
        if self.read_only && writes(op, r.flags) {
            return Err(Errno::EROFS.into());
        }
        let handle = r.handle;
        Ok(match op {
            Op::Nop => Valid::Nop,
            Op::Time => Valid::Time,
            Op::Close => Valid::Close { handle },
            Op::Read => {
                let buffer = self.buffer(r)?;
                Valid::Read { handle, offset: offset(r.offset, r.len)?, buffer }
            }
            Op::Open => Valid::Open { path: self.path(r)?, flags: OpenFlags(r.flags) },
            Op::ReadFile => {
                let slot = u64::from(r.cell) * u64::from(self.layout.config.slot_size);
                let place = Request { window: WINDOW_SLOTS, buf: slot, len: r.path_len, ..*r };
                let (path, flags) = (self.path(&place)?, OpenFlags(r.flags));
                Valid::ReadFile { path, flags, buffer: self.buffer(r)? }
            }
            Op::Stat if handle == HANDLE_NONE => {
                Valid::Stat { subject: Subject::Path(self.path(r)?) }
            }
            Op::Stat => Valid::Stat { subject: Subject::Handle(handle) },
            Op::ReadDir => Valid::ReadDir { handle, cookie: r.offset, buffer: self.buffer(r)? },
            Op::Write => {
                let buffer = self.buffer(r)?;
                Valid::Write { handle, offset: offset(r.offset, r.len)?, buffer }
            }
            Op::WriteRuns => {
                let record = size_of::<Run>();
                if !(r.len as usize).is_multiple_of(record) || r.len as usize > RUNS_MAX * record {
                    return Err(Errno::EINVAL.into());
                }
                // The window is that of the runs: it must be one even if there are none.
                self.buffer_in(r.window, r.cell, self.base_of(r), 0)?;
                let table = self.buffer_in(WINDOW_SLOTS, r.cell, r.buf, r.len)?;
                Valid::WriteRuns { handle, table }
            }
            Op::Append => Valid::Append { handle, buffer: self.buffer(r)? },
            Op::Sync => Valid::Sync { handle, data_only: r.flags & SYNC_DATA != 0 },
            Op::Truncate => Valid::Truncate { handle, size: offset(r.offset, 0)? },
            Op::Unlink => {
                let directory = OpenFlags(r.flags).contains(OpenFlags::DIRECTORY);
                Valid::Unlink { path: self.path(r)?, directory }
            }
            Op::Rename => {
                let rest = r.len.checked_sub(r.path_len).ok_or(Errno::EINVAL)?;
                // A sum that overflows leads to no slot.
                let after = r.buf.wrapping_add(u64::from(r.path_len));
                Valid::Rename {
                    old: self.path(&Request { len: r.path_len, ..*r })?,
                    new: self.path(&Request { len: rest, buf: after, ..*r })?,
                    replace: r.flags & RENAME_NO_REPLACE == 0,
                }
            }
            Op::MakeDir => Valid::MakeDir { path: self.path(r)? },
            // Sockets: without any there is nothing that these could be about.
            _ => return Err(Errno::EINVAL.into()),
        })
    }

    /// O10: judges one record of a table that has been copied out; `total` counts the bytes of all.
    pub(crate) fn check_run(
        &self,
        r: &Request,
        run: &Run,
        total: &mut u64,
    ) -> Result<Buffer, Errno> {
        // V3, and each run has at least one byte.
        if run.reserved != 0 || run.len == 0 {
            return Err(Errno::EINVAL);
        }
        let buffer = self.buffer_in(r.window, r.cell, run.buf, run.len)?;
        offset(run.offset, run.len)?;
        // At most RUNS_MAX runs of 32 bits each: no overflow.
        *total += u64::from(run.len);
        if *total > RUNS_BYTES_MAX { Err(Errno::EINVAL) } else { Ok(buffer) }
    }

    /// Where the window of a request begins for its cell.
    fn base_of(&self, r: &Request) -> u64 {
        match r.window {
            WINDOW_SLOTS => u64::from(r.cell) * u64::from(self.layout.config.slot_size),
            _ => 0,
        }
    }

    /// The buffer of a request.
    #[inline]
    fn buffer(&self, r: &Request) -> Result<Buffer, Errno> {
        self.buffer_in(r.window, r.cell, r.buf, r.len)
    }

    /// V4, V5: a buffer, if it lies wholly in the slot of the cell or in the granted window.
    #[inline]
    fn buffer_in(&self, window: u8, cell: u32, buf: u64, len: u32) -> Result<Buffer, Errno> {
        match window {
            WINDOW_SLOTS => {
                if cell >= self.layout.config.slots {
                    return Err(Errno::EFAULT);
                }
                let size = u64::from(self.layout.config.slot_size);
                // Both factors are 32 bits wide; a `buf` below the slot wraps to more than `size`.
                let at = buf.wrapping_sub(u64::from(cell) * size);
                if at > size || u64::from(len) > size - at {
                    return Err(Errno::EFAULT);
                }
                Ok(Buffer::Slot { slot: cell, at: at as usize, len: len as usize })
            }
            WINDOW_DEVICE if self.device_window != 0 => {
                if len > MAX_READ {
                    return Err(Errno::EINVAL);
                }
                let end = buf.checked_add(u64::from(len)).ok_or(Errno::EFAULT)?;
                if end > self.device_window as u64 {
                    return Err(Errno::EFAULT);
                }
                Ok(Buffer::Device { at: buf as usize, len: len as usize })
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// V6: the place of a path.
    pub(crate) fn path(&self, r: &Request) -> Result<Buffer, Errno> {
        if r.window != WINDOW_SLOTS {
            return Err(Errno::EINVAL);
        }
        if r.len == 0 {
            return Err(Errno::ENOENT);
        }
        if r.len as usize > PATH_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        self.buffer(r)
    }
}

#[cfg(test)]
mod tests;
