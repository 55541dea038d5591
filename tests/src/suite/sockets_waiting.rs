//! What is begun and finished later, and many sockets that one group waits for.

use super::sockets::{RING, SHAPE, any, assert_all_free, bench, bytes, connect, listening, read};
use crate::Policy;
use crate::device::net::*;
use crate::host::Backend;
use crate::sockets::{GROUPS, With, failed, op, start};
use gpunet::Errno;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Calls that are begun and finished later come to the same as those that are not; what nobody waits for is
/// given up, and no socket of it remains.
pub fn what_is_begun_is_finished_or_given_up<P: Policy>(backend: &Backend) {
    let Some(bench) = bench::<P>(backend, 4) else { return };
    let open = TcpListener::bind(any()).unwrap();
    let refused = TcpListener::bind(any()).unwrap().local_addr().unwrap();
    let full = Full::new();
    for group in GROUPS {
        let ops = [
            op(LISTEN_ASYNC, 0).addr(any()),
            op(LOCAL, 0),
            op(CONNECT_ASYNC, 1).addr(open.local_addr().unwrap()),
            op(SEND_ASYNC, 1).bytes(1000, 20_000),
            op(RECV_ASYNC, 1).bytes(30_000, 100),
            op(CLOSE, 1),
            op(CONNECT_ASYNC, 1).addr(refused),
            // One after the other: each has a place again.
            op(CONNECT_DROP, 1).addr(full.addr).arg(20),
            op(CONNECT_DROP, 1).addr(refused).arg(20),
            op(LOOK_UP_ASYNC, 1).bytes(100, 9).arg(80),
            op(CLOSE, 0),
        ];
        let mut all = bytes(40_000);
        all[100..109].copy_from_slice(b"localhost");
        let script = start(&bench, SHAPE, group, &all, &ops);
        let (mut peer, _) = open.accept().unwrap();
        let mut got = vec![0; 20_000];
        peer.read_exact(&mut got).unwrap();
        assert!(got == all[1000..21_000]);
        peer.write_all(b"and back").unwrap();
        let (results, bytes) = script.finish();
        assert!(results[0] > 0 && results[2] > 0, "{results:?}");
        assert_eq!(results[3..5], [20_001, 9]);
        assert_eq!(&bytes[30_000..30_008], b"and back");
        assert_eq!(results[6], failed(Errno::ECONNREFUSED));
        assert_eq!(results[7..9], [21, 21]);
        assert!(results[9] > 1, "{results:?}");
    }
    assert_all_free(&bench);
}

/// Connections that were made for somebody who did not wait are closed; more than there is room for are
/// `EAGAIN`.
pub fn a_connection_that_nobody_waits_for_is_closed<P: Policy>(backend: &Backend) {
    let Some(bench) = backend
        .session::<P>(|b| b.cache_size(1 << 20).slots(16).sockets(8).socket_ring(RING).pollers(4))
    else {
        return;
    };
    let open = TcpListener::bind(any()).unwrap();
    let to = open.local_addr().unwrap();
    for group in GROUPS {
        let ops = [op(CONNECT_DROP, 0).addr(to).arg(3), op(CONNECT_MANY, 0).addr(to)];
        let (values, _) = start(&bench, SHAPE, group, &[0], &ops).values();
        assert_eq!(values, [3, 4], "a quarter of the slots");
        assert_all_free(&bench);
        open.set_nonblocking(true).unwrap();
        while let Ok((mut peer, _)) = open.accept() {
            peer.set_nonblocking(false).unwrap();
            peer.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            // The end, or a reset: not a timeout.
            let outcome = read(&mut peer, &mut [0]);
            assert!(!matches!(&outcome, Err(e) if e.kind() == ErrorKind::WouldBlock), "still open");
            assert!(outcome.unwrap_or(0) == 0);
        }
    }
}

/// A listener whose queue is full: whoever connects waits.
struct Full {
    addr: SocketAddr,
    _queued: (TcpListener, Vec<TcpStream>),
}

impl Full {
    fn new() -> Full {
        let listener = TcpListener::bind(any()).unwrap();
        // SAFETY: a socket that listens may be told so again, with another backlog.
        unsafe { libc::listen(std::os::fd::AsRawFd::as_raw_fd(&listener), 0) };
        let addr = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        while let Ok(peer) = TcpStream::connect_timeout(&addr, Duration::from_millis(100)) {
            queued.push(peer);
        }
        Full { addr, _queued: (listener, queued) }
    }
}

