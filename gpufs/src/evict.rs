//! Which page goes when a frame is needed: policies, chosen at compile time.
//!
//! An application may bring its own: a type that implements [`Eviction`]. The host mounts the file system
//! with it (`Session::builder().build_with::<HashIndex, Mine>()`), and kernels that use the mount name it in
//! their types: `Fs<HashIndex, Mine>`. What the cache itself must hold (pins, dirty bytes, pages under way) is
//! not the policy's to break: the worst that a bad one does is to let the wrong pages go.
//!
//! A whole one, by which pages that were used often stay longer (the generalised clock: A. J. Smith,
//! "Sequentiality and Prefetching in Database Systems", ACM TODS 1978):
//!
//! ```
//! use gpu_rt::atomic::{DeviceAtomicU32, Ordering};
//! use gpufs::Eviction;
//! use gpufs::evict::PolicyState;
//! use gpufs::frame::Frame;
//!
//! #[derive(Clone, Copy)]
//! struct Often;
//!
//! impl Eviction for Often {
//!     fn filled(_: &PolicyState, frame: &Frame) {
//!         // Whatever was said about the page that was here before.
//!         frame.referenced.store(0, Ordering::Relaxed);
//!     }
//!
//!     fn used(_: &PolicyState, frame: &Frame) {
//!         let uses = frame.referenced.load(Ordering::Relaxed);
//!         // Others may count at the same time: a use that is lost matters little.
//!         if uses < 3 {
//!             frame.referenced.store(uses + 1, Ordering::Relaxed);
//!         }
//!     }
//!
//!     fn propose(state: &PolicyState, frames: &[Frame]) -> Option<u32> {
//!         let at = state.words[0].fetch_add(1, Ordering::Relaxed) % frames.len() as u32;
//!         let uses = &frames[at as usize].referenced;
//!         match uses.load(Ordering::Relaxed) {
//!             0 => Some(at),
//!             n => {
//!                 uses.store(n - 1, Ordering::Relaxed);
//!                 None
//!             }
//!         }
//!     }
//! }
//!
//! // What the cache does, in small: page 1 was used twice, the others once or never.
//! let state = PolicyState::default();
//! let frames = [Frame::new(), Frame::new(), Frame::new()];
//! frames.iter().for_each(|frame| Often::filled(&state, frame));
//! for used in [1, 1, 2] {
//!     Often::used(&state, &frames[used]);
//! }
//! let order: Vec<_> = (0..9).filter_map(|_| Often::propose(&state, &frames)).collect();
//! assert_eq!(order, [0, 0, 2, 0, 1, 2]);
//! ```
//!
//! `examples/05_own_eviction.rs` runs one on a device. Look-up structures are exchanged in the same way:
//! [`PageIndex`](crate::PageIndex).

use crate::frame::Frame;
use gpu_rt::atomic::{DeviceAtomicU32, Ordering};

/// An eviction policy. It sees the frames' states and its own few words of device memory (zeroed at
/// mount); it decides the order in which frames are offered, and which are spared this time.
///
/// Of each frame [`Frame::referenced`] is the policy's, for whatever it likes: zeroed at mount, and left
/// alone by the cache, also when one page makes room for another. Nothing else orders these words, nor does
/// the cache rely on them: relaxed operations do.
///
/// Everything may be called by any number of threads at once, `filled` and `used` of one frame by
/// several, if it changes hands meanwhile. A policy only ever proposes: the cache takes a frame if it is
/// READY, unpinned and clean, and asks for another otherwise; it asks at most twice as often as there are
/// frames before it waits. So a policy that spares a page must have come to propose it, or another, by then.
pub trait Eviction: Copy + 'static {
    /// A page was put into a frame, fetched or written for the first time, asked for or ahead of that. Until
    /// this returns nobody can find it.
    #[inline]
    fn filled(state: &PolicyState, frame: &Frame) {
        let (_, _) = (state, frame);
    }

    /// A page that is in the cache was looked up: a hit. On the fast path: at most one relaxed store.
    fn used(state: &PolicyState, frame: &Frame);

    /// The number of the next frame to try, less than the length of `frames`, which is never empty; `None`
    /// to spare the one looked at and be asked again.
    fn propose(state: &PolicyState, frames: &[Frame]) -> Option<u32>;
}

/// A policy's own memory.
#[derive(Default)]
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
