//! Sockets in the region: control words, byte rings, event queues (clauses N1 to N14).
//!
//! ```text
//!  one socket: 256 bytes of control                 two rings of `socket_ring` bytes
//!    0  SocketHost    written by the host           tx  device → host   tail: device, head: host
//!   64  SocketDevice  written by the device         rx  host → device   tail: host, head: device
//!  128  SocketNames   written by the host
//!  192  spare
//! ```
//!
//! `tail` and `head` count bytes modulo 2^32 since the region was laid out; they do not start anew with
//! another connection. `tail - head` bytes, at most the ring's length, are in the ring, the first of
//! them at `head` modulo its length.
//!
//! ```text
//!   device sends                                 host
//!   ------------                                 ----
//!   bytes into tx from tx_tail on
//!   tx_tail = t + n   ---- release / acquire -->  tx_tail != tx_head: write them to the peer
//!   fence (SeqCst)                                nothing: tx_sleeps = 1; fence (SeqCst);
//!   tx_sleeps != 0: post Wake                              tx_tail once more; sleep
//!   room?  <-------------- acquire / release ---  tx_head = h + n; tx_turn += 1
//! ```
//!
//! The other direction is the mirror image. `rx_turn` and `tx_turn` change with everything that a
//! device thread could wait for in that direction, so that it waits for one word.
//!
//! A socket's life, as the device sees it (`state`, with `errno` ≠ 0 for a connection that failed):
//!
//! ```text
//!             Listen, Bind, Connect answered; or taken from a listener's ring
//!   (free) ───────────────────────────────────▶ OPEN
//!                                                 │ peer ends its sending ──▶ OPEN | RX_ENDED
//!                                                 │ Shutdown(write) ────────▶ OPEN | TX_ENDED
//!                                                 │ reset, refused, … ──────▶ OPEN | RX_ENDED | TX_ENDED,
//!                                                 │                           errno = why
//!                                                 ▼ CloseSocket
//!                                    what is in tx goes out; then (free), next generation
//! ```

use crate::words::Atomics;
use bytemuck::{Pod, Zeroable};

/// Bytes of a socket's control block.
pub const SOCKET_STRIDE: usize = 256;
/// Lines before a queue's entries.
pub const QUEUE_LINES: usize = 2;

/// Words of a socket that the host writes.
#[repr(C, align(64))]
pub struct SocketHost<A: Atomics> {
    /// The handle that names the socket now; 0 while it is free.
    pub handle: A::U32,
    /// [`state`] bits.
    pub state: A::U32,
    /// Why the connection ended, if not in good order.
    pub errno: A::U32,
    /// Not 0: the host sleeps until it is told that bytes are in tx.
    pub tx_sleeps: A::U32,
    /// Bytes that the host took from tx.
    pub tx_head: A::U32,
    /// Changes with `tx_head`, and with `state` and `errno`.
    pub tx_turn: A::U32,
    /// Bytes that the host put into rx.
    pub rx_tail: A::U32,
    /// Changes with `rx_tail`, and with `state` and `errno`.
    pub rx_turn: A::U32,
    /// Not 0: the host sleeps until it is told that rx has room.
    pub rx_sleeps: A::U32,
}

/// Words of a socket that the device writes.
#[repr(C, align(64))]
pub struct SocketDevice<A: Atomics> {
    /// Bytes that the device put into tx.
    pub tx_tail: A::U32,
    /// Bytes that the device took from rx.
    pub rx_head: A::U32,
    /// Which queue is to hear of this socket once, and of what: see [`watch`]. 0: none.
    pub watch: A::U64,
}

/// Both ends' addresses, each a [`NetAddr`]. Written by the host before the handle is known.
#[repr(C, align(64))]
pub struct SocketNames<A: Atomics> {
    /// This end.
    pub local: [A::U64; 4],
    /// The other end.
    pub peer: [A::U64; 4],
}

/// A socket's control block.
#[repr(C)]
pub struct Socket<A: Atomics> {
    /// Written by the host.
    pub host: SocketHost<A>,
    /// Written by the device.
    pub device: SocketDevice<A>,
    /// Written by the host.
    pub names: SocketNames<A>,
    spare: [A::U64; 8],
}

