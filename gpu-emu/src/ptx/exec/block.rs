//! A block: its warps, its shared memory, its barriers.

use std::cell::{RefCell, UnsafeCell};
use std::sync::Arc;

use gpu_rt::Dim3;

use super::GARBAGE;
use super::access::Kind;
use super::barrier::Barriers;
use super::group::Stop;
use super::warp::{Cpu, Failure, Stand, Warp};
use crate::launch::Launch;
use crate::ptx::check::Checker;
use crate::ptx::counts::Counts;
use crate::ptx::fault::Illegal;
use crate::ptx::memory::View;
use crate::ptx::profile::Profile;
use crate::ptx::row::LANES;
use crate::ptx::special::{Place, position};
use crate::ptx::work::Call;
use crate::report::LaneId;

/// Instructions that a warp runs before the next one does.
const SLICE: u32 = 8192;

/// How often a warp passes barriers before the next one runs: one that a barrier is for alone never
/// has to wait, and the worker looks at its clock only between rounds.
const BARRIERS: u32 = 64;

/// What a round over a block's warps did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ptx) struct Ran {
    /// Whether any lane ran.
    pub(in crate::ptx) any: bool,
    /// Whether some lane still can, or a barrier opened: more than one look at a word.
    pub(in crate::ptx) busy: bool,
    /// When the first sleeper wakes.
    pub(in crate::ptx) wake: Option<u64>,
}

/// A block that a worker holds.
pub(in crate::ptx) struct Block {
    pub(in crate::ptx) launch: Arc<Launch>,
    call: Arc<Call>,
    number: u64,
    at: Dim3,
    warps: Vec<Warp>,
    shared: SharedMemory,
    barriers: Barriers,
    pub(in crate::ptx) counts: Counts,
    pub(in crate::ptx) profile: Option<Profile>,
}

impl Block {
    pub(in crate::ptx) fn new(
        launch: Arc<Launch>,
        call: Arc<Call>,
        number: u64,
        worker: u32,
        workers: u32,
        stack_size: usize,
    ) -> Block {
        let (grid, extent) = (launch.config.grid, launch.config.block);
        let plane = u64::from(grid.x) * u64::from(grid.y);
        let at = Dim3::new(
            (number % u64::from(grid.x)) as u32,
            (number / u64::from(grid.x) % u64::from(grid.y)) as u32,
            (number / plane) as u32,
        );
        let threads = launch.threads_per_block();
        let dynamic = launch.config.shared_bytes as u32;
        let program = &call.program;
        let total = program.shared_bytes + dynamic;
        let warps = (0..threads).step_by(LANES).map(|first| {
            let place = Place {
                grid,
                block: extent,
                at,
                first,
                worker,
                workers,
                dynamic_shared: dynamic,
                total_shared: total,
            };
            Warp::new(&call, &place, stack_size)
        });
        let warps = warps.collect();
        let shared = SharedMemory::new(total, call.checker.is_some());
        let (barriers, counts) = (Barriers::new(threads), Counts::default());
        let profile = call.profile.then(|| Profile::new(program));
        Block { launch, call, number, at, warps, shared, barriers, counts, profile }
    }

    /// Whether all its threads have exited.
    pub(in crate::ptx) fn finished(&self) -> bool {
        self.barriers.live() == 0
    }

    /// Lets every warp run that can. `now` is the host's clock; with `all`, nobody sleeps longer.
    pub(in crate::ptx) fn run(
        &mut self,
        memory: &mut View,
        now: u64,
        all: bool,
    ) -> Result<Ran, Failure> {
        let mut done = Ran { any: false, busy: false, wake: None };
        for number in 0..self.warps.len() {
            let warp = &mut self.warps[number];
            if warp.asleep != 0 {
                let wake = warp.rouse(if all { u64::MAX } else { now });
                done.wake = [done.wake, wake].into_iter().flatten().min();
            }
            let mut opened_here = 0;
            while self.warps[number].ready() != 0 {
                done.any = true;
                if opened_here == BARRIERS {
                    done.busy = true;
                    break;
                }
                let stop = self.run_warp(number, memory)?;
                let opened = match stop {
                    Stop::Opened(barrier) => Some(barrier),
                    Stop::Exited => self.barriers.complete(),
                    Stop::Blocked => None,
                    Stop::Slice => {
                        done.busy = true;
                        break;
                    }
                };
                if let Some(barrier) = opened {
                    done.busy = true;
                    opened_here += 1;
                    let (arrived, holding) = self.barriers.open(barrier);
                    for warp in &mut self.warps {
                        warp.pass(&self.call.program, barrier, arrived, holding);
                    }
                }
            }
        }
        Ok(done)
    }

    fn run_warp(&mut self, number: usize, memory: &mut View) -> Result<Stop, Failure> {
        let mut cpu = Cpu {
            program: &self.call.program,
            memory,
            counts: &mut self.counts,
            profile: self.profile.as_mut(),
            shared: &self.shared,
            barriers: &mut self.barriers,
            checker: self.call.checker.as_ref().map(|checker| checker as &Checker),
            extent: self.launch.config.block,
            block: self.at,
            number: self.number,
        };
        self.warps[number].run(&mut cpu, SLICE)
    }

    /// Whether no thread of it can ever run again.
    pub(in crate::ptx) fn stuck(&self) -> bool {
        !self.finished() && self.warps.iter().all(|warp| warp.ready() == 0 && warp.asleep == 0)
    }

    /// Its threads that have not ended.
    pub(in crate::ptx) fn standing(&self) -> Vec<Stand> {
        let (block, extent) = (self.at, self.launch.config.block);
        let id = |rank| LaneId { block, thread: position(extent, rank) };
        self.warps.iter().flat_map(|warp| warp.standing(&self.call.program, id)).collect()
    }
}

/// The shared memory of a block.
pub(in crate::ptx) struct SharedMemory {
    words: Box<[UnsafeCell<u64>]>,
    bytes: u32,
    /// For each byte, whether it has been written; only where that is checked.
    written: Option<RefCell<Vec<bool>>>,
}

impl SharedMemory {
    fn new(bytes: u32, checked: bool) -> Self {
        let garbage = u64::from_ne_bytes([GARBAGE; 8]);
        let words = (0..bytes.div_ceil(16) * 2 + 2).map(|_| UnsafeCell::new(garbage)).collect();
        let written = checked.then(|| RefCell::new(vec![false; bytes as usize]));
        SharedMemory { words, bytes, written }
    }

    pub(super) fn bytes(&self) -> u32 {
        self.bytes
    }

    /// Where the byte at `offset` is, if it and `size - 1` more exist.
    #[inline(always)]
    pub(super) fn at(&self, offset: u64, size: u32) -> Option<*mut u8> {
        if offset > u64::from(self.bytes) || u64::from(self.bytes) - offset < size.into() {
            return None;
        }
        let first = self.words.as_ptr().cast_mut().cast::<u8>();
        // SAFETY: inside the words, of which there are more than bytes.
        Some(unsafe { first.add(offset as usize) })
    }

    /// Fails where an access reads bytes that nobody has written; the bytes exist.
    pub(super) fn check(&self, offset: u64, size: u32, kind: Kind) -> Result<(), Illegal> {
        let Some(written) = &self.written else { return Ok(()) };
        let mut written = written.borrow_mut();
        let bytes = &mut written[offset as usize..offset as usize + size as usize];
        if kind.reads && !bytes.iter().all(|&written| written) {
            return Err(Illegal::Uninitialised);
        }
        if kind.writes {
            bytes.fill(true);
        }
        Ok(())
    }
}
