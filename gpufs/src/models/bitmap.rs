//! Numbered things.

use super::check;
use super::std::sync::Arc;
use crate::bitmap::Bitmap;
use gpu_rt::atomic::DeviceAtomicU64;
use loom::cell::UnsafeCell;
use loom::thread;

/// Two things, three threads: nobody uses a thing that another uses, and what the last owner did with
/// it is done.
#[test]
fn a_number_has_one_owner() {
    check(Some(3), || {
        let shared =
            Arc::new(([DeviceAtomicU64::new(0)], [UnsafeCell::new(0u32), UnsafeCell::new(0)]));
        let work = |shared: &([DeviceAtomicU64; 1], [UnsafeCell<u32>; 2]), hint| {
            let (words, things) = shared;
            let bitmap = Bitmap::new(words, 2);
            let Some(number) = bitmap.claim(hint) else { return 0 };
            // SAFETY: the model's own pointer; loom fails on a race.
            things[number as usize].with_mut(|thing| unsafe { *thing += 1 });
            bitmap.release(number);
            1
        };
        let others = [1, 2].map(|hint| {
            let shared = shared.clone();
            thread::spawn(move || work(&shared, hint))
        });
        let mut used = work(&shared, 0);
        for other in others {
            used += other.join().unwrap();
        }
        // SAFETY: as above.
        let count = |thing: &UnsafeCell<u32>| thing.with(|thing| unsafe { *thing });
        assert_eq!(count(&shared.1[0]) + count(&shared.1[1]), used);
        assert!(used >= 2, "one of two is free for the second");
        assert_eq!(Bitmap::new(&shared.0, 2).claim(0), Some(0), "all came back");
    });
}
