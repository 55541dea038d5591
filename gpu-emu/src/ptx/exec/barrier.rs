//! Barriers of the block.

use super::group::Stop;
use super::warp::{Cpu, Failure, Wait, Warp, failure};
use crate::ptx::code::{Barrier, Code, Inst, Vote};
use crate::ptx::fault::{At, PtxFault};
use crate::ptx::row::bits;

/// How many a block has.
pub(super) const BARRIERS: usize = 16;

#[derive(Clone, Copy, Debug, Default)]
struct State {
    arrived: u32,
    /// For how many threads, if those who arrived said so; else for all.
    expected: Option<u32>,
    /// How many predicates held, for those who reduce.
    holding: u32,
}

/// The barriers of a block.
#[derive(Debug)]
pub(in crate::ptx) struct Barriers {
    states: [State; BARRIERS],
    /// Threads that have not exited.
    live: u32,
}

impl Barriers {
    pub(super) fn new(threads: u32) -> Self {
        Barriers { states: [State::default(); BARRIERS], live: threads }
    }

    pub(super) fn live(&self) -> u32 {
        self.live
    }

    /// Threads have exited.
    pub(super) fn leave(&mut self, threads: u32) {
        self.live -= threads;
    }

    /// A barrier that waits for nobody else, since threads have exited.
    pub(super) fn complete(&self) -> Option<u8> {
        let found = self.states.iter().position(|state| {
            state.arrived > 0 && state.expected.is_none() && state.arrived >= self.live
        });
        found.map(|barrier| barrier as u8)
    }

    /// Clears a barrier for its next use. How many arrived, and how many predicates held.
    pub(super) fn open(&mut self, barrier: u8) -> (u32, u32) {
        let State { arrived, holding, .. } = std::mem::take(&mut self.states[usize::from(barrier)]);
        (arrived, holding)
    }
}

impl Warp {
    /// Lanes arrive at a barrier; they stand at the instruction until it opens.
    pub(super) fn arrive(
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
        let (number, threads) = (lanes.get(inst.a, leader), lanes.get(inst.b, leader));
        let same = bits(mask).filter(|&l| lanes.get(inst.a, l) == number);
        let mask = same.fold(0u32, |mask, lane| mask | 1 << lane);
        let possible =
            !barrier.counted || (threads > 0 && threads.is_multiple_of(32) && threads <= 1024);
        if number >= BARRIERS as u64 || !possible {
            let (lane, at) = (self.id(cpu, leader), At::new(cpu.program, pc));
            let threads = if barrier.counted { threads } else { cpu.barriers.live.into() };
            return Err(failure(PtxFault::Barrier { lane, barrier: number, threads, at }));
        }
        let number = number as u8;
        if barrier.aligned {
            self.stand_together(cpu, number, mask, pc)?;
        }
        let state = &mut cpu.barriers.states[usize::from(number)];
        state.arrived += mask.count_ones();
        if barrier.reduction.is_some() {
            state.holding += (lanes.test(inst.c) & mask).count_ones();
        }
        if barrier.counted {
            state.expected = Some(threads as u32);
        }
        cpu.counts.barriers += u64::from(mask.count_ones());
        for lane in bits(mask) {
            if barrier.waits {
                self.wait[lane] = Wait::Barrier(number);
            } else {
                self.pc[lane] = pc + 1;
            }
        }
        if barrier.waits {
            self.waiting |= mask;
        }
        let full = state.arrived >= state.expected.unwrap_or(cpu.barriers.live);
        Ok(full.then_some(Stop::Opened(number)))
    }

    /// Who waits at the same barrier in this warp must do so at the same instruction.
    fn stand_together(&self, cpu: &Cpu<'_>, number: u8, mask: u32, pc: u32) -> Result<(), Failure> {
        let apart = bits(self.waiting)
            .find(|&lane| self.wait[lane] == Wait::Barrier(number) && self.pc[lane] != pc);
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

    /// The barrier is open: its lanes go on.
    pub(super) fn pass(
        &mut self,
        program: &crate::ptx::code::Program,
        number: u8,
        arrived: u32,
        holding: u32,
    ) {
        let through = bits(self.waiting).filter(|&lane| self.wait[lane] == Wait::Barrier(number));
        let through = through.fold(0u32, |mask, lane| mask | 1 << lane);
        for lane in bits(through) {
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
            self.pc[lane] += 1;
            self.wait[lane] = Wait::Nothing;
        }
        self.waiting &= !through;
    }
}
