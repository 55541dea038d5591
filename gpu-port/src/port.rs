//! Cells, tickets, posting, answers.

use crate::bitmap::Bitmap;
use crate::patience::Patience;
use bytemuck::{Pod, Zeroable};
use gpu_abi::request::CELL_NONE;
use gpu_abi::ring::{Cell, has_room};
use gpu_abi::{Completion, Errno, Region, Request, Word32};
use gpu_rt::atomic::SystemAtomics;
use gpu_rt::atomic::{DeviceAtomicU32, Ordering, fence_system};
use gpu_rt::{Group, GroupKind, Thread, Warp};

/// The device's side of one shard, in device memory. Zeroed: nothing has been posted.
#[repr(C, align(64))]
pub struct Tail {
    /// The next ticket.
    tickets: DeviceAtomicU32,
    /// The host's `head` as last read: spares a read over the bus while there is room.
    head: DeviceAtomicU32,
}

/// Which completion cells a request takes one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// Those with a transfer slot.
    Slots,
    /// Those without.
    Calls,
}

/// A way to the host. Whoever implements it says where its parts lie; all ports of one region must
/// name the same parts.
pub trait Port {
    /// The region.
    fn region(&self) -> Region<SystemAtomics>;
    /// The tail of a shard, which is below [`Port::shards`].
    fn tail(&self, shard: u32) -> &Tail;
    /// The tag that the last request of a cell bore.
    fn tag(&self, cell: u32) -> &DeviceAtomicU32;
    /// The cells with slots.
    fn slot_bits(&self) -> Bitmap<'_>;
    /// The cells without.
    fn call_bits(&self) -> Bitmap<'_>;
    /// Submission rings.
    fn shards(&self) -> u32;
    /// Transfer slots.
    fn slots(&self) -> u32;
    /// Hears of requests that are posted.
    #[inline]
    fn posted(&self, _count: u32) {}

    /// A free completion cell, if there is one now.
    #[inline]
    fn try_claim(&self, pool: Pool) -> Option<u32> {
        // Lanes of a warp look in one place, warps in different ones.
        let hint = gpu_rt::thread::index() as u32 / 32;
        match pool {
            Pool::Slots => self.slot_bits().claim(hint),
            Pool::Calls => self.call_bits().claim(hint).map(|n| n + self.slots()),
        }
    }

    /// A free completion cell; waits for one.
    ///
    /// # Errors
    /// `EIO` if the host is gone.
    fn claim(&self, pool: Pool) -> Result<u32, Errno> {
        match self.try_claim(pool) {
            Some(cell) => Ok(cell),
            None => claim_later(self, pool),
        }
    }

