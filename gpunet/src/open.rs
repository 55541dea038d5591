//! Requests: what sockets ask of the host.

use crate::layout::Record;
use crate::net::Net;
use crate::ring::{lock, unlock};
use crate::socket::Socket;
use bytemuck::{Pod, Zeroable};
use gpu_abi::request::CELL_NONE;
use gpu_abi::socket::{NetAddr, index_of};
use gpu_abi::{Errno, Op, Request};
use gpu_port::{Pool, Port, by_leader};
use gpu_rt::Group;
use gpu_rt::atomic::Ordering;

/// A request with no more than a number in it.
pub(crate) fn asks(op: Op, offset: u64) -> Request {
    Request { op: op as u8, offset, ..Request::zeroed() }
}

/// A request under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Ticket {
    pub(crate) cell: u32,
    pub(crate) tag: u32,
}

impl Net {
    /// A cell with a slot, for a request that is waited for at once.
    pub(crate) fn claim_now(&self) -> Result<u32, Errno> {
        self.port().claim(Pool::Slots)
    }

    /// A cell with a slot, for a request that is waited for some time later, or `EAGAIN`: it does not wait for
    /// one, and takes at most a quarter of them, so that others can go on meanwhile.
    pub(crate) fn claim_async(&self) -> Result<u32, Errno> {
        let port = self.port();
        let under_way = &self.shared().under_way;
        // Relaxed: a count.
        if under_way.fetch_add(1, Ordering::Relaxed) < port.slots() / 4
            && let Some(cell) = port.try_claim(Pool::Slots)
        {
            return Ok(cell);
        }
        self.ended_async();
        Err(Errno::EAGAIN)
    }

    /// A cell of [`Net::claim_async`] has been given back.
    pub(crate) fn ended_async(&self) {
        self.shared().under_way.fetch_sub(1, Ordering::Relaxed);
    }

    /// Posts a request with bytes in its slot, one part behind the other: 4 KiB at most.
    pub(crate) fn post_with<G: Group>(
        &self,
        cell: u32,
        mut request: Request,
        bytes: [&[u8]; 2],
    ) -> Result<Ticket, Errno> {
        let port = self.port();
        let region = port.region();
        let slot = region.slot(cell).ok_or(Errno::EPROTO)?;
        let [head, rest] = bytes;
        // SAFETY: the slot is ours with its cell, and has at least 4 KiB.
        unsafe {
            slot.copy_from_nonoverlapping(head.as_ptr(), head.len());
            slot.add(head.len()).copy_from_nonoverlapping(rest.as_ptr(), rest.len());
        }
        request.buf = u64::from(cell) * u64::from(region.layout().config.slot_size);
        request.len = (head.len() + rest.len()) as u32;
        let tag = port.post::<G>(cell, request)?;
        Ok(Ticket { cell, tag })
    }

    /// Posts a request with an address, and a path for Unix sockets, in its slot.
    pub(crate) fn post_with_addr<G: Group>(
        &self,
        request: Request,
        addr: &NetAddr,
        path: &[u8],
        claim: impl FnOnce(&Net) -> Result<u32, Errno>,
    ) -> Result<Ticket, Errno> {
        if path.len() > NetAddr::PATH_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        self.post_with::<G>(claim(self)?, request, [bytemuck::bytes_of(addr), path])
    }

    /// Waits for the answer to a request and gives its cell back; `take` may look at the slot before.
    pub(crate) fn answer_to<T>(
        &self,
        ticket: Ticket,
        take: impl FnOnce(u64) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let port = self.port();
        let outcome = port.wait_for_result(ticket.cell, ticket.tag)?.and_then(take);
        port.release_cell(ticket.cell);
        outcome
    }

    /// A request with an address; its value.
    pub(crate) fn call_with_addr<G: Group>(
        &self,
        request: Request,
        addr: &NetAddr,
        path: &[u8],
    ) -> Result<u64, Errno> {
        let ticket = self.post_with_addr::<G>(request, addr, path, Net::claim_now)?;
        self.answer_to(ticket, Ok)
    }

    /// Opens a socket for a group.
    pub(crate) fn open<G: Group>(
        &self,
        group: &G,
        request: Request,
        addr: NetAddr,
        path: &[u8],
    ) -> Result<Socket, Errno> {
        let handle = by_leader(group, || {
            let handle = self.call_with_addr::<G>(request, &addr, path)?;
            Socket::opened(*self, handle).map(|socket| socket.handle)
        })?;
        Ok(Socket { net: *self, handle, reserved: 0 })
    }

