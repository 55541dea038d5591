//! Requests: the file system's way to the host. The steps are those of [`gpu_port::Port`].

use crate::bitmap::Bitmap;
use crate::evict::Eviction;
use crate::index::PageIndex;
use crate::layout::MountHeader;
use crate::mount::Fs;
use crate::stats::Count;
use core::time::Duration;
use gpu_abi::{Completion, Errno, Op, Region, RegionLayout, Request};
use gpu_port::{Port, PortHeader};
use gpu_rt::Group;
use gpu_rt::atomic::DeviceAtomicU32;
use gpu_rt::atomic::SystemAtomics;

pub(crate) use gpu_port::{Patience, Pool, Tail};

/// A mount, as far as it is a way to the host. Not the mount's own trait: who posts requests could
/// have the host write anywhere.
struct Mounted<'a, I: PageIndex, E: Eviction>(&'a Fs<I, E>);

impl<I: PageIndex, E: Eviction> Port for Mounted<'_, I, E> {
    #[inline]
    fn region(&self) -> Region<SystemAtomics> {
        self.0.region()
    }
    #[inline]
    fn tail(&self, shard: u32) -> &Tail {
        self.0.tail(shard)
    }
    #[inline]
    fn tag(&self, cell: u32) -> &DeviceAtomicU32 {
        self.0.tag(cell)
    }
    #[inline]
    fn slot_bits(&self) -> Bitmap<'_> {
        self.0.slot_bits()
    }
    #[inline]
    fn call_bits(&self) -> Bitmap<'_> {
        self.0.call_bits()
    }
    #[inline]
    fn shards(&self) -> u32 {
        self.0.header().shards
    }
    #[inline]
    fn slots(&self) -> u32 {
        self.0.header().slots
    }
    #[inline]
    fn posted(&self, count: u32) {
        self.0.count(Count::Requests, u64::from(count));
    }
}

impl MountHeader {
    /// The same way to the host for other users of the region: sockets share the mount's cells and
    /// rings.
    #[must_use]
    pub fn port(&self, region: &RegionLayout) -> PortHeader {
        let parts = [self.tails, self.tags, self.slot_bits, self.call_bits];
        PortHeader::new(region, self.region, parts)
    }
}

impl<I: PageIndex, E: Eviction> Fs<I, E> {
    /// As [`Port::try_claim`].
    #[inline]
    pub(crate) fn try_claim(&self, pool: Pool) -> Option<u32> {
        Mounted(self).try_claim(pool)
    }

    /// As [`Port::claim`].
    pub(crate) fn claim(&self, pool: Pool) -> Result<u32, Errno> {
        Mounted(self).claim(pool)
    }

    /// As [`Port::release_cell`].
    pub(crate) fn release_cell(&self, cell: u32) {
        Mounted(self).release_cell(cell);
    }

    /// As [`Port::post`].
    pub(crate) fn post<G: Group>(&self, cell: u32, request: Request) -> Result<u32, Errno> {
        Mounted(self).post::<G>(cell, request)
    }

    /// As [`Port::post_alone`].
    pub(crate) fn post_alone(&self, cell: u32, request: Request) -> Result<u32, Errno> {
        Mounted(self).post_alone(cell, request)
    }

    /// As [`Port::wait_for`].
    pub(crate) fn wait_for(&self, cell: u32, tag: u32) -> Result<Completion, Errno> {
        Mounted(self).wait_for(cell, tag)
    }

    /// As [`Port::wait_for_result`].
    pub(crate) fn wait_for_result(&self, cell: u32, tag: u32) -> Result<Result<u64, Errno>, Errno> {
        Mounted(self).wait_for_result(cell, tag)
    }

    /// As [`Port::is_answered`].
    pub(crate) fn is_answered(&self, cell: u32, tag: u32) -> bool {
        Mounted(self).is_answered(cell, tag)
    }

    /// As [`Port::call`].
    #[inline]
    pub(crate) fn call<G: Group>(&self, request: Request) -> Result<Completion, Errno> {
        Mounted(self).call::<G>(request)
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

    /// The time by the host's clock, since 1970, UTC: what `std::time::SystemTime::now` tells. A request; for
    /// how long something takes, `gpu_rt::clock` needs none.
    ///
    /// # Errors
    /// `EIO` if the host is gone.
    pub fn now<G: Group>(&self, group: &G) -> Result<Duration, Errno> {
        let nanoseconds: u64 = self.by_leader(group, || {
            let request = Request { op: Op::Time as u8, ..bytemuck::Zeroable::zeroed() };
            self.call::<G>(request)?.result()
        })?;
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// As [`gpu_port::by_leader`].
    pub(crate) fn by_leader<G: Group, T: bytemuck::Pod>(
        &self,
        group: &G,
        act: impl FnOnce() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        gpu_port::by_leader(group, act)
    }
}
