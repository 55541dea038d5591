//! The fast mode's loop: warps in turn, the lanes of each back to back.

use std::time::Duration;

use gpu_rt::host::wall_clock;

use crate::block::Block;
use crate::error::Fault;
use crate::host::Progress;
use crate::warp::Warp;
use crate::worker::Core;

/// Switches after which the waiting lanes are looked at, even though others can run.
const LOOK: u64 = 256;
/// Nanoseconds after which the host is polled, even though lanes can run.
const POLL_NS: u64 = 50_000;
/// Switches between looks at the clock, as long as that many take less than `POLL_NS`.
const TICK: u64 = 16;
/// Switches after which a warp must let the next one run.
const WARP: u32 = 512;
/// How often a worker with nothing to do looks again before it parks.
const SPINS: u32 = 16;
/// The shortest and the longest sleep of a worker whose threads all wait. Each is twice as long as the
/// one before. A store to a word wakes nobody, and is seen at the latest when as much time has passed
/// once more as had when it came; but who serves requests calls [`crate::Waker::wake`] or is the
/// [`crate::Host`].
const NAP: Duration = Duration::from_micros(50);
/// No longer than a host that is parked sleeps at a time, lest each nap be cut in two.
const LONG_NAP: Duration = Duration::from_millis(40);
/// The sleep of a worker that does not know whether anybody looks to what it waits for.
const PENDING_NAP: Duration = Duration::from_millis(2);
/// So many quiet looks lead to naps of a millisecond or two: where a worker that is woken and finds nothing
/// goes on.
const WOKEN: u32 = SPINS + 5;
/// Times that are at least four times as far away are met this exactly, so that threads that wait long wake together.
const SLACKS_NS: [u64; 2] = [32_000_000, 8_000_000];
/// The longest sleep while another worker runs threads, which may store to the words that these
/// wait for.
const SHORT_NAP: Duration = Duration::from_micros(100);
/// How long a worker without blocks sleeps: it is woken by the next launch.
const SLEEP: Duration = Duration::from_secs(1);

/// When the host is polled next while lanes run. Reading the clock costs about as much as a switch,
/// so it is read after some switches only; after one, where they turn out to be long.
#[derive(Debug, Default)]
struct Pace {
    /// The number of switches at which the clock is read again.
    tick: u64,
    polled: u64,
}

impl Pace {
    #[inline]
    fn keep(&mut self, core: &Core) {
        if core.switches.get() >= self.tick {
            let now = wall_clock();
            let late = now - self.polled >= POLL_NS;
            if late {
                core.shared.config.host.poll(core.number);
                self.polled = now;
            }
            self.tick = core.switches.get() + if late { 1 } else { TICK };
        }
    }
}

/// Runs until the emulator is shut down.
pub(crate) fn run(core: &Core) {
    let (mut since_look, mut pace, mut quiet) = (0, Pace::default(), Quiet::default());
    while !core.shared.shutting_down() {
        core.fill();
        if core.is_empty() {
            idle(core);
            continue;
        }
        let before = core.switches.get();
        round(core, &mut pace);
        if core.failed.get() {
            core.drop_failed();
        }
        let ran = core.switches.get() - before;
        since_look += ran;
        if ran > 0 {
            quiet.ran();
        }
        if ran == 0 || since_look >= LOOK {
            since_look = 0;
            let now = wall_clock();
            let looked = look(core, now);
            quiet.looked(&looked);
            if ran == 0 && !looked.woken && !looked.timed_out && !core.is_empty() {
                pace.polled = now;
                wait(core, &mut quiet);
            }
        }
    }
}

/// Lets every lane that is ready run, and retires the blocks that end.
fn round(core: &Core, pace: &mut Pace) {
    let mut ended = false;
    for block in core.blocks.borrow().iter() {
        for warp in block.warps.iter().filter(|warp| warp.lively()) {
            run_warp(core, block, warp);
            if core.failed.get() {
                return;
            }
            pace.keep(core);
        }
        ended |= block.live.get() == 0;
    }
    if ended {
        core.retire();
    }
}