    /// Takes over a socket whose handle has just been learned from the host.
    pub(crate) fn adopt(&self, handle: u32) -> Result<(), Errno> {
        let index = index_of(handle, self.sockets());
        if handle == 0 || index >= self.sockets() {
            return Err(Errno::EPROTO);
        }
        let record = self.record(index);
        record.flags.store(0, Ordering::Relaxed);
        record.recv_timeout.store(0, Ordering::Relaxed);
        record.send_timeout.store(0, Ordering::Relaxed);
        // Release: with those who use the socket it is passed on by whatever passes the handle on; the
        // locks of an older socket's users are free, or they find that it is not theirs.
        record.handle.store(handle, Ordering::Release);
        Ok(())
    }

    /// Looks a host name up, as the system does: the addresses, each with `port`, go to the leader's
    /// `addrs`; how many they are (at most as many as there is room for).
    ///
    /// # Errors
    /// `ENOENT` if there is no such name, `EAGAIN` if that is not known now; `EPERM` where the grant
    /// forbids it; `EINVAL` for an empty name or one of more than 255 bytes.
    pub fn lookup_host<G: Group>(
        &self,
        group: &G,
        name: &[u8],
        port: u16,
        addrs: &mut [NetAddr],
    ) -> Result<usize, Errno> {
        let count = by_leader(group, || {
            let ticket = self.post_lookup::<G>(name, port, Net::claim_now)?;
            self.answer_to(ticket, |found| Ok(self.take_addrs(ticket, found, addrs)))
        })?;
        Ok(count as usize)
    }

    /// Posts a request for a host name's addresses.
    pub(crate) fn post_lookup<G: Group>(
        &self,
        name: &[u8],
        port: u16,
        claim: impl FnOnce(&Net) -> Result<u32, Errno>,
    ) -> Result<Ticket, Errno> {
        if !(1..=255).contains(&name.len()) {
            return Err(Errno::EINVAL);
        }
        self.post_with::<G>(claim(self)?, asks(Op::LookUp, port.into()), [name, &[]])
    }

    /// Copies the addresses that were found out of the request's slot; how many they are.
    pub(crate) fn take_addrs(&self, ticket: Ticket, found: u64, addrs: &mut [NetAddr]) -> u64 {
        let region = self.region();
        let Some(slot) = region.slot(ticket.cell) else { return 0 };
        let fit = region.layout().config.slot_size as usize / size_of::<NetAddr>();
        let n = (found as usize).min(addrs.len()).min(fit);
        for (i, addr) in addrs[..n].iter_mut().enumerate() {
            // SAFETY: within the slot, which is ours again.
            *addr = unsafe { slot.cast::<NetAddr>().add(i).read_unaligned() };
        }
        n as u64
    }
}

impl Socket {
    /// The socket that the host says it has opened.
    pub(crate) fn opened(net: Net, handle: u64) -> Result<Socket, Errno> {
        let handle = u32::try_from(handle).map_err(|_| Errno::EPROTO)?;
        net.adopt(handle)?;
        Ok(Socket { net, handle, reserved: 0 })
    }

    /// A request about this socket without data; its value.
    pub(crate) fn call<G: Group>(&self, request: Request) -> Result<u64, Errno> {
        let request = Request { handle: self.handle, ..request };
        self.net.port().call::<G>(request)?.result()
    }

    /// Ends this handle and gives the socket back, by one thread.
    pub(crate) fn close_alone(&self) {
        let Ok(at) = self.at() else { return };
        let Record { rx_lock, tx_lock, handle, .. } = at.record;
        // Under both locks: nobody is in the middle of anything then. A host that is gone takes nothing
        // back.
        if lock(at.region(), rx_lock).is_err() {
            return;
        }
        if lock(at.region(), tx_lock).is_err() {
            return unlock(rx_lock);
        }
        let was_ours = handle.load(Ordering::Relaxed) == self.handle;
        if was_ours {
            handle.store(0, Ordering::Relaxed);
        }
        unlock(tx_lock);
        unlock(rx_lock);
        if was_ours {
            let request =
                Request { op: Op::CloseSocket as u8, handle: self.handle, ..Request::zeroed() };
            self.net.port().post_alone(CELL_NONE, request).ok();
        }
    }
}
