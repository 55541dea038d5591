//! Where things lie in the region, and the header that says so.
//!
//! ```text
//!  0          4 KiB                                                        total
//!  | header   | shard 0 | shard 1 | … | cells            | pad | slots      |
//!               |                       |                        |
//!               | head line (64 B)      | slots + calls of       | slots × slot_size,
//!               | spare line (64 B)     | 64 B each: cell i < slots | 4 KiB aligned
//!               | entries × 64 B        | belongs to slot i
//! ```
//!
//! The header's first 128 bytes are fixed before the first attach. After them come the words that
//! change, one cache line for each side's:
//!
//! ```text
//!  128  state      host    128+ .. see HostLine
//!  192  doorbell   device  192+ .. see DeviceLine
//! ```

use crate::Errno;
use crate::words::Atomics;
use bytemuck::{Pod, Zeroable};

/// `b"GPUREGN\x01"`, little endian: no other file begins so.
pub const MAGIC: u64 = u64::from_le_bytes(*b"GPUREGN\x01");
/// The protocol version of this crate.
pub const VERSION: u32 = 1;
/// Bytes kept for the header.
pub const HEADER_LEN: usize = 4096;
/// Bytes of one ring entry, one completion cell, and of the line before a shard's entries.
pub const LINE: usize = 64;

/// What the daemon decides before it lays a region out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionConfig {
    /// Submission rings: 1 to 256.
    pub shards: u32,
    /// Entries of each ring: a power of two, 2 to 65,536.
    pub ring_entries: u32,
    /// Transfer slots (each with a completion cell): 1 to 65,536.
    pub slots: u32,
    /// Bytes of a transfer slot: a power of two, 4 KiB to 2 MiB.
    pub slot_size: u32,
    /// Further completion cells, for requests without data: 1 to 262,144.
    pub calls: u32,
    /// Bytes of device memory that requests may name ([`crate::request::WINDOW_DEVICE`]); 0 = none.
    pub device_window: u64,
}

impl Default for RegionConfig {
    fn default() -> Self {
        RegionConfig {
            shards: 2,
            ring_entries: 4096,
            slots: 256,
            slot_size: 64 << 10,
            calls: 4096,
            device_window: 0,
        }
    }
}

/// The fixed part of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct HeaderFixed {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`VERSION`].
    pub version: u32,
    /// [`HEADER_LEN`].
    pub header_len: u32,
    /// Bytes of the whole region.
    pub total: u64,
    /// [`RegionConfig::device_window`].
    pub device_window: u64,
    /// [`RegionConfig::shards`].
    pub shards: u32,
    /// [`RegionConfig::ring_entries`].
    pub ring_entries: u32,
    /// [`RegionConfig::slots`].
    pub slots: u32,
    /// [`RegionConfig::slot_size`].
    pub slot_size: u32,
    /// [`RegionConfig::calls`].
    pub calls: u32,
    /// Must be 0.
    pub reserved: [u32; 17],
}

/// The words of the header that the host alone writes.
#[repr(C, align(64))]
pub struct HostLine<A: Atomics> {
    /// A [`state`].
    pub state: A::U32,
    /// Counts up while the daemon lives; see clause H1.
    pub heartbeat: A::U32,
    /// Host workers asleep on the doorbell. The device rings only if it is not 0.
    pub parked: A::U32,
    /// The host stores a changing value here to wake a parked device.
    pub bell: A::U32,
}

/// The words of the header that the device alone writes.
#[repr(C, align(64))]
pub struct DeviceLine<A: Atomics> {
    /// The device stores a changing value here to wake a parked host worker.
    pub doorbell: A::U32,
    /// Device workers asleep on the host's bell (emulators only).
    pub parked: A::U32,
}

/// The whole header.
#[repr(C)]
pub struct Header<A: Atomics> {
    /// Fixed before anybody attaches.
    pub fixed: HeaderFixed,
    /// Written by the host.
    pub host: HostLine<A>,
    /// Written by the device.
    pub device: DeviceLine<A>,
}

/// Values of [`HostLine::state`]. Zero is "not yet laid out".
pub mod state {
    /// The daemon serves this region.
    pub const RUNNING: u32 = 1;
    /// The daemon has left for good: every wait ends with `EIO`.
    pub const STOPPED: u32 = 2;
}

#[cfg(not(loom))]
const _: () = {
    use crate::words::HostAtomics;
    assert!(size_of::<HeaderFixed>() == 120);
    assert!(core::mem::offset_of!(Header<HostAtomics>, host) == 128);
    assert!(core::mem::offset_of!(Header<HostAtomics>, device) == 192);
    assert!(size_of::<Header<HostAtomics>>() <= HEADER_LEN);
};

/// Byte offsets of everything in a region: a pure function of its [`RegionConfig`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionLayout {
    /// What it was made from.
    pub config: RegionConfig,
    /// Bytes from one shard to the next.
    pub shard_stride: usize,
    /// Offset of cell 0.
    pub cells: usize,
    /// Offset of transfer slot 0.
    pub slots: usize,
    /// Bytes of the whole region.
    pub total: usize,
}

