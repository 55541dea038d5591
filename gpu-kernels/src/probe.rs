//! The kernels of the benchmarks: each does one thing of the file system as often as it can.

use gpu_rt::atomic::{DeviceAtomicU32, DeviceAtomicU64, Ordering};
use gpu_rt::{
    Block, Group, Pod, Thread, Warp, Zeroable, clock, kernel, mem, thread, wait_while_eq,
};
use gpufs::{DeviceSlice, Errno, Fs, OpenOptions};

/// Arguments of all probes.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Probe {
    /// The file system.
    pub fs: Fs,
    /// The path of the file to read.
    pub path: DeviceSlice<u8>,
    /// The places [`NEXT`], [`ANSWER`], [`FAILURES`] and [`GATE`]; from [`SAMPLES`] on samples.
    pub out: DeviceSlice<u64>,
    /// Memory to copy from.
    pub source: DeviceSlice<u8>,
    /// A buffer for each group.
    pub buffers: DeviceSlice<u8>,
    /// How much to do, in units of the probe.
    pub work: u64,
    /// Bytes of one access.
    pub len: u64,
    /// Not 0: the file's pages are used once, and leave the cache after that.
    pub once: u64,
    /// What tells this launch's bytes from those of others, for kernels that write.
    pub mark: u64,
}

/// Place in `out`: the next piece of work.
pub const NEXT: usize = 0;
/// Place in `out`: a checksum, or a count of answers.
pub const ANSWER: usize = 1;
/// Place in `out`: calls that failed.
pub const FAILURES: usize = 2;
/// Place in `out`: while it is 0, [`park`]ed threads wait.
pub const GATE: usize = 3;
/// Place in `out`: groups that have come to their end.
pub const ENDED: usize = 4;
/// Place in `out`: the first sample.
pub const SAMPLES: usize = 8;

/// How long a parked thread waits before it waits again.
const PARK_NS: u64 = 3_600_000_000_000;

impl Probe {
    pub(crate) fn word(&self, index: usize) -> &DeviceAtomicU64 {
        assert!(index < self.out.len(), "the host gave too few places for results");
        // SAFETY: in range, zeroed by the host, and used as an atomic word by every thread.
        unsafe { &*self.out.as_ptr().add(index).cast::<DeviceAtomicU64>() }
    }

    fn gate(&self) -> &DeviceAtomicU32 {
        assert!(GATE < self.out.len(), "the host gave too few places for results");
        // SAFETY: as in `word`; nobody uses this place as a word of another size.
        unsafe { &*self.out.as_ptr().add(GATE).cast::<DeviceAtomicU32>() }
    }

    /// Hands out the numbers below `work`, each once.
    pub(crate) fn next<G: Group>(&self, group: &G) -> Option<u64> {
        let mut n = 0;
        if group.is_leader() {
            n = self.word(NEXT).fetch_add(1, Ordering::Relaxed);
        }
        let n = group.broadcast(n);
        (n < self.work).then_some(n)
    }

    pub(crate) fn check<T>(&self, outcome: Result<T, Errno>) -> Option<T> {
        if outcome.is_err() {
            self.word(FAILURES).fetch_add(1, Ordering::Relaxed);
        }
        outcome.ok()
    }

    pub(crate) fn add<G: Group>(&self, group: &G, value: u64) {
        if group.is_leader() {
            self.word(ANSWER).fetch_add(value, Ordering::Relaxed);
        }
    }

    fn open<G: Group>(&self, group: &G) -> Option<gpufs::File> {
        let options = OpenOptions::new();
        self.open_with(group, if self.once != 0 { options.once() } else { options })
    }

    pub(crate) fn open_with<G: Group>(
        &self,
        group: &G,
        options: OpenOptions,
    ) -> Option<gpufs::File> {
        // SAFETY: the host wrote the path before the launch and leaves it alone until its end.
        let path = unsafe { self.path.as_slice() };
        self.check(self.fs.open(group, path, options))
    }