    /// Gives a cell back. Never while its request may still be answered.
    fn release_cell(&self, cell: u32) {
        let slots = self.slots();
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
    ///
    /// # Errors
    /// `EIO` if the host is gone.
    fn post<G: Group>(&self, cell: u32, mut request: Request) -> Result<u32, Errno> {
        let shard = gpu_rt::thread::sm_id() % self.shards();
        let tail = self.tail(shard);
        // Clause S1. Relaxed: tickets need only be distinct.
        let ticket = if G::KIND == GroupKind::Thread {
            let warp = Warp::converged();
            let mut first = 0;
            if warp.is_leader() {
                first = tail.tickets.fetch_add(warp.size(), Ordering::Relaxed);
                self.posted(warp.size());
            }
            warp.broadcast(first).wrapping_add(warp.rank())
        } else {
            self.posted(1);
            tail.tickets.fetch_add(1, Ordering::Relaxed)
        };
        publish(self, shard, ticket, cell, &mut request)
    }

    /// Posts one request by one thread, without looking for others to join.
    ///
    /// # Errors
    /// `EIO` if the host is gone.
    fn post_alone(&self, cell: u32, mut request: Request) -> Result<u32, Errno> {
        let shard = gpu_rt::thread::sm_id() % self.shards();
        self.posted(1);
        let ticket = self.tail(shard).tickets.fetch_add(1, Ordering::Relaxed);
        publish(self, shard, ticket, cell, &mut request)
    }

    /// Waits for the answer in a cell. After `EIO` from a dead host the cell is not given back:
    /// an answer could still come.
    ///
    /// # Errors
    /// `EIO` if the host is gone.
    fn wait_for(&self, cell: u32, tag: u32) -> Result<Completion, Errno> {
        Ok(await_answer(self, cell, tag)?.answer(tag))
    }

    /// As [`Port::wait_for`], of the answer its value alone, or its failure.
    ///
    /// # Errors
    /// `EIO` if the host is gone.
    fn wait_for_result(&self, cell: u32, tag: u32) -> Result<Result<u64, Errno>, Errno> {
        Ok(await_answer(self, cell, tag)?.result())
    }

    /// Whether the answer with this tag is there.
    fn is_answered(&self, cell: u32, tag: u32) -> bool {
        let region = self.region();
        region.cell(cell).is_some_and(|c| c.seq().load_relaxed() == tag)
    }

    /// A request and its answer, without data.
    ///
    /// # Errors
    /// `EIO` if the host is gone.
    #[inline]
    fn call<G: Group>(&self, request: Request) -> Result<Completion, Errno> {
        let cell = self.claim(Pool::Calls)?;
        let tag = self.post::<G>(cell, request)?;
        let completion = self.wait_for(cell, tag)?;
        self.release_cell(cell);
        Ok(completion)
    }
}

/// Waits for a free completion cell.
#[cold]
fn claim_later<P: Port + ?Sized>(port: &P, pool: Pool) -> Result<u32, Errno> {
    let region = port.region().header();
    let mut patience = Patience::new();
    loop {
        patience.spin(region)?;
        if let Some(cell) = port.try_claim(pool) {
            return Ok(cell);
        }
    }
}

fn await_answer<P: Port + ?Sized>(
    port: &P,
    cell: u32,
    tag: u32,
) -> Result<&Cell<SystemAtomics>, Errno> {
    let region = port.region();
    let cell = region.cell(cell).ok_or(Errno::EPROTO)?;
    let mut patience = Patience::new();
    // The wait's acquire load pairs with the host's release of the cell (clause C2).
    while patience.watch(region.header(), cell.seq(), tag.wrapping_sub(1))? != tag {}
    Ok(cell)
}

fn publish<P: Port + ?Sized>(
    port: &P,
    shard: u32,
    ticket: u32,
    cell: u32,
    request: &mut Request,
) -> Result<u32, Errno> {
    let region = port.region();
    let entries = region.layout().config.ring_entries;
    let tail = port.tail(shard);
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
            patience.spin(region.header())?;
        }
    }
    let tag = if cell == CELL_NONE {
        0
    } else {
        // Relaxed: the cell is ours.
        let tag = port.tag(cell).load(Ordering::Relaxed).wrapping_add(1);
        port.tag(cell).store(tag, Ordering::Relaxed);
        tag
    };
    request.cell = cell;
    request.tag = tag;
    region.entry(shard, ticket).publish(ticket, request);

    // Clause D5: who cannot wake the host need not look whether it sleeps, which is a fence and a read over the bus.
    if gpu_rt::WAKES {
        // Clause D1. SeqCst: pairs with the host's fence between announcing that it parks and its
        // last look at the rings: either it sees the entry, or we see that it parks.
        fence_system(Ordering::SeqCst);
        if region.header().host.parked.load_relaxed() != 0 {
            let bell = &region.header().device.doorbell;
            // A value that no other ticket stores. Release: pairs with the host's acquire load.
            let rung = ticket.wrapping_mul(port.shards()).wrapping_add(shard).wrapping_add(1);
            bell.store_release(rung);
            gpu_rt::wake(bell);
        }
    }
    Ok(tag)
}

/// What a leader tells its group: a shuffle for each word of it.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, packed)]
struct Told<T> {
    errno: u32,
    value: T,
}

/// Lets a group's leader do something that may fail, and tells the others how it went.
///
/// # Errors
/// Whatever the leader failed with.
pub fn by_leader<G: Group, T: Pod>(
    group: &G,
    act: impl FnOnce() -> Result<T, Errno>,
) -> Result<T, Errno> {
    if G::KIND == Thread::KIND {
        return act();
    }
    let mut told = Told { errno: 0, value: T::zeroed() };
    if group.is_leader() {
        match act() {
            Ok(value) => told.value = value,
            Err(e) => told.errno = e.raw(),
        }
    }
    let Told { errno, value } = group.broadcast(told);
    Errno::check(errno)?;
    Ok(value)
}
