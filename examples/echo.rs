//! A TCP server in a kernel that sends back what it receives, and a client that measures it.
//!
//!     cargo run --release --example echo -- --listen 127.0.0.1:7000
//!     cargo run --release --example echo -- --connect 127.0.0.1:7000 --connections 1000
//!
//! The first line that the server prints is its address. Any client will do: `nc 127.0.0.1 7000`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use gpu_examples::failure::Failure;
use gpu_examples::load::{self, Load};
use gpu_examples::serve::{Running, ServeArgs};
use gpu_kernels::echo::{BYTES, ENDED, FAILED, echo};

/// A TCP server in a GPU kernel that sends back what it receives, and its load generator.
///
/// With --listen, persistent warps accept connections and send bytes from ring to ring; the host only
/// moves them between rings and sockets. Ctrl-C ends the kernel, and what it counted is printed.
///
/// With --connect, many connections each send a message, wait for it to come back, compare every byte,
/// and send the next.
#[derive(Debug, Parser)]
#[command(name = "echo")]
struct Cli {
    /// Serve at this address; port 0 picks a free one
    #[arg(
        long,
        value_name = "ADDR",
        required_unless_present = "connect",
        conflicts_with = "connect"
    )]
    listen: Option<SocketAddr>,
    /// Measure the server at this address
    #[arg(long, value_name = "ADDR")]
    connect: Option<SocketAddr>,
    #[command(flatten)]
    serve: ServeArgs,
    /// Connections that the client makes
    #[arg(long = "clients", default_value_t = 100, value_name = "N", help_heading = "Client")]
    clients: usize,
    /// Bytes of a message
    #[arg(long, default_value_t = 64, value_name = "BYTES", help_heading = "Client")]
    size: usize,
    /// Messages that each connection has under way
    #[arg(long, default_value_t = 1, value_name = "N", help_heading = "Client")]
    depth: usize,
    /// How long to measure
    #[arg(long, default_value_t = 3.0, value_name = "SECONDS", help_heading = "Client")]
    seconds: f64,
}

fn main() -> Result<(), Failure> {
    let cli = Cli::parse();
    match (cli.listen, cli.connect) {
        (Some(addr), _) => serve(&cli, addr),
        (None, Some(addr)) => measure(&cli, addr),
        (None, None) => Err("say --listen ADDR or --connect ADDR".into()),
    }
}

fn serve(cli: &Cli, addr: SocketAddr) -> Result<(), Failure> {
    let session = cli.serve.session()?.build()?;
    let running = Running::start(&session, &echo, cli.serve.shape(), addr, |server| server)?;
    let (taken, counts) = running.until_interrupted(session.ender())?;
    println!(
        "{taken} connections taken, {} ended, {} failed; {} bytes sent back",
        counts[ENDED], counts[FAILED], counts[BYTES]
    );
    Ok(())
}

fn measure(cli: &Cli, addr: SocketAddr) -> Result<(), Failure> {
    gpu_examples::serve::raise_descriptor_limit();
    let load = Load {
        connections: cli.clients.max(1),
        size: cli.size.max(1),
        depth: cli.depth.max(1),
        duration: Duration::from_secs_f64(cli.seconds.clamp(0.01, 86_400.0)),
    };
    let report = load::run(addr, &load)?;
    println!(
        "{} connections, messages of {} bytes: {:.0} messages/s, {:.3} GB/s each way; round trip p50 {:.1} µs, p99 {:.1} µs",
        load.connections,
        load.size,
        report.rate(),
        report.rate() * load.size as f64 / 1e9,
        report.percentile(50.0).as_secs_f64() * 1e6,
        report.percentile(99.0).as_secs_f64() * 1e6,
    );
    Ok(())
}