    /// The first word of page `page`, in a view that is given back at once.
    fn first_word<G: Group>(&self, group: &G, file: &gpufs::File, page: u64) -> u64 {
        // By reference: a view that is passed on is copied, 64 bytes each time.
        let view = file.map(group, page * self.len, self.len as usize);
        let bytes = self.check(view.as_ref().map(|view| view.slices().next()).map_err(|e| *e));
        let word = bytes.flatten().and_then(|bytes| bytes.first_chunk());
        word.map_or(0, |word| u64::from_le_bytes(*word))
    }
}

/// Round trips of each warp: `work` of them, each timed into its sample.
#[kernel(max_threads = 256)]
pub fn nop_latency(args: Probe) {
    let warp = Warp::all();
    let first = thread::index() / 32 * args.work;
    for i in 0..args.work {
        // The leader alone looks at the clock: on an emulator each look costs as much as a switch.
        let start = if warp.is_leader() { clock() } else { 0 };
        args.check(args.fs.nop(&warp));
        if warp.is_leader() {
            let took = clock() - start;
            args.word(SAMPLES + (first + i) as usize).store(took, Ordering::Relaxed);
            args.add(&Thread, 1);
        }
    }
}

/// Round trips of single threads: `work` of them by each.
#[kernel(max_threads = 256)]
pub fn nop_throughput(args: Probe) {
    let mut done = 0;
    for _ in 0..args.work {
        done += u64::from(args.check(args.fs.nop(&Thread)).is_some());
    }
    args.add(&Thread, done);
}

/// Maps `work` pages of the file, the next number by whichever group is free, and adds up the first
/// word of each page that `pick` chooses by number and count.
fn scan<G: Group>(args: &Probe, group: &G, pick: impl Fn(u64, u64) -> u64) {
    let Some(file) = args.open(group) else { return };
    let pages = (file.size() / args.len).max(1);
    let mut sum = 0u64;
    while let Some(n) = args.next(group) {
        sum = sum.wrapping_add(args.first_word(group, &file, pick(n, pages)));
    }
    args.add(group, sum);
    file.close(group).ok();
}

/// One after the other, around and around.
pub(crate) fn in_order(n: u64, pages: u64) -> u64 {
    n % pages
}

/// In an order that jumps about: a permutation, if the number of pages is a power of two, since the
/// multiplier is odd.
pub(crate) fn about(n: u64, pages: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % pages
}

/// Maps `work` pages of the file one after the other, around and around, the next one by whichever
/// thread is free, and adds up the first word of each.
#[kernel(max_threads = 256)]
pub fn scan_pages(args: Probe) {
    scan(&args, &Thread, in_order);
}

/// As [`scan_pages`], by warps.
#[kernel(max_threads = 256)]
pub fn scan_pages_by_warps(args: Probe) {
    scan(&args, &Warp::all(), in_order);
}

/// As [`scan_pages`], but every thread knows its pages beforehand: each `count()`-th of the work. No
/// word is shared but those of the page cache.
#[kernel(max_threads = 256)]
pub fn stride_pages(args: Probe) {
    let Some(file) = args.open(&Thread) else { return };
    let pages = (file.size() / args.len).max(1);
    let mut sum = 0u64;
    let mut n = thread::index();
    while n < args.work {
        sum = sum.wrapping_add(args.first_word(&Thread, &file, n % pages));
        n += thread::count();
    }
    args.add(&Thread, sum);
    file.close(&Thread).ok();
}

/// As [`scan_pages`], in an order that jumps about.
#[kernel(max_threads = 256)]
pub fn random_pages(args: Probe) {
    scan(&args, &Thread, about);
}

/// As [`random_pages`], by warps.
#[kernel(max_threads = 256)]
pub fn random_pages_by_warps(args: Probe) {
    scan(&args, &Warp::all(), about);
}

/// The buffer of group `number`.
pub(crate) fn buffer(args: &Probe, number: u64) -> DeviceSlice<u8> {
    let buffer = args.buffers.slice((number * args.len) as usize, args.len as usize);
    assert!(buffer.len() as u64 == args.len, "the host gave too few buffers");
    buffer
}