/// Bits of [`SocketHost::state`].
pub mod state {
    /// It is a socket.
    pub const OPEN: u32 = 1;
    /// No byte will follow those that are in rx.
    pub const RX_ENDED: u32 = 2;
    /// No byte that is put into tx will be sent.
    pub const TX_ENDED: u32 = 4;
}

/// Which directions [`Op::Shutdown`](crate::Op::Shutdown) ends, in its flags.
pub mod shut {
    /// Receiving.
    pub const READ: u8 = 1;
    /// Sending.
    pub const WRITE: u8 = 2;
}

/// What [`Op::Wake`](crate::Op::Wake) asks the host to look at, in its flags.
pub mod wake {
    /// Bytes are in tx.
    pub const TX: u8 = 1;
    /// There is room in rx.
    pub const RX: u8 = 2;
    /// The socket is watched by a queue, and may be ready already.
    pub const WATCH: u8 = 4;
}

/// How to bind, in the flags of [`Op::Listen`](crate::Op::Listen) and [`Op::Bind`](crate::Op::Bind).
pub mod bind {
    /// SO_REUSEADDR.
    pub const REUSE_ADDRESS: u8 = 1;
    /// SO_REUSEPORT.
    pub const REUSE_PORT: u8 = 2;
    /// IPV6_V6ONLY, else both families.
    pub const ONLY_V6: u8 = 4;
}

/// In the flags of [`Op::Name`](crate::Op::Name): the other end's.
pub const PEER_NAME: u8 = 1;
/// In the flags of [`Op::Pair`](crate::Op::Pair): not streams.
pub const PAIR_DATAGRAM: u8 = 1;
/// In the flags of [`Op::Multicast`](crate::Op::Multicast): not to join.
pub const LEAVE: u8 = 1;

/// Options that [`Op::SetOption`](crate::Op::SetOption) sets and [`Op::GetOption`](crate::Op::GetOption) tells.
pub mod option {
    /// TCP_NODELAY: 0 or 1. Connections begin with 1.
    pub const NODELAY: u32 = 1;
    /// SO_RCVBUF in bytes.
    pub const RECV_BUFFER: u32 = 2;
    /// SO_SNDBUF in bytes.
    pub const SEND_BUFFER: u32 = 3;
    /// SO_KEEPALIVE: 0 or 1.
    pub const KEEPALIVE: u32 = 4;
    /// SO_BROADCAST: 0 or 1.
    pub const BROADCAST: u32 = 5;
    /// IP_TTL.
    pub const TTL: u32 = 6;
    /// SO_LINGER in seconds + 1; 0: none.
    pub const LINGER: u32 = 7;
    /// IP_MULTICAST_LOOP: 0 or 1.
    pub const MULTICAST_LOOP_V4: u32 = 8;
    /// IP_MULTICAST_TTL.
    pub const MULTICAST_TTL_V4: u32 = 9;
    /// IPV6_MULTICAST_LOOP: 0 or 1.
    pub const MULTICAST_LOOP_V6: u32 = 10;
    /// IPV6_V6ONLY. Told only: it is set when the socket is bound.
    pub const ONLY_V6: u32 = 11;
}

/// The words that [`SocketDevice::watch`] takes.
pub mod watch {
    /// Of bytes (or the end) in rx.
    pub const READ: u64 = 1 << 16;
    /// Of room in tx.
    pub const WRITE: u64 = 1 << 17;

    /// Queue `queue` is to hear of `interest`; `turn` makes it differ from the one before.
    pub const fn word(queue: u32, interest: u64, turn: u32) -> u64 {
        (queue + 1) as u64 | interest | (turn as u64) << 32
    }

    /// The queue, if the word names one.
    pub const fn queue(word: u64) -> Option<u32> {
        (word as u32 & 0xffff).checked_sub(1)
    }
}

/// The host's line of an event queue.
#[repr(C, align(64))]
pub struct QueueHost<A: Atomics> {
    /// Events so far, modulo 2^32.
    pub tail: A::U32,
}

/// The device's line of an event queue.
#[repr(C, align(64))]
pub struct QueueDevice<A: Atomics> {
    /// Events taken so far, modulo 2^32.
    pub head: A::U32,
}

/// An event queue: handles of sockets that became ready.
#[derive(Clone, Copy)]
pub struct Queue<'a, A: Atomics> {
    /// Written by the host.
    pub host: &'a QueueHost<A>,
    /// Written by the device.
    pub device: &'a QueueDevice<A>,
    /// Event *n* is at *n* modulo their number. Written by the host.
    pub entries: &'a [A::U32],
}

