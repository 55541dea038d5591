//! Options of sockets. Setting one, and asking for one, is a request.

use crate::open::asks;
use crate::socket::Socket;
use crate::tcp::{BACKLOG, TcpListener, TcpStream};
use crate::udp::UdpSocket;
use core::net::{Ipv4Addr, Ipv6Addr};
use gpu_abi::socket::{LEAVE, NetAddr, bind, option};
use gpu_abi::{Errno, Op, Request};
use gpu_port::by_leader;
use gpu_rt::Group;

/// How to bind a socket: what has to be said before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct BindOptions {
    backlog: u32,
    flags: u8,
    reuse_address: Option<bool>,
}

impl Default for BindOptions {
    fn default() -> Self {
        BindOptions::new()
    }
}

impl BindOptions {
    /// As std binds.
    pub const fn new() -> BindOptions {
        BindOptions { backlog: BACKLOG as u32, flags: 0, reuse_address: None }
    }

    /// Connections that may wait to be taken: 1 to 4,096. Of no concern to UDP.
    pub const fn backlog(self, backlog: u32) -> BindOptions {
        BindOptions { backlog, ..self }
    }

    /// SO_REUSEADDR: an address of which old connections linger can be bound anew; several UDP sockets can have
    /// one. Unless it is said, TCP listeners have it and UDP sockets do not, as with std.
    pub const fn reuse_address(self, reuse: bool) -> BindOptions {
        BindOptions { reuse_address: Some(reuse), ..self }
    }

    /// SO_REUSEPORT: several sockets share the address, and what comes to it.
    pub const fn reuse_port(self, reuse: bool) -> BindOptions {
        self.with(bind::REUSE_PORT, reuse)
    }

    /// IPV6_V6ONLY: an IPv6 socket has nothing to do with IPv4.
    pub const fn only_v6(self, only: bool) -> BindOptions {
        self.with(bind::ONLY_V6, only)
    }

    const fn with(self, flag: u8, on: bool) -> BindOptions {
        BindOptions { flags: if on { self.flags | flag } else { self.flags & !flag }, ..self }
    }

    /// The request.
    pub(crate) fn request(&self, op: Op) -> Request {
        let reuse = self.reuse_address.unwrap_or(op == Op::Listen);
        let BindOptions { flags, .. } = self.with(bind::REUSE_ADDRESS, reuse);
        Request { flags, ..asks(op, self.backlog.into()) }
    }
}

impl Socket {
    fn set_option<G: Group>(&self, group: &G, option: u32, value: u64) -> Result<(), Errno> {
        by_leader(group, || {
            self.call::<G>(Request { len: option, ..asks(Op::SetOption, value) }).map(drop)
        })
    }

    fn option<G: Group>(&self, group: &G, option: u32) -> Result<u64, Errno> {
        by_leader(group, || self.call::<G>(Request { len: option, ..asks(Op::GetOption, 0) }))
    }
}

