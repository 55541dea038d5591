//! Requests that do nothing: what the way to the host and back costs.

use super::{Measure, no_commands};
use crate::Result;
use crate::probes::{Probes, Work, same};
use crate::row::{Aim, Better, Row};
use crate::scale::Scale;
use crate::stats::{Rounds, in_turns, percentile};
use gpu_host::{DaemonMode, LaunchConfig, Session};
use gpu_kernels::probe::{nop_latency, nop_throughput};

/// Round trips of warps.
pub(crate) const LATENCY: Measure = Measure {
    name: "nop-latency",
    what: "a request that does nothing, from one warp: how long the way to the host and back takes",
    commands: no_commands,
    run: latency,
};

/// Requests per second.
pub(crate) const RATE: Measure = Measure {
    name: "nop-rate",
    what: "requests that do nothing, one at a time from each of 4,096 threads",
    commands: no_commands,
    run: rate,
};

/// Round trips of `warps` warps, each `work` times; sorted nanoseconds.
pub(crate) fn round_trips(daemon: DaemonMode, warps: u32, work: u64) -> Result<Vec<u64>> {
    let count = u64::from(warps) * work;
    let probes = Probes::new(Session::builder().daemon(daemon), None, count as usize)?;
    samples(&probes, warps, work)
}

fn samples(probes: &Probes, warps: u32, work: u64) -> Result<Vec<u64>> {
    Ok(timed(probes, warps, work)?.0)
}

/// Round trips of `warps` warps, each `work` times: sorted nanoseconds, and millions a second.
pub(crate) fn timed(probes: &Probes, warps: u32, work: u64) -> Result<(Vec<u64>, f64)> {
    let shape = LaunchConfig::new(warps, 32);
    let done = probes.run(&nop_latency, shape, &Work { work, ..Work::default() })?;
    let count = u64::from(warps) * work;
    same("round trips", done.answer, count)?;
    Ok((probes.samples()?, count as f64 / done.seconds / 1e6))
}

fn latency(scale: &Scale) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let cases = [
        ("nop-latency", DaemonMode::Inline, 1, true, "one warp; the worker serves it itself"),
        (
            "nop-latency-thread",
            DaemonMode::Threads(1),
            1,
            false,
            "one warp; a thread of the daemon serves it",
        ),
        ("nop-latency-128-warps", DaemonMode::Inline, 128, false, "128 warps at once"),
    ];
    for (name, daemon, warps, has_aim, note) in cases {
        let work = (scale.requests / 32 / u64::from(warps)).max(16);
        let builder = Session::builder().daemon(daemon);
        let probes = Probes::new(builder, None, work as usize * warps as usize)?;
        let (mut p50, mut p99) = (Vec::new(), Vec::new());
        for round in 0..=scale.rounds {
            let sorted = samples(&probes, warps, work)?;
            if round > 0 {
                p50.push(percentile(&sorted, 0.5) as f64 / 1000.0);
                p99.push(percentile(&sorted, 0.99) as f64 / 1000.0);
            }
        }
        for (part, values) in [("p50", p50), ("p99", p99)] {
            let rounds: Rounds = values.into_iter().collect();
            let row = Row::new(format!("{name}/{part}"), "µs", Better::Less, rounds).note(note);
            rows.push(if has_aim && part == "p50" { row.aim(Aim::AtMost(2.0)) } else { row });
        }
    }
    Ok(rows)
}

/// Millions of requests per second, `total` of them by `threads` threads.
pub(crate) fn nop_rate(probes: &Probes, threads: u32, total: u64) -> Result<f64> {
    let work = (total / u64::from(threads)).max(1);
    let shape = LaunchConfig::new(threads.div_ceil(128), threads.min(128));
    let done = probes.run(&nop_throughput, shape, &Work { work, ..Work::default() })?;
    let count = u64::from(threads) * work;
    same("answers", done.answer, count)?;
    same("requests posted", done.stats.requests, count)?;
    Ok(count as f64 / done.seconds / 1e6)
}

fn rate(scale: &Scale) -> Result<Vec<Row>> {
    const THREADS: u32 = 4096;
    let inline = Probes::new(Session::builder(), None, 0)?;
    let apart = Probes::new(Session::builder().daemon(DaemonMode::Threads(1)), None, 0)?;
    let [own, threads] = in_turns(
        scale.rounds,
        [
            Box::new(|| nop_rate(&inline, THREADS, scale.requests)),
            Box::new(|| nop_rate(&apart, THREADS, scale.requests)),
        ],
    )?;
    Ok(vec![
        Row::new("nop-rate", "M/s", Better::More, own)
            .aim(Aim::AtLeast(3.0))
            .note("32 blocks of 128; the workers serve them"),
        Row::new("nop-rate-thread", "M/s", Better::More, threads)
            .note("32 blocks of 128; a thread of the daemon serves them"),
    ])
}
