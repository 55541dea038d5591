//! A warp: registers, local memory and a program counter for each lane.

use super::GARBAGE;
use super::barrier::{Arrival, Barriers};
use super::block::SharedMemory;
use crate::error::Fault;
use crate::ptx::check::Checker;
use crate::ptx::code::Program;
use crate::ptx::counts::Counts;
use crate::ptx::fault::{At, PtxFault};
use crate::ptx::memory::View;
use crate::ptx::profile::Profile;
use crate::ptx::row::{LANES, Lanes, Row, bits};
use crate::ptx::special::{self, position};
use crate::ptx::work::Call;
use crate::report::LaneId;

/// Where a lane returns to from the kernel itself: nowhere.
pub(super) const NOWHERE: u32 = u32::MAX;

/// Why a lane cannot go on by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Nothing.
    Nothing,
    /// At a barrier of the block.
    Barrier(Arrival),
    /// For the lanes of this mask.
    Meet(u32),
}

/// What a warp runs on: its program, its block, and the worker's own.
pub(in crate::ptx) struct Cpu<'a> {
    pub(in crate::ptx) program: &'a Program,
    pub(in crate::ptx) memory: &'a mut View,
    pub(in crate::ptx) counts: &'a mut Counts,
    /// If one is wanted.
    pub(in crate::ptx) profile: Option<&'a mut Profile>,
    pub(in crate::ptx) shared: &'a SharedMemory,
    pub(in crate::ptx) barriers: &'a mut Barriers,
    pub(in crate::ptx) checker: Option<&'a Checker>,
    /// The block's extent and its position.
    pub(in crate::ptx) extent: gpu_rt::Dim3,
    pub(in crate::ptx) block: gpu_rt::Dim3,
    /// The block's number in the grid.
    pub(in crate::ptx) number: u64,
}

/// Lanes that run together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub(super) mask: u32,
    pub(super) pc: u32,
    /// The first row of the frame.
    pub(super) base: u32,
    /// The place at which others wait to be joined.
    pub(super) stop: u32,
    /// Whether others of the warp could run too.
    pub(super) contended: bool,
}

pub(super) struct Warp {
    /// The number of its first thread in the block.
    pub(super) first: u32,
    /// Lanes that exist and have not exited.
    pub(super) live: u32,
    /// Lanes that wait for others.
    pub(super) waiting: u32,
    pub(super) asleep: u32,
    pub(super) wait: [Wait; LANES],
    /// When sleepers wake, on the host's clock.
    pub(super) wake: [u64; LANES],
    pub(super) pc: [u32; LANES],
    /// The first row of each lane's frame.
    pub(super) base: [u32; LANES],
    /// Where each lane's local variables of the running function begin.
    pub(super) local_base: [u32; LANES],
    /// Frames, one upon the other; each lane has its own column and its own height.
    rows: Vec<Row>,
    most_rows: u32,
    pub(super) special: Vec<Row>,
    pub(super) local: LocalMemory,
    /// Whether another group than the foremost has its turn.
    pub(super) rotated: bool,
    /// The lane whose turn was last.
    pub(super) turn: u32,
}

impl Warp {
    /// A warp about to run a kernel; its arguments lie in the first frame.
    pub(super) fn new(
        Call { program, kernel, arguments, most_rows, .. }: &Call,
        place: &special::Place,
        stack_size: usize,
    ) -> Warp {
        let function = &program.functions[kernel.function as usize];
        let threads = (place.block.count() as u32).saturating_sub(place.first);
        let exists = if threads >= 32 { u32::MAX } else { (1 << threads) - 1 };
        let mut rows = vec![Row::ZERO; function.rows as usize];
        rows[0] = Row([NOWHERE.into(); LANES]);
        for &(row, offset, bytes) in &kernel.arguments {
            let bytes = &arguments[offset as usize..(offset + bytes) as usize];
            for (row, chunk) in rows[row as usize..].iter_mut().zip(bytes.chunks(8)) {
                let mut word = [0; 8];
                word[..chunk.len()].copy_from_slice(chunk);
                *row = Row([u64::from_le_bytes(word); LANES]);
            }
        }
        let mut local = LocalMemory::new(stack_size);
        let fits = local.reserve(function.local_bytes.into());
        debug_assert!(fits, "`Call::new` has looked");
        Warp {
            first: place.first,
            live: exists,
            waiting: 0,
            asleep: 0,
            wait: [Wait::Nothing; LANES],
            wake: [0; LANES],
            pc: [function.start; LANES],
            base: [0; LANES],
            local_base: [0; LANES],
            rows,
            most_rows: *most_rows,
            special: special::rows(place),
            local,
            rotated: false,
            turn: 0,
        }
    }

    /// The registers of a frame, as instructions see them.
    #[inline(always)]
    pub(super) fn lanes(&mut self, program: &Program, base: u32, mask: u32) -> Lanes {
        debug_assert!((base as usize) < self.rows.len());
        // SAFETY: a frame begins at `base`, and `reserve` made room for all of its rows; the others
        // were made with the program and the warp. Rows move only where a call makes room, after
        // which nobody uses what was made before.
        unsafe {
            let frame = self.rows.as_mut_ptr().add(base as usize);
            Lanes::new(frame, program.constants.as_ptr(), self.special.as_ptr(), mask)
        }
    }

