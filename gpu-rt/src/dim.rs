//! Extents and positions in a grid.

use bytemuck::{Pod, Zeroable};

/// Three extents, or a position in three dimensions. `x` varies fastest.
///
/// ```
/// use gpu_rt::Dim3;
/// assert_eq!(Dim3::from((4, 2)).count(), 8);
/// ```
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct Dim3 {
    /// The extent that varies fastest.
    pub x: u32,
    /// The second extent.
    pub y: u32,
    /// The extent that varies slowest.
    pub z: u32,
}

impl Dim3 {
    /// The position zero.
    pub const ZERO: Self = Self::new(0, 0, 0);
    /// The extent of a single point.
    pub const ONE: Self = Self::new(1, 1, 1);

    /// The three extents.
    #[must_use]
    pub const fn new(x: u32, y: u32, z: u32) -> Self {
        Self { x, y, z }
    }

    /// The number of points: `x * y * z`, saturating.
    #[must_use]
    pub const fn count(&self) -> u64 {
        // Two 32-bit factors cannot overflow 64 bits; the third may.
        (self.x as u64 * self.y as u64).saturating_mul(self.z as u64)
    }

    /// The position of the point number `linear` in a space of this extent; the inverse of
    /// [`Dim3::linear`].
    #[must_use]
    pub const fn at(&self, linear: u64) -> Self {
        let (x, y) = (self.x as u64, self.y as u64);
        Self::new((linear % x) as u32, (linear / x % y) as u32, (linear / (x * y)) as u32)
    }

    /// The number of the point at `position` in a space of this extent, `x` fastest.
    #[must_use]
    pub const fn linear(&self, position: Self) -> u64 {
        (position.z as u64 * self.y as u64 + position.y as u64) * self.x as u64 + position.x as u64
    }
}

impl From<u32> for Dim3 {
    fn from(x: u32) -> Self {
        Self::new(x, 1, 1)
    }
}

impl From<(u32, u32)> for Dim3 {
    fn from((x, y): (u32, u32)) -> Self {
        Self::new(x, y, 1)
    }
}

impl From<(u32, u32, u32)> for Dim3 {
    fn from((x, y, z): (u32, u32, u32)) -> Self {
        Self::new(x, y, z)
    }
}

impl core::fmt::Display for Dim3 {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "({}, {}, {})", self.x, self.y, self.z)
    }
}