/// An option's pair of functions.
macro_rules! option {
    ($(#[$doc:meta])* $get:ident, $set:ident, $number:ident, bool) => {
        option!(@ $(#[$doc])* $get, $set, $number, bool, |value: u64| value != 0, u64::from);
    };
    ($(#[$doc:meta])* $get:ident, $set:ident, $number:ident, u32) => {
        option!(@ $(#[$doc])* $get, $set, $number, u32, |value: u64| value as u32, u64::from);
    };
    ($(#[$doc:meta])* $get:ident, $set:ident, $number:ident, seconds) => {
        option!(@ $(#[$doc])* $get, $set, $number, Option<u32>,
            |value: u64| value.checked_sub(1).map(|seconds| seconds as u32),
            |value: Option<u32>| value.map_or(0, |seconds| u64::from(seconds) + 1));
    };
    (@ $(#[$doc:meta])* $get:ident, $set:ident, $number:ident, $type:ty, $from:expr, $to:expr) => {
        $(#[$doc])*
        ///
        /// # Errors
        /// Those of getsockopt(2); `EBADF`; `EIO`.
        pub fn $get<G: Group>(&self, group: &G) -> Result<$type, Errno> {
            self.socket().option(group, option::$number).map($from)
        }

        $(#[$doc])*
        ///
        /// # Errors
        /// Those of setsockopt(2), such as `EINVAL`; `EBADF`; `EIO`.
        pub fn $set<G: Group>(&self, group: &G, value: $type) -> Result<(), Errno> {
            self.socket().set_option(group, option::$number, $to(value))
        }
    };
}

impl TcpStream {
    option!(
        /// Whether small messages go out at once (TCP_NODELAY). They do unless it is set otherwise: what is
        /// sent has been gathered in the ring already.
        nodelay, set_nodelay, NODELAY, bool);
    option!(
        /// Whether the system probes idle connections (SO_KEEPALIVE).
        keepalive, set_keepalive, KEEPALIVE, bool);
    option!(
        /// The time to live of what is sent (IP_TTL).
        ttl, set_ttl, TTL, u32);
    option!(
        /// How long closing waits for what was sent to be acknowledged, in seconds (SO_LINGER); 0 resets the
        /// connection.
        linger, set_linger, LINGER, seconds);
    option!(
        /// The size of the system's buffer for what arrives (SO_RCVBUF). Linux doubles what is set.
        recv_buffer_size, set_recv_buffer_size, RECV_BUFFER, u32);
    option!(
        /// The size of the system's buffer for what is sent (SO_SNDBUF). Linux doubles what is set.
        send_buffer_size, set_send_buffer_size, SEND_BUFFER, u32);
}

impl TcpListener {
    option!(
        /// The time to live of what is sent (IP_TTL): accepted connections have it, too.
        ttl, set_ttl, TTL, u32);

    /// Whether it has nothing to do with IPv4 (IPV6_V6ONLY): see [`BindOptions::only_v6`]. A request.
    ///
    /// # Errors
    /// Those of getsockopt(2); `EBADF`; `EIO`.
    pub fn only_v6<G: Group>(&self, group: &G) -> Result<bool, Errno> {
        self.socket().option(group, option::ONLY_V6).map(|only| only != 0)
    }
}

impl UdpSocket {
    option!(
        /// Whether datagrams may go to broadcast addresses (SO_BROADCAST).
        broadcast, set_broadcast, BROADCAST, bool);
    option!(
        /// The time to live of what is sent (IP_TTL).
        ttl, set_ttl, TTL, u32);
    option!(
        /// Whether what goes to an IPv4 group comes to this machine, too (IP_MULTICAST_LOOP).
        multicast_loop_v4, set_multicast_loop_v4, MULTICAST_LOOP_V4, bool);
    option!(
        /// The time to live of what goes to an IPv4 group (IP_MULTICAST_TTL).
        multicast_ttl_v4, set_multicast_ttl_v4, MULTICAST_TTL_V4, u32);
    option!(
        /// Whether what goes to an IPv6 group comes to this machine, too (IPV6_MULTICAST_LOOP).
        multicast_loop_v6, set_multicast_loop_v6, MULTICAST_LOOP_V6, bool);
    option!(
        /// The size of the system's buffer for what arrives (SO_RCVBUF). Linux doubles what is set.
        recv_buffer_size, set_recv_buffer_size, RECV_BUFFER, u32);
    option!(
        /// The size of the system's buffer for what is sent (SO_SNDBUF). Linux doubles what is set.
        send_buffer_size, set_send_buffer_size, SEND_BUFFER, u32);

    /// Joins an IPv4 multicast group, at the interface that has this address (unspecified: any). A request.
    ///
    /// # Errors
    /// Those of setsockopt(2); `EPERM` where the grant forbids it; `EBADF`; `EIO`.
    pub fn join_multicast_v4<G: Group>(
        &self,
        group: &G,
        multiaddr: &Ipv4Addr,
        interface: &Ipv4Addr,
    ) -> Result<(), Errno> {
        self.multicast(group, 0, v4_group(multiaddr, interface))
    }

    /// Leaves a group that [`UdpSocket::join_multicast_v4`] has joined. A request.
    ///
    /// # Errors
    /// As for joining.
    pub fn leave_multicast_v4<G: Group>(
        &self,
        group: &G,
        multiaddr: &Ipv4Addr,
        interface: &Ipv4Addr,
    ) -> Result<(), Errno> {
        self.multicast(group, LEAVE, v4_group(multiaddr, interface))
    }

    /// Joins an IPv6 multicast group, at the interface of this number (0: any). A request.
    ///
    /// # Errors
    /// As [`UdpSocket::join_multicast_v4`].
    pub fn join_multicast_v6<G: Group>(
        &self,
        group: &G,
        multiaddr: &Ipv6Addr,
        interface: u32,
    ) -> Result<(), Errno> {
        self.multicast(group, 0, v6_group(multiaddr, interface))
    }

    /// Leaves a group that [`UdpSocket::join_multicast_v6`] has joined. A request.
    ///
    /// # Errors
    /// As for joining.
    pub fn leave_multicast_v6<G: Group>(
        &self,
        group: &G,
        multiaddr: &Ipv6Addr,
        interface: u32,
    ) -> Result<(), Errno> {
        self.multicast(group, LEAVE, v6_group(multiaddr, interface))
    }

    fn multicast<G: Group>(&self, group: &G, flags: u8, addr: NetAddr) -> Result<(), Errno> {
        let Socket { net, handle, .. } = self.socket();
        by_leader(group, || {
            let request = Request { handle, flags, ..asks(Op::Multicast, 0) };
            net.call_with_addr::<G>(request, &addr, &[]).map(drop)
        })
    }
}

fn v4_group(multiaddr: &Ipv4Addr, interface: &Ipv4Addr) -> NetAddr {
    let mut addr = NetAddr::v4(multiaddr.octets(), 0);
    addr.ip[4..8].copy_from_slice(&interface.octets());
    addr
}

fn v6_group(multiaddr: &Ipv6Addr, interface: u32) -> NetAddr {
    NetAddr { scope: interface, ..NetAddr::v6(multiaddr.octets(), 0) }
}
