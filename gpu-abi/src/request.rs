//! What a kernel can ask of the host, and what it is answered.

use crate::Errno;
use bytemuck::{Pod, Zeroable};

/// The operations of protocol version 1. Zero is none, so that zeroed memory is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Op {
    /// Does nothing: measures the round trip.
    Nop = 1,
    /// Opens the path in the cell's transfer slot. `value` = handle, detail = [`FileInfo`].
    Open = 2,
    /// Closes `handle`. Often posted with [`CELL_NONE`]: nobody waits for it.
    Close = 3,
    /// Reads `len` bytes at `offset` of `handle` into the buffer. `value` = bytes read.
    Read = 4,
    /// Describes `handle`, or the path in the transfer slot if `handle` is [`HANDLE_NONE`].
    /// Detail = [`FileInfo`].
    Stat = 5,
    /// Fills the buffer with directory records ([`DirRecord`]) of `handle` from cookie `offset`
    /// on (0 = the beginning). `value` = bytes filled (0 at the end), detail\[0\] = next cookie.
    ReadDir = 6,
    /// Reads the first `len` bytes of the file at the path of `path_len` bytes in the cell's transfer
    /// slot into the buffer: what [`Op::Open`], [`Op::Read`] and [`Op::Close`] do, in one request.
    /// `value` = bytes read.
    ReadFile = 7,
    /// Writes the `len` bytes of the buffer at `offset` of `handle`. `value` = bytes written.
    Write = 8,
    /// Writes several pieces ([`Run`]) to `handle`, in their order: the buffer, in the cell's slot,
    /// is a table of them, and `window` says where their bytes are. `value` = bytes written.
    WriteRuns = 9,
    /// Writes the buffer at the end of `handle`, wherever that is then. `value` = bytes written,
    /// detail\[0\] = the offset of the first.
    Append = 10,
    /// Waits until what was written to `handle` is on stable storage: fsync(2), or fdatasync(2) with
    /// [`SYNC_DATA`].
    Sync = 11,
    /// Makes the file of `handle` `offset` bytes long. Detail = [`FileInfo`] after that.
    Truncate = 12,
    /// Removes the name in the transfer slot: a file's, or an empty directory's with
    /// [`OpenFlags::DIRECTORY`].
    Unlink = 13,
    /// Renames: the buffer holds the old path, of `path_len` bytes, and then the new one. A file that
    /// has the new name is replaced, unless [`RENAME_NO_REPLACE`] is set.
    Rename = 14,
    /// Makes a directory with the name in the transfer slot.
    MakeDir = 15,
    /// Asks what time it is. `value` = nanoseconds since 1970, UTC.
    Time = 16,
    /// Listens at the address in the transfer slot (a [`NetAddr`](crate::socket::NetAddr)); `offset` =
    /// backlog. `value` = socket handle.
    Listen = 32,
    /// Connects a stream to the address in the transfer slot; `offset` = patience in milliseconds, 0 =
    /// the system's. `value` = socket handle.
    Connect = 33,
    /// Binds a datagram socket to the address in the transfer slot. `value` = socket handle.
    Bind = 34,
    /// Ends one direction of a socket, or both: a `SHUT_*` in `flags`.
    Shutdown = 35,
    /// Gives a socket back, when what was sent has gone out. Often posted with [`CELL_NONE`].
    CloseSocket = 36,
    /// Asks the host to look at a socket's rings: `SOCK_*` in `flags`. Often with [`CELL_NONE`].
    Wake = 37,
    /// Sets an option of a socket: its number in `len`, its value in `offset`.
    SetOption = 38,
    /// Looks the host name in the transfer slot up, `offset` = port. The slot is filled with
    /// [`NetAddr`](crate::socket::NetAddr)s, `value` = how many.
    LookUp = 39,
    /// Sets the peer of a datagram socket to the address in the transfer slot.
    SetPeer = 40,
    /// Gives a [`Op::Connect`] or [`Op::LookUp`] up that has not been answered yet: its cell in `len`, its
    /// tag in `offset`. That request is answered `ECANCELED`, at once.
    Cancel = 41,
    /// Tells a socket's address, or its peer's with [`PEER_NAME`](crate::socket::PEER_NAME): the cell's slot
    /// is filled with a [`NetAddr`](crate::socket::NetAddr) and a Unix socket's path. `value` = bytes.
    Name = 42,
    /// `value` = an option of a socket: its number in `len`.
    GetOption = 43,
    /// Makes two Unix sockets that are connected with each other, of datagrams with
    /// [`PAIR_DATAGRAM`](crate::socket::PAIR_DATAGRAM). `value` = one handle, and the other 32 bits higher.
    Pair = 44,
    /// A datagram socket joins the multicast group in the transfer slot, or leaves it with
    /// [`LEAVE`](crate::socket::LEAVE). IPv4: the group's address, and behind its four bytes those of the
    /// interface; IPv6: `scope` is the interface.
    Multicast = 45,
}

