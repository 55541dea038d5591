//! A client's sockets by handle.

use super::lock;
use super::socket::Sock;
use gpu_abi::request::HANDLE_NONE;
use gpu_abi::socket::index_of;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// Places for sockets. A place goes to the end of the queue of free ones and comes back with the next
/// generation (clause N2).
pub(crate) struct Table {
    places: Box<[Mutex<Option<Arc<Sock>>>]>,
    bits: u32,
    /// Free places, the longest unused first, each with its next handle.
    free: Mutex<VecDeque<u32>>,
    /// Sockets whose other end is the operating system's.
    pub(crate) outside: AtomicU32,
    /// A place has become free.
    freed: Notify,
}

impl Table {
    /// Room for `sockets`, of which `quota` can be in use at once.
    pub(crate) fn new(sockets: u32, quota: u32) -> Table {
        let bits = sockets.next_power_of_two().trailing_zeros();
        Table {
            places: (0..sockets).map(|_| Mutex::new(None)).collect(),
            bits,
            // Generation 1: handle 0, which zeroed requests carry, names nothing.
            free: Mutex::new((0..sockets.min(quota)).map(|index| 1 << bits | index).collect()),
            outside: AtomicU32::new(0),
            freed: Notify::new(),
        }
    }

    pub(crate) fn index(&self, handle: u32) -> u32 {
        index_of(handle, self.places.len() as u32)
    }

    /// A handle for a socket to come: [`Table::insert`] it or [`Table::release`] it.
    pub(crate) fn reserve(&self) -> Option<u32> {
        lock(&self.free).pop_front()
    }

    /// As [`Table::reserve`]; waits for one.
    pub(crate) async fn reserve_soon(&self) -> u32 {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            match self.reserve() {
                Some(handle) => return handle,
                None => freed.await,
            }
        }
    }

    pub(crate) fn insert(&self, sock: Arc<Sock>) {
        if sock.is_outside() {
            self.outside.fetch_add(1, Ordering::Relaxed);
        }
        let index = self.index(sock.handle) as usize;
        *lock(&self.places[index]) = Some(sock);
    }

    /// The socket that this handle names now.
    pub(crate) fn get(&self, handle: u32) -> Option<Arc<Sock>> {
        let place = lock(self.places.get(self.index(handle) as usize)?);
        place.as_ref().filter(|sock| sock.handle == handle).cloned()
    }

    /// Ends the handle; its place stays taken until [`Table::release`].
    pub(crate) fn take(&self, handle: u32) -> Option<Arc<Sock>> {
        let mut place = lock(self.places.get(self.index(handle) as usize)?);
        let sock = place.take_if(|sock| sock.handle == handle)?;
        if sock.is_outside() {
            self.outside.fetch_sub(1, Ordering::Relaxed);
        }
        Some(sock)
    }

    /// Gives a place back, whose handle was reserved and names nothing any more.
    pub(crate) fn release(&self, handle: u32) {
        let mut next = handle.wrapping_add(1 << self.bits);
        if next == HANDLE_NONE || next >> self.bits == 0 {
            next = 1 << self.bits | self.index(handle);
        }
        lock(&self.free).push_back(next);
        self.freed.notify_waiters();
    }

    /// All sockets there are now.
    pub(crate) fn all(&self) -> impl Iterator<Item = Arc<Sock>> {
        self.places.iter().filter_map(|place| lock(place).clone())
    }

    /// Sockets in use.
    pub(crate) fn in_use(&self) -> usize {
        self.places.iter().filter(|place| lock(place).is_some()).count()
    }
}
