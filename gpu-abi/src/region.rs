//! A region in this address space: typed access to its parts.

use crate::Errno;
use crate::layout::{HEADER_LEN, Header, HeaderFixed, LINE, RegionLayout, state};
use crate::ring::{Cell, Consumer, Entry, ShardLine};
use crate::socket::{QUEUE_LINES, Queue, SOCKET_STRIDE, Socket, queue_entries, queue_stride};
use crate::words::{Atomics, Word32};
use core::marker::PhantomData;
use core::ptr::NonNull;

/// A region mapped at `base`. Copies are cheap; the mapping must outlive them all.
pub struct Region<A: Atomics> {
    base: NonNull<u8>,
    layout: RegionLayout,
    words: PhantomData<A>,
}

impl<A: Atomics> Clone for Region<A> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<A: Atomics> Copy for Region<A> {}

// SAFETY: a region is shared memory by definition: everything reached through it is an atomic word,
// or a transfer slot that is only ever handed out as a raw pointer.
unsafe impl<A: Atomics> Send for Region<A> {}
// SAFETY: as above.
unsafe impl<A: Atomics> Sync for Region<A> {}

impl<A: Atomics> Region<A> {
    /// Lays a region out in zeroed memory and marks it running.
    ///
    /// # Safety
    /// `base` must be valid for reads and writes of `layout.total` bytes, aligned to 4 KiB, zeroed,
    /// for as long as any copy of the region is used, and accessed by nobody yet.
    pub unsafe fn create(base: NonNull<u8>, layout: RegionLayout) -> Region<A> {
        let region: Region<A> = Region { base, layout, words: PhantomData };
        // SAFETY: the caller vouches for the memory; the fixed part lies at offset 0, below 4 KiB.
        unsafe { base.cast::<HeaderFixed>().write(layout.header()) };
        region.header().host.state.store_release(state::RUNNING);
        region
    }

    /// A region that is known to be laid out so.
    ///
    /// # Safety
    /// As [`Region::attach`], for `layout.total` bytes that [`Region::create`] laid out.
    #[inline]
    pub const unsafe fn with_layout(base: NonNull<u8>, layout: RegionLayout) -> Region<A> {
        Region { base, layout, words: PhantomData }
    }

    /// Attaches to a region that the other side has laid out; `EPROTO` if its header is not one of
    /// this protocol version or describes more than `len` bytes.
    ///
    /// # Safety
    /// `base` must be valid for reads and writes of `len` bytes and aligned to 4 KiB for as long as
    /// any copy of the region is used.
    pub unsafe fn attach(base: NonNull<u8>, len: usize) -> Result<Region<A>, Errno> {
        if len < HEADER_LEN {
            return Err(Errno::EPROTO);
        }
        // SAFETY: within `len`. Read once: later changes by the other side have no effect.
        let fixed = unsafe { base.cast::<HeaderFixed>().read_volatile() };
        let layout = RegionLayout::from_header(&fixed, len)?;
        Ok(Region { base, layout, words: PhantomData })
    }

    /// Where everything lies.
    #[inline]
    pub fn layout(&self) -> &RegionLayout {
        &self.layout
    }

    /// The first byte.
    #[inline]
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// The header.
    #[inline]
    pub fn header<'a>(&self) -> &'a Header<A> {
        // SAFETY: offset 0 of a valid region; its changing parts are atomic words, and its fixed
        // part is written before anyone attaches.
        unsafe { self.base.cast::<Header<A>>().as_ref() }
    }

    fn shard_at<'a>(&self, shard: u32) -> (&'a ShardLine<A>, *const Entry<A>) {
        assert!(shard < self.layout.config.shards);
        let offset = HEADER_LEN + shard as usize * self.layout.shard_stride;
        // SAFETY: `shard` is in range, so the layout keeps both inside the region; they are 64-byte
        // aligned (4 KiB base, multiples of 64) and made of atomic words only.
        unsafe {
            let at = self.base.as_ptr().add(offset);
            (&*at.cast(), at.add(2 * LINE).cast())
        }
    }

    /// The line of a shard that holds its `head`.
    #[inline]
    pub fn shard<'a>(&self, shard: u32) -> &'a ShardLine<A> {
        self.shard_at(shard).0
    }

    /// The entry that the request with this ticket goes to.
    #[inline]
    pub fn entry<'a>(&self, shard: u32, ticket: u32) -> &'a Entry<A> {
        let index = ticket & (self.layout.config.ring_entries - 1);
        // SAFETY: `index` is below the ring's length, a power of two.
        unsafe { &*self.shard_at(shard).1.add(index as usize) }
    }

    /// The host's consumer of a shard, at `head`.
    pub fn consumer<'a>(&self, shard: u32, head: u32) -> Consumer<'a, A> {
        let (line, entries) = self.shard_at(shard);
        let len = self.layout.config.ring_entries as usize;
        // SAFETY: the layout gives each shard `ring_entries` entries, all atomic words.
        Consumer::new(line, unsafe { core::slice::from_raw_parts(entries, len) }, head)
    }

    /// A completion cell; `None` past the last.
    #[inline]
    pub fn cell<'a>(&self, index: u32) -> Option<&'a Cell<A>> {
        if index >= self.layout.cell_count() {
            return None;
        }
        // SAFETY: in range, 64-byte aligned, atomic words only.
        Some(unsafe { &*self.base.as_ptr().add(self.layout.cells + index as usize * LINE).cast() })
    }

    /// The first byte of a transfer slot of `slot_size` bytes; `None` past the last.
    #[inline]
    pub fn slot(&self, index: u32) -> Option<*mut u8> {
        if index >= self.layout.config.slots {
            return None;
        }
        let offset = self.layout.slots + index as usize * self.layout.config.slot_size as usize;
        // SAFETY: in range.
        Some(unsafe { self.base.as_ptr().add(offset) })
    }

    /// The control block of a socket; `None` past the last.
    #[inline]
    pub fn socket<'a>(&self, index: u32) -> Option<&'a Socket<A>> {
        if index >= self.layout.config.sockets {
            return None;
        }
        let offset = self.layout.sockets + index as usize * SOCKET_STRIDE;
        // SAFETY: in range, 64-byte aligned, atomic words only.
        Some(unsafe { &*self.base.as_ptr().add(offset).cast() })
    }

    /// The first bytes of a socket's rings of `socket_ring` bytes, tx and rx; `None` past the last.
    #[inline]
    pub fn socket_rings(&self, index: u32) -> Option<(*mut u8, *mut u8)> {
        if index >= self.layout.config.sockets {
            return None;
        }
        let ring = self.layout.config.socket_ring as usize;
        let offset = self.layout.socket_rings + index as usize * 2 * ring;
        // SAFETY: in range.
        unsafe {
            let tx = self.base.as_ptr().add(offset);
            Some((tx, tx.add(ring)))
        }
    }

    /// An event queue; `None` past the last.
    #[inline]
    pub fn queue<'a>(&self, index: u32) -> Option<Queue<'a, A>> {
        if index >= self.layout.config.pollers {
            return None;
        }
        let sockets = self.layout.config.sockets;
        let offset = self.layout.queues + index as usize * queue_stride(sockets);
        // SAFETY: in range, 64-byte aligned, atomic words only.
        unsafe {
            let at = self.base.as_ptr().add(offset);
            let entries = at.add(QUEUE_LINES * LINE).cast();
            Some(Queue {
                host: &*at.cast(),
                device: &*at.add(LINE).cast(),
                entries: core::slice::from_raw_parts(entries, queue_entries(sockets) as usize),
            })
        }
    }
}
