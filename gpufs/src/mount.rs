//! The handle that kernels hold, and typed access to the parts of a mount.

use crate::bitmap::Bitmap;
use crate::evict::{Clock, Eviction, PolicyState};
use crate::file::OpenFile;
use crate::frame::Frame;
use crate::index::{HashIndex, PageIndex};
use crate::inflight::InFlight;
use crate::layout::{Globals, MAGIC, MountHeader, PATH_STRIDE};
use crate::port::Tail;
use crate::stats::{Count, STATS_LINES, Stats, StatsLine};
use bytemuck::{Pod, Zeroable};
use core::marker::PhantomData;
use core::ptr::NonNull;
use gpu_abi::{Region, RegionConfig, RegionLayout};
use gpu_rt::atomic::SystemAtomics;
use gpu_rt::atomic::{DeviceAtomicU32, DeviceAtomicU64};

/// A mounted file system: what a kernel gets in its arguments and passes around by value.
///
/// `I` is where pages are looked up, `E` which of them go when room is needed; both are fixed when
/// the host mounts it, so that the type of an `Fs` is the type of its mount.
#[repr(transparent)]
pub struct Fs<I: PageIndex = HashIndex, E: Eviction = Clock> {
    mount: u64,
    policies: PhantomData<fn() -> (I, E)>,
}

impl<I: PageIndex, E: Eviction> Clone for Fs<I, E> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<I: PageIndex, E: Eviction> Copy for Fs<I, E> {}

// SAFETY: an integer; zero is the handle of no mount, which every call refuses.
unsafe impl<I: PageIndex, E: Eviction> Zeroable for Fs<I, E> {}
// SAFETY: an integer and a zero-sized marker: no padding, every bit pattern is a value. A handle is
// meaningful only as the host's mount made it; like every address in a kernel's arguments it is
// vouched for by whoever launches the kernel.
unsafe impl<I: PageIndex, E: Eviction> Pod for Fs<I, E> {}

impl<I: PageIndex, E: Eviction> Fs<I, E> {
    /// The handle of the mount whose header is at device address `mount`.
    ///
    /// # Safety
    /// A header that [`crate::MountLayout`] made for the same `I` lies there, zeroed memory as laid
    /// out behind it, and the region that it names is mapped, for as long as the handle is used.
    pub const unsafe fn from_addr(mount: u64) -> Self {
        Fs { mount, policies: PhantomData }
    }

    #[inline]
    pub(crate) fn header(&self) -> &MountHeader {
        assert!(self.mount != 0, "this Fs was never mounted: it must come from the launching host");
        // SAFETY: `from_addr`'s caller, or the host that filled the kernel's arguments, vouched for
        // it; the header never changes after the mount.
        let header = unsafe { &*(self.mount as usize as *const MountHeader) };
        debug_assert!(header.magic == MAGIC);
        header
    }

    /// A reference to a part of the mount.
    ///
    /// # Safety
    /// `addr` is one of the header's part addresses and `T` is that part's type.
    #[inline]
    unsafe fn part<T>(&self, addr: u64) -> &T {
        // SAFETY: parts are laid out aligned, zeroed at mount, and made of atomic words.
        unsafe { &*(addr as usize as *const T) }
    }

    /// As [`Fs::part`], for `len` values.
    ///
    /// # Safety
    /// As [`Fs::part`]; the part has at least `len` values.
    #[inline]
    unsafe fn parts<T>(&self, addr: u64, len: u32) -> &[T] {
        // SAFETY: as in `part`.
        unsafe { core::slice::from_raw_parts(addr as usize as *const T, len as usize) }
    }

    /// The region, as laid out when the mount was made.
    #[inline]
    pub(crate) fn region(&self) -> Region<SystemAtomics> {
        let h = self.header();
        let base = NonNull::new(h.region as usize as *mut u8).expect("mounted without a region");
        let layout = RegionLayout {
            config: RegionConfig {
                shards: h.shards,
                ring_entries: h.ring_entries,
                slots: h.slots,
                slot_size: h.slot_size,
                calls: h.calls,
                device_window: h.device_window,
                // Nothing here touches sockets.
                ..RegionConfig::DEFAULT
            },
            shard_stride: h.region_shard_stride as usize,
            cells: h.region_cells as usize,
            slots: h.region_slots as usize,
            total: h.region_len as usize,
            sockets: 0,
            queues: 0,
            socket_rings: 0,
        };
        // SAFETY: the host mapped the region there, laid out so, for the mount's life.
        unsafe { Region::with_layout(base, layout) }
    }

