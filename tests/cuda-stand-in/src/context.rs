//! Contexts, and what they own.

use crate::modules::Module;
use crate::stream::Stream;
use std::alloc::{Layout, alloc, dealloc};
use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// Bytes of a device's memory.
pub(crate) const MEMORY: usize = 1 << 30;

/// A context: handles are addresses of these.
#[derive(Default)]
pub(crate) struct Context {
    /// The error that took it down, or 0.
    pub(crate) failed: AtomicU32,
    /// Bytes of a thread's stack, or 0: as it is by itself.
    pub(crate) stack: AtomicUsize,
    owned: Mutex<Owned>,
}

/// What goes with a context.
#[derive(Default)]
pub(crate) struct Owned {
    pub(crate) memory: Vec<Memory>,
    pub(crate) modules: Vec<Arc<Module>>,
    pub(crate) streams: Vec<Arc<Stream>>,
    /// Host memory that is registered: first address and bytes.
    pub(crate) registered: Vec<(usize, usize)>,
}

/// A piece of device memory, full of rubbish.
pub(crate) struct Memory {
    pub(crate) base: usize,
    pub(crate) len: usize,
}

const ALIGN: usize = 512;

impl Memory {
    pub(crate) fn new(len: usize) -> Memory {
        let layout = Layout::from_size_align(len.max(1), ALIGN).expect("not larger than memory");
        // SAFETY: not empty; as many bytes are written as were allocated.
        let base = unsafe {
            let at = alloc(layout);
            assert!(!at.is_null(), "no memory");
            at.write_bytes(0xcd, layout.size());
            at as usize
        };
        Memory { base, len: len.max(1) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let layout = Layout::from_size_align(self.len, ALIGN).expect("as allocated");
        // SAFETY: allocated so; its context is gone, and with it all that could use it.
        unsafe { dealloc(self.base as *mut u8, layout) };
    }
}

thread_local! {
    /// The contexts that this thread has pushed.
    static CURRENT: RefCell<Vec<Arc<Context>>> = const { RefCell::new(Vec::new()) };
}

pub(crate) fn push(context: Arc<Context>) {
    CURRENT.with_borrow_mut(|all| all.push(context));
}

pub(crate) fn pop() -> Option<Arc<Context>> {
    CURRENT.with_borrow_mut(Vec::pop)
}

/// The current context: the error that took it down otherwise, or that there is none.
pub(crate) fn current() -> Result<Arc<Context>, u32> {
    let context =
        CURRENT.with_borrow(|all| all.last().cloned()).ok_or(crate::calls::INVALID_CONTEXT)?;
    match context.failed.load(Ordering::Relaxed) {
        0 => Ok(context),
        error => Err(error),
    }
}

impl Context {
    /// Notes how a kernel ended: the first error stays.
    pub(crate) fn fail(&self, error: u32) {
        let _ = self.failed.compare_exchange(0, error, Ordering::Relaxed, Ordering::Relaxed);
    }

    pub(crate) fn owned(&self) -> MutexGuard<'_, Owned> {
        self.owned.lock().expect("nobody panics under it")
    }

    /// What kernels may use, first address and bytes each: device memory and registered host memory.
    pub(crate) fn ranges(&self) -> Vec<(u64, u64)> {
        let owned = self.owned();
        let memory = owned.memory.iter().map(|m| (m.base as u64, m.len as u64));
        memory.chain(owned.registered.iter().map(|&(at, len)| (at as u64, len as u64))).collect()
    }

    /// Whether a range is device memory, all of one piece.
    pub(crate) fn has(&self, address: u64, bytes: usize) -> bool {
        let (start, end) = (address as usize, address as usize + bytes);
        let owned = self.owned();
        let within = |base: usize, len: usize| base <= start && end <= base + len;
        let globals = owned.modules.iter().flat_map(|module| module.globals.values());
        owned.memory.iter().any(|m| within(m.base, m.len))
            || globals.into_iter().any(|g| within(g.as_ptr() as usize, g.len() * 8))
    }
}