/// Events that a queue holds: each socket can have one that is new and one that is stale.
pub const fn queue_entries(sockets: u32) -> u32 {
    (2 * sockets).next_power_of_two()
}

/// Bytes from one queue to the next.
pub const fn queue_stride(sockets: u32) -> usize {
    (QUEUE_LINES * 64 + queue_entries(sockets) as usize * 4).next_multiple_of(64)
}

/// Bytes in a ring; `None` if the indices contradict each other.
#[inline]
pub const fn used(tail: u32, head: u32, size: u32) -> Option<u32> {
    let used = tail.wrapping_sub(head);
    if used <= size { Some(used) } else { None }
}

/// The bytes of a ring from index `from` on, `len` of them (at most its size): offset and length of the
/// first part, and length of the second, which begins at offset 0.
#[inline]
pub const fn parts(from: u32, len: u32, size: u32) -> (usize, usize, usize) {
    let at = from & (size - 1);
    let first = if len < size - at { len } else { size - at };
    (at as usize, first as usize, (len - first) as usize)
}

/// An address: 32 bytes. For Unix sockets its `path_len` bytes of path follow it in a request's slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Pod, Zeroable)]
#[repr(C)]
pub struct NetAddr {
    /// [`NetAddr::V4`], [`NetAddr::V6`] or [`NetAddr::UNIX`]; 0: unnamed.
    pub family: u16,
    /// The port, in the machine's byte order.
    pub port: u16,
    /// IPv6 flow information.
    pub flow: u32,
    /// IPv4: the first four bytes.
    pub ip: [u8; 16],
    /// IPv6 scope.
    pub scope: u32,
    /// Bytes of a Unix socket's path, as `sun_path` has them without the NUL behind it: an abstract name
    /// begins with one. 0: unnamed.
    pub path_len: u32,
}

impl NetAddr {
    /// `AF_INET`.
    pub const V4: u16 = 2;
    /// `AF_INET6`.
    pub const V6: u16 = 10;
    /// `AF_UNIX`.
    pub const UNIX: u16 = 1;
    /// Longest path of a Unix socket.
    pub const PATH_MAX: usize = 107;
    /// Most bytes that the system itself tells as a Unix socket's path.
    pub const SUN_PATH: usize = 108;
    const UNNAMED: NetAddr =
        NetAddr { family: 0, port: 0, flow: 0, ip: [0; 16], scope: 0, path_len: 0 };

    /// An IPv4 address.
    pub const fn v4(ip: [u8; 4], port: u16) -> NetAddr {
        let [a, b, c, d] = ip;
        let ip = [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        NetAddr { family: Self::V4, port, ip, ..Self::UNNAMED }
    }

    /// An IPv6 address.
    pub const fn v6(ip: [u8; 16], port: u16) -> NetAddr {
        NetAddr { family: Self::V6, port, ip, ..Self::UNNAMED }
    }

    /// A Unix socket's, of a path of that length.
    pub const fn unix(path_len: usize) -> NetAddr {
        NetAddr { family: Self::UNIX, path_len: path_len as u32, ..Self::UNNAMED }
    }

    /// As the standard library has it; `None` for Unix sockets and unnamed ends.
    pub const fn to_std(&self) -> Option<core::net::SocketAddr> {
        use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
        match self.family {
            Self::V4 => {
                let [a, b, c, d, ..] = self.ip;
                Some(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), self.port)))
            }
            Self::V6 => {
                let ip = Ipv6Addr::from_bits(u128::from_be_bytes(self.ip));
                Some(SocketAddr::V6(SocketAddrV6::new(ip, self.port, self.flow, self.scope)))
            }
            _ => None,
        }
    }
}

impl From<core::net::SocketAddr> for NetAddr {
    fn from(addr: core::net::SocketAddr) -> NetAddr {
        match addr {
            core::net::SocketAddr::V4(a) => NetAddr::v4(a.ip().octets(), a.port()),
            core::net::SocketAddr::V6(a) => NetAddr {
                flow: a.flowinfo(),
                scope: a.scope_id(),
                ..NetAddr::v6(a.ip().octets(), a.port())
            },
        }
    }
}

