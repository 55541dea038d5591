//! Scripts of socket operations, done one after the other by one group.

mod options;
mod serve;
mod unix;

use bytemuck::{Pod, Zeroable};
use core::time::Duration;
use gpu_rt::atomic::{DeviceAtomicU64, Ordering};
use gpu_rt::{Block, Group, Thread, Warp, kernel, thread};
use gpunet::{
    DeviceSlice, Errno, Interest, Net, NetAddr, Poll, Shutdown, Socket, TcpListener, TcpStream,
    UdpSocket, UnixListener, UnixStream,
};

use crate::ops::{GROUP_BLOCK, GROUP_THREAD};

/// `s` listens at `addr`, with a backlog of `arg`.
pub const LISTEN: u32 = 1;
/// `s` takes a connection from `t`, a Unix listener if `arg` is not 0.
pub const ACCEPT: u32 = 2;
/// `s` connects to `addr`, for `arg` milliseconds at most if that is not 0.
pub const CONNECT: u32 = 3;
/// Receives once, at most `len` bytes.
pub const RECV: u32 = 4;
/// Receives until `len` bytes have come, or the end.
pub const RECV_ALL: u32 = 5;
/// Receives through a view, which takes at most `len` bytes.
pub const RECV_VIEW: u32 = 6;
/// Sends once.
pub const SEND: u32 = 7;
/// Sends all.
pub const SEND_ALL: u32 = 8;
/// Sends through a view, as much as it has room for.
pub const SEND_VIEW: u32 = 9;
/// Ends the directions of `arg`: 1 receiving, 2 sending, 3 both.
pub const SHUTDOWN: u32 = 10;
/// Gives `s` back.
pub const CLOSE: u32 = 11;
/// Waiting ends after `arg` milliseconds; 0: never.
pub const TIMEOUT: u32 = 12;
/// Whether it is non-blocking: `arg`.
pub const NONBLOCKING: u32 = 13;
/// This end's address, into `bytes`.
pub const LOCAL: u32 = 14;
/// The other end's address, into `bytes`.
pub const PEER: u32 = 15;
/// `s` is a UDP socket bound to `addr`.
pub const BIND: u32 = 16;
/// Sends a datagram to `addr`.
pub const SEND_TO: u32 = 17;
/// Receives a datagram.
pub const RECV_FROM: u32 = 18;
/// Sets the peer of a UDP socket.
pub const SET_PEER: u32 = 19;
/// `s` listens at the path in `bytes`.
pub const LISTEN_UNIX: u32 = 20;
/// `s` connects to the path in `bytes`.
pub const CONNECT_UNIX: u32 = 21;
/// Looks up the name in `bytes`, with port `arg`; the first address goes there.
pub const LOOK_UP: u32 = 22;
/// Watches `s`; 1 if it is ready already.
pub const WATCH: u32 = 23;
/// Waits for an event, `arg` milliseconds at most; which register's socket has it.
pub const WAIT: u32 = 24;
/// Adds `s` to those that are watched.
pub const ADD: u32 = 25;
/// Sends `len` bytes of a pattern made from `arg`, however many there are.
pub const SEND_PATTERN: u32 = 26;
/// Receives until the end, and counts bytes that are not of the pattern made from `arg`: wrong ones in the
/// upper half, all in the lower.
pub const RECV_PATTERN: u32 = 27;
/// Sends back what arrives until the end; how many bytes.
pub const ECHO: u32 = 28;
/// Sets TCP_NODELAY to `arg`.
pub const NODELAY: u32 = 29;
/// The socket's error.
pub const TAKE_ERROR: u32 = 30;

/// As [`CONNECT`], begun, and asked for until it is there.
pub const CONNECT_ASYNC: u32 = 31;
/// Begins to connect to `addr`, `arg` times, and gives all that up.
pub const CONNECT_DROP: u32 = 32;
/// As [`LOOK_UP`], given up, begun again, and asked for until it is there.
pub const LOOK_UP_ASYNC: u32 = 33;
/// As [`SEND_ALL`], begun, and asked for until all is sent.
pub const SEND_ASYNC: u32 = 34;
/// As [`RECV`], asked for until it is there.
pub const RECV_ASYNC: u32 = 35;
/// As [`LISTEN`], begun, and waited for.
pub const LISTEN_ASYNC: u32 = 36;
/// Begins to connect to `addr` until that is `EAGAIN`; how often it was not. Then gives all up.
pub const CONNECT_MANY: u32 = 37;

