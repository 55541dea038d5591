//! Listening, connecting, binding, looking names up.

use super::asked::Asked;
use super::socket::{Kind, Link, Sock};
use super::{Net, addr, lock, options};
use gpu_abi::Errno;
use gpu_abi::socket::NetAddr;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The listeners of all clients of a daemon, by address.
#[derive(Default)]
pub(crate) struct Listeners {
    by_addr: Mutex<HashMap<NetAddr, (Weak<Net>, u32)>>,
}

impl Listeners {
    fn add(&self, addr: NetAddr, net: &Arc<Net>, handle: u32) {
        lock(&self.by_addr).insert(addr, (Arc::downgrade(net), handle));
    }

    pub(crate) fn remove(&self, handle: u32, net: &Arc<Net>) {
        lock(&self.by_addr).retain(|_, (owner, theirs)| {
            !(*theirs == handle && owner.as_ptr() == Arc::as_ptr(net))
        });
    }

    /// Forgets all listeners of a client.
    pub(crate) fn forget(&self, net: &Net) {
        lock(&self.by_addr).retain(|_, (owner, _)| !std::ptr::eq(owner.as_ptr(), net));
    }

    /// The listener that a connection to this address would come to.
    pub(crate) fn find(&self, to: &NetAddr) -> Option<(Arc<Net>, Arc<Sock>)> {
        let ip = to.to_std()?.ip();
        let any = match ip {
            std::net::IpAddr::V4(_) => NetAddr::v4([0; 4], to.port),
            std::net::IpAddr::V6(_) => NetAddr::v6([0; 16], to.port),
        };
        let by_addr = lock(&self.by_addr);
        // Which of the machine's addresses are its own is the system's to say, but for loopback.
        let (net, handle) =
            by_addr.get(to).or_else(|| ip.is_loopback().then(|| by_addr.get(&any)).flatten())?;
        let (net, handle) = (net.upgrade()?, *handle);
        drop(by_addr);
        let sock = net.table.get(handle)?;
        Some((net, sock))
    }
}

/// An address from a request's buffer, and its path.
fn parse(bytes: &[u8]) -> Result<(NetAddr, &[u8]), Errno> {
    let (head, path) = bytes.split_at_checked(size_of::<NetAddr>()).ok_or(Errno::EINVAL)?;
    let addr: NetAddr = bytemuck::pod_read_unaligned(head);
    let path_len = if addr.family == NetAddr::UNIX { addr.path_len as usize } else { 0 };
    if path.len() != path_len {
        return Err(Errno::EINVAL);
    }
    Ok((addr, path))
}

impl Net {
    pub(crate) fn address(&self, bytes: &[u8]) -> Result<(NetAddr, SockAddr), Errno> {
        let (addr, path) = parse(bytes)?;
        let system = addr::to_system(&addr, path)?;
        if !self.grant.may_reach(&addr) {
            return Err(Errno::EPERM);
        }
        Ok((addr, system))
    }

    fn descriptor(family: u16, kind: Type) -> Result<Socket, Errno> {
        let (domain, protocol) = match (family, kind) {
            (NetAddr::V4, Type::STREAM) => (Domain::IPV4, Some(Protocol::TCP)),
            (NetAddr::V6, Type::STREAM) => (Domain::IPV6, Some(Protocol::TCP)),
            (NetAddr::V4, Type::DGRAM) => (Domain::IPV4, Some(Protocol::UDP)),
            (NetAddr::V6, Type::DGRAM) => (Domain::IPV6, Some(Protocol::UDP)),
            (NetAddr::UNIX, Type::STREAM | Type::DGRAM) => (Domain::UNIX, None),
            _ => return Err(Errno::EAFNOSUPPORT),
        };
        let kind = kind.nonblocking().cloexec();
        Socket::new_raw(domain, kind, protocol).map_err(|e| addr::errno_of(&e))
    }

    /// Makes a socket of a descriptor, at the place of a reserved handle.
    fn adopt(
        self: &Arc<Net>,
        handle: u32,
        kind: Kind,
        fd: OwnedFd,
        peer: NetAddr,
        backlog: u32,
    ) -> Arc<Sock> {
        let local = addr::local(&fd);
        let sock = Sock::new(self, handle, kind, Link::Fd(fd), backlog);
        sock.publish(local, peer);
        self.table.insert(sock.clone());
        sock
    }

