//! The byte ring and its wake-ups under the model checker, as `ring.rs` and `host-daemon/src/net/socket.rs`
//! go about them. `RUSTFLAGS="--cfg loom" cargo test -p gpunet --release`

extern crate std;

use gpu_abi::Word32;
use gpu_abi::socket::{parts, used};
use gpu_rt::atomic::{Ordering, fence_system};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, fence};
use loom::thread;
use std::vec::Vec;

const SIZE: u32 = 2;

/// A ring from the device to the host.
struct Ring {
    bytes: Vec<UnsafeCell<u8>>,
    tail: AtomicU32,
    head: AtomicU32,
    sleeps: AtomicU32,
    /// Set by a `Wake`.
    woken: AtomicU32,
}

impl Ring {
    fn new(at: u32) -> Ring {
        Ring {
            bytes: (0..SIZE).map(|_| UnsafeCell::new(0)).collect(),
            tail: AtomicU32::new(at),
            head: AtomicU32::new(at),
            sleeps: AtomicU32::new(0),
            woken: AtomicU32::new(0),
        }
    }

    /// `At::begin_send` and `At::finish_send`; `tail` is the device's own copy.
    fn send(&self, tail: u32, byte: u8) {
        while used(tail, self.head.load_acquire(), SIZE) == Some(SIZE) {
            thread::yield_now();
        }
        let (at, ..) = parts(tail, 1, SIZE);
        // SAFETY: the model's own pointer, which loom checks for races.
        self.bytes[at].with_mut(|place| unsafe { *place = byte });
        self.tail.store_release(tail.wrapping_add(1));
        fence_system(Ordering::SeqCst);
        if self.sleeps.load_relaxed() != 0 {
            self.woken.store_release(1);
        }
    }

    /// One look of `Sock::tx_used`, and taking what it finds; `head` is the host's own copy.
    fn take(&self, head: &mut u32) -> Option<u8> {
        if used(self.tail.load_acquire(), *head, SIZE) == Some(0) {
            return None;
        }
        let (at, ..) = parts(*head, 1, SIZE);
        // SAFETY: as above.
        let byte = self.bytes[at].with(|place| unsafe { *place });
        *head = head.wrapping_add(1);
        self.head.store_release(*head);
        Some(byte)
    }
}

/// More bytes than the ring holds, whose indices wrap: each arrives, in its order, and nobody writes
/// what is being read.
#[test]
fn n3_bytes_arrive_in_their_order() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let start = u32::MAX;
        let ring = Arc::new(Ring::new(start));
        let device = ring.clone();
        let thread = thread::spawn(move || {
            for i in 0..3u32 {
                device.send(start.wrapping_add(i), i as u8 + 1);
            }
        });
        let (mut head, mut seen) = (start, 0);
        while seen < 3 {
            match ring.take(&mut head) {
                Some(byte) => {
                    seen += 1;
                    assert_eq!(byte, seen);
                }
                None => thread::yield_now(),
            }
        }
        thread.join().unwrap();
    });
}

/// A host that goes to sleep on an empty ring is woken for the byte that it did not see.
#[test]
fn n5_no_wake_is_missed() {
    loom::model(|| {
        let ring = Arc::new(Ring::new(0));
        let device = ring.clone();
        let thread = thread::spawn(move || device.send(0, 7));
        let mut head = 0;
        // `Sock::tx_used`.
        let mut got = ring.take(&mut head);
        if got.is_none() {
            ring.sleeps.store_relaxed(1);
            fence(Ordering::SeqCst);
            got = ring.take(&mut head);
        }
        thread.join().unwrap();
        // Asleep for ever, if nobody has set it.
        assert!(got == Some(7) || ring.woken.load_acquire() == 1, "asleep, and a byte waits");
    });
}
