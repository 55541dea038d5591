//! The ring, the completion cell and the doorbell, as the device's side in `port.rs` and the host's
//! in `gpu_abi::ring` go about them.

use super::check;
use super::std::sync::Arc;
use super::std::vec::Vec;
use bytemuck::Zeroable;
use gpu_abi::ring::{Cell, Consumer, Entry, ShardLine, has_room};
use gpu_abi::{Completion, HostAtomics, Op, Request, Word32};
use gpu_rt::atomic::{DeviceAtomicU32, Ordering, fence_system};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU32, fence};
use loom::thread;

struct Ring {
    line: ShardLine<HostAtomics>,
    entries: Vec<Entry<HostAtomics>>,
    tickets: DeviceAtomicU32,
    head: DeviceAtomicU32,
}

impl Ring {
    fn new(entries: usize) -> Ring {
        Ring {
            line: ShardLine::default(),
            entries: (0..entries).map(|_| Entry::default()).collect(),
            tickets: DeviceAtomicU32::new(0),
            head: DeviceAtomicU32::new(0),
        }
    }

    /// `Fs::publish`, as far as the ring goes.
    fn post(&self, tag: u32) {
        let len = self.entries.len() as u32;
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        if !has_room(ticket, self.head.load(Ordering::Acquire), len) {
            loop {
                let head = self.line.head.load_acquire();
                self.head.store(head, Ordering::Release);
                if has_room(ticket, head, len) {
                    break;
                }
                gpu_rt::relax();
            }
        }
        let request =
            Request { op: Op::Nop as u8, tag, offset: u64::from(tag) * 3, ..Request::zeroed() };
        self.entries[ticket as usize % self.entries.len()].publish(ticket, &request);
    }
}

/// Two warps post three requests to a ring of two: it wraps, and it is full. Each request arrives once
/// and whole.
#[test]
fn requests_arrive_whole() {
    check(Some(2), || {
        let ring = Arc::new(Ring::new(2));
        let [one, two] = [ring.clone(), ring.clone()];
        let first = thread::spawn(move || {
            one.post(1);
            one.post(2);
        });
        let second = thread::spawn(move || two.post(3));
        let mut consumer = Consumer::new(&ring.line, &ring.entries, 0);
        let mut seen = 0;
        while consumer.head() < 3 {
            let Some(request) = consumer.take() else {
                thread::yield_now();
                continue;
            };
            assert_eq!(request.offset, u64::from(request.tag) * 3);
            assert_eq!(request.op, Op::Nop as u8);
            seen |= 1 << request.tag;
            consumer.release();
        }
        assert_eq!(seen, 0b1110);
        first.join().unwrap();
        second.join().unwrap();
    });
}

/// Whoever finds an answer finds what lies in the transfer slot; a cell serves again and again.
#[test]
fn an_answer_comes_with_its_data() {
    check(None, || {
        let shared = Arc::new((Cell::<HostAtomics>::default(), UnsafeCell::new(0u32)));
        let host = shared.clone();
        let thread = thread::spawn(move || {
            let (cell, slot) = &*host;
            // SAFETY: the model's own pointer, which loom checks for races.
            slot.with_mut(|data| unsafe { *data = 7 });
            cell.complete(1, &Completion::of(Ok(21)));
        });
        let (cell, slot) = &*shared;
        let completion = loop {
            match cell.poll(1) {
                Some(completion) => break completion,
                None => gpu_rt::relax(),
            }
        };
        assert_eq!(completion.result(), Ok(21));
        // SAFETY: as above.
        assert_eq!(slot.with(|data| unsafe { *data }), 7);
        thread.join().unwrap();
    });
}

/// Clauses D1 and D2: a host that goes to sleep is rung for the request that it did not see.
#[test]
fn no_doorbell_is_missed() {
    check(None, || {
        let ring = Arc::new((Ring::new(2), AtomicU32::new(0), AtomicU32::new(0)));
        let device = ring.clone();
        let thread = thread::spawn(move || {
            let (ring, parked, doorbell) = &*device;
            ring.post(1);
            fence_system(Ordering::SeqCst);
            if parked.load_relaxed() != 0 {
                doorbell.store_release(1);
            }
        });
        let (ring, parked, doorbell) = &*ring;
        let seen = doorbell.load_relaxed();
        parked.store_relaxed(1);
        fence(Ordering::SeqCst);
        let ready = Consumer::new(&ring.line, &ring.entries, 0).take().is_some();
        thread.join().unwrap();
        // It sleeps as long as the doorbell has the value that it saw: for ever, if it has it now.
        assert!(ready || doorbell.load_acquire() != seen, "asleep, and a request waits");
    });
}
