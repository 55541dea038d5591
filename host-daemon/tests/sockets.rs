//! Sockets with a mock device at the other end: grants, hostile indices, detaching.

mod common;

use bytemuck::Zeroable;
use common::{CALL, CONFIG, Rig, options};
use gpu_abi::request::CELL_NONE;
use gpu_abi::socket::{Accepted, Datagram, NetAddr, PEER_NAME, state, wake};
use gpu_abi::{Errno, Op, Request};
use host_daemon::{EngineChoice, Grant, NetGrant, Progress, Reach, RegionConfig};
use proptest::prelude::*;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const RING: u32 = 4096;
const SOCKETS: RegionConfig = RegionConfig { sockets: 6, socket_ring: RING, pollers: 2, ..CONFIG };

fn rig(net: NetGrant) -> Rig {
    Rig::new(options(EngineChoice::Pread), SOCKETS, Grant { net, ..Grant::default() })
}

fn loopback() -> NetAddr {
    NetAddr::v4([127, 0, 0, 1], 0)
}

/// What the mock device does with sockets. It keeps no copies of its own indices: it believes the region.
struct Device<'a>(&'a mut Rig);

impl Device<'_> {
    fn with_addr(&mut self, op: Op, addr: NetAddr, path: &[u8], handle: u32) -> Result<u32, Errno> {
        let bytes = [bytemuck::bytes_of(&addr), path].concat();
        self.0.fill(0, &bytes);
        let request =
            Request { offset: 8, ..self.0.with_buffer(op, 0, handle, bytes.len() as u32) };
        self.0.call(request).result().map(|handle| handle as u32)
    }

    fn listen(&mut self) -> (u32, SocketAddr) {
        let handle = self.with_addr(Op::Listen, loopback(), &[], 0).unwrap();
        (handle, self.local(handle))
    }

    fn words(&self, handle: u32) -> &'static gpu_abi::socket::Socket<gpu_abi::HostAtomics> {
        self.0.region.socket(handle & 7).unwrap()
    }

    fn local(&self, handle: u32) -> SocketAddr {
        let words = self.words(handle).names.local.each_ref();
        let words = words.map(|word| word.load(Ordering::Relaxed));
        bytemuck::cast::<_, NetAddr>(words).to_std().unwrap()
    }

    /// Waits until a word of the region is something else than `seen`.
    fn changed(&self, word: &AtomicU32, seen: u32) -> u32 {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let now = word.load(Ordering::Acquire);
            if now != seen {
                return now;
            }
            assert!(Instant::now() < until, "a word stays {seen}");
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    fn accept(&self, listener: u32) -> u32 {
        let words = self.words(listener);
        let head = words.device.rx_head.load(Ordering::Relaxed);
        self.changed(&words.host.rx_tail, head);
        let (_, rx) = self.0.region.socket_rings(listener & 7).unwrap();
        // SAFETY: a record of the ring, which the host has published.
        let record = unsafe { rx.add((head % RING) as usize).cast::<Accepted>().read_unaligned() };
        words.device.rx_head.store(head.wrapping_add(8), Ordering::Release);
        record.handle
    }

    /// A connection to a listener of its own: the peer, and the handle.
    fn connection(&mut self) -> (TcpStream, u32) {
        let (listener, addr) = self.listen();
        let peer = connect(addr);
        (peer, self.accept(listener))
    }

    fn send(&mut self, handle: u32, bytes: &[u8]) {
        let words = self.words(handle);
        let tail = words.device.tx_tail.load(Ordering::Relaxed);
        let (tx, _) = self.0.region.socket_rings(handle & 7).unwrap();
        for (i, byte) in bytes.iter().enumerate() {
            // SAFETY: within the ring.
            unsafe { tx.add(tail.wrapping_add(i as u32) as usize % RING as usize).write(*byte) };
        }
        words.device.tx_tail.store(tail.wrapping_add(bytes.len() as u32), Ordering::Release);
        self.wake(handle, wake::TX);
    }

    fn wake(&mut self, handle: u32, flags: u8) {
        let request =
            Request { op: Op::Wake as u8, flags, cell: CELL_NONE, handle, ..Request::zeroed() };
        self.0.post(request);
        let nop = Request { op: Op::Nop as u8, cell: CALL, ..Request::zeroed() };
        self.0.call(nop);
    }

    fn close(&mut self, handle: u32) -> Result<u64, Errno> {
        let request =
            Request { op: Op::CloseSocket as u8, cell: CALL, handle, ..Request::zeroed() };
        self.0.call(request).result()
    }
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

#[test]
fn n14_a_grant_is_kept_to() {
    let mut none = rig(NetGrant::NONE);
    let listen = |rig: &mut Rig, addr| Device(rig).with_addr(Op::Listen, addr, &[], 0);
    assert_eq!(listen(&mut none, loopback()), Err(Errno::EPERM));
    let mut near = rig(NetGrant { reach: Reach::Loopback, sockets: 2, unix: false });
    let everywhere = NetAddr::v4([0; 4], 0);
    assert_eq!(listen(&mut near, everywhere), Err(Errno::EPERM));
    let far = NetAddr::v4([192, 0, 2, 1], 80);
    assert_eq!(Device(&mut near).with_addr(Op::Connect, far, &[], 0), Err(Errno::EPERM));
    let unix = NetAddr::unix(5);
    assert_eq!(Device(&mut near).with_addr(Op::Connect, unix, b"/none", 0), Err(Errno::EPERM));
    let unbound = NetAddr::unix(0);
    for addr in [unix, unbound] {
        let path = &b"/none"[..addr.path_len as usize];
        assert_eq!(Device(&mut near).with_addr(Op::Bind, addr, path, 0), Err(Errno::EPERM));
    }
    let pair = Request { op: Op::Pair as u8, cell: CALL, ..Request::zeroed() };
    assert_eq!(near.call(pair).result(), Err(Errno::EPERM));
    // Before the handle is looked at.
    let group = NetAddr::v4([239, 1, 2, 3], 0);
    assert_eq!(Device(&mut near).with_addr(Op::Multicast, group, &[], 0), Err(Errno::EPERM));
    assert!(listen(&mut near, loopback()).is_ok() && listen(&mut near, loopback()).is_ok());
    assert_eq!(listen(&mut near, loopback()), Err(Errno::EMFILE));

    let root = tempfile::tempdir().unwrap();
    let grant = Grant { root: Some(root.path().into()), ..Grant::default() };
    let mut rooted = Rig::new(options(EngineChoice::Pread), SOCKETS, grant);
    for op in [Op::Listen, Op::Bind] {
        assert_eq!(Device(&mut rooted).with_addr(op, unix, b"/sock", 0), Err(Errno::EPERM));
    }
    let grant = Grant { read_only: true, ..Grant::default() };
    let mut reading = Rig::new(options(EngineChoice::Pread), SOCKETS, grant);
    for op in [Op::Listen, Op::Bind] {
        assert_eq!(Device(&mut reading).with_addr(op, unix, b"/sock", 0), Err(Errno::EROFS));
    }
    // What makes no file may be had; what is sent there is another matter: the peer's own files say.
    assert!(Device(&mut reading).with_addr(Op::Bind, unbound, &[], 0).is_ok());
    assert!(reading.call(pair).result().is_ok());
}

#[test]
fn n4_an_index_that_cannot_be_ends_that_connection_and_no_other() {
    let mut rig = rig(NetGrant::default());
    let mut device = Device(&mut rig);
    let (listener, addr) = device.listen();
    let (mut bad, mut good) = (connect(addr), connect(addr));
    let (first, second) = (device.accept(listener), device.accept(listener));
    let words = device.words(first);
    words.device.tx_tail.fetch_add(RING + 1, Ordering::Relaxed);
    device.wake(first, wake::TX);
    assert_eq!(words.host.errno.load(Ordering::Acquire), Errno::EPROTO.raw());
    let ended = state::RX_ENDED | state::TX_ENDED;
    assert_eq!(words.host.state.load(Ordering::Acquire) & ended, ended);
    // The other one serves on.
    good.write_all(b"still here").unwrap();
    let words = device.words(second);
    device.changed(&words.host.rx_tail, words.device.rx_head.load(Ordering::Relaxed));
    device.send(second, b"so am I");
    let mut buf = [0; 7];
    good.read_exact(&mut buf).unwrap();
    assert_eq!(&buf, b"so am I");
    device.close(first).unwrap();
    assert_eq!(bad.read(&mut buf).unwrap_or(0), 0);
}

#[test]
fn n4_an_rx_index_that_cannot_be_ends_the_connection() {
    let mut rig = rig(NetGrant::default());
    let mut device = Device(&mut rig);
    let (mut peer, handle) = device.connection();
    let words = device.words(handle);
    words.device.rx_head.fetch_add(7, Ordering::Relaxed);
    peer.write_all(b"x").unwrap();
    assert_eq!(device.changed(&words.host.errno, 0), Errno::EPROTO.raw());
}

/// What has arrived in a socket's rx, from a place on.
fn arrived(rig: &Rig, handle: u32, from: u32) -> Vec<u8> {
    let words = rig.region.socket(handle & 7).unwrap();
    let (_, rx) = rig.region.socket_rings(handle & 7).unwrap();
    let len = words.host.rx_tail.load(Ordering::Acquire).wrapping_sub(from);
    // SAFETY: within the ring.
    (0..len).map(|i| unsafe { rx.add((from.wrapping_add(i) % RING) as usize).read() }).collect()
}

#[test]
fn n6_whoever_is_awake_takes_what_arrives_and_somebody_does_if_nobody_is() {
    let mut rig = rig(NetGrant::default());
    let mut device = Device(&mut rig);
    let (mut peer, handle) = device.connection();
    let words = device.words(handle);
    let (mut seen, mut by_us) = (words.device.rx_head.load(Ordering::Relaxed), 0);
    for round in 0..90u8 {
        let turn = words.host.rx_turn.load(Ordering::Acquire);
        match round / 30 {
            // A worker that polls on.
            0 => {
                rig.client().poll(0);
                peer.write_all(&[round]).unwrap();
                let until = Instant::now() + Duration::from_secs(20);
                while words.host.rx_turn.load(Ordering::Acquire) == turn {
                    by_us += u32::from(matches!(rig.client().poll(0), Progress::Worked(_)));
                    assert!(Instant::now() < until, "round {round}");
                }
            }
            // One that is awake, and does something else.
            1 => {
                rig.client().poll(0);
                peer.write_all(&[round]).unwrap();
                Device(&mut rig).changed(&words.host.rx_turn, turn);
            }
            // One that sleeps, as D4 says.
            _ => {
                let header = rig.region.header();
                while rig.client().poll(0) != Progress::Pending {}
                let bell = header.host.bell.load(Ordering::Relaxed);
                header.device.parked.fetch_add(1, Ordering::SeqCst);
                std::thread::scope(|scope| {
                    scope.spawn(|| rig.client().park_watching(0, bell, Duration::from_secs(20)));
                    peer.write_all(&[round]).unwrap();
                });
                header.device.parked.fetch_sub(1, Ordering::SeqCst);
                assert_ne!(header.host.bell.load(Ordering::Relaxed), bell, "round {round}");
            }
        }
        assert_eq!(arrived(&rig, handle, seen), [round]);
        seen = seen.wrapping_add(1);
        words.device.rx_head.store(seen, Ordering::Release);
    }
    assert!(by_us > 0, "the worker that polls leaves everything to others");
}

#[test]
fn n12_the_end_follows_the_last_byte_even_if_it_came_before_there_was_room() {
    let mut rig = rig(NetGrant::default());
    for len in [0, 5, RING as usize - 1, RING as usize, RING as usize + 1, 3 * RING as usize + 7] {
        let mut device = Device(&mut rig);
        let (listener, addr) = device.listen();
        let mut peer = connect(addr);
        let sent: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
        peer.write_all(&sent).unwrap();
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        let handle = device.accept(listener);
        let words = device.words(handle);
        let mut got = Vec::new();
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let ended = words.host.state.load(Ordering::Acquire) & state::RX_ENDED != 0;
            let head = words.device.rx_head.load(Ordering::Relaxed);
            let bytes = arrived(&rig, handle, head);
            if bytes.is_empty() && ended {
                break;
            }
            got.extend_from_slice(&bytes);
            words.device.rx_head.store(head.wrapping_add(bytes.len() as u32), Ordering::Release);
            std::sync::atomic::fence(Ordering::SeqCst);
            if words.host.rx_sleeps.load(Ordering::Relaxed) != 0 {
                Device(&mut rig).wake(handle, wake::RX);
            }
            assert!(Instant::now() < until, "{len} bytes: {} have come", got.len());
        }
        assert!(got == sent, "{len} bytes");
        Device(&mut rig).close(handle).unwrap();
        Device(&mut rig).close(listener).unwrap();
    }
}

