//! Barriers of the block. They count warps: who comes to one waits for the other threads of its warp,
//! and once all that have not exited are there, the warp has arrived, whole, however many they are.

use std::fmt;

use super::group::Stop;
use super::warp::{Cpu, Failure, Wait, Warp, failure};
use crate::ptx::code::{Barrier, Code, Inst, Program, Vote};
use crate::ptx::fault::{At, PtxFault};
use crate::ptx::row::{LANES, bits};

/// How many a block has.
pub(super) const BARRIERS: usize = 16;

/// What a thread that came to a barrier said of it: all of its warp say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    number: u8,
    aligned: bool,
    waits: bool,
    terms: Terms,
}

/// What all that meet at a barrier must agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Terms {
    /// For how many warps it is, if not for all.
    warps: Option<u8>,
    reduction: Option<Vote>,
}

impl Terms {
    /// Whether both want the same in a block of so many warps.
    fn agree(self, other: Terms, block: u32) -> bool {
        let warps = |terms: Terms| terms.warps.map_or(block, u32::from);
        warps(self) == warps(other) && self.reduction == other.reduction
    }
}

impl fmt::Display for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.warps {
            Some(warps) => write!(f, "for {} threads", usize::from(warps) * LANES)?,
            None => f.write_str("for all threads")?,
        }
        f.write_str(if self.reduction.is_some() { ", to reduce" } else { "" })
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Warps that have arrived.
    warps: u32,
    /// Their threads.
    threads: u32,
    /// How many predicates held, for those who reduce.
    holding: u32,
    /// What the first of them wants.
    terms: Option<Terms>,
    /// For how many warps it is, if one of them said so; else for all.
    expected: Option<u8>,
}

/// The barriers of a block.
#[derive(Debug)]
pub(in crate::ptx) struct Barriers {
    states: [State; BARRIERS],
    /// Threads that have not exited.
    live: u32,
    /// Warps that have such threads.
    warps: u32,
    /// Warps that there were at first.
    block: u32,
}

impl Barriers {
    pub(super) fn new(threads: u32) -> Self {
        let warps = threads.div_ceil(LANES as u32);
        Barriers { states: [State::default(); BARRIERS], live: threads, warps, block: warps }
    }

    pub(super) fn live(&self) -> u32 {
        self.live
    }

    /// Threads of a warp have exited, perhaps its last.
    pub(super) fn leave(&mut self, threads: u32, last: bool) {
        self.live -= threads;
        self.warps -= u32::from(last);
    }

    /// A warp arrives. Whether the barrier opens with that, unless those who came before want something
    /// else.
    fn join(
        &mut self,
        number: u8,
        terms: Terms,
        threads: u32,
        holding: u32,
    ) -> Result<bool, Terms> {
        let state = &mut self.states[usize::from(number)];
        match state.terms {
            Some(before) if !before.agree(terms, self.block) => return Err(before),
            _ => state.terms = Some(terms),
        }
        state.expected = state.expected.or(terms.warps);
        state.warps += 1;
        state.threads += threads;
        state.holding += holding;
        Ok(state.warps >= state.expected.map_or(self.warps, u32::from))
    }

    /// A barrier that waits for nobody else, since a warp has exited.
    pub(super) fn complete(&self) -> Option<u8> {
        let found = self.states.iter().position(|state| {
            state.warps > 0 && state.expected.is_none() && state.warps >= self.warps
        });
        found.map(|barrier| barrier as u8)
    }

    /// Clears a barrier for its next use. How many threads arrived, and how many predicates held.
    pub(super) fn open(&mut self, barrier: u8) -> (u32, u32) {
        let State { threads, holding, .. } = std::mem::take(&mut self.states[usize::from(barrier)]);
        (threads, holding)
    }
}

impl Warp {
    /// Lanes come to a barrier; they stand at the instruction until they may go on.
    pub(super) fn come(
        &mut self,
        cpu: &mut Cpu<'_>,
        inst: &Inst,
        barrier: Barrier,
        mask: u32,
        base: u32,
        pc: u32,
    ) -> Result<Option<Stop>, Failure> {
        let lanes = self.lanes(cpu.program, base, mask);
        let leader = mask.trailing_zeros() as usize;
        let named = |lane| {
            let threads = barrier.counted.then(|| lanes.get(inst.b, lane));
            (lanes.get(inst.a, lane), threads)
        };
        let (number, threads) = named(leader);
        // Lanes that name another come to it after these.
        let same = bits(mask).filter(|&lane| named(lane) == (number, threads));
        let mask = same.fold(0u32, |mask, lane| mask | 1 << lane);
        let possible = threads.is_none_or(|n| n > 0 && n.is_multiple_of(32) && n <= 1024);
        if number >= BARRIERS as u64 || !possible {
            let (lane, at) = (self.id(cpu, leader), At::new(cpu.program, pc));
            let threads = threads.unwrap_or(cpu.barriers.live.into());
            return Err(failure(PtxFault::Barrier { lane, barrier: number, threads, at }));
        }
        let warps = threads.map(|threads| (threads / LANES as u64) as u8);
        let terms = Terms { warps, reduction: barrier.reduction };
        let Barrier { aligned, waits, .. } = barrier;
        let arrival = Arrival { number: number as u8, aligned, waits, terms };
        self.stand_together(cpu, arrival, mask, pc)?;
        cpu.counts.barriers += u64::from(mask.count_ones());
        for lane in bits(mask) {
            self.wait[lane] = Wait::Barrier(arrival);
        }
        self.waiting |= mask;
        self.arrive(cpu)
    }

