//! Sockets: an echo server in a kernel beside a plain one, kernels that talk to each other, idle
//! connections.

use super::{Measure, no_commands};
use crate::Result;
use crate::row::{Aim, Better, Row};
use crate::scale::Scale;
use crate::stats::{Rounds, in_turns};
use gpu_examples::load::{self, Load, Report};
use gpu_examples::serve::Running;
use gpu_host::{DeviceChoice, EmulatedOptions, LaunchConfig, NetAddr, Session, SessionBuilder};
use gpu_kernels::echo::echo;
use gpu_kernels::wire::{Wire, wire_recv, wire_send};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Round trips and rates.
pub(crate) const ECHO: Measure = Measure {
    name: "echo",
    what: "a kernel that sends back what it receives, beside a plain tokio server; the same load generator for both",
    commands: no_commands,
    run: echo_rows,
};

/// Between kernels.
pub(crate) const WIRE: Measure = Measure {
    name: "device-to-device",
    what: "a kernel sends 64 KiB at a time to a kernel of another device, beside a Unix socket pair between two threads",
    commands: no_commands,
    run: wire_rows,
};

/// At rest.
pub(crate) const IDLE: Measure = Measure {
    name: "idle",
    what: "connections that say nothing: the memory that they take, and the processor time that goes by",
    commands: no_commands,
    run: idle_rows,
};

pub(super) fn localhost() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn builder(workers: usize) -> SessionBuilder {
    let options = EmulatedOptions { workers, ..EmulatedOptions::default() };
    Session::builder().device(DeviceChoice::Emulated(options))
}

/// A server in a kernel, which ends when this is dropped.
pub(super) struct Ours {
    session: Session,
    running: Option<Running>,
    pub(super) addr: SocketAddr,
}

impl Ours {
    pub(super) fn of(session: Session, running: Running) -> Ours {
        let addr = running.addr;
        Ours { session, running: Some(running), addr }
    }

    /// That sends back what it receives: eight warps of one thread, on all cores as the peer.
    fn start(sockets: u32, ring: u32) -> Result<Ours> {
        let session = Session::builder().sockets(sockets).socket_ring(ring).build()?;
        let shape = LaunchConfig::new(8, 1);
        let running = Running::start(&session, &echo, shape, localhost(), |server| server)
            .map_err(|e| format!("{e:?}"))?;
        Ok(Ours::of(session, running))
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.session.ask_to_end();
        if let Some(running) = self.running.take() {
            let _ = running.wait();
        }
    }
}