/// What precedes each datagram in a ring: so many bytes follow, and the path of a Unix address; all that padded
/// to a multiple of 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Datagram {
    /// Bytes of the datagram.
    pub len: u32,
    /// Must be 0.
    pub reserved: u32,
    /// Where it came from, or goes to; unnamed: to the socket's peer.
    pub addr: NetAddr,
}

impl Datagram {
    /// Longest that UDP has. Unix sockets have no longer ones here.
    pub const MAX: u32 = 65_507;

    /// A datagram of so many bytes.
    pub const fn new(len: u32, addr: NetAddr) -> Datagram {
        Datagram { len, reserved: 0, addr }
    }

    /// Bytes of the path behind the datagram's own.
    pub const fn path_len(&self) -> u32 {
        if self.addr.family == NetAddr::UNIX { self.addr.path_len } else { 0 }
    }

    /// Bytes that it takes in a ring; `None` if it has more than a datagram or a path can have.
    pub const fn room(&self) -> Option<u32> {
        if self.len > Self::MAX || self.path_len() > NetAddr::SUN_PATH as u32 {
            return None;
        }
        let all = size_of::<Datagram>() as u32 + self.len + self.path_len();
        Some(all.next_multiple_of(8))
    }
}

/// A connection in a listener's rx ring: its socket's handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Accepted {
    /// The handle.
    pub handle: u32,
    /// Must be 0.
    pub reserved: u32,
}

/// The place among `sockets` that a handle names.
pub const fn index_of(handle: u32, sockets: u32) -> u32 {
    handle & (sockets.next_power_of_two() - 1)
}

#[cfg(not(loom))]
const _: () = {
    use crate::words::HostAtomics;
    assert!(size_of::<Socket<HostAtomics>>() == SOCKET_STRIDE);
    assert!(core::mem::offset_of!(Socket<HostAtomics>, device) == 64);
    assert!(core::mem::offset_of!(Socket<HostAtomics>, names) == 128);
    assert!(size_of::<NetAddr>() == 32);
    assert!(size_of::<Datagram>() == 40);
    assert!(size_of::<Accepted>() == 8);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n3_a_rings_bytes_are_where_their_numbers_say() {
        assert_eq!(parts(0, 10, 16), (0, 10, 0));
        assert_eq!(parts(10, 10, 16), (10, 6, 4));
        assert_eq!(parts(16, 16, 16), (0, 16, 0));
        assert_eq!(parts(u32::MAX, 3, 16), (15, 1, 2));
        assert_eq!(used(3, u32::MAX, 16), Some(4));
        assert_eq!(used(0, 1, 16), None);
        assert_eq!(used(17, 0, 16), None);
        assert_eq!(used(16, 0, 16), Some(16));
    }

    #[test]
    fn addresses_come_back_as_they_went() {
        for text in ["127.0.0.1:80", "0.0.0.0:0", "[::1]:65535", "[fe80::1%3]:1"] {
            let addr: core::net::SocketAddr = text.parse().unwrap();
            assert_eq!(NetAddr::from(addr).to_std(), Some(addr));
        }
        assert_eq!(NetAddr::unix(5).to_std(), None);
        assert_eq!(NetAddr::default().to_std(), None);
    }

    #[test]
    fn n10_what_a_datagram_takes() {
        let room = |len, addr| Datagram::new(len, addr).room();
        assert_eq!(room(0, NetAddr::default()), Some(40));
        assert_eq!(room(9, NetAddr::v4([1; 4], 2)), Some(56));
        assert_eq!(room(9, NetAddr::unix(7)), Some(56));
        assert_eq!(room(9, NetAddr::unix(8)), Some(64));
        // A path is a Unix socket's only.
        assert_eq!(room(9, NetAddr { path_len: u32::MAX, ..NetAddr::default() }), Some(56));
        assert_eq!(room(9, NetAddr::unix(109)), None);
        assert_eq!(room(65_508, NetAddr::default()), None);
        assert_eq!(room(u32::MAX, NetAddr::unix(u32::MAX as usize)), None);
    }

    #[test]
    fn n7_a_watch_names_its_queue() {
        for (queue, turn) in [(0, 0), (1023, u32::MAX), (5, 1 << 20)] {
            let word = watch::word(queue, watch::READ, turn);
            assert_eq!((watch::queue(word), word & watch::READ), (Some(queue), watch::READ));
        }
        assert_eq!(watch::queue(0), None);
    }
}
