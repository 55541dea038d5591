//! Either side's stand-in, for tests, benchmarks and fuzzers of the other.
//!
//! [`MockDevice`] posts any request whatever, well-formed or hostile, from one host thread.
//! [`MockHost`] serves a region with a closure.

use crate::ring::{Consumer, has_room};
use crate::words::{HostAtomics, Word32};
use crate::{Completion, Region, Request};

/// Plays the device on one shard: takes tickets, posts, polls cells.
pub struct MockDevice {
    region: Region<HostAtomics>,
    shard: u32,
    tail: u32,
}

impl MockDevice {
    /// The only device on `shard` of a fresh region.
    pub fn new(region: Region<HostAtomics>, shard: u32) -> MockDevice {
        MockDevice { region, shard, tail: 0 }
    }

    /// The region it posts to.
    pub fn region(&self) -> &Region<HostAtomics> {
        &self.region
    }

    /// Posts a request as it is, except for its sequence word; `false` if the ring is full.
    pub fn post(&mut self, request: &Request) -> bool {
        // Acquire: pairs with the host's release of `head` (clause S5).
        let head = self.region.shard(self.shard).head.load_acquire();
        if !has_room(self.tail, head, self.region.layout().config.ring_entries) {
            return false;
        }
        self.region.entry(self.shard, self.tail).publish(self.tail, request);
        self.tail = self.tail.wrapping_add(1);
        true
    }

    /// The answer in `cell` to the request tagged `tag`, once it is there.
    pub fn poll(&self, cell: u32, tag: u32) -> Option<Completion> {
        self.region.cell(cell)?.poll(tag)
    }
}

/// Plays the host on all shards: calls a closure for each request.
pub struct MockHost<'a> {
    region: Region<HostAtomics>,
    shards: [Option<Consumer<'a, HostAtomics>>; 16],
}

impl MockHost<'_> {
    /// The only host of a fresh region (its first 16 shards).
    pub fn new(region: Region<HostAtomics>) -> Self {
        let count = region.layout().config.shards as usize;
        let shards = core::array::from_fn(|i| (i < count).then(|| region.consumer(i as u32, 0)));
        MockHost { region, shards }
    }

    /// Serves all that waits; how many that was. Requests with no cell get no answer.
    pub fn serve(&mut self, mut answer: impl FnMut(&Request) -> Completion) -> usize {
        let mut served = 0;
        for consumer in self.shards.iter_mut().flatten() {
            while let Some(request) = consumer.take() {
                consumer.release();
                let completion = answer(&request);
                if let Some(cell) = self.region.cell(request.cell) {
                    cell.complete(request.tag, &completion);
                }
                served += 1;
            }
        }
        served
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    extern crate std;
    use super::*;
    use crate::request::Op;
    use crate::{RegionConfig, RegionLayout};
    use bytemuck::Zeroable;
    use core::ptr::NonNull;
    use std::alloc::{Layout, alloc_zeroed, dealloc};

    struct Memory(NonNull<u8>, Layout);
    impl Drop for Memory {
        fn drop(&mut self) {
            // SAFETY: allocated with this layout.
            unsafe { dealloc(self.0.as_ptr(), self.1) }
        }
    }

    fn region(ring_entries: u32) -> (Memory, Region<HostAtomics>) {
        let config =
            RegionConfig { shards: 1, ring_entries, slots: 2, calls: 2, ..Default::default() };
        let layout = RegionLayout::new(config).unwrap();
        let alloc = Layout::from_size_align(layout.total, 4096).unwrap();
        // SAFETY: the size is not zero.
        let base = NonNull::new(unsafe { alloc_zeroed(alloc) }).unwrap();
        // SAFETY: fresh zeroed memory of that size and alignment; `Memory` outlives the region.
        (Memory(base, alloc), unsafe { Region::create(base, layout) })
    }

    fn nop(tag: u32) -> Request {
        Request { op: Op::Nop as u8, cell: 2, tag, ..Request::zeroed() }
    }

    #[test]
    fn s2_a_full_ring_takes_no_more_until_the_host_frees_an_entry() {
        let (_memory, region) = region(4);
        let mut device = MockDevice::new(region, 0);
        let mut host = MockHost::new(region);
        for round in 0..10 {
            for i in 0..4 {
                assert!(device.post(&nop(round * 4 + i + 1)));
            }
            assert!(!device.post(&nop(99)));
            assert_eq!(host.serve(|_| Completion::of(Ok(0))), 4);
        }
    }

    #[test]
    fn s3_s4_c2_c3_what_was_asked_is_what_is_answered() {
        let (_memory, region) = region(4);
        let mut device = MockDevice::new(region, 0);
        let mut host = MockHost::new(region);
        assert_eq!(host.serve(|_| unreachable!("nothing was posted")), 0);
        for tag in 1..100 {
            let sent = Request { offset: tag as u64 * 3, ..nop(tag) };
            assert!(device.post(&sent));
            assert!(device.poll(2, tag).is_none());
            let mut seen = None;
            host.serve(|r| {
                seen = Some(*r);
                Completion::of(Ok(r.offset))
            });
            assert_eq!(seen, Some(Request { seq: tag, ..sent }));
            assert_eq!(device.poll(2, tag).unwrap().result(), Ok(tag as u64 * 3));
        }
    }

    #[test]
    fn s1_tickets_may_wrap() {
        let (_memory, region) = region(4);
        let start = u32::MAX - 1;
        for old in 1..=4 {
            region.entry(0, start.wrapping_sub(old)).publish(start.wrapping_sub(old), &nop(0));
        }
        let mut consumer = region.consumer(0, start);
        consumer.release();
        let mut device = MockDevice { region, shard: 0, tail: start };
        for tag in 0..8 {
            assert!(device.post(&nop(tag)));
            assert_eq!(consumer.take().unwrap().tag, tag);
            assert!(consumer.take().is_none());
            consumer.release();
        }
    }
}