impl Op {
    /// The operation with this number.
    pub const fn from_raw(raw: u8) -> Option<Op> {
        Some(match raw {
            1 => Op::Nop,
            2 => Op::Open,
            3 => Op::Close,
            4 => Op::Read,
            5 => Op::Stat,
            6 => Op::ReadDir,
            7 => Op::ReadFile,
            8 => Op::Write,
            9 => Op::WriteRuns,
            10 => Op::Append,
            11 => Op::Sync,
            12 => Op::Truncate,
            13 => Op::Unlink,
            14 => Op::Rename,
            15 => Op::MakeDir,
            16 => Op::Time,
            32 => Op::Listen,
            33 => Op::Connect,
            34 => Op::Bind,
            35 => Op::Shutdown,
            36 => Op::CloseSocket,
            37 => Op::Wake,
            38 => Op::SetOption,
            39 => Op::LookUp,
            40 => Op::SetPeer,
            41 => Op::Cancel,
            42 => Op::Name,
            43 => Op::GetOption,
            44 => Op::Pair,
            45 => Op::Multicast,
            _ => return None,
        })
    }
}

/// In [`Request::cell`]: no completion is wanted.
pub const CELL_NONE: u32 = u32::MAX;
/// In [`Request::handle`]: the path in the transfer slot is meant.
pub const HANDLE_NONE: u32 = u32::MAX;
/// [`Request::window`]: the transfer slots of the region.
pub const WINDOW_SLOTS: u8 = 0;
/// [`Request::window`]: device memory, where the host can address it.
pub const WINDOW_DEVICE: u8 = 1;

/// Longest path that a request can name, in bytes (Linux's `PATH_MAX` less its NUL).
pub const PATH_MAX: usize = 4095;

/// [`Request::flags`] for [`Op::Sync`]: the file's times need not be stored.
pub const SYNC_DATA: u8 = 1;
/// [`Request::flags`] for [`Op::Rename`]: `EEXIST` if the new name is taken.
pub const RENAME_NO_REPLACE: u8 = 1;

/// How to open a file: the bits of [`Request::flags`] for [`Op::Open`] and [`Op::ReadFile`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct OpenFlags(pub u8);

impl OpenFlags {
    /// For reading.
    pub const READ: OpenFlags = OpenFlags(1);
    /// It must be a directory (else `ENOTDIR`).
    pub const DIRECTORY: OpenFlags = OpenFlags(2);
    /// Do not follow a symbolic link in the last component (`ELOOP`).
    pub const NO_FOLLOW: OpenFlags = OpenFlags(4);
    /// For writing.
    pub const WRITE: OpenFlags = OpenFlags(8);
    /// Make it, with the process's usual permissions, if there is none. Needs [`OpenFlags::WRITE`].
    pub const CREATE: OpenFlags = OpenFlags(16);
    /// `EEXIST` if there is one. Needs [`OpenFlags::CREATE`].
    pub const EXCLUSIVE: OpenFlags = OpenFlags(32);
    /// Every bit that means something.
    pub const ALL: u8 = 63;

