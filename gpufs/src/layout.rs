//! What the host writes into device memory to mount a file system there: a header.
//!
//! Everything else of a mount starts as zeroed memory. The host calls [`MountLayout::new`] to learn
//! how much that is, and [`MountLayout::header`] for the bytes that go to its beginning.

use crate::bitmap::Bitmap;
use crate::evict::PolicyState;
use crate::file::OpenFile;
use crate::frame::Frame;
use crate::index::{HashIndex, PageIndex};
use crate::inflight::InFlight;
use crate::port::Tail;
use crate::stats::{STATS_LINES, StatsLine};
use bytemuck::{Pod, Zeroable};
use gpu_abi::request::PATH_MAX;
use gpu_abi::{Errno, RegionLayout};
use gpu_rt::atomic::{DeviceAtomicU32, DeviceAtomicU64};

/// `b"GPUFSMNT"`, little endian.
pub const MAGIC: u64 = u64::from_le_bytes(*b"GPUFSMNT");

/// What an application decides about its page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MountConfig {
    /// Bytes of a page: a power of two, 4 KiB to 2 MiB.
    pub page_size: u32,
    /// Bytes of all page frames together: at least two pages, fewer than 2^32 pages.
    pub cache_size: u64,
    /// Files that can be open at once: 1 to 1,048,576.
    pub open_files: u32,
    /// Let the host write pages straight into their frames. Needs a device window in the region.
    pub direct: bool,
}

impl Default for MountConfig {
    fn default() -> Self {
        MountConfig { page_size: 64 << 10, cache_size: 64 << 20, open_files: 4096, direct: false }
    }
}

/// The header of a mount: device addresses of its parts, and its sizes.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct MountHeader {
    /// [`MAGIC`].
    pub magic: u64,
    /// Device address of the region.
    pub region: u64,
    /// Bytes of the region.
    pub region_len: u64,
    /// Device address that offset 0 of the region's device window stands for; 0 = no direct reads.
    pub window_base: u64,
    /// Log2 of the page size.
    pub page_shift: u32,
    /// Page frames.
    pub frames: u32,
    /// Open-file records.
    pub open_files: u32,
    /// Completion cells that have transfer slots.
    pub slots: u32,
    /// Further completion cells.
    pub calls: u32,
    /// Submission rings.
    pub shards: u32,
    /// Prefetched pages that may wait for their first touch at any time.
    pub prefetch_quota: u32,
    pub(crate) ring_entries: u32,
    pub(crate) slot_size: u32,
    reserved: u32,
    pub(crate) device_window: u64,
    pub(crate) region_shard_stride: u64,
    pub(crate) region_cells: u64,
    pub(crate) region_slots: u64,
    pub(crate) tails: u64,
    pub(crate) tags: u64,
    pub(crate) slot_bits: u64,
    pub(crate) call_bits: u64,
    pub(crate) in_flight: u64,
    pub(crate) prefetch_ring: u64,
    pub(crate) globals: u64,
    pub(crate) policy: u64,
    pub(crate) stats: u64,
    pub(crate) pages: u64,
    pub(crate) frame_table: u64,
    pub(crate) names: u64,
    pub(crate) masters: u64,
    pub(crate) map_bits: u64,
    pub(crate) maps: u64,
    pub(crate) file_bits: u64,
    pub(crate) files: u64,
    pub(crate) paths: u64,
    pub(crate) data: u64,
}

/// Words of a mount that all its threads share.
#[repr(C, align(64))]
pub(crate) struct Globals {
    /// Free list of frames: 63…32 a tag that changes with each push and pop, 31…0 frame + 1.
    pub(crate) free: DeviceAtomicU64,
    /// Frames that were never used begin here.
    pub(crate) fresh: DeviceAtomicU32,
    /// Counts frames taken: tells those who find none that others make progress.
    pub(crate) taken: DeviceAtomicU32,
    /// Threads that wait for a frame.
    pub(crate) frame_waiters: DeviceAtomicU32,
    /// Each takes a ticket, and looks for a frame when as many were granted.
    pub(crate) frame_tickets: DeviceAtomicU32,
    pub(crate) frame_grants: DeviceAtomicU32,
    /// Which frame came free for a ticket, modulo their number: a hint.
    pub(crate) granted: [DeviceAtomicU32; 64],
    /// Prefetches under way or untouched.
    pub(crate) prefetches: DeviceAtomicU32,
    /// Next place in the prefetch ring.
    pub(crate) prefetch_next: DeviceAtomicU32,
    /// Files open for writing.
    pub(crate) masters: DeviceAtomicU32,
    /// Where the search for a page that can spare its map goes on.
    pub(crate) map_hand: DeviceAtomicU32,
}

/// Maps of dirty bytes for so many frames: one for every 32, as most pages are written in one piece; for
/// the smallest of caches, one for each.
pub(crate) const fn map_count(frames: u32) -> u32 {
    let few = if frames < 16 { frames } else { 16 };
    if frames / 32 > few { frames / 32 } else { few }
}

/// Bytes that each open file's path may take, terminator room included.
pub(crate) const PATH_STRIDE: usize = PATH_MAX + 1;

