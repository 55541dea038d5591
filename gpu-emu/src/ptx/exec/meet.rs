//! What lanes of a warp do together: barriers, votes, shuffles, matches. Each names a mask of lanes,
//! and waits until all of them have come.

use super::atomics::combine;
use super::warp::{Cpu, Failure, Wait, Warp, failure};
use crate::ptx::code::{Code, Inst, Meet, Shuffle, Vote};
use crate::ptx::fault::{At, PtxFault};
use crate::ptx::row::{LANES, Slot, bits};

impl Warp {
    /// The instruction a lane stands at, which is a meeting.
    fn meeting(&self, cpu: &Cpu<'_>, lane: usize) -> (Inst, Option<Meet>) {
        let inst = cpu.program.code[self.pc[lane] as usize];
        match inst.code {
            Code::Meet(meet) => (inst, Some(meet)),
            _ => (inst, None),
        }
    }

    fn read(&mut self, cpu: &Cpu<'_>, lane: usize, slot: Slot) -> u64 {
        self.lanes(cpu.program, self.base[lane], 1 << lane).get(slot, lane)
    }

    fn write(&mut self, cpu: &Cpu<'_>, lane: usize, slot: Slot, value: u64) {
        self.lanes(cpu.program, self.base[lane], 1 << lane).set(slot, lane, value);
    }

    /// Lanes that stand at a meeting come to it. Which of them went through at once.
    pub(super) fn meet(&mut self, cpu: &mut Cpu<'_>, group: u32, pc: u32) -> Result<u32, Failure> {
        let inst = cpu.program.code[pc as usize];
        let (mut left, mut through) = (group, 0);
        while left != 0 {
            let leader = left.trailing_zeros() as usize;
            let mask = self.read(cpu, leader, inst.e) as u32;
            let same = bits(left).filter(|&l| self.read(cpu, l, inst.e) as u32 == mask);
            let same = same.collect::<Vec<_>>().into_iter().fold(0u32, |m, lane| m | 1 << lane);
            left &= !same;
            self.check_mask(cpu, same, mask, pc)?;
            // Those who came before, at this instruction or another like it.
            let earlier = bits(self.waiting & mask)
                .filter(|&lane| self.wait[lane] == Wait::Meet(mask))
                .fold(0u32, |mask, lane| mask | 1 << lane);
            if same | earlier == mask {
                self.exchange(cpu, mask)?;
                for lane in bits(mask) {
                    self.pc[lane] += 1;
                    self.wait[lane] = Wait::Nothing;
                }
                self.waiting &= !mask;
                // Lanes that waited are at places of their own now.
                through |= if earlier == 0 { same } else { 0 };
            } else {
                for lane in bits(same) {
                    self.wait[lane] = Wait::Meet(mask);
                }
                self.waiting |= same;
            }
        }
        cpu.counts.meetings += 1;
        Ok(through)
    }

    /// Fails unless the lanes may name this mask, and those who wait in it agree.
    fn check_mask(&self, cpu: &Cpu<'_>, lanes: u32, mask: u32, pc: u32) -> Result<(), Failure> {
        let at = || At::new(cpu.program, pc);
        if let Some(lane) = bits(lanes & !mask).next() {
            let lane = self.id(cpu, lane);
            return Err(failure(PtxFault::NotInMask { lane, mask, at: at() }));
        }
        let leader = lanes.trailing_zeros() as usize;
        let gone = mask & !self.live;
        if gone != 0 {
            let lane = self.id(cpu, leader);
            return Err(failure(PtxFault::ExitedInMask { lane, mask, gone, at: at() }));
        }
        let meet = self.meeting(cpu, leader).1;
        for other in bits(self.waiting & mask) {
            let Wait::Meet(other_mask) = self.wait[other] else { continue };
            if other_mask != mask || self.meeting(cpu, other).1 != meet {
                return Err(failure(PtxFault::Mismatch {
                    lane: self.id(cpu, leader),
                    at: Box::new(at()),
                    mask,
                    other: self.id(cpu, other),
                    other_at: Box::new(At::new(cpu.program, self.pc[other])),
                    other_mask,
                }));
            }
        }
        Ok(())
    }

    /// Lanes have exited: whoever waits for one of them waits in vain.
    pub(super) fn nobody_waits_for_gone(&self, cpu: &Cpu<'_>, gone: u32) -> Result<(), Failure> {
        let in_vain = bits(self.waiting).find_map(|lane| match self.wait[lane] {
            Wait::Meet(mask) if mask & gone != 0 => Some((lane, mask)),
            _ => None,
        });
        match in_vain {
            None => Ok(()),
            Some((lane, mask)) => {
                let at = At::new(cpu.program, self.pc[lane]);
                let lane = self.id(cpu, lane);
                Err(failure(PtxFault::ExitedInMask { lane, mask, gone: mask & gone, at }))
            }
        }
    }