/// A plain tokio server, as its documentation has it.
struct Plain {
    addr: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl Plain {
    fn start() -> Result<Plain> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind(localhost()))?;
        let addr = listener.local_addr()?;
        runtime.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                tokio::spawn(async move {
                    let mut buf = vec![0; 64 << 10];
                    while let Ok(n @ 1..) = stream.read(&mut buf).await {
                        if stream.write_all(&buf[..n]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Ok(Plain { addr, _runtime: runtime })
    }
}

/// A round of a load; every byte is compared.
fn measure(addr: SocketAddr, load: &Load) -> Result<Report> {
    let report = load::run(addr, load)?;
    if report.messages == 0 {
        return Err("nothing came back".into());
    }
    Ok(report)
}

fn echo_rows(scale: &Scale) -> Result<Vec<Row>> {
    let duration = Duration::from_secs_f64((scale.requests as f64 / 1e6).clamp(0.05, 1.0));
    let peer = "plain tokio server";
    let plain = Plain::start()?;
    let mut rows = Vec::new();

    let ours = Ours::start(64, 64 << 10)?;
    let one = Load { connections: 1, size: 64, depth: 1, duration };
    let (mut own, mut theirs) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for round in 0..=scale.rounds {
        for (addr, into) in [(ours.addr, &mut own), (plain.addr, &mut theirs)] {
            let report = measure(addr, &one)?;
            if round > 0 {
                for (percent, values) in [50.0, 99.0].into_iter().zip(into.iter_mut()) {
                    values.push(report.percentile(percent).as_secs_f64() * 1e6);
                }
            }
        }
    }
    drop(ours);
    let [own50, own99] = own.map(|values| values.into_iter().collect::<Rounds>());
    let [peer50, peer99] = theirs.map(|values| values.into_iter().collect::<Rounds>());
    rows.push(
        Row::new("echo/p50", "µs", Better::Less, own50)
            .peer(peer, peer50)
            .aim(Aim::Ratio(0.5))
            .note("64 bytes, 1 connection, round trip"),
    );
    rows.push(
        Row::new("echo/p99", "µs", Better::Less, own99)
            .peer(peer, peer99)
            .note("64 bytes, 1 connection, round trip"),
    );

    let connections = if scale.requests < 100_000 { 50 } else { 1000 };
    let ours = Ours::start(connections as u32 + 64, 16 << 10)?;
    let many = Load { connections, size: 64, depth: 1, duration };
    let rate = |addr| move || Ok(measure(addr, &many)?.rate() / 1e3);
    let sides: [Box<dyn FnMut() -> Result<f64>>; 2] =
        [Box::new(rate(ours.addr)), Box::new(rate(plain.addr))];
    let [own, theirs] = in_turns(scale.rounds, sides)?;
    rows.push(
        Row::new("echo/rate", "k/s", Better::More, own)
            .peer(peer, theirs)
            .aim(Aim::Ratio(0.8))
            .note(format!("64 bytes, {connections} connections")),
    );
    drop(ours);

    for connections in [1, 16] {
        let ours = Ours::start(64, 256 << 10)?;
        let load = Load { connections, size: 64 << 10, depth: 4, duration };
        let rate = |addr| move || Ok(measure(addr, &load)?.rate() * 65536.0 / 1e9);
        let sides: [Box<dyn FnMut() -> Result<f64>>; 2] =
            [Box::new(rate(ours.addr)), Box::new(rate(plain.addr))];
        let [own, theirs] = in_turns(scale.rounds, sides)?;
        rows.push(
            Row::new(format!("echo/stream-{connections}"), "GB/s", Better::More, own)
                .peer(peer, theirs)
                .aim(Aim::Ratio(0.8))
                .note(format!("64 KiB messages, four under way, {connections} connections")),
        );
    }
    Ok(rows)
}

/// `total` bytes from one session's kernel to another's; GB/s.
fn wire(from: &Session, to: &Session, total: u64) -> Result<f64> {
    let (out, other) = (to.alloc::<u64>(8)?, from.alloc::<u64>(8)?);
    let (into, sent) = (to.alloc::<u8>(64 << 10)?, from.alloc_from(&vec![7u8; 64 << 10])?);
    let shape = || LaunchConfig::new(1, 1);
    let args = Wire {
        net: to.net(),
        addr: NetAddr::from(localhost()),
        buffer: into.slice(),
        total,
        out: out.slice(),
    };
    let receiver = to.launch(&wire_recv, shape(), args)?;
    let mut words = [0u64; 8];
    while words[3] == 0 {
        if words[0] > 1 {
            return Err(format!("the receiver failed with error {}", words[0] - 2).into());
        }
        out.copy_to(0, &mut words)?;
        std::thread::yield_now();
    }
    let addr: NetAddr = bytemuck::cast([words[4], words[5], words[6], words[7]]);
    let args = Wire { net: from.net(), addr, buffer: sent.slice(), total, out: other.slice() };
    let start = Instant::now();
    from.run(&wire_send, shape(), args)?;
    let elapsed = start.elapsed();
    receiver.wait()?;
    let (got, gave) = (out.to_vec()?, other.to_vec()?);
    if (got[0], got[1], gave[0], gave[1]) != (1, total, 1, total) {
        return Err(format!("{total} bytes became {got:?} and {gave:?}").into());
    }
    Ok(total as f64 / elapsed.as_secs_f64() / 1e9)
}

/// The same between two threads.
fn pair(total: u64) -> Result<f64> {
    let (mut a, mut b) = UnixStream::pair()?;
    let start = Instant::now();
    let received = std::thread::scope(|scope| -> Result<u64> {
        let receiver = scope.spawn(move || -> std::io::Result<u64> {
            let (mut buf, mut all) = (vec![0; 64 << 10], 0);
            loop {
                match b.read(&mut buf)? {
                    0 => return Ok(all),
                    n => all += n as u64,
                }
            }
        });
        let buf = vec![7; 64 << 10];
        for _ in 0..total / buf.len() as u64 {
            a.write_all(&buf)?;
        }
        drop(a);
        Ok(receiver.join().map_err(|_| "the receiver panicked")??)
    })?;
    if received != total {
        return Err(format!("{total} bytes became {received}").into());
    }
    Ok(total as f64 / start.elapsed().as_secs_f64() / 1e9)
}

fn wire_rows(scale: &Scale) -> Result<Vec<Row>> {
    let total = (scale.requests * 4096).clamp(64 << 16, 4 << 30) / (64 << 10) * (64 << 10);
    let to = builder(1).sockets(8).socket_ring(512 << 10).build()?;
    let from = builder(1).sockets(8).socket_ring(512 << 10).beside(&to).build()?;
    let [own, theirs] =
        in_turns(scale.rounds, [Box::new(|| wire(&from, &to, total)), Box::new(|| pair(total))])?;
    let linked = to.daemon_stats().net.linked + from.daemon_stats().net.linked;
    if linked < total {
        return Err("the bytes have taken another way".into());
    }
    Ok(vec![
        Row::new("device-to-device", "GB/s", Better::More, own)
            .peer("Unix socket pair", theirs)
            .aim(Aim::Ratio(2.0))
            .note("64 KiB sends; two emulated devices of one worker each, ring to ring"),
    ])
}

/// Resident memory of this process in KiB, and its processor time so far in seconds.
fn usage() -> Result<(f64, f64)> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: f64 = statm.split(' ').nth(1).ok_or("no statm")?.parse()?;
    // Not the ticks of /proc/self/stat: whoever runs for a few microseconds at a time is seldom met by one.
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Ok((pages * 4.0, time.tv_sec as f64 + time.tv_nsec as f64 / 1e9))
}

/// Descriptors that this process may have.
fn descriptors() -> Result<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits")?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3)).ok_or("no limit")?;
    Ok(soft.parse().unwrap_or(1 << 20))
}

fn idle_rows(scale: &Scale) -> Result<Vec<Row>> {
    const RING: u32 = 4096;
    let wanted = if scale.requests < 100_000 { 100 } else { 10_000 };
    let ours = Ours::start(wanted + 64, RING)?;
    let most = descriptors()? / 2 - 50;
    let (before, _) = usage()?;
    let mut streams = Vec::new();
    for _ in 0..wanted {
        // Each has been served once: its rings have been touched.
        // This process has both ends of each.
        if streams.len() >= most {
            break;
        }
        let mut stream = TcpStream::connect(ours.addr)?;
        stream.write_all(&[1; 64])?;
        stream.read_exact(&mut [0; 64])?;
        streams.push(stream);
    }
    let (after, start) = usage()?;
    let time = Duration::from_secs_f64((scale.requests as f64 / 1e5).clamp(0.2, 10.0));
    std::thread::sleep(time);
    let (_, end) = usage()?;
    let each = (after - before) / streams.len() as f64;
    let busy = (end - start) / time.as_secs_f64() * 100.0;
    Ok(vec![
        Row::new("idle/memory", "KiB", Better::Less, [each].into_iter().collect())
            .aim(Aim::AtMost(2.0 * 2.0 * f64::from(RING) / 1024.0))
            .note(format!("{} connections, rings of 4 KiB; each", streams.len())),
        Row::new("idle/processor", "%", Better::Less, [busy].into_iter().collect())
            .aim(Aim::AtMost(0.5))
            .note(format!("{} connections at rest, of one core", streams.len())),
    ])
}
