//! A kernel for each primitive of `gpu-rt`, and for each step of the ring protocol. What they become
//! in PTX is written down in `golden.txt`, and `ptx-build check` compares.
#![no_std]

use gpu_abi::ring::{Cell, Entry};
use gpu_abi::{Request, Word32};
use gpu_rt::atomic::{
    DeviceAtomicU32, DeviceAtomicU64, Ordering, SystemAtomicU32, SystemAtomicU64, SystemAtomics,
    fence_device, fence_system,
};
use gpu_rt::{Block, Group, Pod, Warp, Zeroable, kernel};

/// Arguments of all kernels here.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Args {
    /// The address of what is operated on.
    pub at: u64,
    /// A buffer for results.
    pub out: u64,
    /// An operand.
    pub value: u64,
    /// Another.
    pub other: u64,
}

impl Args {
    /// What `at` points to.
    fn at<T>(&self) -> &T {
        // SAFETY: a launch passes the address of a live `T`.
        unsafe { &*(self.at as *const T) }
    }

    fn result(&self, value: u64) {
        // SAFETY: a launch passes the address of a word that nobody else uses.
        unsafe { (self.out as *mut u64).write(value) };
    }
}

/// Kernels that differ in one expression.
macro_rules! kernels {
    ($($name:ident: |$args:ident| $result:expr;)*) => {$(
        #[doc = concat!("`", stringify!($name), "`, alone.")]
        #[kernel]
        pub fn $name($args: Args) {
            let result: u64 = $result;
            $args.result(result);
        }
    )*};
}

type D32 = DeviceAtomicU32;
type D64 = DeviceAtomicU64;
type S32 = SystemAtomicU32;
type S64 = SystemAtomicU64;

kernels! {
    device32_load_relaxed: |a| a.at::<D32>().load(Ordering::Relaxed).into();
    device32_load_acquire: |a| a.at::<D32>().load(Ordering::Acquire).into();
    device32_load_seq_cst: |a| a.at::<D32>().load(Ordering::SeqCst).into();
    device32_swap_acq_rel: |a| a.at::<D32>().swap(a.value as u32, Ordering::AcqRel).into();
    device32_add_relaxed: |a| a.at::<D32>().fetch_add(a.value as u32, Ordering::Relaxed).into();
    device32_add_seq_cst: |a| a.at::<D32>().fetch_add(a.value as u32, Ordering::SeqCst).into();
    device32_sub_release: |a| a.at::<D32>().fetch_sub(a.value as u32, Ordering::Release).into();
    device32_or_acquire: |a| a.at::<D32>().fetch_or(a.value as u32, Ordering::Acquire).into();
    device32_and_acq_rel: |a| a.at::<D32>().fetch_and(a.value as u32, Ordering::AcqRel).into();
    device32_max_relaxed: |a| a.at::<D32>().fetch_max(a.value as u32, Ordering::Relaxed).into();
    device64_load_acquire: |a| a.at::<D64>().load(Ordering::Acquire);
    device64_add_relaxed: |a| a.at::<D64>().fetch_add(a.value, Ordering::Relaxed);
    device64_swap_acquire: |a| a.at::<D64>().swap(a.value, Ordering::Acquire);
    device64_or_acquire: |a| a.at::<D64>().fetch_or(a.value, Ordering::Acquire);
    device64_and_release: |a| a.at::<D64>().fetch_and(a.value, Ordering::Release);
    device64_max_acq_rel: |a| a.at::<D64>().fetch_max(a.value, Ordering::AcqRel);
    device32_cas_acquire_relaxed: |a| a.at::<D32>()
        .compare_exchange(a.value as u32, a.other as u32, Ordering::Acquire, Ordering::Relaxed)
        .is_ok().into();
    device32_cas_release_acquire: |a| a.at::<D32>()
        .compare_exchange(a.value as u32, a.other as u32, Ordering::Release, Ordering::Acquire)
        .is_ok().into();
    device64_cas_acq_rel_acquire: |a| a.at::<D64>()
        .compare_exchange(a.value, a.other, Ordering::AcqRel, Ordering::Acquire)
        .is_ok().into();
    system32_load_relaxed: |a| a.at::<S32>().load(Ordering::Relaxed).into();
    system32_load_acquire: |a| a.at::<S32>().load(Ordering::Acquire).into();
    system32_load_seq_cst: |a| a.at::<S32>().load(Ordering::SeqCst).into();
    system64_load_acquire: |a| a.at::<S64>().load(Ordering::Acquire);
    system64_load_relaxed: |a| a.at::<S64>().load(Ordering::Relaxed);
    warp_ballot: |a| gpu_rt::ballot(u32::MAX, a.value != 0).into();
    warp_shfl: |a| gpu_rt::shfl(u32::MAX, a.value as u32, 3).into();
    warp_shfl_u64: |a| gpu_rt::shfl_u64(u32::MAX, a.value, 3);
    warp_match_any: |a| gpu_rt::match_any(u32::MAX, a.value).into();
    warp_active_mask: |_a| gpu_rt::active_mask().into();
    warp_broadcast: |a| Warp::all().broadcast(a.value + gpu_rt::thread::index());
    block_broadcast: |a| Block.broadcast(a.value + gpu_rt::thread::index());
    wait_device: |a| gpu_rt::wait_while_eq(a.at::<D32>(), 0, a.value).into();
    wait_system: |a| gpu_rt::wait_while_eq(a.at::<S32>(), 0, a.value).into();
    cell_result: |a| a.at::<Cell<SystemAtomics>>().result().unwrap_or(0);
    cell_poll: |a| a.at::<Cell<SystemAtomics>>().poll(a.value as u32).is_some().into();
    head_load: |a| a.at::<S32>().load_acquire().into();
}

