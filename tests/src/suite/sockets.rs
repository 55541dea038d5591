//! Sockets, at every granularity, with `std::net` at the other end.

use crate::Policy;
use crate::device::net::*;
use crate::device::{mismatches, pattern};
use crate::host::{Backend, Bench};
use crate::sockets::{GROUPS, Script, With, failed, op, start};
use gpu_host::SessionBuilder;
use gpunet::Errno;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

pub(super) const SHAPE: (u32, u32) = (1, 64);
pub(super) const RING: u32 = 4096;

pub(super) fn any() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// Sockets with the smallest rings: they wrap all the time.
pub(super) fn bench<P: Policy>(backend: &Backend, sockets: u32) -> Option<Bench<P>> {
    backend.session::<P>(|b| b.cache_size(1 << 20).sockets(sockets).socket_ring(RING).pollers(4))
}

pub(super) fn bytes(len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| pattern(7, at)).collect()
}

pub(super) fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).expect("the kernel listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    stream
}

/// One read, whatever signals arrive meanwhile.
pub(super) fn read(peer: &mut impl Read, buf: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match peer.read(buf) {
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// A script whose first operations listen (register 0) and say where (at 0).
pub(super) fn listening<P: Policy>(
    bench: &Bench<P>,
    group: u32,
    more: &[NetOp],
) -> (Script, SocketAddr) {
    let mut ops = vec![op(LISTEN, 0).addr(any()).arg(8), op(LOCAL, 0)];
    ops.extend_from_slice(more);
    let script = start(bench, SHAPE, group, &bytes(1 << 16), &ops);
    let addr = script.addr(1, 0);
    (script, addr)
}

/// A kernel's server: it accepts, receives by every way, and what it sends arrives; both ends know each
/// other's address.
pub fn a_server_serves<P: Policy>(backend: &Backend) {
    let Some(bench) = bench::<P>(backend, 8) else { return };
    for group in GROUPS {
        let (script, addr) = listening(
            &bench,
            group,
            &[
                op(ACCEPT, 1).from(0),
                op(PEER, 1).bytes(64, 32),
                op(LOCAL, 1).bytes(128, 32),
                op(RECV_ALL, 1).bytes(1000, 3000),
                op(SEND_ALL, 1).bytes(1000, 3000),
                op(RECV_VIEW, 1).bytes(8000, 100),
                op(SEND_VIEW, 1).bytes(8000, 100),
                op(RECV, 1).bytes(9000, 10),
                op(CLOSE, 1),
                op(CLOSE, 0),
            ],
        );
        let mut peer = connect(addr);
        let sent = bytes(3100);
        peer.write_all(&sent[..3000]).unwrap();
        let mut back = vec![0; 3000];
        peer.read_exact(&mut back).unwrap();
        assert!(back == sent[..3000]);
        peer.write_all(&sent[3000..]).unwrap();
        peer.read_exact(&mut back[..100]).unwrap();
        assert!(back[..100] == sent[3000..]);
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read(&mut peer, &mut back).unwrap(), 0, "the kernel has closed");
        assert_eq!(script.addr(3, 64), peer.local_addr().unwrap());
        assert_eq!(script.addr(4, 128), addr);
        let (values, _) = script.values();
        assert_eq!(values[5..10], [3000, 3000, 100, 100, 0]);
    }
    assert_all_free(&bench);
}

/// A kernel's client, over IPv4 and, where the machine has it, IPv6; options are taken.
pub fn a_client_connects<P: Policy>(backend: &Backend) {
    let Some(bench) = bench::<P>(backend, 8) else { return };
    let v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0));
    let listeners = [TcpListener::bind(any()).unwrap()].into_iter().chain(v6);
    for listener in listeners {
        let addr = listener.local_addr().unwrap();
        for group in GROUPS {
            let ops = [
                op(CONNECT, 0).addr(addr),
                op(NODELAY, 0).arg(1),
                op(PEER, 0),
                op(LOCAL, 0).bytes(64, 32),
                op(SEND_ALL, 0).bytes(1000, 5000),
                op(SHUTDOWN, 0).arg(2),
                op(RECV_ALL, 0).bytes(10_000, 9999),
                op(SEND, 0).bytes(0, 1),
                op(CLOSE, 0),
            ];
            let script = start(&bench, SHAPE, group, &bytes(20_000), &ops);
            let (mut peer, from) = listener.accept().unwrap();
            let mut all = Vec::new();
            peer.read_to_end(&mut all).unwrap();
            assert!(all == bytes(20_000)[1000..6000]);
            peer.write_all(b"after the end of what you sent").unwrap();
            drop(peer);
            assert_eq!(script.addr(2, 0), addr);
            assert_eq!(script.addr(3, 64), from);
            let (results, bytes) = script.finish();
            assert_eq!(results[6], 31);
            assert_eq!(&bytes[10_000..10_030], b"after the end of what you sent");
            assert_eq!(results[7], failed(Errno::EPIPE), "it was shut down");
        }
    }
    assert_all_free(&bench);
}

