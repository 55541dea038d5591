//! One worker's share of the emulated GPU: its resident blocks, its fibers, and who runs now.
//!
//! Everything here belongs to one CPU thread, that of the worker: fibers never migrate. What fibers
//! reach while the worker's loop is suspended below them is in cells.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use gpu_rt::host::Place;

use crate::block::Block;
use crate::deterministic::Deterministic;
use crate::error::{Fault, Replay};
use crate::fiber::{Fiber, FiberRef};
use crate::launch::Launch;
use crate::panics;
use crate::report::Roll;
use crate::shared::Shared;
use crate::stack::Stacks;
use crate::warp::{LaneState, Warp, add, lanes_of};

/// The lane that runs.
#[derive(Clone, Copy)]
pub(crate) struct Running<'a> {
    pub(crate) block: &'a Block,
    pub(crate) warp: &'a Warp,
    pub(crate) state: &'a LaneState,
    /// Its number in the warp.
    pub(crate) lane: u32,
    pub(crate) bit: u32,
}

impl Running<'_> {
    pub(crate) fn rank(&self) -> u32 {
        self.warp.first + self.lane
    }
}

/// See the module.
pub(crate) struct Core {
    pub(crate) number: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) deterministic: Option<Deterministic>,
    /// The blocks, oldest first. Changed only while no fiber runs.
    pub(crate) blocks: RefCell<Vec<Rc<Block>>>,
    /// Threads of `blocks`.
    resident: Cell<u32>,
    /// Blocks have gone since the last `fill`.
    freed: Cell<bool>,
    /// How many launches had been submitted at the last `fill`.
    seen: Cell<u64>,
    /// Fibers without a thread.
    free: RefCell<Vec<FiberRef>>,
    /// All fibers.
    fibers: RefCell<Vec<FiberRef>>,
    stacks: RefCell<Stacks>,
    block: Cell<*const Block>,
    warp: Cell<*const Warp>,
    lane: Cell<u32>,
    fiber: Cell<*const Fiber>,
    /// A launch has failed here since its blocks were last dropped.
    pub(crate) failed: Cell<bool>,
    /// How often `relax` was called by a thread that unwinds.
    pub(crate) futile: Cell<u32>,
    pub(crate) switches: Cell<u64>,
    /// Switches already ascribed to a launch.
    ascribed: Cell<u64>,
}

impl Core {
    pub(crate) fn new(number: usize, shared: Arc<Shared>) -> Self {
        let config = &shared.config;
        Self {
            number,
            deterministic: Deterministic::of(config.mode),
            blocks: RefCell::default(),
            resident: Cell::new(0),
            freed: Cell::new(false),
            seen: Cell::new(0),
            free: RefCell::default(),
            fibers: RefCell::default(),
            stacks: RefCell::new(Stacks::new(config.stack_size, config.guard)),
            shared,
            block: Cell::new(std::ptr::null()),
            warp: Cell::new(std::ptr::null()),
            lane: Cell::new(0),
            fiber: Cell::new(std::ptr::null()),
            failed: Cell::new(false),
            futile: Cell::new(0),
            switches: Cell::new(0),
            ascribed: Cell::new(0),
        }
    }

