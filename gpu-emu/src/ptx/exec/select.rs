//! Which lanes of a warp run next, so that they converge as on a GPU and none starves.
//!
//! Every lane has a program counter of its own. Those in the innermost call come first, and among
//! them those at the lowest address: compilers lay code out such that the lanes ahead then wait
//! where the others join them. A group that keeps others from running for long gives way to the one
//! after it, so that a lane that spins until another lane of its warp has acted does not do so for
//! ever.

use super::warp::{Group, Warp};
use crate::ptx::row::bits;

/// Instructions after which a group gives way to another that is ready.
pub(super) const PATIENCE: u32 = 4096;

impl Warp {
    /// The group whose turn it is among `ready`, of which there is at least one.
    pub(super) fn select(&mut self, ready: u32) -> Group {
        if self.rotated {
            return self.next_in_turn(ready);
        }
        let mut best = (0, u32::MAX);
        let mut mask = 0u32;
        // The lowest address after the best, in the same frame.
        let mut stop = u32::MAX;
        for lane in bits(ready) {
            let (base, pc) = (self.base[lane], self.pc[lane]);
            if (base, pc) == best {
                mask |= 1 << lane;
            } else if mask == 0 || base > best.0 || (base == best.0 && pc < best.1) {
                stop = if mask != 0 && base == best.0 { best.1 } else { u32::MAX };
                best = (base, pc);
                mask = 1 << lane;
            } else if base == best.0 {
                stop = stop.min(pc);
            }
        }
        self.turn = mask.trailing_zeros();
        Group { mask, pc: best.1, base: best.0, stop, contended: mask != ready }
    }

    /// The group of the first lane after the one whose turn was last.
    fn next_in_turn(&mut self, ready: u32) -> Group {
        let (base, pc) = (self.base[self.turn as usize], self.pc[self.turn as usize]);
        let same = |lane: usize| (self.base[lane], self.pc[lane]) == (base, pc);
        let others =
            bits(ready).filter(|&lane| !same(lane)).fold(0u32, |mask, lane| mask | 1 << lane);
        let after = others & (u32::MAX << self.turn) & !(1 << self.turn);
        let leader = match (after, others) {
            (0, 0) => ready.trailing_zeros(),
            (0, others) => others.trailing_zeros(),
            (after, _) => after.trailing_zeros(),
        };
        self.turn = leader;
        let (base, pc) = (self.base[leader as usize], self.pc[leader as usize]);
        let with = bits(ready).filter(|&lane| (self.base[lane], self.pc[lane]) == (base, pc));
        let mask = with.fold(0, |mask, lane| mask | 1 << lane);
        // It joins nobody for the time of its turn.
        Group { mask, pc, base, stop: u32::MAX, contended: mask != ready }
    }
}
