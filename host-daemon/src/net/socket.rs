//! One socket: its control words and its two rings, as the host uses them.
//!
//! ```text
//!          rx (host → device)                        tx (device → host)
//!
//!  readable ─▶ pull ─▶ rx_tail, rx_turn      Wake(TX) ─▶ push ─▶ tx_head, tx_turn
//!              │ no room: rx_sleeps = 1                  │ nothing: tx_sleeps = 1
//!              ▼ until Wake(RX)                          │ the peer takes no more: a task waits
//!              │ end: RX_ENDED                           ▼ until it is writable
//! ```
//!
//! Each direction has a lock, and the index that is the host's lives under it: what stands in the region
//! is a copy for the device, which the host never reads back (clause N4). Where two locks are taken it
//! is a socket's `tx` before its peer's `rx`.

use super::{Net, addr, lock};
use gpu_abi::socket::{self, NetAddr, parts, state, used, watch};
use gpu_abi::{Errno, HostAtomics};
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// What sort of socket it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Stream,
    Listener,
    Datagram,
    UnixDatagram,
}

impl Kind {
    pub(crate) fn has_datagrams(self) -> bool {
        matches!(self, Kind::Datagram | Kind::UnixDatagram)
    }
}

/// What is at the other end.
pub(crate) enum Link {
    /// A descriptor of the operating system's, non-blocking.
    Fd(OwnedFd),
    /// A socket of a client of this daemon (clause N15). Set once, right after both were made.
    Local(OnceLock<(Weak<Net>, Weak<Sock>)>),
}

pub(crate) struct Rx {
    /// Bytes put into rx.
    pub(crate) tail: u32,
    /// Nothing more is put into it.
    pub(crate) ended: bool,
    /// The peer has ended, or the connection has failed: that is told once, and perhaps before its last bytes are read.
    pub(crate) last: bool,
    /// The device has been told that the host waits for room.
    sleeps: bool,
    /// A listener's connections that may not have been taken yet: where in rx, and their handles.
    pub(crate) waiting: VecDeque<(u32, u32)>,
}

pub(crate) struct Tx {
    /// Bytes taken from tx.
    pub(crate) head: u32,
    /// Nothing more is taken from it.
    pub(crate) ended: bool,
    /// When tx is empty, sending is to end.
    pub(crate) shut: bool,
    /// A task waits for the peer.
    pub(crate) flushing: bool,
}

/// What came of a look at tx.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// All that was there has been sent.
    Empty,
    /// The peer takes no more now.
    Blocked,
    /// There is more, but others want their turn.
    More,
    /// Nothing will be sent any more.
    Ended,
}

/// What came of a look at rx and what fills it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pulled {
    /// There may be more.
    More,
    /// There was no more.
    Drained,
    /// rx has no room.
    Full,
    /// Nothing will come any more.
    Ended,
}

/// The longest sequence of system calls for one socket before others have their turn.
pub(crate) const ROUNDS: usize = 4;

pub(crate) struct Sock {
    pub(crate) handle: u32,
    pub(crate) kind: Kind,
    pub(crate) link: Link,
    pub(crate) rx: Mutex<Rx>,
    pub(crate) tx: Mutex<Tx>,
    /// A listener's rx may have room again.
    pub(crate) room: Notify,
    /// The last watch that was answered.
    watched: AtomicU64,
    /// Its last event: which queue's, and the number there. Looked at and changed under that queue's lock, or about
    /// another's, which is as good as none.
    pub(crate) event: AtomicU64,
    /// The device has closed it.
    pub(crate) closed: AtomicBool,
    /// Its place has been given back.
    pub(crate) finished: AtomicBool,
    /// A listener's limit on connections that wait.
    pub(crate) backlog: u32,
    pub(crate) tasks: Mutex<Vec<AbortHandle>>,
    /// Its words and rings. The region outlives it: see `Net::memory`.
    pub(crate) words: &'static socket::Socket<HostAtomics>,
    pub(crate) tx_ring: *mut u8,
    pub(crate) rx_ring: *mut u8,
    pub(crate) size: u32,
}

