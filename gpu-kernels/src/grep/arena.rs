//! Where results go: records in chunks of one output arena.
//!
//! ```text
//!   arena   │ chunk │ chunk │ chunk │ … unused …
//!   chunk   │ ChunkHeader │ Record + payload │ Record + payload │ … unused …
//! ```
//!
//! A thread takes a chunk with one atomic addition and fills it alone. Chunks lie in the order in
//! which they were taken, so the records of one item, which one thread writes, come in order when
//! the arena is read from its start.

use bytemuck::{Pod, Zeroable};

/// The start of a chunk.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct ChunkHeader {
    /// Bytes of the chunk, this header included; a multiple of eight. 0: no chunk follows.
    pub size: u32,
    /// Bytes in use, this header included.
    pub used: u32,
}

/// What a record tells.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// One or more selected lines that follow each other in the file.
    Lines = 1,
    /// One selected line and where the matches lie in it.
    Spans = 2,
    /// One match without its line.
    Match = 3,
    /// A line that the device cannot decide: the host has to.
    Undecided = 4,
    /// The same, where NUL bytes end lines.
    UndecidedNul = 5,
}

/// The head of a record. The payload follows: `spans` pairs of `u32` (start and end in the line),
/// `len` bytes of text with the line's terminator as it is in the file, padding to eight bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Record {
    /// Offset of the text in the file.
    pub offset: u64,
    /// Number of the (first) line, from 0 at the start of the item; counted only on request.
    pub line: u64,
    /// Number of the item in the launch.
    pub item: u32,
    /// A [`RecordKind`].
    pub kind: u32,
    /// Lines in the text.
    pub lines: u32,
    /// Spans before the text.
    pub spans: u32,
    /// Bytes of text.
    pub len: u32,
    /// Bytes of the record, this head included.
    pub size: u32,
}

/// Takes room for records.
pub trait Sink {
    /// Room for `size` bytes, a multiple of eight; `None` if the output is full.
    fn room(&mut self, size: usize) -> Option<&mut [u8]>;
}

impl<S: Sink> Sink for &mut S {
    fn room(&mut self, size: usize) -> Option<&mut [u8]> {
        (**self).room(size)
    }
}

/// A counter that many threads advance.
pub trait Bump {
    /// Adds `n` and returns the value before. May wrap only after the arena's end was passed.
    fn bump(&self, n: u32) -> u32;
}

/// Bytes of the chunks that a thread takes, unless a record needs more.
const CHUNK: usize = 4096;
const HEAD: usize = size_of::<ChunkHeader>();

/// A thread's access to the output arena. Sizes handed to the [`Bump`] are in units of eight
/// bytes.
pub struct Arena<'a, B> {
    base: *mut u8,
    len: usize,
    next: &'a B,
    /// Start, size and bytes in use of the thread's own chunk.
    chunk: usize,
    size: usize,
    used: usize,
}

impl<'a, B: Bump> Arena<'a, B> {
    /// The arena of `len` bytes at `base`, of which `next` counts the units taken.
    ///
    /// # Safety
    ///
    /// `base..base + len` is writable memory, aligned to eight bytes, for `'a`; while the arena
    /// exists it is written only through arenas that share `next`; `next` counted from zero when
    /// the first of them was made.
    pub unsafe fn new(base: *mut u8, len: usize, next: &'a B) -> Self {
        Arena { base, len, next, chunk: 0, size: 0, used: 0 }
    }

    fn take(&mut self, size: usize) -> bool {
        let wanted = (HEAD + size).max(CHUNK).next_multiple_of(8);
        let Ok(units) = u32::try_from(wanted / 8) else { return false };
        // A request greater than the whole arena is refused before it could wrap the counter.
        if wanted > self.len {
            return false;
        }
        let start = self.next.bump(units) as usize * 8;
        if start + wanted > self.len {
            // The first request past the end leaves a hole: mark where the chunks stop.
            if start + HEAD <= self.len {
                self.write_header(start, ChunkHeader::default());
            }
            return false;
        }
        (self.chunk, self.size, self.used) = (start, wanted, HEAD);
        self.write_header(start, ChunkHeader { size: wanted as u32, used: HEAD as u32 });
        true
    }

    fn write_header(&mut self, at: usize, header: ChunkHeader) {
        // SAFETY: every caller passes an `at` with room for a header before `len`, from a range
        // that the counter gave to this thread alone.
        unsafe { self.base.add(at).cast::<ChunkHeader>().write(header) }
    }
}

impl<B: Bump> Sink for Arena<'_, B> {
    fn room(&mut self, size: usize) -> Option<&mut [u8]> {
        if size > self.size - self.used && !self.take(size) {
            return None;
        }
        let at = self.chunk + self.used;
        self.used += size;
        let header = ChunkHeader { size: self.size as u32, used: self.used as u32 };
        self.write_header(self.chunk, header);
        // SAFETY: `at..at + size` lies in this thread's own chunk, past what was handed out
        // before; the bytes are initialised memory of the arena.
        Some(unsafe { core::slice::from_raw_parts_mut(self.base.add(at), size) })
    }
}
