//! Unix sockets, at every granularity, with `std::os::unix::net` at the other end.

use super::sockets::{RING, SHAPE, assert_all_free, bench, bytes};
use crate::Policy;
use crate::device::net::*;
use crate::host::Backend;
use crate::sockets::{GROUPS, With, failed, op, start};
use gpunet::Errno;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

fn path_bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_encoded_bytes()
}

/// Kernels listen and connect; both ends are called what std says they are.
pub fn unix_streams<P: Policy>(backend: &Backend) {
    let Some(bench) = bench::<P>(backend, 4) else { return };
    let dir = tempfile::tempdir().unwrap();
    for group in GROUPS {
        let path = |name: &str| dir.path().join(format!("{name}{group}"));
        let (ours, theirs, named) = (path("ours"), path("theirs"), path("named"));
        let listener = UnixListener::bind(&theirs).unwrap();
        let (a, b) = (path_bytes(&ours), path_bytes(&theirs));
        let mut all = [a, b].concat();
        let len = |path: &[u8]| path.len() as u32;
        all.resize(2000, 0);
        let ops = [
            op(LISTEN_UNIX, 0).bytes(0, len(a)),
            op(ACCEPT, 1).from(0).arg(1),
            op(PEER_UNIX, 1),
            op(LOCAL_UNIX, 1).bytes(1000, 0),
            op(ECHO, 1),
            op(CLOSE, 1),
            op(ACCEPT_UNIX, 1).from(0).bytes(1200, 0),
            op(CLOSE, 1),
            op(CONNECT_UNIX, 2).bytes(a.len() as u64, len(b)),
            op(PEER_UNIX, 2).bytes(1400, 0),
            op(LOCAL_UNIX, 2),
            op(LOCAL_UNIX, 0).bytes(1600, 0),
            op(SEND_ALL, 2).bytes(0, 9),
            op(CLOSE, 2),
            op(CLOSE, 0),
        ];
        let script = start(&bench, SHAPE, group, &all, &ops);
        script.value(0);
        let mut peer = UnixStream::connect(&ours).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        peer.write_all(b"over and back").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        let mut got = Vec::new();
        peer.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"over and back");
        // An end that has a name is rare: std cannot make one that connects.
        drop(connect_from(&named, &ours));
        let mut got = Vec::new();
        let mut peer = listener.accept().unwrap().0;
        peer.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        peer.read_to_end(&mut got).unwrap();
        assert_eq!(got, all[..9]);
        let (values, bytes) = script.values();
        let at = |at: usize, path: &[u8]| assert_eq!(&bytes[at..at + path.len()], path);
        assert_eq!(values[2], 0, "who connects has no name");
        assert_eq!([values[3], values[11]], [a.len() as u64; 2]);
        assert_eq!([values[4], values[10]], [13, 0]);
        assert_eq!(values[6], path_bytes(&named).len() as u64);
        assert_eq!(values[9], b.len() as u64);
        at(1000, a);
        at(1200, path_bytes(&named));
        at(1400, b);
        at(1600, a);
    }
    assert_all_free(&bench);
}

/// A stream from a socket that has a name itself.
fn connect_from(from: &Path, to: &Path) -> socket2::Socket {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    socket.bind(&socket2::SockAddr::unix(from).unwrap()).unwrap();
    socket.connect(&socket2::SockAddr::unix(to).unwrap()).unwrap();
    socket
}

