//! What crosses a trust boundary on its way into the verification kernel: requests and stores, good, damaged
//! and made up.

use bytemuck::Zeroable;
use gpu_kernels::http::bytes::{Bytes, Span};
use gpu_kernels::verify::lbp::{Framed, Method, PIXELS_MAX, Shape};
use gpu_kernels::verify::store::{Entry, Header, INDEX_AT, PROBES_MAX, reference_len};
use gpu_kernels::verify::wire::{
    ID_MAX, MAGIC, Parsed, REQUEST_LEN, Request, Status, VERSION, parse,
};
use proptest::prelude::*;

const SHAPE: Shape = Shape { width: 6, height: 5, columns: 3, rows: 1 };

fn request(id: &[u8], change: impl FnOnce(&mut Request)) -> Vec<u8> {
    let mut head = Request {
        magic: MAGIC,
        version: VERSION,
        id_len: id.len() as u16,
        width: 6,
        height: 5,
        tag: 9,
        ..Request::zeroed()
    };
    change(&mut head);
    [bytemuck::bytes_of(&head), id, &[1; 30]].concat()
}

fn parse_at(bytes: &[u8], split: usize) -> Parsed {
    let (first, second) = bytes.split_at(split.min(bytes.len()));
    parse(&Bytes::new([first, second]), SHAPE, 4096)
}

/// Bytes that are no request at all, or nearly one.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let nearly = (any::<[u8; 28]>(), prop::collection::vec(any::<u8>(), 0..100))
        .prop_map(|(head, rest)| [&MAGIC[..], &head, &rest].concat());
    let sides =
        (0u16..8, 0u16..8, 0u16..70, 0u16..3).prop_map(|(width, height, id_len, version)| {
            let change = |head: &mut Request| {
                (head.width, head.height, head.id_len, head.version) =
                    (width, height, id_len, version);
            };
            request(&[b'x'; 60], change)
        });
    prop_oneof![prop::collection::vec(any::<u8>(), 0..200), nearly, sides]
}

proptest! {
    #[test]
    fn parsing_stays_within_the_bytes_wherever_they_wrap(bytes in bytes(), split in 0usize..200) {
        let parsed = parse_at(&bytes, bytes.len());
        prop_assert_eq!(parsed, parse_at(&bytes, split));
        match parsed {
            Parsed::Request { head, id, pixels, len } => {
                prop_assert_eq!(id, Span { at: REQUEST_LEN, len: head.id_len.into() });
                prop_assert!((1..=ID_MAX).contains(&id.len));
                prop_assert_eq!((pixels, len), (id.at + id.len, pixels + SHAPE.pixels()));
                prop_assert!(len <= bytes.len());
            }
            Parsed::Refused(reply) => {
                let status = Status::from_raw(reply.status);
                prop_assert!(matches!(status, Some(Status::BadRequest | Status::WrongSize)));
                prop_assert_eq!(reply.accepted, 0);
            }
            Parsed::More => prop_assert!(bytes.len() < REQUEST_LEN + ID_MAX + SHAPE.pixels()),
        }
    }

    /// What has been refused, or found whole, stays so whatever comes behind it.
    #[test]
    fn the_outcome_stands_once_it_is_known(bytes in bytes(), more in bytes()) {
        let parsed = parse_at(&bytes, 0);
        if parsed != Parsed::More {
            prop_assert_eq!(parse_at(&[bytes, more].concat(), 0), parsed);
        }
    }

    #[test]
    fn a_request_is_whole_with_its_last_byte(id in prop::collection::vec(any::<u8>(), 1..=ID_MAX)) {
        let whole = request(&id, |_| ());
        for len in 0..whole.len() {
            prop_assert_eq!(parse_at(&whole[..len], len / 2), Parsed::More);
        }
        let is_whole = matches!(parse_at(&whole, 40), Parsed::Request { len, .. } if len == whole.len());
        prop_assert!(is_whole);
    }

    #[test]
    fn what_is_longer_than_a_ring_is_refused(most in 0usize..200) {
        let whole = request(b"somebody", |_| ());
        let parsed = parse(&Bytes::new([&whole, &[]]), SHAPE, most);
        prop_assert_eq!(matches!(parsed, Parsed::Request { .. }), whole.len() <= most);
        prop_assert_eq!(matches!(parsed, Parsed::Refused(_)), whole.len() > most);
    }

    /// A header that is accepted leads nowhere outside of its file.
    #[test]
    fn accepted_headers_stay_within_the_file(
        fields in any::<[u32; 4]>(),
        (columns, rows) in (0u32..20, 0u32..20),
        (width, height) in prop_oneof![(0u32..300, 0u32..300), (any::<u32>(), any::<u32>())],
        method in 0u32..4,
        (slots, repairs) in (0u32..32, any::<[bool; 4]>()),
        hash in any::<u64>(),
    ) {
        let shape = Shape { width, height, columns, rows };
        let whole = Method::from_raw(method).and_then(|method| Header::new(shape, method));
        let [count, probes, stride, other] = fields;
        let mut header = Header { method, shape, count, probes, stride, ..whole.unwrap_or(Header::zeroed()) };
        header.slots = if repairs[0] { 1 << slots } else { other };
        // Else hardly any would be accepted.
        if repairs[1] {
            header.count = count.checked_rem(header.slots).unwrap_or(0);
            header.probes = probes.checked_rem(header.slots.min(PROBES_MAX)).unwrap_or(0);
        }
        header.stride = whole.filter(|_| repairs[2]).map_or(stride, |whole| whole.stride);
        let len = if header.slots < 1 << 31 && header.stride < 1 << 27 { header.file_len() } else { 0 };
        if let Ok(method) = header.check(len) {
            prop_assert!(header.count <= header.slots && header.probes <= header.slots);
            prop_assert!(shape.pixels() <= PIXELS_MAX as usize);
            let end_of_index = header.reference_at(0);
            for probe in [0, 1, header.probes] {
                let at = header.entry_at(hash, probe);
                prop_assert!(at >= INDEX_AT && at + size_of::<Entry>() as u64 <= end_of_index);
            }
            let reference = reference_len(shape, method).unwrap() as u64;
            if let Some(last) = header.count.checked_sub(1) {
                prop_assert!(header.reference_at(last) + reference <= len);
            }
            prop_assert!(Framed::new(&vec![0; shape.framed_len()], shape).is_some());
            prop_assert!(header.check(len + 1).is_err());
        }
    }

    #[test]
    fn entries_have_the_identities_they_were_made_of(id in prop::collection::vec(any::<u8>(), 0..80)) {
        match Entry::new(&id, 3) {
            Some(entry) => prop_assert_eq!(entry.id(), Some(&id[..])),
            None => prop_assert!(id.is_empty() || id.len() > ID_MAX),
        }
    }

    #[test]
    fn entries_of_any_bytes_have_an_identity_or_none(len in prop_oneof![0u32..70, any::<u32>()]) {
        let entry = Entry { len, ..Entry::zeroed() };
        prop_assert_eq!(entry.id().map(<[u8]>::len), Some(len as usize).filter(|len| *len <= ID_MAX));
    }
}
