//! Panics of device code: kept for the launch's report instead of printed.

use std::any::Any;
use std::cell::RefCell;
use std::sync::Once;

/// What a panic said, and where.
#[derive(Debug)]
pub(crate) struct Caught {
    pub(crate) message: String,
    pub(crate) at: String,
}

thread_local! {
    static LAST: RefCell<Option<Caught>> = const { RefCell::new(None) };
}

/// Has panics of device code kept, and all others treated as before. Once per process.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !gpu_rt::host::in_lane() {
                return before(info);
            }
            let message = info.payload_as_str().unwrap_or("a value that is no string").to_owned();
            let at =
                info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
            // Of a panic and those in destructors that it runs, the first tells most.
            LAST.with_borrow_mut(|last| last.get_or_insert(Caught { message, at }).at.len());
        }));
    });
}

/// The panic that the calling thread's current lane has just been caught in.
pub(crate) fn take() -> Caught {
    LAST.take().unwrap_or_else(|| Caught {
        message: "no message: the panic hook was replaced after the emulator was made".to_owned(),
        at: "an unknown place".to_owned(),
    })
}

/// What a panic's payload says.
pub(crate) fn message(payload: &(dyn Any + Send)) -> &str {
    match (payload.downcast_ref::<String>(), payload.downcast_ref::<&str>()) {
        (Some(message), _) => message,
        (None, Some(message)) => message,
        (None, None) => "a value that is no string",
    }
}
