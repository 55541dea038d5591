//! The kernels of the benchmarks: each does one thing of the file system as often as it can.

use gpu_rt::atomic::{DeviceAtomicU64, Ordering};
use gpu_rt::{Block, Group, Pod, Thread, Warp, Zeroable, clock, kernel, mem, thread};
use gpufs::{DeviceSlice, Errno, Fs, OpenOptions};

/// Arguments of all probes.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Probe {
    /// The file system.
    pub fs: Fs,
    /// The path of the file to read.
    pub path: DeviceSlice<u8>,
    /// [0] work counter, [1] checksum or count of answers, [2] failures; from [8] on samples.
    pub out: DeviceSlice<u64>,
    /// A buffer for each group.
    pub buffers: DeviceSlice<u8>,
    /// How much to do, in units of the probe.
    pub work: u64,
    /// Bytes of one access.
    pub len: u64,
}

/// Places in `out` before the samples.
pub const SAMPLES: usize = 8;

impl Probe {
    fn word(&self, index: usize) -> &DeviceAtomicU64 {
        assert!(index < self.out.len(), "the host gave too few places for results");
        // SAFETY: in range, zeroed by the host, and used as an atomic word by every thread.
        unsafe { &*self.out.as_ptr().add(index).cast::<DeviceAtomicU64>() }
    }

    /// Hands out the numbers below `work`, each once.
    fn next<G: Group>(&self, group: &G) -> Option<u64> {
        let mut n = 0;
        if group.is_leader() {
            n = self.word(0).fetch_add(1, Ordering::Relaxed);
        }
        let n = group.broadcast(n);
        (n < self.work).then_some(n)
    }

    fn check<T>(&self, outcome: Result<T, Errno>) -> Option<T> {
        if outcome.is_err() {
            self.word(2).fetch_add(1, Ordering::Relaxed);
        }
        outcome.ok()
    }

    fn add<G: Group>(&self, group: &G, value: u64) {
        if group.is_leader() {
            self.word(1).fetch_add(value, Ordering::Relaxed);
        }
    }

    fn open<G: Group>(&self, group: &G, options: OpenOptions) -> Option<gpufs::File> {
        // SAFETY: the host wrote the path before the launch and leaves it alone until its end.
        let path = unsafe { self.path.as_slice() };
        self.check(self.fs.open(group, path, options))
    }
}

/// Round trips of one warp: `work` of them, each timed into its sample.
#[kernel]
pub fn nop_latency(args: Probe) {
    let warp = Warp::all();
    for i in 0..args.work {
        // The leader alone looks at the clock: on an emulator each look costs as much as a switch.
        let start = if warp.is_leader() { clock() } else { 0 };
        args.check(args.fs.nop(&warp));
        if warp.is_leader() {
            let took = clock() - start;
            args.word(SAMPLES + i as usize).store(took, Ordering::Relaxed);
            args.add(&Thread, 1);
        }
    }
}

/// Round trips of single threads: `work` of them by each.
#[kernel]
pub fn nop_throughput(args: Probe) {
    let mut done = 0;
    for _ in 0..args.work {
        done += u64::from(args.check(args.fs.nop(&Thread)).is_some());
    }
    args.add(&Thread, done);
}

/// Reads the file once from its beginning to its end, page by page, without copies, and adds up the
/// first word of each page.
#[kernel]
pub fn scan_pages(args: Probe) {
    let Some(file) = args.open(&Thread, OpenOptions::new()) else { return };
    let mut sum = 0u64;
    while let Some(page) = args.next(&Thread) {
        let Some(view) = args.check(file.map(&Thread, page * args.len, args.len as usize)) else {
            continue;
        };
        for bytes in view.slices() {
            if let Some(word) = bytes.first_chunk() {
                sum = sum.wrapping_add(u64::from_le_bytes(*word));
            }
        }
    }
    args.add(&Thread, sum);
    file.close(&Thread);
}

/// As [`scan_pages`], in an order that jumps about: page `n` is that of a permutation.
#[kernel]
pub fn random_pages(args: Probe) {
    let Some(file) = args.open(&Thread, OpenOptions::new()) else { return };
    let pages = file.size() / args.len;
    let mut sum = 0u64;
    while let Some(n) = args.next(&Thread) {
        // An odd multiplier permutes a power of two.
        let page = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % pages;
        let Some(view) = args.check(file.map(&Thread, page * args.len, args.len as usize)) else {
            continue;
        };
        if let Some(word) = view.slices().next().and_then(|bytes| bytes.first_chunk()) {
            sum = sum.wrapping_add(u64::from_le_bytes(*word));
        }
    }
    args.add(&Thread, sum);
    file.close(&Thread);
}

fn read_hits<G: Group>(args: &Probe, group: &G, number: u64) {
    let Some(file) = args.open(group, OpenOptions::new()) else { return };
    let buffer = args.buffers.slice((number * args.len) as usize, args.len as usize);
    let places = (file.size() / args.len).max(1);
    let mut bytes = 0;
    while let Some(n) = args.next(group) {
        let read = file.read_at(group, buffer, n % places * args.len);
        bytes += args.check(read).unwrap_or(0) as u64;
    }
    args.add(group, bytes);
    file.close(group);
}

/// Reads `len` bytes at a time into a buffer of each thread's; adds up the bytes.
#[kernel]
pub fn read_by_threads(args: Probe) {
    read_hits(&args, &Thread, thread::index());
}

/// Reads `len` bytes at a time into a buffer of each warp's; adds up the bytes.
#[kernel]
pub fn read_by_warps(args: Probe) {
    read_hits(&args, &Warp::all(), thread::index() / 32);
}

/// Reads `len` bytes at a time into a buffer of each block's; adds up the bytes.
#[kernel]
pub fn read_by_blocks(args: Probe) {
    read_hits(&args, &Block, u64::from(thread::block_idx().x));
}

/// What [`read_by_threads`] is compared with: copies within device memory. The first half of
/// `buffers` is the source.
#[kernel]
pub fn copy_by_threads(args: Probe) {
    let half = args.buffers.len() / 2;
    let places = (half as u64 / args.len).max(1);
    let to = args
        .buffers
        .slice(half, half)
        .slice((thread::index() * args.len) as usize, args.len as usize);
    let mut bytes = 0;
    while let Some(n) = args.next(&Thread) {
        let from = args.buffers.slice((n % places * args.len) as usize, args.len as usize);
        // SAFETY: both are within the host's buffer; each thread writes only its own place.
        unsafe { mem::copy(&Thread, to.as_ptr(), from.as_ptr(), to.len()) };
        bytes += to.len() as u64;
    }
    args.add(&Thread, bytes);
}