/// The sizes and offsets of a mount.
#[derive(Clone, Copy, Debug)]
pub struct MountLayout {
    header: MountHeader,
    total: usize,
    data: usize,
}

impl MountLayout {
    /// The layout of a mount with index `I` for a region laid out as `region`.
    ///
    /// # Errors
    /// `EINVAL` if a size is outside its documented limits, if pages do not fit in transfer slots
    /// where they must go through them, or if direct reads are asked for without a device window.
    pub fn new<I: PageIndex>(
        config: &MountConfig,
        region: &RegionLayout,
    ) -> Result<MountLayout, Errno> {
        let page = config.page_size;
        let frames = config.cache_size / u64::from(page.max(1));
        let r = &region.config;
        let fine = page.is_power_of_two()
            && (4096..=2 << 20).contains(&page)
            && (2..u64::from(u32::MAX)).contains(&frames)
            && (1..=1 << 20).contains(&config.open_files)
            && (config.direct || page <= r.slot_size)
            && (!config.direct || r.device_window > 0)
            && r.slot_size as usize > PATH_MAX;
        if !fine {
            return Err(Errno::EINVAL);
        }
        let frames = frames as u32;
        let cells = region.cell_count();
        let prefetch_quota = (if config.direct { r.calls } else { r.slots } / 4).min(frames / 4);

        let mut at = size_of::<MountHeader>().next_multiple_of(64);
        let mut part = |bytes: usize, align: usize| {
            let offset = at.next_multiple_of(align);
            at = offset + bytes;
            offset as u64
        };
        let words = |count: u32| Bitmap::words(count) * 8;
        let header = MountHeader {
            magic: MAGIC,
            region: 0,
            region_len: region.total as u64,
            window_base: 0,
            page_shift: page.trailing_zeros(),
            frames,
            open_files: config.open_files,
            slots: r.slots,
            calls: r.calls,
            shards: r.shards,
            prefetch_quota,
            ring_entries: r.ring_entries,
            slot_size: r.slot_size,
            reserved: 0,
            device_window: r.device_window,
            region_shard_stride: region.shard_stride as u64,
            region_cells: region.cells as u64,
            region_slots: region.slots as u64,
            tails: part(r.shards as usize * size_of::<Tail>(), 64),
            tags: part(cells as usize * 4, 64),
            slot_bits: part(words(r.slots), 64),
            call_bits: part(words(r.calls), 64),
            in_flight: part(cells as usize * size_of::<InFlight>(), 64),
            prefetch_ring: part(prefetch_quota as usize * 8, 64),
            globals: part(size_of::<Globals>(), 64),
            policy: part(size_of::<PolicyState>(), 64),
            stats: part(STATS_LINES * size_of::<StatsLine>(), 64),
            pages: part(I::bytes(frames + cells), 64),
            frame_table: part(frames as usize * size_of::<Frame>(), 64),
            names: part(HashIndex::bytes(config.open_files), 64),
            masters: part(HashIndex::bytes(config.open_files), 64),
            map_bits: part(words(map_count(frames)), 64),
            maps: part(map_count(frames) as usize * (page as usize / 8), 64),
            file_bits: part(words(config.open_files), 64),
            files: part(config.open_files as usize * size_of::<OpenFile>(), 64),
            paths: part(config.open_files as usize * PATH_STRIDE, 4096),
            data: 0,
        };
        let data = at.next_multiple_of(2 << 20);
        Ok(MountLayout { header, total: data + frames as usize * page as usize, data })
    }

    /// Bytes of zeroed device memory that the mount needs, aligned to 2 MiB.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Bytes of it that are not page frames.
    pub fn metadata(&self) -> usize {
        self.data
    }

    /// Bytes of it that the page cache has for its frames: the look-up structure, the frame table, and the maps
    /// of dirty bytes with what tells which of those are free.
    pub fn cache_metadata(&self) -> usize {
        let h = &self.header;
        // Each of these pairs of parts lies together: see `new`.
        ((h.names - h.pages) + (h.file_bits - h.map_bits)) as usize
    }

    /// Where the mount's counters lie, from its base: [`STATS_LINES`]
    /// lines of eight words.
    pub fn stats(&self) -> u64 {
        self.header.stats
    }

    /// The header of a mount at device address `base`, of the region at device address `region`.
    /// `window_base` is the device address that the region's device window begins at, or 0.
    pub fn header(&self, base: u64, region: u64, window_base: u64) -> MountHeader {
        let h = &self.header;
        MountHeader {
            region,
            window_base,
            tails: base + h.tails,
            tags: base + h.tags,
            slot_bits: base + h.slot_bits,
            call_bits: base + h.call_bits,
            in_flight: base + h.in_flight,
            prefetch_ring: base + h.prefetch_ring,
            globals: base + h.globals,
            policy: base + h.policy,
            stats: base + h.stats,
            pages: base + h.pages,
            frame_table: base + h.frame_table,
            names: base + h.names,
            masters: base + h.masters,
            map_bits: base + h.map_bits,
            maps: base + h.maps,
            file_bits: base + h.file_bits,
            files: base + h.files,
            paths: base + h.paths,
            data: base + self.data as u64,
            ..*h
        }
    }
}