    /// Whether all bits of `other` are set.
    pub const fn contains(self, other: OpenFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets of bits.
    pub const fn with(self, other: OpenFlags) -> OpenFlags {
        OpenFlags(self.0 | other.0)
    }
}

/// One entry of a submission ring: a cache line.
///
/// ```text
///  0     4    5       6        7   8      12       16       24    32    36    40         44       64
///  | seq | op | flags | window | 0 | cell | handle | offset | buf | len | tag | path_len | 0 …    |
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct Request {
    /// Publication word: the low half of ticket + 1. Written last.
    pub seq: u32,
    /// An [`Op`].
    pub op: u8,
    /// Bits whose meaning the operation defines; others must be 0.
    pub flags: u8,
    /// [`WINDOW_SLOTS`] or [`WINDOW_DEVICE`]: what `buf` is relative to.
    pub window: u8,
    /// Must be 0.
    pub reserved0: u8,
    /// The completion cell, or [`CELL_NONE`].
    pub cell: u32,
    /// A handle that [`Op::Open`] returned, or [`HANDLE_NONE`].
    pub handle: u32,
    /// Byte offset in the file (or the cookie in a directory).
    pub offset: u64,
    /// Byte offset of the buffer within the window.
    pub buf: u64,
    /// Length of the buffer in bytes.
    pub len: u32,
    /// The completion's sequence word will take this value: differs from its present one.
    pub tag: u32,
    /// Length of the path at the beginning of the cell's transfer slot, for [`Op::ReadFile`], and of
    /// the old path for [`Op::Rename`]; else 0.
    pub path_len: u32,
    /// Must be 0.
    pub reserved: [u32; 5],
}

/// A piece of [`Op::WriteRuns`]: a record of its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Run {
    /// Byte offset in the file.
    pub offset: u64,
    /// Byte offset of the bytes within the request's window.
    pub buf: u64,
    /// How many they are: at least 1.
    pub len: u32,
    /// Must be 0.
    pub reserved: u32,
}

/// Runs that one request can have.
pub const RUNS_MAX: usize = 256;
/// Bytes that all runs of a request can have together.
pub const RUNS_BYTES_MAX: u64 = 4 << 20;

/// The answer, in a cell of its own: a cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct Completion {
    /// The request's tag. Written last.
    pub seq: u32,
    /// 0, or the Linux number of the failure.
    pub errno: u32,
    /// What the operation says it is.
    pub value: u64,
    /// What the operation says it is.
    pub detail: [u64; 6],
}

impl Completion {
    /// A failure, or a success with just a value.
    pub fn of(result: Result<u64, Errno>) -> Completion {
        let (errno, value) = match result {
            Ok(value) => (0, value),
            Err(e) => (e.raw(), 0),
        };
        Completion { seq: 0, errno, value, detail: [0; 6] }
    }

    /// A success with a value and a file's description.
    pub fn with_info(value: u64, info: FileInfo) -> Completion {
        Completion { seq: 0, errno: 0, value, detail: bytemuck::cast(info) }
    }

    /// The value, or the failure.
    pub fn result(&self) -> Result<u64, Errno> {
        Errno::check(self.errno).map(|()| self.value)
    }

    /// The detail of [`Op::Open`] and [`Op::Stat`].
    pub fn info(&self) -> FileInfo {
        bytemuck::cast(self.detail)
    }
}

/// A file's description, as of the open or stat that returned it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct FileInfo {
    /// Length in bytes.
    pub size: u64,
    /// Last modification, nanoseconds since the epoch.
    pub mtime_ns: i64,
    /// Inode number.
    pub ino: u64,
    /// Device number.
    pub dev: u64,
    /// Names this version of the file's content: (inode, size, mtime, ctime, the daemon's own
    /// write count). Two opens that return the same number may share cached pages. Never 0 for a
    /// regular file.
    pub version: u32,
    /// Type and permission bits, as `st_mode`.
    pub mode: u32,
    /// Number of hard links.
    pub nlink: u32,
    /// Must be 0.
    pub reserved: u32,
}

