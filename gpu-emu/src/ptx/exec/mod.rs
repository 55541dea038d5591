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
