//! The log of a module, as its host: room for lines, and where they go.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use gpu_rt::Dim3;
use gpu_rt::device_log::{Control, Kind, SYMBOL, Slot};

use super::memory::Allocations;
use super::module::Module;
use super::special::position;
use crate::config::LogSink;
use crate::report::LaneId;
use crate::sync::lock;

/// Lines that are kept until everything has ended; further ones are dropped. One more is for a
/// panic.
const LINES: usize = 16_384;

/// A module's log. Its lines carry the number of a thread in its launch; of several launches under
/// way at a time they may be ascribed to the one that is looked after first.
pub(super) struct Log {
    control: Option<u64>,
    slots: *mut Slot,
    /// Lines that have been delivered, and launches under way.
    state: Mutex<State>,
    sink: Option<LogSink>,
}

#[derive(Default)]
struct State {
    delivered: usize,
    launches: usize,
}

// SAFETY: the slots are its own, and made to be read while device threads write them.
unsafe impl Send for Log {}
// SAFETY: as above.
unsafe impl Sync for Log {}

/// What a thread said last.
pub(super) struct Panic {
    pub(super) thread: u64,
    pub(super) message: String,
    pub(super) at: String,
}

fn layout() -> Layout {
    Layout::array::<Slot>(LINES + 1).expect("less than an address space")
}

/// Where a field of a [`Control`] is.
macro_rules! field {
    ($control:expr, $field:ident, $atomic:ident) => {{
        let at = $control + std::mem::offset_of!(Control, $field) as u64;
        // SAFETY: the module's variable lives as long as the module, which the interpreter keeps,
        // has the size of a `Control`, and everybody accesses it atomically.
        unsafe { $atomic::from_ptr(std::ptr::with_exposed_provenance_mut(at as usize)) }
    }};
}

impl Log {
    /// Gives a module's log room, if it keeps one.
    pub(super) fn new(module: &Module, memory: &Allocations, sink: Option<LogSink>) -> Log {
        let control = module.global(SYMBOL).filter(|&(_, bytes)| bytes == size_of::<Control>());
        let control = control.map(|(address, _)| address);
        // SAFETY: the size is not zero.
        let slots = unsafe { alloc_zeroed(layout()) };
        if slots.is_null() {
            handle_alloc_error(layout());
        }
        let address = slots.expose_provenance() as u64;
        // SAFETY: freed after all workers have ended; the slots' fields are accessed as the log
        // says.
        unsafe { memory.add(address, layout().size() as u64) };
        if let Some(control) = control {
            field!(control, slots, AtomicU32).store(LINES as u32 + 1, Ordering::Relaxed);
            field!(control, address, AtomicU64).store(address, Ordering::Relaxed);
        }
        Log { control, slots: slots.cast(), state: Mutex::default(), sink }
    }

    fn slot(&self, number: usize) -> &Slot {
        // SAFETY: there are that many, zeroed at first, which is an empty slot.
        unsafe { &*self.slots.add(number) }
    }

    /// A launch begins.
    pub(super) fn begin(&self) {
        let mut state = lock(&self.state);
        if state.launches == 0
            && let Some(control) = self.control
        {
            // Nothing runs: the log begins anew.
            let used = state.delivered.min(LINES);
            // SAFETY: no thread of a kernel runs, and `lines` are read under the lock only.
            unsafe {
                std::ptr::write_bytes(self.slots, 0, used);
                std::ptr::write_bytes(self.slots.add(LINES), 0, 1);
            }
            field!(control, next, AtomicU32).store(0, Ordering::Relaxed);
            field!(control, panicked, AtomicU32).store(0, Ordering::Relaxed);
            state.delivered = 0;
        }
        state.launches += 1;
    }

    /// A launch has ended, its lines delivered.
    pub(super) fn end(&self) {
        lock(&self.state).launches -= 1;
    }

    /// Delivers the lines that have come since the last time.
    pub(super) fn deliver(&self, kernel: &str, grid: Dim3, block: Dim3) {
        let Some(control) = self.control else { return };
        let drawn = field!(control, next, AtomicU32).load(Ordering::Relaxed) as usize;
        let mut state = lock(&self.state);
        while state.delivered < drawn.min(LINES) {
            // A line whose number is drawn but which is not there yet comes next time.
            let Some(line) = self.slot(state.delivered).line(state.delivered) else { return };
            let lane = lane(line.thread, grid, block);
            match &self.sink {
                Some(sink) => sink(kernel, lane, line.text),
                None => eprintln!("[{kernel}: {lane}] {}", line.text),
            }
            state.delivered += 1;
        }
    }

    /// The message of the first panic, if there was one.
    pub(super) fn panic(&self) -> Option<Panic> {
        self.control?;
        let line = self.slot(LINES).line(LINES).filter(|line| line.kind == Kind::Panic)?;
        // As `PanicInfo` displays itself: "panicked at file:line:column:\nmessage".
        let text = line.text.strip_prefix("panicked at ").unwrap_or(line.text);
        let (at, message) = text.split_once(":\n").unwrap_or(("an unknown place", text));
        Some(Panic { thread: line.thread, message: message.to_owned(), at: at.to_owned() })
    }
}

/// The thread of that number in its launch.
pub(super) fn lane(thread: u64, grid: Dim3, block: Dim3) -> LaneId {
    let (number, rank) = (thread / block.count().max(1), thread % block.count().max(1));
    let (x, y) = (u64::from(grid.x), u64::from(grid.y));
    let at = Dim3::new((number % x) as u32, (number / x % y) as u32, (number / (x * y)) as u32);
    LaneId { block: at, thread: position(block, rank as u32) }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Some(control) = self.control {
            // Whoever runs the module next finds no log until it makes one.
            field!(control, slots, AtomicU32).store(0, Ordering::Relaxed);
            field!(control, address, AtomicU64).store(0, Ordering::Relaxed);
        }
        // SAFETY: allocated with that layout; no worker is left that runs kernels.
        unsafe { dealloc(self.slots.cast(), layout()) };
    }
}