/// Lets the lanes of a warp run until all are blocked, spin, or have run long enough.
#[inline]
fn run_warp(core: &Core, block: &Block, warp: &Warp) {
    warp.ready.set(warp.ready.get() | warp.yielded.take());
    for _ in 0..WARP {
        let mut ready = warp.ready.get();
        if ready == 0 {
            // Everyone else is blocked, spins, or has exited: those who converge are all there will
            // be.
            if warp.converging.get() == 0 {
                return;
            }
            warp.form_all();
            ready = warp.ready.get();
        }
        warp.ready.set(ready & (ready - 1));
        core.resume(block, warp, ready.trailing_zeros());
        if core.failed.get() {
            return;
        }
    }
}

struct Looked {
    /// A word has changed that a lane waits for.
    woken: bool,
    /// The time of a lane is out.
    timed_out: bool,
    /// When the next one's is.
    deadline: u64,
}

/// Wakes the lanes that need not wait any longer, and drops the launches that cannot go on.
fn look(core: &Core, now: u64) -> Looked {
    let mut all = Looked { woken: false, timed_out: false, deadline: u64::MAX };
    for block in core.blocks.borrow().iter() {
        for warp in block.warps.iter().filter(|warp| warp.waiting.get() != 0) {
            let looked = warp.look(now);
            all.woken |= looked.changed != 0;
            all.timed_out |= looked.expired != 0;
            all.deadline = all.deadline.min(looked.deadline);
        }
        let launch = &block.launch;
        if launch.failed() {
            core.failed.set(true);
        } else if block.stuck() {
            let mut roll = Default::default();
            block.call_roll(&mut roll);
            core.fail(launch, Fault::Deadlock { roll });
        } else if let Some(limit) = launch.overdue(now) {
            core.fail(launch, Fault::Timeout { limit, roll: core.roll(launch) });
        }
    }
    core.shared.expire(now);
    if core.failed.get() {
        core.drop_failed();
    }
    all
}

/// How long nothing has happened.
#[derive(Debug, Default)]
struct Quiet {
    /// So many looks in a row.
    looks: u32,
    /// The lanes that are ready are so because their time was out, and for nothing else: that they
    /// look at the time is nothing that happens.
    timed_out: bool,
}

impl Quiet {
    /// Lanes have run.
    fn ran(&mut self) {
        if !self.timed_out {
            self.looks = 0;
        }
        self.timed_out = false;
    }

    fn looked(&mut self, looked: &Looked) {
        if looked.woken {
            self.looks = 0;
        }
        self.timed_out = looked.timed_out && !looked.woken;
    }
}

/// Lets the host work, and sleeps if it has nothing to do either. All lanes wait.
fn wait(core: &Core, quiet: &mut Quiet) {
    if core.shared.config.host.poll(core.number) == Progress::Worked {
        quiet.looks = 0;
        return;
    }
    if quiet.looks < SPINS {
        std::thread::yield_now();
        quiet.looks += 1;
        return;
    }
    // As `Host::park` promises: what the poll arranged to be woken by, if it comes before this
    // look, is seen now, and if it comes after it, wakes.
    let now = wall_clock();
    let looked = look(core, now);
    quiet.looked(&looked);
    if looked.woken || looked.timed_out || core.is_empty() {
        return;
    }
    let longest = if core.shared.others_parked() { LONG_NAP } else { SHORT_NAP };
    let left = Duration::from_nanos(coarse(looked.deadline, now) - now);
    let nap = NAP.saturating_mul(1 << (quiet.looks - SPINS).min(10)).min(longest).min(left);
    core.shared.park(core.number, nap);
    quiet.looks = if Duration::from_nanos(wall_clock() - now) < nap {
        // Others have been woken too, whose threads may be about to change a word.
        quiet.looks.min(WOKEN)
    } else {
        quiet.looks.saturating_add(1)
    };
}

/// A time from `now` on, a little later if it is far away.
fn coarse(deadline: u64, now: u64) -> u64 {
    let deadline = deadline.max(now);
    match SLACKS_NS.into_iter().find(|slack| deadline - now >= 4 * slack) {
        Some(slack) => deadline.checked_next_multiple_of(slack).unwrap_or(deadline),
        None => deadline,
    }
}

/// A worker without blocks: lets the host finish what it has under way, then sleeps until the next
/// launch.
pub(crate) fn idle(core: &Core) {
    match core.shared.config.host.poll(core.number) {
        Progress::Worked => {}
        Progress::Pending => core.shared.park(core.number, PENDING_NAP),
        Progress::Idle => core.shared.sleep(SLEEP),
    }
}
