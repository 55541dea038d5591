//! Deterministic schedulers: policy only. The mechanism is in [`crate::deterministic`].
//!
//! ```text
//!            resumed                  the kernel returns
//!    +--- ready --------> running ------------------------> exited
//!    |      ^ ^              |
//!    |      | +- preempted <-+  (deterministic mode: before every operation)
//!    |      |                |
//!    |      +-- yielded <----+  relax
//!    |      |                |
//!    |      +-- waiting <----+  wait_while_eq, nanosleep: until word or time change
//!    |      |                |
//!    |      +-- converging <-+  active_mask: until the warp's others are here or cannot come
//!    |      |                |
//!    |      +-- arrived <----+  sync_warp, ballot, shfl, match_any, broadcast: until the
//!    |      |                |  mask is complete
//!    |      |                |
//!    |      +-- at barrier <-+  sync_threads: until all of the block that have not exited are here
//!    |
//!    +--------------------> dropped: the launch failed, whatever the state
//! ```

mod pct;
mod random;
mod round_robin;

use crate::schedule::Schedule;

/// Whom a scheduler can pick: a thread, numbered through all launches since the worker was idle, or
/// the host.
pub(crate) type Actor = u64;

/// The host side, as an actor.
pub(crate) const HOST: Actor = u64::MAX;

/// The actors that can run, in ascending order within each warp: (the actor of lane 0, a bit for
/// each lane).
#[derive(Debug, Default)]
pub(crate) struct Runnable {
    warps: Vec<(Actor, u32)>,
    len: usize,
}

impl Runnable {
    pub(crate) fn clear(&mut self) {
        self.warps.clear();
        self.len = 0;
    }

    pub(crate) fn push(&mut self, first: Actor, lanes: u32) {
        if lanes != 0 {
            self.warps.push((first, lanes));
            self.len += lanes.count_ones() as usize;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The actor number `n` of those that can run; `n < len()`.
    pub(crate) fn nth(&self, mut n: usize) -> Actor {
        for &(first, mut lanes) in &self.warps {
            let here = lanes.count_ones() as usize;
            if n < here {
                for _ in 0..n {
                    lanes &= lanes - 1;
                }
                return first + Actor::from(lanes.trailing_zeros());
            }
            n -= here;
        }
        unreachable!("fewer actors than counted")
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Actor> + '_ {
        self.warps.iter().flat_map(|&(first, lanes)| {
            (0..32).filter(move |lane| lanes >> lane & 1 == 1).map(move |lane| first + lane)
        })
    }
}

/// Decides, and depends on nothing but its seed and the calls made to it.
pub(crate) trait Scheduler {
    /// Who runs next, of those that can; there is at least one.
    fn pick(&mut self, runnable: &Runnable) -> Actor;

    /// `actor` has nothing to do until others have run.
    fn yielded(&mut self, actor: Actor);

    /// Which of the `present` lanes form a converged group now. None is an answer unless `forced`.
    fn converge(&mut self, present: u32, forced: bool) -> u32;
}

impl Schedule {
    pub(crate) fn scheduler(self) -> Box<dyn Scheduler> {
        match self {
            Self::RoundRobin => Box::new(round_robin::RoundRobin::default()),
            Self::Random { seed } => Box::new(random::Random::new(seed)),
            Self::Pct { depth, seed } => Box::new(pct::Pct::new(depth, seed)),
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): small, and every seed is a good one.
#[derive(Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `n`, which is not 0.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    /// What [`Scheduler::converge`] answers at random: often not yet, often only some.
    pub(crate) fn converge(&mut self, present: u32, forced: bool) -> u32 {
        if !forced && self.below(8) != 0 {
            return 0;
        }
        if self.below(2) == 0 {
            return present;
        }
        match present & self.next() as u32 {
            0 => present,
            some => some,
        }
    }
}

/// The finalizer of [`Rng`]: a bijection whose output looks random.
pub(crate) fn mix(mut x: u64) -> u64 {
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}
