//! What a launch cost, in units that no machine's load changes.

use std::fmt;
use std::iter::Sum;
use std::ops::AddAssign;

/// What a launch did, counted.
///
/// A kernel that polls for the host's answers counts its polls; all else depends on the kernel, its
/// arguments and the launch's shape, and on how warps happen to diverge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// PTX instructions that a warp executed, for however many of its lanes.
    pub warp_instructions: u64,
    /// PTX instructions that threads executed.
    pub thread_instructions: u64,
    /// Loads from global memory, one for each warp and instruction.
    pub loads: u64,
    /// Stores to global memory, likewise.
    pub stores: u64,
    /// Sectors of 32 bytes that those touched: what profilers call memory transactions.
    pub sectors: u64,
    /// Accesses to shared memory, likewise.
    pub shared: u64,
    /// Accesses to local memory, likewise.
    pub local: u64,
    /// Read-modify-writes of threads.
    pub atomics: u64,
    /// Arrivals of threads at barriers of the block.
    pub barriers: u64,
    /// Votes, shuffles, matches and barriers of warps.
    pub meetings: u64,
    /// Branches at which the lanes of a warp parted.
    pub divergences: u64,
    /// Naps of threads.
    pub naps: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.warp_instructions += other.warp_instructions;
        self.thread_instructions += other.thread_instructions;
        self.loads += other.loads;
        self.stores += other.stores;
        self.sectors += other.sectors;
        self.shared += other.shared;
        self.local += other.local;
        self.atomics += other.atomics;
        self.barriers += other.barriers;
        self.meetings += other.meetings;
        self.divergences += other.divergences;
        self.naps += other.naps;
    }
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Counts>>(all: I) -> Counts {
        all.fold(Counts::default(), |mut sum, counts| {
            sum += counts;
            sum
        })
    }
}

impl fmt::Display for Counts {
    /// A line for each group of numbers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lanes = self.thread_instructions as f64 / self.warp_instructions.max(1) as f64;
        let per = self.sectors as f64 / (self.loads + self.stores).max(1) as f64;
        writeln!(
            f,
            "instructions  {} of threads, {} of warps ({lanes:.1} lanes at a time, {} divergences)",
            self.thread_instructions, self.warp_instructions, self.divergences
        )?;
        writeln!(
            f,
            "memory        {} loads, {} stores: {} sectors of 32 bytes ({per:.1} each); {} shared, {} local",
            self.loads, self.stores, self.sectors, self.shared, self.local
        )?;
        write!(
            f,
            "waiting       {} atomics, {} barrier arrivals, {} warp meetings, {} naps",
            self.atomics, self.barriers, self.meetings, self.naps
        )
    }
}
