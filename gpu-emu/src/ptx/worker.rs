//! A worker: an interpreted multiprocessor, which holds whole blocks and lets them run in turn.

use std::sync::Arc;
use std::time::Duration;

use gpu_rt::host::wall_clock;

use super::counts::Counts;
use super::exec::Block;
use super::fault::{PtxFault, Standing};
use super::interpreter::State;
use super::log::lane;
use super::memory::View;
use crate::error::Fault;
use crate::host::Progress;
use crate::launch::{Launch, Work};
use crate::sync::lock;

/// Nanoseconds after which the host is polled, even though lanes can run.
const POLL_NS: u64 = 50_000;
/// How often a worker whose threads all sleep looks again before it parks.
const SPINS: u32 = 16;
/// The shortest and the longest sleep of such a worker. A store to a word wakes nobody, so this
/// bounds how late it is seen; but who serves requests unparks it, or is the [`crate::Host`].
const NAP: Duration = Duration::from_micros(50);
const LONG_NAP: Duration = Duration::from_millis(2);
/// The longest sleep while another worker runs threads, which may store to the words that these
/// wait for.
const SHORT_NAP: Duration = Duration::from_micros(100);
/// How long a worker without blocks sleeps: it is woken by the next launch.
const SLEEP: Duration = Duration::from_secs(1);

pub(super) struct Worker {
    number: usize,
    state: Arc<State>,
    memory: View,
    blocks: Vec<Block>,
    /// The number of launches when blocks were last looked for.
    seen: u64,
    /// Whether there may be room that there was not then.
    freed: bool,
}

impl Worker {
    pub(super) fn new(number: usize, state: Arc<State>) -> Worker {
        let memory = state.memory.view();
        Worker { number, state, memory, blocks: Vec::new(), seen: 0, freed: true }
    }

    /// Runs until the interpreter is dropped.
    pub(super) fn run(&mut self) {
        let (mut quiet, mut polled, mut all) = (0, 0, false);
        while !self.state.shared.shutting_down() {
            self.fill();
            if self.blocks.is_empty() {
                self.idle();
                continue;
            }
            let now = wall_clock();
            self.memory.refresh();
            let round = self.round(now, all);
            all = false;
            self.expire(now);
            if round.any && now - polled >= POLL_NS {
                all = self.poll() == Progress::Worked;
                polled = now;
            }
            if round.busy {
                quiet = 0;
            } else if !self.blocks.is_empty() && round.wake.is_some_and(|wake| wake > now) {
                // Everybody sleeps.
                if self.poll() == Progress::Worked {
                    (quiet, all) = (0, true);
                    continue;
                }
                quiet += 1;
                all = self.wait(quiet);
            }
        }
    }

    fn poll(&self) -> Progress {
        self.state.shared.config.host.poll(self.number)
    }

    /// Waits a little, since no lane can run; whether to wake all sleepers after that.
    fn wait(&self, quiet: u32) -> bool {
        if quiet < SPINS {
            std::thread::yield_now();
            return false;
        }
        let shared = &self.state.shared;
        let longest = if shared.others_parked() { LONG_NAP } else { SHORT_NAP };
        let nap = NAP.saturating_mul(1 << (quiet - SPINS).min(8)).min(longest);
        shared.park(self.number, nap);
        true
    }

    fn idle(&self) {
        match self.poll() {
            Progress::Worked => {}
            Progress::Pending => self.state.shared.park(self.number, LONG_NAP),
            Progress::Idle => self.state.shared.sleep(SLEEP),
        }
    }

