//! Which page goes when a frame is needed: policies, chosen at compile time.

use crate::frame::Frame;
use gpu_rt::atomic::{DeviceAtomicU32, Ordering};

/// An eviction policy. It sees the frames' states and its own few words of device memory (zeroed at
/// mount); it decides the order in which frames are offered, and which are spared this time.
///
/// Everything may be called by any number of threads at once. A policy only ever proposes: the cache
/// takes a frame if it is READY and unpinned, and asks for another otherwise.
pub trait Eviction: Copy + 'static {
    /// A page was used (a hit, or just filled). On the fast path: at most one relaxed store.
    fn used(state: &PolicyState, frame: &Frame);

    /// The next frame to try, out of `frames`; `None` to spare the one looked at and be asked again.
    fn propose(state: &PolicyState, frames: &[Frame]) -> Option<u32>;
}

/// A policy's own memory.
#[repr(C, align(64))]
pub struct PolicyState {
    /// Free for the policy's use.
    pub words: [DeviceAtomicU32; 16],
}

/// The next position of a hand that goes around `len` frames.
fn advance(hand: &DeviceAtomicU32, len: usize) -> u32 {
    hand.fetch_add(1, Ordering::Relaxed) % len as u32
}

/// CLOCK: second chance for pages used since the hand last passed (F. J. Corbató, "A Paging
/// Experiment with the Multics System", 1968).
#[derive(Clone, Copy, Debug)]
pub struct Clock;

impl Eviction for Clock {
    #[inline]
    fn used(_: &PolicyState, frame: &Frame) {
        // Look first: a page that is hit by thousands of threads stays a shared cache line.
        if frame.referenced.load(Ordering::Relaxed) == 0 {
            frame.referenced.store(1, Ordering::Relaxed);
        }
    }

    fn propose(state: &PolicyState, frames: &[Frame]) -> Option<u32> {
        let at = advance(&state.words[0], frames.len());
        let frame = &frames[at as usize];
        if frame.referenced.load(Ordering::Relaxed) != 0 {
            frame.referenced.store(0, Ordering::Relaxed);
            return None;
        }
        Some(at)
    }
}

/// First in, first out: the hand follows the order in which frames were filled.
#[derive(Clone, Copy, Debug)]
pub struct Fifo;

impl Eviction for Fifo {
    #[inline]
    fn used(_: &PolicyState, _: &Frame) {}

    fn propose(state: &PolicyState, frames: &[Frame]) -> Option<u32> {
        Some(advance(&state.words[0], frames.len()))
    }
}
