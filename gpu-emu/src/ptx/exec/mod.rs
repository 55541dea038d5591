//! Warps and blocks at work.

mod access;
mod atomics;
mod barrier;
mod block;
mod group;
mod meet;
mod select;
mod warp;

pub(super) use access::Kind;
pub(super) use block::Block;

/// What each byte of shared and local memory holds that nobody has written: nobody clears it on a GPU
/// either.
const GARBAGE: u8 = 0xa5;