/// Much more than the rings hold, in both directions at once, with a peer that reads when it likes.
pub fn streams_are_whole<P: Policy>(backend: &Backend) {
    let Some(bench) = bench::<P>(backend, 8) else { return };
    let len = 50 * RING as usize + 77;
    for group in GROUPS {
        let (script, addr) = listening(
            &bench,
            group,
            &[
                op(ACCEPT, 1).from(0),
                op(SEND_PATTERN, 1).bytes(0, len as u32).arg(3),
                op(RECV_PATTERN, 1).arg(4),
                op(ECHO, 1),
                op(CLOSE, 1),
                op(CLOSE, 0),
            ],
        );
        let mut peer = connect(addr);
        // It stalls for longer than anybody spins.
        script.value(2);
        std::thread::sleep(Duration::from_millis(20));
        let mut got = vec![0; len];
        for part in got.chunks_mut(1000) {
            peer.read_exact(part).unwrap();
        }
        assert_eq!(mismatches(&got, 3, 0), 0);
        let sent: Vec<u8> = (0..len as u64).map(|at| pattern(4, at)).collect();
        for part in sent.chunks(777) {
            peer.write_all(part).unwrap();
        }
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read(&mut peer, &mut got).unwrap(), 0);
        let (values, _) = script.values();
        assert_eq!(values[3..6], [len as u64, len as u64, 0]);
    }
    assert_all_free(&bench);
}

/// What the system says is what the kernel is told.
pub fn errors_are_those_of_std_net<P: Policy>(backend: &Backend) {
    let Some(bench) = bench::<P>(backend, 4) else { return };
    let taken = TcpListener::bind(any()).unwrap();
    let free = TcpListener::bind(any()).unwrap().local_addr().unwrap();
    let nowhere: SocketAddr = "198.51.100.1:1".parse().unwrap();
    for group in GROUPS {
        let ops = [
            op(CONNECT, 0).addr(free),
            op(LISTEN, 0).addr(taken.local_addr().unwrap()).arg(1),
            op(LISTEN, 0).addr(nowhere).arg(1),
            op(RECV, 9).bytes(0, 1),
            op(CLOSE, 9),
            op(LISTEN_UNIX, 0).bytes(0, 0),
            op(CONNECT_UNIX, 0).bytes(0, 15),
            op(CONNECT_UNIX, 0).bytes(0, 200),
            op(BIND, 1).addr(any()),
            op(SEND_TO, 1).bytes(0, 5000).addr(free),
            op(CLOSE, 1),
            op(RECV_FROM, 1).bytes(0, 1),
            op(BIND, 1).addr(any()),
            op(BIND, 2).addr(any()),
            op(BIND, 3).addr(any()),
            op(BIND, 4).addr(any()),
            op(BIND, 5).addr(any()),
            op(CONNECT, 5).addr(taken.local_addr().unwrap()),
            op(CLOSE, 1),
            op(CLOSE, 2),
            op(CLOSE, 3),
            op(CLOSE, 4),
        ];
        let path = b"/no/such/socket";
        let mut bytes = vec![b'x'; 6000];
        bytes[..path.len()].copy_from_slice(path);
        let (results, _) = start(&bench, SHAPE, group, &bytes, &ops).finish();
        assert!(results[12..16].iter().all(|result| *result > 0), "{results:?}");
        assert_eq!(results[16..18], [failed(Errno::EMFILE); 2]);
        let expected = [
            failed(Errno::ECONNREFUSED),
            failed(Errno::EADDRINUSE),
            failed(Errno::EADDRNOTAVAIL),
            failed(Errno::EBADF),
            1,
            failed(Errno::EINVAL),
            failed(Errno::ENOENT),
            failed(Errno::ENAMETOOLONG),
            results[8],
            failed(Errno::EMSGSIZE),
            1,
            failed(Errno::EBADF),
        ];
        assert!(results[8] > 0);
        assert_eq!(results[..12], expected, "group {group}");
        let std = TcpStream::connect(free).unwrap_err();
        assert_eq!(std.kind(), ErrorKind::ConnectionRefused);
        // Nobody waits for what is closed, but the next group needs all of them.
        assert_all_free(&bench);
    }
}

