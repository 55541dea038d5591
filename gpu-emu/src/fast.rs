//! The fast mode's loop: warps in turn, the lanes of each back to back.

use std::time::Duration;

use gpu_rt::host::wall_clock;

use crate::error::Fault;
use crate::host::Progress;
use crate::worker::Core;

/// Switches after which the waiting lanes are looked at, even though others can run.
const LOOK: u64 = 256;
/// Switches after which the host is polled, even though lanes can run: some tens of microseconds.
const POLL: u64 = 1024;
/// Switches after which a warp must let the next one run.
const WARP: u32 = 512;
/// How often a worker with nothing to do looks again before it parks.
const SPINS: u32 = 16;
/// The shortest and the longest sleep of a worker whose threads all wait. A store to a word wakes
/// nobody, so this bounds how late it is seen; but who serves requests calls [`crate::Waker::wake`]
/// or is the [`crate::Host`].
const NAP: Duration = Duration::from_micros(50);
const LONG_NAP: Duration = Duration::from_millis(2);
/// The longest sleep while another worker runs threads, which may store to the words that these
/// wait for.
const SHORT_NAP: Duration = Duration::from_micros(100);
/// How long a worker without blocks sleeps: it is woken by the next launch.
const SLEEP: Duration = Duration::from_secs(1);

/// Runs until the emulator is shut down.
pub(crate) fn run(core: &Core) {
    let (mut since_look, mut since_poll, mut quiet) = (0, 0, 0);
    while !core.shared.shutting_down() {
        core.fill();
        if core.is_empty() {
            idle(core);
            continue;
        }
        let before = core.switches.get();
        round(core);
        if core.failed.get() {
            core.drop_failed();
        }
        let ran = core.switches.get() - before;
        since_look += ran;
        since_poll += ran;
        if ran == 0 || since_look >= LOOK {
            since_look = 0;
            let now = wall_clock();
            let looked = look(core, now);
            if ran > 0 || looked.woken {
                quiet = 0;
            } else if !core.is_empty() {
                since_poll = 0;
                quiet = if wait(core, looked.deadline.saturating_sub(now), quiet) {
                    quiet + 1
                } else {
                    0
                };
            }
        }
        if since_poll >= POLL {
            since_poll = 0;
            core.shared.config.host.poll(core.number);
        }
    }
}

/// Lets every lane that is ready run, and retires the blocks that end.
fn round(core: &Core) {
    let mut ended = false;
    for block in core.blocks.borrow().iter() {
        for warp in block.warps.iter().filter(|warp| warp.lively()) {
            warp.ready.set(warp.ready.get() | warp.yielded.take());
            let mut budget = WARP;
            while budget > 0 {
                let ready = warp.ready.get();
                if ready == 0 {
                    // Everyone else is blocked, spins, or has exited: those who converge are all
                    // there will be.
                    if warp.converging.get() == 0 {
                        break;
                    }
                    warp.form_all();
                    continue;
                }
                budget -= 1;
                warp.ready.set(ready & (ready - 1));
                core.resume(block, warp, ready.trailing_zeros());
                if core.failed.get() {
                    return;
                }
            }
        }
        ended |= block.live.get() == 0;
    }
    if ended {
        core.retire();
    }
}

struct Looked {
    woken: bool,
    deadline: u64,
}

/// Wakes the lanes that need not wait any longer, and drops the launches that cannot go on.
fn look(core: &Core, now: u64) -> Looked {
    let mut all = Looked { woken: false, deadline: u64::MAX };
    for block in core.blocks.borrow().iter() {
        for warp in block.warps.iter().filter(|warp| warp.waiting.get() != 0) {
            let looked = warp.look(now);
            all.woken |= looked.woken != 0;
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

/// Lets the host work, and sleeps if it has nothing to do either; whether nothing happened. All
/// lanes wait, the first of them for no longer than `left` nanoseconds; nothing has happened
/// `quiet` times.
fn wait(core: &Core, left: u64, quiet: u32) -> bool {
    if core.shared.config.host.poll(core.number) == Progress::Worked {
        return false;
    }
    if quiet < SPINS {
        std::thread::yield_now();
        return true;
    }
    let longest = if core.shared.others_parked() { LONG_NAP } else { SHORT_NAP };
    let nap = NAP.saturating_mul(1 << (quiet - SPINS).min(8)).min(longest);
    core.shared.park(core.number, nap.min(Duration::from_nanos(left)));
    true
}

/// A worker without blocks: lets the host finish what it has under way, then sleeps until the next
/// launch.
pub(crate) fn idle(core: &Core) {
    match core.shared.config.host.poll(core.number) {
        Progress::Worked => {}
        Progress::Pending => core.shared.park(core.number, LONG_NAP),
        Progress::Idle => core.shared.sleep(SLEEP),
    }
}
