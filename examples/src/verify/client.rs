//! A load generator: many connections, each of which sends a probe, waits for the reply, compares it with
//! what it should be, and sends the next. One thread and epoll.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use bytemuck::Zeroable;
use gpu_kernels::verify::wire::{REPLY_LEN, REQUEST_LEN, Reply, Status};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use super::probes::{Claim, Probe};

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// After so many requests.
    Requests(u64),
    /// After this time.
    Time(Duration),
}

/// Why a measurement failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A reply is not what it should be.
    #[error("a reply is wrong: {found:?} where {expected:?} was expected")]
    Wrong {
        /// The reply.
        found: Box<Reply>,
        /// What it should be.
        expected: Box<Reply>,
    },
    /// The server ended a connection.
    #[error(
        "the server closed a connection after {0} replies; does it have room for more --connections?"
    )]
    Closed(u64),
    /// Nothing comes.
    #[error("no reply came for ten seconds; does the server still run?")]
    Silent,
    /// A connection failed.
    #[error("{0}; is a server listening there?")]
    Io(#[from] io::Error),
}

impl From<rustix::io::Errno> for ClientError {
    fn from(error: rustix::io::Errno) -> Self {
        ClientError::Io(error.into())
    }
}

/// How many requests made a claim, and how many of them were accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// Requests.
    pub made: u64,
    /// Accepted ones.
    pub accepted: u64,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Run {
    /// Connections at once.
    pub connections: usize,
    /// Replies, every one of them right.
    pub replies: u64,
    /// From the first request to the last reply.
    pub elapsed: Duration,
    /// From a request's first byte to its reply's last, in order.
    pub latencies: Vec<Duration>,
    /// Requests of people for themselves.
    pub genuine: Claims,
    /// Requests of people for others.
    pub impostors: Claims,
    /// Requests for nobody who is known.
    pub unknown: u64,
}

impl Run {
    /// The latency that so many in a hundred requests did not exceed.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Duration {
        let rank = (self.latencies.len() as f64 * percent / 100.0).ceil() as usize;
        self.latencies.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// Replies a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.replies as f64 / self.elapsed.as_secs_f64()
    }
}

/// At most so many latencies are kept.
const SAMPLES: usize = 1 << 24;

struct Connection<'a> {
    stream: TcpStream,
    probe: &'a Probe,
    head: [u8; REQUEST_LEN],
    tag: u32,
    sent: usize,
    reply: Reply,
    received: usize,
    begun: Option<Instant>,
    wants_room: bool,
}

/// Makes the load, and checks every reply.
///
/// # Errors
/// [`ClientError`].
pub fn run(
    addr: SocketAddr,
    probes: &[Probe],
    connections: usize,
    until: Until,
) -> Result<Run, ClientError> {
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    let mut all = Vec::with_capacity(connections);
    for i in 0..connections {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        epoll::add(&poll, stream.as_fd(), EventData::new_u64(i as u64), EventFlags::IN)?;
        all.push(Connection {
            stream,
            probe: &probes[0],
            head: [0; REQUEST_LEN],
            tag: 0,
            sent: 0,
            reply: Reply::zeroed(),
            received: 0,
            begun: None,
            wants_room: false,
        });
    }
    let mut run = Run {
        connections,
        replies: 0,
        elapsed: Duration::ZERO,
        latencies: Vec::new(),
        genuine: Claims::default(),
        impostors: Claims::default(),
        unknown: 0,
    };
    let mut begun = 0u64;
    let start = Instant::now();
    let mut next = |now: Instant| {
        let goes_on = match until {
            Until::Requests(most) => begun < most,
            Until::Time(most) => now - start < most,
        };
        let number = begun;
        begun += u64::from(goes_on);
        goes_on.then(|| (number as u32, &probes[number as usize % probes.len()]))
    };
    for (i, connection) in all.iter_mut().enumerate() {
        if let Some(next) = next(Instant::now()) {
            connection.begin(next);
            connection.send(&poll, i)?;
        }
    }
    let mut under_way = all.iter().filter(|c| c.begun.is_some()).count();
    let mut events = Vec::with_capacity(256);
    while under_way > 0 {
        let patience = rustix::time::Timespec { tv_sec: 10, tv_nsec: 0 };
        match epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&patience)) {
            Err(rustix::io::Errno::INTR) => continue,
            outcome => outcome?,
        };
        if events.is_empty() {
            return Err(ClientError::Silent);
        }
        for event in events.drain(..) {
            let i = event.data.u64() as usize;
            let connection = &mut all[i];
            if connection.receive(run.replies)? {
                let now = Instant::now();
                connection.check(now, &mut run)?;
                match next(now) {
                    Some(next) => connection.begin(next),
                    None => under_way -= 1,
                }
            }
            connection.send(&poll, i)?;
        }
    }
    run.elapsed = start.elapsed().max(Duration::from_nanos(1));
    run.latencies.sort_unstable();
    Ok(run)
}

