//! Addresses of Unix sockets, and of ends that only the host knows.

use crate::net::Net;
use crate::open::asks;
use crate::socket::Socket;
use bytemuck::{Pod, Zeroable};
use core::fmt;
use gpu_abi::socket::{NetAddr, PEER_NAME};
use gpu_abi::{Errno, Op, Request};
use gpu_port::{Port, by_leader};
use gpu_rt::Group;

/// The address of a Unix socket, as `std::os::unix::net::SocketAddr`.
#[derive(Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct UnixAddr {
    len: u32,
    /// The path's bytes, in words.
    words: [u32; NetAddr::SUN_PATH / 4],
}

impl UnixAddr {
    /// The address of a socket that was never bound.
    pub const UNNAMED: UnixAddr = UnixAddr { len: 0, words: [0; NetAddr::SUN_PATH / 4] };

    fn bytes(&self) -> &[u8] {
        &bytemuck::bytes_of(&self.words)[..(self.len as usize).min(NetAddr::SUN_PATH)]
    }

    /// The path, if it has one.
    #[must_use]
    pub fn as_pathname(&self) -> Option<&[u8]> {
        self.bytes().first().is_some_and(|first| *first != 0).then(|| self.bytes())
    }

    /// The name of an abstract address, as `SocketAddrExt::as_abstract_name`.
    #[must_use]
    pub fn as_abstract_name(&self) -> Option<&[u8]> {
        self.bytes().strip_prefix(&[0])
    }

    /// Whether it has neither.
    #[must_use]
    pub fn is_unnamed(&self) -> bool {
        self.len == 0
    }

    /// Room for the path of this address, to be filled.
    pub(crate) fn room(addr: &NetAddr) -> Result<UnixAddr, Errno> {
        let len = if addr.family == NetAddr::UNIX { addr.path_len } else { 0 };
        if len as usize > NetAddr::SUN_PATH {
            return Err(Errno::EPROTO);
        }
        Ok(UnixAddr { len, ..Self::UNNAMED })
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::bytes_of_mut(&mut self.words)[..self.len as usize]
    }

    /// The leader's, to every thread of a group.
    pub(crate) fn broadcast<G: Group>(self, group: &G) -> UnixAddr {
        let [a, b]: [[u64; 7]; 2] = bytemuck::cast(self);
        bytemuck::cast([group.broadcast(a), group.broadcast(b)])
    }
}

impl fmt::Debug for UnixAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.as_pathname(), self.as_abstract_name()) {
            (Some(path), _) => write!(f, "{} (pathname)", path.escape_ascii()),
            (None, Some(name)) => write!(f, "{} (abstract)", name.escape_ascii()),
            (None, None) => write!(f, "(unnamed)"),
        }
    }
}

impl Socket {
    /// An end's address, as the system has it. A request.
    pub(crate) fn name_by<G: Group>(
        &self,
        group: &G,
        flags: u8,
    ) -> Result<(NetAddr, UnixAddr), Errno> {
        let mut path = UnixAddr::UNNAMED;
        let addr = by_leader(group, || {
            let net = &self.net;
            let request = Request { handle: self.handle, flags, ..asks(Op::Name, 0) };
            let ticket = net.post_with::<G>(net.claim_now()?, request, [&[], &[]])?;
            net.answer_to(ticket, |len| {
                let region = net.port().region();
                let slot = region.slot(ticket.cell).ok_or(Errno::EPROTO)?;
                // SAFETY: the slot is ours again, and has at least 4 KiB.
                let addr = unsafe { slot.cast::<NetAddr>().read_unaligned() };
                path = UnixAddr::room(&addr)?;
                let (head, to) = (size_of::<NetAddr>(), path.bytes_mut());
                if len != (head + to.len()) as u64 {
                    return Err(Errno::EPROTO);
                }
                // SAFETY: as above; a path has at most 108 bytes.
                unsafe { slot.add(head).copy_to_nonoverlapping(to.as_mut_ptr(), to.len()) };
                Ok(addr)
            })
        })?;
        Ok((addr, path))
    }

    /// The address of an end of a Unix socket: a request, if it has a name, which the host tells.
    pub(crate) fn unix_name<G: Group>(&self, group: &G, peer: bool) -> Result<UnixAddr, Errno> {
        let known = if peer { self.peer()? } else { self.local()? };
        // The leader's view: the socket may be closed meanwhile, and its place another's.
        if group.broadcast(known) == NetAddr::unix(0) {
            return Ok(UnixAddr::UNNAMED);
        }
        let flags = if peer { PEER_NAME } else { 0 };
        self.name_by(group, flags).map(|(_, path)| path.broadcast(group))
    }

    /// Two Unix sockets that are connected with each other.
    pub(crate) fn pair<G: Group>(group: &G, net: &Net, flags: u8) -> Result<[Socket; 2], Errno> {
        let handles = by_leader(group, || {
            let request = Request { flags, ..asks(Op::Pair, 0) };
            let both = net.port().call::<G>(request)?.result()?;
            let handles = [both as u32, (both >> 32) as u32];
            for handle in handles {
                net.adopt(handle)?;
            }
            Ok(handles)
        })?;
        Ok(handles.map(|handle| Socket { net: *net, handle, reserved: 0 }))
    }
}
