//! The lanes of a warp, and how they meet.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};

use gpu_rt::host::Place;

use crate::fiber::FiberRef;
use crate::report::Doing;

/// A function in which lanes meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Sync,
    Ballot,
    Shfl,
    Match,
    Broadcast,
}

impl Op {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sync => "sync_warp",
            Self::Ballot => "ballot",
            Self::Shfl => "shfl",
            Self::Match => "match_any",
            Self::Broadcast => "broadcast",
        }
    }
}

/// What a lane brings to a meeting, and in `value` what it takes away.
#[derive(Debug)]
pub(crate) struct Meet {
    pub(crate) mask: Cell<u32>,
    /// The source lane of a shuffle, the length of a broadcast.
    pub(crate) arg: Cell<u32>,
    pub(crate) value: Cell<u64>,
    pub(crate) op: Cell<Op>,
}

/// The word of a lane that sleeps: it never changes from 0.
static NEVER: AtomicU32 = AtomicU32::new(0);

/// What the lanes of a warp wait for: each for a word to be no longer its `value`, or for a moment.
///
/// Kept apart from the lanes and by columns: thousands of lanes wait at a time, and all of this is
/// read whenever the host may have changed a word.
#[derive(Debug)]
pub(crate) struct Waits {
    words: [Cell<*const AtomicU32>; 32],
    values: [Cell<u32>; 32],
    deadlines: [Cell<u64>; 32],
    /// No deadline of a waiting lane is before this.
    soonest: Cell<u64>,
}

impl Waits {
    fn new() -> Self {
        Self {
            words: [const { Cell::new(&raw const NEVER) }; 32],
            values: [const { Cell::new(0) }; 32],
            deadlines: [const { Cell::new(u64::MAX) }; 32],
            soonest: Cell::new(u64::MAX),
        }
    }

    /// Has a lane wait for `word`, or just sleep, until `deadline` at most.
    #[inline]
    pub(crate) fn set(&self, lane: u32, word: Option<&AtomicU32>, value: u32, deadline: u64) {
        let lane = lane as usize;
        self.words[lane].set(word.unwrap_or(&NEVER));
        self.values[lane].set(value);
        self.deadlines[lane].set(deadline);
        self.soonest.set(self.soonest.get().min(deadline));
    }

    /// The lanes among `waiting` whose word has changed.
    #[inline]
    fn changed(&self, waiting: u32) -> u32 {
        lanes_of(waiting).fold(0, |changed, lane| {
            // SAFETY: the lane that waits holds a reference to the word; it is suspended and thus
            // still does. The load may be Relaxed: the lane itself loads the word with Acquire
            // before it acts on it.
            let seen = unsafe { (*self.words[lane].get()).load(Ordering::Relaxed) };
            changed | u32::from(seen != self.values[lane].get()) << lane
        })
    }

    /// The lanes among `waiting` whose time is out at `now`.
    #[cold]
    fn expired(&self, waiting: u32, now: u64) -> u32 {
        let (mut expired, mut soonest) = (0, u64::MAX);
        for lane in lanes_of(waiting) {
            match self.deadlines[lane].get() {
                deadline if deadline <= now => expired |= 1 << lane,
                deadline => soonest = soonest.min(deadline),
            }
        }
        self.soonest.set(soonest);
        expired
    }

    fn doing(&self, lane: usize) -> Doing {
        let word = self.words[lane].get();
        if std::ptr::eq(word, &raw const NEVER) {
            Doing::Sleeping
        } else {
            Doing::Word { address: word.addr(), value: self.values[lane].get() }
        }
    }
}

/// One lane, apart from its stack.
#[derive(Debug)]
pub(crate) struct LaneState {
    pub(crate) fiber: Cell<FiberRef>,
    /// Where it last called the machine.
    pub(crate) at: Cell<Option<Place>>,
    pub(crate) meet: Meet,
}

