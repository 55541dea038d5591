//! Record files: many small images of one shape, one behind the other.
//!
//! ```text
//!   0          header (64 bytes), zeros up to the first record
//!   lead       record 0 │ record 1 │ … : `count` of them, `stride` bytes each
//!   names      where the images came from, and the name of each, every one ended by a NUL byte
//! ```
//!
//! Numbers are little-endian. A record has the image's pixels, a byte for each channel, row by row from
//! the upper left, and zeros up to `stride`: the next power of two, at least [`STRIP`]. The records
//! begin at `lead`, which is 4,096 or `stride`, whichever is greater. So a page of the cache holds
//! either whole records or a part of a single one, whatever the sizes of both.
//!
//! The distance of two images is the Euclidean one of their bytes. Its square is an integer below 2³²,
//! since an image has at most [`MAX_PIXEL_BYTES`]: whoever computes it gets the same number.

use core::fmt;

use bytemuck::{Pod, Zeroable};

/// Bytes that are compared at a time.
pub const STRIP: usize = 256;
/// The most bytes of an image: 255² times as many are below 2³².
pub const MAX_PIXEL_BYTES: u32 = 1 << 16;
/// The first bytes of a record file.
pub const MAGIC: [u8; 8] = *b"IMGRECS\n";
/// The version that is described here.
pub const VERSION: u32 = 1;
/// Where the records begin at the earliest.
const MIN_LEAD: u32 = 4096;

/// Bytes of a record, to be compared with those of another.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(16))]
pub struct Strip(pub [u8; STRIP]);

/// The shape of all images of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Shape {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Bytes of a pixel: 1 for gray, 3 for red, green and blue.
    pub channels: u32,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shape { width, height, channels } = self;
        write!(f, "{width}x{height}x{channels}")
    }
}

impl Shape {
    /// Bytes of an image, if it has any and not too many.
    pub fn pixel_bytes(&self) -> Option<u32> {
        let bytes = self.width.checked_mul(self.height)?.checked_mul(self.channels)?;
        (1..=MAX_PIXEL_BYTES).contains(&bytes).then_some(bytes)
    }
}

/// The beginning of a record file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: u32,
    /// Of every image.
    pub shape: Shape,
    /// Bytes of a record.
    pub stride: u32,
    /// Zero.
    pub reserved: u32,
    /// Records.
    pub count: u64,
    /// Bytes of the names, which follow the last record.
    pub names_len: u64,
    /// What the images were when they were packed, as a hash of their names, sizes and times; 0 if
    /// nobody is going to ask.
    pub stamp: u64,
}

/// Why a header is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatError {
    /// It begins with something else.
    NotRecords,
    /// Another version.
    Version(u32),
    /// Images of no size, or of too many bytes.
    Shape(Shape),
    /// Records of another size than their shape needs.
    Stride(u32),
    /// More records, or names, than a file can have.
    Count(u64),
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FormatError::NotRecords => write!(f, "not a record file"),
            FormatError::Version(found) => {
                write!(f, "a record file of version {found}, where {VERSION} is known")
            }
            FormatError::Shape(shape) => write!(f, "damaged: images of {shape}"),
            FormatError::Stride(stride) => write!(f, "damaged: records of {stride} bytes"),
            FormatError::Count(count) => write!(f, "damaged: {count} records"),
        }
    }
}

impl core::error::Error for FormatError {}

impl Header {
    /// The header of a file of `count` images of `shape`; `None` if there can be no such images.
    pub fn new(shape: Shape, count: u64, names_len: u64, stamp: u64) -> Option<Header> {
        let stride = shape.pixel_bytes()?.next_power_of_two().max(STRIP as u32);
        let (magic, version) = (MAGIC, VERSION);
        Some(Header { magic, version, shape, stride, reserved: 0, count, names_len, stamp })
    }

    /// Whether a file can begin so.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), FormatError> {
        if self.magic != MAGIC {
            return Err(FormatError::NotRecords);
        }
        if self.version != VERSION {
            return Err(FormatError::Version(self.version));
        }
        let expected = Header::new(self.shape, 0, 0, 0).ok_or(FormatError::Shape(self.shape))?;
        if self.stride != expected.stride {
            return Err(FormatError::Stride(self.stride));
        }
        // Numbers of records have 32 bits, and no sum below can overflow.
        if self.count >= u64::from(u32::MAX) || self.names_len > 1 << 48 {
            return Err(FormatError::Count(self.count));
        }
        Ok(())
    }

    /// Where the records begin.
    pub fn lead(&self) -> u64 {
        u64::from(self.stride.max(MIN_LEAD))
    }

    /// Records that would fit before the first.
    pub fn lead_records(&self) -> u64 {
        self.lead() / u64::from(self.stride)
    }

    /// Where the names begin.
    pub fn names(&self) -> u64 {
        self.lead() + self.count * u64::from(self.stride)
    }

    /// Bytes of the file.
    pub fn file_len(&self) -> u64 {
        self.names() + self.names_len
    }

    /// Strips of a record.
    pub fn strips(&self) -> usize {
        self.stride as usize / STRIP
    }

    /// Strips of a record that have pixels.
    pub fn used_strips(&self) -> usize {
        self.shape.pixel_bytes().unwrap_or(0).div_ceil(STRIP as u32) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(width: u32, height: u32, channels: u32) -> Header {
        Header::new(Shape { width, height, channels }, 5, 7, 0).unwrap()
    }

    #[test]
    fn records_never_straddle_pages() {
        for (shape, stride, lead) in
            [((64, 64, 1), 4096, 4096), ((5, 5, 1), 256, 4096), ((100, 50, 3), 16384, 16384)]
        {
            let header = header(shape.0, shape.1, shape.2);
            assert_eq!((header.stride, header.lead()), (stride, lead));
            assert_eq!(header.file_len(), lead + 5 * u64::from(stride) + 7);
            assert_eq!(header.check(), Ok(()));
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let good = header(64, 64, 1);
        let shape = Shape { width: 0, ..good.shape };
        for (bad, why) in [
            (Header { magic: *b"\x89PNG\r\n\x1a\n", ..good }, FormatError::NotRecords),
            (Header { version: 2, ..good }, FormatError::Version(2)),
            (Header { shape, ..good }, FormatError::Shape(shape)),
            (Header { stride: 4095, ..good }, FormatError::Stride(4095)),
            (Header { count: 1 << 40, ..good }, FormatError::Count(1 << 40)),
        ] {
            assert_eq!(bad.check(), Err(why));
        }
        let huge = Shape { width: 1 << 16, height: 1 << 16, channels: 1 };
        assert_eq!(huge.pixel_bytes(), None, "and does not overflow");
    }

    #[test]
    fn the_greatest_distance_has_32_bits() {
        assert!(u32::try_from(255 * 255 * u64::from(MAX_PIXEL_BYTES)).is_ok());
    }
}
