//! The bodies of the tests, by subject.

pub mod ahead;
pub mod consistency;
pub mod failing;
pub mod naming;
pub mod pressure;
pub mod reading;
pub mod sockets;
pub mod sockets_options;
pub mod sockets_unix;
pub mod sockets_waiting;
pub mod writing;

use crate::device::ops::{GROUP_BLOCK, GROUP_THREAD, GROUP_WARP, Op};

/// Who acts together.
const GROUPS: [u32; 3] = [GROUP_THREAD, GROUP_WARP, GROUP_BLOCK];
/// The page size of most tests.
const PAGE: u64 = 4096;

/// Reads (or the like) of ranges of path 0, each with room of its own for its bytes.
fn ranges(what: u32, ranges: &[(u64, u64)]) -> Vec<Op> {
    let mut at = 0;
    let op = |&(offset, len): &(u64, u64)| {
        let op = Op { what, offset, len, at, ..bytemuck::Zeroable::zeroed() };
        at += len;
        op
    };
    ranges.iter().map(op).collect()
}
