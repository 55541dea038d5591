//! Work on many bytes at a time, for processors whose vectors are wider than the least that its
//! kind has.

use crate::arch;

/// Whether a thread computes with vectors. On a GPU it does not: there a warp is the vector, and what a thread
/// does to several values at once only takes it registers.
pub const VECTORS: bool = arch::VECTORS;

/// Work that gains from wide vectors: loops that compilers turn into vector code.
pub trait Wide {
    /// What the work comes to.
    type Output;

    /// Does the work. Implementations are `#[inline(always)]`, so that they are compiled once for
    /// each kind of vector.
    fn run(self) -> Self::Output;
}

/// Does `work` with the widest vectors that this processor has; on a GPU, where a warp is the
/// vector, as it stands.
#[inline(always)]
pub fn wide<W: Wide>(work: W) -> W::Output {
    arch::wide(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sum<'a>(&'a [u8]);

    impl Wide for Sum<'_> {
        type Output = u32;

        #[inline(always)]
        fn run(self) -> u32 {
            self.0.iter().map(|&b| u32::from(b)).sum()
        }
    }

    #[test]
    fn work_comes_to_the_same_with_any_vectors() {
        let bytes: std::vec::Vec<u8> = (0..=255).cycle().take(1000).collect();
        assert_eq!(wide(Sum(&bytes)), Sum(&bytes).run());
    }
}
