//! The judgement on a socket request, as `crate::validate` does it for files: pure.

use crate::validate::{Buffer, Limits, Refusal};
use gpu_abi::request::CELL_NONE;
use gpu_abi::socket::{LEAVE, NetAddr, PAIR_DATAGRAM, PEER_NAME, bind, shut, wake};
use gpu_abi::{Errno, Op, Request};

/// A socket request that broke no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Valid {
    Listen { addr: Buffer, backlog: u32, how: u8 },
    Connect { addr: Buffer, patience_ms: u64 },
    Bind { addr: Buffer, how: u8 },
    SetPeer { handle: u32, addr: Buffer },
    Shutdown { handle: u32, how: u8 },
    Close { handle: u32 },
    Wake { handle: u32, what: u8 },
    SetOption { handle: u32, option: u32, value: u64 },
    LookUp { name: Buffer, port: u16 },
    Cancel { cell: u32, tag: u32 },
    Name { handle: u32, peer: bool, slot: u32 },
    GetOption { handle: u32, option: u32 },
    Pair { datagrams: bool },
    Multicast { handle: u32, addr: Buffer, leave: bool },
}

/// Whether a request is about sockets.
#[inline]
pub(crate) const fn is_socket_op(op: u8) -> bool {
    op >= Op::Listen as u8 && op <= Op::Multicast as u8
}

/// Judges a socket request against the allocation.
pub(crate) fn check(limits: &Limits, r: &Request) -> Result<Valid, Refusal> {
    let op = Op::from_raw(r.op);
    // V2
    let quiet = matches!(op, Some(Op::CloseSocket | Op::Wake | Op::Shutdown | Op::Cancel));
    if r.cell >= limits.layout.cell_count() && !(r.cell == CELL_NONE && quiet) {
        return Err(Refusal::Drop);
    }
    // V3
    let flags = match op {
        Some(Op::Shutdown) => shut::READ | shut::WRITE,
        Some(Op::Wake) => wake::TX | wake::RX | wake::WATCH,
        Some(Op::Listen | Op::Bind) => bind::REUSE_ADDRESS | bind::REUSE_PORT | bind::ONLY_V6,
        Some(Op::Name) => PEER_NAME,
        Some(Op::Pair) => PAIR_DATAGRAM,
        Some(Op::Multicast) => LEAVE,
        _ => 0,
    };
    if r.reserved0 != 0 || r.reserved != [0; 5] || r.path_len != 0 || r.flags & !flags != 0 {
        return Err(Errno::EINVAL.into());
    }
    let handle = r.handle;
    Ok(match op.ok_or(Errno::EINVAL)? {
        Op::Listen => {
            let backlog = r.offset.clamp(1, 4096) as u32;
            Valid::Listen { addr: address(limits, r)?, backlog, how: r.flags }
        }
        Op::Connect => Valid::Connect { addr: address(limits, r)?, patience_ms: r.offset },
        Op::Bind => Valid::Bind { addr: address(limits, r)?, how: r.flags },
        Op::SetPeer => Valid::SetPeer { handle, addr: address(limits, r)? },
        Op::Shutdown => Valid::Shutdown { handle, how: r.flags },
        Op::CloseSocket => Valid::Close { handle },
        Op::Wake => Valid::Wake { handle, what: r.flags },
        Op::SetOption => Valid::SetOption { handle, option: r.len, value: r.offset },
        // A name is as long as a path may be: the resolver has limits of its own.
        Op::LookUp => {
            let port = u16::try_from(r.offset).map_err(|_| Errno::EINVAL)?;
            Valid::LookUp { name: limits.path(r)?, port }
        }
        Op::Cancel => {
            let tag = u32::try_from(r.offset).map_err(|_| Errno::EINVAL)?;
            Valid::Cancel { cell: r.len, tag }
        }
        Op::Name => {
            if r.cell >= limits.layout.config.slots {
                return Err(Errno::EFAULT.into());
            }
            Valid::Name { handle, peer: r.flags & PEER_NAME != 0, slot: r.cell }
        }
        Op::GetOption => Valid::GetOption { handle, option: r.len },
        Op::Pair => Valid::Pair { datagrams: r.flags & PAIR_DATAGRAM != 0 },
        Op::Multicast => {
            Valid::Multicast { handle, addr: address(limits, r)?, leave: r.flags & LEAVE != 0 }
        }
        _ => return Err(Errno::EINVAL.into()),
    })
}

/// The place of an address, with its path.
fn address(limits: &Limits, r: &Request) -> Result<Buffer, Errno> {
    let len = r.len as usize;
    if !(size_of::<NetAddr>()..=size_of::<NetAddr>() + NetAddr::PATH_MAX).contains(&len) {
        return Err(Errno::EINVAL);
    }
    limits.path(r)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable;
    use gpu_abi::{RegionConfig, RegionLayout};
    use proptest::prelude::*;

    fn limits() -> Limits {
        let config = RegionConfig {
            slots: 4,
            slot_size: 4096,
            calls: 4,
            sockets: 8,
            socket_ring: 4096,
            ..RegionConfig::DEFAULT
        };
        Limits { layout: RegionLayout::new(config).unwrap(), device_window: 0, read_only: false }
    }

    #[test]
    fn v2_only_what_nobody_waits_for_comes_without_a_cell() {
        for op in 32..=45 {
            let r = Request { op, cell: CELL_NONE, ..Request::zeroed() };
            let quiet = [35, 36, 37, 41].contains(&op);
            assert_eq!(check(&limits(), &r) == Err(Refusal::Drop), !quiet, "{op}");
        }
    }

    proptest! {
        #[test]
        fn v1_no_valid_request_reaches_outside_its_slot(words: [u64; 8], shape in 0u8..8) {
            let mut r: Request = bytemuck::cast(words);
            r.op = 32 + r.op % 14;
            if shape & 1 != 0 { r.reserved0 = 0; r.reserved = [0; 5]; r.flags &= 3; r.path_len = 0; }
            if shape & 2 != 0 { r.cell %= 10; r.window = 0; }
            if shape & 4 != 0 { r.buf = u64::from(r.cell) * 4096 + r.buf % 4200; r.len %= 4200; }
            let buffer = match check(&limits(), &r) {
                Ok(Valid::Listen { addr, backlog, .. }) => {
                    prop_assert!((1..=4096).contains(&backlog));
                    addr
                }
                Ok(Valid::Connect { addr, .. } | Valid::Bind { addr, .. }) => addr,
                Ok(Valid::SetPeer { addr, .. } | Valid::Multicast { addr, .. }) => addr,
                Ok(Valid::LookUp { name, .. }) => name,
                Ok(Valid::Name { slot, .. }) => {
                    prop_assert!(slot == r.cell && slot < 4);
                    return Ok(());
                }
                _ => return Ok(()),
            };
            let Buffer::Slot { slot, at, len } = buffer else {
                return Err(TestCaseError::fail("an address outside the slots"));
            };
            prop_assert!(slot == r.cell && slot < 4 && at + len <= 4096);
        }
    }
}