    /// Runs `f` with a reserved handle; gives that back if it fails.
    fn with_place<T>(&self, f: impl FnOnce(u32) -> Result<T, Errno>) -> Result<T, Errno> {
        let handle = self.table.reserve().ok_or(Errno::EMFILE)?;
        f(handle).inspect_err(|_| self.table.release(handle))
    }

    pub(crate) fn listen(
        self: &Arc<Net>,
        bytes: &[u8],
        backlog: u32,
        how: u8,
    ) -> Result<u32, Errno> {
        let (wanted, system) = self.address(bytes)?;
        if wanted.family == NetAddr::UNIX && !self.makes_files {
            return Err(Errno::EROFS);
        }
        self.with_place(|handle| {
            let socket = Self::descriptor(wanted.family, Type::STREAM)?;
            let bound = (|| {
                options::prepare(&socket, how)?;
                socket.bind(&system)?;
                socket.listen(backlog as i32)
            })();
            bound.map_err(|e: io::Error| addr::errno_of(&e))?;
            let records = self.region.layout().config.socket_ring / 8;
            let none = NetAddr::default();
            let fd = socket.into();
            let sock = self.adopt(handle, Kind::Listener, fd, none, backlog.min(records));
            if let Some(fd) = sock.fd() {
                // SAFETY: the socket keeps it open.
                let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
                self.listeners.add(addr::local(&fd), self, handle);
            }
            self.start_filling(&sock);
            Ok(handle)
        })
    }

    pub(crate) fn bind(self: &Arc<Net>, bytes: &[u8], how: u8) -> Result<u32, Errno> {
        let unbound = parse(bytes)?.0 == NetAddr::unix(0);
        if unbound && !self.grant.unix {
            return Err(Errno::EPERM);
        }
        let (family, system) = if unbound {
            (NetAddr::UNIX, None)
        } else {
            self.address(bytes).map(|(addr, system)| (addr.family, Some(system)))?
        };
        let kind = if family == NetAddr::UNIX { Kind::UnixDatagram } else { Kind::Datagram };
        if kind == Kind::UnixDatagram && !unbound && !self.makes_files {
            return Err(Errno::EROFS);
        }
        self.with_place(|handle| {
            let socket = Self::descriptor(family, Type::DGRAM)?;
            let bound = options::prepare(&socket, how)
                .and_then(|()| system.map_or(Ok(()), |system| socket.bind(&system)));
            bound.map_err(|e| addr::errno_of(&e))?;
            let sock = self.adopt(handle, kind, socket.into(), NetAddr::default(), 0);
            self.start_filling(&sock);
            Ok(handle)
        })
    }

    /// Two Unix sockets, each the other's peer: one handle, and the other 32 bits higher.
    pub(crate) fn pair(self: &Arc<Net>, datagrams: bool) -> Result<u64, Errno> {
        if !self.grant.unix {
            return Err(Errno::EPERM);
        }
        let (kind, sort) = if datagrams {
            (Kind::UnixDatagram, Type::DGRAM)
        } else {
            (Kind::Stream, Type::STREAM)
        };
        let make = |handle, socket: Socket| {
            let sock = self.adopt(handle, kind, socket.into(), NetAddr::unix(0), 0);
            self.start_filling(&sock);
            Ok(handle)
        };
        let (one, other) = Socket::pair(Domain::UNIX, sort.nonblocking().cloexec(), None)
            .map_err(|e| addr::errno_of(&e))?;
        let one = self.with_place(|handle| make(handle, one))?;
        let other = self.with_place(|handle| make(handle, other));
        let other = other.inspect_err(|_| _ = self.close(one))?;
        Ok(u64::from(one) | u64::from(other) << 32)
    }

    pub(crate) fn set_peer(&self, handle: u32, bytes: &[u8]) -> Result<(), Errno> {
        let (_, system) = self.address(bytes)?;
        let sock = self.table.get(handle).ok_or(Errno::EBADF)?;
        let fd = sock.fd().filter(|_| sock.kind.has_datagrams()).ok_or(Errno::EOPNOTSUPP)?;
        // SAFETY: the socket keeps it open.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
        socket2::SockRef::from(&fd).connect(&system).map_err(|e| addr::errno_of(&e))
    }