/// Time is up, or there is no waiting at all.
pub fn waiting_ends_when_told<P: Policy>(backend: &Backend) {
    let Some(bench) = bench::<P>(backend, 4) else { return };
    for group in GROUPS {
        let (script, addr) = listening(
            &bench,
            group,
            &[
                op(NONBLOCKING, 0).arg(1),
                op(ACCEPT, 1).from(0),
                op(NONBLOCKING, 0).arg(0),
                op(TIMEOUT, 0).arg(5),
                op(ACCEPT, 1).from(0),
                op(TIMEOUT, 0).arg(0),
                op(ACCEPT, 1).from(0),
                op(TIMEOUT, 1).arg(5),
                op(RECV, 1).bytes(0, 10),
                op(NONBLOCKING, 1).arg(1),
                op(RECV, 1).bytes(0, 10),
                op(CLOSE, 1),
                op(CLOSE, 0),
            ],
        );
        assert_eq!(script.outcome(6), failed(Errno::EAGAIN));
        let peer = connect(addr);
        let (results, _) = script.finish();
        assert_eq!(results[3], failed(Errno::EAGAIN));
        assert!(results[8] > 0);
        assert_eq!([results[10], results[12]], [failed(Errno::EAGAIN); 2]);
        drop(peer);
    }
    assert_all_free(&bench);
}

/// A peer that resets, one that ends and goes on receiving, and one that is gone before it was accepted.
pub fn peers_end_as_they_like<P: Policy>(backend: &Backend) {
    let Some(bench) = bench::<P>(backend, 8) else { return };
    for group in GROUPS {
        let serve = [
            op(ACCEPT, 1).from(0),
            op(RECV, 1).bytes(0, 10),
            op(RECV, 1).bytes(0, 10),
            op(CLOSE, 1),
            op(ACCEPT, 1).from(0),
            op(RECV_ALL, 1).bytes(0, 10),
            op(SEND_ALL, 1).bytes(0, 4),
            op(CLOSE, 1),
            op(CLOSE, 0),
        ];
        let (script, addr) = listening(&bench, group, &serve);
        let mut peer = connect(addr);
        peer.write_all(b"x").unwrap();
        script.value(3);
        reset(peer);
        let mut peer = connect(addr);
        peer.write_all(b"half").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        let mut got = Vec::new();
        peer.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"half");
        let (results, _) = script.finish();
        assert_eq!(results[3], 2);
        assert_eq!(results[4], failed(Errno::ECONNRESET));
        assert_eq!(results[7], 5);
    }
    assert_all_free(&bench);
}

fn reset(stream: TcpStream) {
    let linger = libc_linger();
    // SAFETY: a valid option of an open socket.
    unsafe {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&stream);
        let at = (&raw const linger).cast();
        let len = size_of_val(&linger) as u32;
        libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, at, len);
    }
    drop(stream);
}

fn libc_linger() -> libc::linger {
    libc::linger { l_onoff: 1, l_linger: 0 }
}