// SAFETY: the ring pointers name shared memory that any thread may access; all else is.
unsafe impl Send for Sock {}
// SAFETY: as above.
unsafe impl Sync for Sock {}

/// A socket's descriptor, for tokio to watch; open as long as the socket is.
pub(crate) struct Watched(pub(crate) Arc<Sock>);

impl AsRawFd for Watched {
    fn as_raw_fd(&self) -> RawFd {
        self.0.fd().unwrap_or(-1)
    }
}

// SAFETY: a socket keeps its descriptor; without one there is nothing to watch.
unsafe impl addr::Keeps for Watched {}

impl Sock {
    /// A socket at the place of a reserved handle, not yet known to anybody.
    pub(crate) fn new(net: &Net, handle: u32, kind: Kind, link: Link, backlog: u32) -> Arc<Sock> {
        let index = net.table.index(handle);
        let region = &net.region;
        let words = region.socket(index).unwrap_or_else(|| unreachable!("reserved"));
        let (tx_ring, rx_ring) =
            region.socket_rings(index).unwrap_or_else(|| unreachable!("reserved"));
        // The rings are empty: whatever the device says its indices are, ours are the same. Acquire: pairs
        // with its releases of the connection before (clause N3).
        let (rx_head, tx_tail) = (
            words.device.rx_head.load(Ordering::Acquire),
            words.device.tx_tail.load(Ordering::Acquire),
        );
        Arc::new(Sock {
            handle,
            kind,
            link,
            rx: Mutex::new(Rx {
                tail: rx_head,
                ended: false,
                last: false,
                sleeps: false,
                waiting: VecDeque::new(),
            }),
            tx: Mutex::new(Tx { head: tx_tail, ended: false, shut: false, flushing: false }),
            room: Notify::new(),
            watched: AtomicU64::new(words.device.watch.load(Ordering::Relaxed)),
            event: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            finished: AtomicBool::new(false),
            backlog,
            tasks: Mutex::new(Vec::new()),
            words,
            tx_ring,
            rx_ring,
            size: region.layout().config.socket_ring,
        })
    }

    /// Tells the device of it, by its line. The handle itself reaches the device by an answer or a
    /// listener's ring, which come after this.
    pub(crate) fn publish(&self, local: NetAddr, peer: NetAddr) {
        let host = &self.words.host;
        for (words, addr) in [(&self.words.names.local, local), (&self.words.names.peer, peer)] {
            let values: [u64; 4] = bytemuck::cast(addr);
            for (word, value) in words.iter().zip(values) {
                word.store(value, Ordering::Relaxed);
            }
        }
        host.errno.store(0, Ordering::Relaxed);
        host.state.store(state::OPEN, Ordering::Relaxed);
        host.tx_sleeps.store(1, Ordering::Relaxed);
        host.rx_sleeps.store(0, Ordering::Relaxed);
        host.rx_tail.store(lock(&self.rx).tail, Ordering::Relaxed);
        host.tx_head.store(lock(&self.tx).head, Ordering::Relaxed);
        // Release: pairs with the acquire of whoever learns the handle, directly or through the answer.
        host.handle.store(self.handle, Ordering::Release);
    }

    pub(crate) fn fd(&self) -> Option<RawFd> {
        match &self.link {
            Link::Fd(fd) => Some(fd.as_raw_fd()),
            Link::Local(_) => None,
        }
    }

    pub(crate) fn is_outside(&self) -> bool {
        matches!(self.link, Link::Fd(_))
    }

    /// The other end, if that is a client's and both still are.
    pub(crate) fn local_peer(&self) -> Option<(Arc<Net>, Arc<Sock>)> {
        let Link::Local(peer) = &self.link else { return None };
        let (net, sock) = peer.get()?;
        Some((net.upgrade()?, sock.upgrade()?))
    }

