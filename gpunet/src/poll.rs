//! Waiting for many sockets at once.
//!
//! ```text
//!   a socket's watch:   none ── watch ──▶ watched ── it is ready ──▶ answered (an event in the queue)
//!                                 ▲                                      │
//!                                 └────────────── watch again ◀──────────┘
//! ```
//!
//! A [`Poll`] owns an event queue in the region. A socket that is watched puts itself there once, when it
//! becomes ready; whoever took the event and has used up what there was watches it again. Several groups
//! may share a `Poll`: each event goes to one of them.

use crate::net::Net;
use crate::ring::{Deadline, lock, unlock, wait};
use crate::socket::Socket;
use bytemuck::{Pod, Zeroable};
use core::time::Duration;
use gpu_abi::socket::{index_of, wake, watch};
use gpu_abi::{Errno, Word32, Word64};
use gpu_port::{Patience, by_leader};
use gpu_rt::Group;
use gpu_rt::atomic::{Ordering, fence_system};

/// What to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Bytes, connections, or the end.
    Readable,
    /// Room.
    Writable,
    /// Either.
    Both,
    /// More bytes than these, or the end: for whoever has looked at what is there, and left it.
    Beyond(u32),
    /// Room for so many bytes, or an end.
    Room(u32),
}

impl Interest {
    const fn bits(self) -> u64 {
        match self {
            Interest::Readable | Interest::Beyond(_) => watch::READ,
            Interest::Writable | Interest::Room(_) => watch::WRITE,
            Interest::Both => watch::READ | watch::WRITE,
        }
    }
}

/// An event queue. A plain value: groups that have it share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Poll {
    net: Net,
    queue: u32,
    reserved: u32,
}

impl Poll {
    /// A queue for a group. No request.
    ///
    /// # Errors
    /// `EMFILE` if all queues are taken.
    pub fn new<G: Group>(group: &G, net: &Net) -> Result<Poll, Errno> {
        let queue = by_leader(group, || {
            let queue = net.poll_bits().claim(gpu_rt::thread::index() as u32 / 32);
            let queue = queue.ok_or(Errno::EMFILE)?;
            // What its last owner has not taken is of no interest.
            let poll = Poll { net: *net, queue, reserved: 0 };
            let events = net.region().queue(queue).ok_or(Errno::EPROTO)?;
            let record = net.poll_record(poll.queue);
            let tail = events.host.tail.load_acquire();
            record.head.store(tail, Ordering::Relaxed);
            events.device.head.store_release(tail);
            Ok(queue)
        })?;
        Ok(Poll { net: *net, queue, reserved: 0 })
    }

    /// Gives the queue back. Sockets that it watches tell nobody then.
    pub fn close<G: Group>(self, group: &G) {
        group.sync();
        if group.is_leader() {
            // Whoever has the queue next has not asked to hear of them.
            for words in (0..self.net.sockets()).filter_map(|index| self.net.region().socket(index))
            {
                if watch::queue(words.device.watch.load_relaxed()) == Some(self.queue) {
                    words.device.watch.store_relaxed(0);
                }
            }
            self.net.poll_bits().release(self.queue);
        }
    }

    /// Whether an event of the queue is of a socket that is still open, and that this queue still watches.
    fn concerns_us(&self, handle: u32) -> bool {
        let index = index_of(handle, self.net.sockets());
        handle != 0
            && index < self.net.sockets()
            && self.net.record(index).handle.load(Ordering::Relaxed) == handle
            && self.net.region().socket(index).is_some_and(|words| {
                watch::queue(words.device.watch.load_relaxed()) == Some(self.queue)
            })
    }

