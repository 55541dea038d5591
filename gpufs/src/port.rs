//! Requests: from a claimed completion cell to the answer in it.
//!
//! The steps follow `docs/protocol.md`; clause ids are given where they are met.

use crate::evict::Eviction;
use crate::index::PageIndex;
use crate::mount::Fs;
use crate::stats::Count;
use gpu_abi::layout::state;
use gpu_abi::request::CELL_NONE;
use gpu_abi::ring::{Cell, has_room};
use gpu_abi::{Completion, Errno, Op, Region, Request, Word32};
use gpu_rt::atomic::SystemAtomics;
use gpu_rt::atomic::{DeviceAtomicU32, Ordering, fence_system};
use gpu_rt::{Group, GroupKind, Thread, Warp};

/// How long a wait goes on before it looks whether the host lives.
const SLICE_NS: u64 = 50_000_000;
/// A host whose heartbeat stands still for so many slices is taken for dead (clause H2).
const DEAD_AFTER_SLICES: u32 = 60;

/// The device's side of one shard, in device memory.
#[repr(C, align(64))]
pub(crate) struct Tail {
    /// The next ticket.
    tickets: DeviceAtomicU32,
    /// The host's `head` as last read: spares a read over the bus while there is room.
    head: DeviceAtomicU32,
}

/// Which completion cells a request takes one of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pool {
    /// Those with a transfer slot.
    Slots,
    /// Those without.
    Calls,
}

/// Decides when a wait has become hopeless.
pub(crate) struct Patience {
    heartbeat: u32,
    slices: u32,
    until: u64,
}

impl Patience {
    pub(crate) fn new() -> Patience {
        Patience { heartbeat: 0, slices: 0, until: 0 }
    }

    /// Called once per [`SLICE_NS`] of waiting: `EIO` if the host has left or is silent for long.
    fn slice_over(&mut self, region: &Region<SystemAtomics>) -> Result<(), Errno> {
        let host = &region.header().host;
        if host.state.load_relaxed() != state::RUNNING {
            return Err(Errno::EIO);
        }
        let heartbeat = host.heartbeat.load_relaxed();
        if heartbeat != self.heartbeat || self.slices == 0 {
            self.heartbeat = heartbeat;
            self.slices = 1;
            return Ok(());
        }
        self.slices += 1;
        if self.slices > DEAD_AFTER_SLICES { Err(Errno::EIO) } else { Ok(()) }
    }

    /// Yields once in a spinning wait.
    pub(crate) fn spin(&mut self, region: &Region<SystemAtomics>) -> Result<(), Errno> {
        let now = gpu_rt::clock();
        if self.until == 0 {
            self.until = now + SLICE_NS;
        } else if now > self.until {
            self.until = now + SLICE_NS;
            self.slice_over(region)?;
        }
        gpu_rt::relax();
        Ok(())
    }

    /// Waits until the word differs from `value`, for at most a slice.
    pub(crate) fn wait(
        &mut self,
        region: &Region<SystemAtomics>,
        word: &impl gpu_rt::WaitWord,
        value: u32,
    ) -> Result<(), Errno> {
        self.watch(region, word, value).map(drop)
    }

    /// As [`Patience::wait`]; what the word is then, by an acquire load.
    fn watch(
        &mut self,
        region: &Region<SystemAtomics>,
        word: &impl gpu_rt::WaitWord,
        value: u32,
    ) -> Result<u32, Errno> {
        let seen = gpu_rt::wait_while_eq(word, value, SLICE_NS);
        if seen == value {
            self.slice_over(region)?;
        }
        Ok(seen)
    }
}

impl<I: PageIndex, E: Eviction> Fs<I, E> {
    /// A free completion cell, if there is one now.
    #[inline]
    pub(crate) fn try_claim(&self, pool: Pool) -> Option<u32> {
        // Lanes of a warp look in one place, warps in different ones.
        let hint = gpu_rt::thread::index() as u32 / 32;
        match pool {
            Pool::Slots => self.slot_bits().claim(hint),
            Pool::Calls => self.call_bits().claim(hint).map(|n| n + self.header().slots),
        }
    }

    /// A free completion cell; waits for one.
    pub(crate) fn claim(&self, pool: Pool) -> Result<u32, Errno> {
        match self.try_claim(pool) {
            Some(cell) => Ok(cell),
            None => self.claim_later(pool),
        }
    }

    #[cold]
    fn claim_later(&self, pool: Pool) -> Result<u32, Errno> {
        let region = self.region();
        let mut patience = Patience::new();
        loop {
            patience.spin(&region)?;
            self.reap_prefetches();
            if let Some(cell) = self.try_claim(pool) {
                return Ok(cell);
            }
        }
    }

    /// Gives a cell back. Never while its request may still be answered.
    pub(crate) fn release_cell(&self, cell: u32) {
        let slots = self.header().slots;
        if cell < slots {
            self.slot_bits().release(cell);
        } else {
            self.call_bits().release(cell - slots);
        }
    }

    /// Posts a request on behalf of a group's leader; the tag that its answer will bear.
    ///
    /// Threads that call as [`Thread`] groups are posted together with the lanes of their warp that
    /// do so too: one ticket counter update for all of them.
    pub(crate) fn post<G: Group>(&self, cell: u32, mut request: Request) -> Result<u32, Errno> {
        let shard = gpu_rt::thread::sm_id() % self.header().shards;
        let tail = self.tail(shard);
        // Clause S1. Relaxed: tickets need only be distinct.
        let ticket = if G::KIND == GroupKind::Thread {
            let warp = Warp::converged();
            let mut first = 0;
            if warp.is_leader() {
                first = tail.tickets.fetch_add(warp.size(), Ordering::Relaxed);
                self.count(Count::Requests, u64::from(warp.size()));
            }
            warp.broadcast(first).wrapping_add(warp.rank())
        } else {
            self.count(Count::Requests, 1);
            tail.tickets.fetch_add(1, Ordering::Relaxed)
        };
        self.publish(shard, ticket, cell, &mut request)
    }