/// `s` takes a connection from `t`, a Unix listener: its peer's path goes to `bytes`; how long it is.
pub const ACCEPT_UNIX: u32 = 38;
/// As [`LOCAL`], of a Unix socket: a path; how long it is.
pub const LOCAL_UNIX: u32 = 39;
/// As [`PEER`], likewise.
pub const PEER_UNIX: u32 = 40;
/// `s` and `t` are a pair of Unix streams, of datagrams if `arg` is not 0.
pub const PAIR: u32 = 41;
/// `s` is a Unix socket of datagrams, bound to the path in `bytes`, or to none if that is empty and `arg` is 0.
pub const BIND_UNIX: u32 = 42;
/// Sets the peer of a Unix socket of datagrams: the path in `bytes`.
pub const SET_PEER_UNIX: u32 = 43;
/// Sends a datagram to the path that `arg` says: where it begins in the script's bytes, and 32 bits higher its
/// length; 0: to the peer.
pub const SEND_UNIX: u32 = 44;
/// Receives a datagram; its sender's path goes to `arg`, and its length is in the upper half of the value.
pub const RECV_UNIX: u32 = 45;
/// As [`LISTEN`] with a backlog of 8, or as [`BIND`] if `t` is not 0, with `arg`: 1 the address is not reused if it
/// were and reused if it were not, 2 the port is reused, 4 IPv6 only.
pub const OPEN_WITH: u32 = 46;
/// Sets option `t` (a number of `gpu_abi`) to `arg`, of a stream; of a UDP socket if `len` is 1.
pub const SET_OPTION: u32 = 47;
/// What option `t` is, likewise; of a listener if `len` is 2.
pub const GET_OPTION: u32 = 48;
/// Joins the multicast group of `addr`, or leaves it if `arg` is not 0.
pub const MULTICAST: u32 = 49;
/// As [`RECV_FROM`], but it remains.
pub const PEEK_FROM: u32 = 50;
/// A UDP socket's peer, into `bytes`.
pub const PEER_UDP: u32 = 51;
/// The read timeout in milliseconds, and 32 bits higher the write timeout.
pub const TIMEOUTS: u32 = 52;

/// Block 0 listens at `addr` for all blocks, which share a queue; 64 zeroes in `bytes` are for that.
pub const SERVE_START: u32 = 53;
/// Serves connections (of listener `s`) until kernels are asked to end; how many were closed here. `arg`: waits
/// end after so many milliseconds, if not 0, and are begun anew.
pub const SERVE: u32 = 54;
/// Gives the queue back; the next operation that needs one takes another.
pub const POLL_CLOSE: u32 = 55;
/// Watches `s` `arg` times; how often it was ready.
pub const WATCH_OFTEN: u32 = 56;
/// Adds `s`, to hear of room for `arg` bytes.
pub const ADD_ROOM: u32 = 57;

/// Sockets of a script.
pub const REGISTERS: usize = 16;

/// One operation.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct NetOp {
    /// One of the above.
    pub what: u32,
    /// The register of the socket.
    pub s: u32,
    /// Another.
    pub t: u32,
    /// How many bytes.
    pub len: u32,
    /// Where in the script's bytes.
    pub at: u64,
    /// What the operation says it is.
    pub arg: u64,
    /// An address.
    pub addr: NetAddr,
}

/// A script.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct NetJob {
    /// The network.
    pub net: Net,
    /// What to do.
    pub ops: DeviceSlice<NetOp>,
    /// What came of each: 0 not yet, a value + 1, or an error number, negated.
    pub results: DeviceSlice<i64>,
    /// Bytes that are sent and received.
    pub bytes: DeviceSlice<u8>,
    /// Which threads act together: a `GROUP_*`.
    pub group: u32,
    /// Must be 0.
    pub reserved: u32,
}

/// Does a script by the first group of its kind. With many blocks, each does it with results of its own.
#[kernel]
pub fn conformance_net(job: NetJob) {
    match job.group {
        GROUP_THREAD if thread::rank() == 0 => run(&Thread, &job),
        GROUP_THREAD => {}
        GROUP_BLOCK => run(&Block, &job),
        _ if thread::warp_id() == 0 => run(&Warp::all(), &job),
        _ => {}
    }
}

