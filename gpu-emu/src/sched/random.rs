//! Anyone.

use super::{Actor, Rng, Runnable, Scheduler};

/// A uniformly random actor each time.
#[derive(Debug)]
pub(crate) struct Random(Rng);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Rng::new(seed))
    }
}

impl Scheduler for Random {
    fn pick(&mut self, runnable: &Runnable) -> Actor {
        runnable.nth(self.0.below(runnable.len() as u64) as usize)
    }

    fn yielded(&mut self, _actor: Actor) {}

    fn converge(&mut self, present: u32, forced: bool) -> u32 {
        self.0.converge(present, forced)
    }
}
