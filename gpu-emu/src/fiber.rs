//! A GPU thread's fiber. It outlives the thread: it runs one thread after another, block after
//! block.

use std::cell::{Cell, UnsafeCell};
use std::panic::AssertUnwindSafe;
use std::ptr::NonNull;

use corosensei::{Coroutine, Yielder};
use gpu_rt::host::{Lane, Machine};
use gpu_rt::{Dim3, host};

use crate::block::Block;
use crate::stack::{Frames, Slot};
use crate::worker::Core;

/// What is kept of a fiber while it is suspended, all of it: it lies at the high end of its own
/// stack, in the page that its first frames touch anyway.
pub(crate) struct Fiber {
    /// Written only while the fiber is suspended.
    lane: UnsafeCell<Lane>,
    /// Set by the fiber when it first runs.
    yielder: Cell<*const Yielder<(), ()>>,
    coroutine: UnsafeCell<Coroutine<(), (), (), Frames>>,
    core: *const Core,
    slot: Slot,
}

/// A handle of a [`Fiber`]; valid as long as the stacks of its core.
pub(crate) type FiberRef = NonNull<Fiber>;

impl Fiber {
    /// A fiber on `slot`, ready to run threads for `core`.
    ///
    /// # Safety
    /// `core` must stay where it is, and valid, until the fiber is dropped by [`Fiber::discard`].
    pub(crate) unsafe fn create(core: *const Core, slot: Slot) -> FiberRef {
        let fiber: FiberRef = slot.top(size_of::<Self>()).cast();
        let machine: *const dyn Machine = core;
        let value = Self {
            lane: UnsafeCell::new(Lane {
                machine,
                block: std::ptr::null(),
                thread_idx: Dim3::ZERO,
                rank: 0,
            }),
            yielder: Cell::new(std::ptr::null()),
            coroutine: UnsafeCell::new(Self::coroutine(fiber, &slot)),
            core,
            slot,
        };
        // SAFETY: `top` gives that many bytes, aligned, of a stack that nobody else uses.
        unsafe { fiber.write(value) };
        fiber
    }

    fn coroutine(fiber: FiberRef, slot: &Slot) -> Coroutine<(), (), (), Frames> {
        Coroutine::with_stack(Frames::new(slot, fiber.cast()), move |yielder, ()| {
            // SAFETY: the fiber is written before it is first resumed, and outlives its own code.
            unsafe { fiber.as_ref() }.run(yielder)
        })
    }

    /// The body: thread after thread, for as long as it is resumed.
    fn run(&self, yielder: &Yielder<(), ()>) {
        self.yielder.set(yielder);
        loop {
            // SAFETY: the core outlives its fibers, and resumes one only after `assign`.
            let (core, block) =
                unsafe { (&*self.core, &*(*self.lane.get()).block.cast::<Block>()) };
            let result = std::panic::catch_unwind(AssertUnwindSafe(|| block.launch.run()));
            core.ended(result.is_ok());
            yielder.suspend(());
        }
    }

    /// Gives the fiber its next thread. The fiber must be suspended, and `block` must outlive the
    /// thread.
    #[inline]
    pub(crate) fn assign(&self, block: *const Block, thread_idx: Dim3, rank: u32) {
        // SAFETY: the fiber is suspended, so that nobody reads its lane.
        let lane = unsafe { &mut *self.lane.get() };
        lane.block = block.cast();
        lane.thread_idx = thread_idx;
        lane.rank = rank;
    }

    /// Lets the fiber run until it suspends.
    ///
    /// # Safety
    /// The fiber must be suspended and assigned to a thread of a live block.
    #[inline]
    pub(crate) unsafe fn resume(&self) {
        // SAFETY: the lane, its machine and its block are valid by the caller's contract, and
        // nobody writes to the lane of a running fiber. The coroutine is borrowed by this call
        // alone: the fiber's own code reaches only the yielder.
        unsafe {
            host::set_current(self.lane.get());
            (*self.coroutine.get()).resume(());
            host::set_current(std::ptr::null());
        }
    }

    /// Suspends the running fiber: this one.
    #[inline]
    pub(crate) fn suspend(&self) {
        // SAFETY: set by `run` when the fiber first ran, which it does now, and valid until it is
        // reset.
        unsafe { (*self.yielder.get()).suspend(()) }
    }

    /// Drops the thread that the fiber runs, without running any more of its code, and makes it
    /// ready for another.
    ///
    /// # Safety
    /// The fiber must be suspended, and nothing may refer to the values on its stack any more.
    pub(crate) unsafe fn reset(fiber: FiberRef) {
        // SAFETY: suspended, so that nobody else uses the coroutine; device code's destructors have
        // no effect outside the launch, which has failed.
        unsafe {
            let this = fiber.as_ref();
            (*this.coroutine.get()).force_reset();
            let slot = this.slot;
            if slot.canary {
                slot.trim();
            }
            *this.coroutine.get() = Self::coroutine(fiber, &slot);
        }
    }

    /// Ends the fiber for good.
    ///
    /// # Safety
    /// As [`Fiber::reset`]; the fiber may not be used afterwards.
    pub(crate) unsafe fn discard(fiber: FiberRef) {
        // SAFETY: by the caller's contract.
        unsafe {
            (*fiber.as_ref().coroutine.get()).force_reset();
            fiber.drop_in_place();
        }
    }

    /// Whether the fiber has run over the end of its stack, where that is found out by canaries.
    #[inline]
    pub(crate) fn overflowed(&self) -> bool {
        self.slot.canary && self.slot.overflowed()
    }

    /// The fiber's stack.
    pub(crate) fn slot(&self) -> &Slot {
        &self.slot
    }
}
