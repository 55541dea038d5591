//! The host side that serves a launch, as far as the emulator drives it.

use std::time::Duration;

/// What a call of [`Host::poll`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It did something; words that threads wait on may have changed.
    Worked,
    /// It has work under way that it waits for itself.
    Pending,
    /// It has nothing to do until a thread asks for something.
    Idle,
}

/// Serves the requests of launches on the workers' own time.
///
/// A worker calls `poll` when none of its threads can run, and now and then while they do, so that
/// spinning threads cannot starve it. When `poll` finds nothing either, the worker calls `park`. No
/// GPU thread is current meanwhile. All workers may call at once.
pub trait Host: Send + Sync {
    /// Serves what there is to serve, without waiting.
    fn poll(&self, worker: usize) -> Progress;

    /// Waits until there may be something to serve or to see, or until `timeout` has passed.
    ///
    /// Between the last `poll` and this the worker has looked at all words that its threads wait
    /// for, so that a `poll` may arrange for the wake-up of the `park` that follows.
    fn park(&self, worker: usize, timeout: Duration) {
        let _ = worker;
        std::thread::park_timeout(timeout);
    }

    /// Ends a `park` of this worker, now or the next. The emulator unparks the worker's thread
    /// besides, so that this is only needed where `park` sleeps in some other way.
    fn unpark(&self, worker: usize) {
        let _ = worker;
    }
}

/// Nobody: the host side has threads of its own, or there is none.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHost;

impl Host for NoHost {
    fn poll(&self, _worker: usize) -> Progress {
        Progress::Idle
    }
}