    #[inline]
    pub(crate) fn tail(&self, shard: u32) -> &Tail {
        // SAFETY: there is a tail for each shard, and `shard` is below their number.
        let all = unsafe { self.parts::<Tail>(self.header().tails, self.header().shards) };
        &all[shard as usize]
    }

    #[inline]
    pub(crate) fn tag(&self, cell: u32) -> &DeviceAtomicU32 {
        let h = self.header();
        // SAFETY: a word for each cell.
        let all = unsafe { self.parts::<DeviceAtomicU32>(h.tags, h.slots + h.calls) };
        &all[cell as usize]
    }

    #[inline]
    pub(crate) fn slot_bits(&self) -> Bitmap<'_> {
        let h = self.header();
        // SAFETY: laid out with this many words.
        Bitmap::new(unsafe { self.parts(h.slot_bits, Bitmap::words(h.slots) as u32) }, h.slots)
    }

    #[inline]
    pub(crate) fn call_bits(&self) -> Bitmap<'_> {
        let h = self.header();
        // SAFETY: laid out with this many words.
        Bitmap::new(unsafe { self.parts(h.call_bits, Bitmap::words(h.calls) as u32) }, h.calls)
    }

    #[inline]
    pub(crate) fn file_bits(&self) -> Bitmap<'_> {
        let h = self.header();
        let words = Bitmap::words(h.open_files) as u32;
        // SAFETY: laid out with this many words.
        Bitmap::new(unsafe { self.parts(h.file_bits, words) }, h.open_files)
    }

    #[inline]
    pub(crate) fn in_flight(&self, cell: u32) -> &InFlight {
        let h = self.header();
        // SAFETY: a record for each cell.
        let all = unsafe { self.parts::<InFlight>(h.in_flight, h.slots + h.calls) };
        &all[cell as usize]
    }

    pub(crate) fn prefetch_ring(&self) -> &[DeviceAtomicU64] {
        // SAFETY: as many words as the quota.
        unsafe { self.parts(self.header().prefetch_ring, self.header().prefetch_quota) }
    }

    #[inline]
    pub(crate) fn globals(&self) -> &Globals {
        // SAFETY: that part's address and type.
        unsafe { self.part(self.header().globals) }
    }

    #[inline]
    pub(crate) fn policy(&self) -> &PolicyState {
        // SAFETY: that part's address and type.
        unsafe { self.part(self.header().policy) }
    }

    #[inline]
    pub(crate) fn frames(&self) -> &[Frame] {
        // SAFETY: a record for each frame.
        unsafe { self.parts(self.header().frame_table, self.header().frames) }
    }

    #[inline]
    pub(crate) fn pages(&self) -> I {
        let h = self.header();
        // SAFETY: the memory was laid out for an `I` of this capacity.
        unsafe { I::at(h.pages as usize as *mut u8, h.frames + h.slots + h.calls) }
    }

    #[inline]
    pub(crate) fn names(&self) -> HashIndex {
        let h = self.header();
        // SAFETY: the memory was laid out for this capacity.
        unsafe { HashIndex::at(h.names as usize as *mut u8, h.open_files) }
    }

    #[inline]
    pub(crate) fn open_file(&self, index: u32) -> &OpenFile {
        let h = self.header();
        // SAFETY: a record for each possible open file.
        let all = unsafe { self.parts::<OpenFile>(h.files, h.open_files) };
        &all[index as usize]
    }

    /// Where the path of an open file is kept.
    pub(crate) fn path_buffer(&self, index: u32) -> *mut u8 {
        assert!(index < self.header().open_files);
        (self.header().paths as usize + index as usize * PATH_STRIDE) as *mut u8
    }

    /// The first byte of a frame.
    #[inline]
    pub(crate) fn frame_data(&self, frame: u32) -> *mut u8 {
        let h = self.header();
        debug_assert!(frame < h.frames);
        (h.data as usize + ((frame as usize) << h.page_shift)) as *mut u8
    }

    /// Bytes of a page.
    #[inline]
    pub fn page_size(&self) -> usize {
        1 << self.header().page_shift
    }

    #[inline]
    pub(crate) fn count(&self, what: Count, n: u64) {
        // SAFETY: laid out with this many lines.
        let lines = unsafe { self.parts::<StatsLine>(self.header().stats, STATS_LINES as u32) };
        lines[gpu_rt::thread::sm_id() as usize % STATS_LINES].add(what, n);
    }

    /// What this mount counted so far. Readable by the host too, where it can address the memory.
    pub fn stats(&self) -> Stats {
        // SAFETY: laid out with this many lines.
        Stats::sum(unsafe { self.parts(self.header().stats, STATS_LINES as u32) })
    }
}
