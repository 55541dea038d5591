//! The measures themselves.

pub(crate) mod gpu;
pub(crate) mod grep;
pub(crate) mod hits;
pub(crate) mod http;
pub(crate) mod instructions;
pub(crate) mod matcher;
pub(crate) mod merging;
pub(crate) mod misses;
pub(crate) mod net;
pub(crate) mod requests;
pub(crate) mod threads;
pub(crate) mod typed;
pub(crate) mod writes;

use crate::Result;
use crate::row::Row;
use crate::scale::Scale;

/// Something to measure: one or more rows of the table.
pub(crate) struct Measure {
    /// The beginning of its rows' names.
    pub(crate) name: &'static str,
    /// What it measures, in a line.
    pub(crate) what: &'static str,
    /// The peers' commands at this scale, where they are programs.
    pub(crate) commands: fn(&Scale) -> Vec<String>,
    /// Measures it.
    pub(crate) run: fn(&Scale) -> Result<Vec<Row>>,
}

/// All measures, in the table's order.
pub(crate) const ALL: &[Measure] = &[
    requests::LATENCY,
    requests::RATE,
    misses::SEQUENTIAL,
    misses::RANDOM,
    hits::HITS,
    writes::SEQUENTIAL,
    writes::RANDOM,
    typed::VIEW,
    merging::MERGE,
    merging::METADATA,
    grep::LITERAL,
    grep::REGEX,
    grep::WORDS,
    matcher::MATCHER,
    threads::MEMORY,
    threads::SCALE,
    net::ECHO,
    net::WIRE,
    net::IDLE,
    http::HTTP,
    instructions::COUNTS,
];

impl Measure {
    /// Name, meaning and commands.
    pub(crate) fn describe(&self, scale: &Scale) -> String {
        let commands: String =
            (self.commands)(scale).iter().map(|line| format!("\n    $ {line}")).collect();
        format!("{}\n    {}{commands}", self.name, self.what)
    }
}

/// For measures whose peers are no programs.
pub(crate) fn no_commands(_: &Scale) -> Vec<String> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every measure that needs no other program, at a size at which only the answers matter: each
    /// checks its own.
    #[test]
    fn answers_are_right() {
        let dir = tempfile::tempdir().unwrap();
        let scale = Scale::tiny(dir.path());
        for measure in ALL {
            let rows = match (measure.run)(&scale) {
                Err(e)
                    if ["Debian", "not built", "text found"]
                        .iter()
                        .any(|part| e.to_string().contains(part)) =>
                {
                    eprintln!("skipped: {}: {e}", measure.name);
                    continue;
                }
                rows => rows.unwrap_or_else(|e| panic!("{}: {e}", measure.name)),
            };
            let table = crate::row::markdown(&rows);
            assert!(table.lines().count() > 2, "{} measured nothing", measure.name);
            assert!(!table.contains("NaN") && !table.contains("inf"), "{table}");
        }
    }

    /// The same of what is measured on a GPU, on the emulated one.
    #[test]
    fn answers_are_right_on_a_device() {
        let dir = tempfile::tempdir().unwrap();
        let scale = Scale::tiny(dir.path());
        let on = gpu::On { device: gpu_host::DeviceChoice::default(), module: None };
        for measure in gpu::ALL {
            let rows =
                (measure.run)(&scale, &on).unwrap_or_else(|e| panic!("{}: {e}", measure.name));
            let table = crate::row::markdown(&rows);
            assert!(table.contains(measure.name), "{table}");
            assert!(!table.contains("NaN") && !table.contains("inf"), "{table}");
        }
    }

    #[test]
    fn names_are_distinct_and_described() {
        let scale = Scale::quick();
        for (i, measure) in ALL.iter().enumerate() {
            assert!(ALL[..i].iter().all(|other| other.name != measure.name));
            assert!(measure.describe(&scale).starts_with(measure.name));
        }
    }
}
