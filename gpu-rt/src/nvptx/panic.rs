//! The last words of a thread: log lines and panics, by way of the module's log.

use core::arch::asm;
use core::fmt;
use core::panic::PanicInfo;

use crate::device_log::{Control, Kind};
use crate::thread;

/// Where the lines of this module go; a host finds it by its name,
/// [`SYMBOL`](crate::device_log::SYMBOL). Zero, as it begins, it keeps none.
#[unsafe(no_mangle)]
static gpu_rt_log: Control = Control::new();

#[cold]
pub(crate) fn log(message: fmt::Arguments<'_>) {
    // SAFETY: only a host that has made room for lines sets the address.
    unsafe { gpu_rt_log.write(Kind::Line, thread::index(), message) };
}

/// Leaves the message and its place in the log, if there is one, and stops the whole launch. On a GPU
/// no thread can end alone without leaving those hanging that wait for it. The host sees a failed
/// launch; a log in its own memory outlives that.
///
/// (To format nothing here, and leave only the place, saves no kernel a register or a spill.)
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    // SAFETY: as in `log`.
    unsafe { gpu_rt_log.write(Kind::Panic, thread::index(), format_args!("{info}")) };
    // SAFETY: ends the launch.
    unsafe {
        asm!("trap;", options(nostack));
        asm!("exit;", options(noreturn, nostack));
    }
}
