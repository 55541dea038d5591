//! The host body of every function: through the current lane, or as the single thread of a launch
//! of one.

use core::fmt;
use core::panic::Location;
use core::sync::atomic::Ordering;

use super::{PREEMPTIONS, current};
use crate::Dim3;

#[cfg(not(loom))]
mod words {
    pub(crate) use core::sync::atomic::fence;
    pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64};
}
#[cfg(loom)]
mod words {
    pub(crate) use loom::sync::atomic::fence;
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64};
}

pub(crate) type DeviceRaw32 = words::AtomicU32;
pub(crate) type DeviceRaw64 = words::AtomicU64;
pub(crate) type SystemRaw32 = words::AtomicU32;
pub(crate) type SystemRaw64 = words::AtomicU64;
/// What `wait_while_eq` watches, of either scope.
pub(crate) type Word = words::AtomicU32;

/// A preemption point of the deterministic schedulers.
#[inline(always)]
#[track_caller]
pub(crate) fn point() {
    if PREEMPTIONS.load(Ordering::Relaxed) != 0 {
        preempt();
    }
}

#[cold]
#[inline(never)]
#[track_caller]
fn preempt() {
    if let Some(lane) = current() {
        lane.machine().preempt(lane, Location::caller());
    }
}

pub(crate) const VECTORS: bool = true;

#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn wide<W: crate::Wide>(work: W) -> W::Output {
    #[target_feature(enable = "avx2,bmi1")]
    fn with_avx2<W: crate::Wide>(work: W) -> W::Output {
        work.run()
    }
    if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("bmi1") {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { with_avx2(work) };
    }
    work.run()
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub(crate) fn wide<W: crate::Wide>(work: W) -> W::Output {
    work.run()
}

#[inline]
pub(crate) fn fence_device(order: Ordering) {
    words::fence(order);
}

#[inline]
pub(crate) fn fence_system(order: Ordering) {
    words::fence(order);
}

#[inline]
pub(crate) fn thread_idx() -> Dim3 {
    current().map_or(Dim3::ZERO, |lane| lane.thread_idx)
}

#[inline]
pub(crate) fn block_idx() -> Dim3 {
    current().map_or(Dim3::ZERO, |lane| lane.block().block_idx)
}

#[inline]
pub(crate) fn block_dim() -> Dim3 {
    current().map_or(Dim3::ONE, |lane| lane.block().block_dim)
}

#[inline]
pub(crate) fn grid_dim() -> Dim3 {
    current().map_or(Dim3::ONE, |lane| lane.block().grid_dim)
}

#[inline]
pub(crate) fn rank() -> u32 {
    current().map_or(0, |lane| lane.rank)
}

#[inline]
pub(crate) fn lane_id() -> u32 {
    rank() % 32
}

#[inline]
pub(crate) fn warp_id() -> u32 {
    rank() / 32
}

#[inline]
pub(crate) fn sm_id() -> u32 {
    current().map_or(0, |lane| lane.block().sm_id)
}

#[inline]
#[track_caller]
pub(crate) fn sync_threads() {
    if let Some(lane) = current() {
        lane.machine().sync_threads(lane, Location::caller());
    }
}

#[inline]
#[track_caller]
pub(crate) fn sync_warp(mask: u32) {
    match current() {
        Some(lane) => lane.machine().sync_warp(lane, mask, Location::caller()),
        None => only_lane(mask),
    }
}

#[inline]
#[track_caller]
pub(crate) fn ballot(mask: u32, pred: bool) -> u32 {
    match current() {
        Some(lane) => lane.machine().ballot(lane, mask, pred, Location::caller()),
        None => {
            only_lane(mask);
            u32::from(pred)
        }
    }
}

#[inline]
#[track_caller]
pub(crate) fn shfl(mask: u32, value: u32, src_lane: u32) -> u32 {
    // The high half is zero on the way in.
    shfl_u64(mask, u64::from(value), src_lane) as u32
}

#[inline]
#[track_caller]
pub(crate) fn shfl_u64(mask: u32, value: u64, src_lane: u32) -> u64 {
    match current() {
        Some(lane) => lane.machine().shfl(lane, mask, value, src_lane, Location::caller()),
        None => {
            only_lane(mask);
            assert!(src_lane == 0, "shfl from lane {src_lane}, but lane 0 is the only one here");
            value
        }
    }
}

#[inline]
#[track_caller]
pub(crate) fn match_any(mask: u32, value: u64) -> u32 {
    match current() {
        Some(lane) => lane.machine().match_any(lane, mask, value, Location::caller()),
        None => {
            only_lane(mask);
            1
        }
    }
}

#[inline]
#[track_caller]
pub(crate) fn active_mask() -> u32 {
    match current() {
        Some(lane) => lane.machine().converged(lane, Location::caller()),
        None => 1,
    }
}

/// See the GPU's: a processor has no such need.
#[inline(always)]
pub(crate) fn anew(mask: u32) -> u32 {
    mask
}

#[inline]
#[track_caller]
pub(crate) fn broadcast_warp(mask: u32, bytes: &mut [u8]) {
    match current() {
        Some(lane) => lane.machine().broadcast_warp(lane, mask, bytes, Location::caller()),
        None => only_lane(mask),
    }
}

