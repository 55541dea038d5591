//! Unix sockets, named as in `std::os::unix::net`.

use crate::addr::UnixAddr;
use crate::buf::{Buf, BufMut};
use crate::net::Net;
use crate::open::asks;
use crate::pending::{Pending, PendingRecv, PendingSend};
use crate::ring::Deadline;
use crate::socket::{Shutdown, Socket};
use crate::tcp::{BACKLOG, stream};
use crate::view::{RecvView, SendView};
use bytemuck::{Pod, Zeroable};
use gpu_abi::socket::NetAddr;
use gpu_abi::{Errno, Op};
use gpu_rt::Group;

/// A connection between processes of this machine. A plain value; see [`Socket`] for what else it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct UnixStream(pub(crate) Socket);

stream!(UnixStream);

impl UnixStream {
    /// Connects to the socket at the leader's `path`. A request.
    ///
    /// # Errors
    /// Those of connect(2): `ENOENT`, `ECONNREFUSED`, …; `ENAMETOOLONG` for a path of more than 107 bytes;
    /// `EMFILE` if no socket is free; `EPERM` where the grant forbids it; `EIO` if the host is gone.
    pub fn connect<G: Group>(group: &G, net: &Net, path: &[u8]) -> Result<UnixStream, Errno> {
        net.open(group, asks(Op::Connect, 0), NetAddr::unix(path.len()), path).map(UnixStream)
    }

    /// Begins to connect and returns at once, as [`TcpStream::connect_async`](crate::TcpStream::connect_async).
    ///
    /// # Errors
    /// `EAGAIN` if too many requests are under way already; `ENAMETOOLONG`.
    pub fn connect_async<G: Group>(
        group: &G,
        net: &Net,
        path: &[u8],
    ) -> Result<Pending<UnixStream>, Errno> {
        Pending::begin(group, net, asks(Op::Connect, 0), NetAddr::unix(path.len()), path)
    }

    /// Two sockets that are connected with each other. A request.
    ///
    /// # Errors
    /// `EMFILE` if no two sockets are free; `EPERM` where the grant forbids it; `EIO`.
    pub fn pair<G: Group>(group: &G, net: &Net) -> Result<(UnixStream, UnixStream), Errno> {
        let [one, other] = Socket::pair(group, net, 0)?;
        Ok((UnixStream(one), UnixStream(other)))
    }

    /// The other end's address. A request, unless it has none.
    ///
    /// # Errors
    /// `EBADF`, `EIO`.
    pub fn peer_addr<G: Group>(&self, group: &G) -> Result<UnixAddr, Errno> {
        self.0.unix_name(group, true)
    }

    /// This end's address. A request, unless it has none.
    ///
    /// # Errors
    /// `EBADF`, `EIO`.
    pub fn local_addr<G: Group>(&self, group: &G) -> Result<UnixAddr, Errno> {
        self.0.unix_name(group, false)
    }
}

/// A Unix socket that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct UnixListener(pub(crate) Socket);

impl UnixListener {
    /// Makes a socket at the leader's `path`, which must not exist, and listens. As with std, whoever
    /// made it removes it. A request.
    ///
    /// # Errors
    /// Those of bind(2): `EADDRINUSE`, `ENOENT`, …; otherwise as [`UnixStream::connect`].
    pub fn bind<G: Group>(group: &G, net: &Net, path: &[u8]) -> Result<UnixListener, Errno> {
        net.open(group, asks(Op::Listen, BACKLOG), NetAddr::unix(path.len()), path)
            .map(UnixListener)
    }

    /// Takes a connection for a group, and its other end's address; waits for one. No request, unless that end
    /// has a name, which few have.
    ///
    /// # Errors
    /// As [`TcpListener::accept`](crate::TcpListener::accept).
    pub fn accept<G: Group>(&self, group: &G) -> Result<(UnixStream, UnixAddr), Errno> {
        accepted(group, self.0.accept_by(group, None)?)
    }

    /// As [`UnixListener::accept`], but says `EAGAIN` rather than wait.
    ///
    /// # Errors
    /// As [`UnixListener::accept`].
    pub fn try_accept<G: Group>(&self, group: &G) -> Result<(UnixStream, UnixAddr), Errno> {
        accepted(group, self.0.accept_by(group, Some(Deadline::NOW))?)
    }

    /// The path that it listens at. A request.
    ///
    /// # Errors
    /// `EBADF`, `EIO`.
    pub fn local_addr<G: Group>(&self, group: &G) -> Result<UnixAddr, Errno> {
        self.0.unix_name(group, false)
    }

    /// The socket, whatever its kind.
    #[must_use]
    pub const fn socket(&self) -> Socket {
        self.0
    }
}

/// A connection that has been taken, with its other end's address: if that fails, the connection has.
fn accepted<G: Group>(group: &G, socket: Socket) -> Result<(UnixStream, UnixAddr), Errno> {
    let stream = UnixStream(socket);
    match stream.peer_addr(group) {
        Ok(addr) => Ok((stream, addr)),
        Err(e) => {
            socket.close(group);
            Err(e)
        }
    }
}

impl From<Socket> for UnixListener {
    fn from(socket: Socket) -> Self {
        UnixListener(socket)
    }
}

impl core::ops::Deref for UnixListener {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        &self.0
    }
}
