//! Read-modify-writes: the host's own, on the very words.

use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use super::access::{Kind, Reach};
use super::warp::{Cpu, Failure, Warp};
use crate::ptx::alu::{Float, flushed};
use crate::ptx::code::{Atomic, AtomicOp, Inst, Order};
use crate::ptx::fault::Illegal;
use crate::ptx::row::{Lanes, bits};
use crate::ptx::space::Window;

impl Warp {
    pub(super) fn atomic(
        &mut self,
        cpu: &mut Cpu<'_>,
        lanes: &Lanes,
        inst: &Inst,
        atomic: Atomic,
        pc: u32,
    ) -> Result<(), Failure> {
        let bytes = u32::from(atomic.bytes);
        let reach = Reach { space: atomic.space, bytes, kind: Kind::modify(atomic), pc };
        let mut touched = [u64::MAX; 2];
        for lane in bits(lanes.mask) {
            let address = lanes.get(inst.a, lane).wrapping_add_signed(inst.imm);
            let found = match self.locate(cpu, lane, address, reach) {
                Ok((_, Window::Local(..))) => Err(Illegal::AtomicLocal),
                found => found,
            };
            let (pointer, window) = match found {
                Ok(found) => found,
                Err(why) => return Err(self.illegal(cpu, lane, address, bytes, pc, why)),
            };
            // Lanes mostly hit one word, or words in order: an upper bound else.
            if window == Window::Global && !touched.contains(&(address >> 5)) {
                touched = [address >> 5, touched[0]];
                cpu.counts.sectors += 1;
            }
            let (b, c) = (lanes.get(inst.b, lane), lanes.get(inst.c, lane));
            let atomic = Atomic { op: as_done_in(window, atomic), ..atomic };
            // SAFETY: `locate` found it good for the bytes of the access, and aligned to them; the
            // host's threads access such words atomically.
            let old = unsafe { modify(pointer, atomic, b, c) };
            lanes.set(inst.d, lane, old);
        }
        cpu.counts.atomics += u64::from(lanes.mask.count_ones());
        Ok(())
    }
}

/// Sums in single precision flush in global memory, and there alone.
fn as_done_in(window: Window, atomic: Atomic) -> AtomicOp {
    match (window, atomic) {
        (Window::Global, Atomic { op: AtomicOp::AddFloat, bytes: 4, .. }) => AtomicOp::AddFlushed,
        _ => atomic.op,
    }
}

/// The orderings of a read-modify-write and of one that changes nothing.
fn orderings(order: Order) -> (Ordering, Ordering) {
    match order {
        Order::Weak | Order::Relaxed => (Ordering::Relaxed, Ordering::Relaxed),
        // These pair with the Release and the Acquire of other threads at the same word.
        Order::Acquire => (Ordering::Acquire, Ordering::Acquire),
        Order::Release => (Ordering::Release, Ordering::Relaxed),
        Order::Both => (Ordering::AcqRel, Ordering::Acquire),
    }
}

/// What a word becomes.
pub(super) fn combine(op: AtomicOp, bytes: u8, old: u64, b: u64, c: u64) -> u64 {
    let single = |bits: u64| f32::from_bits(bits as u32);
    let sum = |a: f32, b: f32| (a + b).result();
    let signed = |value: u64| match bytes {
        4 => i64::from(value as i32),
        _ => value as i64,
    };
    let new = match op {
        AtomicOp::Add => old.wrapping_add(b),
        AtomicOp::And => old & b,
        AtomicOp::Or => old | b,
        AtomicOp::Xor => old ^ b,
        AtomicOp::Exchange => b,
        AtomicOp::CompareExchange => return if old == b { c } else { old },
        AtomicOp::MinUnsigned => old.min(b),
        AtomicOp::MaxUnsigned => old.max(b),
        AtomicOp::MinSigned => return if signed(b) < signed(old) { b } else { old },
        AtomicOp::MaxSigned => return if signed(b) > signed(old) { b } else { old },
        AtomicOp::Increment => {
            if old >= b {
                0
            } else {
                old + 1
            }
        }
        AtomicOp::Decrement => {
            if old == 0 || old > b {
                b
            } else {
                old - 1
            }
        }
        AtomicOp::AddFloat if bytes == 4 => sum(single(old), single(b)).into(),
        AtomicOp::AddFloat => (f64::from_bits(old) + f64::from_bits(b)).to_bits(),
        AtomicOp::AddFlushed => {
            let bits = sum(flushed(single(old)), flushed(single(b)));
            flushed(f32::from_bits(bits)).to_bits().into()
        }
    };
    if bytes == 4 { new & u64::from(u32::MAX) } else { new }
}

/// Does it, and gives back what was there before.
///
/// # Safety
/// The pointer is good for the word and aligned to it, and everybody accesses it atomically.
unsafe fn modify(pointer: *mut u8, atomic: Atomic, b: u64, c: u64) -> u64 {
    let (order, failure) = orderings(atomic.order);
    macro_rules! on {
        ($atomic:ident, $ty:ty) => {{
            // SAFETY: the caller's contract.
            let word = unsafe { $atomic::from_ptr(pointer.cast()) };
            let old = match atomic.op {
                AtomicOp::Add => word.fetch_add(b as $ty, order),
                AtomicOp::And => word.fetch_and(b as $ty, order),
                AtomicOp::Or => word.fetch_or(b as $ty, order),
                AtomicOp::Xor => word.fetch_xor(b as $ty, order),
                AtomicOp::Exchange => word.swap(b as $ty, order),
                AtomicOp::MaxUnsigned => word.fetch_max(b as $ty, order),
                AtomicOp::MinUnsigned => word.fetch_min(b as $ty, order),
                AtomicOp::CompareExchange => {
                    match word.compare_exchange(b as $ty, c as $ty, order, failure) {
                        Ok(old) | Err(old) => old,
                    }
                }
                op => {
                    let new = |old| Some(combine(op, atomic.bytes, u64::from(old), b, c) as $ty);
                    match word.fetch_update(order, failure, new) {
                        Ok(old) | Err(old) => old,
                    }
                }
            };
            u64::from(old)
        }};
    }
    match atomic.bytes {
        2 => on!(AtomicU16, u16),
        4 => on!(AtomicU32, u32),
        _ => on!(AtomicU64, u64),
    }
}
