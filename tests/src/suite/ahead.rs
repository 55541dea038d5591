//! Pages fetched before they are wanted, and pages that are wanted but once.

use super::PAGE;
use crate::Policy;
use crate::device::storms;
use crate::host::{Backend, Tree};

/// A reader who goes from page to page finds pages that were fetched ahead, with the right bytes.
pub fn sequential_reading_is_ahead<P: Policy>(backend: &Backend) {
    let tree = Tree::new();
    let path = tree.file("file", 12, 200 * PAGE + 33);
    let Some(bench) = backend.session::<P>(|b| b.page_size(4096).cache_size(128 * PAGE)) else {
        return;
    };
    let read = |threads, step| {
        bench
            .storm(
                (threads, 1),
                storms::PROGRAM_SEQUENTIAL,
                std::slice::from_ref(&path),
                [12, step, 0, 0],
            )
            .assert_clean(u64::from(threads));
    };
    read(1, PAGE);
    let stats = bench.stats();
    assert!(stats.prefetches > 50, "{stats:?}");
    assert!(stats.misses < 200, "{stats:?}");
    // Fetched once, ahead or not.
    assert_eq!(stats.bytes_fetched, 200 * PAGE + 33, "{stats:?}");
    read(1, 3 * PAGE / 2);
    read(8, PAGE);
}

/// Reads that are begun now and waited for later: EAGAIN where there is no room, and every byte.
pub fn asynchronous_reads_lose_nothing<P: Policy>(backend: &Backend) {
    let tree = Tree::new();
    let path = tree.file("file", 13, 300 * PAGE + 7);
    let fresh = tree.file("fresh", 16, 20 * PAGE);
    for (frames, slots, calls) in [(400, 64, 64), (64, 8, 8), (24, 1, 1)] {
        let Some(bench) = backend.session::<P>(|b| {
            b.page_size(4096).cache_size(frames * PAGE).slots(slots).calls(calls)
        }) else {
            return;
        };
        let shape = (2, backend.many().1 / 4);
        // Again and again: a quota that leaks is used up by then.
        let mut refused = 0;
        for _ in 0..6 {
            let storm = bench.storm(
                shape,
                storms::PROGRAM_ASYNC,
                std::slice::from_ref(&path),
                [13, 0, 0, 0],
            );
            storm.assert_clean(u64::from(2 * shape.1));
            refused += storm.other;
        }
        let stats = bench.stats();
        assert!(calls > 1 || refused > 0, "one call and slot cannot be enough");
        assert!(calls == 1 || stats.prefetches > 0, "{stats:?}");
        // Of pages that are not there yet, some are fetched ahead now as before.
        let fresh = std::slice::from_ref(&fresh);
        bench.storm((1, 1), storms::PROGRAM_ASYNC, fresh, [16, 0, 0, 0]).assert_clean(1);
        let now = bench.stats().prefetches;
        assert!(calls == 1 || now > stats.prefetches, "{now} {stats:?}");
    }
}

/// A scan with `once` leaves the pages of others alone, and none of its own.
pub fn once_leaves_no_page_behind<P: Policy>(backend: &Backend) {
    let tree = Tree::new();
    let (kept, scanned) = (tree.file("kept", 14, 16 * PAGE), tree.file("scanned", 15, 300 * PAGE));
    let Some(bench) = backend.session::<P>(|b| b.page_size(4096).cache_size(64 * PAGE)) else {
        return;
    };
    let sequential = |path: &std::path::PathBuf, seed, once| {
        bench
            .storm(
                (1, 1),
                storms::PROGRAM_SEQUENTIAL,
                std::slice::from_ref(path),
                [seed, PAGE, once, 0],
            )
            .assert_clean(1);
    };
    sequential(&kept, 14, 0);
    sequential(&scanned, 15, 1);
    let stats = bench.stats();
    assert_eq!(stats.evictions, 0, "{stats:?}");
    sequential(&kept, 14, 0);
    let now = bench.stats();
    assert_eq!(now.bytes_fetched, stats.bytes_fetched, "what was kept is still there");
    sequential(&scanned, 15, 1);
    let again = bench.stats().bytes_fetched - now.bytes_fetched;
    assert_eq!(again, 300 * PAGE, "what was scanned is not");
}