    /// Lets every block run, and drops those that have ended.
    fn round(&mut self, now: u64, all: bool) -> Round {
        let mut round = Round { any: false, busy: false, wake: None };
        let mut ended = false;
        for block in &mut self.blocks {
            if block.launch.failed() {
                ended = true;
                continue;
            }
            match block.run(&mut self.memory, now, all) {
                Ok(ran) => {
                    round.any |= ran.any;
                    round.busy |= ran.busy;
                    round.wake = [round.wake, ran.wake].into_iter().flatten().min();
                    if block.finished() {
                        ended = true;
                    } else if block.stuck() {
                        let standing = Standing(block.standing());
                        block.launch.fail(PtxFault::Deadlock(standing).into(), None);
                        ended = true;
                    }
                }
                Err(fault) => {
                    let fault = self.state.explained(*fault, &block.launch);
                    block.launch.fail(fault, None);
                    ended = true;
                }
            }
            let config = &block.launch.config;
            self.state.log.deliver(&block.launch.name, config.grid, config.block);
        }
        if ended {
            round.busy = true;
            self.retire(|block| block.finished() || block.launch.failed());
        }
        round
    }

    /// Gives back the blocks that `which` chooses.
    fn retire(&mut self, which: impl Fn(&Block) -> bool) {
        for block in self.blocks.extract_if(.., |block| which(block)) {
            self.freed = true;
            block.launch.count(block.counts);
            self.state.total(&block.launch.name, block.counts);
            if let Some(profile) = &block.profile {
                lock(&self.state.profile).merge(profile);
            }
            block.launch.give_back(0, None);
        }
    }

    /// Fails the launches whose time is out.
    fn expire(&mut self, now: u64) {
        let late = self.blocks.iter().find_map(|block| {
            block.launch.overdue(now).map(|limit| (Arc::clone(&block.launch), limit))
        });
        if let Some((launch, limit)) = late {
            let of = |block: &&Block| Arc::ptr_eq(&block.launch, &launch);
            let standing = self.blocks.iter().filter(of).flat_map(Block::standing).collect();
            let standing = Standing(standing);
            launch.fail(PtxFault::Timeout { limit, standing }.into(), None);
            self.retire(|block| block.launch.failed());
        }
        self.state.shared.expire(now);
    }

    /// Takes blocks as long as there is room, if anything may have changed since the last time.
    fn fill(&mut self) {
        let submitted = self.state.shared.submitted();
        if !std::mem::take(&mut self.freed) && submitted == self.seen {
            return;
        }
        self.seen = submitted;
        let config = &self.state.shared.config;
        loop {
            let resident: u32 = self.blocks.iter().map(|b| b.launch.threads_per_block()).sum();
            let fits = |launch: &Arc<Launch>| {
                let held = self.blocks.iter().filter(|b| Arc::ptr_eq(&b.launch, launch)).count();
                launch.threads_per_block() <= config.resident_threads - resident
                    && (held as u64) < launch.share
            };
            let Some((launch, index)) = self.state.shared.take(fits) else { return };
            let Work::Ptx(call) = &launch.work else { continue };
            let call = Arc::clone(call);
            let (number, workers) = (self.number as u32, config.workers as u32);
            self.blocks.push(Block::new(launch, call, index, number, workers, config.stack_size));
        }
    }

    /// Fails all launches that have blocks here.
    pub(super) fn abandon(&mut self, fault: &Fault) {
        for block in &self.blocks {
            block.launch.fail(fault.clone(), None);
        }
        self.retire(|_| true);
    }
}

/// What a round did.
struct Round {
    any: bool,
    busy: bool,
    wake: Option<u64>,
}

impl State {
    /// Adds what a block of a kernel cost.
    fn total(&self, kernel: &str, counts: Counts) {
        let mut totals = lock(&self.totals);
        match totals.get_mut(kernel) {
            Some(total) => *total += counts,
            None => drop(totals.insert(kernel.to_owned(), counts)),
        }
    }

    /// A trap that followed upon a panic is that panic.
    fn explained(&self, fault: Fault, launch: &Launch) -> Fault {
        let Fault::Ptx(PtxFault::Trap { .. }) = fault else { return fault };
        match self.log.panic() {
            None => fault,
            Some(panic) => {
                let lane = lane(panic.thread, launch.config.grid, launch.config.block);
                Fault::Panicked { lane, message: panic.message, at: panic.at }
            }
        }
    }
}
