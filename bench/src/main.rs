//! Every figure that the README quotes, side by side with its peer.
//!
//! ```text
//! cargo run --release -p bench -- [NAME…] [--list] [--quick] [--device cuda] [--json FILE] [--plot DIR]
//! ```
//!
//! Each measure runs in the same process run as its peer, in turns (A B A B …) after a round of each
//! that is not counted; a figure is the median of the rounds, with the least and the most beside it. Answers
//! are checked: sums, counts, the cache's own counters, or equality with what the peer printed.
//!
//! | module | owns |
//! |---|---|
//! | [`row`] | one line of the table: a figure, its peer's, its aim |
//! | [`stats`] | rounds, medians, percentiles |
//! | [`scale`] | how much of everything, and where files go |
//! | [`data`] | the file of random words that reads are measured on |
//! | [`corpus`] | text to search, and a dictionary of its words |
//! | [`tool`] | other programs: found, run, timed |
//! | [`fio`] | fio's command lines and answers |
//! | [`probes`] | a session with what the probe kernels need |
//! | [`measures`] | the measures themselves |
//! | [`plots`] | drawings |

mod corpus;
mod data;
mod fio;
mod measures;
mod plots;
mod probes;
mod row;
mod scale;
mod stats;
mod tool;

use clap::Parser;
use gpu_host::{DeviceChoice, Module};
use measures::gpu::On;
use scale::Scale;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// What can go wrong: said to the user, not handled.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;
/// A result of this program.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Measures the file system for GPU kernels beside its peers.
#[derive(Parser)]
#[command(after_help = "Files go to $BENCH_DIR, or target/bench-data: about 4.5 GiB.")]
struct Options {
    /// Measures whose names contain one of these; all without.
    names: Vec<String>,
    /// Say what there is to measure, with the peers' commands, and end.
    #[arg(long)]
    list: bool,
    /// Fewer rounds over smaller files.
    #[arg(long)]
    quick: bool,
    /// Measure this device instead, beside its driver: cuda, cuda:N, or ptx.
    #[arg(long, default_value = "emulated")]
    device: DeviceChoice,
    /// A file with the kernels as PTX, instead of those that this program was built with.
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
    /// Also write the table to this file, as a JSON array.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also draw SVGs into this directory. Names of drawings can be given as those of measures.
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let scale = if options.quick { Scale::quick() } else { Scale::full() };
    let wanted = |name: &str| {
        options.names.is_empty() || options.names.iter().any(|part| name.contains(part.as_str()))
    };
    if options.list {
        let peers = measures::ALL.iter().map(|m| format!("{}\n\n", m.describe(&scale)));
        let gpu = measures::gpu::ALL
            .iter()
            .map(|m| format!("{} (with --device)\n    {}\n\n", m.name, m.what));
        let plots =
            plots::ALL.iter().map(|p| format!("{} (with --plot)\n    {}\n\n", p.name, p.what));
        return say(&peers.chain(gpu).chain(plots).collect::<String>());
    }

    let mut rows = Vec::new();
    let mut missing = Vec::new();
    // The others are measured whatever comes of one.
    let mut take = |name: &str, outcome: Result<Vec<row::Row>>| match outcome {
        Ok(some) => {
            rows.extend(some);
            // Each time, so that what is there is kept if a later one takes too long.
            let Some(file) = &options.json else { return Ok(()) };
            std::fs::write(file, row::json(&rows)).map_err(|e| format!("{}: {e}", file.display()))
        }
        Err(e) => {
            missing.push(format!("{name}: {e}"));
            Ok(())
        }
    };
    if options.device.needs_module() {
        let file = options.module.as_deref();
        let module = Module::for_device(&options.device, file, gpu_kernels::PTX)?;
        let on = On { device: options.device.clone(), module };
        for measure in measures::gpu::ALL.iter().filter(|m| wanted(m.name)) {
            eprintln!("{}: {}", measure.name, measure.what);
            take(measure.name, (measure.run)(&scale, &on))?;
        }
    } else {
        for measure in measures::ALL.iter().filter(|m| wanted(m.name)) {
            eprintln!("{}: {}", measure.name, measure.what);
            take(measure.name, (measure.run)(&scale))?;
        }
    }
    say(&row::markdown(&rows))?;
    if let Some(dir) = &options.plot {
        std::fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        for plot in plots::ALL.iter().filter(|p| wanted(p.name)) {
            eprintln!("{}: {}", plot.name, plot.what);
            let file = dir.join(format!("{}.svg", plot.name));
            std::fs::write(&file, (plot.draw)(&scale)?)?;
            say(&format!("{}\n", file.display()))?;
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(missing.join("\nbench: ").into()) }
}

/// Writes to standard output. Whoever has read enough of it may close it.
fn say(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(()),
    }
}
