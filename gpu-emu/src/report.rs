//! What a launch reports: who did what, and where.

use std::fmt;

use gpu_rt::Dim3;
use gpu_rt::host::Place;

/// A thread of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LaneId {
    /// The position of its block in the grid.
    pub block: Dim3,
    /// Its position in the block.
    pub thread: Dim3,
}

impl fmt::Display for LaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {}, thread {}", self.block, self.thread)
    }
}

/// What a thread that has not ended is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// It waits for the other threads of its block.
    Barrier,
    /// It waits for the other lanes of a mask.
    Warp {
        /// In which function.
        op: &'static str,
        /// The mask it named.
        mask: u32,
    },
    /// It waits for a word to change.
    Word {
        /// The address of the word.
        address: usize,
        /// The value that it is to lose.
        value: u32,
    },
    /// It sleeps.
    Sleeping,
    /// It asked which lanes are converged.
    Converging,
    /// It spins, calling `relax`.
    Spinning,
    /// It could run.
    Ready,
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Barrier => f.write_str("at a barrier of the block"),
            Self::Warp { op, mask } => write!(f, "in {op} with mask {mask:#010x}"),
            Self::Word { address, value } => {
                write!(f, "waiting for the word at {address:#x} to change from {value}")
            }
            Self::Sleeping => f.write_str("asleep"),
            Self::Converging => f.write_str("asking for the converged lanes"),
            Self::Spinning => f.write_str("spinning"),
            Self::Ready => f.write_str("ready to run"),
        }
    }
}

/// A thread that has not ended, and where it was last seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    /// The thread.
    pub lane: LaneId,
    /// What it does.
    pub doing: Doing,
    /// The place in the source; unknown for a thread that has not called anything yet.
    pub at: Option<Place>,
}

/// The threads that have not ended. Displays a line for each run of threads that do the same.
#[derive(Clone, Debug, Default)]
pub struct Roll(pub Vec<Whereabouts>);

/// How many lines a [`Roll`] displays.
const LINES: usize = 16;

impl fmt::Display for Roll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let same = |a: &Whereabouts, b: &Whereabouts| {
            (a.lane.block, a.doing, a.at) == (b.lane.block, b.doing, b.at)
        };
        let mut runs = self.0.chunk_by(same);
        for run in runs.by_ref().take(LINES) {
            let Whereabouts { lane, doing, at } = run[0];
            write!(f, "\n  {lane}")?;
            if run.len() > 1 {
                write!(f, " and {} more", run.len() - 1)?;
            }
            write!(f, ": {doing}")?;
            if let Some(at) = at {
                write!(f, ", {at}")?;
            }
        }
        match runs.map(<[_]>::len).sum() {
            0 => Ok(()),
            rest => write!(f, "\n  and {rest} more threads"),
        }
    }
}