struct Script<'a, G> {
    group: &'a G,
    job: &'a NetJob,
    sockets: [Socket; REGISTERS],
    poll: Option<Poll>,
}

fn run<G: Group>(group: &G, job: &NetJob) {
    let mut script = Script { group, job, sockets: [Socket::zeroed(); REGISTERS], poll: None };
    // SAFETY: the host wrote it before the launch and leaves it alone until its end.
    let ops = unsafe { job.ops.as_slice() };
    let base = thread::block_idx().x as usize * ops.len();
    for (i, op) in ops.iter().enumerate() {
        let result = script.exec(op);
        group.sync();
        if group.is_leader() {
            assert!(base + i < job.results.len(), "the host gave too few places for results");
            // SAFETY: in range, and used as an atomic word.
            let word = unsafe { &*job.results.as_ptr().add(base + i).cast::<DeviceAtomicU64>() };
            let value = match result {
                Ok(value) => value as i64 + 1,
                Err(e) => -i64::from(e.raw()),
            };
            // Release: the host may look on.
            word.store(value as u64, Ordering::Release);
        }
    }
}

/// Asks for what is pending until it is there.
fn until<P, T>(
    mut pending: P,
    mut ask: impl FnMut(P) -> Result<Result<T, Errno>, P>,
) -> Result<T, Errno> {
    loop {
        match ask(pending) {
            Ok(outcome) => return outcome,
            Err(later) => pending = later,
        }
        gpu_rt::relax();
    }
}

