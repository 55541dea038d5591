//! Registers as they are kept: one row for each, with a place for every lane of a warp, so that an
//! instruction is decoded once and done for all lanes that stand at it.
//!
//! A row holds what its register's width can hold, extended with zeroes to 64 bits. A predicate is 0
//! or 1. An operand is a row too when it is written as a number: the program has a row for each
//! number in it, and the warp has rows for the special registers.

use super::code::Inst;

/// The lanes of a warp.
pub(super) const LANES: usize = 32;
/// All lanes of a warp, as a mask.
pub(super) const ALL: u32 = u32::MAX;

/// A register of all lanes.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Row(pub(super) [u64; LANES]);

impl Row {
    pub(super) const ZERO: Row = Row([0; LANES]);
}

/// Where the rows lie that a [`Slot`] counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bank {
    /// The frame of the running function.
    Frame = 0,
    /// The numbers in the program.
    Constant = 1,
    /// The special registers of the warp.
    Special = 2,
}

/// Names a row: its bank in the topmost two bits, its number in the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Slot(u32);

impl Slot {
    /// Row 0 of the frame, for operands that an instruction does not have.
    pub(super) const NONE: Slot = Slot(0);

    pub(super) fn new(bank: Bank, number: u32) -> Slot {
        debug_assert!(number < 1 << 30);
        Slot((bank as u32) << 30 | number)
    }

    pub(super) fn frame(number: u32) -> Slot {
        Slot::new(Bank::Frame, number)
    }

    #[inline(always)]
    fn bank(self) -> usize {
        (self.0 >> 30) as usize
    }

    /// The number of the row in its bank.
    #[inline(always)]
    pub(super) fn number(self) -> usize {
        (self.0 & ((1 << 30) - 1)) as usize
    }
}

/// What an instruction of some lanes of one warp works on.
#[derive(Clone, Copy)]
pub(super) struct Lanes {
    /// The first row of each bank. Only the frame is ever written.
    banks: [*mut Row; 3],
    /// The lanes that act.
    pub(super) mask: u32,
}

/// What an instruction does that concerns each lane alone, and its registers alone.
pub(super) type Map = fn(&Lanes, &Inst);

impl Lanes {
    /// # Safety
    /// As long as this is used, the frame has all rows that the instructions name which it is used
    /// for, and nothing else refers to them; the other banks likewise, and nothing writes to them.
    #[inline]
    pub(super) unsafe fn new(
        frame: *mut Row,
        constants: *const Row,
        special: *const Row,
        mask: u32,
    ) -> Lanes {
        Lanes { banks: [frame, constants.cast_mut(), special.cast_mut()], mask }
    }

    #[inline(always)]
    fn row(&self, slot: Slot) -> *mut u64 {
        // SAFETY: the row exists, as `new` demands.
        unsafe { self.banks[slot.bank()].add(slot.number()).cast() }
    }

    /// The value of `lane`.
    #[inline(always)]
    pub(super) fn get(&self, slot: Slot, lane: usize) -> u64 {
        debug_assert!(lane < LANES);
        // SAFETY: the row exists, and has that many places.
        unsafe { *self.row(slot).add(lane) }
    }

    /// Writes the value of `lane` in a row of the frame.
    #[inline(always)]
    pub(super) fn set(&self, slot: Slot, lane: usize, value: u64) {
        debug_assert!(lane < LANES && slot.bank() == Bank::Frame as usize);
        // SAFETY: as in `get`.
        unsafe { *self.row(slot).add(lane) = value };
    }

    /// The lanes that act, from the lowest.
    #[inline(always)]
    pub(super) fn each(&self) -> impl Iterator<Item = usize> + use<> {
        bits(self.mask)
    }

    /// The lanes among those that act where a predicate holds.
    #[inline]
    pub(super) fn test(&self, predicate: Slot) -> u32 {
        let row = self.row(predicate);
        if self.mask == ALL {
            return (0..LANES).fold(0, |mask, lane| {
                // SAFETY: as in `get`.
                mask | ((unsafe { *row.add(lane) } as u32) & 1) << lane
            });
        }
        // SAFETY: as in `get`.
        self.each().fold(0, |mask, lane| mask | ((unsafe { *row.add(lane) } as u32) & 1) << lane)
    }

    /// Runs `f` on `N` operands of each lane that acts, and keeps the result in `d`.
    #[inline(always)]
    pub(super) fn map<const N: usize>(&self, i: &Inst, f: impl Fn([u64; N]) -> u64) {
        let slots = [i.a, i.b, i.c, i.e];
        let from: [*mut u64; N] = std::array::from_fn(|n| self.row(slots[n]));
        let to = self.row(i.d);
        // SAFETY: the rows exist, and have that many places.
        let one = |lane: usize| f(from.map(|row| unsafe { *row.add(lane) }));
        if self.mask == ALL {
            // A few at a time, all read before any is written: rows may be the same, and the
            // compiler makes vector instructions of this.
            for first in (0..LANES).step_by(8) {
                let results: [u64; 8] = std::array::from_fn(|n| one(first + n));
                for (n, result) in results.into_iter().enumerate() {
                    // SAFETY: as above.
                    unsafe { *to.add(first + n) = result };
                }
            }
        } else {
            for lane in self.each() {
                let result = one(lane);
                // SAFETY: as above.
                unsafe { *to.add(lane) = result };
            }
        }
    }
}

/// The numbers of the bits that are set, from the lowest.
#[inline(always)]
pub(super) fn bits(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = mask.trailing_zeros();
        mask &= mask.wrapping_sub(1);
        (bit < 32).then_some(bit as usize)
    })
}
