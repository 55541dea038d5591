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

/// What a lane waits for: a word that is no longer `value`, or a moment.
#[derive(Debug)]
pub(crate) struct Wait {
    /// Null for a lane that sleeps.
    pub(crate) word: Cell<*const AtomicU32>,
    pub(crate) deadline: Cell<u64>,
    pub(crate) value: Cell<u32>,
}

/// One lane, apart from its stack.
#[derive(Debug)]
pub(crate) struct LaneState {
    pub(crate) fiber: Cell<FiberRef>,
    /// Where it last called the machine.
    pub(crate) at: Cell<Option<Place>>,
    pub(crate) meet: Meet,
    pub(crate) wait: Wait,
}

/// A warp. Each lane that exists is in exactly one of the sets, or running.
#[derive(Debug, Default)]
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
    /// The lanes that became ready.
    pub(crate) woken: u32,
    /// The earliest deadline of those that wait on.
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
                wait: Wait {
                    word: Cell::new(std::ptr::null()),
                    deadline: Cell::new(0),
                    value: Cell::new(0),
                },
            })
            .collect();
        let exists = if lanes.len() == 32 { u32::MAX } else { (1 << lanes.len()) - 1 };
        Self { ready: Cell::new(exists), exists, first, lanes, ..Self::default() }
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
        let (mut woken, mut deadline) = (0, u64::MAX);
        for lane in lanes_of(self.waiting.get()) {
            let wait = &self.lanes[lane].wait;
            let word = wait.word.get();
            // SAFETY: the lane that waits holds a reference to the word; it is suspended and thus
            // still does. The load may be Relaxed: the lane itself loads the word with Acquire
            // before it acts on it.
            let changed =
                !word.is_null() && unsafe { (*word).load(Ordering::Relaxed) } != wait.value.get();
            if changed || wait.deadline.get() <= now {
                woken |= 1 << lane;
            } else {
                deadline = deadline.min(wait.deadline.get());
            }
        }
        remove(&self.waiting, woken);
        add(&self.ready, woken);
        Looked { woken, deadline }
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
        let LaneState { meet, wait, .. } = &self.lanes[lane];
        Some(if is(&self.exited) {
            return None;
        } else if is(&self.at_barrier) {
            Doing::Barrier
        } else if is(&self.arrived) {
            Doing::Warp { op: meet.op.get().name(), mask: meet.mask.get() }
        } else if is(&self.waiting) && wait.word.get().is_null() {
            Doing::Sleeping
        } else if is(&self.waiting) {
            Doing::Word { address: wait.word.get().addr(), value: wait.value.get() }
        } else if is(&self.converging) {
            Doing::Converging
        } else if is(&self.yielded) {
            Doing::Spinning
        } else {
            Doing::Ready
        })
    }
}
