//! Prefetches: begun by one, taken over by one, waited for by any.

use super::check;
use super::std::sync::Arc;
use crate::inflight::{AHEAD, IDLE, InFlight, STARTING};
use gpu_rt::atomic::{DeviceAtomicU32, Ordering};
use loom::thread;

const KEY: u64 = 5;
const OTHER: u64 = 6;

/// `Fs::prefetch_page`, from the insertion on.
fn start(record: &InFlight, key: u64, tag: u32) {
    record.state.store(STARTING, Ordering::Relaxed);
    record.set_key(key);
    record.tag.store(tag, Ordering::Relaxed);
    record.state.store(AHEAD, Ordering::Release);
    record.change_turn();
}

/// `Fs::retire`.
fn retire(record: &InFlight) {
    record.set_key(0);
    record.state.store(IDLE, Ordering::Relaxed);
    record.change_turn();
}

/// Of two who come for a page one adopts its prefetch, and knows its tag; the other waits, and is told
/// when it is over. Neither adopts what the record is used for next.
#[test]
fn adopted_once_and_by_its_name() {
    check(Some(3), || {
        let shared = Arc::new((InFlight::for_model(), DeviceAtomicU32::new(0)));
        let visit = |(record, free): &(InFlight, DeviceAtomicU32)| {
            // `File::fetch`, until the page is no longer in flight.
            while let Some(turn) = record.turn_of(KEY) {
                if record.adopt(KEY) {
                    assert_eq!(record.tag.load(Ordering::Relaxed), 1);
                    retire(record);
                    // As `Bitmap::release`.
                    free.store(1, Ordering::Release);
                    return true;
                }
                gpu_rt::wait_while_eq(&record.turn, turn, u64::MAX);
            }
            false
        };
        start(&shared.0, KEY, 1);
        let visitor = shared.clone();
        let visitor = thread::spawn(move || visit(&visitor));
        let next = shared.clone();
        let next = thread::spawn(move || {
            // The cell's next use, if it is free already (`Bitmap::claim`).
            let free = next.1.load(Ordering::Acquire) == 1;
            if free {
                start(&next.0, OTHER, 2);
            }
            free
        });
        let mine = visit(&shared);
        let others = visitor.join().unwrap();
        let reused = next.join().unwrap();
        assert!(mine != others, "adopted {}", if mine { "twice" } else { "by nobody" });
        assert_eq!(shared.0.adopt(OTHER), reused, "the next prefetch is still to be had");
    });
}

/// A failure is told to those who waited for the fetch that failed, and to nobody else.
#[test]
fn a_failure_is_shared_by_those_who_waited() {
    check(Some(3), || {
        let record = Arc::new(InFlight::for_model());
        record.set_key(KEY);
        let waiter = record.clone();
        let waiter = thread::spawn(move || {
            let turn = waiter.turn_of(KEY)?;
            gpu_rt::wait_while_eq(&waiter.turn, turn, u64::MAX);
            Some(waiter.failure(turn))
        });
        record.fail(gpu_abi::Errno::EBUSY);
        retire(&record);
        // The cell's next fetch, of another page, goes well.
        record.set_key(OTHER);
        let turn = record.turn_of(OTHER).unwrap();
        assert_eq!(record.failure(turn), None);
        match waiter.join().unwrap() {
            None | Some(Some(gpu_abi::Errno::EBUSY)) => {}
            Some(other) => panic!("waited for a fetch that failed, and was told {other:?}"),
        }
    });
}