#[inline]
#[track_caller]
pub(crate) fn broadcast_block(bytes: &mut [u8]) {
    if let Some(lane) = current() {
        lane.machine().broadcast_block(lane, bytes, Location::caller());
    }
}

/// Outside a launch, lane 0 is the only one; waiting for any other would never end.
#[inline]
#[track_caller]
fn only_lane(mask: u32) {
    assert!(
        mask == 1,
        "the mask {mask:#x} names lanes other than 0, the only one outside a launch"
    );
}

#[inline]
#[track_caller]
pub(crate) fn relax() {
    match current() {
        Some(lane) => lane.machine().relax(lane, Location::caller()),
        None => {
            #[cfg(loom)]
            loom::thread::yield_now();
            #[cfg(not(loom))]
            std::thread::yield_now();
        }
    }
}

#[cfg(not(loom))]
#[inline]
#[track_caller]
pub(crate) fn wait_while_eq(word: &Word, value: u32, timeout_ns: u64) -> u32 {
    point();
    // Acquire, here and below: pairs with the Release store of whoever changes the word.
    let seen = word.load(Ordering::Acquire);
    if seen != value || timeout_ns == 0 {
        return seen;
    }
    match current() {
        Some(lane) => lane.machine().wait(lane, word, value, timeout_ns, Location::caller()),
        None => {
            let deadline = clock().saturating_add(timeout_ns);
            while word.load(Ordering::Relaxed) == value && clock() < deadline {
                std::thread::yield_now();
            }
        }
    }
    word.load(Ordering::Acquire)
}

/// Under the model checker time never runs out.
#[cfg(loom)]
pub(crate) fn wait_while_eq(word: &Word, value: u32, timeout_ns: u64) -> u32 {
    loop {
        let seen = word.load(Ordering::Acquire);
        if seen != value || timeout_ns == 0 {
            return seen;
        }
        loom::thread::yield_now();
    }
}

pub(crate) const WAKES: bool = true;

#[cfg(all(target_os = "linux", not(loom)))]
pub(crate) fn wake(word: &Word) {
    // SAFETY: FUTEX_WAKE only uses the address as a key; it is valid anyway.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX);
    }
}

#[cfg(not(all(target_os = "linux", not(loom))))]
pub(crate) fn wake(_word: &Word) {}

pub(crate) fn clock() -> u64 {
    match current() {
        Some(lane) => lane.machine().clock(lane),
        None => wall_clock(),
    }
}

/// Nanoseconds since the first call in this process.
#[cfg(not(loom))]
pub fn wall_clock() -> u64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    // 64 bits of nanoseconds last 584 years.
    START.get_or_init(std::time::Instant::now).elapsed().as_nanos() as u64
}

/// Under the model checker time stands still.
#[cfg(loom)]
pub fn wall_clock() -> u64 {
    0
}

#[track_caller]
pub(crate) fn nanosleep(ns: u32) {
    match current() {
        Some(lane) => lane.machine().sleep(lane, u64::from(ns), Location::caller()),
        None => {
            #[cfg(loom)]
            loom::thread::yield_now();
            #[cfg(not(loom))]
            std::thread::sleep(core::time::Duration::from_nanos(u64::from(ns)));
        }
    }
}

pub(crate) fn shared_dynamic() -> *mut u8 {
    current().map_or(core::ptr::without_provenance_mut(16), |lane| lane.block().shared)
}

pub(crate) fn shared_dynamic_len() -> usize {
    current().map_or(0, |lane| lane.block().shared_len)
}

/// See [`crate::mem::copy_led`].
pub(crate) const LEADER_COPIES: bool = true;

/// The leader copies everything: the threads of a group share a CPU core, and one large `memcpy` is
/// faster there than many small ones.
///
/// # Safety
/// As [`crate::mem::copy`].
#[inline]
#[track_caller]
pub(crate) unsafe fn copy(rank: u32, _size: u32, dst: *mut u8, src: *const u8, len: usize) {
    if rank == 0 {
        for_halves(len, |start, len| {
            // SAFETY: `start + len` is within the caller's length.
            unsafe { core::ptr::copy_nonoverlapping(src.add(start), dst.add(start), len) }
        });
    }
}

/// # Safety
/// As [`crate::mem::fill`].
#[inline]
#[track_caller]
pub(crate) unsafe fn fill(rank: u32, _size: u32, dst: *mut u8, byte: u8, len: usize) {
    if rank == 0 {
        for_halves(len, |start, len| {
            // SAFETY: `start + len` is within the caller's length.
            unsafe { core::ptr::write_bytes(dst.add(start), byte, len) }
        });
    }
}

/// Under a deterministic scheduler, work on memory comes in two parts, so that another thread may
/// see it half done.
#[inline]
#[track_caller]
fn for_halves(len: usize, mut work: impl FnMut(usize, usize)) {
    if PREEMPTIONS.load(Ordering::Relaxed) == 0 {
        return work(0, len);
    }
    let half = len / 2;
    preempt();
    work(0, half);
    preempt();
    work(half, len - half);
}

pub(crate) fn log(message: fmt::Arguments<'_>) {
    match current() {
        Some(lane) => lane.machine().log(lane, message),
        None => std::eprintln!("{message}"),
    }
}
