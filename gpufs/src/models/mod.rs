//! Models for loom: every interleaving of a few threads, with every value that the memory model lets
//! their loads return.
//!
//!     RUSTFLAGS="--cfg loom" cargo test --release -p gpufs --lib models
//!
//! Each ordering that the models defend was weakened once, and the model that is named beside it saw
//! that:
//!
//! | weakened | seen by |
//! |---|---|
//! | release in `Entry::publish`, acquire in `take` | `ring::requests_arrive_whole` |
//! | release in `Consumer::release`, acquire of `head` | `ring::requests_arrive_whole` |
//! | release in `Cell::complete`, acquire in `poll` | `ring::an_answer_comes_with_its_data` |
//! | either fence of clauses D1, D2 | `ring::no_doorbell_is_missed` |
//! | release in `Frame::publish`, acquire in `try_pin`; its second look at the key | `frame::a_pinned_page_is_the_one_asked_for` |
//! | release in `unpin`, acquire in `take_for_eviction` | `frame::a_pinned_page_is_the_one_asked_for` |
//! | `HashIndex`: the second look at a slot | `index::a_page_is_never_twice_in_the_index` |
//! | `RadixIndex`: the second look at a slot; a node given back twice | `index::a_page_is_found_whatever_its_tree_does` |
//! | acquire in `InFlight::has_key`, release in `set_key` | `index::a_page_is_never_twice_in_the_index` |
//! | acquire and release of either index's locks | `index::of_two_who_insert_one_does` |
//! | acquire and release in `Bitmap` | `bitmap::a_number_has_one_owner` |
//! | release in `Dirty::mark`, `raise`; acquire in `take` | `dirty::no_written_byte_is_lost` |
//! | release in `ByteMap::set`, acquire in `take_run` | `dirty::no_written_byte_is_lost_with_a_map` |
//! | acquire in `InFlight::adopt`; its look at the key | `inflight::adopted_once_and_by_its_name` |
//!
//! Not seen, as no model goes there: the release of the cached `head` in `Fs::publish`, the turn that
//! `InFlight::give_up` changes, and the second look at the turn in `turn_of`.

extern crate std;

mod bitmap;
mod dirty;
mod frame;
mod index;
mod inflight;
mod ring;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Explores a model. A reader that runs beside a writer is best the thread that is spawned: loom begins
/// with the spawning one, and finds reads that could have come before a write more readily than
/// writes that could have come before a read.
///
/// Explores it with at most `preemptions` switches away from a thread that could go on; all that
/// there are, for `None`.
fn check(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    let executions = Arc::new(AtomicUsize::new(0));
    let counter = executions.clone();
    builder.check(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        model();
    });
    // A model whose threads never meet proves nothing.
    assert!(executions.load(Ordering::Relaxed) > 1);
}
