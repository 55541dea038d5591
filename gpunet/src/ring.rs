//! One socket's rings, as the device uses them: whoever holds a direction's lock may look at its bytes
//! and move its index.
//!
//! ```text
//!   receive                                      send
//!   turn = rx_turn                               turn = tx_turn
//!   rx_tail == rx_head? ended? -> 0 or errno     tx_tail - tx_head == size? ended? -> errno
//!     wait while rx_turn == turn; again            wait while tx_turn == turn; again
//!   lock rx; copy out                            lock tx; copy in
//!   rx_head += n (release)                       tx_tail += n (release)
//!   unlock; fence                                unlock; fence
//!   rx_sleeps, and half is free: post Wake       tx_sleeps: post Wake
//! ```

use crate::layout::{NONBLOCKING, NetHeader, Record, SENT_ALL};
use crate::socket::Socket;
use bytemuck::Zeroable;
use gpu_abi::layout::Header;
use gpu_abi::request::CELL_NONE;
use gpu_abi::socket::{self, parts, state, used, wake};
use gpu_abi::{Errno, Op, Request, Word32};
use gpu_port::patience::SLICE_NS;
use gpu_port::{Patience, Port};
use gpu_rt::atomic::{DeviceAtomicU32, Ordering, SystemAtomicU32, SystemAtomics, fence_system};

/// How long a call waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    /// A moment of [`gpu_rt::clock`]; 0: no waiting at all.
    until: u64,
    /// Whether being asked to end (N13) ends the wait.
    ends: bool,
}

impl Deadline {
    pub(crate) const NOW: Deadline = Deadline { until: 0, ends: false };
    pub(crate) const NEVER: Deadline = Deadline { until: u64::MAX, ends: false };

    /// So many nanoseconds from now; 0 for ever.
    pub(crate) fn after(ns: u64) -> Deadline {
        match ns {
            0 => Self::NEVER,
            _ => Deadline { until: gpu_rt::clock().saturating_add(ns), ends: false },
        }
    }

    /// The same, but it ends when the host asks kernels to.
    pub(crate) fn or_ending(self) -> Deadline {
        Deadline { ends: true, ..self }
    }
}

/// Waits until `word` is not `seen`, or for a while: the caller looks again. `EAGAIN` when the deadline
/// is over, `ECANCELED` when kernels are asked to end, `EIO` if the host is gone.
pub(crate) fn wait(
    region: &Header<SystemAtomics>,
    patience: &mut Patience,
    deadline: Deadline,
    word: &SystemAtomicU32,
    seen: u32,
) -> Result<(), Errno> {
    if deadline.ends && region.host.ending.load_relaxed() != 0 {
        return Err(Errno::ECANCELED);
    }
    if deadline.until == 0 {
        return Err(Errno::EAGAIN);
    }
    let left = match deadline.until {
        u64::MAX => u64::MAX,
        until => match until.checked_sub(gpu_rt::clock()) {
            None | Some(0) => return Err(Errno::EAGAIN),
            Some(left) => left,
        },
    };
    if gpu_rt::wait_while_eq(word, seen, left.min(SLICE_NS)) == seen && left > SLICE_NS {
        patience.slice_over(region)?;
    }
    Ok(())
}

/// Takes a lock in device memory.
pub(crate) fn lock(region: &Header<SystemAtomics>, word: &DeviceAtomicU32) -> Result<(), Errno> {
    let mut patience = Patience::new();
    loop {
        // A look first. Acquire: pairs with the release in `unlock`.
        if word.load(Ordering::Relaxed) == 0
            && word.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
        {
            return Ok(());
        }
        patience.spin(region)?;
    }
}

/// Gives a lock back.
pub(crate) fn unlock(word: &DeviceAtomicU32) {
    // Release: pairs with the acquire in `lock`.
    word.store(0, Ordering::Release);
}

/// A socket's parts. What else there is to know is read where it is needed: this is kept across calls.
pub(crate) struct At<'a> {
    header: &'a NetHeader,
    pub(crate) words: &'a socket::Socket<SystemAtomics>,
    pub(crate) record: &'a Record,
    /// The rings of `size` bytes each: tx, and rx behind it.
    rings: *mut u8,
    handle: u32,
    pub(crate) size: u32,
}

/// Bytes of a ring under its lock: from index `from` on, `len` of them.
#[derive(Clone, Copy, bytemuck::Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Span {
    pub(crate) from: u32,
    pub(crate) len: u32,
}

impl Socket {
    /// The socket's parts, if this handle can name one.
    #[inline]
    pub(crate) fn at<'a>(&self) -> Result<At<'a>, Errno> {
        let (net, handle) = (self.net, self.handle);
        // A socket that was never opened is zeroes, and has no network either.
        if handle == 0 {
            return Err(Errno::EBADF);
        }
        let (header, index) = (net.header(), self.index());
        if index >= header.sockets {
            return Err(Errno::EBADF);
        }
        let region = net.region();
        let (Some(words), Some((rings, _))) = (region.socket(index), region.socket_rings(index))
        else {
            return Err(Errno::EBADF);
        };
        let size = region.layout().config.socket_ring;
        Ok(At { header, words, record: net.record(index), rings, handle, size })
    }
}

