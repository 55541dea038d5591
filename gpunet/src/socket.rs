//! What all sockets have: sending and receiving, options, ends.

use crate::buf::{Buf, BufMut};
use crate::layout::{NONBLOCKING, SENT_ALL};
use crate::net::Net;
use crate::open::asks;
use crate::ring::{At, Deadline, Span};
use crate::view::{RecvView, SendView};
use bytemuck::{Pod, Zeroable};
use core::net::SocketAddr;
use core::time::Duration;
use gpu_abi::socket::{NetAddr, index_of, shut};
use gpu_abi::{Errno, Op, Request, Word64};
use gpu_port::by_leader;
use gpu_rt::Group;
use gpu_rt::atomic::Ordering;
use gpu_rt::mem::{self, Plan};

/// Any socket: a plain value, of which the handle names it until it is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Socket {
    pub(crate) net: Net,
    pub(crate) handle: u32,
    pub(crate) reserved: u32,
}

/// Which direction to end: as `std::net::Shutdown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Receiving.
    Read,
    /// Sending: the peer sees the end of what was sent.
    Write,
    /// Both.
    Both,
}

/// A part of a transfer, as its leader tells the group of it.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Step {
    errno: u32,
    span: Span,
    /// Bytes of this part.
    first: u32,
    /// Bytes of the part at the ring's beginning, which follows.
    second: u32,
}

impl Step {
    fn failed(e: Errno) -> (Plan, Step) {
        (Plan::NOTHING, Step { errno: e.raw(), ..Step::zeroed() })
    }
}

impl Socket {
    /// A number below [`Net::sockets`] that no other open socket has: for arrays of what a server keeps
    /// about its connections.
    #[inline]
    #[must_use]
    pub fn index(&self) -> u32 {
        index_of(self.handle, self.net.sockets())
    }

    /// Receives into a group's buffer.
    pub(crate) fn recv_by<G: Group>(
        &self,
        group: &G,
        mut buf: impl BufMut,
        deadline: Option<Deadline>,
    ) -> Result<usize, Errno> {
        let (dst, room) = buf.raw();
        let lead = || {
            let at = match self.at() {
                Ok(at) => at,
                Err(e) => return Step::failed(e),
            };
            if room == 0 {
                return (Plan::NOTHING, Step::zeroed());
            }
            match at.begin_recv(deadline.unwrap_or_else(|| at.recv_deadline())) {
                Ok(span) => {
                    let n = room.min(span.len as usize) as u32;
                    let (src, first, second) = at.places(at.rx(), span.from, n);
                    let step = Step { errno: 0, span, first: first as u32, second: second as u32 };
                    (Plan { dst, src, len: first }, step)
                }
                Err(e) => Step::failed(e),
            }
        };
        // SAFETY: from bytes of rx that are the leader's while it holds the lock, to the leader's buffer,
        // exclusively ours.
        let step = unsafe { mem::copy_led(group, lead) };
        Errno::check(step.errno)?;
        if step.second > 0 {
            let lead = || {
                let src = self.at().map_or(core::ptr::null_mut(), |at| at.rx());
                // SAFETY: `first` bytes were copied to the buffer's beginning, so that it is longer.
                let dst = unsafe { dst.add(step.first as usize) };
                (Plan { dst, src, len: step.second as usize }, 0u32)
            };
            // SAFETY: as above.
            unsafe { mem::copy_led(group, lead) };
        }
        let n = step.first + step.second;
        if n > 0 && group.is_leader() {
            self.at()?.finish_recv(step.span, n);
        }
        Ok(n as usize)
    }

    /// Sends from a group's buffer as much as there is room for.
    pub(crate) fn send_by<G: Group>(
        &self,
        group: &G,
        buf: impl Buf,
        deadline: Option<Deadline>,
    ) -> Result<usize, Errno> {
        let (src, len) = buf.raw();
        let lead = || {
            let at = match self.at() {
                Ok(at) => at,
                Err(e) => return Step::failed(e),
            };
            if len == 0 {
                return (Plan::NOTHING, Step::zeroed());
            }
            match at.begin_send(1, deadline.unwrap_or_else(|| at.send_deadline())) {
                Ok(span) => {
                    let n = len.min(span.len as usize) as u32;
                    let (dst, first, second) = at.places(at.tx(), span.from, n);
                    let step = Step { errno: 0, span, first: first as u32, second: second as u32 };
                    (Plan { dst, src, len: first }, step)
                }
                Err(e) => Step::failed(e),
            }
        };
        // SAFETY: from the leader's buffer, which nobody writes, to room in tx that is the leader's while it
        // holds the lock.
        let step = unsafe { mem::copy_led(group, lead) };
        Errno::check(step.errno)?;
        if step.second > 0 {
            let lead = || {
                let dst = self.at().map_or(core::ptr::null_mut(), |at| at.tx());
                // SAFETY: the buffer is longer than the `first` bytes that were copied from it.
                let src = unsafe { src.add(step.first as usize) };
                (Plan { dst, src, len: step.second as usize }, 0u32)
            };
            // SAFETY: as above.
            unsafe { mem::copy_led(group, lead) };
        }
        let n = step.first + step.second;
        if n > 0 && group.is_leader() {
            self.at()?.finish_send(step.span, n);
        }
        Ok(n as usize)
    }

