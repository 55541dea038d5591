//! The file of references: what each person's face looks like, as counts of its patterns.
//!
//! ```text
//!   0      header (64 bytes), zeros up to 4,096
//!   4096   index: `slots` entries of 64 bytes, a hash table of the identities
//!   …      references: `count` of them, `stride` bytes each
//! ```
//!
//! Numbers are little-endian. A reference has a 16-bit count for each bin of each cell, cell after cell, row
//! by row from the upper left, and zeros up to `stride`, the next multiple of 64. An entry without a length is free; an
//! identity stands in the first free entry from that of its [`hash`] on, at most `probes` entries
//! from there, around the end. So a reference is found with few reads, which the page cache answers for a person
//! that is asked for again.
//!
//! A server checks whatever it uses of this: its clients are told of a damaged store, and it goes on.

use super::lbp::{Method, Shape};
use super::wire::ID_MAX;
use bytemuck::{Pod, Zeroable};
use core::fmt;

/// The first bytes of the file.
pub const MAGIC: [u8; 8] = *b"LBPREFS\n";
/// The version that is described here.
pub const VERSION: u32 = 1;
/// Where the index begins.
pub const INDEX_AT: u64 = 4096;
/// The most entries that are looked at for an identity.
pub const PROBES_MAX: u32 = 1024;
/// The most entries of an index.
pub const SLOTS_MAX: u32 = 1 << 30;

/// The beginning of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: u32,
    /// A [`Method`].
    pub method: u32,
    /// Of all images.
    pub shape: Shape,
    /// References.
    pub count: u32,
    /// Entries of the index: a power of two.
    pub slots: u32,
    /// The most entries that have to be looked at for an identity.
    pub probes: u32,
    /// Bytes of a reference.
    pub stride: u32,
    /// What the faces were generated from; 0 if they were not.
    pub seed: u64,
    /// Zero.
    pub reserved: u64,
}

/// An entry of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Entry {
    /// The identity, and zeros.
    pub id: [[u8; 8]; ID_MAX / 8],
    /// Its bytes; 0: the entry is free.
    pub len: u32,
    /// The number of its reference.
    pub record: u32,
}

impl Entry {
    /// The entry of an identity; `None` unless it has 1 to [`ID_MAX`] bytes.
    #[must_use]
    pub fn new(id: &[u8], record: u32) -> Option<Entry> {
        let mut entry = Entry { len: id.len() as u32, record, ..Entry::zeroed() };
        let place = bytemuck::bytes_of_mut(&mut entry.id).get_mut(..id.len())?;
        place.copy_from_slice(id);
        (!id.is_empty()).then_some(entry)
    }

    /// Its identity, of no bytes if it is free; `None` if it cannot be that long.
    #[must_use]
    pub fn id(&self) -> Option<&[u8]> {
        bytemuck::bytes_of(&self.id).get(..self.len as usize)
    }
}

/// Bytes of an entry.
pub const ENTRY_LEN: usize = size_of::<Entry>();
const _: () = assert!(size_of::<Header>() == 64 && ENTRY_LEN == 64);

/// Why a file is no store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatError {
    /// It begins with something else.
    NotAStore,
    /// Another version.
    Version(u32),
    /// A method that is not known.
    Method(u32),
    /// Sides or cells that cannot be.
    Shape(Shape),
    /// An index or references that do not fit together.
    Index,
    /// A file of another length.
    Length {
        /// What it has.
        found: u64,
        /// What its header says.
        expected: u64,
    },
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FormatError::NotAStore => write!(f, "not a store of references"),
            FormatError::Version(found) => {
                write!(f, "a store of version {found}, where {VERSION} is known")
            }
            FormatError::Method(raw) => write!(f, "damaged: method {raw}"),
            FormatError::Shape(Shape { width, height, columns, rows }) => {
                write!(f, "damaged: images of {width}x{height} in {columns}x{rows} cells")
            }
            FormatError::Index => write!(f, "damaged: its index cannot be"),
            FormatError::Length { found, expected } => {
                write!(f, "damaged: {found} bytes where there should be {expected}")
            }
        }
    }
}

impl core::error::Error for FormatError {}