    /// All lanes of the mask are there, each at its own instruction.
    fn exchange(&mut self, cpu: &Cpu<'_>, mask: u32) -> Result<(), Failure> {
        let leader = mask.trailing_zeros() as usize;
        let Some(meet) = self.meeting(cpu, leader).1 else { return Ok(()) };
        if meet == Meet::Sync {
            return Ok(());
        }
        // All operands are read before any result is written.
        let mut values = [0u64; LANES];
        for lane in bits(mask) {
            let inst = self.meeting(cpu, lane).0;
            values[lane] = self.read(cpu, lane, inst.a);
        }
        let (mut results, mut predicates) = ([0u64; LANES], [0u64; LANES]);
        match meet {
            Meet::Sync => {}
            Meet::Vote(vote) => {
                let holds = bits(mask).filter(|&l| values[l] & 1 != 0);
                let holds = holds.fold(0u32, |m, lane| m | 1 << lane);
                results = [match vote {
                    Vote::All => u64::from(holds == mask),
                    Vote::Any => u64::from(holds != 0),
                    Vote::Uniform => u64::from(holds == mask || holds == 0),
                    Vote::Ballot => holds.into(),
                }; LANES];
            }
            Meet::Shuffle(how) => {
                for lane in bits(mask) {
                    let inst = self.meeting(cpu, lane).0;
                    let (b, c) = (self.read(cpu, lane, inst.b), self.read(cpu, lane, inst.c));
                    let (from, inside) = source_lane(how, lane as u32, b as u32, c as u32);
                    if mask >> from & 1 == 0 {
                        let at = At::new(cpu.program, self.pc[lane]);
                        let (lane, source_lane) = (self.id(cpu, lane), from);
                        let fault = PtxFault::SourceNotInMask { lane, source_lane, mask, at };
                        return Err(failure(fault));
                    }
                    results[lane] = values[from as usize];
                    predicates[lane] = inside.into();
                }
            }
            Meet::MatchAny { .. } => {
                for lane in bits(mask) {
                    let same = bits(mask).filter(|&other| values[other] == values[lane]);
                    results[lane] = same.fold(0, |mask, lane| mask | 1 << lane);
                }
            }
            Meet::MatchAll { .. } => {
                let all = bits(mask).all(|lane| values[lane] == values[leader]);
                results = [if all { mask.into() } else { 0 }; LANES];
                predicates = [all.into(); LANES];
            }
            Meet::Reduce(op) => {
                let first = values[leader];
                let rest = mask & (mask - 1);
                let all = bits(rest).fold(first, |sum, lane| combine(op, 4, sum, values[lane], 0));
                results = [all; LANES];
            }
        }
        for lane in bits(mask) {
            let inst = self.meeting(cpu, lane).0;
            self.write(cpu, lane, inst.d, results[lane]);
            if inst.imm > 0 {
                self.write(cpu, lane, Slot::frame(inst.imm as u32 - 1), predicates[lane]);
            }
        }
        Ok(())
    }
}

/// The lane that a shuffle takes from, itself where there is none, and whether there is one.
fn source_lane(how: Shuffle, lane: u32, b: u32, c: u32) -> (u32, bool) {
    let (b, clamp, segment) = (b & 31, c & 31, c >> 8 & 31);
    let first = lane & segment;
    let last = first | clamp & !segment;
    let (from, inside) = match how {
        Shuffle::Up => (lane.wrapping_sub(b), lane.wrapping_sub(b) as i32 >= last as i32),
        Shuffle::Down => (lane + b, lane + b <= last),
        Shuffle::Butterfly => (lane ^ b, lane ^ b <= last),
        Shuffle::Index => {
            let from = first | b & !segment;
            (from, from <= last)
        }
    };
    if inside { (from, true) } else { (lane, false) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffles_stay_in_their_segments() {
        // Segments of eight lanes: a mask of 0b11000 in bits 8 to 12.
        let eight = 0b11000 << 8;
        assert_eq!(source_lane(Shuffle::Up, 9, 1, eight), (8, true));
        assert_eq!(source_lane(Shuffle::Up, 8, 1, eight), (8, false));
        assert_eq!(source_lane(Shuffle::Down, 14, 1, eight | 31), (15, true));
        assert_eq!(source_lane(Shuffle::Down, 15, 1, eight | 31), (15, false));
        assert_eq!(source_lane(Shuffle::Butterfly, 5, 3, 31), (6, true));
        assert_eq!(source_lane(Shuffle::Index, 20, 3, 31), (3, true));
        assert_eq!(source_lane(Shuffle::Index, 20, 3, eight | 31), (19, true));
        assert_eq!(source_lane(Shuffle::Up, 0, 1, 0), (0, false));
    }
}
