//! Groups of threads that act together. Every library call takes one first: granularity is the
//! caller's choice, in the type.

use bytemuck::Pod;

use crate::{arch, thread};

/// The largest value, in bytes, that [`Group::broadcast`] carries.
pub const BROADCAST_MAX: usize = 64;

/// What sort of group a [`Group`] is, for code that is generic over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupKind {
    /// One thread.
    Thread,
    /// Some lanes of one warp.
    Warp,
    /// All threads of one block.
    Block,
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Thread {}
    impl Sealed for super::Warp {}
    impl Sealed for super::Block {}
}

/// Threads that act together: [`Thread`], [`Warp`] or [`Block`].
pub trait Group: Copy + sealed::Sealed {
    /// What sort of group this is.
    const KIND: GroupKind;

    /// The number of the calling thread in the group, from 0.
    fn rank(&self) -> u32;

    /// The number of threads in the group.
    fn size(&self) -> u32;

    /// Whether the calling thread is the one of rank 0, which acts for the group.
    #[inline]
    fn is_leader(&self) -> bool {
        self.rank() == 0
    }

    /// Waits until every thread of the group is here; what they wrote before is visible to all of
    /// them after.
    #[track_caller]
    fn sync(&self);

    /// The leader's `value`, to every thread of the group; at most [`BROADCAST_MAX`] bytes.
    /// Synchronises as [`Group::sync`] does.
    #[track_caller]
    #[must_use]
    fn broadcast<T: Pod>(&self, value: T) -> T;
}

/// The calling thread alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thread;

impl Group for Thread {
    const KIND: GroupKind = GroupKind::Thread;

    #[inline]
    fn rank(&self) -> u32 {
        0
    }

    #[inline]
    fn size(&self) -> u32 {
        1
    }

    #[inline]
    #[track_caller]
    fn sync(&self) {}

    #[inline]
    #[track_caller]
    fn broadcast<T: Pod>(&self, value: T) -> T {
        const { assert!(size_of::<T>() <= BROADCAST_MAX, "broadcast carries at most 64 bytes") }
        value
    }
}

/// Some lanes of the calling thread's warp, the caller among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Warp {
    mask: u32,
}

impl Warp {
    /// The lanes that are here together now: [`active_mask`](crate::active_mask). Each of them
    /// holds the same group.
    ///
    /// It may be smaller than the warp at any time, and no kernel may rely on its size.
    #[inline]
    #[track_caller]
    #[must_use]
    pub fn converged() -> Self {
        Self { mask: arch::active_mask() }
    }

    /// All lanes of the warp: 32, or fewer in the last warp of a block. None of them may have
    /// exited.
    #[inline]
    #[must_use]
    pub fn all() -> Self {
        let first = thread::rank() - thread::lane_id();
        // A block has at most 1,024 threads, and `first` is one of them.
        let lanes = thread::block_dim().count() as u32 - first;
        Self { mask: if lanes >= 32 { u32::MAX } else { (1 << lanes) - 1 } }
    }

    /// The calling lane alone, as a warp.
    #[inline]
    #[must_use]
    pub fn single() -> Self {
        Self { mask: 1 << thread::lane_id() }
    }

    /// The lanes that `mask` names. The caller must be one of them, and each must form the same
    /// group.
    #[inline]
    #[must_use]
    pub const fn from_mask(mask: u32) -> Self {
        Self { mask }
    }

    /// The lanes of the group, a bit each.
    #[inline]
    #[must_use]
    pub const fn mask(&self) -> u32 {
        self.mask
    }

    /// The lane id of the leader: the lowest lane.
    #[inline]
    #[must_use]
    pub const fn leader_lane(&self) -> u32 {
        self.mask.trailing_zeros()
    }
}

impl Group for Warp {
    const KIND: GroupKind = GroupKind::Warp;

    #[inline]
    fn rank(&self) -> u32 {
        (arch::anew(self.mask) & ((1 << thread::lane_id()) - 1)).count_ones()
    }

    #[inline]
    fn size(&self) -> u32 {
        arch::anew(self.mask).count_ones()
    }

    #[inline]
    #[track_caller]
    fn sync(&self) {
        arch::sync_warp(self.mask);
    }

    #[inline]
    #[track_caller]
    fn broadcast<T: Pod>(&self, mut value: T) -> T {
        const { assert!(size_of::<T>() <= BROADCAST_MAX, "broadcast carries at most 64 bytes") }
        arch::broadcast_warp(self.mask, bytemuck::bytes_of_mut(&mut value));
        value
    }
}

/// All threads of the calling thread's block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Block;

impl Group for Block {
    const KIND: GroupKind = GroupKind::Block;

    #[inline]
    fn rank(&self) -> u32 {
        thread::rank()
    }

    #[inline]
    fn size(&self) -> u32 {
        // A block has at most 1,024 threads.
        thread::block_dim().count() as u32
    }

    #[inline]
    #[track_caller]
    fn sync(&self) {
        arch::sync_threads();
    }

    #[inline]
    #[track_caller]
    fn broadcast<T: Pod>(&self, mut value: T) -> T {
        const { assert!(size_of::<T>() <= BROADCAST_MAX, "broadcast carries at most 64 bytes") }
        arch::broadcast_block(bytemuck::bytes_of_mut(&mut value));
        value
    }
}
