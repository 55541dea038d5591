//! What a command line comes to.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use gpu_host::Session;
use gpu_kernels::verify::kernel::scratch_len;
use gpu_kernels::verify::lbp::{Method, Shape};
use gpu_kernels::verify::store::Header;
use gpu_kernels::verify::wire::{ID_MAX, REQUEST_LEN};
use gpu_kernels::verify::{ACCEPTED, DAMAGED, FAILED, REFUSED, UNKNOWN, VERIFIED, Verify, verify};

use super::cli::{Cli, method_name, raw_threshold};
use super::client::{self, ClientError, Until};
use super::enrol::Plan;
use super::store::{FILE, Store, StoreError};
use super::{probes, report};
use crate::device::{write_counts, write_stats};
use crate::failure::Failure;
use crate::serve::{Running, ServeArgs, raise_descriptor_limit};

/// The threshold of a server that is told none: synthetic faces differ by less from themselves than from
/// others.
const THRESHOLD: f64 = 0.25;
/// Connections of a client that is told no number.
const CONNECTIONS: u32 = 16;

/// Does what the command line says; the exit status.
///
/// # Errors
/// Whatever it cannot be done for.
pub fn run(cli: &Cli) -> Result<ExitCode, Failure> {
    let plan = Plan { shape: cli.shape(), method: cli.method };
    // A mode that needs a store has one: clap sees to it.
    let store = cli.store.as_deref().unwrap_or(Path::new("."));
    if let Some(dir) = &cli.generate {
        made(dir, &plan.generate(dir, cli.identities.into(), cli.seed)?)?;
    } else if let (Some(dir), Some(images)) = (&cli.enroll, &cli.images) {
        let (header, messages) = plan.enrol(dir, images)?;
        made(dir, &header)?;
        for message in &messages {
            eprintln!("verify: {message}");
        }
        if !messages.is_empty() {
            return Ok(ExitCode::from(2));
        }
    } else if let Some(addr) = cli.listen {
        serve(cli, addr, store)?;
    } else if let Some(addr) = cli.connect {
        return measure(cli, addr, store);
    }
    Ok(ExitCode::SUCCESS)
}

fn made(dir: &Path, header: &Header) -> Result<(), Failure> {
    let shape = header.shape;
    let method = Method::from_raw(header.method).map_or("", method_name);
    writeln!(
        io::stdout(),
        "{}: {} references of {}x{} pixels in {}x{} cells, {method}, {} bytes",
        dir.join(FILE).display(),
        header.count,
        shape.width,
        shape.height,
        shape.columns,
        shape.rows,
        header.file_len()
    )?;
    Ok(())
}

/// A server's kernel, with what it needs.
pub struct Serving {
    /// What runs it.
    pub session: Session,
    /// The launch.
    pub running: Running,
    _scratch: gpu_host::DeviceBuffer<u8>,
    _path: gpu_host::DeviceBuffer<u8>,
}

/// Launches a server for the store of a directory, whose images have this shape. What the file is the kernel
/// finds out itself.
///
/// # Errors
/// If there can be no such images, it cannot listen, or the launch fails.
pub fn launch(
    args: &ServeArgs,
    pages: (u32, u64),
    addr: SocketAddr,
    dir: &Path,
    (shape, method): (Shape, Method),
    threshold: f64,
) -> Result<Serving, Failure> {
    let each = scratch_len(shape, method).ok_or(StoreError::Shape(shape))?;
    // A request stays in its ring until it is whole.
    let request = (REQUEST_LEN + ID_MAX + shape.pixels()).next_power_of_two() as u32;
    let args = ServeArgs { ring: args.ring.max(request), ..args.clone() };
    let (page_size, cache_size) = pages;
    let session = args.session()?.root(dir).page_size(page_size).cache_size(cache_size).build()?;
    let warps = args.shape();
    let scratch = session.alloc::<u8>(each * args.warps.max(1) as usize)?;
    let path = session.alloc_from(FILE.as_bytes())?;
    let running = Running::start(&session, &verify, warps, addr, |server| Verify {
        server,
        fs: bytemuck::cast(session.fs()),
        path: path.slice(),
        scratch: scratch.slice(),
        scratch_each: each as u64,
        threshold: raw_threshold(threshold, shape),
    })?;
    Ok(Serving { session, running, _scratch: scratch, _path: path })
}

fn serve(cli: &Cli, addr: SocketAddr, dir: &Path) -> Result<(), Failure> {
    let page_size = u32::try_from(cli.page_size).map_err(|_| "--page-size: 2M at most")?;
    let pages = (page_size, cli.cache_size);
    let store = Store::open(dir)?;
    let images = (store.header.shape, store.method);
    let threshold = cli.threshold.unwrap_or(THRESHOLD);
    let Serving { session, running, _scratch, _path } =
        launch(&cli.serve, pages, addr, dir, images, threshold)?;
    let (taken, counts) = running.until_interrupted(session.ender())?;
    println!(
        "{taken} connections, {} failed; {} faces verified, {} of them accepted; {} unknown, {} refused, \
         {} for which the store failed",
        counts[FAILED],
        counts[VERIFIED],
        counts[ACCEPTED],
        counts[UNKNOWN],
        counts[REFUSED],
        counts[DAMAGED]
    );
    if cli.stats {
        write_stats(&session.stats()?, &mut io::stderr())?;
        write_counts(&session.counts_by_kernel(), &mut io::stderr())?;
    }
    Ok(())
}

fn measure(cli: &Cli, addr: SocketAddr, dir: &Path) -> Result<ExitCode, Failure> {
    raise_descriptor_limit();
    let store = Store::open(dir)?;
    let threshold = cli.threshold.map(|threshold| raw_threshold(threshold, store.header.shape));
    let probes =
        probes::make(&store, cli.images.as_deref(), cli.probes as usize, threshold, cli.seed)?;
    let until = match cli.requests {
        Some(requests) => Until::Requests(requests),
        None => Until::Time(Duration::from_secs_f64(cli.duration.clamp(0.01, 86_400.0))),
    };
    let connections = match &cli.sweep[..] {
        [] => vec![cli.serve.connections.unwrap_or(CONNECTIONS).max(1)],
        sweep => sweep.to_vec(),
    };
    let mut runs = Vec::new();
    for connections in connections {
        match client::run(addr, &probes, connections as usize, until) {
            Ok(run) => runs.push(run),
            Err(error @ ClientError::Wrong { .. }) => {
                eprintln!("verify: {error}");
                return Ok(ExitCode::from(1));
            }
            Err(error) => return Err(format!("{addr}: {error}").into()),
        }
    }
    if let Some(file) = &cli.plot {
        std::fs::write(file, report::plot(&runs))
            .map_err(|e| format!("{}: {e}", file.display()))?;
    }
    match cli.json {
        true => writeln!(io::stdout(), "{:#}", report::json(&runs))?,
        false => write!(io::stdout(), "{}", report::text(&runs))?,
    }
    Ok(ExitCode::SUCCESS)
}
