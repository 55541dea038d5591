//! Outside an emulator a kernel runs as a launch of a single thread.
#![cfg(not(loom))]

use gpu_rt::atomic::{DeviceAtomicU32, Ordering, SystemAtomicU32};
use gpu_rt::{Block, Dim3, Group, Pod, Thread, Warp, Zeroable, kernel, thread};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Args {
    cell: u64,
}

/// Leaves what it sees of itself.
#[kernel]
fn observe(Args { cell }: Args) {
    // SAFETY: the test passes the address of a live word.
    let cell = unsafe { DeviceAtomicU32::from_ptr(cell as *mut u32) };
    assert_eq!((thread::thread_idx(), thread::block_idx()), (Dim3::ZERO, Dim3::ZERO));
    assert_eq!((thread::index(), thread::count(), thread::lane_id()), (0, 1, 0));
    for size in [
        Thread.size(),
        Warp::converged().size(),
        Warp::all().size(),
        Warp::single().size(),
        Block.size(),
    ] {
        assert_eq!(size, 1);
    }
    Block.sync();
    Warp::all().sync();
    assert_eq!(Block.broadcast(7_u64), 7);
    assert_eq!(gpu_rt::ballot(1, true), 1);
    assert_eq!(gpu_rt::shfl(1, 9, 0), 9);
    assert_eq!(gpu_rt::match_any(1, 5), 1);
    cell.fetch_add(1, Ordering::Relaxed);
}

#[kernel]
fn nothing() {}

#[test]
fn a_kernel_can_be_called_without_a_gpu() {
    let cell = DeviceAtomicU32::new(0);
    observe.call(Args { cell: cell.as_ptr() as u64 });
    nothing.call(());
    assert_eq!(cell.load(Ordering::Relaxed), 1);
    assert_eq!((observe.name(), nothing.name()), ("observe", "nothing"));
}

#[test]
fn waiting_ends_by_change_or_by_time() {
    let word = SystemAtomicU32::new(0);
    assert_eq!(gpu_rt::wait_while_eq(&word, 0, 1_000), 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Release: pairs with the Acquire load of the wait.
            word.store(1, Ordering::Release);
            gpu_rt::wake(&word);
        });
        assert_eq!(gpu_rt::wait_while_eq(&word, 0, u64::MAX), 1);
    });
}

#[test]
fn memory_moves() {
    let (src, mut dst) = ([1_u8, 2, 3, 4, 5], [0_u8; 5]);
    // SAFETY: two live arrays of five bytes.
    unsafe { gpu_rt::mem::copy(&Thread, dst.as_mut_ptr(), src.as_ptr(), 5) };
    assert_eq!(src, dst);
    // SAFETY: a live array of five bytes.
    unsafe { gpu_rt::mem::fill(&Thread, dst.as_mut_ptr(), 9, 4) };
    assert_eq!(dst, [9, 9, 9, 9, 5]);
}

#[test]
fn positions_and_numbers_are_inverse() {
    let extent = Dim3::new(5, 3, 2);
    for linear in 0..extent.count() {
        assert_eq!(extent.linear(extent.at(linear)), linear);
    }
}

#[test]
#[should_panic(expected = "names lanes other than 0")]
fn a_mask_of_absent_lanes_is_refused() {
    gpu_rt::sync_warp(u32::MAX);
}