/// Datagrams arrive whole, with their sender's path; none is lost, however slow their receiver is.
pub fn unix_datagrams<P: Policy>(backend: &Backend) {
    let Some(bench) = bench::<P>(backend, 4) else { return };
    let dir = tempfile::tempdir().unwrap();
    for group in GROUPS {
        let path = |name: &str| dir.path().join(format!("{name}{group}"));
        let (ours, theirs) = (path("ours"), path("theirs"));
        let peer = UnixDatagram::bind(&theirs).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let (a, b) = (path_bytes(&ours), path_bytes(&theirs));
        let mut all = [a, b].concat();
        all.resize(8000, 0);
        all[1000..4000].copy_from_slice(&bytes(3000));
        let len = |path: &[u8]| path.len() as u32;
        let to = a.len() as u64 | (b.len() as u64) << 32;
        let mut ops = vec![
            op(BIND_UNIX, 0).bytes(0, len(a)),
            op(LOCAL_UNIX, 0).bytes(7000, 0),
            op(PEER_UNIX, 0),
            op(RECV_UNIX, 0).bytes(4000, 100).arg(7200),
            op(RECV_UNIX, 0).bytes(4100, 3).arg(7400),
            op(SEND_UNIX, 0).bytes(1000, 9).arg(to),
            op(SEND_UNIX, 0).bytes(1000, 0).arg(to),
        ];
        // More than the receiver's queue and the ring hold together: it reads when it is told that they wait.
        ops.extend((0..200).map(|i| op(SEND_UNIX, 0).bytes(1000 + i, 500).arg(to)));
        ops.extend([
            op(SET_PEER_UNIX, 0).bytes(a.len() as u64, len(b)),
            op(PEER_UNIX, 0).bytes(7600, 0),
            op(SEND_UNIX, 0).bytes(1000, 5),
            op(CLOSE, 0),
            op(BIND_UNIX, 1),
            op(LOCAL_UNIX, 1),
            op(SEND_UNIX, 1).bytes(1000, 7).arg(to),
            op(CLOSE, 1),
        ]);
        let script = start(&bench, SHAPE, group, &all, &ops);
        script.value(0);
        peer.send_to(b"named", &ours).unwrap();
        UnixDatagram::unbound().unwrap().send_to(b"unnamed", &ours).unwrap();
        let mut buf = [0; 600];
        let mut recv = || {
            let (n, from) = loop {
                match peer.recv_from(&mut buf) {
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    outcome => break outcome.unwrap(),
                }
            };
            (buf[..n].to_vec(), from.as_pathname().map(Path::to_owned))
        };
        let from_ours = Some(ours.clone());
        assert_eq!(recv(), (bytes(9), from_ours.clone()));
        assert_eq!(recv(), (vec![], from_ours.clone()));
        // By then the queue has been full for a while.
        std::thread::sleep(Duration::from_millis(20));
        // Of two senders neither waits for the other.
        let (from_nobody, mut others): (Vec<_>, Vec<_>) =
            (0..202).map(|_| recv()).partition(|(_, from)| from.is_none());
        assert_eq!(from_nobody, [(bytes(7), None)]);
        assert_eq!(others.pop(), Some((bytes(5), from_ours.clone())));
        for (i, got) in others.into_iter().enumerate() {
            assert!(got == (bytes(3000)[i..i + 500].to_vec(), from_ours.clone()), "datagram {i}");
        }
        let (results, bytes) = script.finish();
        let at = |at: usize, path: &[u8]| assert_eq!(&bytes[at..at + path.len()], path);
        assert_eq!(results[1] - 1, a.len() as i64);
        assert_eq!(results[2], failed(Errno::ENOTCONN));
        assert_eq!(results[3] - 1, 5 | (b.len() as i64) << 32);
        assert_eq!(results[4] - 1, 3, "cut, and from nobody");
        assert_eq!(results[208] - 1, b.len() as i64);
        assert_eq!(results[212], 1, "it has no name");
        at(4000, b"namedunn"[..5].as_ref());
        at(4100, b"unn");
        at(7000, a);
        at(7200, b);
        at(7600, b);
    }
    assert_all_free(&bench);
}

/// Pairs, and what the system says of paths.
pub fn unix_pairs_and_errors<P: Policy>(backend: &Backend) {
    let Some(bench) = bench::<P>(backend, 4) else { return };
    let dir = tempfile::tempdir().unwrap();
    let taken = dir.path().join("taken");
    let _taken = UnixDatagram::bind(&taken).unwrap();
    let path = path_bytes(&taken);
    for group in GROUPS {
        let mut all = path.to_vec();
        all.resize(8000, b'x');
        let ops = [
            op(PAIR, 0).from(1),
            op(SEND_ALL, 0).bytes(1000, RING / 2),
            op(RECV_ALL, 1).bytes(5000, RING / 2),
            op(SHUTDOWN, 1).arg(2),
            op(RECV, 0).bytes(0, 1),
            op(PEER_UNIX, 0),
            op(CLOSE, 0),
            op(RECV, 1).bytes(0, 1),
            op(CLOSE, 1),
            op(PAIR, 0).from(1).arg(1),
            op(SEND_UNIX, 0).bytes(0, 20),
            op(SEND_UNIX, 0).bytes(0, 30),
            op(RECV_UNIX, 1).bytes(4000, 99).arg(4000),
            op(RECV_UNIX, 1).bytes(4000, 99).arg(4000),
            // Two of four are left.
            op(PAIR, 2).from(3),
            op(PAIR, 4).from(5),
            op(BIND_UNIX, 4).bytes(0, path.len() as u32),
            op(CLOSE, 0),
            op(CLOSE, 1),
            op(CLOSE, 2),
            op(CLOSE, 3),
        ];
        let (results, bytes) = start(&bench, SHAPE, group, &all, &ops).finish();
        assert!(bytes[5000..7048] == bytes[1000..3048]);
        assert_eq!(results[1..3], [2049; 2]);
        assert_eq!(results[4..6], [1, 1], "the end, and no name");
        assert_eq!(results[7], 1);
        assert_eq!([results[12], results[13]], [21, 31], "each whole");
        assert_eq!(results[14], 1);
        assert_eq!([results[15], results[16]], [failed(Errno::EMFILE); 2]);
        assert_all_free(&bench);
        let ops = [
            op(BIND_UNIX, 0).bytes(0, path.len() as u32),
            op(BIND_UNIX, 0).bytes(0, 0).arg(1),
            op(BIND_UNIX, 0).bytes(1000, 108),
            op(BIND_UNIX, 0),
            op(SEND_UNIX, 0).bytes(0, 5).arg(1000 | 108 << 32),
            op(SEND_UNIX, 0).bytes(0, 4090).arg((path.len() as u64) << 32),
            op(SET_PEER_UNIX, 0).bytes(1000, 20),
            op(CLOSE, 0),
        ];
        let (results, _) = start(&bench, SHAPE, group, &all, &ops).finish();
        let expected = [
            failed(Errno::EADDRINUSE),
            failed(Errno::EINVAL),
            failed(Errno::ENAMETOOLONG),
            1,
            failed(Errno::ENAMETOOLONG),
            failed(Errno::EMSGSIZE),
            failed(Errno::ENOENT),
            1,
        ];
        assert_eq!(results, expected);
    }
    assert_all_free(&bench);
}
