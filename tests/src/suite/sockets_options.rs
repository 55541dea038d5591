//! Options of sockets: what is set is told, and is what the system has.

use super::sockets::{SHAPE, any, assert_all_free, bench, recv_from};
use crate::Policy;
use crate::device::net::*;
use crate::host::Backend;
use crate::sockets::{GROUPS, With, failed, op, start};
use gpu_abi::socket::option;
use gpunet::Errno;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

/// What is set is told again, and seen by the system; what cannot be is an error.
pub fn options_are_told_as_they_were_set<P: Policy>(backend: &Backend) {
    let Some(bench) = bench::<P>(backend, 4) else { return };
    let listener = TcpListener::bind(any()).unwrap();
    let to = listener.local_addr().unwrap();
    // Each with what it is first, if that is the same everywhere, and what it is set to.
    let of_streams = [
        (option::NODELAY, Some(1), 0),
        (option::KEEPALIVE, Some(0), 1),
        (option::TTL, None, 7),
        (option::LINGER, Some(0), 5),
    ];
    let of_datagrams = [
        (option::BROADCAST, Some(0), 1),
        (option::TTL, None, 9),
        (option::MULTICAST_LOOP_V4, Some(1), 0),
        (option::MULTICAST_TTL_V4, Some(1), 3),
    ];
    for group in GROUPS {
        let mut ops = vec![op(CONNECT, 0).addr(to), op(BIND, 1).addr(any())];
        let all = of_streams.iter().map(|o| (0, o)).chain(of_datagrams.iter().map(|o| (1, o)));
        for (s, (which, _, value)) in all.clone() {
            let op = |what, arg| op(what, s).from(*which).bytes(0, s).arg(arg);
            ops.extend([op(GET_OPTION, 0), op(SET_OPTION, *value), op(GET_OPTION, 0)]);
        }
        let at = ops.len();
        ops.extend([
            op(SET_OPTION, 0).from(option::RECV_BUFFER).arg(16_384),
            op(GET_OPTION, 0).from(option::RECV_BUFFER),
            op(SET_OPTION, 0).from(option::SEND_BUFFER).arg(16_384),
            op(GET_OPTION, 0).from(option::SEND_BUFFER),
            op(SET_OPTION, 0).from(option::TTL).arg(1000),
            op(TIMEOUT, 0).arg(1234),
            op(TIMEOUTS, 0),
            op(TIMEOUT, 0).arg(0),
            op(TIMEOUTS, 0),
            op(CLOSE, 0),
            op(CLOSE, 1),
            op(GET_OPTION, 0).from(option::TTL),
        ]);
        let (results, _) = start(&bench, SHAPE, group, &[0; 64], &ops).finish();
        for (i, (_, (which, first, value))) in all.enumerate() {
            let results = &results[2 + 3 * i..][..3];
            assert!(first.is_none_or(|first| results[0] == first + 1), "{which}: {results:?}");
            assert_eq!(results[1..], [1, *value as i64 + 1], "{which}");
            assert_ne!(results[0], results[2], "{which} was not set yet");
        }
        // Linux doubles them.
        assert_eq!([results[at + 1], results[at + 3]], [32_769; 2]);
        assert_eq!(results[at + 4], failed(Errno::EINVAL));
        assert_eq!(results[at + 6], 1 + (1234 | 1234 << 32));
        assert_eq!(results[at + 8], 1);
        assert_eq!(results[at + 11], failed(Errno::EBADF));
    }
    assert_all_free(&bench);
}

/// Addresses are shared, or not, as it was said when they were bound.
pub fn addresses_are_reused_as_said<P: Policy>(backend: &Backend) {
    let Some(bench) = bench::<P>(backend, 4) else { return };
    for group in GROUPS {
        // What listens now keeps its address, whatever is said; an old connection alone only without reuse.
        let lingers = {
            let listener = TcpListener::bind(any()).unwrap();
            let addr = listener.local_addr().unwrap();
            let here = std::net::TcpStream::connect(addr).unwrap();
            // The end that closes first lingers: the listener's.
            drop(listener.accept().unwrap());
            drop(here);
            addr
        };
        // Two: an address may be free again only some time after its socket was closed.
        let [udp, other] = [(); 2].map(|()| UdpSocket::bind(any()).unwrap().local_addr().unwrap());
        let ops = [
            op(OPEN_WITH, 0).addr(lingers).arg(1),
            op(OPEN_WITH, 0).addr(lingers).arg(0),
            op(OPEN_WITH, 1).addr(lingers).arg(0),
            op(CLOSE, 0),
            op(OPEN_WITH, 0).from(1).addr(udp).arg(0),
            op(OPEN_WITH, 1).from(1).addr(udp).arg(0),
            op(CLOSE, 0),
            op(OPEN_WITH, 0).from(1).addr(other).arg(1),
            op(OPEN_WITH, 1).from(1).addr(other).arg(1),
            op(CLOSE, 0),
            op(CLOSE, 1),
            op(OPEN_WITH, 0).addr(any()).arg(2),
            op(LOCAL, 0),
            op(CLOSE, 0),
            op(OPEN_WITH, 0).addr(any()).arg(4),
        ];
        let script = start(&bench, SHAPE, group, &[0; 64], &ops);
        let (results, _) = script.finish();
        let in_use = failed(Errno::EADDRINUSE);
        assert_eq!(results[..3], [in_use, 1, in_use]);
        assert_eq!(results[4..6], [1, in_use]);
        assert_eq!(results[7..9], [1, 1]);
        assert_eq!(results[11..15], [1, 1, 1, failed(Errno::ENOPROTOOPT)]);
        assert_all_free(&bench);
    }
}

