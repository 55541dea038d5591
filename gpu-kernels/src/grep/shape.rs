//! What a match looks like at some of its bytes: a date has a hyphen here and another three bytes
//! on, whatever its digits are. Places where the bytes are so are found many at a time; the DFA
//! looks at no others.

use bytemuck::{Pod, Zeroable};
use gpu_rt::{VECTORS, Wide, wide};

use super::lanes::{LANES, Lanes, stretches};
use super::program::{ProgramError, table};

/// The start of a shape's section; its [`ByteTest`]s follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct ShapeHeader {
    /// Number of tests, at least 1.
    pub tests: u32,
    /// 1: the shape starts where the match does; 0: it lies anywhere in it.
    pub at_start: u32,
}

/// A range that the byte at some offset lies in.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct ByteTest {
    /// Bytes from the start of the shape.
    pub at: u8,
    /// Bits that are set in the byte first: 0x20 makes letters lower case.
    pub case: u8,
    /// Least value.
    pub low: u8,
    /// Greatest value less the least.
    pub span: u8,
}

impl ByteTest {
    /// Whether `byte` lies in the range.
    #[inline(always)]
    pub fn passes(self, byte: u8) -> bool {
        (byte | self.case).wrapping_sub(self.low) <= self.span
    }
}

/// A shape, its tests typed.
#[derive(Clone, Copy)]
pub(super) struct Shape<'p> {
    tests: &'p [ByteTest],
    /// Whether it starts where the match does.
    pub(super) at_start: bool,
    /// Greatest offset of a test.
    ahead: usize,
}

impl<'p> Shape<'p> {
    pub(super) fn new(section: &'p [u8]) -> Result<Self, ProgramError> {
        let (header, rest) = table::<ShapeHeader>(section, 1)?;
        let (tests, _) = table::<ByteTest>(rest, header[0].tests as usize)?;
        let ahead = tests.iter().map(|t| t.at).max().ok_or(ProgramError::Table)?.into();
        Ok(Shape { tests, at_start: header[0].at_start != 0, ahead })
    }

    /// Bytes from the first to the last that is tested.
    pub(super) fn width(&self) -> usize {
        self.ahead + 1
    }

    /// Offers the places at or after `from` that look like this to `accept`, in order, until it
    /// returns something. Some are offered twice.
    #[inline(always)]
    pub(super) fn find<R>(
        &self,
        hay: &[u8],
        from: usize,
        accept: impl FnMut(usize) -> Option<R>,
    ) -> Option<R> {
        if VECTORS {
            return wide(Search { shape: *self, hay, from, accept });
        }
        self.places(hay, from).find_map(accept)
    }

    /// The places at or after `from` that look like this, one after the other.
    #[inline(always)]
    fn places(&self, hay: &[u8], from: usize) -> impl Iterator<Item = usize> {
        (from..hay.len().saturating_sub(self.ahead)).filter(|&at| self.stands(hay, at))
    }

    #[inline(always)]
    fn stands(&self, hay: &[u8], at: usize) -> bool {
        self.tests.iter().all(|t| hay.get(at + t.at as usize).is_some_and(|&b| t.passes(b)))
    }
}

struct Search<'a, 'p, F> {
    shape: Shape<'p>,
    hay: &'a [u8],
    from: usize,
    accept: F,
}

impl<R, F: FnMut(usize) -> Option<R>> Wide for Search<'_, '_, F> {
    type Output = Option<R>;

    #[inline(always)]
    fn run(self) -> Option<R> {
        let Search { shape, hay, from, mut accept } = self;
        let mut rest = from;
        for at in stretches(from, hay.len(), shape.ahead) {
            let stretch = &hay[at..at + shape.ahead + LANES];
            let mut all = Lanes::all(1);
            for &test in shape.tests {
                let passes = Lanes::of(stretch, test.at.into()).map(|b| test.passes(b).into());
                all = all.with(passes, |a, b| a & b);
            }
            for lane in all.marked() {
                if let Some(found) = accept(at + lane) {
                    return Some(found);
                }
            }
            rest = at + LANES;
        }
        shape.places(hay, rest).find_map(accept)
    }
}
