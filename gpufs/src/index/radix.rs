//! A radix tree for each version of a file, over the page number.
//!
//! The structure that GPUfs gave each open file (M. Silberstein et al., "GPUfs: Integrating a File
//! System with GPUs", ASPLOS 2013, section 4.2); the concurrency control here is another.
//!
//! ```text
//!   roots: version ─▶ node          (a HashIndex)
//!
//!   page number, 32 bits:  | 2 | 6 | 6 | 6 | 6 | 6 |     height 1: pages 0…63
//!                            5   4   3   2   1   0       height 2: pages 0…4095, and so on
//!
//!   node (576 B):  | header: version, level | count | next free |      one line
//!                  | slot 0 | slot 1 | …              | slot 63 |      eight lines
//!     level > 0: slots hold child nodes of level - 1   (bit 62 and a number)
//!     level 0:   slots hold entries                    (bit 63 is set)
//! ```
//!
//! Rules:
//! 1. A tree has the height that its highest page needed, until it is empty. The root of a tree that
//!    grows becomes slot 0 of the new root.
//! 2. A node is in a tree as long as there is an entry below it: the last removal takes it out. So the
//!    nodes above an entry stay where they are while it is there: `find` walks without a lock,
//!    `replace` too.
//! 3. Inserting and removing happen under the lock that the version hashes to. Under it, and only
//!    then, at most one bucket lock of `roots` is taken; nothing waits for anything else.
//! 4. Nodes come from a pool and are never anything but nodes. A look-up of a key that is *not* there
//!    may walk on in a node that meanwhile serves another tree, and come out with an entry of that:
//!    the cache checks each entry's key. All it relies on is that level 0 yields entries and the
//!    other levels node numbers, which the words say themselves.
//!
//! Each entry needs a node of each of the six levels at worst, so that there are six for each: they
//! are memory, not work, and sequential files use a hundredth of it.

use super::{Entry, HashIndex, PageIndex};
use crate::frame::PageKey;
use gpu_rt::atomic::{DeviceAtomicU32, DeviceAtomicU64, Ordering};

/// Bits of the page number that one level takes.
const BITS: u32 = 6;
/// Slots of a node. A model checker gets along with few: its pages differ in few bits.
const SLOTS: usize = if cfg!(loom) { 2 } else { 1 << BITS };
/// Levels that a 32-bit page number can need.
const LEVELS: u32 = u32::BITS.div_ceil(BITS);
/// Locks; a version uses the one that it hashes to.
const LOCKS: usize = if cfg!(loom) { 2 } else { 64 };
/// Marks a slot that holds a child node. Entries have bit 63.
const CHILD: u64 = 1 << 62;

#[repr(C, align(64))]
struct Node {
    /// 63…32 the file's version, 31…0 the level.
    header: DeviceAtomicU64,
    /// Slots in use. Under the version's lock.
    count: DeviceAtomicU32,
    /// The next free node + 1, while this one is free.
    next: DeviceAtomicU32,
    slots: [DeviceAtomicU64; SLOTS],
}

#[repr(C, align(64))]
struct Lock(DeviceAtomicU32);

/// The pool of nodes: those never used, and those that came back.
#[repr(C, align(64))]
struct Pool {
    /// 63…32 a tag that changes with each push and pop, 31…0 node + 1.
    free: DeviceAtomicU64,
    /// Nodes that were never used begin here.
    fresh: DeviceAtomicU32,
    locks: [Lock; LOCKS],
}

/// See the module's documentation.
#[derive(Clone, Copy)]
pub struct RadixIndex {
    pool: *const Pool,
    nodes: *const Node,
    count: u32,
    roots: HashIndex,
}

// SAFETY: it points at atomic words only.
unsafe impl Send for RadixIndex {}
// SAFETY: it points at atomic words only.
unsafe impl Sync for RadixIndex {}

/// The version's lock, held; given back when dropped.
struct Guard<'a>(&'a DeviceAtomicU32);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // Release: pairs with the acquire in `RadixIndex::lock`.
        self.0.store(0, Ordering::Release);
    }
}

/// The slot of a page in a node of this level.
const fn digit(page: u32, level: u32) -> usize {
    (page >> (level * BITS)) as usize & (SLOTS - 1)
}

/// The level of the lowest root that covers a page.
const fn level_for(page: u32) -> u32 {
    (u32::BITS - (page | 1).leading_zeros() - 1) / BITS
}

/// The number of the node in a slot, if one is there.
const fn child(word: u64) -> Option<u32> {
    if word & (Entry::OCCUPIED | CHILD) == CHILD { Some(word as u32) } else { None }
}

