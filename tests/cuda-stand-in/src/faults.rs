//! Calls that fail since a test wants them to.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};

thread_local! {
    /// The function of which this thread's next call fails, and the error.
    static NEXT: RefCell<Option<(CString, u32)>> = const { RefCell::new(None) };
}

/// Has the next call of a function by this thread fail, without doing anything.
///
/// # Safety
/// The name ends with a zero.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn stand_in_fail_next(name: *const c_char, error: u32) {
    // SAFETY: the caller's promise.
    let name = unsafe { CStr::from_ptr(name) }.to_owned();
    NEXT.set(Some((name, error)));
}

/// The error that a call of this function is to end with.
pub(crate) fn fault(name: &str) -> Result<(), u32> {
    let is_it = |next: &mut (CString, u32)| next.0.as_bytes() == name.as_bytes();
    match NEXT.with_borrow_mut(|next| next.take_if(is_it)) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}