impl<'a> Connection<'a> {
    fn begin(&mut self, (tag, probe): (u32, &'a Probe)) {
        (self.probe, self.tag, self.sent, self.received) = (probe, tag, 0, 0);
        self.head.copy_from_slice(&probe.request[..REQUEST_LEN]);
        self.head[12..16].copy_from_slice(&tag.to_le_bytes());
        self.begun = Some(Instant::now());
    }

    /// Sends as much of the request as the system takes.
    fn send(&mut self, poll: &impl AsFd, number: usize) -> Result<(), ClientError> {
        let mut full = false;
        while self.begun.is_some() && self.sent < self.probe.request.len() && !full {
            let head = &self.head[self.sent.min(REQUEST_LEN)..];
            let rest = &self.probe.request[self.sent.max(REQUEST_LEN)..];
            match self.stream.write_vectored(&[IoSlice::new(head), IoSlice::new(rest)]) {
                Ok(n) => self.sent += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => full = true,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        if full != self.wants_room {
            self.wants_room = full;
            let flags = if full { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            epoll::modify(poll, self.stream.as_fd(), EventData::new_u64(number as u64), flags)?;
        }
        Ok(())
    }

    /// Receives what is there; whether the reply is whole.
    fn receive(&mut self, replies: u64) -> Result<bool, ClientError> {
        while self.received < REPLY_LEN {
            let place = &mut bytemuck::bytes_of_mut(&mut self.reply)[self.received..];
            match self.stream.read(place) {
                Ok(0) => return Err(ClientError::Closed(replies)),
                Ok(n) => self.received += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(self.begun.is_some())
    }

    /// Compares the reply, and counts it.
    fn check(&mut self, now: Instant, run: &mut Run) -> Result<(), ClientError> {
        let (found, expected) = (self.reply, self.probe.reply(self.tag, &self.reply));
        if found != expected {
            let (found, expected) = (Box::new(found), Box::new(expected));
            return Err(ClientError::Wrong { found, expected });
        }
        run.replies += 1;
        if let Some(begun) = self.begun.take()
            && run.latencies.len() < SAMPLES
        {
            run.latencies.push(now - begun);
        }
        let claims = match self.probe.claim {
            Claim::Genuine => &mut run.genuine,
            Claim::Impostor => &mut run.impostors,
            Claim::Unknown => {
                debug_assert_eq!(found.status, Status::UnknownIdentity as u16);
                run.unknown += 1;
                return Ok(());
            }
        };
        claims.made += 1;
        claims.accepted += u64::from(found.accepted);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let run = |count: u64| Run {
            connections: 1,
            replies: count,
            elapsed: Duration::from_secs(2),
            latencies: (1..=count).map(Duration::from_micros).collect(),
            genuine: Claims::default(),
            impostors: Claims::default(),
            unknown: 0,
        };
        let micros = |run: &Run, percent| run.percentile(percent).as_micros();
        let hundred = run(100);
        assert_eq!([50.0, 99.0, 99.9, 100.0].map(|p| micros(&hundred, p)), [50, 99, 100, 100]);
        assert_eq!(hundred.rate(), 50.0);
        assert_eq!(micros(&run(1), 50.0), 1);
        assert_eq!(micros(&run(0), 50.0), 0);
    }
}