    /// Makes room for a frame at `base`; whether there may be so much.
    pub(super) fn reserve(&mut self, base: u32, rows: u32) -> bool {
        let end = base as usize + rows as usize;
        if end > self.rows.len() {
            if end > self.most_rows as usize {
                return false;
            }
            self.rows.resize(end, Row::ZERO);
        }
        true
    }

    pub(super) fn row(&mut self, number: u32) -> &mut Row {
        &mut self.rows[number as usize]
    }

    /// Copies the places of some lanes from one row to another.
    #[inline]
    pub(super) fn copy_row(&mut self, from: u32, to: u32, mask: u32) {
        let from = self.rows[from as usize];
        let to = &mut self.rows[to as usize];
        if mask == u32::MAX {
            *to = from;
        } else {
            for lane in bits(mask) {
                to.0[lane] = from.0[lane];
            }
        }
    }

    /// Lanes that could run now.
    #[inline]
    pub(super) fn ready(&self) -> u32 {
        self.live & !self.waiting & !self.asleep
    }

    pub(super) fn id(&self, cpu: &Cpu<'_>, lane: usize) -> LaneId {
        LaneId { block: cpu.block, thread: position(cpu.extent, self.first + lane as u32) }
    }

    /// Lets those sleepers go on whose time has come; whether some still sleep, until when.
    pub(super) fn rouse(&mut self, now: u64) -> Option<u64> {
        let due = bits(self.asleep).filter(|&lane| self.wake[lane] <= now);
        self.asleep &= !due.fold(0, |mask, lane| mask | 1 << lane);
        bits(self.asleep).map(|lane| self.wake[lane]).min()
    }

    /// What the lanes that have not exited do, in words, and where.
    pub(super) fn standing(&self, program: &Program, id: impl Fn(u32) -> LaneId) -> Vec<Stand> {
        let mut all: Vec<(u32, Stand)> = Vec::new();
        for lane in bits(self.live) {
            let doing = match self.wait[lane] {
                Wait::Barrier(_) => "at a barrier of the block",
                Wait::Meet(_) => "waiting for other lanes of its warp",
                Wait::Nothing if self.asleep >> lane & 1 != 0 => "asleep",
                Wait::Nothing => "ready to run",
            };
            match all.last_mut() {
                Some((pc, stand)) if *pc == self.pc[lane] && stand.2 == doing => stand.1 += 1,
                _ => {
                    let at = At::new(program, self.pc[lane]);
                    all.push((self.pc[lane], (id(self.first + lane as u32), 1, doing, at)));
                }
            }
        }
        all.into_iter().map(|(_, stand)| stand).collect()
    }
}

/// A thread, how many stand with it, what they do, and where.
pub(in crate::ptx) type Stand = (LaneId, usize, &'static str, At);

/// What ends a launch: boxed, since it is large and rare.
pub(super) type Failure = Box<Fault>;

pub(super) fn failure(fault: PtxFault) -> Failure {
    Box::new(Fault::Ptx(fault))
}

/// The local memory of a warp's threads, interleaved by granules of 16 bytes, so that what lanes
/// access together lies together. It grows with the calls.
pub(super) struct LocalMemory {
    granules: Vec<Granules>,
    /// The most bytes of a thread.
    most: u32,
}

/// No access is wider than this, and none that is aligned reaches across.
const GRANULE: usize = 16;

/// A granule of each lane.
#[derive(Clone)]
#[repr(C, align(64))]
struct Granules([[u8; GRANULE]; LANES]);

impl LocalMemory {
    fn new(most: usize) -> LocalMemory {
        LocalMemory { granules: Vec::new(), most: u32::try_from(most).unwrap_or(u32::MAX) }
    }

    /// Bytes of each thread.
    pub(super) fn bytes(&self) -> u32 {
        (self.granules.len() * GRANULE) as u32
    }

    /// The most that there may be.
    pub(super) fn most(&self) -> usize {
        self.most as usize
    }

    /// Makes room for so many bytes of each thread; whether there may be so much.
    pub(super) fn reserve(&mut self, bytes: u64) -> bool {
        if bytes > self.most.into() {
            return false;
        }
        let granules = (bytes as usize).div_ceil(GRANULE);
        if granules > self.granules.len() {
            self.granules.resize(granules, Granules([[GARBAGE; GRANULE]; LANES]));
        }
        true
    }

    /// Where a thread's byte at `offset` is, if it and the `size` bytes from there, aligned to it,
    /// exist.
    #[inline(always)]
    pub(super) fn at(&mut self, lane: usize, offset: u64, size: u32) -> Option<*mut u8> {
        let granules = self.granules.get_mut(offset as usize / GRANULE)?;
        debug_assert!(offset as usize % GRANULE + size as usize <= GRANULE);
        Some(&raw mut granules.0[lane][offset as usize % GRANULE])
    }
}