impl FileInfo {
    const TYPE: u32 = 0o170000;

    /// A regular file.
    pub const fn is_file(&self) -> bool {
        self.mode & Self::TYPE == 0o100000
    }

    /// A directory.
    pub const fn is_dir(&self) -> bool {
        self.mode & Self::TYPE == 0o040000
    }
}

/// The head of one record that [`Op::ReadDir`] writes; `name_len` bytes of name follow it, then
/// padding to a multiple of 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct DirRecord {
    /// Inode number.
    pub ino: u64,
    /// The cookie of the entry after this one.
    pub next: u64,
    /// Bytes of this record, padding included: a multiple of 8.
    pub record_len: u16,
    /// Bytes of the name.
    pub name_len: u16,
    /// The entry's type as `st_mode`'s type bits shifted right by 12 (`DT_*`), 0 if unknown.
    pub kind: u8,
    /// Must be 0.
    pub reserved: [u8; 3],
}

impl DirRecord {
    /// Bytes a record with a name of `name_len` bytes takes.
    pub const fn len_for(name_len: usize) -> usize {
        (core::mem::size_of::<DirRecord>() + name_len).next_multiple_of(8)
    }
}

/// A directory record with its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirEntry<'a> {
    /// The fixed part.
    pub record: DirRecord,
    /// The name, without `/` or NUL.
    pub name: &'a [u8],
}

impl<'a> DirEntry<'a> {
    /// Whether the host said that it is a directory.
    pub const fn is_dir(&self) -> bool {
        self.record.kind == 4
    }

    /// Takes the first record off `bytes`; `None` at the end or where the bytes are no record.
    pub fn split_first(bytes: &'a [u8]) -> Option<(DirEntry<'a>, &'a [u8])> {
        let head = bytes.get(..size_of::<DirRecord>())?;
        let record: DirRecord = bytemuck::pod_read_unaligned(head);
        let total = record.record_len as usize;
        if total < DirRecord::len_for(record.name_len as usize) {
            return None;
        }
        let name = bytes.get(head.len()..head.len() + record.name_len as usize)?;
        Some((DirEntry { record, name }, bytes.get(total..)?))
    }
}

const _: () = {
    assert!(size_of::<Request>() == 64);
    assert!(size_of::<Completion>() == 64);
    assert!(size_of::<FileInfo>() == 48);
    assert!(size_of::<DirRecord>() == 24);
    assert!(size_of::<Run>() == 24);
    // The longest table fits in a transfer slot of the usual smallest size.
    assert!(RUNS_MAX * size_of::<Run>() <= 8192);
    assert!(core::mem::offset_of!(Request, cell) == 8);
    assert!(core::mem::offset_of!(Request, offset) == 16);
    assert!(core::mem::offset_of!(Request, len) == 32);
    assert!(core::mem::offset_of!(Request, path_len) == 40);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dir_records_that_lie_about_their_length_end_the_listing() {
        let mut bytes = [0u8; 64];
        let good = DirRecord {
            ino: 7,
            next: 1,
            record_len: DirRecord::len_for(3) as u16,
            name_len: 3,
            kind: 8,
            reserved: [0; 3],
        };
        bytes[..24].copy_from_slice(bytemuck::bytes_of(&good));
        bytes[24..27].copy_from_slice(b"abc");
        let (entry, rest) = DirEntry::split_first(&bytes).unwrap();
        assert_eq!((entry.name, rest.len()), (&b"abc"[..], 32));
        assert!(DirEntry::split_first(rest).is_none(), "a zero record ends it");

        for (record_len, name_len) in [(0, 3), (24, 3), (32, 60), (72, 3)] {
            let bad = DirRecord { record_len, name_len, ..good };
            bytes[..24].copy_from_slice(bytemuck::bytes_of(&bad));
            assert!(DirEntry::split_first(&bytes).is_none(), "{record_len} {name_len}");
        }
        assert!(DirEntry::split_first(&bytes[..10]).is_none());
    }
}
