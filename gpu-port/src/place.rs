//! A port whose parts' addresses stand in a header: for mounts that share another one's.

use crate::bitmap::Bitmap;
use crate::port::{Port, Tail};
use bytemuck::{Pod, Zeroable};
use core::ptr::NonNull;
use gpu_abi::layout::HeaderFixed;
use gpu_abi::{Region, RegionLayout};
use gpu_rt::atomic::{DeviceAtomicU32, SystemAtomics};

/// Where a port's parts lie: device addresses. Plain bytes, so that the host can write them.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct PortHeader {
    /// Device address of the region.
    pub region: u64,
    /// A [`Tail`] for each shard.
    pub tails: u64,
    /// A word for each cell.
    pub tags: u64,
    /// Bits for the cells with slots.
    pub slot_bits: u64,
    /// Bits for the cells without.
    pub call_bits: u64,
    /// The region's header as it was laid out.
    pub layout: HeaderFixed,
    /// Offsets that follow from the layout, worked out once.
    pub offsets: [u64; 7],
}

impl PortHeader {
    /// The header of a port to a region laid out as `layout`, at device address `region`.
    #[must_use]
    pub fn new(
        layout: &RegionLayout,
        region: u64,
        [tails, tags, slot_bits, call_bits]: [u64; 4],
    ) -> PortHeader {
        let l = layout;
        let offsets =
            [l.shard_stride, l.cells, l.slots, l.sockets, l.queues, l.socket_rings, l.total];
        PortHeader {
            region,
            tails,
            tags,
            slot_bits,
            call_bits,
            layout: layout.header(),
            offsets: offsets.map(|offset| offset as u64),
        }
    }

    /// The layout that it was made from.
    #[inline]
    fn region_layout(&self) -> RegionLayout {
        let [shard_stride, cells, slots, sockets, queues, socket_rings, total] =
            self.offsets.map(|offset| offset as usize);
        let config = self.layout.config();
        RegionLayout { config, shard_stride, cells, slots, sockets, queues, socket_rings, total }
    }
}

/// A port by its header.
#[derive(Clone, Copy)]
pub struct Placed<'a> {
    header: &'a PortHeader,
}

impl<'a> Placed<'a> {
    /// The port whose header this is.
    ///
    /// # Safety
    /// The parts that it names lie where it says, zeroed when they were laid out, for `'a`.
    #[inline]
    #[must_use]
    pub const unsafe fn new(header: &'a PortHeader) -> Self {
        Placed { header }
    }

    /// A part of so many values.
    ///
    /// # Safety
    /// `addr` is the address of a part of this type and at least that length.
    #[inline]
    unsafe fn parts<T>(&self, addr: u64, len: u32) -> &'a [T] {
        // SAFETY: `new`'s caller vouched for the parts; they are made of atomic words.
        unsafe { core::slice::from_raw_parts(addr as usize as *const T, len as usize) }
    }
}

impl Port for Placed<'_> {
    #[inline]
    fn region(&self) -> Region<SystemAtomics> {
        let base = self.header.region as usize as *mut u8;
        let base = NonNull::new(base).expect("a port has a region");
        // SAFETY: the host mapped the region there, laid out so.
        unsafe { Region::with_layout(base, self.header.region_layout()) }
    }

    #[inline]
    fn tail(&self, shard: u32) -> &Tail {
        // SAFETY: a tail for each shard.
        let all = unsafe { self.parts::<Tail>(self.header.tails, self.shards()) };
        &all[shard as usize]
    }

    #[inline]
    fn tag(&self, cell: u32) -> &DeviceAtomicU32 {
        let cells = self.slots() + self.header.layout.calls;
        // SAFETY: a word for each cell.
        let all = unsafe { self.parts::<DeviceAtomicU32>(self.header.tags, cells) };
        &all[cell as usize]
    }

    #[inline]
    fn slot_bits(&self) -> Bitmap<'_> {
        let count = self.slots();
        // SAFETY: laid out with this many words.
        let words = unsafe { self.parts(self.header.slot_bits, Bitmap::words(count) as u32) };
        Bitmap::new(words, count)
    }

    #[inline]
    fn call_bits(&self) -> Bitmap<'_> {
        let count = self.header.layout.calls;
        // SAFETY: laid out with this many words.
        let words = unsafe { self.parts(self.header.call_bits, Bitmap::words(count) as u32) };
        Bitmap::new(words, count)
    }

    #[inline]
    fn shards(&self) -> u32 {
        self.header.layout.shards
    }

    #[inline]
    fn slots(&self) -> u32 {
        self.header.layout.slots
    }
}