/// Names are what the system's resolver says they are.
pub fn names_are_looked_up<P: Policy>(backend: &Backend) {
    use std::net::ToSocketAddrs;
    let Some(bench) = bench::<P>(backend, 2) else { return };
    let expected: Vec<SocketAddr> = ("localhost", 80).to_socket_addrs().unwrap().collect();
    for group in GROUPS {
        let name = b"localhost.......................";
        let ops = [
            op(LOOK_UP, 0).bytes(0, 9).arg(80),
            op(LOOK_UP, 0).bytes(9, 9).arg(80),
            op(LOOK_UP, 0).bytes(9, 0),
        ];
        let script = start(&bench, SHAPE, group, name, &ops);
        let addr = script.addr(0, 0);
        assert!(expected.contains(&addr), "{addr} is none of {expected:?}");
        let (results, _) = script.finish();
        assert!(results[0] > 1 && results[1] < 0);
        assert_eq!(results[2], failed(Errno::EINVAL));
    }
}

/// One group waits for many sockets: whichever is ready is an event, once.
pub fn many_are_waited_for<P: Policy>(backend: &Backend) {
    let Some(bench) = bench::<P>(backend, 16) else { return };
    for group in GROUPS {
        // Not `WATCH`: the first may have come by then.
        let mut ops = vec![op(ADD, 0)];
        for i in 1..=8 {
            ops.push(op(WAIT, 0));
            ops.push(op(ACCEPT, i).from(0));
            ops.push(op(ADD, i));
            ops.push(op(ADD, 0));
        }
        // Some of these are of the listener, once more.
        ops.extend([op(WAIT, 0).arg(5), op(CLOSE, 0)]);
        for _ in 0..8 {
            ops.push(op(WAIT, 0));
        }
        ops.push(op(WAIT, 0).arg(5));
        ops.extend((1..=8).map(|i| op(CLOSE, i)));
        let (script, addr) = listening(&bench, group, &ops);
        let mut peers = Vec::new();
        for i in 0..8 {
            peers.push(connect(addr));
            assert_eq!(script.value(3 + 4 * i), 0, "the listener is ready");
            script.value(3 + 4 * i + 3);
        }
        assert_eq!(script.outcome(35), failed(Errno::EAGAIN), "nobody else comes");
        let order = [3, 1, 7, 0, 5, 2, 6, 4];
        for (at, peer) in order.into_iter().enumerate() {
            peers[peer].write_all(b"!").unwrap();
            assert_eq!(script.value(37 + at), peer as u64 + 1);
        }
        let (results, _) = script.finish();
        assert_eq!(results[45], failed(Errno::EAGAIN), "each was an event once");
    }
    assert_all_free(&bench);
}

/// However often a socket is watched, its events are no more than one that nobody has taken, and no event of others
/// is lost.
pub fn watching_again_and_again_loses_nothing<P: Policy>(backend: &Backend) {
    let Some(bench) = bench::<P>(backend, 4) else { return };
    for group in GROUPS {
        let mut ops = vec![op(ACCEPT, 1).from(0), op(ACCEPT, 2).from(0)];
        ops.push(op(RECV_ALL, 2).bytes(0, 1));
        // Ready each time: more events than a queue for four sockets has room for.
        ops.extend([op(ADD, 1); 20]);
        // The host has looked at all of them when it answers what came after them.
        ops.extend([op(ADD, 2), op(NODELAY, 1).arg(1)]);
        ops.extend([op(WAIT, 0), op(WAIT, 0), op(WAIT, 0).arg(5)]);
        let at = 2 + ops.len();
        // As often as there are different watches in 14 bits: the last is not taken for the one that was answered.
        ops.extend([
            op(RECV, 2).bytes(0, 9),
            op(WATCH_OFTEN, 2).arg(1 << 14),
            op(WAIT, 0),
            op(POLL_CLOSE, 0),
            // Another queue, or the same one anew: nobody watches the first any more.
            op(RECV, 2).bytes(0, 9),
            op(ADD, 2),
            op(SEND_ALL, 1).bytes(0, 1),
            op(WAIT, 0),
            op(WAIT, 0).arg(5),
            op(CLOSE, 1),
            op(CLOSE, 2),
            op(CLOSE, 0),
        ]);
        let (script, addr) = listening(&bench, group, &ops);
        let mut first = connect(addr);
        script.value(2);
        let mut second = connect(addr);
        first.write_all(b"!").unwrap();
        second.write_all(b"!").unwrap();
        script.value(at - 4);
        second.write_all(b"?").unwrap();
        assert_eq!([script.value(at - 3), script.value(at - 2)], [1, 2]);
        assert_eq!(script.outcome(at - 1), failed(Errno::EAGAIN), "each was an event once");
        assert_eq!(script.value(at + 1), 0);
        second.write_all(b"?").unwrap();
        assert_eq!(script.value(at + 2), 2);
        let mut byte = [0];
        first.read_exact(&mut byte).unwrap();
        first.write_all(b"of no interest").unwrap();
        second.write_all(b"?").unwrap();
        let (results, _) = script.finish();
        assert_eq!(results[at + 7], 3);
        assert_eq!(results[at + 8], failed(Errno::EAGAIN), "{results:?}");
    }
    assert_all_free(&bench);
}
