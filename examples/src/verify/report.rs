//! What a client measured, as text, JSON and drawing.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Claims, Run};
use crate::svg::{Axis, Chart, Line};

/// The percentiles that are told, and what they are called.
const PERCENTILES: [(f64, &str); 5] =
    [(50.0, "p50"), (90.0, "p90"), (99.0, "p99"), (99.9, "p99.9"), (100.0, "max")];

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// A table with a line for each run, and what was accepted.
#[must_use]
pub fn text(runs: &[Run]) -> String {
    let mut out = format!("{:>11} {:>9} {:>10}", "CONNECTIONS", "REQUESTS", "REQUESTS/s");
    for (_, name) in PERCENTILES {
        write!(out, " {name:>9}").expect("a string takes everything");
    }
    out.push_str("  µs\n");
    for run in runs {
        let (connections, replies, rate) = (run.connections, run.replies, run.rate());
        write!(out, "{connections:>11} {replies:>9} {rate:>10.0}").expect("as above");
        for (percent, _) in PERCENTILES {
            write!(out, " {:>9.0}", micros(run.percentile(percent))).expect("as above");
        }
        out.push('\n');
    }
    let sum = |of: fn(&Run) -> Claims| {
        let Claims { made, accepted } = total(runs, of);
        format!("{accepted} of {made}")
    };
    let (genuine, impostors) = (sum(|run| run.genuine), sum(|run| run.impostors));
    let unknown: u64 = runs.iter().map(|run| run.unknown).sum();
    writeln!(
        out,
        "every reply is right; accepted: {genuine} genuine, {impostors} impostors; {unknown} unknown"
    )
    .expect("as above");
    out
}

fn total(runs: &[Run], of: fn(&Run) -> Claims) -> Claims {
    runs.iter().map(of).fold(Claims::default(), |a, b| Claims {
        made: a.made + b.made,
        accepted: a.accepted + b.accepted,
    })
}

/// The same for machines; latencies in microseconds.
#[must_use]
pub fn json(runs: &[Run]) -> Value {
    let claims = |claims: Claims| json!({"made": claims.made, "accepted": claims.accepted});
    let run = |run: &Run| {
        let latency = PERCENTILES
            .iter()
            .map(|(percent, name)| ((*name).to_owned(), json!(micros(run.percentile(*percent)))));
        json!({
            "connections": run.connections,
            "requests": run.replies,
            "seconds": run.elapsed.as_secs_f64(),
            "requests_per_second": run.rate(),
            "latency_us": latency.collect::<serde_json::Map<_, _>>(),
            "genuine": claims(run.genuine),
            "impostors": claims(run.impostors),
            "unknown": run.unknown,
        })
    };
    json!({"runs": runs.iter().map(run).collect::<Vec<_>>()})
}

/// The latency's curve: of one run its distribution, of several the latency over the throughput.
#[must_use]
pub fn plot(runs: &[Run]) -> String {
    match runs {
        [run] => distribution(run),
        _ => over_throughput(runs),
    }
}

fn number(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{} M", v / 1e6),
        v if v >= 1e3 => format!("{} k", v / 1e3),
        v => v.to_string(),
    }
}

fn distribution(run: &Run) -> String {
    // Evenly on the axis, down to where four requests were slower.
    let least = 4.0 / run.latencies.len().max(8) as f64;
    let shares = (0..).map(|i| 0.999 * 0.8f64.powi(i)).take_while(|share| *share >= least);
    let point = |share: f64| (micros(run.percentile(100.0 * (1.0 - share))), share * 100.0);
    let points = shares.map(point).collect();
    let name = format!("{} connections, {:.0} requests/s", run.connections, run.rate());
    let label = |v: f64| format!("{} %", (v * 1e6).round() / 1e6);
    Chart {
        title: "Latency of face verification",
        x: Axis { title: "microseconds", base: 10.0, label: number },
        y: Axis { title: "requests that took longer", base: 10.0, label },
        lines: vec![Line { name, points, peer: false }],
        marks: false,
    }
    .svg()
}

fn over_throughput(runs: &[Run]) -> String {
    let line = |(percent, name): &(f64, &str)| {
        let points = runs.iter().map(|run| (run.rate(), micros(run.percentile(*percent))));
        Line { name: (*name).into(), points: points.collect(), peer: false }
    };
    Chart {
        title: "Latency of face verification over throughput",
        x: Axis {
            title: "requests per second, by ever more connections",
            base: 2.0,
            label: |v| format!("{v:.0}"),
        },
        y: Axis { title: "microseconds", base: 10.0, label: number },
        lines: PERCENTILES.iter().map(line).collect(),
        marks: true,
    }
    .svg()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(connections: usize) -> Run {
        let claims = Claims { made: 60, accepted: 50 };
        Run {
            connections,
            replies: 130,
            elapsed: Duration::from_millis(13),
            latencies: (1..=130).map(|n| Duration::from_micros(n * connections as u64)).collect(),
            genuine: claims,
            impostors: Claims { accepted: 1, ..claims },
            unknown: 10,
        }
    }

    #[test]
    fn text_and_json_say_the_same() {
        let runs = [run(1), run(16)];
        let text = text(&runs);
        assert!(
            text.contains("accepted: 100 of 120 genuine, 2 of 120 impostors; 20 unknown"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 4);
        let json = json(&runs);
        assert_eq!(json["runs"][1]["latency_us"]["max"], 2080.0);
        assert_eq!(json["runs"][0]["requests_per_second"], 10_000.0);
        assert!(text.lines().nth(2).is_some_and(|line| line.contains("2080")), "{text}");
    }

    #[test]
    fn drawings_are_whole() {
        for (runs, title) in [(vec![run(4)], "longer"), (vec![run(1), run(2)], "p99.9")] {
            let svg = plot(&runs);
            assert!(svg.contains(title) && svg.ends_with("</svg>\n"), "{svg}");
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