#[test]
fn n2_handles_end_when_closed_and_forged_ones_are_none() {
    let mut rig = rig(NetGrant::default());
    let mut device = Device(&mut rig);
    let (listener, addr) = device.listen();
    let mut peer = connect(addr);
    let handle = device.accept(listener);
    device.close(handle).unwrap();
    for forged in [0, 1, 7, handle, handle + 8, u32::MAX, listener + 8] {
        assert_eq!(device.close(forged), Err(Errno::EBADF), "{forged}");
        device.wake(forged, wake::TX | wake::RX | wake::WATCH);
    }
    assert_eq!(peer.read(&mut [0; 4]).unwrap(), 0);
    device.close(listener).unwrap();
    assert!(TcpStream::connect(addr).is_err(), "nobody listens any more");
}

#[test]
fn n8_connections_that_nobody_took_are_closed_with_their_listener() {
    let mut rig = rig(NetGrant::default());
    let mut device = Device(&mut rig);
    let (listener, addr) = device.listen();
    let mut peers = [connect(addr), connect(addr), connect(addr)];
    let words = device.words(listener);
    let head = words.device.rx_head.load(Ordering::Relaxed);
    while words.host.rx_tail.load(Ordering::Acquire) != head.wrapping_add(24) {
        std::thread::sleep(Duration::from_micros(100));
    }
    let taken = device.accept(listener);
    device.close(listener).unwrap();
    for peer in &mut peers[1..] {
        assert_eq!(peer.read(&mut [0; 4]).unwrap(), 0);
    }
    device.send(taken, b"mine");
    let mut buf = [0; 4];
    peers[0].read_exact(&mut buf).unwrap();
    assert_eq!(&buf, b"mine");
}