    /// Who waits at the same barrier in this warp must have come to it in the same way, and if that is
    /// an aligned one, at the same instruction.
    fn stand_together(
        &self,
        cpu: &Cpu<'_>,
        arrival: Arrival,
        mask: u32,
        pc: u32,
    ) -> Result<(), Failure> {
        let apart = bits(self.waiting).find(|&lane| match self.wait[lane] {
            Wait::Barrier(other) if other == arrival => arrival.aligned && self.pc[lane] != pc,
            Wait::Barrier(other) => other.number == arrival.number,
            _ => false,
        });
        match apart {
            None => Ok(()),
            Some(other) => Err(failure(PtxFault::DivergentBarrier {
                lane: self.id(cpu, mask.trailing_zeros() as usize),
                at: Box::new(At::new(cpu.program, pc)),
                other: self.id(cpu, other),
                other_at: Box::new(At::new(cpu.program, self.pc[other])),
            })),
        }
    }

    /// What the warp's lanes wait at, if it is one barrier for all that have not exited.
    fn together(&self) -> Option<Arrival> {
        if self.live == 0 || self.live & !self.waiting != 0 {
            return None;
        }
        let first = self.wait[self.live.trailing_zeros() as usize];
        let Wait::Barrier(arrival) = first else { return None };
        bits(self.live).all(|lane| self.wait[lane] == first).then_some(arrival)
    }

    /// Lanes have come to a barrier, or have exited: if the others all stand at one barrier now, the warp
    /// arrives there. Whether it opens with that.
    pub(super) fn arrive(&mut self, cpu: &mut Cpu<'_>) -> Result<Option<Stop>, Failure> {
        let Some(arrival) = self.together() else { return Ok(None) };
        let Arrival { number, waits, terms, .. } = arrival;
        let holding = if terms.reduction.is_some() { self.holding(cpu.program) } else { 0 };
        let opens = cpu.barriers.join(number, terms, self.live.count_ones(), holding);
        let opens = opens.map_err(|before| {
            let leader = self.live.trailing_zeros() as usize;
            let lane = self.id(cpu, leader);
            let at = Box::new(At::new(cpu.program, self.pc[leader]));
            let (terms, before) = (terms.to_string(), before.to_string());
            failure(PtxFault::MixedBarrier { lane, barrier: number, terms, before, at })
        })?;
        if !waits {
            self.release();
        }
        Ok(opens.then_some(Stop::Opened(number)))
    }

    /// For how many lanes the predicates hold that they came to a barrier with.
    fn holding(&mut self, program: &Program) -> u32 {
        let mut holding = 0;
        for lane in bits(self.live) {
            let predicate = program.code[self.pc[lane] as usize].c;
            let lanes = self.lanes(program, self.base[lane], 1 << lane);
            holding += lanes.test(predicate).count_ones();
        }
        holding
    }

    /// All lanes go on from where they stand.
    fn release(&mut self) {
        for lane in bits(self.live) {
            self.pc[lane] += 1;
            self.wait[lane] = Wait::Nothing;
        }
        self.waiting = 0;
    }

    /// A barrier is open: if the warp has arrived there, it goes on.
    pub(super) fn pass(&mut self, program: &Program, number: u8, arrived: u32, holding: u32) {
        if self.together().is_none_or(|arrival| arrival.number != number) {
            return;
        }
        for lane in bits(self.live) {
            let inst = &program.code[self.pc[lane] as usize];
            if let Code::Barrier(Barrier { reduction: Some(vote), .. }) = inst.code {
                let value = match vote {
                    Vote::All => u64::from(holding == arrived),
                    Vote::Any => u64::from(holding > 0),
                    Vote::Uniform | Vote::Ballot => holding.into(),
                };
                let lanes = self.lanes(program, self.base[lane], 1 << lane);
                lanes.set(inst.d, lane, value);
            }
        }
        self.release();
    }
}