/// More connections than there are sockets: those that have none wait in the system's queue, nobody is
/// turned away, and what was never taken is closed with the listener.
pub fn a_flood_waits_its_turn<P: Policy>(backend: &Backend) {
    // The listener, and three connections.
    let Some(bench) = bench::<P>(backend, 4) else { return };
    for group in GROUPS {
        let mut serve = Vec::new();
        for _ in 0..8 {
            serve.extend([op(ACCEPT, 1).from(0), op(ECHO, 1), op(CLOSE, 1)]);
        }
        serve.push(op(CLOSE, 0));
        let (script, addr) = listening(&bench, group, &serve);
        let mut peers: Vec<TcpStream> = (0..11).map(|_| connect(addr)).collect();
        for (i, peer) in peers.iter_mut().enumerate() {
            let sent = peer.write_all(&[i as u8; 10]).and_then(|()| peer.shutdown(Shutdown::Write));
            // The last three may be reset before they get here.
            assert!(i >= 8 || sent.is_ok(), "{sent:?}");
        }
        let mut served = 0;
        for (i, peer) in peers.iter_mut().enumerate() {
            let mut got = Vec::new();
            // The last three are closed without an answer, or reset.
            let outcome = peer.read_to_end(&mut got);
            if i < 8 {
                outcome.unwrap();
                assert_eq!(got, [i as u8; 10]);
                served += 1;
            } else {
                assert!(got.is_empty());
            }
        }
        assert_eq!(served, 8);
        script.values();
    }
    assert_all_free(&bench);
}

/// Datagrams arrive whole, with their sender, and the system's complaints are noted.
pub fn datagrams<P: Policy>(backend: &Backend) {
    let Some(bench) = bench::<P>(backend, 4) else { return };
    let peer = UdpSocket::bind(any()).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let to = peer.local_addr().unwrap();
    for group in GROUPS {
        let mut ops = vec![op(BIND, 0).addr(any()), op(LOCAL, 0)];
        for i in 0..20 {
            ops.push(op(RECV_FROM, 0).bytes(100 + 100 * i, 100));
            ops.push(op(SEND_TO, 0).bytes(100 + 100 * i, i as u32 * 5).addr(to));
        }
        ops.extend([
            op(SET_PEER, 0).addr(to),
            op(SEND_TO, 0).bytes(100, 3),
            op(TIMEOUT, 0).arg(5),
            op(RECV_FROM, 0).bytes(0, 9),
            op(CLOSE, 0),
        ]);
        // No address: to the peer.
        ops[43].addr = gpunet::NetAddr::default();
        let script = start(&bench, SHAPE, group, &[0; 4000], &ops);
        let addr = script.addr(1, 0);
        let mut buf = [0; 200];
        for i in 0..20usize {
            // Longer than the kernel's buffer: the rest is lost.
            let sent = bytes(if i == 19 { 150 } else { i * 5 });
            peer.send_to(&sent, addr).unwrap();
            let (n, from) = recv_from(&peer, &mut buf);
            assert_eq!((n, from), (i * 5, addr));
            assert!(buf[..n] == sent[..n]);
        }
        assert_eq!(recv_from(&peer, &mut buf).0, 3);
        let (results, _) = script.finish();
        for i in 0..20 {
            let len = if i == 19 { 100 } else { i * 5 };
            assert_eq!(results[2 + 2 * i] - 1, len as i64 | i64::from(to.port()) << 32);
        }
        assert_eq!(results[45], failed(Errno::EAGAIN));
    }
    assert_all_free(&bench);
}

/// With a timeout, a signal to the process ends a wait.
#[track_caller]
pub(super) fn recv_from(socket: &UdpSocket, buf: &mut [u8]) -> (usize, SocketAddr) {
    loop {
        match socket.recv_from(buf) {
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            outcome => return outcome.expect("a datagram comes"),
        }
    }
}

