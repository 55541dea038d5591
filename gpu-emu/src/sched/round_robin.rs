//! Everyone in turn.

use super::{Actor, Runnable, Scheduler};

/// The next actor after the last one, in ascending order, around and around. Converged groups are
/// the largest.
#[derive(Debug, Default)]
pub(crate) struct RoundRobin {
    next: Actor,
}

impl Scheduler for RoundRobin {
    fn pick(&mut self, runnable: &Runnable) -> Actor {
        let actor = runnable
            .iter()
            .filter(|&actor| actor >= self.next)
            .min()
            .unwrap_or_else(|| runnable.iter().min().expect("someone can run"));
        // The host has the greatest number; after it comes the first again.
        self.next = actor.wrapping_add(1);
        actor
    }

    fn yielded(&mut self, _actor: Actor) {}

    fn converge(&mut self, present: u32, forced: bool) -> u32 {
        if forced { present } else { 0 }
    }
}
