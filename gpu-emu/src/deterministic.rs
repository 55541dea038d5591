//! The deterministic mode's loop: one operation of one actor at a time, whichever the scheduler
//! picks.
//!
//! Nothing that a decision follows from depends on time, addresses or the order of a hash table.
//! Time is virtual: each step takes a tenth of a microsecond, and when all threads wait and the
//! host is idle, it jumps to the earliest deadline. The host is an actor like the others; while it
//! has work under way of its own (`Progress::Pending`) and nobody can run, the loop waits for it, and
//! virtual time passes as it does outside.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use gpu_rt::host::wall_clock;

use crate::block::Block;
use crate::config::Mode;
use crate::error::Fault;
use crate::fast::idle;
use crate::host::Progress;
use crate::launch::Launch;
use crate::report::Roll;
use crate::sched::{Actor, HOST, Runnable, Scheduler, mix};
use crate::schedule::Schedule;
use crate::worker::Core;

/// The virtual duration of a step in nanoseconds.
const STEP_NS: u64 = 100;
/// Steps between looks at the launches' deadlines, which are in real time.
const LOOK: u64 = 1024;
/// How long the loop sleeps while everyone waits for the host.
const NAP: Duration = Duration::from_millis(1);
/// How many naps it takes until threads that wait without a deadline, with an idle host, are called
/// deadlocked.
const PATIENCE: u32 = 200;

/// The state of a deterministic schedule, from the moment at which the worker had no blocks.
pub(crate) struct Deterministic {
    pub(crate) schedule: Schedule,
    scheduler: RefCell<Box<dyn Scheduler>>,
    next_actor: Cell<Actor>,
    steps: Cell<u64>,
    trace: Cell<u64>,
    clock: Cell<u64>,
}

impl Deterministic {
    pub(crate) fn of(mode: Mode) -> Option<Self> {
        let Mode::Deterministic(schedule) = mode else { return None };
        Some(Self {
            schedule,
            scheduler: RefCell::new(schedule.scheduler()),
            next_actor: Cell::new(0),
            steps: Cell::new(0),
            trace: Cell::new(0),
            clock: Cell::new(0),
        })
    }

    /// Starts the schedule anew, so that a launch does not depend on those that ended before it.
    fn restart(&self) {
        self.scheduler.replace(self.schedule.scheduler());
        self.next_actor.set(0);
        self.steps.set(0);
        self.trace.set(0);
    }

    /// Numbers for the threads of a block, whole warps; the first.
    pub(crate) fn actors(&self, threads: u32) -> Actor {
        let first = self.next_actor.get();
        self.next_actor.set(first + Actor::from(threads.next_multiple_of(32)));
        first
    }

    /// Virtual time in nanoseconds.
    pub(crate) fn clock(&self) -> u64 {
        self.clock.get()
    }

    pub(crate) fn steps(&self) -> u64 {
        self.steps.get()
    }

    /// The hash of all picks since the restart.
    pub(crate) fn trace(&self) -> u64 {
        self.trace.get()
    }

    fn step(&self, actor: Actor) {
        self.steps.set(self.steps.get() + 1);
        self.clock.set(self.clock.get() + STEP_NS);
        self.trace.set(mix(self.trace.get() ^ actor.wrapping_add(1)));
    }
}

/// Runs until the emulator is shut down.
pub(crate) fn run(core: &Core, state: &Deterministic) {
    let mut runnable = Runnable::default();
    let mut naps = 0;
    while !core.shared.shutting_down() {
        core.fill();
        if core.is_empty() {
            idle(core);
            continue;
        }
        let deadline = gather(core, state, &mut runnable);
        if core.failed.get() {
            core.drop_failed();
        } else if runnable.len() == 0 {
            naps = if wait(core, state, deadline, naps) { naps + 1 } else { 0 };
        } else {
            naps = 0;
            step(core, state, &mut runnable);
            check_limits(core, state);
        }
        if core.is_empty() {
            state.restart();
        }
    }
}