/// Kernels that only act.
macro_rules! actions {
    ($($name:ident: |$args:ident| $action:expr;)*) => {$(
        #[doc = concat!("`", stringify!($name), "`, alone.")]
        #[kernel]
        pub fn $name($args: Args) {
            $action;
        }
    )*};
}

actions! {
    device32_store_relaxed: |a| a.at::<D32>().store(a.value as u32, Ordering::Relaxed);
    device32_store_release: |a| a.at::<D32>().store(a.value as u32, Ordering::Release);
    device32_store_seq_cst: |a| a.at::<D32>().store(a.value as u32, Ordering::SeqCst);
    device64_store_release: |a| a.at::<D64>().store(a.value, Ordering::Release);
    system32_store_relaxed: |a| a.at::<S32>().store(a.value as u32, Ordering::Relaxed);
    system32_store_release: |a| a.at::<S32>().store(a.value as u32, Ordering::Release);
    system64_store_relaxed: |a| a.at::<S64>().store(a.value, Ordering::Relaxed);
    system64_store_release: |a| a.at::<S64>().store(a.value, Ordering::Release);
    device_fence_acquire: |_a| fence_device(Ordering::Acquire);
    device_fence_seq_cst: |_a| fence_device(Ordering::SeqCst);
    system_fence_release: |_a| fence_system(Ordering::Release);
    system_fence_seq_cst: |_a| fence_system(Ordering::SeqCst);
    block_sync: |_a| Block.sync();
    warp_sync: |_a| Warp::all().sync();
    sleep: |a| gpu_rt::nanosleep(a.value as u32);
    spin_relax: |_a| gpu_rt::relax();
    wake_host: |a| gpu_rt::wake(a.at::<S32>());
}

/// A request enters the ring: clause S3.
#[kernel]
pub fn entry_publish(args: Args) {
    // SAFETY: a launch passes the address of a request.
    let request = unsafe { (args.out as *const Request).read() };
    args.at::<Entry<SystemAtomics>>().publish(args.value as u32, &request);
}

/// A block copies.
#[kernel]
pub fn block_copy(args: Args) {
    let (to, from) = (args.out as *mut u8, args.at as *const u8);
    // SAFETY: a launch passes two buffers of that length.
    unsafe { gpu_rt::mem::copy(&Block, to, from, args.value as usize) };
}

/// A block clears.
#[kernel]
pub fn block_fill(args: Args) {
    // SAFETY: a launch passes a buffer of that length.
    unsafe {
        gpu_rt::mem::fill(&Block, args.out as *mut u8, args.other as u8, args.value as usize)
    };
}

/// A line of the log, and dynamic shared memory.
#[kernel]
pub fn speak() {
    gpu_rt::log!("{} bytes at {:p}", gpu_rt::shared::dynamic_len(), gpu_rt::shared::dynamic());
}
