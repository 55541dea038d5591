//! The last words of a thread: log lines and panics, by way of the module's log.

use core::arch::asm;
use core::fmt;
use core::panic::PanicInfo;

use crate::device_log::Control;
use crate::thread;

/// Where the lines of this module go; a host finds it by its name,
/// [`SYMBOL`](crate::device_log::SYMBOL). Zero, as it begins, it keeps none.
#[unsafe(no_mangle)]
static gpu_rt_log: Control = Control::new();

#[cold]
pub(crate) fn log(message: fmt::Arguments<'_>) {
    // SAFETY: only a host that has made room for lines sets the address.
    unsafe { gpu_rt_log.line(thread::index(), message) };
}

/// Leaves the place of the panic in the log, if there is one, and its message if that is a literal;
/// then stops the whole launch. On a GPU no thread can end alone without leaving those hanging that
/// wait for it. The host sees a failed launch; a log in its own memory outlives that.
///
/// Nothing is formatted here. Formatting calls through tables of functions, and the assembler gives
/// every kernel that can reach such a call the registers of the greediest function in any table:
/// kernels that only might panic took 160 registers for it.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let place = info.location().map_or(("", 0), |at| (at.file(), at.line()));
    let message = info.message().as_str().unwrap_or("(a message with values)");
    // SAFETY: as in `log`.
    unsafe { gpu_rt_log.panic(thread::index(), place, message) };
    // SAFETY: ends the launch.
    unsafe {
        asm!("trap;", options(nostack));
        asm!("exit;", options(noreturn, nostack));
    }
}
