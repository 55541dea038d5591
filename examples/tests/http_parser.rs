//! The web server's parser, on bytes that nobody chose.

use gpu_kernels::http::bytes::Bytes;
use gpu_kernels::http::fields::{Range, parse_date, range};
use gpu_kernels::http::head::{HEAD_MAX, Parsed, parse};
use gpu_kernels::http::target::resolve;
use proptest::prelude::*;

/// Pieces of requests, so that some of what is made of them is nearly one.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(&b"GET / HTTP/1.1\r\n"[..]),
        Just(&b"HEAD /%2e%2E/a?b HTTP/1.0\r\n"[..]),
        Just(&b"Host: x\r\n"[..]),
        Just(&b"Content-Length: 0\r\n"[..]),
        Just(&b"Content-Length: 5\r\n"[..]),
        Just(&b"Transfer-Encoding: chunked\r\n"[..]),
        Just(&b"Connection: close\r\n"[..]),
        Just(&b"\r\n"[..]),
        Just(&b"\n"[..]),
        Just(&b" "[..]),
        Just(&b":"[..]),
        Just(&b"\r"[..]),
        Just(&b"\0"[..]),
    ];
    let noise = proptest::collection::vec(any::<u8>(), 0..4);
    proptest::collection::vec((piece, noise, 0u8..8), 0..12).prop_map(|parts| {
        let mut all = Vec::new();
        for (piece, noise, chance) in parts {
            all.extend_from_slice(piece);
            if chance == 0 {
                all.extend(noise);
            }
        }
        all
    })
}

/// What can be compared of an outcome.
fn outcome(bytes: &Bytes<'_>) -> (u16, usize, Vec<u8>, bool) {
    match parse(bytes) {
        Parsed::More => (0, 0, vec![], false),
        Parsed::Refused(status) => (status, 0, vec![], false),
        Parsed::Head(head) => {
            (200, head.len, bytes.span(head.target).iter().collect(), head.keep_alive)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]
    #[test]
    fn a_request_is_the_same_wherever_the_ring_wraps(all in pieces(), cut in any::<prop::sample::Index>()) {
        let (first, second) = all.split_at(cut.index(all.len() + 1));
        let whole = outcome(&Bytes::new([&all, &[]]));
        prop_assert_eq!(&outcome(&Bytes::new([first, second])), &whole);
        prop_assert!(whole.1 <= all.len().min(HEAD_MAX));
        if whole.0 == 200 {
            // The head ends with an empty line, and what comes after it does not matter.
            prop_assert!(all[..whole.1].ends_with(b"\r\n\r\n"));
            prop_assert_eq!(&outcome(&Bytes::new([&all[..whole.1], b"POST"])), &whole);
            prop_assert_eq!(whole.2.first(), Some(&b'/'));
        }
    }

    #[test]
    fn a_beginning_is_refused_only_if_the_whole_is(all in pieces(), cut in any::<prop::sample::Index>()) {
        let at = cut.index(all.len() + 1);
        let (part, whole) = (outcome(&Bytes::new([&all[..at], &[]])), outcome(&Bytes::new([&all, &[]])));
        if part.0 != 0 {
            prop_assert_eq!(part.0, whole.0);
        }
    }

    #[test]
    fn no_target_leads_out_of_the_root(text in "/?[/.%a0f2eE\\\\?\\x00]{0,40}", noise in proptest::collection::vec(any::<u8>(), 0..40)) {
        // Noise seldom begins as a path does.
        let path = [b"/", &noise[..]].concat();
        for target in [text.as_bytes(), &noise, &path] {
            if let Ok(path) = resolve(&Bytes::new([target, &[]])) {
                let path = path.as_bytes();
                prop_assert_eq!(path.first(), Some(&b'/'));
                prop_assert!(!path.contains(&0));
                for part in path[1..].split(|b| *b == b'/') {
                    prop_assert!(part != b".." && part != b".");
                    prop_assert!(!part.is_empty() || path == b"/");
                }
            }
        }
    }

    #[test]
    fn ranges_lie_within_the_file(text in "(bytes=)?[0-9]{0,22}-?[0-9]{0,22}", size in any::<u64>()) {
        if let Range::Part { start, len } = range(&Bytes::new([text.as_bytes(), &[]]), size) {
            prop_assert!(len > 0 && start.checked_add(len).is_some_and(|end| end <= size));
        }
    }

    #[test]
    fn no_date_panics(text in ".{0,40}", fixed in "[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT") {
        let _ = parse_date(&Bytes::new([text.as_bytes(), &[]]));
        let _ = parse_date(&Bytes::new([fixed.as_bytes(), &[]]));
    }
}
