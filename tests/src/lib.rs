//! One conformance suite, instantiated for every backend.
//!
//! A test body is written once, against a [`Backend`]: whatever turns a
//! [`SessionBuilder`](gpu_host::SessionBuilder) into one of its kind. [`suite!`](macro@suite) makes a module with
//! a `#[test]` for each body:
//!
//! ```ignore
//! conformance::suite!(inline, HashClock, |builder| builder.daemon(DaemonMode::Inline));
//! ```
//!
//! | module | owns |
//! |---|---|
//! | [`device`] | the kernels: lists of operations, and storms of threads |
//! | [`policy`] | pairs of policies, and the kernel for each |
//! | [`host`] | sessions, files with known bytes, launches |
//! | [`mod@sockets`] | scripts of socket operations |
//! | [`stand_in`] | kernels as host code behind the driver's interface |
//! | [`suite`](mod@suite) | the bodies, by subject |
//!
//! The oracle is `std::fs` throughout: what a kernel is told about a path, and the bytes it gets, are
//! what the host program is told and gets.

pub mod host;
pub mod policy;
pub mod sockets;
pub mod stand_in;
pub mod suite;

pub use conformance_kernels as device;
pub use host::Backend;
pub use policy::{HashClock, HashFifo, Policy, RadixClock, RadixFifo};

/// A module `$name` with a test for each body of the suite, on the backend that `$configure`, a
/// `fn(SessionBuilder) -> SessionBuilder`, makes, with the index and eviction of `$policy`.
///
/// `many = (blocks, threads)` is for backends to which thousands of threads are too many.
///
/// A backend that is not to be had here (the session cannot be built because the machine lacks
/// something) skips its tests and says why.
#[macro_export]
macro_rules! suite {
    ($name:ident, $policy:ty, $configure:expr) => {
        $crate::suite!($name, $policy, many = (16, 256), $configure);
    };
    ($name:ident, $policy:ty, many = ($blocks:expr, $threads:expr), $configure:expr) => {
        $crate::suite!(@bodies $name, $policy, ($blocks, $threads), $configure,
            reading: [
                ranges_at_all_granularities, past_the_end_and_empty, whole_files_in_one_request,
                views_lend_the_files_bytes,
                a_view_spans_at_most_its_maximum, a_file_cut_while_open_reads_short,
                files_without_a_size_have_content, devices_do_not_share_pages
            ],
            naming: [
                opens_of_one_file_cost_one_request, errors_are_those_of_std_fs, descriptions,
                directories_are_complete, records_run_out_and_come_back
            ],
            pressure: [
                one_request_for_each_missing_page, a_cache_far_smaller_than_the_file,
                pins_come_back_when_views_drop, everything_pinned_is_busy_not_a_hang,
                one_call_and_two_slots_serve_thousands
            ],
            ahead: [
                sequential_reading_is_ahead, asynchronous_reads_lose_nothing,
                once_leaves_no_page_behind
            ],
            failing: [a_panic_names_its_thread_its_place_and_its_message],
            consistency: [
                changes_of_the_host_are_seen_by_the_next_open,
                changes_of_a_device_are_seen_when_flushed, a_removed_file_lives_while_it_is_open
            ],
            writing: [
                written_bytes_are_the_files, threads_write_side_by_side, bytes_of_others_survive,
                ways_to_open, one_file_by_several_names, names_change,
                appended_records_all_survive, one_of_many_makes_a_file
            ],
            sockets: [
                a_server_serves, a_client_connects, streams_are_whole, errors_are_those_of_std_net,
                waiting_ends_when_told, peers_end_as_they_like, a_flood_waits_its_turn, datagrams,
                kernels_talk_to_each_other, launches_of_one_session_talk, bytes_cost_no_request
            ],
            sockets_waiting: [
                what_is_begun_is_finished_or_given_up, a_connection_that_nobody_waits_for_is_closed,
                names_are_looked_up, many_are_waited_for, watching_again_and_again_loses_nothing
            ],
            sockets_unix: [unix_streams, unix_datagrams, unix_pairs_and_errors],
            sockets_options: [
                options_are_told_as_they_were_set, addresses_are_reused_as_said, only_v6_means_it,
                groups_peers_and_looks
            ]
        );
    };
    (@bodies $name:ident, $policy:ty, ($blocks:expr, $threads:expr), $configure:expr,
        $($subject:ident: [$($body:ident),*]),*) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            fn backend() -> $crate::Backend {
                $crate::Backend::new(stringify!($name), $configure).with_many($blocks, $threads)
            }
            $(mod $subject {
                use super::*;
                $(#[test]
                fn $body() {
                    $crate::suite::$subject::$body::<$policy>(&backend());
                })*
            })*
        }
    };
}