#[test]
fn n10_a_datagram_that_cannot_be_ends_its_socket() {
    let mut rig = rig(NetGrant::default());
    let mut device = Device(&mut rig);
    let handle = device.with_addr(Op::Bind, loopback(), &[], 0).unwrap();
    let head = Datagram::new(60_000, loopback());
    device.send(handle, bytemuck::bytes_of(&head));
    assert_eq!(device.words(handle).host.errno.load(Ordering::Acquire), Errno::EPROTO.raw());
    // Paths that reach behind what was sent, that are longer than any, or that are none.
    for (path_len, errno) in [(30, Errno::EPROTO), (109, Errno::EPROTO), (8, Errno::EINVAL)] {
        let handle = device.with_addr(Op::Bind, NetAddr::unix(0), &[], 0).unwrap();
        let head = Datagram::new(8, NetAddr::unix(path_len));
        let sent = [bytemuck::bytes_of(&head), &[0; 16]].concat();
        device.send(handle, &sent);
        assert_eq!(device.words(handle).host.errno.load(Ordering::Acquire), errno.raw());
    }
}

#[test]
fn n17_names_and_options_are_told_of_sockets_only() {
    let mut rig = rig(NetGrant::default());
    let (listener, addr) = Device(&mut rig).listen();
    let name = |handle, cell| Request { op: Op::Name as u8, cell, handle, ..Request::zeroed() };
    assert_eq!(rig.call(name(listener, 0)).result(), Ok(size_of::<NetAddr>() as u64));
    let bytes = rig.bytes(0, size_of::<NetAddr>());
    assert_eq!(bytemuck::pod_read_unaligned::<NetAddr>(&bytes).to_std(), Some(addr));
    // A call cell has no slot to be filled.
    assert_eq!(rig.call(name(listener, CALL)).result(), Err(Errno::EFAULT));
    assert_eq!(rig.call(name(listener + 8, 0)).result(), Err(Errno::EBADF));
    let peer = Request { flags: PEER_NAME, ..name(listener, 0) };
    assert_eq!(rig.call(peer).result(), Err(Errno::ENOTCONN));
    let unknown = Request { flags: 2, ..name(listener, 0) };
    assert_eq!(rig.call(unknown).result(), Err(Errno::EINVAL));
    let option = Request { op: Op::GetOption as u8, len: 99, ..name(listener, CALL) };
    assert_eq!(rig.call(option).result(), Err(Errno::ENOPROTOOPT));
}