    /// Sends all of a group's buffer.
    pub(crate) fn send_all_by<G: Group>(&self, group: &G, buf: impl Buf) -> Result<(), Errno> {
        let (base, len) = buf.raw();
        // The leader's buffer is the one that counts.
        let [base, len] = group.broadcast([base as u64, len as u64]);
        let mut done = 0;
        while done < len {
            let rest = gpu_abi::DeviceSlice::<u8>::new(base + done, len - done);
            done += self.send_by(group, rest, None)? as u64;
        }
        Ok(())
    }

    pub(crate) fn recv_view_by<G: Group>(
        &self,
        group: &G,
        deadline: Option<Deadline>,
    ) -> Result<RecvView<G>, Errno> {
        let span = by_leader(group, || {
            let at = self.at()?;
            at.begin_recv(deadline.unwrap_or_else(|| at.recv_deadline()))
        })?;
        Ok(RecvView::new(group, *self, span))
    }

    pub(crate) fn send_view_by<G: Group>(
        &self,
        group: &G,
        least: usize,
        deadline: Option<Deadline>,
    ) -> Result<SendView<G>, Errno> {
        let span = by_leader(group, || {
            let at = self.at()?;
            if least > at.size as usize {
                return Err(Errno::EMSGSIZE);
            }
            let least = least.max(1) as u32;
            at.begin_send(least, deadline.unwrap_or_else(|| at.send_deadline()))
        })?;
        Ok(SendView::new(group, *self, span))
    }

    pub(crate) fn shutdown_by<G: Group>(&self, group: &G, how: Shutdown) -> Result<(), Errno> {
        let flags = match how {
            Shutdown::Read => shut::READ,
            Shutdown::Write => shut::WRITE,
            Shutdown::Both => shut::READ | shut::WRITE,
        };
        group.sync();
        by_leader(group, || {
            if flags & shut::WRITE != 0 {
                self.at()?.record.flags.fetch_or(SENT_ALL, Ordering::Relaxed);
            }
            self.call::<G>(Request { flags, ..asks(Op::Shutdown, 0) }).map(drop)
        })
    }

    /// Gives the socket back. What was sent still goes out. Nobody may use this value, or a copy of it, any
    /// more: whoever does is told `EBADF`.
    pub fn close<G: Group>(self, group: &G) {
        group.sync();
        if group.is_leader() {
            self.close_alone();
        }
    }

    /// How long [`recv`](crate::TcpStream::recv) waits before it says `EAGAIN`; `None`: as long as it takes.
    ///
    /// # Errors
    /// `EBADF`; `EINVAL` for no time at all.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> Result<(), Errno> {
        store_timeout(&self.at()?.record.recv_timeout, timeout)
    }

    /// How long [`send`](crate::TcpStream::send) waits before it says `EAGAIN`; `None`: as long as it takes.
    ///
    /// # Errors
    /// `EBADF`; `EINVAL` for no time at all.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> Result<(), Errno> {
        store_timeout(&self.at()?.record.send_timeout, timeout)
    }

    /// What [`Socket::set_read_timeout`] set.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn read_timeout(&self) -> Result<Option<Duration>, Errno> {
        Ok(load_timeout(&self.at()?.record.recv_timeout))
    }

    /// What [`Socket::set_write_timeout`] set.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn write_timeout(&self) -> Result<Option<Duration>, Errno> {
        Ok(load_timeout(&self.at()?.record.send_timeout))
    }

    /// Whether calls say `EAGAIN` instead of waiting.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn set_nonblocking(&self, nonblocking: bool) -> Result<(), Errno> {
        let flags = &self.at()?.record.flags;
        if nonblocking {
            flags.fetch_or(NONBLOCKING, Ordering::Relaxed);
        } else {
            flags.fetch_and(!NONBLOCKING, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The failure that the connection has had, if any.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn take_error(&self) -> Result<Option<Errno>, Errno> {
        use gpu_abi::Word32;
        Ok(Errno::from_raw(self.at()?.words.host.errno.load_relaxed()))
    }

    /// This end's address.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn local(&self) -> Result<NetAddr, Errno> {
        let at = self.at()?;
        Ok(load_addr(&at, &at.words.names.local))
    }

    /// The other end's address; unnamed if there is none.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn peer(&self) -> Result<NetAddr, Errno> {
        let at = self.at()?;
        Ok(load_addr(&at, &at.words.names.peer))
    }

    pub(crate) fn local_std(&self) -> Result<SocketAddr, Errno> {
        self.local()?.to_std().ok_or(Errno::EAFNOSUPPORT)
    }

    pub(crate) fn peer_std(&self) -> Result<SocketAddr, Errno> {
        self.peer()?.to_std().ok_or(Errno::ENOTCONN)
    }
}

fn load_addr(_: &At<'_>, words: &[gpu_rt::atomic::SystemAtomicU64; 4]) -> NetAddr {
    bytemuck::cast(words.each_ref().map(|word| word.load_relaxed()))
}

fn load_timeout(word: &gpu_rt::atomic::DeviceAtomicU64) -> Option<Duration> {
    match word.load(Ordering::Relaxed) {
        0 => None,
        ns => Some(Duration::from_nanos(ns)),
    }
}

fn store_timeout(
    word: &gpu_rt::atomic::DeviceAtomicU64,
    timeout: Option<Duration>,
) -> Result<(), Errno> {
    let ns = match timeout {
        None => 0,
        // 584 years are as good as longer ones.
        Some(time) => u64::try_from(time.as_nanos()).unwrap_or(u64::MAX),
    };
    if timeout.is_some() && ns == 0 {
        return Err(Errno::EINVAL);
    }
    word.store(ns, Ordering::Relaxed);
    Ok(())
}
