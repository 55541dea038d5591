//! The name of a deterministic schedule: what one writes down to see an execution again.

use std::fmt;
use std::str::FromStr;

/// The environment variable that holds a [`Schedule`] to replay.
pub const VARIABLE: &str = "GPU_EMU_SCHEDULE";

/// A deterministic schedule. Displayed and parsed as `rr`, `random:SEED`, `pct:DEPTH:SEED`.
///
/// ```
/// use gpu_emu::Schedule;
/// assert_eq!("pct:3:42".parse(), Ok(Schedule::Pct { depth: 3, seed: 42 }));
/// assert_eq!(Schedule::Random { seed: 7 }.to_string(), "random:7");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Schedule {
    /// Every thread that can run does one operation, then the next thread.
    RoundRobin,
    /// Before each operation, a random thread of those that can run.
    Random {
        /// The seed.
        seed: u64,
    },
    /// Probabilistic concurrency testing: random priorities, changed at `depth - 1` random moments.
    /// Finds any bug that takes `depth` ordered events with a probability that has a lower bound
    /// (Burckhardt et al., ASPLOS 2010).
    Pct {
        /// The depth of bug looked for.
        depth: u32,
        /// The seed.
        seed: u64,
    },
}

impl Schedule {
    /// The schedule that the environment variable [`VARIABLE`] names, if it is set.
    ///
    /// # Errors
    /// Where it is set to something else.
    pub fn from_env() -> Result<Option<Self>, ParseScheduleError> {
        std::env::var(VARIABLE).ok().map(|text| text.parse()).transpose()
    }

    /// The same with another seed.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        match self {
            Self::RoundRobin => self,
            Self::Random { .. } => Self::Random { seed },
            Self::Pct { depth, .. } => Self::Pct { depth, seed },
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RoundRobin => f.write_str("rr"),
            Self::Random { seed } => write!(f, "random:{seed}"),
            Self::Pct { depth, seed } => write!(f, "pct:{depth}:{seed}"),
        }
    }
}

/// Text that names no [`Schedule`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no schedule: write rr, random:SEED or pct:DEPTH:SEED")]
pub struct ParseScheduleError(String);

impl FromStr for Schedule {
    type Err = ParseScheduleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseScheduleError(text.to_owned());
        let number = |text: &str| text.parse::<u64>().map_err(|_| error());
        match *text.split(':').collect::<Vec<_>>() {
            ["rr"] => Ok(Self::RoundRobin),
            ["random", seed] => Ok(Self::Random { seed: number(seed)? }),
            ["pct", depth, seed] => {
                let depth = depth.parse().ok().filter(|&depth| depth > 0).ok_or_else(error)?;
                Ok(Self::Pct { depth, seed: number(seed)? })
            }
            _ => Err(error()),
        }
    }
}
