//! A kernel outside the workspace: the same function for the emulated GPU and, as PTX, for a real
//! one.
//!
//! ```text
//! cd examples/external-kernel
//! cargo test                  # PTX too, where a toolchain can compile for the GPU
//! PTX_REQUIRED=1 cargo test   # or fail
//! ```
#![no_std]

use gpu_rt::atomic::{DeviceAtomicU64, Ordering};
use gpu_rt::{Pod, Warp, Zeroable, kernel, thread};
use gpufs::{DeviceSlice, Fs, OpenOptions};

/// The kernels of this crate as PTX; empty where no toolchain can compile for the GPU.
pub const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));

/// What [`count_zeros`] takes.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Args {
    /// The file system.
    pub fs: Fs,
    /// The file's path.
    pub path: DeviceSlice<u8>,
    /// The address of a word for the sum.
    pub zeros: u64,
}

/// Counts the zero bytes of a file: each warp takes every n-th page.
#[kernel]
pub fn count_zeros(args: Args) {
    let warp = Warp::all();
    // SAFETY: the host wrote the path before the launch, and `zeros` is a live word.
    let (path, zeros) =
        unsafe { (args.path.as_slice(), DeviceAtomicU64::from_ptr(args.zeros as *mut u64)) };
    let Ok(file) = args.fs.open(&warp, path, OpenOptions::new()) else { return };
    let page = args.fs.page_size();
    let (first, step) = (thread::index() / 32, thread::count().div_ceil(32));
    let mut at = first * page as u64;
    while at < file.size() {
        if let Ok(view) = file.map(&warp, at, page) {
            for bytes in view.slices() {
                let mine = bytes.iter().skip(thread::lane_id() as usize).step_by(32);
                let n = mine.filter(|b| **b == 0).count();
                zeros.fetch_add(n as u64, Ordering::Relaxed);
            }
        }
        at += step * page as u64;
    }
    file.close(&warp).ok();
}
