//! Calls that are begun now and finished when their outcome is wanted.
//!
//! ```text
//!   connect_async, bind_async, lookup_host_async        recv_async, send_all_async
//!     a request; the host answers in its cell             no request: bytes come and go anyway
//!       │ try_wait: is it answered?                         │ try_wait: is there something now?
//!       │ wait:     until it is                             │ wait:     until there is
//!       ▼ drop:     given up, and what it opened closed     ▼ drop:     nothing; what was sent is sent
//! ```
//!
//! `accept` has no such form, since nothing can be begun: the host accepts in advance, and
//! [`try_accept`](crate::TcpListener::try_accept) is what a `try_wait` would be. To wait for many sockets at
//! once there is [`Poll`](crate::Poll).

use crate::buf::{Buf, BufMut};
use crate::net::Net;
use crate::open::{Ticket, asks};
use crate::ring::Deadline;
use crate::socket::Socket;
use core::marker::PhantomData;
use core::mem::forget;
use gpu_abi::request::CELL_NONE;
use gpu_abi::socket::NetAddr;
use gpu_abi::{DeviceSlice, Errno, Op, Request, Word32};
use gpu_port::{Patience, Port, by_leader};
use gpu_rt::Group;

/// A socket that is being opened: a `T` after [`Pending::wait`], or after [`Pending::try_wait`] said so.
///
/// Dropping it gives it up: the leader's value tells the host so and closes what was opened all the same,
/// which takes a round trip to the host at most.
#[must_use = "what it opens is closed again unless it is waited for"]
pub struct Pending<T> {
    request: UnderWay,
    opens: PhantomData<fn() -> T>,
}

/// A request that the leader of a group has begun.
struct UnderWay {
    net: Net,
    ticket: Ticket,
    /// Whether this is the value of the thread that posted it, whose it is to give it up.
    leads: bool,
    opens: bool,
}

impl UnderWay {
    fn begin<G: Group>(
        net: &Net,
        group: &G,
        opens: bool,
        post: impl FnOnce() -> Result<Ticket, Errno>,
    ) -> Result<UnderWay, Errno> {
        let ticket = by_leader(group, post)?;
        Ok(UnderWay { net: *net, ticket, leads: group.is_leader(), opens })
    }

    /// Whether it has been answered, for a group.
    fn is_answered<G: Group>(&self, group: &G) -> bool {
        let Ticket { cell, tag } = self.ticket;
        let answered = || Ok(u32::from(self.net.port().is_answered(cell, tag)));
        by_leader(group, answered) != Ok(0)
    }

    /// Its value, by the leader of whoever waits. `take` is called before the slot is given back.
    fn finish<T>(&self, take: impl FnOnce(u64) -> Result<T, Errno>) -> Result<T, Errno> {
        let outcome = self.net.answer_to(self.ticket, take);
        self.net.ended_async();
        outcome
    }

    fn give_up(&self) -> Result<(), Errno> {
        let port = self.net.port();
        let Ticket { cell, tag } = self.ticket;
        let region = port.region();
        let seq = region.cell(cell).ok_or(Errno::EPROTO)?.seq();
        let mut patience = Patience::new();
        // Told anew now and then: a thread that has moved to another shard may be heard before its request was.
        while seq.load_relaxed() != tag {
            let cancel = Request { len: cell, ..asks(Op::Cancel, tag.into()) };
            port.post_alone(CELL_NONE, cancel)?;
            patience.wait(region.header(), seq, tag.wrapping_sub(1))?;
        }
        let opened = self.finish(Ok);
        if let (true, Ok(handle)) = (self.opens, opened) {
            Socket::opened(self.net, handle)?.close_alone();
        }
        Ok(())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if self.leads {
            // The host is gone, and all sockets with it.
            self.give_up().ok();
        }
    }
}

impl<T: From<Socket>> Pending<T> {
    pub(crate) fn begin<G: Group>(
        group: &G,
        net: &Net,
        request: Request,
        addr: NetAddr,
        path: &[u8],
    ) -> Result<Self, Errno> {
        let post = || net.post_with_addr::<G>(request, &addr, path, Net::claim_async);
        Ok(Pending { request: UnderWay::begin(net, group, true, post)?, opens: PhantomData })
    }

    /// Waits until it is open.
    ///
    /// # Errors
    /// As the call that does not return before.
    pub fn wait<G: Group>(self, group: &G) -> Result<T, Errno> {
        let net = self.request.net;
        let handle = by_leader(group, || {
            self.request.finish(|handle| Socket::opened(net, handle).map(|socket| socket.handle))
        });
        forget(self.request);
        handle.map(|handle| Socket { net, handle, reserved: 0 }.into())
    }

    /// As [`Pending::wait`] if that need not wait, else the request itself, still under way.
    pub fn try_wait<G: Group>(self, group: &G) -> Result<Result<T, Errno>, Self> {
        if self.request.is_answered(group) { Ok(self.wait(group)) } else { Err(self) }
    }
}

