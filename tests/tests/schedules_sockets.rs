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
use std::time::{Duration, Instant};

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
        all_free(&bench, schedule);
    }
}

/// Connections are begun; some are waited for, others given up while they are made. Each that was made is closed
/// or used, and none is lost.
#[test]
fn what_is_given_up_is_closed() {
    for schedule in schedules() {
        let bench = bench(schedule, 16);
        let each = [op(ACCEPT, 1).from(0), op(ECHO, 1), op(CLOSE, 1)];
        let ops: Vec<NetOp> = each.into_iter().cycle().take(12).chain([op(CLOSE, 0)]).collect();
        let (server, addr) = serve(&bench, &ops);
        let client = [
            op(CONNECT_DROP, 0).addr(addr).arg(1),
            op(CONNECT_ASYNC, 0).addr(addr),
            op(SEND_ASYNC, 0).bytes(0, 100),
            op(RECV_ASYNC, 0).bytes(0, 1),
            op(CLOSE, 0),
        ];
        let (values, _) = start(&bench, (2, 2), 1, &[0; 128], &client).values();
        for block in values.chunks(client.len()) {
            assert_eq!(block[2..4], [100, 1], "{schedule}");
        }
        let (results, _) = server.finish();
        let echoed: Vec<i64> = (0..4).map(|i| results[3 + 3 * i]).collect();
        assert_eq!(echoed.iter().filter(|n| **n == 1).count(), 2, "{schedule}: {echoed:?}");
        all_free(&bench, schedule);
    }
}

/// Three groups share a queue and serve whoever is ready, several clients come and go; every wait is for ever, so
/// that an event that is lost is a test that does not end.
#[test]
fn every_event_comes_to_somebody() {
    for (i, schedule) in schedules().enumerate() {
        // Every other time, waits end by themselves and are begun anew.
        let patience = if i % 2 == 0 { 0 } else { 1 };
        let bench = bench(schedule, 16);
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let ops = [
            op(SERVE_START, 0).bytes(0, 64).addr(any),
            op(LOCAL, 0).bytes(64, 32),
            op(SERVE, 0).arg(patience),
        ];
        let servers = start(&bench, (3, 2), 1, &[0; 96], &ops);
        let addr = servers.addr(1, 64);
        let one = [
            op(CONNECT, 0).addr(addr),
            op(SEND_ALL, 0).bytes(0, 700),
            op(RECV_ALL, 0).bytes(1000, 700),
            op(SEND_ALL, 0).bytes(100, 3),
            op(RECV_ALL, 0).bytes(2000, 3),
            op(CLOSE, 0),
        ];
        let client: Vec<NetOp> = one.into_iter().chain(one).collect();
        let sent: Vec<u8> = (0..3000u32).map(|i| if i < 1000 { i as u8 } else { 0 }).collect();
        let (values, bytes) = start(&bench, (4, 2), 1, &sent, &client).values();
        for block in values.chunks(one.len()) {
            assert_eq!(block[1..5], [700, 700, 3, 3], "{schedule}");
        }
        assert!(bytes[1000..1700] == sent[..700] && bytes[2000..2003] == sent[100..103]);
        // Every connection ends before the servers are asked to.
        let until = Instant::now() + Duration::from_secs(20);
        while bench.session.daemon_stats().net.sockets > 1 {
            assert!(Instant::now() < until, "{schedule}: an end was never served");
            std::thread::yield_now();
        }
        bench.session.ask_to_end();
        let (values, _) = servers.values();
        let closed: u64 = values.chunks(ops.len()).map(|block| block[2]).sum();
        // Two groups may see the same end: what a socket was told of twice comes to both.
        assert!(closed >= 8, "{schedule}: {closed}");
    }
}

/// A socket is closed while it is watched, and its place is another's that is watched, too; the queue is given back
/// and taken anew; and what waits for room hears of it.
#[test]
fn what_is_watched_may_be_closed() {
    for schedule in schedules() {
        let bench = bench(schedule, 8);
        let (server, addr) = serve(
            &bench,
            &[
                op(ADD, 0),
                op(WAIT, 0),
                op(ACCEPT, 1).from(0),
                op(ADD, 1),
                op(CLOSE, 1),
                op(ACCEPT, 1).from(0),
                op(ADD, 1),
                op(WAIT, 0),
                op(RECV, 1).bytes(0, 10),
                op(ADD, 1),
                op(POLL_CLOSE, 0),
                // The queue is the same as before; nobody watches the first by it.
                op(ACCEPT, 2).from(0),
                op(ADD, 2),
                op(WAIT, 0),
                op(CLOSE, 1),
                op(RECV, 2).bytes(0, 10),
                // Room: there is none for so much before the client has received some.
                op(SEND_PATTERN, 2).bytes(0, 2 * RING).arg(3),
                op(ADD_ROOM, 2).arg(RING.into()),
                op(WAIT, 0),
                op(CLOSE, 2),
                op(WAIT, 0).arg(1),
                op(CLOSE, 0),
            ],
        );
        let greet = |s, len| [op(CONNECT, s).addr(addr), op(SEND_ALL, s).bytes(0, len)];
        let mut client = vec![op(CONNECT, 0).addr(addr)];
        client.extend(greet(1, 1));
        // The second time the queue has nothing to do with it.
        client.extend([op(SEND_ALL, 1).bytes(0, 1)]);
        client.extend(greet(2, 2));
        client.extend([op(RECV_PATTERN, 2).arg(3), op(CLOSE, 0), op(CLOSE, 1), op(CLOSE, 2)]);
        let (results, _) = start(&bench, (1, 2), 1, &[0; 64], &client).finish();
        assert_eq!(results[6], i64::from(2 * RING) + 1, "{schedule}: {results:?}");
        let (results, _) = server.finish();
        assert_eq!(results[3], 1, "{schedule}: the listener");
        // What it accepts after that may be an event of the listener's once more.
        assert!([1, 2].contains(&results[9]), "{schedule}: {results:?}");
        assert!(results[10] > 1, "{schedule}: {results:?}");
        assert_eq!([results[15], results[20]], [3, 3], "{schedule}: {results:?}");
        assert_eq!(results[17], 3, "{schedule}: {results:?}");
        assert_eq!(results[22], failed(Errno::EAGAIN), "{schedule}: {results:?}");
        all_free(&bench, schedule);
    }
}

#[track_caller]
fn all_free(bench: &Bench<HashClock>, schedule: Schedule) {
    let until = Instant::now() + Duration::from_secs(20);
    while bench.session.daemon_stats().net.sockets > 0 {
        assert!(Instant::now() < until, "{schedule}: a socket is lost");
        std::thread::yield_now();
    }
}
