//! Work in order, on a thread of its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex};

type Work = Box<dyn FnOnce() + Send>;

/// A stream.
pub(crate) struct Stream {
    work: Sender<Work>,
    begun: AtomicU64,
    done: Arc<(Mutex<u64>, Condvar)>,
}

impl Stream {
    pub(crate) fn new() -> Stream {
        let (work, queue) = channel::<Work>();
        let done = Arc::new((Mutex::new(0), Condvar::new()));
        let finished = done.clone();
        std::thread::spawn(move || {
            for work in queue {
                work();
                *finished.0.lock().expect("a counter") += 1;
                finished.1.notify_all();
            }
        });
        Stream { work, begun: AtomicU64::new(0), done }
    }

    pub(crate) fn push(&self, work: impl FnOnce() + Send + 'static) {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.work.send(Box::new(work)).expect("the stream's thread lives as long as the stream");
    }

    /// Whether all work pushed so far is done.
    pub(crate) fn is_idle(&self) -> bool {
        *self.done.0.lock().expect("a counter") >= self.begun.load(Ordering::Relaxed)
    }

    /// Waits for all work pushed so far.
    pub(crate) fn wait(&self) {
        let all = self.begun.load(Ordering::Relaxed);
        let mut done = self.done.0.lock().expect("a counter");
        while *done < all {
            done = self.done.1.wait(done).expect("a counter");
        }
    }
}
