//! Many threads, few resources.

use super::PAGE;
use crate::Policy;
use crate::device::storms;
use crate::host::{Backend, Tree};

/// Thousands of threads fault on the same pages: each page is asked for once.
pub fn one_request_for_each_missing_page<P: Policy>(backend: &Backend) {
    let tree = Tree::new();
    let Some(bench) = backend.session::<P>(|b| b.page_size(4096).cache_size(1 << 20)) else {
        return;
    };
    let pages = 48;
    let path = tree.file("file", 8, pages * PAGE);
    let storm = bench.storm(backend.many(), storms::PROGRAM_EVERY_PAGE, &[path], [8, 0, 0, 0]);
    storm.assert_clean(backend.many_threads());
    let stats = bench.stats();
    assert_eq!((stats.misses, stats.evictions), (pages, 0), "{stats:?}");
    assert_eq!(bench.taken(gpu_abi::Op::Read), pages);
    assert_eq!(stats.bytes_fetched, pages * PAGE);
    assert!(stats.hits >= (backend.many_threads() - 1) * pages, "{stats:?}");
}

/// A cache of a few pages, a file of many: the bytes are right all the same.
pub fn a_cache_far_smaller_than_the_file<P: Policy>(backend: &Backend) {
    let tree = Tree::new();
    let path = tree.file("file", 9, 300 * PAGE + 1000);
    for (frames, shape) in [(12, (1, 32)), (40, (2, 64)), (600, backend.many())] {
        let Some(bench) = backend.session::<P>(|b| b.page_size(4096).cache_size(frames * PAGE))
        else {
            return;
        };
        let threads = u64::from(shape.0 * shape.1);
        for program in [storms::PROGRAM_TOUCH, storms::PROGRAM_MIXED] {
            // Enough threads to want far more pages than there are; never more pins than frames
            // for long.
            bench
                .storm(shape, program, std::slice::from_ref(&path), [9, 24, 0, 0])
                .assert_clean(threads);
        }
        let stats = bench.stats();
        assert!(frames >= 300 || stats.evictions > 300, "{stats:?}");
    }
}

/// As many views as one likes, one after the other, through a cache that holds one of them.
pub fn pins_come_back_when_views_drop<P: Policy>(backend: &Backend) {
    let tree = Tree::new();
    let path = tree.file("file", 10, 400 * PAGE);
    let Some(bench) = backend.session::<P>(|b| b.page_size(4096).cache_size(8 * PAGE)) else {
        return;
    };
    for _ in 0..3 {
        bench
            .storm(
                (1, 1),
                storms::PROGRAM_SEQUENTIAL,
                std::slice::from_ref(&path),
                [10, 8 * PAGE, 0, 0],
            )
            .assert_clean(1);
    }
}

/// Every frame pinned: EBUSY in bounded time, and all is well once the pins are gone.
pub fn everything_pinned_is_busy_not_a_hang<P: Policy>(backend: &Backend) {
    let tree = Tree::new();
    let path = tree.file("file", 11, 64 * PAGE);
    let Some(bench) = backend.session::<P>(|b| b.page_size(4096).cache_size(20 * PAGE)) else {
        return;
    };
    let pin_all = |threads| {
        bench.storm(
            (1, threads),
            storms::PROGRAM_PIN_ALL,
            std::slice::from_ref(&path),
            [11, 20, 0, 0],
        )
    };
    let storm = pin_all(1);
    storm.assert_clean(1);
    assert_eq!(storm.other, 1, "one attempt was refused");
    // As many as there are: they all pin the same pages, and all want the same one more. Those who
    // wait for another's attempt share its fate, or this would take a time-out for each of them.
    let threads = backend.many().1;
    let storm = pin_all(threads);
    storm.assert_clean(u64::from(threads));
    bench
        .storm((4, 64), storms::PROGRAM_TOUCH, std::slice::from_ref(&path), [11, 8, 0, 0])
        .assert_clean(256);
}

/// The smallest pools there can be: whoever waits for a cell must not keep others of its warp from
/// posting, and all get their turn.
pub fn one_call_and_two_slots_serve_thousands<P: Policy>(backend: &Backend) {
    let tree = Tree::new();
    let paths: Vec<_> = (0..4).map(|i| tree.file(format!("f{i}"), i, 20 * PAGE)).collect();
    for slots in [1, 2] {
        let Some(bench) = backend.session::<P>(|b| {
            b.page_size(4096).cache_size(64 * PAGE).slots(slots).calls(1).ring_entries(2)
        }) else {
            return;
        };
        bench
            .storm(backend.many(), storms::PROGRAM_CHURN, &paths, [0, 4, 3, 0])
            .assert_clean(backend.many_threads());
        bench
            .storm(backend.many(), storms::PROGRAM_EVERY_PAGE, &paths[1..2], [1, 0, 0, 0])
            .assert_clean(backend.many_threads());
    }
}
