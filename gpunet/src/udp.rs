//! UDP, named as in `std::net`.

use crate::buf::{Buf, BufMut};
use crate::datagram::{Received, Take};
use crate::net::Net;
use crate::open::asks;
use crate::options::BindOptions;
use crate::pending::Pending;
use crate::ring::Deadline;
use crate::socket::Socket;
use bytemuck::{Pod, Zeroable};
use core::net::SocketAddr;
use gpu_abi::socket::{NetAddr, PEER_NAME};
use gpu_abi::{Errno, Op, Request};
use gpu_port::by_leader;
use gpu_rt::Group;

/// A UDP socket. A plain value; see [`Socket`] for what else it has.
///
/// Datagrams lie in the rings with 40 bytes before each. What arrives while a ring has no room is lost,
/// as it is when the system's buffers are full; what is longer than half the ring may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct UdpSocket(pub(crate) Socket);

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
        Self::bind_with(group, net, addr, BindOptions::new())
    }

    /// As [`UdpSocket::bind`], with options.
    ///
    /// # Errors
    /// As [`UdpSocket::bind`]; those of setsockopt(2).
    pub fn bind_with<G: Group>(
        group: &G,
        net: &Net,
        addr: impl Into<NetAddr>,
        options: BindOptions,
    ) -> Result<UdpSocket, Errno> {
        net.open(group, options.request(Op::Bind), addr.into(), &[]).map(UdpSocket)
    }

    /// Begins to bind a socket and returns at once.
    ///
    /// # Errors
    /// As [`TcpListener::bind_async`](crate::TcpListener::bind_async).
    pub fn bind_async<G: Group>(
        group: &G,
        net: &Net,
        addr: impl Into<NetAddr>,
    ) -> Result<Pending<UdpSocket>, Errno> {
        Pending::begin(group, net, BindOptions::new().request(Op::Bind), addr.into(), &[])
    }

    /// Sets whom [`UdpSocket::send`] sends to, and whose datagrams are received. A request.
    ///
    /// # Errors
    /// Those of connect(2); `EPERM` where the grant forbids it; `EBADF`; `EIO`.
    pub fn connect<G: Group>(&self, group: &G, addr: impl Into<NetAddr>) -> Result<(), Errno> {
        let addr = addr.into();
        by_leader(group, || self.0.set_peer::<G>(&addr, &[]))
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
        self.0.send_datagram(group, buf, addr.into(), &[], None)
    }

    /// As [`UdpSocket::send_to`], but says `EAGAIN` rather than wait for room.
    ///
    /// # Errors
    /// As [`UdpSocket::send_to`].
    pub fn try_send_to<G: Group>(
        &self,
        group: &G,
        buf: impl Buf,
        addr: impl Into<NetAddr>,
    ) -> Result<usize, Errno> {
        self.0.send_datagram(group, buf, addr.into(), &[], Some(Deadline::NOW))
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
        from(self.0.recv_datagram(group, buf, None, Take::It)?)
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
        from(self.0.recv_datagram(group, buf, Some(Deadline::NOW), Take::It)?)
    }

    /// As [`UdpSocket::recv_from`], but whoever receives next gets the datagram again.
    ///
    /// # Errors
    /// As [`UdpSocket::recv_from`].
    pub fn peek_from<G: Group>(
        &self,
        group: &G,
        buf: impl BufMut,
    ) -> Result<(usize, SocketAddr), Errno> {
        from(self.0.recv_datagram(group, buf, None, Take::ALook)?)
    }

    /// As [`UdpSocket::recv_from`], of which only the bytes are of interest.
    ///
    /// # Errors
    /// As [`UdpSocket::recv_from`].
    pub fn recv<G: Group>(&self, group: &G, buf: impl BufMut) -> Result<usize, Errno> {
        self.0.recv_datagram(group, buf, None, Take::It).map(|received| received.len)
    }

    /// The address that it is bound to.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn local_addr(&self) -> Result<SocketAddr, Errno> {
        self.0.local_std()
    }

    /// The peer that [`UdpSocket::connect`] set. A request.
    ///
    /// # Errors
    /// `ENOTCONN` without one; `EBADF`; `EIO`.
    pub fn peer_addr<G: Group>(&self, group: &G) -> Result<SocketAddr, Errno> {
        self.0.name_by(group, PEER_NAME)?.0.to_std().ok_or(Errno::EAFNOSUPPORT)
    }

    /// The socket, whatever its kind.
    #[must_use]
    pub const fn socket(&self) -> Socket {
        self.0
    }
}

fn from(received: Received) -> Result<(usize, SocketAddr), Errno> {
    Ok((received.len, received.addr.to_std().ok_or(Errno::EAFNOSUPPORT)?))
}

impl Socket {
    /// Sets the peer of a datagram socket, by a leader.
    pub(crate) fn set_peer<G: Group>(&self, addr: &NetAddr, path: &[u8]) -> Result<(), Errno> {
        let request = Request { handle: self.handle, ..asks(Op::SetPeer, 0) };
        self.net.call_with_addr::<G>(request, addr, path).map(drop)
    }
}

impl core::ops::Deref for UdpSocket {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        &self.0
    }
}

impl From<Socket> for UdpSocket {
    fn from(socket: Socket) -> Self {
        UdpSocket(socket)
    }
}