    /// Posts one request by one thread, without looking for others to join.
    pub(crate) fn post_alone(&self, cell: u32, mut request: Request) -> Result<u32, Errno> {
        let shard = gpu_rt::thread::sm_id() % self.header().shards;
        self.count(Count::Requests, 1);
        let ticket = self.tail(shard).tickets.fetch_add(1, Ordering::Relaxed);
        self.publish(shard, ticket, cell, &mut request)
    }

    fn publish(
        &self,
        shard: u32,
        ticket: u32,
        cell: u32,
        request: &mut Request,
    ) -> Result<u32, Errno> {
        let region = self.region();
        let entries = region.layout().config.ring_entries;
        let tail = self.tail(shard);
        // Clause S2. Acquire: pairs with the release below, which passes on what was acquired from
        // the host: the entry's old request has been copied out.
        if !has_room(ticket, tail.head.load(Ordering::Acquire), entries) {
            let mut patience = Patience::new();
            loop {
                // Pairs with the host's release of `head` (clause S5).
                let head = region.shard(shard).head.load_acquire();
                tail.head.store(head, Ordering::Release);
                if has_room(ticket, head, entries) {
                    break;
                }
                patience.spin(&region)?;
            }
        }
        let tag = if cell == CELL_NONE {
            0
        } else {
            // Relaxed: the cell is ours.
            let tag = self.tag(cell).load(Ordering::Relaxed).wrapping_add(1);
            self.tag(cell).store(tag, Ordering::Relaxed);
            tag
        };
        request.cell = cell;
        request.tag = tag;
        region.entry(shard, ticket).publish(ticket, request);

        // Clause D1. SeqCst: pairs with the host's fence between announcing that it parks and its
        // last look at the rings: either it sees the entry, or we see that it parks.
        fence_system(Ordering::SeqCst);
        if region.header().host.parked.load_relaxed() != 0 {
            let bell = &region.header().device.doorbell;
            // A value that no other ticket stores. Release: pairs with the host's acquire load.
            bell.store_release(
                ticket.wrapping_mul(self.header().shards).wrapping_add(shard).wrapping_add(1),
            );
            gpu_rt::wake(bell);
        }
        Ok(tag)
    }

    /// Waits for the answer in a cell. After `EIO` from a dead host the cell is not given back:
    /// an answer could still come.
    pub(crate) fn wait_for(&self, cell: u32, tag: u32) -> Result<Completion, Errno> {
        Ok(self.await_answer(cell, tag)?.answer(tag))
    }

    /// As [`Fs::wait_for`], of the answer its value alone, or its failure. The other failure is that
    /// the host is gone.
    pub(crate) fn wait_for_result(&self, cell: u32, tag: u32) -> Result<Result<u64, Errno>, Errno> {
        Ok(self.await_answer(cell, tag)?.result())
    }

    fn await_answer(&self, cell: u32, tag: u32) -> Result<&Cell<SystemAtomics>, Errno> {
        let region = self.region();
        let cell = region.cell(cell).ok_or(Errno::EPROTO)?;
        let mut patience = Patience::new();
        // The wait's acquire load pairs with the host's release of the cell (clause C2).
        while patience.watch(&region, cell.seq(), tag.wrapping_sub(1))? != tag {}
        Ok(cell)
    }

    /// Whether the answer with this tag is there.
    pub(crate) fn is_answered(&self, cell: u32, tag: u32) -> bool {
        let region = self.region();
        region.cell(cell).is_some_and(|c| c.seq().load_relaxed() == tag)
    }

    /// A request and its answer, without data.
    #[inline]
    pub(crate) fn call<G: Group>(&self, request: Request) -> Result<Completion, Errno> {
        let cell = self.claim(Pool::Calls)?;
        let tag = self.post::<G>(cell, request)?;
        let completion = self.wait_for(cell, tag)?;
        self.release_cell(cell);
        Ok(completion)
    }

    /// Goes to the host and back, and does nothing there: what a round trip costs.
    ///
    /// # Errors
    /// `EIO` if the host is gone.
    pub fn nop<G: Group>(&self, group: &G) -> Result<(), Errno> {
        self.by_leader(group, || {
            let request = Request { op: Op::Nop as u8, ..bytemuck::Zeroable::zeroed() };
            self.call::<G>(request)?.result().map(drop)
        })
    }

    /// Lets a group's leader do something that may fail, and tells the others how it went.
    pub(crate) fn by_leader<G: Group, T: bytemuck::Pod>(
        &self,
        group: &G,
        act: impl FnOnce() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        if G::KIND == Thread::KIND {
            return act();
        }
        const { assert!(size_of::<T>() <= 56, "errno and value travel together") };
        let mut words = [0u64; 8];
        if group.is_leader() {
            match act() {
                Ok(value) => bytemuck::bytes_of_mut(&mut words)[8..8 + size_of::<T>()]
                    .copy_from_slice(bytemuck::bytes_of(&value)),
                Err(e) => words[0] = u64::from(e.raw()),
            }
        }
        let words = group.broadcast(words);
        Errno::check(words[0] as u32)?;
        Ok(bytemuck::pod_read_unaligned(&bytemuck::bytes_of(&words)[8..8 + size_of::<T>()]))
    }
}
