//! Stack overflows that hit a guard page: the process cannot go on, but can say which thread it
//! was.

use std::cell::Cell;
use std::io::Write;
use std::marker::PhantomData;
use std::sync::OnceLock;

use crate::worker::Core;

thread_local! {
    static CORE: Cell<*const Core> = const { Cell::new(std::ptr::null()) };
}

/// How SIGSEGV was handled before.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

/// While alive, overflows of `core`'s fibers on this CPU thread are told apart from other faults.
pub(crate) struct Watch<'a>(PhantomData<&'a Core>);

/// Watches `core`, which runs on this CPU thread.
pub(crate) fn watch(core: &Core) -> Watch<'_> {
    CORE.set(core);
    Watch(PhantomData)
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        CORE.set(std::ptr::null());
    }
}

/// Installs the handler, once per process. It runs on the alternate stack that the standard library
/// gives every thread.
pub(crate) fn install() {
    BEFORE.get_or_init(|| {
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = handle;
        // SAFETY: all zeroes is a valid `sigaction`, and the handler has the signature that
        // SA_SIGINFO asks for.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            let mut before: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigaction(libc::SIGSEGV, &action, &mut before);
            before
        }
    });
}

extern "C" fn handle(
    _signal: libc::c_int,
    info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    // SAFETY: the system passes a valid `siginfo_t`; for SIGSEGV it holds an address.
    let address = unsafe { (*info).si_addr() } as usize;
    // SAFETY: null, or set by `watch`, whose guard is alive; this thread is in the middle of
    // running the core's fiber, and the core keeps what is read here in cells that are not being
    // written.
    if let Some(core) = unsafe { CORE.get().as_ref() }
        && core.guard_hit(address)
    {
        let running = core.running();
        let mut text = [0; 512];
        let mut rest = &mut text[..];
        // Where it does not fit, it is cut off. Nothing here allocates.
        let _ = writeln!(
            rest,
            "gpu-emu: kernel `{}`: {} overflowed its stack of {} bytes: raise Config::stack_size",
            running.block.launch.name,
            running.block.id(running.rank()),
            core.shared.config.stack_size
        );
        let left = rest.len();
        // SAFETY: writes initialized bytes of a live array, and ends the process.
        unsafe {
            libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len() - left);
            libc::abort();
        }
    }
    // Not ours: as before. The instruction faults again.
    if let Some(before) = BEFORE.get() {
        // SAFETY: as the system gave it.
        unsafe { libc::sigaction(libc::SIGSEGV, before, std::ptr::null_mut()) };
    }
}
