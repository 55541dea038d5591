//! Reads the output arena.

use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

use gpu_kernels::grep::{ChunkHeader, Record, RecordKind};

use super::backend::OutputArena;

/// Arenas that nobody reads any more.
#[derive(Default)]
pub(super) struct Spare(Mutex<Vec<OutputArena>>);

impl Spare {
    /// An arena to fill.
    pub(super) fn take(&self) -> OutputArena {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }
}

/// An arena that goes back when its last reader is done.
pub(super) struct Arena<'a> {
    copy: OutputArena,
    spare: &'a Spare,
}

impl Drop for Arena<'_> {
    fn drop(&mut self) {
        let copy = std::mem::take(&mut self.copy);
        self.spare.0.lock().unwrap_or_else(PoisonError::into_inner).push(copy);
    }
}

/// The records of one item, in the order of the file.
#[derive(Clone, Default)]
pub(super) struct Records<'a> {
    arena: Option<Rc<Arena<'a>>>,
    /// Where they start, in bytes.
    offsets: Vec<u32>,
}

/// One record with its payload.
#[derive(Clone, Copy)]
pub(super) struct Found<'a> {
    pub(super) kind: RecordKind,
    /// Offset of the text in the file.
    pub(super) offset: u64,
    /// Number of the first line, from 0 at the start of the item.
    pub(super) line: u64,
    pub(super) lines: u64,
    pub(super) text: &'a [u8],
    spans: &'a [u8],
}

impl Found<'_> {
    /// Where the matches lie in the line.
    pub(super) fn spans(&self) -> impl Iterator<Item = (usize, usize)> {
        let number = |b: &[u8]| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]) as usize;
        self.spans.chunks_exact(8).map(move |s| (number(&s[..4]), number(&s[4..])))
    }
}

impl<'a> Records<'a> {
    /// Sorts the records of an arena by their items, of which there are `items`.
    pub(super) fn split(copy: OutputArena, spare: &'a Spare, items: usize) -> Vec<Self> {
        let arena = Rc::new(Arena { copy, spare });
        let none = Records { arena: Some(arena.clone()), offsets: Vec::new() };
        let mut all = vec![none; items];
        let bytes = arena.copy.bytes();
        let mut chunk = 0;
        while let Some(head) = bytes.get(chunk..chunk + size_of::<ChunkHeader>()) {
            let header: ChunkHeader = bytemuck::pod_read_unaligned(head);
            let (size, used) = (header.size as usize, header.used as usize);
            if size == 0 || chunk + size > bytes.len() {
                break;
            }
            let mut at = chunk + head.len();
            while at < chunk + used {
                let record = record_at(bytes, at);
                if let Some(records) = all.get_mut(record.item as usize) {
                    records.offsets.push(at as u32);
                }
                at += (record.size as usize).max(size_of::<Record>());
            }
            chunk += size;
        }
        all
    }

    /// The records.
    pub(super) fn iter(&self) -> impl Iterator<Item = Found<'_>> {
        let bytes = self.arena.as_ref().map_or(&[][..], |arena| arena.copy.bytes());
        self.offsets.iter().map(move |&at| {
            let record = record_at(bytes, at as usize);
            let payload = &bytes[at as usize + size_of::<Record>()..];
            let (spans, rest) = payload.split_at(8 * record.spans as usize);
            Found {
                kind: match record.kind {
                    1 => RecordKind::Lines,
                    2 => RecordKind::Spans,
                    3 => RecordKind::Match,
                    4 => RecordKind::Undecided,
                    _ => RecordKind::UndecidedNul,
                },
                offset: record.offset,
                line: record.line,
                lines: record.lines.into(),
                text: &rest[..record.len as usize],
                spans,
            }
        })
    }
}

fn record_at(bytes: &[u8], at: usize) -> Record {
    bytemuck::pod_read_unaligned(&bytes[at..at + size_of::<Record>()])
}
