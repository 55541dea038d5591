//! 05: an application's own eviction policy, and kernels that use it.
//!
//! Kernels are not generic, functions are: there is a kernel for each policy, and one body.

use gpu_rt::atomic::{DeviceAtomicU64, Ordering};
use gpu_rt::{Block, Group, Pod, Thread, Zeroable, kernel, thread};
use gpufs::evict::PolicyState;
use gpufs::frame::Frame;
use gpufs::{Clock, DeviceSlice, Errno, Eviction, File, Fs, HashIndex, OpenOptions};

/// Pages that were used again soon after they came are *settled*, and go when they have not been used for a
/// while. The others, such as those that a scan goes over once, only ever take each other's frames.
///
/// That is the idea of 2Q (T. Johnson, D. Shasha, VLDB 1994) and of S3-FIFO (J. Yang et al., SOSP 2023), by
/// one clock hand: what would be queues there is a word of each frame here.
#[derive(Clone, Copy, Debug)]
pub struct Settle;

/// [`Frame::referenced`]: the page is new here.
const NEW: u32 = 0;
/// It was used once more.
const USED: u32 = 1;
/// It is settled, and was not used since the hand passed.
const SETTLED: u32 = 2;
/// It is settled, and was used.
const SETTLED_USED: u32 = 3;

/// Of [`PolicyState::words`]: where the hand is.
const HAND: usize = 0;
/// How many settled pages it has passed in this round.
const PASSED: usize = 1;
/// How many there were in the last.
const SETTLED_PAGES: usize = 2;

impl Eviction for Settle {
    fn filled(_: &PolicyState, frame: &Frame) {
        frame.referenced.store(NEW, Ordering::Relaxed);
    }

    #[inline]
    fn used(_: &PolicyState, frame: &Frame) {
        match frame.referenced.load(Ordering::Relaxed) {
            NEW => frame.referenced.store(USED, Ordering::Relaxed),
            SETTLED => frame.referenced.store(SETTLED_USED, Ordering::Relaxed),
            // Already said: a page that thousands of threads use stays a shared cache line.
            _ => {}
        }
    }

    fn propose(state: &PolicyState, frames: &[Frame]) -> Option<u32> {
        let [hand, passed, settled] = [HAND, PASSED, SETTLED_PAGES].map(|i| &state.words[i]);
        let at = hand.fetch_add(1, Ordering::Relaxed) % frames.len() as u32;
        if at == 0 {
            // Counted anew in each round, so that a count that was missed is not missed for ever.
            settled.store(passed.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        }
        let known = settled.load(Ordering::Relaxed).max(passed.load(Ordering::Relaxed));
        let is_full = known as usize > frames.len() / 4 * 3;
        let word = &frames[at as usize].referenced;
        let next = match word.load(Ordering::Relaxed) {
            NEW => return Some(at),
            USED if !is_full => SETTLED,
            // Settled pages stay whether they are used or not, until they have three quarters of all frames.
            now if now >= SETTLED && !is_full => now,
            SETTLED_USED => SETTLED,
            // It goes in the next round, unless it is used before.
            _ => NEW,
        };
        if next != NEW {
            passed.fetch_add(1, Ordering::Relaxed);
        }
        word.store(next, Ordering::Relaxed);
        None
    }
}

/// What to look at, and where results go.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Trace {
    /// The file system, as the host has mounted it: with the policy of the kernel that is launched.
    pub fs: u64,
    /// The file's path.
    pub path: DeviceSlice<u8>,
    /// The sum of the first bytes of all pages that were looked at, and a count of errors.
    pub out: DeviceSlice<u64>,
    /// Pages at the file's beginning that are used often.
    pub hot: u64,
    /// How often they are, each time.
    pub times: u64,
    /// Pages after those, one after the other, that each scan goes over.
    pub scan: u64,
    /// How often all this is done: each scan goes on where the last one ended.
    pub rounds: u64,
}

/// The trace, on a mount with [`Clock`].
#[kernel(max_threads = 256)]
pub fn trace_clock(args: Trace) {
    run::<Clock>(&args);
}

/// The trace, on a mount with [`Settle`].
#[kernel(max_threads = 256)]
pub fn trace_settle(args: Trace) {
    run::<Settle>(&args);
}

fn run<E: Eviction>(args: &Trace) {
    let out = |index: usize| {
        assert!(index < args.out.len(), "the host gave too few places for results");
        // SAFETY: in range, zeroed by the host, and used as an atomic word by every thread.
        unsafe { &*args.out.as_ptr().add(index).cast::<DeviceAtomicU64>() }
    };
    match look_around::<E>(args) {
        Ok(sum) => out(0).fetch_add(sum, Ordering::Relaxed),
        Err(_) => out(1).fetch_add(1, Ordering::Relaxed),
    };
}

/// The threads of one block share the pages of each phase; all begin it together.
fn look_around<E: Eviction>(args: &Trace) -> Result<u64, Errno> {
    let fs: Fs<HashIndex, E> = bytemuck::cast(args.fs);
    // SAFETY: the host wrote the path before the launch and leaves it alone until its end.
    let path = unsafe { args.path.as_slice() };
    // Without read-ahead, so that each page is either found or missed.
    let file = fs.open(&Thread, path, OpenOptions::new().read_ahead(false));
    let mut outcome = Ok(0);
    for round in 0..args.rounds {
        for _ in 0..args.times {
            Block.sync();
            add_pages(&file, 0..args.hot, &mut outcome);
        }
        Block.sync();
        let first = args.hot + round * args.scan;
        add_pages(&file, first..first + args.scan, &mut outcome);
    }
    file?.close(&Thread)?;
    outcome
}

/// Adds the first bytes of this thread's share of so many pages, unless something has failed.
fn add_pages<E: Eviction>(
    file: &Result<File<HashIndex, E>, Errno>,
    pages: core::ops::Range<u64>,
    outcome: &mut Result<u64, Errno>,
) {
    const PAGE: u64 = 4096;
    let (Ok(file), Ok(sum)) = (file, *outcome) else { return };
    let look = |page: u64| {
        let mut byte = [0u8];
        file.read_at(&Thread, &mut byte[..], page * PAGE)?;
        Ok(u64::from(byte[0]))
    };
    let mut mine = pages.skip(thread::index() as usize).step_by(thread::count() as usize);
    *outcome = mine.try_fold(sum, |sum, page| Ok(sum + look(page)?));
}
