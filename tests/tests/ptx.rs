//! The suite on the PTX interpreter: the kernels that a GPU would get, instruction by instruction.

use conformance::host::{Tree, ptx, ptx_checked};
use conformance::{Backend, HashClock, RadixFifo, suite};
use gpu_host::DaemonMode;

suite!(inline_direct, HashClock, ptx);
suite!(threads_slots_fifo, RadixFifo, |builder| ptx(builder)
    .daemon(DaemonMode::Threads(2))
    .direct(false));

// What blocks share is ordered, and no shared memory is read unwritten: the bodies in which several have to do with
// the same things.
suite!(@bodies checked, HashClock, (4, 64), ptx_checked,
    reading: [
        ranges_at_all_granularities, whole_files_in_one_request, views_lend_the_files_bytes
    ],
    naming: [opens_of_one_file_cost_one_request, records_run_out_and_come_back],
    pressure: [
        one_request_for_each_missing_page, a_cache_far_smaller_than_the_file,
        pins_come_back_when_views_drop, one_call_and_two_slots_serve_thousands
    ],
    ahead: [
        sequential_reading_is_ahead, asynchronous_reads_lose_nothing, once_leaves_no_page_behind
    ],
    consistency: [changes_of_a_device_are_seen_when_flushed],
    writing: [
        written_bytes_are_the_files, threads_write_side_by_side, bytes_of_others_survive, appended_records_all_survive,
        one_of_many_makes_a_file
    ],
    sockets: [
        a_server_serves, a_client_connects, streams_are_whole, datagrams, kernels_talk_to_each_other
    ],
    sockets_waiting: [many_are_waited_for, watching_again_and_again_loses_nothing],
    sockets_unix: [unix_streams]
);

#[test]
fn launches_are_counted() {
    let backend = Backend::new("ptx", ptx);
    let Some(bench) = backend.session::<HashClock>(|builder| builder) else { return };
    let counts = bench.session.counts().expect("the interpreter counts");
    assert_eq!(counts.thread_instructions, 0);
    let tree = Tree::new();
    let paths = [tree.file("a", 1, 100)];
    bench.ops((1, 32), 0, &paths, &[]);
    let counts = bench.session.counts().expect("the interpreter counts");
    assert!(counts.warp_instructions > 0 && counts.thread_instructions > counts.warp_instructions);
}