#[test]
fn h3_nothing_is_written_after_detaching_and_peers_see_the_end() {
    let mut rig = rig(NetGrant::default());
    let (peer, words) = {
        let mut device = Device(&mut rig);
        let (peer, handle) = device.connection();
        (peer, device.words(handle))
    };
    let mut peer = peer;
    rig.client.take();
    let before = words.host.rx_tail.load(Ordering::Relaxed);
    let _ = peer.write_all(b"too late");
    let ended = peer.read(&mut [0; 4]);
    assert!(matches!(ended, Ok(0) | Err(_)));
    assert_eq!(words.host.rx_tail.load(Ordering::Relaxed), before);
}

#[test]
fn n9_a_connection_is_made_or_refused_with_the_reason() {
    let mut rig = rig(NetGrant::default());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    let mut device = Device(&mut rig);
    let handle = device.with_addr(Op::Connect, addr.into(), &[], 0).unwrap();
    let (mut peer, from) = listener.accept().unwrap();
    assert_eq!(device.local(handle), from);
    device.send(handle, b"hello");
    device.close(handle).unwrap();
    let mut all = String::new();
    peer.read_to_string(&mut all).unwrap();
    assert_eq!(all, "hello", "what was sent goes out before the end");
    drop(listener);
    let refused = device.with_addr(Op::Connect, addr.into(), &[], 0);
    assert_eq!(refused, Err(Errno::ECONNREFUSED));
}

