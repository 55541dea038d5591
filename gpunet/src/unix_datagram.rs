//! Unix sockets of datagrams, named as in `std::os::unix::net`.

use crate::addr::UnixAddr;
use crate::buf::{Buf, BufMut};
use crate::datagram::Take;
use crate::net::Net;
use crate::open::asks;
use crate::ring::Deadline;
use crate::socket::{Shutdown, Socket};
use bytemuck::{Pod, Zeroable};
use gpu_abi::socket::{NetAddr, PAIR_DATAGRAM};
use gpu_abi::{Errno, Op};
use gpu_port::by_leader;
use gpu_rt::Group;

/// A Unix socket of datagrams. A plain value; see [`Socket`] for what else it has.
///
/// What arrives waits with its senders while the ring has no room; what is longer than half the ring may be
/// lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct UnixDatagram(pub(crate) Socket);

impl UnixDatagram {
    /// Makes a socket at the leader's `path`, which must not exist. As with std, whoever made it removes it. A
    /// request.
    ///
    /// # Errors
    /// Those of bind(2): `EADDRINUSE`, `ENOENT`, `EACCES`, …; `EINVAL` for no path, `ENAMETOOLONG` for one of
    /// more than 107 bytes; `EMFILE` if no socket is free; `EPERM` where the grant forbids it, `EROFS` where
    /// nothing may be made; `EIO` if the host is gone.
    pub fn bind<G: Group>(group: &G, net: &Net, path: &[u8]) -> Result<UnixDatagram, Errno> {
        if group.broadcast(u32::from(path.is_empty())) != 0 {
            return Err(Errno::EINVAL);
        }
        net.open(group, asks(Op::Bind, 0), NetAddr::unix(path.len()), path).map(UnixDatagram)
    }

    /// A socket without an address. A request.
    ///
    /// # Errors
    /// `EMFILE` if no socket is free; `EPERM` where the grant forbids it; `EIO`.
    pub fn unbound<G: Group>(group: &G, net: &Net) -> Result<UnixDatagram, Errno> {
        net.open(group, asks(Op::Bind, 0), NetAddr::unix(0), &[]).map(UnixDatagram)
    }

    /// Two sockets, each the other's peer. A request.
    ///
    /// # Errors
    /// As [`UnixDatagram::unbound`].
    pub fn pair<G: Group>(group: &G, net: &Net) -> Result<(UnixDatagram, UnixDatagram), Errno> {
        let [one, other] = Socket::pair(group, net, PAIR_DATAGRAM)?;
        Ok((UnixDatagram(one), UnixDatagram(other)))
    }

    /// Sets whom [`UnixDatagram::send`] sends to, and whose datagrams are received. A request.
    ///
    /// # Errors
    /// Those of connect(2): `ENOENT`, `ECONNREFUSED`, …; `ENAMETOOLONG`; `EBADF`; `EIO`.
    pub fn connect<G: Group>(&self, group: &G, path: &[u8]) -> Result<(), Errno> {
        by_leader(group, || self.0.set_peer::<G>(&NetAddr::unix(path.len()), path))
    }

    /// Sends the leader's buffer as one datagram to the socket at the leader's `path`. No request, but one that
    /// nobody waits for if the host sleeps on this socket. That it was sent does not mean that it arrives: what
    /// the system says against it is in [`Socket::take_error`].
    ///
    /// # Errors
    /// `EMSGSIZE` for more than 65,507 bytes, or than fit in the ring; `EAGAIN` after the write timeout, or at
    /// once if the socket is non-blocking; `EINVAL` for no path, `ENAMETOOLONG` for one of more than 107 bytes;
    /// `EBADF`; `EIO`.
    pub fn send_to<G: Group>(&self, group: &G, buf: impl Buf, path: &[u8]) -> Result<usize, Errno> {
        self.send_by(group, buf, path, None)
    }

    /// As [`UnixDatagram::send_to`], but says `EAGAIN` rather than wait for room.
    ///
    /// # Errors
    /// As [`UnixDatagram::send_to`].
    pub fn try_send_to<G: Group>(
        &self,
        group: &G,
        buf: impl Buf,
        path: &[u8],
    ) -> Result<usize, Errno> {
        self.send_by(group, buf, path, Some(Deadline::NOW))
    }

    fn send_by<G: Group>(
        &self,
        group: &G,
        buf: impl Buf,
        path: &[u8],
        deadline: Option<Deadline>,
    ) -> Result<usize, Errno> {
        if group.broadcast(u32::from(path.is_empty())) != 0 {
            return Err(Errno::EINVAL);
        }
        self.0.send_datagram(group, buf, NetAddr::unix(path.len()), path, deadline)
    }

    /// As [`UnixDatagram::send_to`], to the peer that [`UnixDatagram::connect`] set.
    ///
    /// # Errors
    /// As [`UnixDatagram::send_to`]. Without a peer the datagram is lost, and [`Socket::take_error`] says
    /// `ENOTCONN`.
    pub fn send<G: Group>(&self, group: &G, buf: impl Buf) -> Result<usize, Errno> {
        self.0.send_datagram(group, buf, NetAddr::default(), &[], None)
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
    ) -> Result<(usize, UnixAddr), Errno> {
        self.recv_by(group, buf, None)
    }

    /// As [`UnixDatagram::recv_from`], but says `EAGAIN` rather than wait.
    ///
    /// # Errors
    /// As [`UnixDatagram::recv_from`].
    pub fn try_recv_from<G: Group>(
        &self,
        group: &G,
        buf: impl BufMut,
    ) -> Result<(usize, UnixAddr), Errno> {
        self.recv_by(group, buf, Some(Deadline::NOW))
    }

    fn recv_by<G: Group>(
        &self,
        group: &G,
        buf: impl BufMut,
        deadline: Option<Deadline>,
    ) -> Result<(usize, UnixAddr), Errno> {
        let received = self.0.recv_datagram(group, buf, deadline, Take::It)?;
        Ok((received.len, received.path.broadcast(group)))
    }

    /// As [`UnixDatagram::recv_from`], of which only the bytes are of interest.
    ///
    /// # Errors
    /// As [`UnixDatagram::recv_from`].
    pub fn recv<G: Group>(&self, group: &G, buf: impl BufMut) -> Result<usize, Errno> {
        self.0.recv_datagram(group, buf, None, Take::It).map(|received| received.len)
    }

    /// Ends one direction, or both; for sending, after all that was sent before. A request.
    ///
    /// # Errors
    /// `EBADF`, `EIO`.
    pub fn shutdown<G: Group>(&self, group: &G, how: Shutdown) -> Result<(), Errno> {
        self.0.shutdown_by(group, how)
    }

    /// The address that it is bound to. A request, unless it has none.
    ///
    /// # Errors
    /// `EBADF`, `EIO`.
    pub fn local_addr<G: Group>(&self, group: &G) -> Result<UnixAddr, Errno> {
        self.0.unix_name(group, false)
    }

    /// The peer that [`UnixDatagram::connect`] set. A request.
    ///
    /// # Errors
    /// `ENOTCONN` without one; `EBADF`; `EIO`.
    pub fn peer_addr<G: Group>(&self, group: &G) -> Result<UnixAddr, Errno> {
        self.0.unix_name(group, true)
    }

    /// The socket, whatever its kind.
    #[must_use]
    pub const fn socket(&self) -> Socket {
        self.0
    }
}

impl core::ops::Deref for UnixDatagram {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        &self.0
    }
}

impl From<Socket> for UnixDatagram {
    fn from(socket: Socket) -> Self {
        UnixDatagram(socket)
    }
}
