//! Requests: what sockets ask of the host.

use crate::layout::Record;
use crate::net::Net;
use crate::ring::{lock, unlock};
use crate::socket::Socket;
use bytemuck::Zeroable;
use gpu_abi::request::CELL_NONE;
use gpu_abi::socket::{NetAddr, index_of};
use gpu_abi::{Errno, Op, Request};
use gpu_port::{Pool, Port, by_leader};
use gpu_rt::Group;
use gpu_rt::atomic::Ordering;

impl Net {
    /// A request with an address, and a path for Unix sockets, in its slot; its value.
    pub(crate) fn call_with_addr<G: Group>(
        &self,
        mut request: Request,
        addr: &NetAddr,
        path: &[u8],
    ) -> Result<u64, Errno> {
        if path.len() > NetAddr::PATH_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let port = self.port();
        let cell = port.claim(Pool::Slots)?;
        let region = port.region();
        let slot = region.slot(cell).ok_or(Errno::EPROTO)?;
        let head = bytemuck::bytes_of(addr);
        // SAFETY: the slot is ours with its cell, and has at least 4 KiB.
        unsafe {
            slot.copy_from_nonoverlapping(head.as_ptr(), head.len());
            slot.add(head.len()).copy_from_nonoverlapping(path.as_ptr(), path.len());
        }
        request.buf = u64::from(cell) * u64::from(region.layout().config.slot_size);
        request.len = (head.len() + path.len()) as u32;
        let tag = port.post::<G>(cell, request)?;
        let completion = port.wait_for(cell, tag)?;
        port.release_cell(cell);
        completion.result()
    }

    /// Opens a socket for a group.
    pub(crate) fn open<G: Group>(
        &self,
        group: &G,
        op: Op,
        addr: NetAddr,
        path: &[u8],
        detail: u64,
    ) -> Result<Socket, Errno> {
        let handle = by_leader(group, || {
            let request = Request { op: op as u8, offset: detail, ..Request::zeroed() };
            let handle = self.call_with_addr::<G>(request, &addr, path)?;
            let handle = u32::try_from(handle).map_err(|_| Errno::EPROTO)?;
            self.adopt(handle)?;
            Ok(handle)
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
            if !(1..=255).contains(&name.len()) {
                return Err(Errno::EINVAL);
            }
            let way = self.port();
            let cell = way.claim(Pool::Slots)?;
            let region = way.region();
            let slot = region.slot(cell).ok_or(Errno::EPROTO)?;
            // SAFETY: the slot is ours with its cell, and has at least 4 KiB.
            unsafe { slot.copy_from_nonoverlapping(name.as_ptr(), name.len()) };
            let slot_size = region.layout().config.slot_size;
            let request = Request {
                op: Op::LookUp as u8,
                offset: port.into(),
                buf: u64::from(cell) * u64::from(slot_size),
                len: name.len() as u32,
                ..Request::zeroed()
            };
            let tag = way.post::<G>(cell, request)?;
            let found = way.wait_for(cell, tag)?.result();
            let result = found.map(|n| {
                let n = (n as usize).min(addrs.len()).min(slot_size as usize / 32);
                for (i, addr) in addrs[..n].iter_mut().enumerate() {
                    // SAFETY: within the slot, which is ours again.
                    *addr = unsafe { slot.cast::<NetAddr>().add(i).read_unaligned() };
                }
                n as u64
            });
            way.release_cell(cell);
            result
        })?;
        Ok(count as usize)
    }
}

impl Socket {
    /// A request about this socket without data.
    pub(crate) fn call<G: Group>(&self, request: Request) -> Result<(), Errno> {
        let request = Request { handle: self.handle, ..request };
        self.net.port().call::<G>(request)?.result().map(drop)
    }

    /// Ends this handle and gives the socket back, by one thread.
    pub(crate) fn close_alone(&self) {
        let Ok(at) = self.at() else { return };
        let Record { rx_lock, tx_lock, handle, .. } = at.record;
        // Under both locks: nobody is in the middle of anything then. A host that is gone takes nothing
        // back.
        if lock(&at.region, rx_lock).is_err() {
            return;
        }
        if lock(&at.region, tx_lock).is_err() {
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
