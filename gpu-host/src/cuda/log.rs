//! The module's log, read by the host: `gpu_rt::log!` lines, and the last words of a panic.
//!
//! The lines lie in the host's memory, where they can be read whatever has become of the context.

use super::driver;
use super::error::CudaError;
use gpu_emu::{Fault, LaneId};
use gpu_rt::Dim3;
use gpu_rt::device_log::{Kind, Slot};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

/// Pages that the driver pins.
const PAGE: usize = 4096;

/// Room for lines, known to the device.
pub(super) struct Log {
    slots: NonNull<Slot>,
    count: usize,
    address: u64,
    /// Lines that have been handed on.
    seen: usize,
}

// SAFETY: an owner of memory; its contents are atomic words and what these publish.
unsafe impl Send for Log {}

impl Log {
    fn layout(count: usize) -> Layout {
        Layout::array::<Slot>(count)
            .and_then(|layout| layout.align_to(PAGE))
            .expect("a log is not larger than memory")
    }

    /// Room for `lines` lines and a panic, registered with the current context.
    pub(super) fn new(lines: usize) -> Result<Log, CudaError> {
        let count = lines.max(1) + 1;
        let layout = Log::layout(count);
        // SAFETY: the layout is not empty. Zeroed memory is empty slots.
        let at = unsafe { alloc_zeroed(layout) };
        let Some(slots) = NonNull::new(at.cast::<Slot>()) else {
            std::alloc::handle_alloc_error(layout)
        };
        let mut log = Log { slots, count, address: 0, seen: 0 };
        // SAFETY: the memory lives as long as `log`, whose owner ends the context first.
        log.address = unsafe { driver::register(at, layout.size())? };
        Ok(log)
    }

    /// Where the memory lies that is registered.
    pub(super) fn base(&self) -> *mut u8 {
        self.slots.as_ptr().cast()
    }

    /// What the module's control block is to say, as its bytes.
    pub(super) fn control(&self) -> [u8; 24] {
        // As `gpu_rt::device_log::Control`: address, slots, next, panicked, reserved.
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.address.to_ne_bytes());
        bytes[8..12].copy_from_slice(&(self.count as u32).to_ne_bytes());
        bytes
    }

    /// Makes room for new lines.
    ///
    /// # Safety
    /// No kernel runs that may write any, and none has failed that has.
    pub(super) unsafe fn clear(&mut self) {
        // Who had drawn a number has written its line: there are none behind the first empty slot.
        let unseen = (self.seen..self.count - 1)
            .take_while(|&number| self.slots()[number].line(number).is_some())
            .count();
        // SAFETY: nobody else uses the slots now; zeroed ones are empty.
        unsafe { self.slots.as_ptr().write_bytes(0, self.seen + unseen) };
        self.seen = 0;
    }

    fn slots(&self) -> &[Slot] {
        // SAFETY: allocated with as many; made for being read while devices write.
        unsafe { std::slice::from_raw_parts(self.slots.as_ptr(), self.count) }
    }

    /// Hands on the lines that have come since the last time: the number of a thread, and its text.
    pub(super) fn new_lines(&mut self, mut each: impl FnMut(u64, &str)) {
        let last = self.count - 1;
        let new = self.slots()[self.seen..last].iter().zip(self.seen..);
        let mut seen = self.seen;
        for line in new.map_while(|(slot, number)| slot.line(number)) {
            each(line.thread, &shown(line.text, line.cut));
            seen += 1;
            if seen == last {
                each(line.thread, "(the log is full; what follows is lost)");
            }
        }
        self.seen = seen;
    }

    /// The first panic, if any thread has panicked.
    pub(super) fn panic(&self, grid: Dim3, block: Dim3) -> Option<Fault> {
        let last = self.count - 1;
        let line = self.slots()[last].line(last).filter(|line| line.kind == Kind::Panic)?;
        let (at, message) = place(line.text);
        Some(Fault::Panicked {
            lane: lane(line.thread, grid, block),
            message: shown(message, line.cut),
            at: at.into(),
        })
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // SAFETY: allocated so; the driver has let go of it.
        unsafe { dealloc(self.slots.as_ptr().cast(), Log::layout(self.count)) };
    }
}

fn shown(text: &str, cut: bool) -> String {
    format!("{text}{}", if cut { "…" } else { "" })
}

/// Which thread of a launch has this number.
pub(super) fn lane(thread: u64, grid: Dim3, block: Dim3) -> LaneId {
    let threads = block.count().max(1);
    LaneId { block: grid.at(thread / threads), thread: block.at(thread % threads) }
}

/// Place and message of a panic's text: `panicked at FILE:LINE:COLUMN:`, and the message on the next
/// line.
fn place(text: &str) -> (&str, &str) {
    let rest = text.strip_prefix("panicked at ").unwrap_or(text);
    match rest.split_once(":\n") {
        Some((at, message)) => (at, message),
        None => ("an unknown place", rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panics_text_is_place_and_message() {
        let text = "panicked at src/lib.rs:3:5:\nindex out of bounds";
        assert_eq!(place(text), ("src/lib.rs:3:5", "index out of bounds"));
        // Cut before the message.
        assert_eq!(place("panicked at src/li"), ("an unknown place", "src/li"));
    }

    #[test]
    fn threads_have_places_in_the_grid() {
        let at = lane(2 * 64 + 33, Dim3::from(4), Dim3::from((32, 2)));
        assert_eq!((at.block, at.thread), (Dim3::new(2, 0, 0), Dim3::new(1, 1, 0)));
    }
}
