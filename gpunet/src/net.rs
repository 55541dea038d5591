//! The handle that kernels hold.

use crate::layout::{MAGIC, NetHeader, PollRecord, Record, Shared};
use bytemuck::{Pod, Zeroable};
use gpu_abi::Region;
use gpu_abi::Word32;
use gpu_port::{Bitmap, Placed, Port};
use gpu_rt::atomic::SystemAtomics;

/// The network: what a kernel gets in its arguments and passes around by value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct Net {
    header: u64,
}

impl Net {
    /// The handle whose header is at a device address.
    ///
    /// # Safety
    /// A header that [`crate::NetLayout`] made lies there, zeroed memory as laid out behind it, and the
    /// port that it names is mounted, for as long as the handle is used.
    #[must_use]
    pub const unsafe fn from_addr(header: u64) -> Net {
        Net { header }
    }

    #[inline]
    pub(crate) fn header<'a>(&self) -> &'a NetHeader {
        assert!(self.header != 0, "this Net has no sockets: the launching host must ask for some");
        // SAFETY: `from_addr`'s caller, or the host that filled the kernel's arguments, vouched for it; the
        // header never changes.
        let header = unsafe { &*(self.header as usize as *const NetHeader) };
        debug_assert!(header.magic == MAGIC);
        header
    }

    #[inline]
    pub(crate) fn port<'a>(&self) -> Placed<'a> {
        self.header().port()
    }

    #[inline]
    pub(crate) fn region(&self) -> Region<SystemAtomics> {
        self.port().region()
    }

    #[inline]
    pub(crate) fn shared<'a>(&self) -> &'a Shared {
        // SAFETY: laid out there, all atomic words.
        unsafe { &*(self.header().shared as usize as *const Shared) }
    }

    #[inline]
    pub(crate) fn record<'a>(&self, index: u32) -> &'a Record {
        let h = self.header();
        // SAFETY: laid out with so many records, all atomic words.
        let all = unsafe {
            core::slice::from_raw_parts(h.records as usize as *const Record, h.sockets as usize)
        };
        &all[index as usize]
    }

    #[inline]
    pub(crate) fn poll_record<'a>(&self, index: u32) -> &'a PollRecord {
        let h = self.header();
        // SAFETY: laid out with so many records, all atomic words.
        let all = unsafe {
            core::slice::from_raw_parts(h.polls as usize as *const PollRecord, h.pollers as usize)
        };
        &all[index as usize]
    }

    #[inline]
    pub(crate) fn poll_bits<'a>(&self) -> Bitmap<'a> {
        let h = self.header();
        // SAFETY: laid out with so many words.
        let words = unsafe {
            core::slice::from_raw_parts(h.poll_bits as usize as *const _, Bitmap::words(h.pollers))
        };
        Bitmap::new(words, h.pollers)
    }

    /// How many sockets there can be: [`Socket::index`](crate::Socket::index) is below this.
    #[must_use]
    pub fn sockets(&self) -> u32 {
        self.header().sockets
    }

    /// Bytes of each of a socket's rings: what it can have under way in a direction.
    #[must_use]
    pub fn ring_size(&self) -> usize {
        self.header().port.layout.socket_ring as usize
    }

    /// Whether the host asks kernels that serve for ever to end (clause N13). `accept` and
    /// [`Poll::wait`](crate::Poll::wait) say so by `ECANCELED`.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.region().header().host.ending.load_relaxed() != 0
    }
}