/// A version as the key of `roots`.
const fn root_key(version: u32) -> PageKey {
    PageKey(version as u64)
}

impl RadixIndex {
    const fn node_count(capacity: u32) -> u64 {
        capacity as u64 * LEVELS as u64
    }

    fn pool(&self) -> &Pool {
        // SAFETY: `at`'s caller vouched for the memory; it is made of atomic words.
        unsafe { &*self.pool }
    }

    fn node(&self, index: u32) -> &Node {
        assert!(index < self.count);
        // SAFETY: in range of the memory that `at`'s caller vouched for; atomic words.
        unsafe { &*self.nodes.add(index as usize) }
    }

    fn lock(&self, version: u32) -> Guard<'_> {
        let Lock(word) = &self.pool().locks[version.wrapping_mul(0x9e37_79b9) as usize % LOCKS];
        // Acquire: pairs with the release in `Guard::drop`.
        while word.load(Ordering::Relaxed) != 0
            || word.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err()
        {
            gpu_rt::relax();
        }
        Guard(word)
    }

    /// A node of the pool with empty slots, for a place in a version's tree.
    fn take_node(&self, version: u32, level: u32) -> u32 {
        let free = &self.pool().free;
        // Acquire, here and below: pairs with the release in `put_node`.
        let mut head = free.load(Ordering::Acquire);
        let index = loop {
            let Some(index) = (head as u32).checked_sub(1) else {
                break self.pool().fresh.fetch_add(1, Ordering::Relaxed);
            };
            let next = self.node(index).next.load(Ordering::Relaxed);
            let new = ((head >> 32).wrapping_add(1) << 32) | u64::from(next);
            match free.compare_exchange(head, new, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => break index,
                Err(now) => head = now,
            }
        };
        // Published by the release store of whatever slot or root will name it.
        let header = (u64::from(version) << 32) | u64::from(level);
        self.node(index).header.store(header, Ordering::Relaxed);
        index
    }

    /// Gives a node back whose slots are empty and that nothing names any more.
    fn put_node(&self, index: u32) {
        let free = &self.pool().free;
        // Not a root of any version.
        self.node(index).header.store(0, Ordering::Relaxed);
        let mut head = free.load(Ordering::Relaxed);
        loop {
            self.node(index).next.store(head as u32, Ordering::Relaxed);
            let new = ((head >> 32).wrapping_add(1) << 32) | u64::from(index + 1);
            // Release: pairs with the acquire in `take_node`.
            match free.compare_exchange(head, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// The root of a version's tree, and its level.
    fn root(&self, version: u32) -> Option<(u32, u32)> {
        self.roots.find(root_key(version), |entry| {
            // Relaxed: `find` acquired what came before the entry.
            let header = self.node(entry.number()).header.load(Ordering::Relaxed);
            (header >> 32 == u64::from(version)).then_some((entry.number(), header as u32))
        })
    }

    /// The slot of a page, if all nodes down to it are there.
    fn slot(&self, key: PageKey) -> Option<&DeviceAtomicU64> {
        let (root, level) = self.root(key.version())?;
        let page = key.page();
        if level_for(page) > level {
            return None;
        }
        let mut node = self.node(root);
        for level in (1..=level).rev() {
            // Acquire: pairs with the release in `set`, for the child's slots.
            node = self.node(child(node.slots[digit(page, level)].load(Ordering::Acquire))?);
        }
        Some(&node.slots[digit(page, 0)])
    }

    /// Fills an empty slot. Under the version's lock.
    fn set(&self, node: u32, slot: usize, word: u64) {
        let node = self.node(node);
        node.count.store(node.count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        // Release: pairs with the acquires in `slot` and `find`.
        node.slots[slot].store(word, Ordering::Release);
    }

    /// Empties a slot; whether it was the node's last. Under the version's lock.
    fn clear(&self, node: u32, slot: usize) -> bool {
        let node = self.node(node);
        let count = node.count.load(Ordering::Relaxed) - 1;
        node.count.store(count, Ordering::Relaxed);
        node.slots[slot].store(0, Ordering::Relaxed);
        count == 0
    }

    /// The root of a tree that covers `page`: made, or raised, as needed. Under the version's lock.
    fn root_for(&self, version: u32, page: u32) -> (u32, u32) {
        let key = root_key(version);
        let level = level_for(page);
        let Some((mut root, mut top)) = self.root(version) else {
            let root = self.take_node(version, level);
            // Nobody else inserts this key: that takes the lock.
            self.roots.insert(key, Entry::frame(root), |_| false);
            return (root, level);
        };
        while top < level {
            let raised = self.take_node(version, top + 1);
            self.set(raised, 0, CHILD | u64::from(root));
            self.roots.replace(key, Entry::frame(root), Entry::frame(raised));
            (root, top) = (raised, top + 1);
        }
        (root, top)
    }
}

impl PageIndex for RadixIndex {
    fn bytes(capacity: u32) -> usize {
        size_of::<Pool>()
            + HashIndex::bytes(capacity)
            + Self::node_count(capacity) as usize * size_of::<Node>()
    }

    unsafe fn at(base: *mut u8, capacity: u32) -> Self {
        assert!(Self::node_count(capacity) < 1 << 32, "an index of this kind has fewer pages");
        // SAFETY: the parts lie within `bytes(capacity)`, one after the other.
        let (roots, nodes) = unsafe {
            let roots = base.add(size_of::<Pool>());
            (roots, roots.add(HashIndex::bytes(capacity)))
        };
        RadixIndex {
            pool: base.cast(),
            nodes: nodes.cast(),
            count: Self::node_count(capacity) as u32,
            // SAFETY: zeroed memory of that size, and multiples of 64 from an aligned base.
            roots: unsafe { HashIndex::at(roots, capacity) },
        }
    }

    #[inline]
    fn find<R>(&self, key: PageKey, mut check: impl FnMut(Entry) -> Option<R>) -> Option<R> {
        let slot = self.slot(key)?;
        loop {
            // Acquire: pairs with the releases in `set` and `replace`, so that what the entry names
            // is seen.
            let word = slot.load(Ordering::Acquire);
            if word & Entry::OCCUPIED == 0 {
                return None;
            }
            if let Some(found) = check(Entry(word)) {
                return Some(found);
            }
            // Replaced meanwhile: look at what stands there now (rule 4 of `PageIndex`).
            if slot.load(Ordering::Relaxed) == word {
                return None;
            }
        }
    }

    fn insert(&self, key: PageKey, entry: Entry, _: impl FnMut(Entry) -> bool) -> bool {
        let (version, page) = (key.version(), key.page());
        let _guard = self.lock(version);
        let (mut node, top) = self.root_for(version, page);
        for level in (1..=top).rev() {
            let slot = digit(page, level);
            // Relaxed: written under the lock.
            let word = self.node(node).slots[slot].load(Ordering::Relaxed);
            node = child(word).unwrap_or_else(|| {
                let child = self.take_node(version, level - 1);
                self.set(node, slot, CHILD | u64::from(child));
                child
            });
        }
        let slot = digit(page, 0);
        // A slot is one key's: no need to ask whether what is there is the same.
        if self.node(node).slots[slot].load(Ordering::Relaxed) != 0 {
            return false;
        }
        self.set(node, slot, entry.0);
        true
    }

    fn replace(&self, key: PageKey, old: Entry, new: Entry) {
        // The owner's entry is there, and thus all nodes above it (rule 2).
        let Some(slot) = self.slot(key) else {
            unreachable!("replaced an entry that was never inserted")
        };
        debug_assert!(slot.load(Ordering::Relaxed) == old.0);
        // Release: pairs with the acquire in `find`.
        slot.store(new.0, Ordering::Release);
    }

    fn remove(&self, key: PageKey, entry: Entry) {
        let (version, page) = (key.version(), key.page());
        let _guard = self.lock(version);
        let Some((root, top)) = self.root(version) else {
            unreachable!("removed an entry that was never inserted")
        };
        let mut path = [root; LEVELS as usize];
        for level in (1..=top).rev() {
            let word =
                self.node(path[level as usize]).slots[digit(page, level)].load(Ordering::Relaxed);
            let Some(below) = child(word) else {
                unreachable!("removed an entry that was never inserted")
            };
            path[level as usize - 1] = below;
        }
        debug_assert!(self.node(path[0]).slots[digit(page, 0)].load(Ordering::Relaxed) == entry.0);
        // Clearing a node's slot takes the node below out of the tree.
        let mut emptied = 0;
        while emptied <= top && self.clear(path[emptied as usize], digit(page, emptied)) {
            emptied += 1;
        }
        if emptied > top {
            self.roots.remove(root_key(version), Entry::frame(root));
        }
        for node in &path[..emptied as usize] {
            self.put_node(*node);
        }
    }
}

#[cfg(all(test, loom))]
impl RadixIndex {
    /// An index in memory of its own, which stays, of this many nodes.
    pub(crate) fn for_model(capacity: u32, count: u32) -> Self {
        extern crate std;
        let node = |_| Node {
            header: DeviceAtomicU64::new(0),
            count: DeviceAtomicU32::new(0),
            next: DeviceAtomicU32::new(0),
            slots: core::array::from_fn(|_| DeviceAtomicU64::new(0)),
        };
        let nodes: std::vec::Vec<_> = (0..count).map(node).collect();
        let pool = std::boxed::Box::new(Pool {
            free: DeviceAtomicU64::new(0),
            fresh: DeviceAtomicU32::new(0),
            locks: core::array::from_fn(|_| Lock(DeviceAtomicU32::new(0))),
        });
        RadixIndex {
            pool: std::boxed::Box::leak(pool),
            nodes: nodes.leak().as_ptr(),
            count,
            roots: HashIndex::for_model(capacity),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    extern crate std;
    use super::*;
    use std::collections::HashMap;
    use std::vec::Vec;

    #[derive(Clone, Copy)]
    #[repr(C, align(64))]
    struct Line([u64; 8]);

    fn index(capacity: u32) -> (Vec<Line>, RadixIndex) {
        let bytes = RadixIndex::bytes(capacity);
        assert_eq!(bytes % 64, 0);
        let mut memory = std::vec![Line([0; 8]); bytes / 64];
        // SAFETY: zeroed lines, as many as it needs, that outlive the index and that it alone uses.
        let index = unsafe { RadixIndex::at(memory.as_mut_ptr().cast(), capacity) };
        (memory, index)
    }

    fn free_nodes(index: &RadixIndex) -> u32 {
        let mut free = index.count - index.pool().fresh.load(Ordering::Relaxed);
        let mut next = index.pool().free.load(Ordering::Relaxed) as u32;
        while let Some(node) = next.checked_sub(1) {
            assert_eq!(index.node(node).count.load(Ordering::Relaxed), 0);
            let mut slots = index.node(node).slots.iter();
            assert!(slots.all(|slot| slot.load(Ordering::Relaxed) == 0));
            free += 1;
            next = index.node(node).next.load(Ordering::Relaxed);
        }
        free
    }

    #[test]
    fn a_page_number_needs_the_levels_it_needs() {
        for (page, level) in
            [(0, 0), (63, 0), (64, 1), (4095, 1), (4096, 2), (1 << 30, 5), (u32::MAX, 5)]
        {
            assert_eq!(level_for(page), level, "{page}");
            assert!(digit(page, level) != 0 || page == 0, "{page}");
        }
    }

    #[test]
    fn behaves_like_a_map_and_gives_all_nodes_back() {
        const CAPACITY: u32 = 24;
        let (_memory, index) = index(CAPACITY);
        let mut model: HashMap<u64, u32> = HashMap::new();
        let mut owner = [0u64; CAPACITY as usize];
        let mut seed = 1u64;
        for step in 0..300_000u32 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            // Few versions; pages of every height.
            let page = ((seed >> 40) as u32 & 0xff) << ((seed >> 33) % 25);
            let key = PageKey::new((seed >> 60) as u32 % 5 + 1, page);
            let frame = (seed >> 20) as u32 % CAPACITY;
            let found =
                index.find(key, |e| (owner[e.number() as usize] == key.0).then_some(e.number()));
            assert_eq!(found, model.get(&key.0).copied(), "step {step}");
            match found {
                Some(n) => {
                    index.remove(key, Entry::frame(n));
                    owner[n as usize] = 0;
                    model.remove(&key.0);
                }
                None if owner[frame as usize] == 0 => {
                    assert!(index.insert(key, Entry::in_flight(frame), |_| false));
                    index.replace(key, Entry::in_flight(frame), Entry::frame(frame));
                    owner[frame as usize] = key.0;
                    model.insert(key.0, frame);
                    assert!(!index.insert(key, Entry::frame(99), |_| true));
                }
                None => {
                    // Make room for others.
                    let key = PageKey(core::mem::take(&mut owner[frame as usize]));
                    index.remove(key, Entry::frame(frame));
                    model.remove(&key.0);
                }
            }
        }
        for (key, frame) in model {
            index.remove(PageKey(key), Entry::frame(frame));
        }
        assert_eq!(free_nodes(&index), index.count);
    }

    #[test]
    fn the_pool_is_enough_for_the_worst_there_can_be() {
        const CAPACITY: u32 = 16;
        let (_memory, index) = index(CAPACITY);
        // The farthest page of as many files as there can be.
        for round in 0..3 {
            for n in 0..CAPACITY {
                let key = PageKey::new(n + 1 + round, u32::MAX - n);
                assert!(index.insert(key, Entry::frame(n), |_| false));
            }
            assert_eq!(free_nodes(&index), 0);
            for n in 0..CAPACITY {
                index.remove(PageKey::new(n + 1 + round, u32::MAX - n), Entry::frame(n));
            }
        }
    }
}
