//! Local binary patterns (Ojala, Pietikäinen and Mäenpää, PAMI 2002) of eight neighbours at radius 1,
//! counted cell by cell, and the distance of such counts.
//!
//! A pixel's pattern has a bit for each neighbour on the circle around it, set where that is at least as
//! bright as the pixel; counted from the east against the clock:
//!
//! ```text
//!    3   2   1
//!      ╲ │ ╱         even bits: pixels
//!    4 ──•── 0       odd bits: 0.70711 rows and columns away, interpolated between four pixels
//!      ╱ │ ╲         beyond the border everything is 0
//!    5   6   7
//! ```
//!
//! Patterns are those of scikit-image's `local_binary_pattern(image, P=8, R=1)`, bit for bit. An
//! interpolated neighbour may be as bright as the pixel, as in every even area: then the bit depends on how
//! the sums are rounded. So they are formed as there: in binary64, in the same order, from coordinates rounded to
//! five digits, of which row and column take part before they are split into pixel and rest.

use bytemuck::{Pod, Zeroable};
use gpu_rt::{VECTORS, Wide};

/// How far rows and columns of the neighbours between the axes are away: the root of ½, rounded as in
/// scikit-image.
#[allow(clippy::approx_constant)]
const DIAGONAL: f64 = 0.70711;
/// The most bins of any method.
pub const BINS_MAX: usize = 256;

/// How patterns are sorted into bins; named as in scikit-image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// A bin for each of the 256 patterns.
    Default,
    /// Patterns whose bits change at most twice around the circle by their number of set bits; a bin for
    /// all others. Turning an image by 45 degrees hardly changes the counts.
    Uniform,
    /// A bin for each pattern whose bits change at most twice; a bin for all others. What is usual for
    /// faces, which stand upright: most patterns of images are among these 58.
    NriUniform,
}

impl Method {
    /// All of them.
    pub const ALL: [Method; 3] = [Method::Default, Method::Uniform, Method::NriUniform];

    /// The method with this number.
    #[must_use]
    pub fn from_raw(raw: u32) -> Option<Method> {
        Method::ALL.get(raw as usize).copied()
    }

    /// Its number.
    #[must_use]
    pub const fn raw(self) -> u32 {
        self as u32
    }

    /// How many bins there are.
    #[must_use]
    pub const fn bins(self) -> usize {
        match self {
            Method::Default => 256,
            Method::Uniform => 10,
            Method::NriUniform => 59,
        }
    }

    /// The bin of each pattern.
    #[must_use]
    pub fn labels(self) -> &'static [u8; 256] {
        static LABELS: [[u8; 256]; 3] =
            [labels(Method::Default), labels(Method::Uniform), labels(Method::NriUniform)];
        &LABELS[self as usize]
    }
}

const fn labels(method: Method) -> [u8; 256] {
    let mut labels = [0; 256];
    let mut pattern = 0;
    while pattern < 256 {
        labels[pattern] = label(method, pattern as u8);
        pattern += 1;
    }
    labels
}

const fn label(method: Method, pattern: u8) -> u8 {
    let ones = pattern.count_ones() as u8;
    let changes = (pattern ^ pattern.rotate_left(1)).count_ones();
    match method {
        Method::Default => pattern,
        Method::Uniform if changes <= 2 => ones,
        Method::Uniform => 9,
        Method::NriUniform if changes > 2 => 58,
        Method::NriUniform => match ones {
            0 => 0,
            8 => 57,
            _ => {
                // The set bits are a run around the circle: how many steps downwards bring the lowest
                // bits to it.
                let lowest = u8::MAX >> (8 - ones);
                let mut steps = 0;
                while lowest.rotate_right(steps) != pattern {
                    steps += 1;
                }
                1 + (ones - 1) * 8 + steps as u8
            }
        },
    }
}

/// Sides of an image, and of the grid of cells that it is cut into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Shape {
    /// Pixels in a row, a byte each.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Cells beside each other; divides the width.
    pub columns: u32,
    /// Cells above each other; divides the height.
    pub rows: u32,
}

/// The most pixels of an image. The longest request has less than twice as many bytes.
pub const PIXELS_MAX: u32 = 1 << 16;

