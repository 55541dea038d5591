//! Where things lie in the region, and the header that says so.
//!
//! ```text
//!  0          4 KiB
//!  | header   | shard 0 | shard 1 | … | cells            | pad | slots      | sockets, if any …
//!               |                       |                        |
//!               | head line (64 B)      | slots + calls of       | slots × slot_size,
//!               | spare line (64 B)     | 64 B each: cell i < slots | 4 KiB aligned
//!               | entries × 64 B        | belongs to slot i
//!
//!  … | socket control blocks | event queues                   | pad | rings                  | total
//!      | sockets × 256 B       | pollers × (two lines, then       | sockets × (tx, rx) of
//!                              | 2 × sockets or more words)       | socket_ring bytes, 4 KiB aligned
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
use crate::socket::{SOCKET_STRIDE, queue_stride};
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
    /// Sockets: 0 (none) to 65,536.
    pub sockets: u32,
    /// Bytes of each of a socket's two rings: a power of two, 4 KiB to 4 MiB; 0 without sockets.
    pub socket_ring: u32,
    /// Event queues, with which device threads wait for many sockets: 0 to 1,024; 0 without sockets.
    pub pollers: u32,
}

impl RegionConfig {
    /// What [`Default`] gives.
    pub const DEFAULT: RegionConfig = RegionConfig {
        shards: 2,
        ring_entries: 4096,
        slots: 256,
        slot_size: 64 << 10,
        calls: 4096,
        device_window: 0,
        sockets: 0,
        socket_ring: 0,
        pollers: 0,
    };
}

impl Default for RegionConfig {
    fn default() -> Self {
        Self::DEFAULT
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
    /// [`RegionConfig::sockets`].
    pub sockets: u32,
    /// [`RegionConfig::socket_ring`].
    pub socket_ring: u32,
    /// [`RegionConfig::pollers`].
    pub pollers: u32,
    /// Must be 0.
    pub reserved: [u32; 14],
}

impl HeaderFixed {
    /// The configuration that it states.
    #[inline]
    pub const fn config(&self) -> RegionConfig {
        RegionConfig {
            shards: self.shards,
            ring_entries: self.ring_entries,
            slots: self.slots,
            slot_size: self.slot_size,
            calls: self.calls,
            device_window: self.device_window,
            sockets: self.sockets,
            socket_ring: self.socket_ring,
            pollers: self.pollers,
        }
    }
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
    /// Not 0: whoever launched the kernels asks those that serve for ever to end (clause N13).
    pub ending: A::U32,
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
    /// Offset of socket control block 0.
    pub sockets: usize,
    /// Offset of event queue 0.
    pub queues: usize,
    /// Offset of socket 0's first ring.
    pub socket_rings: usize,
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
        let fine = fine
            && if c.sockets == 0 {
                c.socket_ring == 0 && c.pollers == 0
            } else {
                c.sockets <= 65_536
                    && c.socket_ring.is_power_of_two()
                    && c.socket_ring >= 4096
                    && c.socket_ring <= 4 << 20
                    && c.pollers <= 1024
            };
        if !fine {
            return Err(Errno::EINVAL);
        }
        // With these limits the sum stays under 2^41: no step below can overflow a 64-bit usize.
        let shard_stride = 2 * LINE + c.ring_entries as usize * LINE;
        let cells = HEADER_LEN + c.shards as usize * shard_stride;
        let slots =
            (cells + (c.slots as usize + c.calls as usize) * LINE).next_multiple_of(HEADER_LEN);
        let sockets = slots + c.slots as usize * c.slot_size as usize;
        let queues = sockets + c.sockets as usize * SOCKET_STRIDE;
        let socket_rings =
            (queues + c.pollers as usize * queue_stride(c.sockets)).next_multiple_of(HEADER_LEN);
        let total = socket_rings + c.sockets as usize * 2 * c.socket_ring as usize;
        Ok(RegionLayout {
            config,
            shard_stride,
            cells,
            slots,
            sockets,
            queues,
            socket_rings,
            total,
        })
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
            sockets: self.config.sockets,
            socket_ring: self.config.socket_ring,
            pollers: self.config.pollers,
            reserved: [0; 14],
        }
    }

    /// The layout that a header describes: `EPROTO` if it is of another protocol or version,
    /// contradicts itself, or does not fit in `len` bytes of memory.
    pub fn from_header(header: &HeaderFixed, len: usize) -> Result<RegionLayout, Errno> {
        let config = header.config();
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
            RegionConfig { sockets: 1, socket_ring: 4096, pollers: 3, ..Default::default() },
            RegionConfig {
                sockets: 65_536,
                socket_ring: 4 << 20,
                pollers: 1024,
                ..Default::default()
            },
        ] {
            let l = RegionLayout::new(config).unwrap();
            assert!(HEADER_LEN + config.shards as usize * l.shard_stride <= l.cells);
            assert!(l.cells + l.cell_count() as usize * LINE <= l.slots);
            assert_eq!(l.slots % HEADER_LEN, 0);
            assert!(l.slots + config.slots as usize * config.slot_size as usize <= l.sockets);
            assert_eq!((l.sockets % LINE, l.queues % LINE), (0, 0));
            assert!(l.sockets + config.sockets as usize * SOCKET_STRIDE <= l.queues);
            let queues = config.pollers as usize * queue_stride(config.sockets);
            assert!(l.queues + queues <= l.socket_rings);
            assert_eq!(l.socket_rings % HEADER_LEN, 0);
            let rings = 2 * config.sockets as usize * config.socket_ring as usize;
            assert_eq!(l.socket_rings + rings, l.total);
            if config.sockets == 0 {
                assert_eq!(l.total, l.sockets, "who has no sockets pays nothing");
            }
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
            RegionConfig { sockets: 65_537, socket_ring: 4096, ..d },
            RegionConfig { sockets: 1, socket_ring: 0, ..d },
            RegionConfig { sockets: 1, socket_ring: 5000, ..d },
            RegionConfig { sockets: 1, socket_ring: 8 << 20, ..d },
            RegionConfig { sockets: 1, socket_ring: 4096, pollers: 1025, ..d },
            RegionConfig { sockets: 0, socket_ring: 4096, ..d },
            RegionConfig { sockets: 0, pollers: 1, ..d },
        ] {
            assert_eq!(RegionLayout::new(bad), Err(Errno::EINVAL), "{bad:?}");
        }
    }
}
