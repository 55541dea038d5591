//! The unit of work and what becomes of it.

use bytemuck::{Pod, Zeroable};

/// What to do with the lines of an item, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskFlags(pub u32);

impl TaskFlags {
    /// Select the lines that do not match.
    pub const INVERT: u32 = 1;
    /// Emit selected lines.
    pub const LINES: u32 = 2;
    /// Emit where the matches lie in each emitted line.
    pub const SPANS: u32 = 4;
    /// Emit each match by itself in place of its line.
    pub const ONLY: u32 = 8;
    /// Count all lines, and number the emitted ones.
    pub const NUMBER: u32 = 16;
    /// Stop at the first NUL byte: what follows is for the host to decide.
    pub const STOP_AT_NUL: u32 = 32;
    /// NUL bytes end lines, as newlines do.
    pub const NUL_ENDS_LINE: u32 = 64;
    /// Having reached the limit, look for NUL bytes up to the next multiple of
    /// [`Task::window`], as a reader with a buffer of that size would have.
    pub const DRAIN: u32 = 128;
    /// Where a NUL byte stands within the first [`Task::window`] bytes of the file, search the
    /// item again with NUL bytes ending lines.
    pub const RESTART: u32 = 256;
    /// Such a second search counts all selected lines; otherwise one is enough.
    pub const COUNT: u32 = 512;

    /// Whether all bits of `bits` are set.
    #[inline]
    pub fn has(self, bits: u32) -> bool {
        self.0 & bits == bits
    }
}

/// What is the same for all items of a launch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Task {
    /// The buffer size that [`TaskFlags::DRAIN`] and [`TaskFlags::RESTART`] refer to, in bytes.
    pub window: u64,
    /// [`TaskFlags`].
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
}

/// A byte range of one file. Its owner handles each line that starts in it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Item {
    /// First byte.
    pub start: u64,
    /// One past the last byte; `u64::MAX` for all that there is.
    pub end: u64,
    /// Stop after this many selected lines, at least 1.
    pub limit: u64,
    /// Number of the file in the launch's table.
    pub file: u32,
    /// [`TaskFlags`] to add to those of the launch.
    pub flags: u32,
}

/// How a search of an item ended.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Status {
    /// Not begun.
    #[default]
    Pending = 0,
    /// Every line was searched, or the limit was reached.
    Done = 1,
    /// A NUL byte was met; [`Tally::nul`] tells where.
    Nul = 2,
    /// A line of [`Tally::need`] bytes does not fit in the scratch buffer. Nothing counts.
    Scratch = 3,
    /// A record of [`Tally::need`] bytes does not fit in the output. Nothing counts.
    Output = 4,
    /// The file could not be read; [`Tally::need`] is the error number. What was emitted before
    /// counts.
    Failed = 5,
}

/// What a search of an item found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How it ended.
    pub status: Status,
    /// Selected lines, without those that the host has to decide.
    pub selected: u64,
    /// Lines of the item, counted only with [`TaskFlags::NUMBER`].
    pub lines: u64,
    /// Offset in the file of the first NUL byte, for [`Status::Nul`].
    pub nul: u64,
    /// Bytes needed, or the error number.
    pub need: u64,
    /// Bytes of the file that were looked at.
    pub bytes: u64,
}

/// A [`Tally`] in memory that the device shares with the host.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct ItemResult {
    /// A [`Status`].
    pub status: u32,
    /// 1 when the item was searched again, see [`TaskFlags::RESTART`]. All else is of the second
    /// search then, but for `nul`.
    pub restarted: u32,
    /// How many attempts came to nothing before: records of this one bear the item's number plus so
    /// many times the number of items.
    pub attempt: u32,
    /// Zero.
    pub reserved: u32,
    /// As in [`Tally`].
    pub selected: u64,
    /// As in [`Tally`].
    pub lines: u64,
    /// As in [`Tally`].
    pub nul: u64,
    /// As in [`Tally`].
    pub need: u64,
    /// As in [`Tally`].
    pub bytes: u64,
    /// Bytes of the whole file, as it was opened.
    pub size: u64,
}

impl ItemResult {
    /// Notes an attempt: the first, or that after a restart.
    pub(super) fn add(&mut self, tally: &Tally) {
        self.status = tally.status as u32;
        self.selected = tally.selected;
        self.lines = tally.lines;
        self.need = tally.need;
        self.bytes += tally.bytes;
        if self.restarted == 0 {
            self.nul = tally.nul;
        }
    }

    /// The status; an unknown number reads as [`Status::Pending`].
    pub fn status(&self) -> Status {
        match self.status {
            1 => Status::Done,
            2 => Status::Nul,
            3 => Status::Scratch,
            4 => Status::Output,
            5 => Status::Failed,
            _ => Status::Pending,
        }
    }
}
