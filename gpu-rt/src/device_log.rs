//! The log of a GPU module: lines that device code leaves for the host in memory that both see.
//!
//! ```text
//!   in the module (device memory)          where the host likes, best in its own memory
//!   gpu_rt_log: Control                    slots: [Slot; n], zeroed before a launch
//!   ┌─────────┬───────┬──────┬──────────┐  ┌─────┬─────┬────────┬─────────────────┐
//!   │ address │ slots │ next │ panicked │  │ seq │ len │ thread │ text, 240 bytes │ × n
//!   └────┬────┴───────┴──────┴──────────┘  └─────┴─────┴────────┴─────────────────┘
//!        └─────────────────────────────────^
//! ```
//!
//! | word | writer |
//! |---|---|
//! | `address`, `slots` | the host, before a launch; zero keeps no log |
//! | `next` | device threads: the number of the next line; zeroed by the host before a launch |
//! | `panicked` | the first thread that panics; zeroed likewise |
//! | a slot | the thread that drew its number, which publishes it by `seq` = number + 1 |
//!
//! A launch keeps the first `slots` - 1 lines and drops the rest; the last slot is for the first
//! panic. Longer lines are cut, and nobody waits. Slots in the host's memory can be read even when
//! a panic has taken the device's context down.
//!
//! The emulator does not come here: it has its own log.

use core::fmt::{self, Write};

use crate::atomic::fence_system;
use crate::atomic::{DeviceAtomicU32, DeviceAtomicU64, Ordering, SystemAtomicU32};

/// The name of the module's [`Control`] as a symbol in PTX.
pub const SYMBOL: &str = "gpu_rt_log";

/// Bytes of text in a slot.
pub const TEXT: usize = 240;

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A line of [`log!`](crate::log!).
    Line,
    /// The message of a panic, with its place.
    Panic,
}

const CUT: u32 = 1 << 31;
const PANIC: u32 = 1 << 30;
const LEN: u32 = 0xffff;

/// Where a module's lines go.
#[repr(C)]
#[derive(Debug)]
pub struct Control {
    /// The device address of the first slot; zero for no log.
    pub address: DeviceAtomicU64,
    /// How many slots there are.
    pub slots: DeviceAtomicU32,
    /// The number of the next line.
    pub next: DeviceAtomicU32,
    /// Not zero once a panic has taken the last slot.
    pub panicked: DeviceAtomicU32,
    reserved: u32,
}

/// Room for one line. Zeroed memory is an empty slot.
#[repr(C, align(256))]
#[derive(Debug)]
pub struct Slot {
    seq: SystemAtomicU32,
    /// Bytes of text, with [`CUT`] and [`PANIC`].
    len: SystemAtomicU32,
    thread: core::cell::UnsafeCell<u64>,
    text: core::cell::UnsafeCell<[u8; TEXT]>,
}

// The model checker's words are larger, and nothing of this is modelled.
#[cfg(not(loom))]
const _: () = assert!(size_of::<Slot>() == 256 && size_of::<Control>() == 24);

// SAFETY: the plain fields are written by the one thread that drew the slot's number, and read only
// after it has published them by `seq`.
unsafe impl Sync for Slot {}

/// A line as the host reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// What it is.
    pub kind: Kind,
    /// The number of the thread in the launch.
    pub thread: u64,
    /// The text, as far as there was room.
    pub text: &'a str,
    /// Whether there was more.
    pub cut: bool,
}

impl Default for Control {
    fn default() -> Self {
        Self::new()
    }
}

impl Control {
    /// A log that keeps nothing.
    #[cfg(not(loom))]
    #[must_use]
    pub const fn new() -> Self {
        Self {
            address: DeviceAtomicU64::new(0),
            slots: DeviceAtomicU32::new(0),
            next: DeviceAtomicU32::new(0),
            panicked: DeviceAtomicU32::new(0),
            reserved: 0,
        }
    }

    /// A log that keeps nothing, under the model checker.
    #[cfg(loom)]
    #[must_use]
    pub fn new() -> Self {
        Self {
            address: DeviceAtomicU64::new(0),
            slots: DeviceAtomicU32::new(0),
            next: DeviceAtomicU32::new(0),
            panicked: DeviceAtomicU32::new(0),
            reserved: 0,
        }
    }

    /// Leaves a line for the host, if there is room.
    ///
    /// # Safety
    /// Unless `address` is zero, it must be that of `slots` slots, zeroed when `next` was, which
    /// live as long as this is called, and to which nobody else writes.
    pub unsafe fn write(&self, kind: Kind, thread: u64, message: fmt::Arguments<'_>) {
        // SAFETY: the same contract.
        let Some((number, slot)) = (unsafe { self.draw(kind) }) else { return };
        // SAFETY: the number is ours alone, so the slot is until it is published.
        let mut text = Text { bytes: unsafe { &mut *slot.text.get() }, len: 0, cut: false };
        // An error of a formatted value ends the line where it occurred.
        text.cut |= text.write_fmt(message).is_err();
        let cut = if text.cut { CUT } else { 0 };
        let word = text.len as u32 | cut | if kind == Kind::Panic { PANIC } else { 0 };
        slot.publish(number, thread, word);
        if kind == Kind::Panic {
            // What follows ends the launch; the line must have left the device by then.
            fence_system(Ordering::SeqCst);
        }
    }