impl Header {
    /// The header of a store without references; `None` if there can be no such images.
    #[must_use]
    pub fn new(shape: Shape, method: Method) -> Option<Header> {
        let stride = reference_len(shape, method)?.next_multiple_of(64) as u32;
        let (magic, version, method) = (MAGIC, VERSION, method.raw());
        let (count, slots, probes, seed, reserved) = (0, 1, 0, 0, 0);
        let header =
            Header { magic, version, method, shape, count, slots, probes, stride, seed, reserved };
        Some(header)
    }

    /// The method, if a file of so many bytes can begin so.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self, file_len: u64) -> Result<Method, FormatError> {
        if self.magic != MAGIC {
            return Err(FormatError::NotAStore);
        }
        if self.version != VERSION {
            return Err(FormatError::Version(self.version));
        }
        let method = Method::from_raw(self.method).ok_or(FormatError::Method(self.method))?;
        let expected = Header::new(self.shape, method).ok_or(FormatError::Shape(self.shape))?;
        let fits = self.stride == expected.stride
            && self.reserved == 0
            && self.slots.is_power_of_two()
            && self.slots <= SLOTS_MAX
            && self.count <= self.slots
            && self.probes <= PROBES_MAX.min(self.slots);
        if !fits {
            return Err(FormatError::Index);
        }
        let expected = self.file_len();
        if file_len != expected {
            return Err(FormatError::Length { found: file_len, expected });
        }
        Ok(method)
    }

    /// Where an entry of the index lies, for an identity with this hash, after so many others.
    #[must_use]
    pub fn entry_at(&self, hash: u64, probe: u32) -> u64 {
        let slot = hash.wrapping_add(probe.into()) & (u64::from(self.slots) - 1);
        INDEX_AT + slot * ENTRY_LEN as u64
    }

    /// Where a reference lies.
    #[must_use]
    pub fn reference_at(&self, record: u32) -> u64 {
        // No product passes 2³⁰ · 2⁶ or 2³⁰ · 2²⁶.
        let index = u64::from(self.slots) * ENTRY_LEN as u64;
        INDEX_AT + index + u64::from(record) * u64::from(self.stride)
    }

    /// Bytes of the file.
    #[must_use]
    pub fn file_len(&self) -> u64 {
        self.reference_at(self.count)
    }
}

/// Bytes of a reference's counts, if there can be such images.
#[must_use]
pub fn reference_len(shape: Shape, method: Method) -> Option<usize> {
    shape.is_valid().then(|| shape.cells() * method.bins() * 2)
}

/// The hash of an identity: FNV-1a, 64 bits.
#[must_use]
pub fn hash(id: impl Iterator<Item = u8>) -> u64 {
    id.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        let shape = Shape { width: 128, height: 128, columns: 8, rows: 8 };
        let empty = Header::new(shape, Method::NriUniform).unwrap();
        Header { count: 10, slots: 32, probes: 3, ..empty }
    }

    #[test]
    fn parts_follow_each_other() {
        let header = header();
        assert_eq!(header.stride, 64 * 59 * 2);
        assert_eq!(header.entry_at(31, 0), 4096 + 31 * 64);
        assert_eq!(header.entry_at(31, 1), 4096, "around the end");
        assert_eq!(header.reference_at(0), 4096 + 32 * 64);
        assert_eq!(header.check(header.file_len()), Ok(Method::NriUniform));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let good = header();
        let shape = Shape { columns: 7, ..good.shape };
        for (bad, why) in [
            (Header { magic: *b"IMGRECS\n", ..good }, FormatError::NotAStore),
            (Header { version: 2, ..good }, FormatError::Version(2)),
            (Header { method: 9, ..good }, FormatError::Method(9)),
            (Header { shape, ..good }, FormatError::Shape(shape)),
            (Header { stride: 64, ..good }, FormatError::Index),
            (Header { slots: 0, ..good }, FormatError::Index),
            (Header { slots: 33, ..good }, FormatError::Index),
            (Header { slots: 1 << 31, ..good }, FormatError::Index),
            (Header { count: 33, ..good }, FormatError::Index),
            (Header { probes: 33, ..good }, FormatError::Index),
            (Header { reserved: 1, ..good }, FormatError::Index),
        ] {
            assert_eq!(bad.check(bad.file_len()), Err(why));
        }
        let expected = good.file_len();
        let found = expected - 1;
        assert_eq!(good.check(found), Err(FormatError::Length { found, expected }));
    }

    #[test]
    fn hashes_are_the_published_ones() {
        assert_eq!(hash(core::iter::empty()), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash(b"foobar".iter().copied()), 0x8594_4171_f739_67e8);
    }
}
