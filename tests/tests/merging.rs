//! Several devices and the host write bytes of the same pages at the same time: all of them survive.

use conformance::HashClock;
use conformance::device::{pattern, stripes};
use conformance::host::{Bench, Tree, emulated};
use gpu_host::Session;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

fn device(page: u32, frames: u64, direct: bool) -> Bench<HashClock> {
    let session = Session::builder()
        .emulated(emulated())
        .device_memory(64 << 20)
        .page_size(page)
        .cache_size(frames * u64::from(page))
        .direct(direct)
        .build_with()
        .unwrap_or_else(|e| panic!("{e}"));
    Bench { session }
}

/// Piece `i` of the file is written by share `i` modulo their number; the last share is the host's.
fn merge(seed: u64, page: u32, frames: u64, direct: bool, piece: u64, len: u64, how: u64) {
    const DEVICES: u64 = 4;
    // A view pins all of its pages and as many twins: there must be room for every thread's.
    let pins = 12 * 2 * (piece / u64::from(page) + 2);
    let frames = if how & 1 << 16 != 0 { frames.max(pins) } else { frames };
    let shares = DEVICES + 1;
    let tree = Tree::new();
    let path: PathBuf = tree.path("file");
    // Views need the file to be there, and its old bytes must not come back.
    std::fs::write(&path, vec![0xee; len as usize]).expect("there is room");
    let devices: Vec<_> = (0..DEVICES).map(|_| device(page, frames, direct)).collect();
    std::thread::scope(|scope| {
        for (share, bench) in (0..).zip(&devices) {
            let path = &path;
            scope.spawn(move || {
                let params = [seed, piece, len, shares | share << 8 | how];
                bench
                    .storm((1, 12), stripes::PROGRAM_STRIPES, std::slice::from_ref(path), params)
                    .assert_clean(12);
            });
        }
        let file = std::fs::File::options().write(true).open(&path).expect("it is there");
        for at in (DEVICES * piece..len).step_by((shares * piece) as usize) {
            let bytes: Vec<u8> = (at..(at + piece).min(len)).map(|at| pattern(seed, at)).collect();
            file.write_all_at(&bytes, at).expect("there is room");
        }
    });
    let bytes = std::fs::read(&path).expect("it is there");
    let wrong = (0..).zip(&bytes).find(|(at, byte)| **byte != pattern(seed, *at));
    assert_eq!(
        (bytes.len() as u64, wrong),
        (len, None),
        "pieces of {piece}, pages of {page}, {how:#x}"
    );
    // Each device sees what the others have written when it opens the file again.
    for bench in &devices {
        let params = [seed, 4096, 0, 0];
        let storm = bench.storm(
            (1, 1),
            conformance::device::storms::PROGRAM_SEQUENTIAL,
            std::slice::from_ref(&path),
            params,
        );
        storm.assert_clean(1);
    }
}

#[test]
fn by_single_bytes() {
    merge(1, 4096, 16, true, 1, 10_000, 0);
    merge(2, 4096, 16, false, 1, 10_000, 1 << 16);
}

#[test]
fn by_odd_pieces() {
    for (i, piece) in [3, 37, 501].into_iter().enumerate() {
        for how in [0, 1 << 16, 1 << 17, 1 << 18, 3 << 17] {
            merge(how + i as u64, 4096, 14 + i as u64, i % 2 == 0, piece, 60_000, how);
        }
    }
}

/// Of 64 pages, each with gaps, 16 can have a map: the others take theirs, rather than being written gap by gap.
#[test]
fn maps_go_around() {
    let tree = Tree::new();
    let path = tree.path("file");
    const LEN: u64 = 64 << 12;
    std::fs::write(&path, vec![0xee; LEN as usize]).expect("there is room");
    let bench = device(4096, 80, true);
    let params = [9, 8, LEN, 2];
    bench
        .storm((1, 1), stripes::PROGRAM_STRIPES, std::slice::from_ref(&path), params)
        .assert_clean(1);
    let bytes = std::fs::read(&path).expect("it is there");
    let want = |at: u64| if (at / 8).is_multiple_of(2) { pattern(9, at) } else { 0xee };
    assert_eq!((0..).zip(&bytes).find(|(at, byte)| **byte != want(*at)), None);
    let stats = bench.stats();
    assert_eq!(stats.bytes_written, LEN / 2);
    // A page has 256 pieces, as many as one request takes.
    assert!(stats.writebacks <= 2 * 64 + 16, "{stats:?}");
}

#[test]
fn by_parts_of_large_pages() {
    merge(3, 65536, 20, true, 8192, 20 << 16, 0);
    merge(4, 65536, 20, false, 8192, 20 << 16, 1 << 17);
    merge(5, 2 << 20, 6, true, 300_000, 9 << 20, 0);
}