/// A warp. Each lane that exists is in exactly one of the sets, or running.
#[derive(Debug)]
pub(crate) struct Warp {
    pub(crate) ready: Cell<u32>,
    /// Called `relax`; ready again in the next round.
    pub(crate) yielded: Cell<u32>,
    pub(crate) waiting: Cell<u32>,
    pub(crate) converging: Cell<u32>,
    /// In a meeting that is not complete.
    pub(crate) arrived: Cell<u32>,
    pub(crate) at_barrier: Cell<u32>,
    pub(crate) exited: Cell<u32>,
    pub(crate) exists: u32,
    /// The rank in the block of lane 0.
    pub(crate) first: u32,
    pub(crate) lanes: Vec<LaneState>,
    pub(crate) waits: Waits,
}

/// Adds to a set of lanes.
#[inline]
pub(crate) fn add(set: &Cell<u32>, lanes: u32) {
    set.set(set.get() | lanes);
}

/// Takes from a set of lanes.
#[inline]
pub(crate) fn remove(set: &Cell<u32>, lanes: u32) {
    set.set(set.get() & !lanes);
}

/// The lanes of a mask, in ascending order.
pub(crate) fn lanes_of(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        (mask != 0).then(|| {
            let lane = mask.trailing_zeros() as usize;
            mask &= mask - 1;
            lane
        })
    })
}

/// Whether two places are one. The compiler may make several copies of a place, but mostly there is
/// one.
#[inline]
pub(crate) fn same(a: Place, b: Place) -> bool {
    std::ptr::eq(a, b) || a == b
}

/// What looking at the waiting lanes found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Looked {
    /// The lanes that became ready since their words have changed.
    pub(crate) changed: u32,
    /// Those that did since their time is out.
    pub(crate) expired: u32,
    /// No deadline of those that wait on is before this.
    pub(crate) deadline: u64,
}

impl Warp {
    pub(crate) fn new(first: u32, fibers: impl Iterator<Item = FiberRef>) -> Self {
        let lanes: Vec<_> = fibers
            .map(|fiber| LaneState {
                fiber: Cell::new(fiber),
                at: Cell::new(None),
                meet: Meet {
                    mask: Cell::new(0),
                    arg: Cell::new(0),
                    value: Cell::new(0),
                    op: Cell::new(Op::Sync),
                },
            })
            .collect();
        let exists = if lanes.len() == 32 { u32::MAX } else { (1 << lanes.len()) - 1 };
        Self {
            ready: Cell::new(exists),
            yielded: Cell::new(0),
            waiting: Cell::new(0),
            converging: Cell::new(0),
            arrived: Cell::new(0),
            at_barrier: Cell::new(0),
            exited: Cell::new(0),
            exists,
            first,
            lanes,
            waits: Waits::new(),
        }
    }

    /// Whether a lane can run, now or after the passing of a round.
    #[inline]
    pub(crate) fn lively(&self) -> bool {
        self.ready.get() | self.yielded.get() | self.converging.get() != 0
    }

    /// Makes the lanes ready that wait in vain: whose word has changed, or whose time is out at
    /// `now`.
    #[inline]
    pub(crate) fn look(&self, now: u64) -> Looked {
        let waiting = self.waiting.get();
        let changed = self.waits.changed(waiting);
        let mut expired = 0;
        if self.waits.soonest.get() <= now {
            expired = self.waits.expired(waiting & !changed, now);
        }
        let woken = changed | expired;
        remove(&self.waiting, woken);
        add(&self.ready, woken);
        let deadline = if waiting == woken { u64::MAX } else { self.waits.soonest.get() };
        Looked { changed, expired, deadline }
    }

    /// The lanes among `of` that converge at the place of the lowest of them.
    pub(crate) fn same_place(&self, of: u32) -> u32 {
        let place = self.lanes[of.trailing_zeros() as usize].at.get();
        self.at_place(of, place.expect("a lane that converges called from somewhere"))
    }

