//! Why a launch failed.

use std::fmt;

use gpu_rt::Dim3;
use gpu_rt::host::Place;

use crate::config::{MAX_BLOCK_THREADS, MAX_SHARED_BYTES};
use crate::report::{LaneId, Roll};
use crate::schedule::Schedule;

/// A launch that failed: of which kernel, why, and in deterministic mode how to see it again.
#[derive(Clone, Debug)]
pub struct LaunchError {
    /// The kernel's name.
    pub kernel: String,
    /// Why.
    pub fault: Box<Fault>,
    /// In deterministic mode, how the failure came about.
    pub replay: Option<Replay>,
}

/// How to see a failure again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// The schedule under which it happened.
    pub schedule: Schedule,
    /// The hash of all scheduling decisions of the launch up to the failure.
    pub trace: u64,
    /// How many there were.
    pub steps: u64,
    /// The test that launched, as far as the name of its thread tells.
    pub test: Option<String>,
}

impl fmt::Display for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={} cargo test", crate::schedule::VARIABLE, self.schedule)?;
        match &self.test {
            Some(test) => write!(f, " {test} -- --exact"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kernel `{}`: {}", self.kernel, self.fault)?;
        if let Some(replay) = &self.replay {
            write!(
                f,
                "\nafter {} steps, trace {:016x}; replay: {replay}",
                replay.steps, replay.trace
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for LaunchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.fault)
    }
}

/// Why a launch failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// An extent is zero.
    #[error("a grid of {grid} blocks of {block} threads is empty: every extent must be at least 1")]
    Empty {
        /// The grid's extent.
        grid: Dim3,
        /// The block's extent.
        block: Dim3,
    },
    /// The block has too many threads.
    #[error(
        "a block of {threads} threads exceeds {MAX_BLOCK_THREADS}: use more and smaller blocks"
    )]
    BlockTooLarge {
        /// Its threads.
        threads: u64,
    },
    /// The block has more threads than the kernel says.
    #[error(
        "a block of {threads} threads, while the kernel says that it has at most {most}: use more and \
         smaller blocks"
    )]
    BlockOverBound {
        /// Its threads.
        threads: u64,
        /// What `#[kernel(max_threads = N)]` says.
        most: u32,
    },
    /// The block does not fit on a worker.
    #[error(
        "a block of {threads} threads exceeds the {resident} of a worker: raise \
         Config::resident_threads"
    )]
    BlockDoesNotFit {
        /// Its threads.
        threads: u64,
        /// What a worker holds.
        resident: u32,
    },
    /// The launch asks for too much shared memory.
    #[error(
        "{bytes} bytes of shared memory exceed {MAX_SHARED_BYTES}: keep less per \
         block, or in device memory"
    )]
    SharedTooLarge {
        /// The bytes asked for.
        bytes: usize,
    },
    /// A thread panicked.
    #[error("{lane} panicked at {at}: {message}")]
    Panicked {
        /// The thread.
        lane: LaneId,
        /// The panic's message.
        message: String,
        /// The place in the source, as `file:line:column`.
        at: String,
    },
    /// A lane named a mask without itself.
    #[error("{lane} called {op} at {at} with mask {mask:#010x}, which lacks lane {number}, itself")]
    NotInMask {
        /// The thread.
        lane: LaneId,
        /// Its number in the warp.
        number: u32,
        /// The function.
        op: &'static str,
        /// The mask.
        mask: u32,
        /// The place.
        at: Place,
    },
    /// A mask names lanes that will never come.
    #[error(
        "{lane} called {op} at {at} with mask {mask:#010x}, but the lanes {gone:#010x} \
         have exited or never existed"
    )]
    ExitedInMask {
        /// The thread that waits.
        lane: LaneId,
        /// The function.
        op: &'static str,
        /// The mask.
        mask: u32,
        /// Those of its lanes that are not there.
        gone: u32,
        /// The place.
        at: Place,
    },
    /// Two lanes that name each other disagree.
    #[error(
        "{lane} called {op} at {at} with mask {mask:#010x}, while {other} waits in \
         {other_op} at {other_at} with mask {other_mask:#010x}: lanes that meet must call the same function with the same mask"
    )]
    Mismatch {
        /// The thread that came later.
        lane: LaneId,
        /// Its function.
        op: &'static str,
        /// Its mask.
        mask: u32,
        /// Its place.
        at: Place,
        /// The thread that waits.
        other: LaneId,
        /// Its function.
        other_op: &'static str,
        /// Its mask.
        other_mask: u32,
        /// Its place.
        other_at: Place,
    },
    /// A shuffle from outside the mask.
    #[error(
        "{lane} called shfl at {at} from lane {source_lane}, which is not in mask {mask:#010x}"
    )]
    SourceNotInMask {
        /// The thread.
        lane: LaneId,
        /// The lane it asked for.
        source_lane: u32,
        /// The mask.
        mask: u32,
        /// The place.
        at: Place,
    },
    /// Threads of one block wait at different barriers.
    #[error("divergent barrier: {lane} waits at {at}, while {other} waits at {other_at}")]
    DivergentBarrier {
        /// The thread that came later.
        lane: LaneId,
        /// Its place.
        at: Place,
        /// The thread that came first.
        other: LaneId,
        /// Its place.
        other_at: Place,
    },
    /// No thread of a block can ever run again.
    #[error("deadlock: none of these threads can ever run again{roll}")]
    Deadlock {
        /// The threads of the block.
        roll: Roll,
    },
    /// The launch took too long.
    #[error("not finished {limit}; these threads remain{roll}")]
    Timeout {
        /// What the limit was.
        limit: String,
        /// The threads of the worker that noticed.
        roll: Roll,
    },
    /// A thread used more stack than it has.
    #[error("{lane} overflowed its stack of {stack_size} bytes: raise Config::stack_size")]
    StackOverflow {
        /// The thread.
        lane: LaneId,
        /// The size of a stack.
        stack_size: usize,
    },
    /// The system gave no memory for stacks.
    #[error("no memory for stacks: {0}; lower Config::resident_threads or Config::stack_size")]
    NoStacks(String),
    /// What a kernel did wrong, or what is wrong with it, as PTX.
    #[error(transparent)]
    Ptx(#[from] crate::ptx::PtxFault),
    /// The [`Host`](crate::Host) panicked on a worker that held blocks of the launch.
    #[error("the host that serves the launch panicked: {0}")]
    Host(String),
    /// The emulator was dropped while the launch was under way.
    #[error("the emulator was dropped before the launch ended")]
    ShutDown,
}
