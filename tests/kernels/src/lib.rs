//! The kernels of the conformance suite. There is one for each pair of policies, which runs one of
//! several programs: kernels are not generic, and a program is.
#![no_std]

pub mod net;
pub mod ops;
pub mod script;
pub mod storms;
pub mod stripes;

use bytemuck::{Pod, Zeroable};
use gpu_rt::atomic::{DeviceAtomicU64, Ordering};
use gpu_rt::kernel;
use gpufs::{Clock, DeviceSlice, Errno, Eviction, Fifo, Fs, HashIndex, PageIndex, RadixIndex};
use ops::Op;

/// What a launch is to do.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Job {
    /// The mount, whatever its policies.
    pub fs: u64,
    /// A `PROGRAM_*` of [`ops`] or [`storms`].
    pub program: u32,
    /// Which threads act together: a `GROUP_*` of [`ops`].
    pub group: u32,
    /// All paths, one after the other.
    pub paths: DeviceSlice<u8>,
    /// Where each path ends.
    pub ends: DeviceSlice<u32>,
    /// The operations, for [`ops::PROGRAM_OPS`].
    pub ops: DeviceSlice<Op>,
    /// What came of them, or a storm's counters.
    pub results: DeviceSlice<u64>,
    /// Bytes that were read.
    pub bytes: DeviceSlice<u8>,
    /// What the program says they are.
    pub params: [u64; 4],
}

impl Job {
    /// The lines of a script, for [`script::PROGRAM_SCRIPT`]: `params[0]` is where, `params[1]` how many.
    pub fn lines(&self) -> DeviceSlice<script::Line> {
        DeviceSlice::new(self.params[0], self.params[1])
    }

    /// Path number `index`.
    pub fn path(&self, index: u32) -> &[u8] {
        // SAFETY: the host wrote both before the launch and leaves them alone until its end.
        let (paths, ends) = unsafe { (self.paths.as_slice(), self.ends.as_slice()) };
        let start = if index == 0 { 0 } else { ends[index as usize - 1] };
        &paths[start as usize..ends[index as usize] as usize]
    }

    /// Result number `index`, as an atomic word.
    pub fn result(&self, index: usize) -> &DeviceAtomicU64 {
        assert!(index < self.results.len(), "the host gave too few places for results");
        // SAFETY: in range, and used as an atomic word by every thread.
        unsafe { &*self.results.as_ptr().add(index).cast::<DeviceAtomicU64>() }
    }

    /// Adds to counter `index`.
    pub fn count(&self, index: usize, n: u64) {
        self.result(index).fetch_add(n, Ordering::Relaxed);
    }

    /// Counts a failure: its number is kept in the counter after that of failures.
    pub fn fail(&self, index: usize, e: Errno) {
        self.count(index, 1);
        self.result(index + 1).store(u64::from(e.raw()), Ordering::Relaxed);
    }
}

/// The kernels as PTX; empty where no toolchain can compile for the GPU.
#[cfg(feature = "ptx")]
pub const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));

fn run<I: PageIndex, E: Eviction>(job: Job) {
    let fs: Fs<I, E> = bytemuck::cast(job.fs);
    match job.program {
        ops::PROGRAM_OPS => ops::run(fs, &job),
        script::PROGRAM_SCRIPT => script::run(fs, &job),
        stripes::PROGRAM_STRIPES.. => stripes::run(fs, &job),
        _ => storms::run(fs, &job),
    }
}

/// Runs a job on a mount with hash index and clock eviction: the default.
#[kernel]
pub fn conformance_hash_clock(job: Job) {
    run::<HashIndex, Clock>(job);
}

/// Runs a job on a mount with hash index, first in first out.
#[kernel]
pub fn conformance_hash_fifo(job: Job) {
    run::<HashIndex, Fifo>(job);
}

/// Runs a job on a mount with radix trees and clock eviction.
#[kernel]
pub fn conformance_radix_clock(job: Job) {
    run::<RadixIndex, Clock>(job);
}

/// Runs a job on a mount with radix trees, first in first out.
#[kernel]
pub fn conformance_radix_fifo(job: Job) {
    run::<RadixIndex, Fifo>(job);
}

/// The byte at `offset` of every file made from `seed`: known on both sides without a copy.
pub fn pattern(seed: u64, offset: u64) -> u8 {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (offset / 8);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ x >> 31).to_le_bytes()[offset as usize % 8]
}

/// How many of the bytes, which were at `offset`, are not those of the file made from `seed`.
pub fn mismatches(bytes: &[u8], seed: u64, offset: u64) -> u64 {
    (offset..).zip(bytes).filter(|(at, byte)| pattern(seed, *at) != **byte).count() as u64
}

/// A well-mixed number for each `n`.
pub fn scramble(n: u64) -> u64 {
    u64::from_le_bytes(core::array::from_fn(|i| pattern(n, i as u64 * 8)))
}
