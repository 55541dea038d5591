//! What kernels do wrong, as far as only PTX shows it.

use std::fmt;

use gpu_rt::Dim3;

use super::code::Program;
use crate::report::LaneId;

/// A place in a module's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// The line.
    pub line: u32,
    /// The instruction.
    pub instruction: String,
    /// The function, by its symbol.
    pub function: String,
}

impl At {
    pub(super) fn new(program: &Program, pc: u32) -> At {
        let (line, instruction) = program.source(pc);
        let function = program.function_at(pc).map_or("?".into(), |f| f.name.clone());
        At { line, instruction, function }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` (line {} of the PTX, in {})", self.instruction, self.line, self.function)
    }
}

/// What is wrong with an access.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Illegal {
    /// No allocation holds all of its bytes.
    #[error("outside all allocations{near}")]
    Unallocated {
        /// The nearest allocation, in words.
        near: String,
    },
    /// Its address is no multiple of its size.
    #[error("misaligned: its address must be a multiple of {0}")]
    Misaligned(u32),
    /// Beyond the block's shared memory, of so many bytes.
    #[error("outside the block's {0} bytes of shared memory: give the launch more")]
    Shared(u32),
    /// Beyond the thread's local memory, of so many bytes.
    #[error("outside the thread's {0} bytes of local memory")]
    Local(u32),
    /// In the local memory of another thread of the block.
    #[error("in the local memory of thread number {0} of the block")]
    OthersLocal(u32),
    /// A read-modify-write of local memory, which PTX leaves undefined.
    #[error("a read-modify-write of local memory")]
    AtomicLocal,
    /// At an address that is no memory at all.
    #[error("no memory has such an address")]
    NoMemory,
    /// Of shared memory that nobody has written.
    #[error("shared memory that no thread has written yet")]
    Uninitialised,
    /// Of a word that another block accessed, with nothing to order the two.
    #[error(
        "a race: {other} accessed the same bytes with {other_at}, one of the two writes, and both are plain, or have \
         an order for threads of their own block alone"
    )]
    Race {
        /// Who.
        other: LaneId,
        /// Where.
        other_at: Box<At>,
    },
}

/// What a thread did wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PtxFault {
    /// The module has no such kernel.
    #[error("no kernel of that name is in the module; it has {known}")]
    NoKernel {
        /// Those that it has.
        known: String,
    },
    /// The arguments are not the kernel's.
    #[error(
        "{given} bytes of arguments where the kernel takes {expected}: is the module of the same build?"
    )]
    Arguments {
        /// Bytes that the launch gave.
        given: usize,
        /// Bytes that the kernel takes.
        expected: usize,
    },
    /// The block is larger than the kernel was compiled for.
    #[error(
        "a block of {threads} threads, while the kernel was compiled for {most}: use smaller blocks"
    )]
    TooManyThreads {
        /// Its threads.
        threads: u64,
        /// What the kernel was compiled for.
        most: u32,
    },
    /// The block is of another extent than the kernel was compiled for.
    #[error("a block of {given} threads, while the kernel was compiled for {due} and no other")]
    Extent {
        /// Its extent.
        given: Dim3,
        /// The kernel's.
        due: Dim3,
    },
    /// The launch is larger in one dimension than any may be.
    #[error("a {what} of {given}, where {most} is the most in each dimension")]
    TooLarge {
        /// The block or the grid.
        what: &'static str,
        /// Its extent.
        given: Dim3,
        /// The largest extents.
        most: Dim3,
    },
    /// The kernel has more registers than a warp may.
    #[error(
        "the kernel's registers take {bytes} bytes in each warp, of which there may be {most} where a worker holds so \
         many: use fewer threads on each worker, or compile it with optimisation"
    )]
    Registers {
        /// What they take.
        bytes: u64,
        /// What they may take.
        most: u64,
    },
    /// The kernel has larger local variables than a thread's stack.
    #[error(
        "the kernel's local variables take {bytes} bytes of each thread, more than the {most} of its stack: \
         raise Config::stack_size"
    )]
    LocalMemory {
        /// What they take.
        bytes: u64,
        /// The stack's size.
        most: u64,
    },
    /// An access that is not allowed.
    #[error("{lane}: {bytes} bytes at {address:#x}, by {at}: {illegal}")]
    Access {
        /// The thread.
        lane: LaneId,
        /// The address, as the instruction has it.
        address: u64,
        /// How many bytes.
        bytes: u32,
        /// The instruction.
        at: Box<At>,
        /// What is wrong.
        illegal: Illegal,
    },
    /// A thread stopped the launch without a message.
    #[error("{lane} trapped at {at}")]
    Trap {
        /// The thread.
        lane: LaneId,
        /// The instruction.
        at: At,
    },
    /// A call of something that is no function, or one with another signature.
    #[error("{lane} called {address:#x} at {at}, which is no function with that signature")]
    Call {
        /// The thread.
        lane: LaneId,
        /// The address.
        address: u64,
        /// The instruction.
        at: At,
    },
    /// An indexed branch beyond its list.
    #[error("{lane} branched to label {index} of {count} at {at}")]
    Branch {
        /// The thread.
        lane: LaneId,
        /// The index.
        index: u64,
        /// How many there are.
        count: usize,
        /// The instruction.
        at: At,
    },
    /// Lanes that run together part at a branch or a call that says that they do not.
    #[error("{lane} goes another way than {other} at {at}, which is `.uni`")]
    Parted {
        /// The thread.
        lane: LaneId,
        /// One that runs with it.
        other: LaneId,
        /// The instruction.
        at: Box<At>,
    },
    /// A lane named a mask without itself.
    #[error("{lane} named mask {mask:#010x} at {at}, which lacks itself")]
    NotInMask {
        /// The thread.
        lane: LaneId,
        /// The mask.
        mask: u32,
        /// The instruction.
        at: At,
    },
    /// A mask names lanes that will never come.
    #[error(
        "{lane} named mask {mask:#010x} at {at}, but the lanes {gone:#010x} have exited or never existed"
    )]
    ExitedInMask {
        /// The thread.
        lane: LaneId,
        /// The mask.
        mask: u32,
        /// Those that are not there.
        gone: u32,
        /// The instruction.
        at: At,
    },
    /// Two lanes that name each other disagree.
    #[error(
        "{lane} waits at {at} with mask {mask:#010x}, while {other} waits at {other_at} with mask {other_mask:#010x}: \
         lanes that meet must name the same mask in the same operation"
    )]
    Mismatch {
        /// The thread that came later.
        lane: LaneId,
        /// Its instruction.
        at: Box<At>,
        /// Its mask.
        mask: u32,
        /// The thread that waits.
        other: LaneId,
        /// Its instruction.
        other_at: Box<At>,
        /// Its mask.
        other_mask: u32,
    },
    /// A shuffle from outside the mask.
    #[error("{lane} took from lane {source_lane} at {at}, which is not in mask {mask:#010x}")]
    SourceNotInMask {
        /// The thread.
        lane: LaneId,
        /// The lane it asked for.
        source_lane: u32,
        /// The mask.
        mask: u32,
        /// The instruction.
        at: At,
    },
    /// Lanes of a warp are at different instructions of a barrier that wants them together.
    #[error("divergent barrier: {lane} waits at {at}, while {other} waits at {other_at}")]
    DivergentBarrier {
        /// The thread that came later.
        lane: LaneId,
        /// Its instruction.
        at: Box<At>,
        /// The thread that came first.
        other: LaneId,
        /// Its instruction.
        other_at: Box<At>,
    },
    /// A barrier's number, or how many threads it is for.
    #[error(
        "{lane} named barrier {barrier} for {threads} threads at {at}: there are 16, for whole warps of the block"
    )]
    Barrier {
        /// The thread.
        lane: LaneId,
        /// The barrier.
        barrier: u64,
        /// The threads.
        threads: u64,
        /// The instruction.
        at: At,
    },
    /// Warps that want different things of one barrier.
    #[error(
        "{lane} came to barrier {barrier} at {at}, {terms}, to which others came {before}: all name as many threads, \
         and reduce alike or not at all"
    )]
    MixedBarrier {
        /// The first thread of the warp that came later.
        lane: LaneId,
        /// The barrier.
        barrier: u8,
        /// What it wants.
        terms: String,
        /// What those want that came before.
        before: String,
        /// The instruction.
        at: Box<At>,
    },
    /// None of a block's threads can ever run again.
    #[error("deadlock: none of these threads can ever run again{0}")]
    Deadlock(Standing),
    /// The launch took too long.
    #[error("not finished {limit}; these threads remain{standing}")]
    Timeout {
        /// What the limit was.
        limit: String,
        /// The threads of the worker that noticed.
        standing: Standing,
    },
}

/// Threads that have not ended: how many stand where, and the first of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing(pub Vec<(LaneId, usize, &'static str, At)>);

/// How many lines a [`Standing`] displays.
const LINES: usize = 16;

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (lane, count, doing, at) in self.0.iter().take(LINES) {
            write!(f, "\n  {lane}")?;
            if *count > 1 {
                write!(f, " and {} more", count - 1)?;
            }
            write!(f, ": {doing}, {at}")?;
        }
        match self.0.iter().skip(LINES).map(|(_, count, ..)| count).sum::<usize>() {
            0 => Ok(()),
            rest => write!(f, "\n  and {rest} more threads"),
        }
    }
}
