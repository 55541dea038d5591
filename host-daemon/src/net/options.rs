//! Options of sockets, their names, and the multicast groups that they are in.

use super::socket::Sock;
use super::{Net, addr};
use gpu_abi::Errno;
use gpu_abi::socket::{NetAddr, bind, option};
use socket2::{SockRef, Socket};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

/// What a request to bind sets before.
pub(crate) fn prepare(socket: &Socket, how: u8) -> io::Result<()> {
    if how & bind::REUSE_ADDRESS != 0 {
        socket.set_reuse_address(true)?;
    }
    if how & bind::REUSE_PORT != 0 {
        socket.set_reuse_port(true)?;
    }
    if how & bind::ONLY_V6 != 0 {
        socket.set_only_v6(true)?;
    }
    Ok(())
}

/// Does something with a socket's descriptor; `None` for what is linked, which has none.
fn with_system<T>(
    sock: &Sock,
    act: impl FnOnce(SockRef<'_>) -> io::Result<T>,
) -> Option<Result<T, Errno>> {
    // SAFETY: the socket keeps it open.
    let fd = unsafe { BorrowedFd::borrow_raw(sock.fd()?) };
    Some(act(SockRef::from(&fd)).map_err(|e| addr::errno_of(&e)))
}

impl Net {
    fn sock(&self, handle: u32) -> Result<Arc<Sock>, Errno> {
        self.table.get(handle).ok_or(Errno::EBADF)
    }

    pub(crate) fn set_option(&self, handle: u32, which: u32, value: u64) -> Result<(), Errno> {
        let sock = self.sock(handle)?;
        let number = usize::try_from(value).ok().filter(|n| *n <= i32::MAX as usize);
        let number = number.ok_or(Errno::EINVAL)?;
        let flag = number == 1;
        let is_flag = matches!(
            which,
            option::NODELAY
                | option::KEEPALIVE
                | option::BROADCAST
                | option::MULTICAST_LOOP_V4
                | option::MULTICAST_LOOP_V6
        );
        if is_flag && number > 1 {
            return Err(Errno::EINVAL);
        }
        let set = |socket: SockRef<'_>| match which {
            option::NODELAY => socket.set_tcp_nodelay(flag),
            option::RECV_BUFFER => socket.set_recv_buffer_size(number),
            option::SEND_BUFFER => socket.set_send_buffer_size(number),
            option::KEEPALIVE => socket.set_keepalive(flag),
            option::BROADCAST => socket.set_broadcast(flag),
            option::TTL => socket.set_ttl_v4(number as u32),
            option::LINGER => {
                let time = number.checked_sub(1).map(|s| Duration::from_secs(s as u64));
                socket.set_linger(time)
            }
            option::MULTICAST_LOOP_V4 => socket.set_multicast_loop_v4(flag),
            option::MULTICAST_TTL_V4 => socket.set_multicast_ttl_v4(number as u32),
            option::MULTICAST_LOOP_V6 => socket.set_multicast_loop_v6(flag),
            _ => Err(io::Error::from_raw_os_error(libc::ENOPROTOOPT)),
        };
        // Where there is nothing that it could change, it makes no difference.
        with_system(&sock, set).unwrap_or(Ok(()))
    }

    pub(crate) fn option(&self, handle: u32, which: u32) -> Result<u64, Errno> {
        let sock = self.sock(handle)?;
        let get = |socket: SockRef<'_>| {
            Ok(match which {
                option::NODELAY => socket.tcp_nodelay()?.into(),
                option::RECV_BUFFER => socket.recv_buffer_size()? as u64,
                option::SEND_BUFFER => socket.send_buffer_size()? as u64,
                option::KEEPALIVE => socket.keepalive()?.into(),
                option::BROADCAST => socket.broadcast()?.into(),
                option::TTL => socket.ttl_v4()?.into(),
                option::LINGER => socket.linger()?.map_or(0, |time| time.as_secs() + 1),
                option::MULTICAST_LOOP_V4 => socket.multicast_loop_v4()?.into(),
                option::MULTICAST_TTL_V4 => socket.multicast_ttl_v4()?.into(),
                option::MULTICAST_LOOP_V6 => socket.multicast_loop_v6()?.into(),
                option::ONLY_V6 => socket.only_v6()?.into(),
                _ => return Err(io::Error::from_raw_os_error(libc::ENOPROTOOPT)),
            })
        };
        // What is linked is as a new connection of the system's, and sends everything at once.
        let linked = || match which {
            option::NODELAY => Ok(1),
            option::RECV_BUFFER | option::SEND_BUFFER => Ok(sock.size.into()),
            option::KEEPALIVE | option::LINGER => Ok(0),
            option::TTL => Ok(64),
            _ => Err(Errno::ENOPROTOOPT),
        };
        with_system(&sock, get).unwrap_or_else(linked)
    }

    /// Writes an end's address into the slot of whoever asks; how many bytes.
    pub(crate) fn name(&self, handle: u32, peer: bool, slot: u32) -> Result<u64, Errno> {
        let sock = self.sock(handle)?;
        let ask = |socket: SockRef<'_>| {
            if peer { socket.peer_addr() } else { socket.local_addr() }
        };
        // The device has no reason to ask about what is linked: it has the addresses.
        let name = with_system(&sock, ask).unwrap_or(Err(Errno::EOPNOTSUPP))?;
        let bytes = [bytemuck::bytes_of(&addr::from_system(&name)), &addr::path_of(&name)].concat();
        self.write_slot(slot, &bytes);
        Ok(bytes.len() as u64)
    }

    /// Joins a multicast group, or leaves it.
    pub(crate) fn multicast(&self, handle: u32, bytes: &[u8], leave: bool) -> Result<(), Errno> {
        let (group, _) = self.address(bytes)?;
        let sock = self.sock(handle)?;
        let [a, b, c, d, e, f, g, h, ..] = group.ip;
        let (v4, interface) = (Ipv4Addr::new(a, b, c, d), Ipv4Addr::new(e, f, g, h));
        let v6 = group.ip.into();
        let act = |socket: SockRef<'_>| match (group.family, leave) {
            (NetAddr::V4, false) => socket.join_multicast_v4(&v4, &interface),
            (NetAddr::V4, true) => socket.leave_multicast_v4(&v4, &interface),
            (_, false) => socket.join_multicast_v6(&v6, group.scope),
            (_, true) => socket.leave_multicast_v6(&v6, group.scope),
        };
        with_system(&sock, act).unwrap_or(Err(Errno::EOPNOTSUPP))
    }
}
