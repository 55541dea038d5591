//! The web server's parser: heads and targets.
#![no_main]

use gpu_kernels::http::bytes::Bytes;
use gpu_kernels::http::head::{Parsed, parse};
use gpu_kernels::http::{fields, target};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((cut, bytes)) = data.split_first() else { return };
    let (first, second) = bytes.split_at(bytes.len().min(usize::from(*cut)));
    let whole = Bytes::new([bytes, &[]]);
    let bytes = Bytes::new([first, second]);
    match (parse(&bytes), parse(&whole)) {
        (Parsed::Head(head), Parsed::Head(same)) => {
            assert_eq!((head.len, head.target), (same.len, same.target));
            if let Ok(path) = target::resolve(&bytes.span(head.target)) {
                assert!(!path.as_bytes().split(|b| *b == b'/').any(|part| part == b".."));
            }
            for span in [head.range, head.if_range, head.if_modified_since].into_iter().flatten() {
                let _ = fields::range(&bytes.span(span), 1000);
                let _ = fields::parse_date(&bytes.span(span));
            }
        }
        (Parsed::More, Parsed::More) => {}
        (Parsed::Refused(one), Parsed::Refused(other)) => assert_eq!(one, other),
        (one, other) => panic!("{one:?} and {other:?}"),
    }
});
