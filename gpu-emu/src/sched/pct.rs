//! Probabilistic concurrency testing.

use std::collections::BTreeMap;

use super::{Actor, Rng, Runnable, Scheduler, mix};

/// Change points lie within this many steps, each power of two below it equally likely, since
/// nobody knows the length of the run beforehand.
const HORIZON_BITS: u64 = 18;

/// The actor of the highest priority runs until it cannot. Priorities are random; at each of
/// `depth` less one random steps the running actor's drops below all others. So does that of an
/// actor that yields, or it would spin forever.
#[derive(Debug)]
pub(crate) struct Pct {
    rng: Rng,
    salt: u64,
    step: u64,
    /// The steps at which the priority drops, in descending order.
    changes: Vec<u64>,
    /// Those that have dropped, each to the place in the order in which they did.
    dropped: BTreeMap<Actor, u64>,
    drops: u64,
}

impl Pct {
    pub(crate) fn new(depth: u32, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let salt = rng.next();
        let mut changes: Vec<_> = (1..depth)
            .map(|_| {
                let range = 1 << (1 + rng.below(HORIZON_BITS));
                rng.below(range)
            })
            .collect();
        changes.sort_unstable_by(|a, b| b.cmp(a));
        Self { rng, salt, step: 0, changes, dropped: BTreeMap::new(), drops: 0 }
    }

    fn drop_priority(&mut self, actor: Actor) {
        self.drops += 1;
        self.dropped.insert(actor, self.drops);
    }

    /// The greatest runs: those that never dropped before those that did, and of the latter who
    /// dropped first.
    fn priority(&self, actor: Actor) -> (u64, u64) {
        match self.dropped.get(&actor) {
            None => (u64::MAX, mix(self.salt ^ actor)),
            Some(&drop) => (u64::MAX - drop, 0),
        }
    }
}

impl Scheduler for Pct {
    fn pick(&mut self, runnable: &Runnable) -> Actor {
        let best = |this: &Self| {
            runnable.iter().max_by_key(|&actor| this.priority(actor)).expect("someone can run")
        };
        let mut actor = best(self);
        while self.changes.last().is_some_and(|&change| change <= self.step) {
            self.changes.pop();
            self.drop_priority(actor);
            actor = best(self);
        }
        self.step += 1;
        actor
    }

    fn yielded(&mut self, actor: Actor) {
        self.drop_priority(actor);
    }

    fn converge(&mut self, present: u32, forced: bool) -> u32 {
        self.rng.converge(present, forced)
    }
}
