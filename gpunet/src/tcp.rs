//! TCP: listeners and streams, named as in `std::net`.

use crate::buf::{Buf, BufMut};
use crate::net::Net;
use crate::open::asks;
use crate::options::BindOptions;
use crate::pending::{Pending, PendingRecv, PendingSend};
use crate::ring::Deadline;
use crate::socket::{Shutdown, Socket};
use crate::view::{RecvView, SendView};
use bytemuck::{Pod, Zeroable};
use core::net::SocketAddr;
use core::time::Duration;
use gpu_abi::socket::{Accepted, NetAddr};
use gpu_abi::{Errno, Op};
use gpu_port::by_leader;
use gpu_rt::Group;

/// What streams have in common, whatever they are made of.
macro_rules! stream {
    ($name:ident) => {
        impl $name {
            /// Receives into the leader's buffer, as `Read::read`: waits for at least a byte; 0 means that the
            /// peer has ended its sending. No request.
            ///
            /// # Errors
            /// `EAGAIN` after the read timeout, or at once if the socket is non-blocking; `ECONNRESET` and
            /// what else the connection failed with; `EBADF` if it was closed here; `EIO` if the host is
            /// gone.
            pub fn recv<G: Group>(&self, group: &G, buf: impl BufMut) -> Result<usize, Errno> {
                self.0.recv_by(group, buf, None)
            }

            /// As `recv`, but says `EAGAIN` rather than wait.
            ///
            /// # Errors
            /// As `recv`.
            pub fn try_recv<G: Group>(&self, group: &G, buf: impl BufMut) -> Result<usize, Errno> {
                self.0.recv_by(group, buf, Some(Deadline::NOW))
            }

            /// What is to be received, to be taken when it is wanted: begins nothing, and costs nothing.
            pub fn recv_async<B: BufMut>(&self, buf: B) -> PendingRecv<B> {
                PendingRecv::new(self.0, buf)
            }

            /// Sends from the leader's buffer as much as there is room for, as `Write::write`: at least a
            /// byte, waiting for room if there is none. No request, but one that nobody waits for if the
            /// host sleeps on this socket.
            ///
            /// # Errors
            /// `EAGAIN` after the write timeout, or at once if the socket is non-blocking; `EPIPE` if it was
            /// shut down; `ECONNRESET` and what else the connection failed with; `EBADF`; `EIO`.
            pub fn send<G: Group>(&self, group: &G, buf: impl Buf) -> Result<usize, Errno> {
                self.0.send_by(group, buf, None)
            }

            /// As `send`, but says `EAGAIN` rather than wait.
            ///
            /// # Errors
            /// As `send`.
            pub fn try_send<G: Group>(&self, group: &G, buf: impl Buf) -> Result<usize, Errno> {
                self.0.send_by(group, buf, Some(Deadline::NOW))
            }

            /// Sends all of the leader's buffer, as `Write::write_all`.
            ///
            /// # Errors
            /// As `send`; some of the bytes may have been sent then.
            pub fn send_all<G: Group>(&self, group: &G, buf: impl Buf) -> Result<(), Errno> {
                self.0.send_all_by(group, buf)
            }

            /// Sends of the leader's buffer what there is room for now, and the rest when it is waited for.
            ///
            /// # Errors
            /// As `send`, but never `EAGAIN`.
            pub fn send_all_async<G: Group, B: Buf>(
                &self,
                group: &G,
                buf: B,
            ) -> Result<PendingSend<B>, Errno> {
                PendingSend::begin(self.0, group, buf)
            }

            /// Waits for bytes, and lends all that are there, in place.
            ///
            /// # Errors
            /// As `recv`.
            pub fn recv_view<G: Group>(&self, group: &G) -> Result<RecvView<G>, Errno> {
                self.0.recv_view_by(group, None)
            }

            /// As `recv_view`, but says `EAGAIN` rather than wait.
            ///
            /// # Errors
            /// As `recv`.
            pub fn try_recv_view<G: Group>(&self, group: &G) -> Result<RecvView<G>, Errno> {
                self.0.recv_view_by(group, Some(Deadline::NOW))
            }

            /// Waits for room for at least `least` bytes, and lends all there is, in place.
            ///
            /// # Errors
            /// As `send`; `EMSGSIZE` if the ring has fewer bytes than that.
            pub fn send_view<G: Group>(
                &self,
                group: &G,
                least: usize,
            ) -> Result<SendView<G>, Errno> {
                self.0.send_view_by(group, least, None)
            }

            /// As `send_view`, but says `EAGAIN` rather than wait.
            ///
            /// # Errors
            /// As `send_view`.
            pub fn try_send_view<G: Group>(
                &self,
                group: &G,
                least: usize,
            ) -> Result<SendView<G>, Errno> {
                self.0.send_view_by(group, least, Some(Deadline::NOW))
            }

            /// Ends one direction, or both; for sending, after all that was sent before. A request.
            ///
            /// # Errors
            /// `EBADF`, `EIO`.
            pub fn shutdown<G: Group>(&self, group: &G, how: Shutdown) -> Result<(), Errno> {
                self.0.shutdown_by(group, how)
            }

            /// The socket, whatever its kind.
            #[must_use]
            pub const fn socket(&self) -> Socket {
                self.0
            }
        }

        impl core::ops::Deref for $name {
            type Target = Socket;

            fn deref(&self) -> &Socket {
                &self.0
            }
        }

        impl From<Socket> for $name {
            fn from(socket: Socket) -> Self {
                $name(socket)
            }
        }
    };
}
pub(crate) use stream;