    /// Room in rx, or none, of which the device has been told. `EPROTO` as N4 says.
    pub(crate) fn rx_room(&self, rx: &mut Rx, at_least: u32) -> Result<u32, Errno> {
        let words = self.words;
        // Acquire: pairs with the device's release after it copied out: its reads are done before new
        // bytes take their place.
        let room = |rx: &Rx| {
            let head = words.device.rx_head.load(Ordering::Acquire);
            used(rx.tail, head, self.size).map(|used| self.size - used).ok_or(Errno::EPROTO)
        };
        if rx.sleeps {
            rx.sleeps = false;
            words.host.rx_sleeps.store(0, Ordering::Relaxed);
        }
        let there = room(rx)?;
        if there >= at_least {
            return Ok(there);
        }
        rx.sleeps = true;
        words.host.rx_sleeps.store(1, Ordering::Relaxed);
        // N5. SeqCst: pairs with the device's fence between its index and its look at `rx_sleeps`.
        fence(Ordering::SeqCst);
        let there = room(rx)?;
        if there < at_least {
            return Ok(0);
        }
        rx.sleeps = false;
        words.host.rx_sleeps.store(0, Ordering::Relaxed);
        Ok(there)
    }

    /// Room in rx for `len` bytes from its tail on, as vectors for the operating system.
    pub(crate) fn rx_vectors(&self, tail: u32, len: u32) -> ([libc::iovec; 2], usize) {
        vectors(self.rx_ring, tail, len, self.size)
    }

    /// Bytes of tx from its head on.
    pub(crate) fn tx_vectors(&self, head: u32, len: u32) -> ([libc::iovec; 2], usize) {
        vectors(self.tx_ring, head, len, self.size)
    }

    /// Bytes have been put into rx.
    pub(crate) fn advance_rx(&self, rx: &mut Rx, len: u32) {
        rx.tail = rx.tail.wrapping_add(len);
        // Release: pairs with the device's acquire (clause N3): it finds the bytes.
        self.words.host.rx_tail.store(rx.tail, Ordering::Release);
    }

    /// Bytes have been taken from tx.
    pub(crate) fn advance_tx(&self, tx: &mut Tx, len: u32) {
        tx.head = tx.head.wrapping_add(len);
        // Release: pairs with the device's acquire (clause N3): our reads are done.
        self.words.host.tx_head.store(tx.head, Ordering::Release);
    }

    /// Bytes in tx, or none, of which the device has been told. `EPROTO` as N4 says.
    pub(crate) fn tx_used(&self, tx: &Tx) -> Result<u32, Errno> {
        let (host, device) = (&self.words.host, &self.words.device);
        // Acquire: pairs with the device's release (clause N3): we find the bytes.
        let there = || {
            used(device.tx_tail.load(Ordering::Acquire), tx.head, self.size).ok_or(Errno::EPROTO)
        };
        let now = there()?;
        if now > 0 {
            if host.tx_sleeps.load(Ordering::Relaxed) != 0 {
                host.tx_sleeps.store(0, Ordering::Relaxed);
            }
            return Ok(now);
        }
        host.tx_sleeps.store(1, Ordering::Relaxed);
        // N5. SeqCst: pairs with the device's fence between its index and its look at `tx_sleeps`.
        fence(Ordering::SeqCst);
        let now = there()?;
        if now > 0 {
            host.tx_sleeps.store(0, Ordering::Relaxed);
        }
        Ok(now)
    }

    /// N6, N7: something has changed for those who receive.
    pub(crate) fn rx_changed(&self, net: &Net) {
        // Release: pairs with the acquire of the device's wait.
        self.words.host.rx_turn.fetch_add(1, Ordering::Release);
        self.tell(net, watch::READ);
    }

    /// N6, N7: something has changed for those who send.
    pub(crate) fn tx_changed(&self, net: &Net) {
        // Release: as above.
        self.words.host.tx_turn.fetch_add(1, Ordering::Release);
        self.tell(net, watch::WRITE);
    }

    /// N7, D4: whoever watches hears of it, and whoever sleeps is woken.
    fn tell(&self, net: &Net, ready: u64) {
        // SeqCst: pairs with the device's fence between its watch and its own last look.
        fence(Ordering::SeqCst);
        let word = self.words.device.watch.load(Ordering::Relaxed);
        if word & ready != 0 && self.watched.swap(word, Ordering::Relaxed) != word {
            net.append_event(word, self);
        }
        net.ring();
    }

