//! UDP, named as in `std::net`.

use crate::buf::{Buf, BufMut};
use crate::net::Net;
use crate::ring::{Deadline, Span};
use crate::socket::Socket;
use bytemuck::{Pod, Zeroable};
use core::net::SocketAddr;
use gpu_abi::socket::{Datagram, NetAddr, option};
use gpu_abi::{DeviceSlice, Errno, Op, Request};
use gpu_port::by_leader;
use gpu_rt::{Group, mem};

/// A UDP socket. A plain value; see [`Socket`] for what else it has.
///
/// Datagrams lie in the rings with 40 bytes before each. What arrives while a ring has no room is lost,
/// as it is when the system's buffers are full; what is longer than half the ring may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct UdpSocket(pub(crate) Socket);

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

impl UdpSocket {
    /// Binds a socket to an address, for a group; port 0 picks a free port. A request.
    ///
    /// # Errors
    /// Those of bind(2): `EADDRINUSE`, `EADDRNOTAVAIL`, …; `EMFILE` if no socket is free; `EPERM` where the
    /// grant forbids it; `EIO` if the host is gone.
    pub fn bind<G: Group>(
        group: &G,
        net: &Net,
        addr: impl Into<NetAddr>,
    ) -> Result<UdpSocket, Errno> {
        net.open(group, Op::Bind, addr.into(), &[], 0).map(UdpSocket)
    }

    /// Sets whom [`UdpSocket::send`] sends to, and whose datagrams are received. A request.
    ///
    /// # Errors
    /// Those of connect(2); `EPERM` where the grant forbids it; `EBADF`; `EIO`.
    pub fn connect<G: Group>(&self, group: &G, addr: impl Into<NetAddr>) -> Result<(), Errno> {
        let addr = addr.into();
        by_leader(group, || {
            let request =
                Request { op: Op::SetPeer as u8, handle: self.0.handle, ..Request::zeroed() };
            self.0.net.call_with_addr::<G>(request, &addr, &[]).map(drop)
        })
    }

    /// Sends the leader's buffer as one datagram. No request, but one that nobody waits for if the host
    /// sleeps on this socket. That it was sent does not mean that it arrives: what the system says
    /// against it is in [`Socket::take_error`].
    ///
    /// # Errors
    /// `EMSGSIZE` for more than 65,507 bytes, or than fit in the ring; `EAGAIN` after the write timeout, or at
    /// once if the socket is non-blocking; `EBADF`; `EIO`.
    pub fn send_to<G: Group>(
        &self,
        group: &G,
        buf: impl Buf,
        addr: impl Into<NetAddr>,
    ) -> Result<usize, Errno> {
        let (src, len) = buf.raw();
        let addr = addr.into();
        let found = by_leader(group, || {
            let at = self.0.at()?;
            let len = u32::try_from(len).ok().filter(|len| *len <= Datagram::MAX);
            let len = len.ok_or(Errno::EMSGSIZE)?;
            let takes = Datagram::room_for(len);
            if takes > at.size {
                return Err(Errno::EMSGSIZE);
            }
            let span = at.begin_send(takes, at.send_deadline())?;
            at.put(span.from, &Datagram { len, reserved: 0, addr });
            Ok(Found { span, takes, len, addr: NetAddr::default() })
        })?;
        let at = self.0.at()?;
        let (dst, first, second) = at.places(at.tx, found.span.from.wrapping_add(HEAD), found.len);
        // SAFETY: from the leader's buffer, which nobody writes, to room in tx that is the leader's while it
        // holds the lock; the leader's address counts.
        unsafe { copy_parts(group, (dst, at.tx), src, first, second, true) };
        if group.is_leader() {
            at.finish_send(found.span, found.takes);
        }
        Ok(found.len as usize)
    }

