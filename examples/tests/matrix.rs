//! The matrix server: its products against the host's, and what it makes of requests that are none.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use gpu_examples::serve::Running;
use gpu_host::{DeviceBuffer, EmulatedOptions, LaunchConfig, Session};
use gpu_kernels::matrix::{FAILED, Matrix, PRODUCTS, SCRATCH, SIDE_MAX, matrix};

const BLOCKS: u32 = 2;

struct Server {
    session: Session,
    running: Option<Running>,
    addr: SocketAddr,
    _scratch: DeviceBuffer<f32>,
}

impl Server {
    /// Rings that most requests do not fit into.
    fn start() -> Server {
        let session = Session::builder()
            .emulated(EmulatedOptions { workers: 1, ..EmulatedOptions::default() })
            .sockets(16)
            .socket_ring(4 << 10)
            .build()
            .unwrap();
        let scratch = session.alloc::<f32>(BLOCKS as usize * SCRATCH).unwrap();
        let addr = (Ipv4Addr::LOCALHOST, 0).into();
        let shape = LaunchConfig::new(BLOCKS, 8);
        let running = Running::start(&session, &matrix, shape, addr, |server| Matrix {
            server,
            scratch: scratch.slice(),
        })
        .unwrap();
        let addr = running.addr;
        Server { session, running: Some(running), addr, _scratch: scratch }
    }

    fn connect(&self) -> TcpStream {
        connect(self.addr)
    }

    /// Connections that were taken, and the server's counters.
    fn end(mut self) -> (u64, [u64; 8]) {
        self.session.ask_to_end();
        self.running.take().unwrap().wait().unwrap()
    }
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// Small whole numbers: their sums are exact in `f32`, whatever the order.
fn values(seed: u32, count: usize) -> Vec<f32> {
    (0..count as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 28) as f32 - 7.0)
        .collect()
}

fn request(side: usize, both: &[f32]) -> Vec<u8> {
    [&(side as u32).to_le_bytes()[..], bytemuck::cast_slice(both)].concat()
}

fn product(side: usize, both: &[f32]) -> Vec<f32> {
    let (a, b) = both.split_at(side * side);
    let at = |i: usize| {
        let (row, column) = (i / side, i % side);
        (0..side).map(|k| a[row * side + k] * b[k * side + column]).sum()
    };
    (0..side * side).map(at).collect()
}

/// Asks for one product and compares it with the host's.
fn ask(stream: &mut TcpStream, side: usize, seed: u32) {
    let both = values(seed, 2 * side * side);
    stream.write_all(&request(side, &both)).unwrap();
    let mut got = vec![0f32; side * side];
    stream.read_exact(bytemuck::cast_slice_mut(&mut got)).unwrap();
    assert!(got == product(side, &both), "side {side}, seed {seed}");
}

/// What comes back: bytes until the end, or until a reset.
fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Err(e) if e.kind() != ErrorKind::ConnectionReset => panic!("{e}"),
        _ => all,
    }
}

#[test]
fn products_are_right() {
    let server = Server::start();
    let mut stream = server.connect();
    let sides = [1, 2, 7, 8, 9, 33, 64];
    for (i, side) in sides.into_iter().enumerate() {
        ask(&mut stream, side, i as u32);
    }
    // Two at once on one connection.
    let (a, b) = (values(1, 2 * 25), values(2, 2 * 9));
    stream.write_all(&[request(5, &a), request(3, &b)].concat()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let expected = [product(5, &a), product(3, &b)].concat();
    assert!(rest(stream) == bytemuck::cast_slice::<f32, u8>(&expected));
    let (taken, counts) = server.end();
    assert_eq!((taken, counts[PRODUCTS], counts[FAILED]), (1, sides.len() as u64 + 2, 0));
}

#[test]
fn the_largest_is_served_and_larger_ones_are_not() {
    let server = Server::start();
    // Every value 1: each of the product's is the side.
    let both = vec![1f32; 2 * SIDE_MAX * SIDE_MAX];
    let mut stream = server.connect();
    stream.write_all(&request(SIDE_MAX, &both)).unwrap();
    let mut got = vec![0f32; SIDE_MAX * SIDE_MAX];
    stream.read_exact(bytemuck::cast_slice_mut(&mut got)).unwrap();
    assert!(got.iter().all(|value| *value == SIDE_MAX as f32));
    drop(stream);
    for side in [0, SIDE_MAX as u32 + 1, u32::MAX, 1 << 31] {
        let mut stream = server.connect();
        stream.write_all(&side.to_le_bytes()).unwrap();
        assert!(rest(stream).is_empty(), "side {side}");
    }
    let (taken, counts) = server.end();
    assert_eq!((taken, counts[PRODUCTS], counts[FAILED]), (5, 1, 4));
}

#[test]
fn what_is_cut_or_garbage_ends_its_connection_alone() {
    let server = Server::start();
    let whole = request(9, &values(3, 2 * 81));
    let mut honest = server.connect();
    ask(&mut honest, 12, 1);
    // Nothing, a part of the side, the side alone, a part of the matrices, all but a byte.
    for cut in [0, 1, 3, 4, 5, whole.len() / 2, whole.len() - 1] {
        let mut stream = server.connect();
        stream.write_all(&whole[..cut]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert!(rest(stream).is_empty(), "cut after {cut}");
    }
    let mut stream = server.connect();
    // The server may be gone before all of it is sent.
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: nobody here\r\n\r\n".repeat(100).as_slice());
    assert!(rest(stream).is_empty());
    ask(&mut honest, 12, 2);
    drop(honest);
    let (taken, counts) = server.end();
    // The end where a request would begin is no failure.
    assert_eq!((taken, counts[PRODUCTS], counts[FAILED]), (9, 2, 7));
}

#[test]
fn more_connections_than_blocks_take_their_turn() {
    let server = Server::start();
    let clients: u32 = 24;
    std::thread::scope(|scope| {
        for client in 0..clients {
            let addr = server.addr;
            scope.spawn(move || {
                let mut stream = connect(addr);
                for round in 0..3 {
                    ask(&mut stream, 1 + (client as usize * 5 + round) % 20, client);
                }
            });
        }
    });
    let (taken, counts) = server.end();
    assert_eq!(
        (taken, counts[PRODUCTS], counts[FAILED]),
        (clients.into(), 3 * u64::from(clients), 0)
    );
}
