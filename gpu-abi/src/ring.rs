//! The order in which the words of a ring and of a completion cell are written and read.
//!
//! ```text
//!   device                                              host
//!   ------                                              ----
//!   ticket t = tail++            (device memory)
//!   wait until t - head < N  <----- acquire / release -- head = h + 1   (entry copied out)
//!   entry[t % N] = request
//!   entry[t % N].seq = t + 1 ------ release / acquire -> entry[h % N].seq == h + 1 ?
//!                                                       serve it
//!   cell.seq == tag ?  <----------- acquire / release -- cell = answer; cell.seq = tag
//! ```
//!
//! Every word has one writer: `head` and the cells are the host's, the entries the device's.

use crate::Errno;
use crate::request::{Completion, Request};
use crate::words::{Atomics, Word32, Word64};

/// A ring entry as the two sides share it: a [`Request`] in words.
#[repr(C, align(64))]
pub struct Entry<A: Atomics> {
    seq: A::U32,
    op: A::U32,
    body: [A::U64; 7],
}

impl<A: Atomics> Entry<A> {
    /// Clause S3. Writes the request, then its sequence word for `ticket`.
    #[inline]
    pub fn publish(&self, ticket: u32, request: &Request) {
        let words: &[u64; 8] = bytemuck::cast_ref(request);
        self.op.store_relaxed((words[0] >> 32) as u32);
        for (word, value) in self.body.iter().zip(&words[1..]) {
            word.store_relaxed(*value);
        }
        // Pairs with the acquire load in `take`: without it the host could copy stale words.
        self.seq.store_release(ticket.wrapping_add(1));
    }

    /// Clause S4. A copy of the request with ticket `head`, if it has been published.
    #[inline]
    pub fn take(&self, head: u32) -> Option<Request> {
        let seq = head.wrapping_add(1);
        // Pairs with the release store in `publish`.
        if self.seq.load_acquire() != seq {
            return None;
        }
        let mut words = [0u64; 8];
        words[0] = u64::from(self.op.load_relaxed()) << 32 | u64::from(seq);
        for (value, word) in words[1..].iter_mut().zip(&self.body) {
            *value = word.load_relaxed();
        }
        Some(bytemuck::cast(words))
    }
}

/// The line before a shard's entries.
#[repr(C, align(64))]
pub struct ShardLine<A: Atomics> {
    /// Requests that the host has copied out, modulo 2^32. Written by the host.
    pub head: A::U32,
}

/// Clause S2. Whether the entry of `ticket` is free, given a value of `head` that is or was true.
#[inline]
pub fn has_room(ticket: u32, head: u32, ring_entries: u32) -> bool {
    // `head` never passes a ticket that waits, so the difference is a true distance; an old `head`
    // makes it larger, never smaller.
    ticket.wrapping_sub(head) < ring_entries
}

/// The host's place in one shard.
pub struct Consumer<'a, A: Atomics> {
    line: &'a ShardLine<A>,
    entries: &'a [Entry<A>],
    head: u32,
}

impl<'a, A: Atomics> Consumer<'a, A> {
    /// At `head` (0 for a fresh region) of a ring whose length is a power of two.
    pub fn new(line: &'a ShardLine<A>, entries: &'a [Entry<A>], head: u32) -> Self {
        assert!(entries.len().is_power_of_two());
        Consumer { line, entries, head }
    }

    /// Copies the next request out, if one is there. Its entry is free after [`Consumer::release`].
    #[inline]
    pub fn take(&mut self) -> Option<Request> {
        let request =
            self.entries[self.head as usize & (self.entries.len() - 1)].take(self.head)?;
        self.head = self.head.wrapping_add(1);
        Some(request)
    }

    /// Whether a request waits to be taken.
    #[inline]
    pub fn is_ready(&self) -> bool {
        let entry = &self.entries[self.head as usize & (self.entries.len() - 1)];
        // Relaxed: a hint; `take` looks again.
        entry.seq.load_relaxed() == self.head.wrapping_add(1)
    }

    /// Clause S5. Frees the entries of all requests taken so far.
    #[inline]
    pub fn release(&self) {
        // Pairs with the device's acquire load of `head` (clause S2): without it a new request
        // could overwrite words that `take` is still reading.
        self.line.head.store_release(self.head);
    }

    /// Requests taken since the region was laid out, modulo 2^32.
    pub fn head(&self) -> u32 {
        self.head
    }
}

/// A completion cell as the two sides share it.
#[repr(C, align(64))]
pub struct Cell<A: Atomics> {
    seq: A::U32,
    errno: A::U32,
    body: [A::U64; 7],
}

impl<A: Atomics> Cell<A> {
    /// Clause C2. Writes the answer, then the sequence word.
    #[inline]
    pub fn complete(&self, tag: u32, completion: &Completion) {
        let words: &[u64; 8] = bytemuck::cast_ref(completion);
        self.errno.store_relaxed((words[0] >> 32) as u32);
        for (word, value) in self.body.iter().zip(&words[1..]) {
            word.store_relaxed(*value);
        }
        // Pairs with the acquire load in `poll`, and covers the data of the transfer slot too:
        // without it the device could read a half-written answer or buffer.
        self.seq.store_release(tag);
    }

    /// Clause C3. The answer to the request with this tag, once it is there.
    #[inline]
    pub fn poll(&self, tag: u32) -> Option<Completion> {
        // Pairs with the release store in `complete`.
        (self.seq.load_acquire() == tag).then(|| self.answer(tag))
    }

    /// The answer to the request with this tag, once an acquire load of [`Cell::seq`] has shown the
    /// tag.
    #[inline]
    pub fn answer(&self, tag: u32) -> Completion {
        let mut words = [0u64; 8];
        words[0] = u64::from(self.errno.load_relaxed()) << 32 | u64::from(tag);
        for (value, word) in words[1..].iter_mut().zip(&self.body) {
            *value = word.load_relaxed();
        }
        bytemuck::cast(words)
    }

    /// As [`Cell::answer`], no more than the value or the failure: for a device, each word of a cell
    /// is a read over the bus.
    #[inline]
    pub fn result(&self) -> Result<u64, Errno> {
        Errno::check(self.errno.load_relaxed())?;
        Ok(self.body[0].load_relaxed())
    }

    /// The sequence word itself, for a side that waits on it.
    #[inline]
    pub fn seq(&self) -> &A::U32 {
        &self.seq
    }
}

/// Under the model checker words are no plain memory: they have to be made.
#[cfg(loom)]
mod model {
    use super::{Cell, Entry, ShardLine};
    use crate::words::HostAtomics;
    use loom::sync::atomic::{AtomicU32, AtomicU64};

    impl Default for Entry<HostAtomics> {
        fn default() -> Self {
            let body = core::array::from_fn(|_| AtomicU64::new(0));
            Entry { seq: AtomicU32::new(0), op: AtomicU32::new(0), body }
        }
    }

    impl Default for Cell<HostAtomics> {
        fn default() -> Self {
            let body = core::array::from_fn(|_| AtomicU64::new(0));
            Cell { seq: AtomicU32::new(0), errno: AtomicU32::new(0), body }
        }
    }

    impl Default for ShardLine<HostAtomics> {
        fn default() -> Self {
            ShardLine { head: AtomicU32::new(0) }
        }
    }
}

#[cfg(not(loom))]
const _: () = {
    use crate::words::HostAtomics;
    assert!(size_of::<Entry<HostAtomics>>() == 64);
    assert!(size_of::<ShardLine<HostAtomics>>() == 64);
    assert!(size_of::<Cell<HostAtomics>>() == 64);
};