    /// The lanes among `of` that are at `place`.
    pub(crate) fn at_place(&self, of: u32, place: Place) -> u32 {
        let here = |&lane: &usize| self.lanes[lane].at.get().is_some_and(|at| same(at, place));
        lanes_of(of).filter(here).fold(0, |set, lane| set | 1 << lane)
    }

    /// Makes the lanes of `group`, which all converge, a group: each of them gets it as its answer
    /// and is ready.
    pub(crate) fn form(&self, group: u32) {
        for lane in lanes_of(group) {
            self.lanes[lane].meet.value.set(u64::from(group));
        }
        remove(&self.converging, group);
        add(&self.ready, group);
    }

    /// Forms the largest groups: one for each place.
    pub(crate) fn form_all(&self) {
        while self.converging.get() != 0 {
            self.form(self.same_place(self.converging.get()));
        }
    }

    /// Whether all lanes of `mask` are in one meeting.
    #[inline]
    pub(crate) fn complete(&self, mask: u32) -> bool {
        self.arrived.get() & mask == mask
            && lanes_of(mask).all(|lane| self.lanes[lane].meet.mask.get() == mask)
    }

    /// Gives each lane of the complete meeting `mask` its answer, and makes all ready but
    /// `running`.
    pub(crate) fn conclude(&self, op: Op, mask: u32, running: u32) {
        let meet = |lane: usize| &self.lanes[lane].meet;
        match op {
            Op::Sync => {}
            Op::Ballot => {
                let votes =
                    lanes_of(mask).fold(0, |votes, lane| votes | meet(lane).value.get() << lane);
                lanes_of(mask).for_each(|lane| meet(lane).value.set(votes));
            }
            Op::Shfl => {
                let mut values = [0; 32];
                lanes_of(mask).for_each(|lane| values[lane] = meet(lane).value.get());
                lanes_of(mask)
                    .for_each(|lane| meet(lane).value.set(values[meet(lane).arg.get() as usize]));
            }
            Op::Match => {
                let mut rest = mask;
                while rest != 0 {
                    let value = meet(rest.trailing_zeros() as usize).value.get();
                    let equal = lanes_of(rest)
                        .filter(|&lane| meet(lane).value.get() == value)
                        .fold(0_u32, |set, lane| set | 1 << lane);
                    lanes_of(equal).for_each(|lane| meet(lane).value.set(u64::from(equal)));
                    rest &= !equal;
                }
            }
            Op::Broadcast => {
                let leader = mask.trailing_zeros() as usize;
                let address = |lane: usize| meet(lane).value.get() as usize;
                for lane in lanes_of(mask & (mask - 1)) {
                    let len = meet(lane).arg.get().min(meet(leader).arg.get()) as usize;
                    // SAFETY: each lane of the meeting brought the exposed address of its own
                    // buffer of `arg` bytes, and waits here while the buffers are read and written.
                    unsafe {
                        std::ptr::copy_nonoverlapping(
                            std::ptr::with_exposed_provenance::<u8>(address(leader)),
                            std::ptr::with_exposed_provenance_mut::<u8>(address(lane)),
                            len,
                        );
                    }
                }
            }
        }
        remove(&self.arrived, mask);
        add(&self.ready, mask & !running);
    }

    /// What the lane does, for a report; nothing if it has exited.
    pub(crate) fn doing(&self, lane: usize) -> Option<Doing> {
        let is = |set: &Cell<u32>| set.get() >> lane & 1 == 1;
        let meet = &self.lanes[lane].meet;
        Some(if is(&self.exited) {
            return None;
        } else if is(&self.at_barrier) {
            Doing::Barrier
        } else if is(&self.arrived) {
            Doing::Warp { op: meet.op.get().name(), mask: meet.mask.get() }
        } else if is(&self.waiting) {
            self.waits.doing(lane)
        } else if is(&self.converging) {
            Doing::Converging
        } else if is(&self.yielded) {
            Doing::Spinning
        } else {
            Doing::Ready
        })
    }
}
