//! Races between blocks: two plain accesses of the same bytes, one of them a write, that nothing
//! orders.
//!
//! Each block has a vector clock: for every block, how much of what that one did it is known to come
//! after. Read-modify-writes and accesses with an order pass clocks on through the words that they
//! access, as if each were both acquire and release; fences add nothing to that. So no order that
//! there is can be missed, and what is reported is a race. Some races go unnoticed: those that only a
//! weaker order leaves open, and reads beside the last one. (The idea is that of FastTrack, Flanagan
//! and Freund, PLDI 2009, with blocks in place of threads.)

use std::collections::HashMap;
use std::sync::Mutex;

use gpu_rt::Dim3;

use super::code::Program;
use super::exec::Kind;
use super::fault::{At, Illegal};
use super::special::position;
use crate::report::LaneId;
use crate::sync::lock;

/// How far each block is.
type Clock = HashMap<u64, u32>;

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
    blocks: HashMap<u64, Clock>,
    /// What has been passed on through a word; by the word's first byte.
    words: HashMap<u64, Clock>,
    bytes: HashMap<u64, Byte>,
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
        let clock = blocks.entry(block).or_insert_with(|| Clock::from([(block, 1)]));
        if kind == Kind::Atomic {
            let word = words.entry(address & !7).or_default();
            join(clock, word);
            join(word, clock);
            *clock.entry(block).or_default() += 1;
            return Ok(());
        }
        let time = clock.get(&block).copied().unwrap_or_default();
        let access = Access { block, time, thread, pc };
        for at in address..address + u64::from(bytes) {
            let byte = known.entry(at).or_default();
            let races = |other: &Access| {
                other.block != block && clock.get(&other.block).copied().unwrap_or(0) < other.time
            };
            let other = match kind {
                Kind::Store => byte.write.filter(races).or(byte.read.filter(races)),
                _ => byte.write.filter(races),
            };
            if let Some(other) = other {
                let other_at = Box::new(At::new(program, other.pc));
                return Err(Illegal::Race { other: self.id(other), other_at });
            }
            match kind {
                Kind::Store => *byte = Byte { write: Some(access), read: None },
                _ => byte.read = Some(access),
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
