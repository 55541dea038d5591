//! A web server in a kernel: static files, by gpunet and gpufs together.
//!
//!     cargo run --release --example http -- --listen 127.0.0.1:8000 --root .
//!     curl -i http://127.0.0.1:8000/README.md
//!
//! The first line that it prints is its address.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use gpu_examples::failure::Failure;
use gpu_examples::serve::{Running, ServeArgs};
use gpu_kernels::http::{BYTES, CONN_WORDS, Http, LATE, REFUSED, REQUESTS, http};

/// A web server in a GPU kernel: HTTP/1.1, static files.
///
/// GET and HEAD, keep-alive, pipelining, ranges, content types, 304 by Last-Modified, index.html. Requests
/// that two servers could understand in two ways are refused; paths resolve below the root, and the
/// host sees to it that no symbolic link leads out of it. Ctrl-C ends the kernel, and what it counted is
/// printed.
#[derive(Debug, Parser)]
#[command(name = "http")]
struct Cli {
    /// Serve at this address; port 0 picks a free one
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
    /// Serve the files below this directory
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
    /// How long the head of a request may take
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS", help_heading = "Server")]
    head_timeout: f64,
    /// How long a connection may be silent, or take nothing of what it asked for
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS", help_heading = "Server")]
    idle_timeout: f64,
    #[command(flatten)]
    serve: ServeArgs,
}

fn main() -> Result<(), Failure> {
    let cli = Cli::parse();
    let session = cli.serve.session()?.root(&cli.root).build()?;
    let sockets = session.net().sockets() as usize;
    let conns = session.alloc::<u64>(sockets * CONN_WORDS + 8)?;
    let nanoseconds = |seconds: f64| (seconds.clamp(0.001, 1e6) * 1e9) as u64;
    let shape = cli.serve.shape();
    let running = Running::start(&session, &http, shape, cli.listen, |server| Http {
        server,
        fs: bytemuck::cast(session.fs()),
        conns: conns.slice(),
        head_ns: nanoseconds(cli.head_timeout),
        idle_ns: nanoseconds(cli.idle_timeout),
    })?;
    let (taken, counts) = running.until_interrupted(session.ender())?;
    println!(
        "{taken} connections, {} requests, {} refused, {} connections too late; {} bytes of files",
        counts[REQUESTS], counts[REFUSED], counts[LATE], counts[BYTES]
    );
    Ok(())
}