    /// Watches a socket, once: the next time that it becomes ready it is an event of this queue, and of
    /// no other. `true`: it is ready now, and need not be waited for (it may be an event all the same). No
    /// request.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn watch<G: Group>(
        &self,
        group: &G,
        socket: &Socket,
        interest: Interest,
    ) -> Result<bool, Errno> {
        by_leader(group, || self.watch_alone(socket, interest).map(u32::from))
            .map(|ready| ready != 0)
    }

    /// As [`Poll::watch`], on behalf of whoever waits for this queue: a socket that is ready now becomes an
    /// event, for which the host is told if need be.
    ///
    /// # Errors
    /// `EBADF`; `EIO` if the host is gone.
    pub fn add<G: Group>(
        &self,
        group: &G,
        socket: &Socket,
        interest: Interest,
    ) -> Result<(), Errno> {
        by_leader(group, || {
            if self.watch_alone(socket, interest)? {
                socket.at()?.wake(wake::WATCH);
            }
            Ok(0u32)
        })
        .map(drop)
    }

    fn watch_alone(&self, socket: &Socket, interest: Interest) -> Result<bool, Errno> {
        let at = socket.at()?;
        if at.record.handle.load(Ordering::Relaxed) != socket.handle {
            return Err(Errno::EBADF);
        }
        let turn = at.record.watches.fetch_add(1, Ordering::Relaxed);
        let word = watch::word(self.queue, interest.bits(), turn);
        at.words.device.watch.store_relaxed(word);
        // N7. SeqCst: pairs with the host's fence between a change and its look at `watch` and at the queue's
        // head: it sees the watch, and that the event before was taken, or we see the change.
        fence_system(Ordering::SeqCst);
        Ok(match interest {
            Interest::Readable => at.is_readable(0),
            Interest::Writable => at.is_writable(1),
            Interest::Both => at.is_readable(0) || at.is_writable(1),
            Interest::Beyond(seen) => at.is_readable(seen),
            Interest::Room(least) => at.is_writable(least),
        })
    }

    /// A socket that has become ready; waits for one. It may turn out not to be ready any more: whoever waits for
    /// it again watches it again, in any case.
    ///
    /// # Errors
    /// `ECANCELED` when kernels are asked to end; `EIO` if the host is gone.
    pub fn wait<G: Group>(&self, group: &G) -> Result<Socket, Errno> {
        self.next(group, Deadline::NEVER)
    }

    /// As [`Poll::wait`], but says `EAGAIN` after so long.
    ///
    /// # Errors
    /// As [`Poll::wait`]; `EAGAIN`.
    pub fn wait_timeout<G: Group>(&self, group: &G, timeout: Duration) -> Result<Socket, Errno> {
        let ns = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX).max(1);
        self.next(group, Deadline::after(ns))
    }

    /// As [`Poll::wait`], but says `EAGAIN` rather than wait.
    ///
    /// # Errors
    /// As [`Poll::wait`]; `EAGAIN`.
    pub fn try_wait<G: Group>(&self, group: &G) -> Result<Socket, Errno> {
        self.next(group, Deadline::NOW)
    }

    // Not inlined: on a GPU what it needs would be worked out before the loop around it, and kept.
    #[inline(never)]
    fn next<G: Group>(&self, group: &G, deadline: Deadline) -> Result<Socket, Errno> {
        let handle = by_leader(group, || self.next_alone(deadline.or_ending()))?;
        Ok(Socket { net: self.net, handle, reserved: 0 })
    }

    fn next_alone(&self, deadline: Deadline) -> Result<u32, Errno> {
        let region = self.net.region();
        let queue = region.queue(self.queue).ok_or(Errno::EPROTO)?;
        let record = self.net.poll_record(self.queue);
        let mut patience = Patience::new();
        loop {
            // Acquire: pairs with the host's release: the entries are there.
            let tail = queue.host.tail.load_acquire();
            if tail == record.head.load(Ordering::Relaxed) {
                wait(region.header(), &mut patience, deadline, &queue.host.tail, tail)?;
                continue;
            }
            lock(region.header(), &record.lock)?;
            let head = record.head.load(Ordering::Relaxed);
            let tail = queue.host.tail.load_acquire();
            let handle = if head == tail {
                0
            } else {
                let entries = queue.entries;
                let handle = entries[head as usize & (entries.len() - 1)].load_relaxed();
                let head = head.wrapping_add(1);
                record.head.store(head, Ordering::Relaxed);
                // Pairs with the host's acquire: we have read the entry. The host appends no other event of that
                // socket before it sees this, which it does when it sees the next watch and its fence.
                queue.device.head.store_release(head);
                handle
            };
            unlock(&record.lock);
            if self.concerns_us(handle) {
                return Ok(handle);
            }
        }
    }
}
