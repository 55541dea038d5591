//! A load generator: many connections to a server that answers each message with one of the same
//! length, driven by one thread and epoll.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

/// What load to make.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Connections at once.
    pub connections: usize,
    /// Bytes of a message.
    pub size: usize,
    /// Messages that each connection has under way.
    pub depth: usize,
    /// When to stop.
    pub duration: Duration,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// Messages that came back.
    pub messages: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// Round trips of messages, sorted.
    pub latencies: Vec<Duration>,
}

impl Report {
    /// The round trip that so many in a hundred did not exceed.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        let at = (last as f64 * percent / 100.0).round() as usize;
        self.latencies.get(at).copied().unwrap_or_default()
    }

    /// Messages a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.messages as f64 / self.elapsed.as_secs_f64()
    }
}

/// At most so many latencies are kept.
const SAMPLES: usize = 1 << 20;

struct Connection {
    stream: TcpStream,
    /// Bytes sent and received so far.
    sent: u64,
    received: u64,
    /// When each message under way was begun.
    begun: VecDeque<Instant>,
    /// Whether epoll looks for room.
    wants_room: bool,
}

/// Byte `at` of what every connection sends.
fn byte(at: u64) -> u8 {
    (at as u8).wrapping_mul(31).wrapping_add((at >> 8) as u8)
}

/// Makes the load and checks every byte that comes back against what was sent.
///
/// # Errors
/// What connecting, sending or receiving failed with; `InvalidData` for a wrong byte.
pub fn run(addr: SocketAddr, load: &Load) -> io::Result<Report> {
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    let mut connections = Vec::with_capacity(load.connections);
    for i in 0..load.connections {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        epoll::add(&poll, stream.as_fd(), EventData::new_u64(i as u64), EventFlags::IN)?;
        let begun = VecDeque::with_capacity(load.depth);
        connections.push(Connection { stream, sent: 0, received: 0, begun, wants_room: false });
    }
    // A pattern that any message is a piece of.
    let period = 1 << 16;
    let patterns: Vec<u8> =
        (0..2 * period + load.size as u64).map(|at| byte(at % period)).collect();
    let mut buf = vec![0u8; load.size.clamp(4096, 1 << 18)];
    let mut report = Report { messages: 0, elapsed: Duration::ZERO, latencies: Vec::new() };
    let start = Instant::now();
    let until = start + load.duration;
    for (i, connection) in connections.iter_mut().enumerate() {
        connection.send(&poll, i, load, &patterns, true)?;
    }
    let mut events = Vec::with_capacity(256);
    let mut going = true;
    while connections.iter().any(|c| going || c.received < c.sent || !c.begun.is_empty()) {
        going = Instant::now() < until;
        let patience = rustix::time::Timespec { tv_sec: 10, tv_nsec: 0 };
        match epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&patience)) {
            Err(rustix::io::Errno::INTR) => continue,
            outcome => outcome?,
        };
        if events.is_empty() {
            return Err(io::Error::new(ErrorKind::TimedOut, "nothing came back for ten seconds"));
        }
        for event in events.drain(..) {
            let i = event.data.u64() as usize;
            let connection = &mut connections[i];
            let flags = event.flags;
            if flags.contains(EventFlags::IN) {
                connection.receive(load, &mut buf, &patterns, &mut report)?;
            }
            connection.send(&poll, i, load, &patterns, going)?;
        }
        if !going && report.elapsed.is_zero() {
            report.elapsed = start.elapsed();
        }
    }
    report.elapsed = report.elapsed.max(Duration::from_nanos(1));
    report.latencies.sort_unstable();
    Ok(report)
}

impl Connection {
    fn receive(
        &mut self,
        load: &Load,
        buf: &mut [u8],
        patterns: &[u8],
        report: &mut Report,
    ) -> io::Result<()> {
        loop {
            let n = match self.stream.read(buf) {
                Ok(0) if self.begun.is_empty() => return Ok(()),
                Ok(0) => {
                    return Err(io::Error::new(ErrorKind::UnexpectedEof, "the server has closed"));
                }
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            let mut done = 0;
            while done < n {
                let at = ((self.received + done as u64) % (1 << 16)) as usize;
                let len = (n - done).min(patterns.len() - at);
                if buf[done..done + len] != patterns[at..at + len] {
                    let what = "what came back is not what was sent";
                    return Err(io::Error::new(ErrorKind::InvalidData, what));
                }
                done += len;
            }
            let before = self.received / load.size as u64;
            self.received += n as u64;
            for _ in before..self.received / load.size as u64 {
                report.messages += 1;
                if let Some(begun) = self.begun.pop_front()
                    && report.latencies.len() < SAMPLES
                {
                    report.latencies.push(begun.elapsed());
                }
            }
            if n < buf.len() {
                return Ok(());
            }
        }
    }

    /// Keeps as many messages under way as it should.
    fn send(
        &mut self,
        poll: &impl AsFd,
        number: usize,
        load: &Load,
        patterns: &[u8],
        going: bool,
    ) -> io::Result<()> {
        let size = load.size as u64;
        let mut full = false;
        while !full {
            let in_message = self.sent % size;
            if in_message == 0 {
                if !going || self.begun.len() >= load.depth {
                    break;
                }
                self.begun.push_back(Instant::now());
            }
            let at = (self.sent % (1 << 16)) as usize;
            let len = (size - in_message) as usize;
            match self.stream.write(&patterns[at..at + len]) {
                Ok(n) => self.sent += n as u64,
                Err(e) if e.kind() == ErrorKind::WouldBlock => full = true,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
            if full && in_message == 0 {
                // Not begun after all: its first byte is still to be sent.
                self.begun.pop_back();
            }
        }
        if full != self.wants_room {
            self.wants_room = full;
            let flags = if full { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            epoll::modify(poll, self.stream.as_fd(), EventData::new_u64(number as u64), flags)?;
        }
        Ok(())
    }
}