fn first_word_of(buffer: DeviceSlice<u8>) -> u64 {
    // SAFETY: the group that owns the buffer has filled it, and has synchronised since.
    let word = unsafe { buffer.as_slice() }.first_chunk();
    word.map_or(0, |word| u64::from_le_bytes(*word))
}

fn read_hits<G: Group>(args: &Probe, group: &G, number: u64) {
    let Some(file) = args.open(group) else { return };
    let to = buffer(args, number);
    let places = (file.size() / args.len).max(1);
    let mut sum = 0u64;
    while let Some(n) = args.next(group) {
        let read = args.check(file.read_at(group, to, n % places * args.len));
        if group.is_leader() && read == Some(to.len()) {
            sum = sum.wrapping_add(first_word_of(to));
        }
        // Nobody goes on to write what the leader still reads.
        group.sync();
    }
    args.add(group, sum);
    file.close(group).ok();
}

/// Reads `len` bytes at a time into a buffer of each thread's; adds up the first words.
#[kernel(max_threads = 256)]
pub fn read_by_threads(args: Probe) {
    read_hits(&args, &Thread, thread::index());
}

/// Reads `len` bytes at a time into a buffer of each warp's; adds up the first words.
#[kernel(max_threads = 256)]
pub fn read_by_warps(args: Probe) {
    read_hits(&args, &Warp::all(), thread::index() / 32);
}

/// Reads `len` bytes at a time into a buffer of each block's; adds up the first words.
#[kernel(max_threads = 256)]
pub fn read_by_blocks(args: Probe) {
    read_hits(&args, &Block, u64::from(thread::block_idx().x));
}

fn copy_hits<G: Group>(args: &Probe, group: &G, number: u64) {
    let to = buffer(args, number);
    let places = (args.source.len() as u64 / args.len).max(1);
    let mut sum = 0u64;
    while let Some(n) = args.next(group) {
        let from = args.source.slice((n % places * args.len) as usize, to.len());
        assert!(from.len() == to.len(), "the source is shorter than a buffer");
        // SAFETY: both are the host's, of the same length, and apart; nobody writes the source, and
        // only this group its buffer.
        unsafe { mem::copy(group, to.as_ptr(), from.as_ptr(), to.len()) };
        group.sync();
        if group.is_leader() {
            sum = sum.wrapping_add(first_word_of(to));
        }
        group.sync();
    }
    args.add(group, sum);
}

/// What [`read_by_threads`] is compared with: copies within device memory.
#[kernel]
pub fn copy_by_threads(args: Probe) {
    copy_hits(&args, &Thread, thread::index());
}

/// What [`read_by_warps`] is compared with: copies within device memory.
#[kernel]
pub fn copy_by_warps(args: Probe) {
    copy_hits(&args, &Warp::all(), thread::index() / 32);
}

/// What [`read_by_blocks`] is compared with: copies within device memory.
#[kernel]
pub fn copy_by_blocks(args: Probe) {
    copy_hits(&args, &Block, u64::from(thread::block_idx().x));
}

/// Every thread does `work` round trips, says that it is there, and waits until the gate opens.
/// Without a path it does not use the file system at all; with one it opens and reads `len` bytes first.
#[kernel(max_threads = 256)]
pub fn park(args: Probe) {
    for _ in 0..args.work {
        args.check(args.fs.nop(&Thread));
    }
    let file = if args.path.is_empty() { None } else { args.open(&Thread) };
    if let Some(file) = file {
        let mut bytes = [0u8; 64];
        let at = thread::index() * args.len % file.size().max(1);
        args.check(file.read_at(&Thread, &mut bytes[..], at));
    }
    args.add(&Thread, 1);
    while wait_while_eq(args.gate(), 0, PARK_NS) == 0 {}
    if let Some(file) = file {
        file.close(&Thread).ok();
    }
}
