//! The judgement on a request: what it may do, or how it is refused. Pure; no I/O, no memory.
//!
//! The request is a private copy: what is judged here is what is carried out (clause V1).

use gpu_abi::request::{CELL_NONE, HANDLE_NONE, PATH_MAX, WINDOW_DEVICE, WINDOW_SLOTS};
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
    Open { path: Buffer, flags: OpenFlags },
    Close { handle: u32 },
    Read { handle: u32, offset: u64, buffer: Buffer },
    Stat { subject: Subject },
    ReadDir { handle: u32, cookie: u64, buffer: Buffer },
    ReadFile { path: Buffer, flags: OpenFlags, buffer: Buffer },
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
        let opens = matches!(op, Some(Op::Open | Op::ReadFile));
        let flags = if opens { OpenFlags::ALL } else { 0 };
        if r.reserved0 != 0
            || r.reserved != [0; 5]
            || r.flags & !flags != 0
            || r.path_len != 0 && op != Some(Op::ReadFile)
            || opens && !OpenFlags(r.flags).contains(OpenFlags::READ)
        {
            return Err(Errno::EINVAL.into());
        }
        Ok(match op.ok_or(Errno::EINVAL)? {
            Op::Nop => Valid::Nop,
            Op::Close => Valid::Close { handle: r.handle },
            Op::Read => {
                let buffer = self.buffer(r)?;
                // V7: what no file can have is refused before the kernel sees it.
                if r.offset > i64::MAX as u64 - u64::from(r.len) {
                    return Err(Errno::EINVAL.into());
                }
                Valid::Read { handle: r.handle, offset: r.offset, buffer }
            }
            Op::Open => Valid::Open { path: self.path(r)?, flags: OpenFlags(r.flags) },
            Op::ReadFile => {
                let slot = u64::from(r.cell) * u64::from(self.layout.config.slot_size);
                let place = Request { window: WINDOW_SLOTS, buf: slot, len: r.path_len, ..*r };
                let (path, flags) = (self.path(&place)?, OpenFlags(r.flags));
                Valid::ReadFile { path, flags, buffer: self.buffer(r)? }
            }
            Op::Stat if r.handle == HANDLE_NONE => {
                Valid::Stat { subject: Subject::Path(self.path(r)?) }
            }
            Op::Stat => Valid::Stat { subject: Subject::Handle(r.handle) },
            Op::Write
            | Op::WriteRuns
            | Op::Append
            | Op::Sync
            | Op::Truncate
            | Op::Unlink
            | Op::Rename
            | Op::MakeDir => return Err(Errno::EROFS.into()),
            Op::ReadDir => {
                Valid::ReadDir { handle: r.handle, cookie: r.offset, buffer: self.buffer(r)? }
            }
            // Without sockets there is nothing that these could be about.
            _ => return Err(Errno::EINVAL.into()),
        })
    }

    /// V4, V5: the buffer, if it lies wholly in the slot of the cell or in the granted window.
    #[inline]
    fn buffer(&self, r: &Request) -> Result<Buffer, Errno> {
        let len = r.len as usize;
        match r.window {
            WINDOW_SLOTS => {
                if r.cell >= self.layout.config.slots {
                    return Err(Errno::EFAULT);
                }
                let size = u64::from(self.layout.config.slot_size);
                // Both factors are 32 bits wide; a `buf` below the slot wraps to more than `size`.
                let at = r.buf.wrapping_sub(u64::from(r.cell) * size);
                if at > size || u64::from(r.len) > size - at {
                    return Err(Errno::EFAULT);
                }
                Ok(Buffer::Slot { slot: r.cell, at: at as usize, len })
            }
            WINDOW_DEVICE if self.device_window != 0 => {
                if r.len > MAX_READ {
                    return Err(Errno::EINVAL);
                }
                let end = r.buf.checked_add(u64::from(r.len)).ok_or(Errno::EFAULT)?;
                if end > self.device_window as u64 {
                    return Err(Errno::EFAULT);
                }
                Ok(Buffer::Device { at: r.buf as usize, len })
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// V6: the place of a path.
    fn path(&self, r: &Request) -> Result<Buffer, Errno> {
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
mod tests {
    use super::*;
    use bytemuck::Zeroable;
    use gpu_abi::RegionConfig;
    use proptest::prelude::*;

    const SLOT: u64 = 4096;

    fn limits(device_window: usize) -> Limits {
        let config =
            RegionConfig { slots: 4, slot_size: SLOT as u32, calls: 4, ..Default::default() };
        Limits { layout: RegionLayout::new(config).unwrap(), device_window }
    }

    fn read(cell: u32, window: u8, buf: u64, len: u32) -> Request {
        Request { op: Op::Read as u8, cell, window, buf, len, ..Request::zeroed() }
    }

    #[test]
    fn v4_a_buffer_lies_in_the_slot_of_its_cell() {
        let check = |cell, buf, len| limits(0).check(&read(cell, WINDOW_SLOTS, buf, len));
        let inside = |slot, at, len| {
            Ok(Valid::Read { handle: 0, offset: 0, buffer: Buffer::Slot { slot, at, len } })
        };
        assert_eq!(check(1, SLOT, 4096), inside(1, 0, 4096));
        assert_eq!(check(1, SLOT + 4096, 0), inside(1, 4096, 0));
        let fault = Err(Refusal::Answer(Errno::EFAULT));
        assert_eq!(check(1, SLOT + 1, 4096), fault);
        assert_eq!(check(1, SLOT - 1, 1), fault);
        assert_eq!(check(1, 2 * SLOT, 1), fault);
        assert_eq!(check(1, u64::MAX, 1), fault);
        assert_eq!(check(1, SLOT, u32::MAX), fault);
        assert_eq!(check(4, 4 * SLOT, 1), fault, "a call cell has no slot");
        assert_eq!(check(8, 0, 1), Err(Refusal::Drop));
        assert_eq!(check(CELL_NONE, 0, 1), Err(Refusal::Drop));
    }

    #[test]
    fn v5_the_device_window_must_be_granted_and_ends_where_the_grant_ends() {
        let check = |w, buf, len| limits(w).check(&read(5, WINDOW_DEVICE, buf, len));
        let inside =
            |at, len| Ok(Valid::Read { handle: 0, offset: 0, buffer: Buffer::Device { at, len } });
        assert_eq!(check(1 << 30, 5, 4096), inside(5, 4096));
        assert_eq!(check(8192, 4096, 4096), inside(4096, 4096));
        assert_eq!(check(8192, 4097, 4096), Err(Refusal::Answer(Errno::EFAULT)));
        assert_eq!(check(8192, u64::MAX, 2), Err(Refusal::Answer(Errno::EFAULT)));
        assert_eq!(check(0, 0, 1), Err(Refusal::Answer(Errno::EINVAL)));
        assert_eq!(check(1 << 30, 0, MAX_READ + 1), Err(Refusal::Answer(Errno::EINVAL)));
    }

    proptest! {
        #[test]
        fn v1_no_valid_request_reaches_outside_the_allocation(words: [u64; 8], shape in 0u8..8) {
            let mut r: Request = bytemuck::cast(words);
            // Steer half of them past the first checks.
            if shape & 1 != 0 { r.reserved0 = 0; r.reserved = [0; 5]; r.flags &= 7; }
            if shape & 2 != 0 { r.op %= 9; r.path_len %= 8192; r.cell %= 10; r.window %= 3; }
            if shape & 4 != 0 { r.buf %= 5 * SLOT; r.len %= 2 * SLOT as u32; }
            let limits = limits(3 * SLOT as usize);
            let valid = limits.check(&r);
            let (buffer, path) = match valid {
                Ok(Valid::Read { buffer, .. } | Valid::ReadDir { buffer, .. }) => (buffer, None),
                Ok(Valid::Open { path, .. } | Valid::Stat { subject: Subject::Path(path) }) => {
                    (path, None)
                }
                Ok(Valid::ReadFile { path, buffer, .. }) => (buffer, Some(path)),
                _ => return Ok(()),
            };
            match buffer {
                Buffer::Slot { slot, at, len } => {
                    prop_assert!(slot == r.cell && slot < 4);
                    prop_assert!(at + len <= SLOT as usize);
                    prop_assert_eq!(u64::from(slot) * SLOT + at as u64, r.buf);
                }
                Buffer::Device { at, len } => prop_assert!(at + len <= 3 * SLOT as usize),
            }
            if let Some(path) = path {
                let whole = Buffer::Slot { slot: r.cell, at: 0, len: r.path_len as usize };
                prop_assert!(path == whole && r.cell < 4);
                prop_assert!((1..=PATH_MAX).contains(&(r.path_len as usize)));
            }
        }
    }
}