#[test]
fn n16_what_is_given_up_is_answered_at_once() {
    let mut rig = rig(NetGrant::default());
    // A listener whose queue is full: connecting takes minutes.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    // SAFETY: a socket that listens may be told so again, with another backlog.
    unsafe { libc::listen(std::os::fd::AsRawFd::as_raw_fd(&listener), 0) };
    let addr = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(peer) = TcpStream::connect_timeout(&addr, Duration::from_millis(100)) {
        queued.push(peer);
    }
    let device = Device(&mut rig);
    let to = NetAddr::from(addr);
    device.0.fill(0, bytemuck::bytes_of(&to));
    let connect = device.0.with_buffer(Op::Connect, 0, 0, size_of::<NetAddr>() as u32);
    let asked = device.0.post(connect);
    let cancel = |(cell, tag): (u32, u32)| Request {
        op: Op::Cancel as u8,
        cell: CALL,
        len: cell,
        offset: tag.into(),
        ..Request::zeroed()
    };
    // Another request's tag, and a cell of which nothing is asked.
    let (cell, tag) = asked;
    for other in [(cell, tag.wrapping_add(1)), (cell + 1, tag), (u32::MAX, tag)] {
        assert_eq!(device.0.call(cancel(other)).result(), Ok(0));
    }
    assert_eq!(device.0.client().stats().net.taken(Op::Cancel), 3);
    assert_eq!(device.0.call(cancel(asked)).result(), Ok(0));
    assert_eq!(device.0.wait(asked).result(), Err(Errno::ECANCELED));
    // Its place is free again: all six can be had.
    for _ in 0..6 {
        let (mut device, addr) = (Device(&mut *device.0), loopback());
        device.with_addr(Op::Bind, addr, &[], 0).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..Default::default() })]
    /// Whatever the device writes into its words, and whatever it asks for, the daemon goes on, and
    /// another client's connection is served.
    #[test]
    fn n4_no_words_of_the_device_break_the_daemon(
        steps in proptest::collection::vec((0u8..9, 0u32..8, any::<u32>(), any::<u64>()), 1..60),
    ) {
        let mut wild = rig(NetGrant { reach: Reach::Loopback, ..NetGrant::default() });
        let addr = {
            let mut device = Device(&mut wild);
            let (_, addr) = device.listen();
            device.with_addr(Op::Bind, loopback(), &[], 0).ok();
            addr
        };
        let mut peers = Vec::new();
        for (what, index, value, wide) in steps {
            let Some(words) = wild.region.socket(index % 6) else { unreachable!() };
            let near = words.device.tx_tail.load(Ordering::Relaxed).wrapping_add(value % 5000);
            match what {
                0 => words.device.tx_tail.store(near, Ordering::Release),
                1 => words.device.tx_tail.store(value, Ordering::Release),
                2 => words.device.rx_head.store(value, Ordering::Release),
                3 => words.device.watch.store(wide, Ordering::Release),
                4 => wild.region.queue(index % 2).unwrap().device.head.store(value, Ordering::Release),
                5 => {
                    let handle = words.host.handle.load(Ordering::Relaxed);
                    let flags = (value % 8) as u8;
                    Device(&mut wild).wake(handle, flags);
                }
                6 => {
                    let handle = words.host.handle.load(Ordering::Relaxed);
                    let mut request: Request = bytemuck::cast([wide; 8]);
                    request.op = 32 + (value % 14) as u8;
                    request.cell = CALL;
                    (request.flags, request.reserved0, request.path_len) = ((wide % 4) as u8, 0, 0);
                    (request.reserved, request.handle) = ([0; 5], handle);
                    request.window = 0;
                    wild.call(request);
                }
                // Not for long, if its listener has been spoilt.
                7 => peers.push(TcpStream::connect_timeout(&addr, Duration::from_millis(20))),
                _ => {
                    if let Some(Ok(peer)) = peers.last_mut() {
                        let _ = peer.write_all(&[7; 5000][..(value % 5000) as usize]);
                    }
                }
            }
        }
        let mut calm = rig(NetGrant::default());
        let mut device = Device(&mut calm);
        let (mut peer, handle) = device.connection();
        device.send(handle, b"unharmed");
        let mut buf = [0; 8];
        peer.read_exact(&mut buf).unwrap();
        prop_assert_eq!(&buf, b"unharmed");
    }
}
