//! Accepting, closing and waking under many schedules of the device's threads. Listeners are the
//! system's, so that the host's part of a failure does not replay exactly; the connections go from ring to
//! ring.

use conformance::device::net::*;
use conformance::host::{Bench, emulated};
use conformance::sockets::{Script, With, failed, op, start};
use conformance::{HashClock, Policy};
use gpu_host::{EmulatedOptions, Mode, Schedule, Session};
use gpunet::Errno;
use std::net::{Ipv4Addr, SocketAddr};

/// How many seeds each test tries.
const SEEDS: u64 = 60;
const RING: u32 = 4096;

fn schedules() -> impl Iterator<Item = Schedule> {
    (0..SEEDS).map(|seed| match seed % 3 {
        0 => Schedule::Random { seed },
        1 => Schedule::Pct { depth: 3, seed },
        _ => Schedule::Pct { depth: 8, seed },
    })
}

fn bench(schedule: Schedule, sockets: u32) -> Bench<HashClock> {
    let options = EmulatedOptions { mode: Mode::Deterministic(schedule), ..emulated() };
    let session = Session::builder()
        .emulated(options)
        .page_size(4096)
        .cache_size(16 << 12)
        .device_memory(64 << 20)
        .sockets(sockets)
        .socket_ring(RING)
        .pollers(2)
        .build()
        .unwrap_or_else(|e| panic!("{e}"));
    Bench { session }
}

/// A server's script; where it listens.
fn serve<P: Policy>(bench: &Bench<P>, ops: &[NetOp]) -> (Script, SocketAddr) {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut all = vec![op(LISTEN, 0).addr(any).arg(8), op(LOCAL, 0)];
    all.extend_from_slice(ops);
    let script = start(bench, (1, 2), 1, &[0; 64], &all);
    let addr = script.addr(1, 0);
    (script, addr)
}

/// Three clients at once; each connection's bytes go both ways through rings that are always full or
/// empty, and each is closed by whoever comes to it first.
#[test]
fn every_byte_arrives_and_every_end_is_seen() {
    for schedule in schedules() {
        let bench = bench(schedule, 8);
        let len = 3 * RING + 5;
        let each = [op(ACCEPT, 1).from(0), op(ECHO, 1), op(CLOSE, 1)];
        let ops: Vec<NetOp> = each.into_iter().cycle().take(9).chain([op(CLOSE, 0)]).collect();
        let (server, addr) = serve(&bench, &ops);
        // Less than both rings hold: the client sends all of it before it receives any.
        let client = [
            op(CONNECT, 0).addr(addr),
            op(SEND_PATTERN, 0).bytes(0, len).arg(9),
            op(SHUTDOWN, 0).arg(2),
            op(RECV_PATTERN, 0).arg(9),
            op(CLOSE, 0),
        ];
        let clients = start(&bench, (3, 2), 1, &[0; 8], &client);
        let (values, _) = clients.values();
        for block in values.chunks(client.len()) {
            assert_eq!(block[3], u64::from(len), "{schedule}");
        }
        let (values, _) = server.values();
        assert_eq!([values[3], values[6], values[9]], [u64::from(len); 3], "{schedule}");
        let net = bench.session.daemon_stats().net;
        assert_eq!(net.linked, 6 * u64::from(len), "{schedule}");
    }
}

/// A listener is closed while clients connect: each is served, refused, or sees the end; no socket is lost.
#[test]
fn a_listener_closes_while_clients_come() {
    for schedule in schedules() {
        let bench = bench(schedule, 8);
        let (server, addr) = serve(&bench, &[op(ACCEPT, 1).from(0), op(CLOSE, 0), op(CLOSE, 1)]);
        let client = [
            op(CONNECT, 0).addr(addr),
            op(TIMEOUT, 0).arg(20_000),
            op(RECV, 0).bytes(0, 1),
            op(CLOSE, 0),
        ];
        let clients = start(&bench, (3, 2), 1, &[0; 8], &client);
        let (results, _) = clients.finish();
        for block in results.chunks(client.len()) {
            let refused = failed(Errno::ECONNREFUSED);
            assert!(block[0] > 0 || block[0] == refused, "{schedule}: {block:?}");
            let reset = [failed(Errno::ECONNRESET), failed(Errno::EBADF)];
            assert!(block[2] == 1 || reset.contains(&block[2]), "{schedule}: {block:?}");
        }
        server.values();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while bench.session.daemon_stats().net.sockets > 0 {
            assert!(std::time::Instant::now() < until, "{schedule}: a socket is lost");
            std::thread::yield_now();
        }
    }
}