impl Shape {
    /// Whether there can be such images: 1 to [`PIXELS_MAX`] pixels, in cells of one size whose counts fit
    /// into 16 bits.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let pixels = self.width.checked_mul(self.height);
        pixels.is_some_and(|pixels| (1..=PIXELS_MAX).contains(&pixels))
            && self.columns > 0
            && self.rows > 0
            && self.width.is_multiple_of(self.columns)
            && self.height.is_multiple_of(self.rows)
            && self.cell_pixels() <= usize::from(u16::MAX)
    }

    /// Pixels of an image.
    #[must_use]
    pub const fn pixels(&self) -> usize {
        self.width as usize * self.height as usize
    }

    /// Cells of an image.
    #[must_use]
    pub const fn cells(&self) -> usize {
        self.columns as usize * self.rows as usize
    }

    /// Pixels of a cell.
    #[must_use]
    pub const fn cell_pixels(&self) -> usize {
        (self.width / self.columns) as usize * (self.height / self.rows) as usize
    }

    /// Bytes of a [framed](Framed) image.
    #[must_use]
    pub const fn framed_len(&self) -> usize {
        (self.width as usize + 2) * (self.height as usize + 2)
    }

    /// Where a row of pixels begins in a framed image.
    #[must_use]
    pub const fn framed_row(&self, row: usize) -> usize {
        (row + 1) * (self.width as usize + 2) + 1
    }
}

/// Pixels whose patterns are formed at a time.
const TOGETHER: usize = 8;

/// An image with a frame of one zero around it: what lies beyond its border.
#[derive(Clone, Copy, Debug)]
pub struct Framed<'a> {
    bytes: &'a [u8],
    shape: Shape,
}

impl<'a> Framed<'a> {
    /// An image of a valid shape; `None` unless it has [`Shape::framed_len`] bytes.
    #[must_use]
    pub fn new(bytes: &'a [u8], shape: Shape) -> Option<Framed<'a>> {
        (shape.is_valid() && bytes.len() == shape.framed_len()).then_some(Framed { bytes, shape })
    }

    /// Pixels of a row and those around them, `N` in all, from the one before column `first` on.
    #[inline(always)]
    fn around<const N: usize>(&self, row: usize, first: usize) -> [&'a [u8; N]; 3] {
        let stride = self.shape.width as usize + 2;
        let line = |row: usize| self.bytes[row * stride + first..].first_chunk().unwrap_or(&[0; N]);
        [line(row), line(row + 1), line(row + 2)]
    }

    /// The same for a length that is known later.
    #[inline(always)]
    fn lines(&self, row: usize, first: usize, len: usize) -> [&'a [u8]; 3] {
        let stride = self.shape.width as usize + 2;
        [row, row + 1, row + 2].map(|row| &self.bytes[row * stride + first..][..len])
    }

    /// Counts the patterns of a cell by their labels. `counts` has been zeroed.
    #[inline(always)]
    pub fn count(&self, cell: usize, labels: &[u8; 256], counts: &mut [u16; BINS_MAX]) {
        let shape = &self.shape;
        let (column, row) = (cell % shape.columns as usize, cell / shape.columns as usize);
        let (width, height) =
            ((shape.width / shape.columns) as usize, (shape.height / shape.rows) as usize);
        for y in row * height..(row + 1) * height {
            let mut x = column * width;
            let end = x + width;
            // A cell has at most as many pixels as fit into 16 bits.
            let mut count = |pattern: u8| counts[usize::from(labels[usize::from(pattern)])] += 1;
            let (up, down) = (before(y), after(y));
            // Where a thread has no vectors, so many windows at once would only take it registers.
            while VECTORS && x + TOGETHER <= end {
                let lines = self.around::<{ TOGETHER + 2 }>(y, x);
                let mut patterns = [0; TOGETHER];
                // Without branches, and of a fixed length: vector code, where there are vectors.
                for (i, pattern) in patterns.iter_mut().enumerate() {
                    let window =
                        lines.map(|line| [line[i], line[i + 1], line[i + 2]].map(f64::from));
                    *pattern = pattern_of(window, [up, down], x + i);
                }
                patterns.into_iter().for_each(&mut count);
                x += TOGETHER;
            }
            // One after the other: of a window's pixels three are new.
            let lines = self.lines(y, x, end - x + 2);
            let mut window = lines.map(|line| [0, line[0], line[1]].map(f64::from));
            for (i, x) in (x..end).enumerate() {
                for (pixels, line) in window.iter_mut().zip(lines) {
                    *pixels = [pixels[1], pixels[2], f64::from(line[i + 2])];
                }
                count(pattern_of(window, [up, down], x));
            }
        }
    }
}

/// The pattern of the pixel in the middle of a window, which stands in a column.
#[inline(always)]
fn pattern_of([above, here, below]: [[f64; 3]; 3], [up, down]: [f64; 2], column: usize) -> u8 {
    let (left, right) = (before(column), after(column));
    let west = |line: [f64; 3]| between(line[0], line[1], left);
    let east = |line: [f64; 3]| between(line[1], line[2], right);
    // Of 64 bits as the values are, so that vectors of both have the same length.
    let bit = |neighbour: f64, bit: u32| if neighbour >= here[1] { 1u64 << bit } else { 0 };
    let pattern = bit(here[2], 0)
        | bit(between(east(above), east(here), up), 1)
        | bit(above[1], 2)
        | bit(between(west(above), west(here), up), 3)
        | bit(here[0], 4)
        | bit(between(west(here), west(below), down), 5)
        | bit(below[1], 6)
        | bit(between(east(here), east(below), down), 7);
    pattern as u8
}

/// The value at `part` of the way from one pixel to the next.
#[inline(always)]
fn between(from: f64, to: f64, part: f64) -> f64 {
    (1.0 - part) * from + part * to
}

/// A neighbour before pixel `at` lies between this one's predecessor and itself: which part of the way.
/// It depends on `at`, in its last bits.
#[inline(always)]
fn before(at: usize) -> f64 {
    // There are at most 2¹⁶ pixels, and vectors of 32-bit integers are easier converted.
    let at = f64::from(at as i32);
    (at - DIAGONAL) - (at - 1.0)
}

/// The same for a neighbour after pixel `at`.
#[inline(always)]
fn after(at: usize) -> f64 {
    let at = f64::from(at as i32);
    (at + DIAGONAL) - at
}

/// A distance of 1 in the numbers of [`chi_square`].
pub const UNIT: u64 = 1 << 16;

/// A cell's part of the chi-square distance: the sum of (a − b)² / (a + b) over the bins of which one is not
/// empty, in units of 1/[`UNIT`], each summand rounded down.
///
/// In whole numbers, so that sums are the same in whatever order they are formed. That of a whole image,
/// divided by its pixels, is the mean over the cells of the distance of their relative frequencies:
/// from 0, equal, to 2, no pattern in common.
#[inline(always)]
#[must_use]
pub fn chi_square(a: &[u16], b: &[u16]) -> u64 {
    let term = |(a, b): (&u16, &u16)| {
        let difference = u64::from(a.abs_diff(*b));
        // Below 2³² · 2¹⁶.
        if difference == 0 {
            0
        } else {
            difference * difference * UNIT / (u64::from(*a) + u64::from(*b))
        }
    };
    a.iter().zip(b).map(term).sum()
}

/// Counts the patterns of cells `first`, `first + step`, …, and hands each cell's counts on.
pub struct Counting<'a, F> {
    /// Of what.
    pub image: Framed<'a>,
    /// How patterns are sorted.
    pub method: Method,
    /// The first cell.
    pub first: usize,
    /// From one to the next.
    pub step: usize,
    /// Gets the number of a cell, and its counts: one for each bin.
    pub each: F,
}