impl RegionLayout {
    /// Lays a region out; `EINVAL` for a configuration outside its documented limits.
    pub const fn new(config: RegionConfig) -> Result<RegionLayout, Errno> {
        let c = &config;
        let fine = c.shards >= 1
            && c.shards <= 256
            && c.ring_entries.is_power_of_two()
            && c.ring_entries >= 2
            && c.ring_entries <= 65_536
            && c.slots >= 1
            && c.slots <= 65_536
            && c.slot_size.is_power_of_two()
            && c.slot_size >= 4096
            && c.slot_size <= 2 << 20
            && c.calls >= 1
            && c.calls <= 262_144
            && c.device_window <= 1 << 48;
        if !fine {
            return Err(Errno::EINVAL);
        }
        // With these limits the sum stays under 2^38: no step below can overflow a 64-bit usize.
        let shard_stride = 2 * LINE + c.ring_entries as usize * LINE;
        let cells = HEADER_LEN + c.shards as usize * shard_stride;
        let slots =
            (cells + (c.slots as usize + c.calls as usize) * LINE).next_multiple_of(HEADER_LEN);
        let total = slots + c.slots as usize * c.slot_size as usize;
        Ok(RegionLayout { config, shard_stride, cells, slots, total })
    }

    /// The header's fixed part for this layout.
    pub fn header(&self) -> HeaderFixed {
        HeaderFixed {
            magic: MAGIC,
            version: VERSION,
            header_len: HEADER_LEN as u32,
            total: self.total as u64,
            device_window: self.config.device_window,
            shards: self.config.shards,
            ring_entries: self.config.ring_entries,
            slots: self.config.slots,
            slot_size: self.config.slot_size,
            calls: self.config.calls,
            reserved: [0; 17],
        }
    }

    /// The layout that a header describes: `EPROTO` if it is of another protocol or version,
    /// contradicts itself, or does not fit in `len` bytes of memory.
    pub fn from_header(header: &HeaderFixed, len: usize) -> Result<RegionLayout, Errno> {
        let config = RegionConfig {
            shards: header.shards,
            ring_entries: header.ring_entries,
            slots: header.slots,
            slot_size: header.slot_size,
            calls: header.calls,
            device_window: header.device_window,
        };
        let layout = RegionLayout::new(config).map_err(|_| Errno::EPROTO)?;
        if *header != layout.header() || layout.total > len {
            return Err(Errno::EPROTO);
        }
        Ok(layout)
    }

    /// Completion cells in all.
    pub const fn cell_count(&self) -> u32 {
        self.config.slots + self.config.calls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l1_a_header_describes_its_own_layout_and_no_other() {
        let layout = RegionLayout::new(RegionConfig::default()).unwrap();
        let header = layout.header();
        assert_eq!(RegionLayout::from_header(&header, layout.total), Ok(layout));
        assert_eq!(RegionLayout::from_header(&header, layout.total - 1), Err(Errno::EPROTO));
        // Any flipped bit is noticed.
        for bit in 0..size_of::<HeaderFixed>() * 8 {
            let mut bytes = [0u8; size_of::<HeaderFixed>()];
            bytes.copy_from_slice(bytemuck::bytes_of(&header));
            bytes[bit / 8] ^= 1 << (bit % 8);
            let bad: HeaderFixed = bytemuck::pod_read_unaligned(&bytes);
            // A flip gives no layout, or one whose parts still end where the header says.
            if let Ok(other) = RegionLayout::from_header(&bad, usize::MAX) {
                assert_eq!((other.total, other.header()), (layout.total, bad), "bit {bit}");
                assert_ne!(other.config, layout.config, "bit {bit}");
            }
        }
    }

    #[test]
    fn l1_parts_do_not_overlap() {
        for config in [
            RegionConfig {
                shards: 1,
                ring_entries: 2,
                slots: 1,
                slot_size: 4096,
                ..Default::default()
            },
            RegionConfig::default(),
            RegionConfig { shards: 256, slots: 65_536, slot_size: 2 << 20, ..Default::default() },
        ] {
            let l = RegionLayout::new(config).unwrap();
            assert!(HEADER_LEN + config.shards as usize * l.shard_stride <= l.cells);
            assert!(l.cells + l.cell_count() as usize * LINE <= l.slots);
            assert_eq!(l.slots % HEADER_LEN, 0);
        }
    }

    #[test]
    fn l1_sizes_outside_the_limits_are_refused() {
        let d = RegionConfig::default();
        for bad in [
            RegionConfig { shards: 0, ..d },
            RegionConfig { shards: 257, ..d },
            RegionConfig { ring_entries: 3, ..d },
            RegionConfig { ring_entries: 1, ..d },
            RegionConfig { slots: 0, ..d },
            RegionConfig { slot_size: 2048, ..d },
            RegionConfig { slot_size: 4 << 20, ..d },
            RegionConfig { calls: 0, ..d },
            RegionConfig { device_window: u64::MAX, ..d },
        ] {
            assert_eq!(RegionLayout::new(bad), Err(Errno::EINVAL), "{bad:?}");
        }
    }
}