impl<G: Group> Script<'_, G> {
    fn bytes(&self, op: &NetOp) -> DeviceSlice<u8> {
        self.job.bytes.slice(op.at as usize, op.len as usize)
    }

    fn path(&self, op: &NetOp) -> &[u8] {
        // SAFETY: written by the host before the launch.
        unsafe { self.bytes(op).as_slice() }
    }

    fn store_addr(&self, op: &NetOp, addr: NetAddr) {
        if self.group.is_leader() {
            let place = self.job.bytes.slice(op.at as usize, size_of::<NetAddr>());
            assert!(place.len() == size_of::<NetAddr>(), "no place for an address");
            // SAFETY: in range; the host reads after the launch.
            unsafe { place.as_ptr().cast::<NetAddr>().write_unaligned(addr) };
        }
    }

    fn poll(&mut self) -> Result<Poll, Errno> {
        match self.poll {
            Some(poll) => Ok(poll),
            None => {
                let poll = Poll::new(self.group, &self.job.net)?;
                self.poll = Some(poll);
                Ok(poll)
            }
        }
    }

    fn exec(&mut self, op: &NetOp) -> Result<u64, Errno> {
        let (group, net) = (self.group, &self.job.net);
        let s = op.s as usize % REGISTERS;
        let (socket, other) = (self.sockets[s], self.sockets[op.t as usize % REGISTERS]);
        let stream = TcpStream::from(socket);
        let mut opened = |socket: Socket| {
            self.sockets[s] = socket;
            u64::from(socket.index())
        };
        Ok(match op.what {
            LISTEN => {
                let backlog = op.arg as u32;
                opened(TcpListener::bind_with_backlog(group, net, op.addr, backlog)?.socket())
            }
            LISTEN_UNIX => {
                let socket = UnixListener::bind(group, net, self.path(op))?.socket();
                self.sockets[s] = socket;
                0
            }
            CONNECT_UNIX => {
                let socket = UnixStream::connect(group, net, self.path(op))?.socket();
                self.sockets[s] = socket;
                0
            }
            ACCEPT => {
                let stream = if op.arg != 0 {
                    UnixListener::from(other).accept(group)?.0.socket()
                } else {
                    TcpListener::from(other).accept(group)?.0.socket()
                };
                opened(stream)
            }
            CONNECT if op.arg > 0 => {
                let patience = Duration::from_millis(op.arg);
                opened(TcpStream::connect_timeout(group, net, op.addr, patience)?.socket())
            }
            CONNECT => opened(TcpStream::connect(group, net, op.addr)?.socket()),
            RECV => stream.recv(group, self.bytes(op))? as u64,
            RECV_ALL => {
                let mut done = 0;
                while done < op.len {
                    let rest = self.bytes(op).slice(done as usize, (op.len - done) as usize);
                    match stream.recv(group, rest)? {
                        0 => break,
                        n => done += n as u32,
                    }
                }
                done.into()
            }
            RECV_VIEW => self.recv_view(&stream, op)?,
            SEND => stream.send(group, self.bytes(op))? as u64,
            SEND_ALL => {
                stream.send_all(group, self.bytes(op))?;
                op.len.into()
            }
            SEND_VIEW => self.send_view(&stream, op)?,
            SHUTDOWN => {
                let how = [Shutdown::Both, Shutdown::Read, Shutdown::Write, Shutdown::Both];
                stream.shutdown(group, how[op.arg as usize % 4])?;
                0
            }
            CLOSE => {
                socket.close(group);
                0
            }
            TIMEOUT => {
                let time = (op.arg > 0).then(|| Duration::from_millis(op.arg));
                socket.set_read_timeout(time)?;
                socket.set_write_timeout(time)?;
                0
            }
            NONBLOCKING => {
                socket.set_nonblocking(op.arg != 0)?;
                0
            }
            LOCAL => {
                self.store_addr(op, socket.local()?);
                0
            }
            PEER => {
                self.store_addr(op, socket.peer()?);
                0
            }
            BIND => opened(UdpSocket::bind(group, net, op.addr)?.socket()),
            SEND_TO => self.udp(socket).send_to(group, self.bytes(op), op.addr)? as u64,
            RECV_FROM => {
                let (n, from) = self.udp(socket).recv_from(group, self.bytes(op))?;
                n as u64 | u64::from(from.port()) << 32
            }
            SET_PEER => {
                self.udp(socket).connect(group, op.addr)?;
                0
            }
            LOOK_UP => {
                let mut addrs = [NetAddr::default(); 4];
                let n = net.lookup_host(group, self.path(op), op.arg as u16, &mut addrs)?;
                self.store_addr(op, addrs[0]);
                n as u64
            }
            WATCH => self.poll()?.watch(group, &socket, Interest::Readable)?.into(),
            ADD => {
                self.poll()?.add(group, &socket, Interest::Readable)?;
                0
            }
            WAIT => {
                let ready = match op.arg {
                    0 => self.poll()?.wait(group)?,
                    ms => self.poll()?.wait_timeout(group, Duration::from_millis(ms))?,
                };
                self.sockets.iter().position(|socket| *socket == ready).unwrap_or(99) as u64
            }
            SEND_PATTERN => self.send_pattern(&stream, op)?,
            RECV_PATTERN => self.recv_pattern(&stream, op)?,
            ECHO => self.echo(&stream)?,
            NODELAY => {
                stream.set_nodelay(group, op.arg != 0)?;
                0
            }
            CONNECT_ASYNC => {
                let begun = TcpStream::connect_async(group, net, op.addr)?;
                opened(until(begun, |begun| begun.try_wait(group))?.socket())
            }
            CONNECT_DROP => {
                for _ in 0..op.arg {
                    drop(TcpStream::connect_async(group, net, op.addr)?);
                }
                op.arg
            }
            CONNECT_MANY => {
                let mut begun = [const { None }; 16];
                let mut count = 0;
                for place in &mut begun {
                    match TcpStream::connect_async(group, net, op.addr) {
                        Ok(pending) => *place = Some(pending),
                        Err(Errno::EAGAIN) => break,
                        Err(e) => return Err(e),
                    }
                    count += 1;
                }
                count
            }
            LISTEN_ASYNC => {
                opened(TcpListener::bind_async(group, net, op.addr)?.wait(group)?.socket())
            }
            LOOK_UP_ASYNC => {
                let (name, port) = (self.path(op), op.arg as u16);
                drop(net.lookup_host_async(group, name, port)?);
                let mut addrs = [NetAddr::default(); 4];
                let begun = net.lookup_host_async(group, name, port)?;
                let n = until(begun, |begun| begun.try_wait(group, &mut addrs))?;
                self.store_addr(op, addrs[0]);
                n as u64
            }
            SEND_ASYNC => {
                let begun = stream.send_all_async(group, self.bytes(op))?;
                until(begun, |begun| begun.try_wait(group))? as u64
            }
            RECV_ASYNC => {
                let begun = stream.recv_async(self.bytes(op));
                until(begun, |begun| begun.try_wait(group))? as u64
            }
            PEEK_FROM => {
                let (n, from) = self.udp(socket).peek_from(group, self.bytes(op))?;
                n as u64 | u64::from(from.port()) << 32
            }
            TAKE_ERROR => socket.take_error()?.map_or(0, |e| e.raw().into()),
            ACCEPT_UNIX..=RECV_UNIX => return self.exec_unix(op),
            SERVE_START => self.serve_start(op)?,
            SERVE => self.serve(op)?,
            POLL_CLOSE => {
                self.poll()?.close(group);
                self.poll = None;
                0
            }
            WATCH_OFTEN => {
                let poll = self.poll()?;
                let mut ready = 0;
                for _ in 0..op.arg {
                    ready += u64::from(poll.watch(group, &socket, Interest::Readable)?);
                }
                ready
            }
            ADD_ROOM => {
                self.poll()?.add(group, &socket, Interest::Room(op.arg as u32))?;
                0
            }
            OPEN_WITH..=TIMEOUTS => return self.exec_option(op),
            _ => return Err(Errno::ENOSYS),
        })
    }

    fn udp(&self, socket: Socket) -> UdpSocket {
        socket.into()
    }

    fn recv_view(&self, stream: &TcpStream, op: &NetOp) -> Result<u64, Errno> {
        let view = stream.recv_view(self.group)?;
        let n = view.len().min(op.len as usize);
        if self.group.is_leader() {
            let all = view.slices().into_iter().flatten().take(n);
            for (i, byte) in all.enumerate() {
                // SAFETY: `n` is at most the length of these bytes; the host reads after the launch.
                unsafe { self.bytes(op).as_ptr().add(i).write(*byte) };
            }
        }
        view.consume(n);
        Ok(n as u64)
    }

    fn send_view(&self, stream: &TcpStream, op: &NetOp) -> Result<u64, Errno> {
        let view = stream.send_view(self.group, (op.len as usize).min(64))?;
        let n = view.len().min(op.len as usize);
        if self.group.is_leader() {
            let mut from = self.path(op).iter();
            for part in view.slices() {
                for i in 0..part.len() {
                    let Some(byte) = from.next() else { break };
                    // SAFETY: within the view, which is ours; the leader alone writes.
                    unsafe { part.as_ptr().add(i).write(*byte) };
                }
            }
        }
        view.commit(n);
        Ok(n as u64)
    }

    fn send_pattern(&self, stream: &TcpStream, op: &NetOp) -> Result<u64, Errno> {
        let len = u64::from(op.len);
        let mut done = 0;
        while done < len {
            let view = stream.send_view(self.group, 1)?;
            let n = (view.len() as u64).min(len - done);
            if self.group.is_leader() {
                let mut at = done;
                for part in view.slices() {
                    for i in 0..part.len().min((done + n - at) as usize) {
                        // SAFETY: within the view, which is ours; the leader alone writes.
                        unsafe { part.as_ptr().add(i).write(crate::pattern(op.arg, at)) };
                        at += 1;
                    }
                }
            }
            view.commit(n as usize);
            done += n;
        }
        Ok(done)
    }

    fn recv_pattern(&self, stream: &TcpStream, op: &NetOp) -> Result<u64, Errno> {
        let (mut all, mut wrong) = (0, 0);
        loop {
            let view = stream.recv_view(self.group)?;
            if view.is_empty() {
                return Ok(wrong << 32 | all);
            }
            for part in view.slices() {
                wrong += crate::mismatches(part, op.arg, all);
                all += part.len() as u64;
            }
            let n = view.len();
            view.consume(n);
        }
    }

    fn echo(&self, stream: &TcpStream) -> Result<u64, Errno> {
        let mut all = 0;
        loop {
            let view = stream.recv_view(self.group)?;
            if view.is_empty() {
                return Ok(all);
            }
            for part in view.slices() {
                let part = DeviceSlice::<u8>::new(part.as_ptr() as u64, part.len() as u64);
                stream.send_all(self.group, part)?;
            }
            let n = view.len();
            view.consume(n);
            all += n as u64;
        }
    }
}