/// A TCP connection. A plain value; see [`Socket`] for what else it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct TcpStream(pub(crate) Socket);

stream!(TcpStream);

impl TcpStream {
    /// Connects for a group. A request; it is answered when the connection is made.
    ///
    /// # Errors
    /// Those of connect(2): `ECONNREFUSED`, `ETIMEDOUT`, `ENETUNREACH`, …; `EMFILE` if no socket is free;
    /// `EPERM` where the grant forbids it; `EIO` if the host is gone.
    pub fn connect<G: Group>(
        group: &G,
        net: &Net,
        addr: impl Into<NetAddr>,
    ) -> Result<TcpStream, Errno> {
        net.open(group, asks(Op::Connect, 0), addr.into(), &[]).map(TcpStream)
    }

    /// As [`TcpStream::connect`], but gives up with `ETIMEDOUT` after so long, to the millisecond.
    ///
    /// # Errors
    /// As [`TcpStream::connect`].
    pub fn connect_timeout<G: Group>(
        group: &G,
        net: &Net,
        addr: impl Into<NetAddr>,
        timeout: Duration,
    ) -> Result<TcpStream, Errno> {
        let ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1);
        net.open(group, asks(Op::Connect, ms), addr.into(), &[]).map(TcpStream)
    }

    /// Begins to connect and returns at once. The socket does not exist before the connection does, so that
    /// no [`Poll`](crate::Poll) can watch it meanwhile.
    ///
    /// # Errors
    /// `EAGAIN` if too many requests are under way already (a quarter of the session's transfer slots): do
    /// something else, or connect synchronously. Why it cannot be connected is said when it is waited for.
    pub fn connect_async<G: Group>(
        group: &G,
        net: &Net,
        addr: impl Into<NetAddr>,
    ) -> Result<Pending<TcpStream>, Errno> {
        Pending::begin(group, net, asks(Op::Connect, 0), addr.into(), &[])
    }

    /// The other end's address.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn peer_addr(&self) -> Result<SocketAddr, Errno> {
        self.0.peer_std()
    }

    /// This end's address.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn local_addr(&self) -> Result<SocketAddr, Errno> {
        self.0.local_std()
    }
}

/// A socket that listens. A plain value; see [`Socket`] for what else it has.
///
/// The host accepts connections in advance, up to a backlog, as long as sockets are free: taking one
/// is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct TcpListener(pub(crate) Socket);

/// Connections that may wait to be taken, where nobody says otherwise: as many as std's.
pub(crate) const BACKLOG: u64 = 128;

