//! What is drawn.

use crate::Result;
use crate::data::DataFile;
use crate::measures::hits::Held;
use crate::measures::misses::Shape;
use crate::measures::requests::{nop_rate, round_trips};
use crate::measures::threads::shape;
use crate::probes::Probes;
use crate::scale::Scale;
use crate::stats::{Rounds, percentile};
use gpu_examples::svg::{Axis, Chart, Line};
use gpu_host::{DaemonMode, LaunchConfig, Session};
use gpu_kernels::probe::{copy_by_threads, read_by_threads, stride_pages};

/// A drawing.
pub(crate) struct Plot {
    /// Its file's name.
    pub(crate) name: &'static str,
    /// What it shows, in a line.
    pub(crate) what: &'static str,
    /// Measures and draws.
    pub(crate) draw: fn(&Scale) -> Result<String>,
}

/// All drawings.
pub(crate) const ALL: &[Plot] = &[
    Plot {
        name: "threads",
        what: "requests and hits per second over the number of threads",
        draw: threads,
    },
    Plot {
        name: "latency",
        what: "how long round trips take: the share that took longer",
        draw: latency,
    },
    Plot { name: "pages", what: "bandwidth of hits and misses over the page size", draw: pages },
];

/// The median of three rounds, after one that does not count.
fn median(mut side: impl FnMut() -> Result<f64>) -> Result<f64> {
    side()?;
    let rounds: Rounds = (0..3).map(|_| side()).collect::<Result<Vec<_>>>()?.into_iter().collect();
    Ok(rounds.median())
}

fn line(name: &str, points: Vec<(f64, f64)>) -> Line {
    Line { name: name.into(), points, peer: false }
}

/// 65536 → 64 Ki
fn binary(value: f64) -> String {
    match value {
        v if v >= 1048576.0 => format!("{} Mi", v / 1048576.0),
        v if v >= 1024.0 => format!("{} Ki", v / 1024.0),
        v => v.to_string(),
    }
}

fn threads(scale: &Scale) -> Result<String> {
    let held = Held::new(scale, Session::builder(), 4 << 10, 4 << 20, 4 << 10, 1)?;
    let nops = Probes::new(Session::builder(), None, 0)?;
    let (mut hits, mut requests) = (Vec::new(), Vec::new());
    let mut count = 1;
    while count <= scale.threads {
        let total = scale.requests.min(u64::from(count) * 16_384);
        requests.push((f64::from(count), median(|| nop_rate(&nops, count, total))? * 1e6));
        let times = (scale.requests / 1024).max(1);
        let per_second = || Ok(held.read(&stride_pages, shape(count), times)? / 4096.0);
        hits.push((f64::from(count), median(per_second)?));
        count *= 4;
    }
    let lines = vec![line("4 KiB hits, mapped", hits), line("no-op requests", requests)];
    let x = Axis { title: "threads", base: 4.0, label: |v| format!("{v}") };
    let label = |v: f64| if v >= 1e6 { format!("{} M", v / 1e6) } else { format!("{} k", v / 1e3) };
    let y = Axis { title: "per second", base: 10.0, label };
    Ok(Chart { title: "Throughput over threads", x, y, lines, marks: true }.svg())
}

fn latency(scale: &Scale) -> Result<String> {
    let mut lines = Vec::new();
    for (name, daemon, warps) in [
        ("1 warp, served inline", DaemonMode::Inline, 1),
        ("1 warp, daemon thread", DaemonMode::Threads(1), 1),
        ("128 warps, served inline", DaemonMode::Inline, 128),
    ] {
        let work = (scale.requests / 8 / u64::from(warps)).max(16);
        let sorted = round_trips(daemon, warps, work)?;
        // Evenly on the axis: 50 %, 25 %, … took longer.
        let least = 4.0 / sorted.len() as f64;
        let shares = (0..).map(|i| 0.999 * 0.8f64.powi(i)).take_while(|share| *share >= least);
        let point = |share: f64| (percentile(&sorted, 1.0 - share) as f64 / 1000.0, share * 100.0);
        lines.push(line(name, shares.map(point).collect()));
    }
    let x = Axis { title: "microseconds", base: 10.0, label: |v| format!("{v}") };
    let label = |v: f64| format!("{} %", (v * 1e6).round() / 1e6);
    let y = Axis { title: "round trips that took longer", base: 10.0, label };
    Ok(Chart { title: "Round trips to the host", x, y, lines, marks: false }.svg())
}

fn pages(scale: &Scale) -> Result<String> {
    let data = DataFile::new(scale)?;
    let names = ["hits, read_at", "copies", "misses in order", "misses at random"];
    let mut points = names.map(|_| Vec::new());
    let mut page = 4096;
    while page <= 2 << 20 {
        let bytes = u64::from(page);
        let held = Held::new(scale, Session::builder(), page, 16 << 20, bytes, 8)?;
        let times = (scale.file >> 24).max(1);
        let eight = LaunchConfig::new(2, 4);
        let found = [
            median(|| held.read(&read_by_threads, eight, times))?,
            median(|| held.copy(&copy_by_threads, eight, times))?,
            median(|| Shape::sequential(page).run(&data))?,
            median(|| Shape::random(page).run(&data))?,
        ];
        for (points, value) in points.iter_mut().zip(found) {
            points.push((f64::from(page), value / 1e9));
        }
        page *= 2;
    }
    let lines = names.into_iter().zip(points);
    let lines = lines.map(|(name, points)| Line { peer: name == "copies", ..line(name, points) });
    let x = Axis { title: "page size in bytes", base: 2.0, label: binary };
    let y = Axis { title: "GB/s", base: 2.0, label: |v| v.to_string() };
    Ok(Chart { title: "Bandwidth over the page size", x, y, lines: lines.collect(), marks: true }
        .svg())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_short() {
        assert_eq!(
            (binary(512.0), binary(4096.0), binary(2097152.0)),
            ("512".into(), "4 Ki".into(), "2 Mi".into())
        );
    }

    #[test]
    fn drawings_have_all_lines() {
        let dir = tempfile::tempdir().unwrap();
        let mut scale = Scale::tiny(dir.path());
        scale.file = 4 << 20;
        for plot in ALL {
            let svg = (plot.draw)(&scale).unwrap_or_else(|e| panic!("{}: {e}", plot.name));
            assert!(
                svg.ends_with("</svg>\n") && !svg.contains("NaN") && !svg.contains("inf"),
                "{}",
                plot.name
            );
        }
    }
}
