//! Races between blocks: two plain accesses of the same bytes, one of them a write, that nothing
//! orders. What has an order for its block alone (`.cta`) is plain to all others.
//!
//! Each block has a vector clock: for every block, how much of what that one did it is known to come
//! after. Read-modify-writes and accesses with an order pass clocks on through the words that they
//! access, as if each were both acquire and release; fences add nothing to that. So no order that
//! there is can be missed, and what is reported is a race. Some races go unnoticed: those that only a
//! weaker order leaves open, and reads beside the last one. (The idea is that of FastTrack, Flanagan
//! and Freund, PLDI 2009, with blocks in place of threads.)

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Mutex;

use gpu_rt::Dim3;

use super::code::Program;
use super::exec::Kind;
use super::fault::{At, Illegal};
use super::special::position;
use crate::report::LaneId;
use crate::sync::lock;

/// A hasher of addresses and numbers of blocks: one multiplication, since every byte that kernels access
/// is looked up.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }

    fn write_u64(&mut self, number: u64) {
        // 2^64 by the golden ratio; tables take the lowest bits, which the highest are to reach.
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

type Map<T> = HashMap<u64, T, BuildHasherDefault<Mix>>;

/// How far each block is.
type Clock = Map<u32>;

/// A plain access.
#[derive(Clone, Copy, Debug)]
struct Access {
    block: u64,
    /// The block's own clock then.
    time: u32,
    thread: u32,
    pc: u32,
}

/// What is known of a byte.
#[derive(Clone, Copy, Debug, Default)]
struct Byte {
    write: Option<Access>,
    read: Option<Access>,
}

#[derive(Debug, Default)]
struct State {
    blocks: Map<Clock>,
    /// What has been passed on through a word; by the word's first byte.
    words: Map<Clock>,
    /// By the first of each eight.
    bytes: Map<[Byte; 8]>,
}

/// Watches the accesses of a launch.
#[derive(Debug)]
pub(super) struct Checker {
    grid: Dim3,
    block: Dim3,
    state: Mutex<State>,
}

fn join(into: &mut Clock, from: &Clock) {
    for (&block, &time) in from {
        let known = into.entry(block).or_default();
        *known = (*known).max(time);
    }
}

impl Checker {
    pub(super) fn new(grid: Dim3, block: Dim3) -> Self {
        Checker { grid, block, state: Mutex::default() }
    }

    /// A thread accesses global memory.
    pub(super) fn global(
        &self,
        program: &Program,
        address: u64,
        bytes: u32,
        kind: Kind,
        (block, thread, pc): (u64, u32, u32),
    ) -> Result<(), Illegal> {
        let mut state = lock(&self.state);
        let State { blocks, words, bytes: known } = &mut *state;
        let clock = blocks.entry(block).or_insert_with(|| Clock::from_iter([(block, 1)]));
        if kind.ordered {
            let word = words.entry(address & !7).or_default();
            join(clock, word);
            join(word, clock);
            *clock.entry(block).or_default() += 1;
            return Ok(());
        }
        let time = clock.get(&block).copied().unwrap_or_default();
        let access = Access { block, time, thread, pc };
        let races = |other: &Access| {
            other.block != block && clock.get(&other.block).copied().unwrap_or(0) < other.time
        };
        // Aligned to its size: within eight bytes, or all of sixteen.
        for first in (address & !7..address + u64::from(bytes)).step_by(8) {
            let eight = known.entry(first).or_default();
            let from = address.max(first) - first;
            for byte in &mut eight[from as usize..(from as usize + bytes as usize).min(8)] {
                let read = byte.read.filter(|_| kind.writes);
                if let Some(other) = byte.write.filter(races).or(read.filter(races)) {
                    let other_at = Box::new(At::new(program, other.pc));
                    return Err(Illegal::Race { other: self.id(other), other_at });
                }
                match kind.writes {
                    true => *byte = Byte { write: Some(access), read: None },
                    false => byte.read = Some(access),
                }
            }
        }
        Ok(())
    }

    fn id(&self, access: Access) -> LaneId {
        let (x, y) = (u64::from(self.grid.x), u64::from(self.grid.y));
        let number = access.block;
        let block =
            Dim3::new((number % x) as u32, (number / x % y) as u32, (number / (x * y)) as u32);
        LaneId { block, thread: position(self.block, access.thread) }
    }
}