/// An IPv6 listener takes IPv4 connections unless it was told not to.
pub fn only_v6_means_it<P: Policy>(backend: &Backend) {
    let v6: SocketAddr = (Ipv6Addr::UNSPECIFIED, 0).into();
    if UdpSocket::bind(v6).is_err() {
        return println!("skipped: no IPv6 here");
    }
    let Some(bench) = bench::<P>(backend, 4) else { return };
    for (flags, only) in [(4, 1u32), (0, 0)] {
        let mut ops = vec![
            op(OPEN_WITH, 0).addr(v6).arg(flags),
            op(LOCAL, 0),
            op(GET_OPTION, 0).from(option::ONLY_V6).bytes(0, 2),
            op(GET_OPTION, 0).from(option::TTL).bytes(0, 2),
        ];
        for i in 1..3 - only {
            ops.extend([op(ACCEPT, i).from(0), op(CLOSE, i)]);
        }
        ops.push(op(CLOSE, 0));
        let script = start(&bench, SHAPE, GROUPS[0], &[0; 64], &ops);
        let port = script.addr(1, 0).port();
        let by_v4 = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port));
        assert_eq!(by_v4.is_err(), only == 1, "{by_v4:?}");
        let _by_v6 = std::net::TcpStream::connect((Ipv6Addr::LOCALHOST, port)).unwrap();
        let (values, _) = script.values();
        assert_eq!(values[2], u64::from(only));
        assert!(values[3] > 0, "{values:?}");
    }
    assert_all_free(&bench);
}

/// Datagrams to a group come to who joined it; a look leaves a datagram; peers are told.
pub fn groups_peers_and_looks<P: Policy>(backend: &Backend) {
    let Some(bench) = bench::<P>(backend, 4) else { return };
    let peer = UdpSocket::bind(any()).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let to = peer.local_addr().unwrap();
    let all_hosts: SocketAddr = "239.255.77.1:0".parse().unwrap();
    let no_group: SocketAddr = "127.0.0.1:0".parse().unwrap();
    for group in GROUPS {
        let ops = [
            op(BIND, 0).addr(any()),
            op(LOCAL, 0),
            op(PEEK_FROM, 0).bytes(100, 50),
            op(RECV_FROM, 0).bytes(200, 50),
            op(PEER_UDP, 0),
            op(SET_PEER, 0).addr(to),
            op(PEER_UDP, 0).bytes(64, 32),
            op(SEND_TO, 0).bytes(100, 5).addr(to),
            op(MULTICAST, 0).addr(all_hosts),
            op(MULTICAST, 0).addr(all_hosts),
            op(MULTICAST, 0).addr(all_hosts).arg(1),
            op(MULTICAST, 0).addr(all_hosts).arg(1),
            op(MULTICAST, 0).addr(no_group),
            op(CLOSE, 0),
        ];
        let script = start(&bench, SHAPE, group, &[0; 300], &ops);
        let addr = script.addr(1, 0);
        peer.send_to(b"twice", addr).unwrap();
        let mut buf = [0; 16];
        assert_eq!(recv_from(&peer, &mut buf), (5, addr));
        assert_eq!(script.addr(6, 64), to);
        let (results, bytes) = script.finish();
        assert_eq!([results[2], results[3]], [1 + (5 | i64::from(to.port()) << 32); 2]);
        assert_eq!([&bytes[100..105], &bytes[200..205]], [b"twice"; 2]);
        assert_eq!(results[4], failed(Errno::ENOTCONN));
        // Without a route for groups there is no interface to join at.
        let nowhere = failed(Errno::ENODEV);
        if results[8] != nowhere {
            let again = failed(Errno::EADDRINUSE);
            assert_eq!(results[8..12], [1, again, 1, failed(Errno::EADDRNOTAVAIL)]);
        }
        assert_eq!(results[12], failed(Errno::EINVAL));
    }
    assert_all_free(&bench);
}
