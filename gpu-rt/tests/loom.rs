//! Under the model checker the words are its own, and device code runs on its threads.
//! `RUSTFLAGS="--cfg loom" cargo test -p gpu-rt --test loom`
#![cfg(loom)]

use gpu_rt::atomic::{DeviceAtomicU32, Ordering, SystemAtomicU32};
use loom::sync::Arc;

#[test]
fn a_waiting_thread_sees_what_was_written_before_the_word() {
    loom::model(|| {
        let shared = Arc::new((DeviceAtomicU32::new(0), SystemAtomicU32::new(0)));
        let writer = {
            let shared = Arc::clone(&shared);
            loom::thread::spawn(move || {
                shared.0.store(7, Ordering::Relaxed);
                // Release: pairs with the Acquire load of the wait.
                shared.1.store(1, Ordering::Release);
                gpu_rt::wake(&shared.1);
            })
        };
        assert_eq!(gpu_rt::wait_while_eq(&shared.1, 0, u64::MAX), 1);
        assert_eq!(shared.0.load(Ordering::Relaxed), 7);
        writer.join().unwrap();
    });
}
