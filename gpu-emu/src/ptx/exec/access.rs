//! Loads and stores, each checked before it happens.

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use super::warp::{Cpu, Failure, Warp, failure};
use crate::ptx::code::{Access, Atomic, Inst, Order, Space};
use crate::ptx::fault::{At, Illegal, PtxFault};
use crate::ptx::row::{LANES, Lanes, Slot, bits};
use crate::ptx::space::{Window, window};

/// What an access is, for those who check it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ptx) struct Kind {
    pub(in crate::ptx) reads: bool,
    pub(in crate::ptx) writes: bool,
    /// Whether it is more to other blocks than a plain access: others may come after it, or it after
    /// them.
    pub(in crate::ptx) ordered: bool,
}

impl Kind {
    #[inline(always)]
    fn load(access: Access) -> Kind {
        Kind { reads: true, writes: false, ordered: is_ordered(access) }
    }

    #[inline(always)]
    fn store(access: Access) -> Kind {
        Kind { reads: false, writes: true, ordered: is_ordered(access) }
    }

    /// A read-modify-write, which is ordered whatever it says.
    pub(super) fn modify(atomic: Atomic) -> Kind {
        Kind { reads: true, writes: true, ordered: !atomic.block }
    }
}

#[inline(always)]
fn is_ordered(access: Access) -> bool {
    access.order != Order::Weak && !access.block
}

/// An access of one lane, as far as all lanes of the instruction share it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    pub(super) space: Space,
    pub(super) bytes: u32,
    pub(super) kind: Kind,
    pub(super) pc: u32,
}

/// The sectors of global memory that the lanes of an instruction touch.
struct Sectors {
    touched: [u64; LANES],
    count: usize,
}

impl Sectors {
    fn new() -> Self {
        Sectors { touched: [0; LANES], count: 0 }
    }

    #[inline(always)]
    fn add(&mut self, address: u64) {
        // An aligned access of at most 16 bytes lies in one sector of 32.
        let sector = address >> 5;
        if self.count == 0 || self.touched[self.count - 1] != sector {
            self.touched[self.count] = sector;
            self.count += 1;
        }
    }

    /// How many different ones there are.
    fn different(&mut self) -> u64 {
        let touched = &mut self.touched[..self.count];
        if touched.is_sorted_by(|a, b| a < b) {
            return touched.len() as u64;
        }
        touched.sort_unstable();
        touched.chunk_by(|a, b| a == b).count() as u64
    }
}

impl Warp {
    /// Where a lane's access goes, as a pointer that is good for all of its bytes.
    #[inline(always)]
    pub(super) fn locate(
        &mut self,
        cpu: &mut Cpu<'_>,
        lane: usize,
        address: u64,
        Reach { space, bytes, kind, pc }: Reach,
    ) -> Result<(*mut u8, Window), Illegal> {
        if !address.is_multiple_of(bytes.into()) {
            return Err(Illegal::Misaligned(bytes));
        }
        let window = match space {
            Space::Generic => window(address),
            Space::Global => Window::Global,
            Space::Shared => Window::Shared(address),
            Space::Local => Window::Local(self.first + lane as u32, address),
        };
        let pointer = match window {
            Window::Global => {
                cpu.memory.check(address, bytes)?;
                if let Some(checker) = cpu.checker {
                    let thread = self.first + lane as u32;
                    let who = (cpu.number, thread, pc);
                    checker.global(cpu.program, address, bytes, kind, who)?;
                }
                std::ptr::with_exposed_provenance_mut(address as usize)
            }
            Window::Shared(offset) => {
                let Some(pointer) = cpu.shared.at(offset, bytes) else {
                    return Err(Illegal::Shared(cpu.shared.bytes()));
                };
                if cpu.checker.is_some() {
                    cpu.shared.check(offset, bytes, kind)?;
                }
                pointer
            }
            Window::Local(thread, offset) => {
                if thread != self.first + lane as u32 {
                    return Err(Illegal::OthersLocal(thread));
                }
                match self.local.at(lane, offset, bytes) {
                    Some(pointer) => pointer,
                    None => return Err(Illegal::Local(self.local.bytes())),
                }
            }
            Window::Nothing => return Err(Illegal::NoMemory),
        };
        Ok((pointer, window))
    }

    #[cold]
    pub(super) fn illegal(
        &self,
        cpu: &Cpu<'_>,
        lane: usize,
        address: u64,
        bytes: u32,
        pc: u32,
        illegal: Illegal,
    ) -> Failure {
        let (lane, at) = (self.id(cpu, lane), Box::new(At::new(cpu.program, pc)));
        failure(PtxFault::Access { lane, address, bytes, at, illegal })
    }