    /// The lane that runs. Only from its fiber, or right after it has suspended.
    #[inline]
    pub(crate) fn running(&self) -> Running<'_> {
        // SAFETY: set by `resume` to parts of a resident block, which stays until its threads have
        // ended.
        let (block, warp) = unsafe { (&*self.block.get(), &*self.warp.get()) };
        let lane = self.lane.get();
        Running { block, warp, state: &warp.lanes[lane as usize], lane, bit: 1 << lane }
    }

    /// Runs a lane, which must be ready and is no longer counted so, until it suspends.
    #[inline]
    pub(crate) fn resume(&self, block: &Block, warp: &Warp, lane: u32) {
        let fiber = warp.lanes[lane as usize].fiber.get();
        self.block.set(block);
        self.warp.set(warp);
        self.lane.set(lane);
        self.fiber.set(fiber.as_ptr());
        self.switches.set(self.switches.get() + 1);
        // SAFETY: the fiber of a lane that is ready is suspended, and was assigned when its block
        // was loaded.
        let fiber = unsafe {
            let fiber = fiber.as_ref();
            fiber.resume();
            fiber
        };
        if fiber.overflowed() {
            let (lane, stack_size) =
                (self.running().block.id(self.running().rank()), self.stacks.borrow().size());
            self.fail(&block.launch, Fault::StackOverflow { lane, stack_size });
        }
    }

    /// Suspends the running fiber. One that unwinds cannot be suspended: its panic is also its CPU
    /// thread's.
    #[inline]
    pub(crate) fn suspend(&self) {
        if !std::thread::panicking() {
            // SAFETY: set by `resume`; the fiber outlives its own code.
            unsafe { (*self.fiber.get()).suspend() }
        }
    }

    /// Ends the launch of the running lane. Does not return, unless the lane unwinds already.
    #[cold]
    pub(crate) fn abort(&self, fault: Fault) {
        self.fail(&self.running().block.launch, fault);
        self.suspend();
    }

    /// The running lane's kernel has returned, or has panicked.
    pub(crate) fn ended(&self, well: bool) {
        let Running { block, warp, bit, .. } = self.running();
        if !well {
            let panics::Caught { message, at } = panics::take();
            let lane = block.id(self.running().rank());
            return self.fail(&block.launch, Fault::Panicked { lane, message, at });
        }
        add(&warp.exited, bit);
        block.live.set(block.live.get() - 1);
        if block.barrier.arrived.get() > 0 {
            block.try_open();
        }
        // Whoever waits in a mask that names this lane waits in vain.
        if let Some(other) =
            lanes_of(warp.arrived.get()).find(|&other| warp.lanes[other].meet.mask.get() & bit != 0)
        {
            let LaneState { at, meet, .. } = &warp.lanes[other];
            let rank = warp.first + other as u32;
            self.fail(
                &block.launch,
                Fault::ExitedInMask {
                    lane: block.id(rank),
                    op: meet.op.get().name(),
                    mask: meet.mask.get(),
                    gone: bit,
                    at: at.get().unwrap_or(UNKNOWN),
                },
            );
        }
    }

    /// Fails a launch; its blocks here are dropped before any thread of them runs again.
    #[cold]
    pub(crate) fn fail(&self, launch: &Launch, fault: Fault) {
        let replay = self.deterministic.as_ref().map(|deterministic| Replay {
            schedule: deterministic.schedule,
            trace: deterministic.trace(),
            steps: deterministic.steps(),
            test: launch.test.clone(),
        });
        self.failed.set(true);
        launch.fail(fault, replay);
    }

    /// All threads of a launch that have not ended here.
    pub(crate) fn roll(&self, of: &Launch) -> Roll {
        let mut roll = Roll::default();
        for block in self.blocks.borrow().iter().filter(|block| std::ptr::eq(&*block.launch, of)) {
            block.call_roll(&mut roll);
        }
        roll
    }

    /// Takes blocks as long as there is room, if anything may have changed since the last call.
    pub(crate) fn fill(&self) {
        let submitted = self.shared.submitted();
        if !self.freed.take() && submitted == self.seen.get() {
            return;
        }
        self.seen.set(submitted);
        while let Some((launch, index)) = self.shared.take(|launch| {
            let held = self
                .blocks
                .borrow()
                .iter()
                .filter(|block| Arc::ptr_eq(&block.launch, launch))
                .count();
            let room = self.shared.config.resident_threads - self.resident.get();
            launch.threads_per_block() <= room && (held as u64) < launch.share
        }) {
            if let Err(error) = self.load(&launch, index) {
                self.fail(&launch, Fault::NoStacks(error.to_string()));
                launch.give_back(0, None);
            }
        }
    }

    /// Whether it holds no block.
    pub(crate) fn is_empty(&self) -> bool {
        self.resident.get() == 0
    }

    fn load(&self, launch: &Arc<Launch>, index: u64) -> std::io::Result<()> {
        let threads = launch.threads_per_block();
        let mut free = self.free.borrow_mut();
        while free.len() < threads as usize {
            let slot = self.stacks.borrow_mut().take()?;
            // SAFETY: a worker's core does not move once it runs, and discards its fibers when it
            // is dropped.
            let fiber = unsafe { Fiber::create(self, slot) };
            self.fibers.borrow_mut().push(fiber);
            free.push(fiber);
        }
        let keep = free.len() - threads as usize;
        let actor =
            self.deterministic.as_ref().map_or(0, |deterministic| deterministic.actors(threads));
        let block = Rc::new(Block::new(
            Arc::clone(launch),
            index,
            actor,
            self.number as u32,
            &free[keep..],
        ));
        let extent = launch.config.block;
        let mut at = gpu_rt::Dim3::ZERO;
        for (rank, fiber) in (0..threads).zip(free.drain(keep..)) {
            // SAFETY: fibers live as long as their core.
            unsafe { fiber.as_ref() }.assign(Rc::as_ptr(&block), at, rank);
            at.x += 1;
            if at.x == extent.x {
                (at.x, at.y) = (0, at.y + 1);
            }
            if at.y == extent.y {
                (at.y, at.z) = (0, at.z + 1);
            }
        }
        self.resident.set(self.resident.get() + threads);
        self.blocks.borrow_mut().push(block);
        Ok(())
    }

    /// Removes the blocks that have ended.
    pub(crate) fn retire(&self) {
        self.remove(|block| block.live.get() == 0);
    }

    /// Drops the blocks of launches that have failed, with all their threads.
    #[cold]
    pub(crate) fn drop_failed(&self) {
        self.failed.set(false);
        self.futile.set(0);
        self.remove(|block| block.launch.failed());
    }

    /// Fails all launches that have blocks here.
    pub(crate) fn abandon(&self, fault: &Fault) {
        for block in self.blocks.borrow().iter() {
            self.fail(&block.launch, fault.clone());
        }
        self.drop_failed();
    }

    fn remove(&self, which: impl Fn(&Block) -> bool) {
        // Whoever waits for a launch may drop what its lanes borrowed as soon as its last block is
        // given back: the lanes of each are reset before.
        let removed: Vec<_> =
            self.blocks.borrow_mut().extract_if(.., |block| which(block)).collect();
        for block in removed {
            for warp in &block.warps {
                for lane in lanes_of(warp.exists) {
                    let fiber = warp.lanes[lane].fiber.get();
                    if warp.exited.get() >> lane & 1 == 0 {
                        // SAFETY: no fiber runs now, and the launch has failed, so that no thread
                        // of it runs again.
                        unsafe { Fiber::reset(fiber) };
                    }
                    self.free.borrow_mut().push(fiber);
                }
            }
            self.resident.set(self.resident.get() - block.threads);
            let switches = self.switches.get() - self.ascribed.replace(self.switches.get());
            let trace = self.deterministic.as_ref().map(Deterministic::trace);
            block.launch.give_back(switches, trace);
            self.freed.set(true);
        }
    }

    /// The thread whose stack's guard contains `address`, if it is the one that runs.
    pub(crate) fn guard_hit(&self, address: usize) -> bool {
        // SAFETY: null, or set by `resume` to a fiber, which lives as long as the core.
        unsafe { self.fiber.get().as_ref() }.is_some_and(|fiber| fiber.slot().guards(address))
    }
}

/// Where a lane is that has not called anything.
const UNKNOWN: Place = std::panic::Location::caller();

impl Drop for Core {
    fn drop(&mut self) {
        for fiber in self.fibers.borrow_mut().drain(..) {
            // SAFETY: no fiber runs, all blocks are gone with the launches they belonged to, and
            // nobody uses the fibers after this.
            unsafe { Fiber::discard(fiber) };
        }
    }
}
