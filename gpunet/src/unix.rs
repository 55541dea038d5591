//! Unix sockets, named as in `std::os::unix::net`.

use crate::buf::{Buf, BufMut};
use crate::net::Net;
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
        net.open(group, Op::Connect, NetAddr::unix(path.len()), path, 0).map(UnixStream)
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
        net.open(group, Op::Listen, NetAddr::unix(path.len()), path, BACKLOG).map(UnixListener)
    }

    /// Takes a connection for a group; waits for one. No request.
    ///
    /// # Errors
    /// As [`TcpListener::accept`](crate::TcpListener::accept).
    pub fn accept<G: Group>(&self, group: &G) -> Result<UnixStream, Errno> {
        self.0.accept_by(group, None).map(UnixStream)
    }

    /// As [`UnixListener::accept`], but says `EAGAIN` rather than wait.
    ///
    /// # Errors
    /// As [`UnixListener::accept`].
    pub fn try_accept<G: Group>(&self, group: &G) -> Result<UnixStream, Errno> {
        self.0.accept_by(group, Some(Deadline::NOW)).map(UnixStream)
    }

    /// The socket, whatever its kind.
    #[must_use]
    pub const fn socket(&self) -> Socket {
        self.0
    }
}

impl core::ops::Deref for UnixListener {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        &self.0
    }
}