    pub(super) fn load(
        &mut self,
        cpu: &mut Cpu<'_>,
        lanes: &Lanes,
        inst: &Inst,
        access: Access,
        pc: u32,
    ) -> Result<(), Failure> {
        let bytes = u32::from(access.bytes) * u32::from(access.count);
        let reach = Reach { space: access.space, bytes, kind: Kind::load(access), pc };
        let (mut sectors, mut windows) = (Sectors::new(), [false; 3]);
        for lane in bits(lanes.mask) {
            let address = lanes.get(inst.a, lane).wrapping_add_signed(inst.imm);
            let (pointer, window) = match self.locate(cpu, lane, address, reach) {
                Ok(found) => found,
                Err(why) => return Err(self.illegal(cpu, lane, address, bytes, pc, why)),
            };
            note(window, address, &mut sectors, &mut windows);
            for n in 0..usize::from(access.count) {
                let slot: Slot = match access.count {
                    1 => inst.d,
                    _ => cpu.program.lists[inst.d.number() + n],
                };
                // SAFETY: good for the bytes of the access, and aligned to them.
                let value = unsafe {
                    read(pointer.add(n * usize::from(access.bytes)), access.bytes, access.order)
                };
                let value = access.signed.map_or(value, |w| signed(value, access.bytes, w));
                lanes.set(slot, lane, value);
            }
        }
        cpu.counts.loads += u64::from(windows[0]);
        count(cpu, sectors, windows);
        Ok(())
    }

    pub(super) fn store(
        &mut self,
        cpu: &mut Cpu<'_>,
        lanes: &Lanes,
        inst: &Inst,
        access: Access,
        pc: u32,
    ) -> Result<(), Failure> {
        let bytes = u32::from(access.bytes) * u32::from(access.count);
        let reach = Reach { space: access.space, bytes, kind: Kind::store(access), pc };
        let (mut sectors, mut windows) = (Sectors::new(), [false; 3]);
        for lane in bits(lanes.mask) {
            let address = lanes.get(inst.a, lane).wrapping_add_signed(inst.imm);
            let (pointer, window) = match self.locate(cpu, lane, address, reach) {
                Ok(found) => found,
                Err(why) => return Err(self.illegal(cpu, lane, address, bytes, pc, why)),
            };
            note(window, address, &mut sectors, &mut windows);
            for n in 0..usize::from(access.count) {
                let slot: Slot = match access.count {
                    1 => inst.b,
                    _ => cpu.program.lists[inst.b.number() + n],
                };
                // SAFETY: good for the bytes of the access, and aligned to them.
                unsafe {
                    let pointer = pointer.add(n * usize::from(access.bytes));
                    write(pointer, access.bytes, access.order, lanes.get(slot, lane));
                }
            }
        }
        cpu.counts.stores += u64::from(windows[0]);
        count(cpu, sectors, windows);
        Ok(())
    }
}

#[inline(always)]
fn note(window: Window, address: u64, sectors: &mut Sectors, windows: &mut [bool; 3]) {
    match window {
        Window::Global => {
            sectors.add(address);
            windows[0] = true;
        }
        Window::Shared(_) => windows[1] = true,
        _ => windows[2] = true,
    }
}

#[inline(always)]
fn count(cpu: &mut Cpu<'_>, mut sectors: Sectors, windows: [bool; 3]) {
    cpu.counts.sectors += sectors.different();
    cpu.counts.shared += u64::from(windows[1]);
    cpu.counts.local += u64::from(windows[2]);
}

/// A value of `bytes` bytes with its sign kept, in a register of `width` bits.
fn signed(value: u64, bytes: u8, width: u8) -> u64 {
    let unused = 64 - 8 * u32::from(bytes);
    ((value << unused) as i64 >> unused) as u64 & u64::MAX >> (64 - width)
}

/// Reads a value. Ordinary accesses are relaxed atomic ones here: whoever else is at the same word,
/// nothing is undefined. All others are as strong as they say.
///
/// # Safety
/// The pointer is good for so many bytes, aligned to them, and whoever writes them meanwhile does so
/// atomically.
#[inline(always)]
unsafe fn read(pointer: *mut u8, bytes: u8, order: Order) -> u64 {
    // Acquire: pairs with the Release of whoever stored the value: a thread, or the daemon.
    let order = if order == Order::Acquire { Ordering::Acquire } else { Ordering::Relaxed };
    // SAFETY: the caller's contract.
    unsafe {
        match bytes {
            1 => AtomicU8::from_ptr(pointer).load(order).into(),
            2 => AtomicU16::from_ptr(pointer.cast()).load(order).into(),
            4 => AtomicU32::from_ptr(pointer.cast()).load(order).into(),
            _ => AtomicU64::from_ptr(pointer.cast()).load(order),
        }
    }
}

/// Writes a value.
///
/// # Safety
/// As for [`read`].
#[inline(always)]
unsafe fn write(pointer: *mut u8, bytes: u8, order: Order, value: u64) {
    // Release: pairs with the Acquire of whoever loads the value: a thread, or the daemon.
    let order = if order == Order::Release { Ordering::Release } else { Ordering::Relaxed };
    // SAFETY: the caller's contract.
    unsafe {
        match bytes {
            1 => AtomicU8::from_ptr(pointer).store(value as u8, order),
            2 => AtomicU16::from_ptr(pointer.cast()).store(value as u16, order),
            4 => AtomicU32::from_ptr(pointer.cast()).store(value as u32, order),
            _ => AtomicU64::from_ptr(pointer.cast()).store(value, order),
        }
    }
}