/// A name that is being looked up. Dropping it gives it up.
#[must_use = "the addresses arrive only when they are waited for"]
pub struct PendingLookup {
    request: UnderWay,
}

impl Net {
    /// Begins to look a host name up and returns at once.
    ///
    /// # Errors
    /// `EAGAIN` if too many requests are under way already: do something else, or use [`Net::lookup_host`];
    /// `EINVAL` for an empty name or one of more than 255 bytes.
    pub fn lookup_host_async<G: Group>(
        &self,
        group: &G,
        name: &[u8],
        port: u16,
    ) -> Result<PendingLookup, Errno> {
        let post = || self.post_lookup::<G>(name, port, Net::claim_async);
        Ok(PendingLookup { request: UnderWay::begin(self, group, false, post)? })
    }
}

impl PendingLookup {
    /// Waits for the addresses, which go to the leader's `addrs`; how many they are.
    ///
    /// # Errors
    /// As [`Net::lookup_host`].
    pub fn wait<G: Group>(self, group: &G, addrs: &mut [NetAddr]) -> Result<usize, Errno> {
        let UnderWay { net, ticket, .. } = self.request;
        let count = by_leader(group, || {
            self.request.finish(|found| Ok(net.take_addrs(ticket, found, addrs)))
        });
        forget(self.request);
        count.map(|count| count as usize)
    }

    /// As [`PendingLookup::wait`] if that need not wait, else the request itself, still under way.
    pub fn try_wait<G: Group>(
        self,
        group: &G,
        addrs: &mut [NetAddr],
    ) -> Result<Result<usize, Errno>, Self> {
        if self.request.is_answered(group) { Ok(self.wait(group, addrs)) } else { Err(self) }
    }
}

/// Bytes that are to be received. Dropping it takes none.
#[must_use = "the bytes arrive in the buffer only when they are waited for"]
pub struct PendingRecv<B> {
    socket: Socket,
    buf: B,
}

impl<B: BufMut> PendingRecv<B> {
    pub(crate) fn new(socket: Socket, buf: B) -> Self {
        PendingRecv { socket, buf }
    }

    /// Waits until at least a byte is in the buffer; how many they are; 0: the end.
    ///
    /// # Errors
    /// As [`TcpStream::recv`](crate::TcpStream::recv).
    pub fn wait<G: Group>(self, group: &G) -> Result<usize, Errno> {
        self.socket.recv_by(group, self.buf, None)
    }

    /// As [`PendingRecv::wait`] if something is there now, else the call itself.
    pub fn try_wait<G: Group>(mut self, group: &G) -> Result<Result<usize, Errno>, Self> {
        let (base, len) = self.buf.raw();
        let buf = DeviceSlice::<u8>::new(base as u64, len as u64);
        match self.socket.recv_by(group, buf, Some(Deadline::NOW)) {
            Err(Errno::EAGAIN) => Err(self),
            outcome => Ok(outcome),
        }
    }
}

/// Bytes of which some have been sent and the others are to be. Dropping it sends no more of them.
#[must_use = "what there was no room for is sent only when it is waited for"]
pub struct PendingSend<B> {
    socket: Socket,
    buf: B,
    sent: usize,
}

impl<B: Buf> PendingSend<B> {
    /// Sends as much as there is room for.
    pub(crate) fn begin<G: Group>(socket: Socket, group: &G, buf: B) -> Result<Self, Errno> {
        let mut pending = PendingSend { socket, buf, sent: 0 };
        pending.go_on(group, Some(Deadline::NOW))?;
        Ok(pending)
    }

    /// Whether all has been sent.
    fn go_on<G: Group>(&mut self, group: &G, deadline: Option<Deadline>) -> Result<bool, Errno> {
        let (base, len) = self.buf.raw();
        // The leader's buffer is the one that counts.
        let [base, len] = group.broadcast([base as u64, len as u64]);
        while (self.sent as u64) < len {
            let (done, rest) = (self.sent as u64, len - self.sent as u64);
            let rest = DeviceSlice::<u8>::new(base + done, rest);
            match self.socket.send_by(group, rest, deadline) {
                Ok(n) => self.sent += n,
                Err(Errno::EAGAIN) if deadline.is_some() => return Ok(false),
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    /// Waits until all is sent; how many bytes.
    ///
    /// # Errors
    /// As [`TcpStream::send_all`](crate::TcpStream::send_all).
    pub fn wait<G: Group>(mut self, group: &G) -> Result<usize, Errno> {
        self.go_on(group, None).map(|_| self.sent)
    }

    /// Sends what there is room for now: as [`PendingSend::wait`] if that is all of it, else the rest.
    pub fn try_wait<G: Group>(mut self, group: &G) -> Result<Result<usize, Errno>, Self> {
        match self.go_on(group, Some(Deadline::NOW)) {
            Ok(true) => Ok(Ok(self.sent)),
            Ok(false) => Err(self),
            Err(e) => Ok(Err(e)),
        }
    }
}