/// Two kernels that one daemon serves: what they say goes from ring to ring.
pub fn kernels_talk_to_each_other<P: Policy>(backend: &Backend) {
    // Loaded before any of them runs: a driver may let that wait for what runs in another session.
    let ready = |builder: SessionBuilder| {
        let builder = builder.cache_size(1 << 20).sockets(8).socket_ring(RING).pollers(4);
        builder.preload([conformance_net.name()])
    };
    let Some(bench) = backend.session::<P>(ready) else { return };
    // A device of its own, served by the same daemon. But two devices whose time is not the clock's cannot wait
    // for each other.
    let beside = if bench.session.device().is_deterministic() {
        None
    } else {
        backend.session::<P>(|builder| ready(builder).beside(&bench.session))
    };
    let other = beside.as_ref().unwrap_or(&bench);
    let linked = || {
        let of = |bench: &Bench<P>| bench.session.daemon_stats().net.linked;
        of(&bench) + beside.as_ref().map_or(0, of)
    };
    let len = 20 * RING;
    for group in GROUPS {
        let (server, addr) = listening(
            &bench,
            group,
            &[
                op(ACCEPT, 1).from(0),
                op(RECV_PATTERN, 1).arg(5),
                op(SEND_PATTERN, 1).bytes(0, len).arg(6),
                op(CLOSE, 1),
                op(CLOSE, 0),
            ],
        );
        let before = linked();
        let ops = [
            op(CONNECT, 0).addr(addr),
            op(SEND_PATTERN, 0).bytes(0, len).arg(5),
            op(SHUTDOWN, 0).arg(2),
            op(RECV_PATTERN, 0).arg(6),
            op(CLOSE, 0),
        ];
        let client = start(other, SHAPE, group, &[0], &ops);
        let (values, _) = client.values();
        assert_eq!(values[3], u64::from(len));
        let (values, _) = server.values();
        assert_eq!(values[3], u64::from(len));
        assert_eq!(linked() - before, 2 * u64::from(len), "all of it from ring to ring");
    }
    assert_all_free(&bench);
    assert_all_free(other);
}

/// Launches of one session run side by side: one waits for what a later one does.
pub fn launches_of_one_session_talk<P: Policy>(backend: &Backend) {
    let Some(bench) = bench::<P>(backend, 8) else { return };
    let (server, addr) = listening(
        &bench,
        GROUPS[1],
        &[op(ACCEPT, 1).from(0), op(RECV_PATTERN, 1).arg(5), op(CLOSE, 1), op(CLOSE, 0)],
    );
    let ops = [
        op(CONNECT, 0).addr(addr),
        op(SEND_PATTERN, 0).bytes(0, RING).arg(5),
        op(SHUTDOWN, 0).arg(2),
        op(CLOSE, 0),
    ];
    start(&bench, SHAPE, GROUPS[1], &[0], &ops).values();
    let (values, _) = server.values();
    assert_eq!(values[3], u64::from(RING));
    assert_all_free(&bench);
}

/// Sending and receiving ask nothing of the host but to be woken.
pub fn bytes_cost_no_request<P: Policy>(backend: &Backend) {
    let Some(bench) = bench::<P>(backend, 4) else { return };
    let rounds = 50;
    let mut ops = vec![op(ACCEPT, 1).from(0)];
    for _ in 0..rounds {
        ops.extend([op(RECV_ALL, 1).bytes(0, 4), op(SEND_ALL, 1).bytes(0, 4)]);
    }
    let (script, addr) = listening(&bench, GROUPS[0], &ops);
    let before = bench.session.daemon_stats().requests();
    let mut peer = connect(addr);
    let mut buf = [0; 4];
    for _ in 0..rounds {
        peer.write_all(b"ping").unwrap();
        peer.read_exact(&mut buf).unwrap();
    }
    script.values();
    let stats = bench.session.daemon_stats();
    let wakes = stats.net.taken(gpu_abi::Op::Wake);
    assert_eq!(stats.requests(), before, "no other request");
    assert!(wakes <= rounds, "{wakes} wakes for {rounds} messages");
}

#[track_caller]
pub(super) fn assert_all_free<P: Policy>(bench: &Bench<P>) {
    let until = std::time::Instant::now() + Duration::from_secs(30);
    while bench.session.daemon_stats().net.sockets > 0 {
        assert!(std::time::Instant::now() < until, "a socket is never free again");
        std::thread::sleep(Duration::from_millis(1));
    }
}
