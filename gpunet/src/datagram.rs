//! Datagrams in a socket's rings, each with its length and address before it and a Unix socket's path behind it
//! (clause N10).

use crate::addr::UnixAddr;
use crate::buf::{Buf, BufMut};
use crate::ring::{Deadline, Span};
use crate::socket::Socket;
use bytemuck::{Pod, Zeroable};
use gpu_abi::socket::{Datagram, NetAddr};
use gpu_abi::{DeviceSlice, Errno};
use gpu_port::by_leader;
use gpu_rt::{Group, mem};

const HEAD: u32 = size_of::<Datagram>() as u32;

/// A datagram under a ring's lock, as a leader tells its group.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Found {
    span: Span,
    /// Bytes that the datagram takes in the ring, and bytes to be copied.
    takes: u32,
    len: u32,
    addr: NetAddr,
}

/// A datagram that has been received, as the whole group knows it: but for the path, which the leader has.
pub(crate) struct Received {
    pub(crate) len: usize,
    pub(crate) addr: NetAddr,
    pub(crate) path: UnixAddr,
}

/// Whether a datagram that is received is there no more afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Take {
    It,
    ALook,
}

impl Socket {
    /// Sends the leader's buffer as one datagram, to the leader's address.
    pub(crate) fn send_datagram<G: Group>(
        &self,
        group: &G,
        buf: impl Buf,
        addr: NetAddr,
        path: &[u8],
        deadline: Option<Deadline>,
    ) -> Result<usize, Errno> {
        let (src, len) = buf.raw();
        let found = by_leader(group, || {
            let at = self.at()?;
            if path.len() > NetAddr::PATH_MAX {
                return Err(Errno::ENAMETOOLONG);
            }
            let len = u32::try_from(len).map_err(|_| Errno::EMSGSIZE)?;
            let head = Datagram::new(len, addr);
            let takes = head.room().filter(|takes| *takes <= at.size).ok_or(Errno::EMSGSIZE)?;
            let span = at.begin_send(takes, deadline.unwrap_or_else(|| at.send_deadline()))?;
            at.put(span.from, bytemuck::bytes_of(&head));
            at.put(span.from.wrapping_add(HEAD + len), path);
            Ok(Found { span, takes, len, addr: NetAddr::default() })
        })?;
        let at = self.at()?;
        let (dst, first, second) =
            at.places(at.tx(), found.span.from.wrapping_add(HEAD), found.len);
        // SAFETY: from the leader's buffer, which nobody writes, to room in tx that is the leader's while it
        // holds the lock; the leader's address counts.
        unsafe { copy_parts(group, (dst, at.tx()), src, first, second, true) };
        if group.is_leader() {
            at.finish_send(found.span, found.takes);
        }
        Ok(found.len as usize)
    }

    /// Receives a datagram into the leader's buffer, which cuts it.
    pub(crate) fn recv_datagram<G: Group>(
        &self,
        group: &G,
        mut buf: impl BufMut,
        deadline: Option<Deadline>,
        take: Take,
    ) -> Result<Received, Errno> {
        let (dst, room) = buf.raw();
        let mut path = UnixAddr::UNNAMED;
        let found = by_leader(group, || {
            let at = self.at()?;
            let span = at.begin_recv(deadline.unwrap_or_else(|| at.recv_deadline()))?;
            if span.len == 0 {
                return Err(at.net_error());
            }
            let found = || {
                if span.len < HEAD {
                    return None;
                }
                let head: Datagram = at.take(span.from);
                let takes = head.room().filter(|takes| *takes <= span.len)?;
                path = UnixAddr::room(&head.addr).ok()?;
                at.take_bytes(span.from.wrapping_add(HEAD + head.len), path.bytes_mut());
                let len = room.min(head.len as usize) as u32;
                Some(Found { span, takes, len, addr: head.addr })
            };
            let outcome = { found }().ok_or(Errno::EPROTO);
            outcome.inspect_err(|_| at.finish_recv(span, 0))
        })?;
        let at = self.at()?;
        let (src, first, second) =
            at.places(at.rx(), found.span.from.wrapping_add(HEAD), found.len);
        // SAFETY: from bytes of rx that are the leader's while it holds the lock, to the leader's buffer,
        // exclusively ours; the leader's address counts.
        unsafe { copy_parts(group, (src, at.rx()), dst, first, second, false) };
        if group.is_leader() {
            at.finish_recv(found.span, if take == Take::It { found.takes } else { 0 });
        }
        Ok(Received { len: found.len as usize, addr: found.addr, path })
    }
}

/// Copies between the two parts of a ring and the leader's buffer, by a group.
///
/// # Safety
/// `ring` is where the first part begins and where the ring does; both parts and the buffer are as
/// [`mem::copy`] wants them until this returns.
unsafe fn copy_parts<G: Group>(
    group: &G,
    ring: (*mut u8, *mut u8),
    buf: *const u8,
    first: usize,
    second: usize,
    into_ring: bool,
) {
    let (part, start) = ring;
    let buf = DeviceSlice::<u8>::new(buf as u64, (first + second) as u64);
    let plan = |ring: *mut u8, buf: *mut u8, len: usize| {
        let (dst, src) = if into_ring { (ring, buf) } else { (buf, ring) };
        mem::Plan { dst, src, len }
    };
    // SAFETY: the caller's contract.
    unsafe {
        mem::copy_led(group, || (plan(part, buf.as_ptr(), first), 0u32));
        if second > 0 {
            mem::copy_led(group, || (plan(start, buf.as_ptr().add(first), second), 0u32));
        }
    }
}
