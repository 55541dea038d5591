//! Everyone in turn.

use super::{Actor, Runnable, Scheduler};

/// In every round of this number, lanes that ask to converge need not wait for the others of their
/// warp: those may be spinning until one of them goes on.
const IMPATIENT: u64 = 64;

/// The next actor after the last one, in ascending order, around and around. Converged groups are
/// the largest, but for now and then.
#[derive(Debug, Default)]
pub(crate) struct RoundRobin {
    next: Actor,
    round: u64,
}

impl Scheduler for RoundRobin {
    fn pick(&mut self, runnable: &Runnable) -> Actor {
        let actor =
            runnable.iter().filter(|&actor| actor >= self.next).min().unwrap_or_else(|| {
                self.round += 1;
                runnable.iter().min().expect("someone can run")
            });
        // The host has the greatest number; after it comes the first again.
        self.next = actor.wrapping_add(1);
        self.round += u64::from(self.next == 0);
        actor
    }

    fn yielded(&mut self, _actor: Actor) {}

    fn converge(&mut self, present: u32, forced: bool) -> u32 {
        if forced || self.round % IMPATIENT == IMPATIENT - 1 { present } else { 0 }
    }
}
