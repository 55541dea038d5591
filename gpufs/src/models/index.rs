//! The indexes: a page is in them once, and is found as long as it is.

use super::check;
use super::std::sync::Arc;
use super::std::vec::Vec;
use crate::frame::{Frame, PageKey};
use crate::index::{Entry, HashIndex, PageIndex, RadixIndex};
use crate::inflight::InFlight;
use loom::thread;

/// What entries name, and how the cache looks at it.
struct Named {
    records: [InFlight; 3],
    frames: [Frame; 2],
}

impl Named {
    fn new() -> Arc<Named> {
        Arc::new(Named {
            records: core::array::from_fn(|_| InFlight::for_model()),
            frames: core::array::from_fn(|_| Frame::new()),
        })
    }

    fn has(&self, entry: Entry, key: PageKey) -> bool {
        let number = entry.number() as usize;
        if entry.is_in_flight() {
            self.records[number].has_key(key.0)
        } else {
            self.frames[number].holds(key)
        }
    }

    /// `Fs::begin`.
    fn begin<I: PageIndex>(&self, index: I, key: PageKey, cell: u32) -> bool {
        self.records[cell as usize].set_key(key.0);
        let begun = index.insert(key, Entry::in_flight(cell), |entry| self.has(entry, key));
        if !begun {
            self.records[cell as usize].set_key(0);
        }
        begun
    }

    /// `Fs::publish_page`, and the first lines of `Fs::retire`.
    fn publish<I: PageIndex>(&self, index: I, key: PageKey, cell: u32, frame: u32) {
        self.frames[frame as usize].take_free();
        self.frames[frame as usize].publish(key, 1, 1);
        index.replace(key, Entry::in_flight(cell), Entry::frame(frame));
        self.records[cell as usize].set_key(0);
    }

    fn found<I: PageIndex>(&self, index: I, key: PageKey) -> Option<Entry> {
        index.find(key, |entry| self.has(entry, key).then_some(entry))
    }
}

/// Three keys that hash to one bucket of a table of two, each with room for one.
fn neighbours(index: &HashIndex) -> [PageKey; 3] {
    let mut keys = (1..).map(|page| PageKey::new(1, page)).filter(|key| index.home(*key) == 0);
    core::array::from_fn(|_| keys.next().unwrap())
}

fn never_twice<I: PageIndex + Send>(index: I) {
    let key = PageKey::new(1, 1);
    let named = Named::new();
    assert!(named.begin(index, key, 0));
    let other = named.clone();
    let other = thread::spawn(move || other.begin(index, key, 1));
    named.publish(index, key, 0, 0);
    assert!(!other.join().unwrap(), "the page is there twice");
    assert_eq!(named.found(index, key), Some(Entry::frame(0)));
}

/// Somebody wants a page in the moment in which its fetch ends.
#[test]
fn a_page_is_never_twice_in_the_index() {
    check(None, || never_twice(HashIndex::for_model(1)));
    check(None, || never_twice(RadixIndex::for_model(1, 6)));
}

fn one_of_two<I: PageIndex + Send>(index: I) {
    let key = PageKey::new(1, 1);
    let named = Named::new();
    let other = named.clone();
    let other = thread::spawn(move || other.begin(index, key, 1));
    let mine = named.begin(index, key, 0);
    let others = other.join().unwrap();
    assert!(mine != others);
    let entry = Entry::in_flight(u32::from(others));
    assert_eq!(named.found(index, key), Some(entry));
    index.remove(key, entry);
    assert_eq!(named.found(index, key), None);
}

/// Two who want the same missing page.
#[test]
fn of_two_who_insert_one_does() {
    check(None, || one_of_two(HashIndex::for_model(1)));
    check(None, || one_of_two(RadixIndex::for_model(1, 6)));
}

/// A stray is found while others of its bucket come and go.
#[test]
fn a_stray_is_found_whatever_its_bucket_does() {
    check(Some(3), || {
        let index = HashIndex::for_model(4);
        let [first, stray, third] = neighbours(&index);
        let named = Named::new();
        assert!(named.begin(index, first, 0));
        assert!(named.begin(index, stray, 1));
        let finder = named.clone();
        let finder = thread::spawn(move || finder.found(index, stray));
        index.remove(first, Entry::in_flight(0));
        named.records[0].set_key(0);
        assert!(named.begin(index, third, 2));
        assert_eq!(finder.join().unwrap(), Some(Entry::in_flight(1)));
        let all: Vec<_> = [first, stray, third].map(|key| named.found(index, key)).into();
        assert_eq!(all, [None, Some(Entry::in_flight(1)), Some(Entry::in_flight(2))]);
    });
}

/// A page is found while its tree is raised above it, and pages beside it come and go; and while
/// other trees take nodes from the pool and give them back.
#[test]
fn a_page_is_found_whatever_its_tree_does() {
    let [low, beside, high] = [0, 1, 64].map(|page| PageKey::new(1, page));
    check(Some(3), move || {
        let index = RadixIndex::for_model(3, 6);
        let named = Named::new();
        assert!(named.begin(index, low, 0));
        let finder = named.clone();
        let finder = thread::spawn(move || finder.found(index, low));
        assert!(named.begin(index, beside, 1));
        index.remove(beside, Entry::in_flight(1));
        assert!(named.begin(index, high, 2));
        named.publish(index, low, 0, 0);
        let found = finder.join().unwrap();
        assert!(found == Some(Entry::in_flight(0)) || found == Some(Entry::frame(0)));
        assert_eq!(named.found(index, low), Some(Entry::frame(0)));
        assert_eq!(named.found(index, beside), None);
        assert_eq!(named.found(index, high), Some(Entry::in_flight(2)));
    });
    check(Some(3), move || {
        let index = RadixIndex::for_model(3, 3);
        let elsewhere = PageKey::new(2, 0);
        let named = Named::new();
        assert!(named.begin(index, low, 0));
        let finder = named.clone();
        let finder = thread::spawn(move || finder.found(index, low));
        // The node that leaves this tree comes to the other one.
        index.remove(low, Entry::in_flight(0));
        named.records[0].set_key(0);
        assert!(named.begin(index, elsewhere, 1));
        // Gone or not, it is no other page.
        let found = finder.join().unwrap();
        assert!(found.is_none() || found == Some(Entry::in_flight(0)));
        assert_eq!(named.found(index, low), None);
        assert_eq!(named.found(index, elsewhere), Some(Entry::in_flight(1)));
    });
}