impl TcpListener {
    /// Listens at an address, for a group; port 0 picks a free port. As with std, an address of which old
    /// connections linger can be bound anew. A request.
    ///
    /// # Errors
    /// Those of bind(2): `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`, …; `EMFILE` if no socket is free; `EPERM`
    /// where the grant forbids it; `EIO` if the host is gone.
    pub fn bind<G: Group>(
        group: &G,
        net: &Net,
        addr: impl Into<NetAddr>,
    ) -> Result<TcpListener, Errno> {
        Self::bind_with(group, net, addr, BindOptions::new())
    }

    /// As [`TcpListener::bind`], with room for `backlog` connections (1 to 4,096) that wait to be taken.
    ///
    /// # Errors
    /// As [`TcpListener::bind`].
    pub fn bind_with_backlog<G: Group>(
        group: &G,
        net: &Net,
        addr: impl Into<NetAddr>,
        backlog: u32,
    ) -> Result<TcpListener, Errno> {
        Self::bind_with(group, net, addr, BindOptions::new().backlog(backlog))
    }

    /// As [`TcpListener::bind`], with options.
    ///
    /// # Errors
    /// As [`TcpListener::bind`]; those of setsockopt(2).
    pub fn bind_with<G: Group>(
        group: &G,
        net: &Net,
        addr: impl Into<NetAddr>,
        options: BindOptions,
    ) -> Result<TcpListener, Errno> {
        net.open(group, options.request(Op::Listen), addr.into(), &[]).map(TcpListener)
    }

    /// Begins to listen and returns at once.
    ///
    /// # Errors
    /// `EAGAIN` as for [`TcpStream::connect_async`]. Why it cannot be bound is said when it is waited for.
    pub fn bind_async<G: Group>(
        group: &G,
        net: &Net,
        addr: impl Into<NetAddr>,
    ) -> Result<Pending<TcpListener>, Errno> {
        Pending::begin(group, net, BindOptions::new().request(Op::Listen), addr.into(), &[])
    }

    /// Takes a connection for a group; waits for one. No request.
    ///
    /// # Errors
    /// `EAGAIN` after the read timeout, or at once if the socket is non-blocking; `ECANCELED` when kernels are
    /// asked to end; `EBADF` if it was closed here; `EIO` if the host is gone.
    pub fn accept<G: Group>(&self, group: &G) -> Result<(TcpStream, SocketAddr), Errno> {
        let stream = TcpStream(self.0.accept_by(group, None)?);
        Ok((stream, stream.peer_addr()?))
    }

    /// As [`TcpListener::accept`], but says `EAGAIN` rather than wait.
    ///
    /// # Errors
    /// As [`TcpListener::accept`].
    pub fn try_accept<G: Group>(&self, group: &G) -> Result<(TcpStream, SocketAddr), Errno> {
        let stream = TcpStream(self.0.accept_by(group, Some(Deadline::NOW))?);
        Ok((stream, stream.peer_addr()?))
    }

    /// The address that it listens at.
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

impl core::ops::Deref for TcpListener {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        &self.0
    }
}

impl From<Socket> for TcpListener {
    fn from(socket: Socket) -> Self {
        TcpListener(socket)
    }
}

impl Socket {
    /// Takes a connection from a listener's ring.
    pub(crate) fn accept_by<G: Group>(
        &self,
        group: &G,
        deadline: Option<Deadline>,
    ) -> Result<Socket, Errno> {
        let handle = by_leader(group, || {
            let at = self.at()?;
            let deadline = deadline.unwrap_or_else(|| at.recv_deadline()).or_ending();
            let span = at.begin_recv(deadline)?;
            // The host closes a listener that has failed by itself.
            if span.len == 0 {
                return Err(Errno::EINVAL);
            }
            let len = size_of::<Accepted>() as u32;
            if span.len < len {
                at.finish_recv(span, 0);
                return Err(Errno::EPROTO);
            }
            let record: Accepted = at.take(span.from);
            at.finish_recv(span, len);
            self.net.adopt(record.handle)?;
            Ok(record.handle)
        })?;
        Ok(Socket { net: self.net, handle, reserved: 0 })
    }
}