impl<'a> At<'a> {
    /// The first byte of the ring of bytes to be sent.
    #[inline]
    pub(crate) fn tx(&self) -> *mut u8 {
        self.rings
    }

    /// The first byte of the ring of bytes that have arrived.
    #[inline]
    pub(crate) fn rx(&self) -> *mut u8 {
        // SAFETY: the second of the two rings.
        unsafe { self.rings.add(self.size as usize) }
    }

    /// The region's header.
    #[inline]
    pub(crate) fn region(&self) -> &'a Header<SystemAtomics> {
        self.header.port().region().header()
    }

    #[inline]
    fn is_ours(&self) -> bool {
        // Relaxed: a hint, or under a lock.
        self.record.handle.load(Ordering::Relaxed) == self.handle
    }

    /// How long a call that receives waits.
    pub(crate) fn recv_deadline(&self) -> Deadline {
        self.deadline(self.record.recv_timeout.load(Ordering::Relaxed))
    }

    /// How long a call that sends waits.
    pub(crate) fn send_deadline(&self) -> Deadline {
        self.deadline(self.record.send_timeout.load(Ordering::Relaxed))
    }

    fn deadline(&self, timeout: u64) -> Deadline {
        if self.record.flags.load(Ordering::Relaxed) & NONBLOCKING != 0 {
            Deadline::NOW
        } else {
            Deadline::after(timeout)
        }
    }

    fn lock_ours(&self, word: &DeviceAtomicU32) -> Result<(), Errno> {
        lock(self.region(), word)?;
        if self.is_ours() {
            return Ok(());
        }
        unlock(word);
        Err(Errno::EBADF)
    }

    /// Why nothing will arrive any more.
    pub(crate) fn net_error(&self) -> Errno {
        Errno::from_raw(self.words.host.errno.load_relaxed()).unwrap_or(Errno::EBADF)
    }

    /// Whether there are more bytes than `seen`, or the end.
    pub(crate) fn is_readable(&self, seen: u32) -> bool {
        let head = self.record.rx_head.load(Ordering::Relaxed);
        self.words.host.state.load_relaxed() & state::RX_ENDED != 0
            || self.words.host.rx_tail.load_relaxed().wrapping_sub(head) > seen
    }

    /// Whether there is room for `least` bytes, or nothing can be sent any more.
    pub(crate) fn is_writable(&self, least: u32) -> bool {
        let in_tx = self
            .record
            .tx_tail
            .load(Ordering::Relaxed)
            .wrapping_sub(self.words.host.tx_head.load_relaxed());
        self.words.host.state.load_relaxed() & state::TX_ENDED != 0
            || in_tx <= self.size.saturating_sub(least)
    }

    /// What is in rx, with its lock held; or nothing, without, at the end.
    pub(crate) fn begin_recv(&self, deadline: Deadline) -> Result<Span, Errno> {
        let host = &self.words.host;
        let mut patience = Patience::new();
        loop {
            // Acquire: pairs with the host's release (N6): what changed before the turn did is seen below.
            let turn = host.rx_turn.load_acquire();
            if !self.is_ours() {
                return Err(Errno::EBADF);
            }
            // Acquire: pairs with the host's release (N12): if it has ended, the tail is the last.
            let ended = host.state.load_acquire() & state::RX_ENDED != 0;
            if host.rx_tail.load_relaxed() != self.record.rx_head.load(Ordering::Relaxed) {
                self.lock_ours(&self.record.rx_lock)?;
                let from = self.record.rx_head.load(Ordering::Relaxed);
                // Acquire: pairs with the host's release (N3): the bytes are there.
                let tail = host.rx_tail.load_acquire();
                match used(tail, from, self.size) {
                    Some(0) => unlock(&self.record.rx_lock),
                    Some(len) => return Ok(Span { from, len }),
                    None => {
                        unlock(&self.record.rx_lock);
                        return Err(Errno::EPROTO);
                    }
                }
                // Somebody else was faster.
                continue;
            }
            if ended {
                return match Errno::from_raw(host.errno.load_relaxed()) {
                    // That is what those who send are told.
                    None | Some(Errno::EPIPE) => Ok(Span { from: 0, len: 0 }),
                    Some(e) => Err(e),
                };
            }
            wait(self.region(), &mut patience, deadline, &host.rx_turn, turn)?;
        }
    }

    /// Whether nothing will arrive after what `begin_recv` found.
    pub(crate) fn is_last(&self, span: Span) -> bool {
        let host = &self.words.host;
        // Acquire: pairs with the host's release (N12): if it has ended, the tail is the last.
        host.state.load_acquire() & state::RX_ENDED != 0
            && host.rx_tail.load_relaxed() == span.from.wrapping_add(span.len)
    }

    /// Takes `n` bytes of what `begin_recv` found, and gives the lock back.
    pub(crate) fn finish_recv(&self, span: Span, n: u32) {
        if n == 0 {
            return unlock(&self.record.rx_lock);
        }
        let head = span.from.wrapping_add(n);
        self.record.rx_head.store(head, Ordering::Relaxed);
        // Pairs with the host's acquire (N3): our reads are done before it puts new bytes there.
        self.words.device.rx_head.store_release(head);
        unlock(&self.record.rx_lock);
        // N5. SeqCst: pairs with the host's fence between `rx_sleeps` and its last look at our index.
        fence_system(Ordering::SeqCst);
        if self.words.host.rx_sleeps.load_relaxed() != 0 && span.len - n <= self.size / 2 {
            self.wake(wake::RX);
        }
    }

    /// Room for at least `least` bytes (at most the ring's size) in tx, with its lock held.
    pub(crate) fn begin_send(&self, least: u32, deadline: Deadline) -> Result<Span, Errno> {
        let host = &self.words.host;
        let mut patience = Patience::new();
        loop {
            // Acquire: pairs with the host's release (N6).
            let turn = host.tx_turn.load_acquire();
            if !self.is_ours() {
                return Err(Errno::EBADF);
            }
            if self.record.flags.load(Ordering::Relaxed) & SENT_ALL != 0 {
                return Err(Errno::EPIPE);
            }
            // Acquire: pairs with the host's release (N12), for `errno`.
            if host.state.load_acquire() & state::TX_ENDED != 0 {
                return Err(Errno::from_raw(host.errno.load_relaxed()).unwrap_or(Errno::EPIPE));
            }
            let room = |from: u32| {
                // Acquire: pairs with the host's release (N3): it has read what was there.
                let used = used(from, host.tx_head.load_acquire(), self.size);
                used.map(|used| self.size - used).ok_or(Errno::EPROTO)
            };
            // A look without the lock: others may change it, but then it is looked at again.
            let free = room(self.record.tx_tail.load(Ordering::Relaxed)).unwrap_or(self.size);
            if free >= least {
                self.lock_ours(&self.record.tx_lock)?;
                let from = self.record.tx_tail.load(Ordering::Relaxed);
                match room(from) {
                    Ok(len) if len >= least => return Ok(Span { from, len }),
                    Ok(_) => unlock(&self.record.tx_lock),
                    Err(e) => {
                        unlock(&self.record.tx_lock);
                        return Err(e);
                    }
                }
                // Somebody else was faster.
                continue;
            }
            wait(self.region(), &mut patience, deadline, &host.tx_turn, turn)?;
        }
    }

    /// Sends the first `n` bytes of what `begin_send` found room for, and gives the lock back.
    pub(crate) fn finish_send(&self, span: Span, n: u32) {
        if n == 0 {
            return unlock(&self.record.tx_lock);
        }
        let tail = span.from.wrapping_add(n);
        self.record.tx_tail.store(tail, Ordering::Relaxed);
        // Pairs with the host's acquire (N3): it finds the bytes.
        self.words.device.tx_tail.store_release(tail);
        unlock(&self.record.tx_lock);
        // N5. SeqCst: pairs with the host's fence between `tx_sleeps` and its last look at our index.
        fence_system(Ordering::SeqCst);
        if self.words.host.tx_sleeps.load_relaxed() != 0 {
            self.wake(wake::TX);
        }
    }

    /// Tells the host to look. Nobody waits for an answer; if the host is gone there is none to tell.
    pub(crate) fn wake(&self, what: u8) {
        let request =
            Request { op: Op::Wake as u8, flags: what, handle: self.handle, ..Request::zeroed() };
        self.header.port().post_alone(CELL_NONE, request).ok();
    }

    /// Where the bytes of a span lie: address and length of the first part, and length of the second,
    /// which begins at the ring's first byte.
    #[inline]
    pub(crate) fn places(&self, ring: *mut u8, from: u32, len: u32) -> (*mut u8, usize, usize) {
        let (at, first, second) = parts(from, len, self.size);
        // SAFETY: `parts` stays within the ring.
        (unsafe { ring.add(at) }, first, second)
    }

    /// Copies a small record out of rx. The lock is held and the bytes are there.
    pub(crate) fn take<T: bytemuck::Pod>(&self, from: u32) -> T {
        let mut value = T::zeroed();
        self.take_bytes(from, bytemuck::bytes_of_mut(&mut value));
        value
    }

    /// Copies a few bytes out of rx, likewise.
    pub(crate) fn take_bytes(&self, from: u32, bytes: &mut [u8]) {
        let (at, first, second) = self.places(self.rx(), from, bytes.len() as u32);
        // SAFETY: within the ring; the bytes are ours under the lock.
        unsafe {
            at.copy_to_nonoverlapping(bytes.as_mut_ptr(), first);
            self.rx().copy_to_nonoverlapping(bytes.as_mut_ptr().add(first), second);
        }
    }

    /// Copies a few bytes into tx. The lock is held and there is room.
    pub(crate) fn put(&self, from: u32, bytes: &[u8]) {
        let (at, first, second) = self.places(self.tx(), from, bytes.len() as u32);
        // SAFETY: within the ring; the room is ours under the lock.
        unsafe {
            at.copy_from_nonoverlapping(bytes.as_ptr(), first);
            self.tx().copy_from_nonoverlapping(bytes.as_ptr().add(first), second);
        }
    }
}