    /// As [`UdpSocket::send_to`], to the peer that [`UdpSocket::connect`] set.
    ///
    /// # Errors
    /// As [`UdpSocket::send_to`]. Without a peer the datagram is lost, and [`Socket::take_error`] says
    /// `EDESTADDRREQ`.
    pub fn send<G: Group>(&self, group: &G, buf: impl Buf) -> Result<usize, Errno> {
        self.send_to(group, buf, NetAddr::default())
    }

    /// Receives a datagram into the leader's buffer, which cuts it if it is shorter; how many bytes came
    /// into it, and from where. Waits for one. No request.
    ///
    /// # Errors
    /// `EAGAIN` after the read timeout, or at once if the socket is non-blocking; `EBADF`; `EIO`.
    pub fn recv_from<G: Group>(
        &self,
        group: &G,
        buf: impl BufMut,
    ) -> Result<(usize, SocketAddr), Errno> {
        let (n, addr) = self.recv_by(group, buf, None)?;
        Ok((n, addr.to_std().ok_or(Errno::EAFNOSUPPORT)?))
    }

    /// As [`UdpSocket::recv_from`], but says `EAGAIN` rather than wait.
    ///
    /// # Errors
    /// As [`UdpSocket::recv_from`].
    pub fn try_recv_from<G: Group>(
        &self,
        group: &G,
        buf: impl BufMut,
    ) -> Result<(usize, SocketAddr), Errno> {
        let (n, addr) = self.recv_by(group, buf, Some(Deadline::NOW))?;
        Ok((n, addr.to_std().ok_or(Errno::EAFNOSUPPORT)?))
    }

    /// As [`UdpSocket::recv_from`], of which only the bytes are of interest.
    ///
    /// # Errors
    /// As [`UdpSocket::recv_from`].
    pub fn recv<G: Group>(&self, group: &G, buf: impl BufMut) -> Result<usize, Errno> {
        self.recv_by(group, buf, None).map(|(n, _)| n)
    }

    fn recv_by<G: Group>(
        &self,
        group: &G,
        mut buf: impl BufMut,
        deadline: Option<Deadline>,
    ) -> Result<(usize, NetAddr), Errno> {
        let (dst, room) = buf.raw();
        let found = by_leader(group, || {
            let at = self.0.at()?;
            let span = at.begin_recv(deadline.unwrap_or_else(|| at.recv_deadline()))?;
            if span.len == 0 {
                return Err(at.net_error());
            }
            if span.len < HEAD {
                at.finish_recv(span, 0);
                return Err(Errno::EPROTO);
            }
            let head: Datagram = at.take(span.from);
            if head.len > Datagram::MAX || Datagram::room_for(head.len) > span.len {
                at.finish_recv(span, 0);
                return Err(Errno::EPROTO);
            }
            let len = room.min(head.len as usize) as u32;
            Ok(Found { span, takes: Datagram::room_for(head.len), len, addr: head.addr })
        })?;
        let at = self.0.at()?;
        let (src, first, second) = at.places(at.rx, found.span.from.wrapping_add(HEAD), found.len);
        // SAFETY: from bytes of rx that are the leader's while it holds the lock, to the leader's buffer,
        // exclusively ours; the leader's address counts.
        unsafe { copy_parts(group, (src, at.rx), dst, first, second, false) };
        if group.is_leader() {
            at.finish_recv(found.span, found.takes);
        }
        Ok((found.len as usize, found.addr))
    }

    /// Whether datagrams may go to broadcast addresses (SO_BROADCAST). A request.
    ///
    /// # Errors
    /// `EBADF`, `EIO`.
    pub fn set_broadcast<G: Group>(&self, group: &G, broadcast: bool) -> Result<(), Errno> {
        self.0.set_option_by(group, option::BROADCAST, broadcast.into())
    }

    /// The address that it is bound to.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn local_addr(&self) -> Result<SocketAddr, Errno> {
        self.0.local_std()
    }

    /// The socket, whatever its kind.
    #[must_use]
    pub const fn socket(&self) -> Socket {
        self.0
    }
}

impl core::ops::Deref for UdpSocket {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        &self.0
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