    /// A number and its slot.
    ///
    /// # Safety
    /// As [`Control::write`].
    unsafe fn draw(&self, kind: Kind) -> Option<(u32, &Slot)> {
        // Relaxed, all: the host wrote them before the launch; numbers need only be distinct.
        let address = self.address.load(Ordering::Relaxed);
        let last = self.slots.load(Ordering::Relaxed).checked_sub(1)?;
        let number = if kind == Kind::Panic {
            (self.panicked.swap(1, Ordering::Relaxed) == 0).then_some(last)?
        } else {
            // The first look keeps the number from ever going around.
            if self.next.load(Ordering::Relaxed) >= last {
                return None;
            }
            self.next.fetch_add(1, Ordering::Relaxed)
        };
        if address == 0 || (kind == Kind::Line && number >= last) {
            return None;
        }
        // SAFETY: the caller vouches for the slots, and `number` is that of one.
        Some((number, unsafe { &*(address as *const Slot).add(number as usize) }))
    }
}

impl Slot {
    /// Makes the text, already written, visible.
    fn publish(&self, number: u32, thread: u64, word: u32) {
        // SAFETY: called by the one thread that drew the slot's number.
        unsafe { *self.thread.get() = thread };
        self.len.store(word, Ordering::Relaxed);
        // Release: pairs with the Acquire load in `line`, which must see the rest of the slot.
        self.seq.store(number + 1, Ordering::Release);
    }

    /// The line in this slot, the slot number `index`, if there is one.
    #[must_use]
    pub fn line(&self, index: usize) -> Option<Line<'_>> {
        // Acquire: pairs with the Release store in `Control::write`.
        let seq = self.seq.load(Ordering::Acquire);
        if seq as usize != index + 1 {
            return None;
        }
        let word = self.len.load(Ordering::Relaxed);
        let len = ((word & LEN) as usize).min(TEXT);
        // SAFETY: published, and never written again.
        let (bytes, thread) = unsafe { (&(&*self.text.get())[..len], *self.thread.get()) };
        // The device writes whole characters; whatever else is there is left out.
        let text = core::str::from_utf8(bytes).unwrap_or_else(|e| {
            core::str::from_utf8(&bytes[..e.valid_up_to()]).unwrap_or_default()
        });
        let kind = if word & PANIC != 0 { Kind::Panic } else { Kind::Line };
        Some(Line { kind, thread, text, cut: word & CUT != 0 })
    }
}

/// Text into a slot, cut at a character's end.
struct Text<'a> {
    bytes: &'a mut [u8; TEXT],
    len: usize,
    cut: bool,
}

impl Write for Text<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        if self.cut {
            return Ok(());
        }
        let mut take = s.len().min(TEXT - self.len);
        while !s.is_char_boundary(take) {
            take -= 1;
        }
        // Without checks that could panic: this is what panics call.
        for (to, from) in self.bytes.iter_mut().skip(self.len).zip(s.as_bytes().iter().take(take)) {
            *to = *from;
        }
        self.len += take;
        self.cut = take < s.len();
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::boxed::Box;
    use std::string::String;
    use std::vec::Vec;

    /// A control block with `n` empty slots.
    fn log(n: u32) -> (Control, Box<[Slot]>) {
        let slots: Box<[Slot]> = (0..n)
            .map(|_| Slot {
                seq: SystemAtomicU32::new(0),
                len: SystemAtomicU32::new(0),
                thread: 0.into(),
                text: [0; TEXT].into(),
            })
            .collect();
        let control = Control::new();
        control.address.store(slots.as_ptr() as u64, Ordering::Relaxed);
        control.slots.store(n, Ordering::Relaxed);
        (control, slots)
    }

    fn texts(slots: &[Slot]) -> Vec<(u64, &str)> {
        let lines = slots.iter().enumerate().filter_map(|(i, s)| s.line(i));
        lines.map(|l| (l.thread, l.text)).collect()
    }

    #[test]
    fn keeps_the_first_lines_and_the_first_panic() {
        let (control, slots) = log(3);
        for thread in 0..5 {
            // SAFETY: the slots live.
            unsafe { control.write(Kind::Line, thread, format_args!("line {thread}")) };
        }
        for thread in 5..7 {
            // SAFETY: the slots live.
            unsafe { control.write(Kind::Panic, thread, format_args!("panic {thread}")) };
        }
        assert_eq!(texts(&slots), [(0, "line 0"), (1, "line 1"), (5, "panic 5")]);
    }

    #[test]
    fn without_slots_nothing_happens() {
        // SAFETY: no slots.
        unsafe { Control::new().write(Kind::Panic, 0, format_args!("into the void")) };
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let (control, slots) = log(1);
        let long = String::from("a") + &"é".repeat(TEXT);
        // SAFETY: the slots live.
        unsafe { control.write(Kind::Panic, 7, format_args!("{long}")) };
        let line = slots[0].line(0).unwrap();
        assert_eq!((line.kind, line.cut, line.text.len()), (Kind::Panic, true, TEXT - 1));
        assert!(long.starts_with(line.text));
    }

    #[test]
    fn a_slot_of_another_number_is_no_line() {
        let (control, slots) = log(2);
        // SAFETY: the slots live.
        unsafe { control.write(Kind::Line, 0, format_args!("x")) };
        assert!(slots[0].line(1).is_none());
    }
}