/// Finds out who can run, and the earliest deadline of those who wait. Fails launches that are
/// stuck.
fn gather(core: &Core, state: &Deterministic, runnable: &mut Runnable) -> u64 {
    let mut scheduler = state.scheduler.borrow_mut();
    let mut deadline = u64::MAX;
    runnable.clear();
    for block in core.blocks.borrow().iter() {
        for warp in &block.warps {
            if warp.waiting.get() != 0 {
                deadline = deadline.min(warp.look(state.clock()).deadline);
            }
            let converging = warp.converging.get();
            if converging != 0 {
                let forced = warp.ready.get() == 0;
                warp.form(scheduler.converge(warp.same_place(converging), forced));
            }
            let first = block.actor + Actor::from(warp.first);
            runnable.push(first, warp.ready.get() | warp.yielded.get());
        }
        if block.stuck() {
            deadlock(core, block);
        }
    }
    deadline
}

fn deadlock(core: &Core, block: &Block) {
    let mut roll = Roll::default();
    block.call_roll(&mut roll);
    core.fail(&block.launch, Fault::Deadlock { roll });
}

/// Has the scheduler pick among those who can run and the host, and lets that one run.
fn step(core: &Core, state: &Deterministic, runnable: &mut Runnable) {
    // As lane 0 of a warp of its own.
    runnable.push(HOST, 1);
    let actor = state.scheduler.borrow_mut().pick(runnable);
    state.step(actor);
    if actor == HOST {
        if core.shared.config.host.poll(core.number) != Progress::Worked {
            state.scheduler.borrow_mut().yielded(actor);
        }
        return;
    }
    let ended = {
        let blocks = core.blocks.borrow();
        // Blocks are numbered in the order in which they are loaded, and kept in it.
        let block = &blocks[blocks.partition_point(|block| block.actor <= actor) - 1];
        let rank = (actor - block.actor) as usize;
        let (warp, lane) = (&block.warps[rank / 32], rank as u32 % 32);
        warp.ready.set(warp.ready.get() & !(1 << lane));
        warp.yielded.set(warp.yielded.get() & !(1 << lane));
        core.resume(block, warp, lane);
        if warp.yielded.get() >> lane & 1 == 1 {
            state.scheduler.borrow_mut().yielded(actor);
        }
        block.live.get() == 0
    };
    if core.failed.get() {
        core.drop_failed();
    } else if ended {
        core.retire();
    }
}

/// Nobody can run: lets the host work, or time pass; whether only real time did.
fn wait(core: &Core, state: &Deterministic, deadline: u64, naps: u32) -> bool {
    check_deadlines(core);
    match core.shared.config.host.poll(core.number) {
        Progress::Worked => false,
        Progress::Pending => {
            core.shared.park(core.number, NAP);
            // What the host waits for comes from outside, where time passes.
            let now = state.clock();
            state.clock.set(now.saturating_add(NAP.as_nanos() as u64).min(deadline.max(now)));
            false
        }
        Progress::Idle if deadline < u64::MAX => {
            state.clock.set(deadline.max(state.clock()));
            false
        }
        Progress::Idle if naps < PATIENCE => {
            core.shared.park(core.number, NAP);
            true
        }
        Progress::Idle => {
            for block in core.blocks.borrow().iter().filter(|block| !block.launch.failed()) {
                deadlock(core, block);
            }
            core.drop_failed();
            false
        }
    }
}

fn check_limits(core: &Core, state: &Deterministic) {
    let max = core.shared.config.max_steps;
    if state.steps() >= max {
        fail_some(core, |_| Some(format!("within {max} steps")));
    } else if state.steps().is_multiple_of(LOOK) {
        check_deadlines(core);
    }
}

fn check_deadlines(core: &Core) {
    let now = wall_clock();
    fail_some(core, |launch| launch.overdue(now));
    core.shared.expire(now);
}

/// Fails the launches of which `limit` says that they have passed it.
fn fail_some(core: &Core, limit: impl Fn(&Launch) -> Option<String>) {
    for block in core.blocks.borrow().iter().filter(|block| !block.launch.failed()) {
        if let Some(limit) = limit(&block.launch) {
            core.fail(&block.launch, Fault::Timeout { limit, roll: core.roll(&block.launch) });
        }
    }
    if core.failed.get() {
        core.drop_failed();
    }
}