impl<F: FnMut(usize, &[u16])> Wide for Counting<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run(mut self) {
        let labels = self.method.labels();
        for cell in (self.first..self.image.shape.cells()).step_by(self.step) {
            let mut counts = [0; BINS_MAX];
            self.image.count(cell, labels, &mut counts);
            (self.each)(cell, &counts[..self.method.bins()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bin_has_a_pattern_and_no_pattern_another() {
        for method in Method::ALL {
            let labels = method.labels();
            assert!((0..method.bins()).all(|bin| labels.contains(&(bin as u8))), "{method:?}");
            assert!(labels.iter().all(|l| usize::from(*l) < method.bins()), "{method:?}");
            assert_eq!(Method::from_raw(method.raw()), Some(method));
        }
        assert_eq!(Method::from_raw(3), None);
    }

    #[test]
    fn distances_are_from_nothing_to_twice_the_pixels() {
        assert_eq!(chi_square(&[3, 0, 5], &[3, 0, 5]), 0);
        assert_eq!(chi_square(&[8, 0], &[0, 8]), 16 * UNIT);
        assert_eq!(chi_square(&[2, 1], &[1, 2]), 2 * (UNIT / 3));
        assert_eq!(chi_square(&[u16::MAX, 0], &[0, u16::MAX]), 2 * u64::from(u16::MAX) * UNIT);
    }

    #[test]
    fn shapes_that_cannot_be_are_refused() {
        let good = Shape { width: 128, height: 96, columns: 8, rows: 6 };
        assert!(good.is_valid());
        for bad in [
            Shape { width: 0, ..good },
            Shape { columns: 0, ..good },
            Shape { rows: 7, ..good },
            Shape { columns: 256, ..good },
            Shape { height: 1 << 31, ..good },
            Shape { width: 256, height: 256, columns: 1, rows: 1 },
        ] {
            assert!(!bad.is_valid(), "{bad:?}");
        }
        assert!(Framed::new(&[0; 10], good).is_none());
    }
}
