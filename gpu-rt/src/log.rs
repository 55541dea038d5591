//! Messages from device code to the host.

use core::fmt;

use crate::arch;

/// Writes a line to the log of the launch, formatted as by `format!`. Slow: for diagnosis, not for
/// data.
///
/// ```
/// gpu_rt::log!("thread {} is here", gpu_rt::thread::index());
/// ```
#[macro_export]
macro_rules! log {
    ($($arg:tt)*) => {
        $crate::__log(::core::format_args!($($arg)*))
    };
}

#[doc(hidden)]
pub fn __log(message: fmt::Arguments<'_>) {
    arch::log(message);
}
