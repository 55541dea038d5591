//! What the host writes into device memory so that kernels have sockets: a header.

use bytemuck::{Pod, Zeroable};
use gpu_abi::RegionLayout;
use gpu_port::{Bitmap, Placed, PortHeader};
use gpu_rt::atomic::{DeviceAtomicU32, DeviceAtomicU64};

/// `b"GPUNETHD"`, little endian.
pub const MAGIC: u64 = u64::from_le_bytes(*b"GPUNETHD");

/// The header: device addresses of the parts, and their sizes.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct NetHeader {
    /// [`MAGIC`].
    pub magic: u64,
    /// The way to the host.
    pub port: PortHeader,
    pub(crate) shared: u64,
    pub(crate) records: u64,
    pub(crate) polls: u64,
    pub(crate) poll_bits: u64,
    /// Sockets.
    pub sockets: u32,
    /// Event queues.
    pub pollers: u32,
}

impl NetHeader {
    #[inline]
    pub(crate) fn port(&self) -> Placed<'_> {
        // SAFETY: [`Net::from_addr`](crate::Net::from_addr)'s caller, or the host that filled the kernel's
        // arguments, vouched for the header and what it names.
        unsafe { Placed::new(&self.port) }
    }
}

/// What all sockets share. Zeroed: nothing is under way.
#[repr(C, align(64))]
pub(crate) struct Shared {
    /// Requests that were begun and are not waited for yet.
    pub(crate) under_way: DeviceAtomicU32,
}

/// What device memory keeps about a socket. Zeroed: none is here yet.
///
/// The two indices are the device's own: the region has copies for the host. They go on from one
/// connection to the next, as the region's do.
#[repr(C, align(64))]
pub(crate) struct Record {
    /// Held by whoever takes bytes from rx.
    pub(crate) rx_lock: DeviceAtomicU32,
    /// Held by whoever puts bytes into tx.
    pub(crate) tx_lock: DeviceAtomicU32,
    /// The handle of the socket that is here now; 0: none. Changes under both locks, so that it can be
    /// relied on under either.
    pub(crate) handle: DeviceAtomicU32,
    /// Bytes taken from rx.
    pub(crate) rx_head: DeviceAtomicU32,
    /// Bytes put into tx.
    pub(crate) tx_tail: DeviceAtomicU32,
    /// Counts watches.
    pub(crate) watches: DeviceAtomicU32,
    /// [`NONBLOCKING`], [`SENT_ALL`].
    pub(crate) flags: DeviceAtomicU32,
    /// How long to wait for bytes, and for room, in nanoseconds; 0: as long as it takes.
    pub(crate) recv_timeout: DeviceAtomicU64,
    pub(crate) send_timeout: DeviceAtomicU64,
}

/// Calls on the socket do not wait.
pub(crate) const NONBLOCKING: u32 = 1;
/// The socket has been shut down for sending.
pub(crate) const SENT_ALL: u32 = 2;

/// What device memory keeps about an event queue.
#[repr(C, align(64))]
pub(crate) struct PollRecord {
    /// Held by whoever takes an event.
    pub(crate) lock: DeviceAtomicU32,
    /// Events taken.
    pub(crate) head: DeviceAtomicU32,
}

/// Sizes and offsets.
#[derive(Clone, Copy, Debug)]
pub struct NetLayout {
    sockets: u32,
    pollers: u32,
    parts: [usize; 4],
    total: usize,
}

impl NetLayout {
    /// The layout for a region with sockets.
    #[must_use]
    pub fn new(region: &RegionLayout) -> NetLayout {
        let (sockets, pollers) = (region.config.sockets, region.config.pollers);
        let shared = size_of::<NetHeader>().next_multiple_of(64);
        let records = shared + size_of::<Shared>();
        let polls = records + sockets as usize * size_of::<Record>();
        let poll_bits = polls + pollers as usize * size_of::<PollRecord>();
        let total = (poll_bits + Bitmap::words(pollers) * 8).next_multiple_of(64);
        NetLayout { sockets, pollers, parts: [shared, records, polls, poll_bits], total }
    }

    /// Bytes of zeroed device memory that it needs, aligned to 64.
    #[must_use]
    pub fn total(&self) -> usize {
        self.total
    }

    /// The header to be written at device address `base`.
    #[must_use]
    pub fn header(&self, base: u64, port: PortHeader) -> NetHeader {
        let [shared, records, polls, poll_bits] = self.parts.map(|part| base + part as u64);
        let (sockets, pollers) = (self.sockets, self.pollers);
        NetHeader { magic: MAGIC, port, shared, records, polls, poll_bits, sockets, pollers }
    }
}