    /// The device watches, and asks whether there is something to hear of already.
    pub(crate) fn look_for_watch(&self, net: &Net) {
        let (rx_tail, rx_ended) = {
            let rx = lock(&self.rx);
            (rx.tail, rx.ended)
        };
        let (tx_head, tx_ended) = {
            let tx = lock(&self.tx);
            (tx.head, tx.ended)
        };
        let device = &self.words.device;
        if rx_ended || rx_tail != device.rx_head.load(Ordering::Relaxed) {
            self.tell(net, watch::READ);
        }
        let in_tx = device.tx_tail.load(Ordering::Relaxed).wrapping_sub(tx_head);
        if tx_ended || in_tx < self.size {
            self.tell(net, watch::WRITE);
        }
    }

    /// Under the lock of the direction that ends: afterwards its place may be another socket's.
    fn add_state(&self, bits: u32, errno: Option<Errno>) {
        if let Some(errno) = errno {
            self.words.host.errno.store(errno.raw(), Ordering::Relaxed);
        }
        // Release: pairs with the device's acquire: what came before the end is there.
        self.words.host.state.fetch_or(bits, Ordering::Release);
    }

    /// No byte will follow those in rx, because of `errno` if not in good order.
    pub(crate) fn end_rx(&self, net: &Net, errno: Option<Errno>) {
        {
            let mut rx = lock(&self.rx);
            if std::mem::replace(&mut rx.ended, true) {
                return;
            }
            self.add_state(state::RX_ENDED, errno);
        }
        self.rx_changed(net);
    }

    /// Nothing will be taken from tx any more.
    pub(crate) fn end_tx(&self, net: &Net, errno: Option<Errno>) {
        {
            let mut tx = lock(&self.tx);
            if std::mem::replace(&mut tx.ended, true) {
                return;
            }
            self.add_state(state::TX_ENDED, errno);
        }
        self.tx_changed(net);
    }

    /// N12: the connection has failed.
    pub(crate) fn fail(&self, net: &Net, errno: Errno) {
        self.end_rx(net, Some(errno));
        self.end_tx(net, Some(errno));
    }

    /// Ends its tasks where they wait.
    pub(crate) fn abort_tasks(&self) {
        for task in lock(&self.tasks).drain(..) {
            task.abort();
        }
    }
}

fn vectors(ring: *mut u8, from: u32, len: u32, size: u32) -> ([libc::iovec; 2], usize) {
    let (at, first, second) = parts(from, len, size);
    // SAFETY: `parts` stays within the ring's `size` bytes.
    let base = unsafe { ring.add(at) };
    let vectors = [
        libc::iovec { iov_base: base.cast(), iov_len: first },
        libc::iovec { iov_base: ring.cast(), iov_len: second },
    ];
    (vectors, if second > 0 { 2 } else { 1 })
}

/// Copies bytes into a ring, from index `from` on.
pub(crate) fn copy_in(ring: *mut u8, from: u32, bytes: &[u8], size: u32) {
    let (at, first, second) = parts(from, bytes.len() as u32, size);
    // SAFETY: `parts` stays within the ring's `size` bytes, of which the caller has these to itself.
    unsafe {
        ring.add(at).copy_from_nonoverlapping(bytes.as_ptr(), first);
        ring.copy_from_nonoverlapping(bytes.as_ptr().add(first), second);
    }
}

/// Copies bytes out of a ring, from index `from` on.
pub(crate) fn copy_out(ring: *mut u8, from: u32, bytes: &mut [u8], size: u32) {
    let (at, first, second) = parts(from, bytes.len() as u32, size);
    // SAFETY: `parts` stays within the ring's `size` bytes. A hostile device may write them at the same
    // time: whatever was copied is judged after it was copied.
    unsafe {
        ring.add(at).copy_to_nonoverlapping(bytes.as_mut_ptr(), first);
        ring.copy_to_nonoverlapping(bytes.as_mut_ptr().add(first), second);
    }
}