    /// Answers at once (`Some`), or when the connection is made.
    pub(crate) fn connect(
        self: &Arc<Net>,
        bytes: &[u8],
        patience: Duration,
        asked: Asked,
    ) -> Result<Option<u64>, Errno> {
        let (to, system) = self.address(bytes)?;
        self.with_place(|handle| {
            let listeners = self.listeners.clone();
            if self.connect_locally(&listeners, &to, handle).is_some() {
                return Ok(Some(handle.into()));
            }
            let socket = Self::descriptor(to.family, Type::STREAM)?;
            addr::set_nodelay(&socket, to.family);
            let under_way = match socket.connect(&system) {
                Ok(()) => false,
                Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => true,
                // A Unix listener whose queue is full: std would wait.
                Err(e) if e.raw_os_error() == Some(libc::EAGAIN) => true,
                Err(e) => return Err(addr::errno_of(&e)),
            };
            if !under_way {
                let sock = self.adopt(handle, Kind::Stream, socket.into(), to, 0);
                self.start_filling(&sock);
                return Ok(Some(handle.into()));
            }
            let asking = self.begin(asked);
            self.runtime.spawn(async move {
                let net = &asking.net;
                let made = async {
                    let fd = addr::watched(OwnedFd::from(socket), Interest::WRITABLE).await?;
                    net.connected(&fd, &system, to.family).await?;
                    Ok(net.adopt(handle, Kind::Stream, fd.into_inner(), to, 0))
                };
                let made = asking.unless_given_up(async {
                    if patience.is_zero() {
                        return made.await;
                    }
                    let late = Err(Errno::ETIMEDOUT);
                    tokio::time::timeout(patience, made).await.unwrap_or(late)
                });
                let outcome = match made.await {
                    Ok(sock) => {
                        net.start_filling(&sock);
                        Ok(handle.into())
                    }
                    Err(e) => {
                        net.table.release(handle);
                        Err(e)
                    }
                };
                asking.answer(outcome);
            });
            Ok(None)
        })
    }

    /// Waits until a connection is made or has failed.
    async fn connected(
        &self,
        fd: &AsyncFd<OwnedFd>,
        to: &SockAddr,
        family: u16,
    ) -> Result<(), Errno> {
        let socket = socket2::SockRef::from(fd.get_ref());
        if family == NetAddr::UNIX {
            loop {
                match socket.connect(to) {
                    Ok(()) => return Ok(()),
                    Err(e) if e.raw_os_error() == Some(libc::EAGAIN) => {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    Err(e) => return Err(addr::errno_of(&e)),
                }
            }
        }
        loop {
            let mut ready = fd.writable().await.map_err(|e| addr::errno_of(&e))?;
            if let Some(e) = socket.take_error().map_err(|e| addr::errno_of(&e))? {
                return Err(addr::errno_of(&e));
            }
            match socket.peer_addr() {
                Ok(_) => return Ok(()),
                Err(e) if e.raw_os_error() == Some(libc::ENOTCONN) => ready.clear_ready(),
                Err(e) => return Err(addr::errno_of(&e)),
            }
        }
    }

    /// Answers when the resolver has.
    pub(crate) fn look_up(
        self: &Arc<Net>,
        name: &[u8],
        port: u16,
        asked: Asked,
    ) -> Result<Option<u64>, Errno> {
        if self.grant.reach == super::Reach::Nowhere {
            return Err(Errno::EPERM);
        }
        let name = std::str::from_utf8(name).map_err(|_| Errno::ENOENT)?.to_owned();
        let room = self.region.layout().config.slot_size as usize / size_of::<NetAddr>();
        let asking = self.begin(asked);
        self.runtime.spawn(async move {
            let found = asking.unless_given_up(async {
                match tokio::net::lookup_host((name, port)).await {
                    Ok(addrs) => Ok(addrs.take(room).map(NetAddr::from).collect::<Vec<_>>()),
                    // The resolver's own numbers are not the system's.
                    Err(e) if e.raw_os_error().is_none() => Err(Errno::ENOENT),
                    Err(_) => Err(Errno::EAGAIN),
                }
            });
            let outcome = found.await.map(|addrs| {
                asking.fill_slot(bytemuck::cast_slice(&addrs));
                addrs.len() as u64
            });
            asking.answer(outcome);
        });
        Ok(None)
    }
}
