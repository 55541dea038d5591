//! Operations on options.

use super::{
    GET_OPTION, MULTICAST, NetOp, OPEN_WITH, PEER_UDP, REGISTERS, SET_OPTION, Script, TIMEOUTS,
};
use core::net::{IpAddr, Ipv4Addr};
use gpu_abi::socket::option;
use gpu_rt::Group;
use gpunet::{BindOptions, Errno, TcpListener, TcpStream, UdpSocket};

impl<G: Group> Script<'_, G> {
    pub(super) fn exec_option(&mut self, op: &NetOp) -> Result<u64, Errno> {
        let (group, net) = (self.group, &self.job.net);
        let s = op.s as usize % REGISTERS;
        let socket = self.sockets[s];
        let udp = UdpSocket::from(socket);
        Ok(match op.what {
            OPEN_WITH => {
                let udp = op.t != 0;
                let mut how = BindOptions::new().backlog(8);
                if op.arg & 1 != 0 {
                    how = how.reuse_address(udp);
                }
                how = how.reuse_port(op.arg & 2 != 0).only_v6(op.arg & 4 != 0);
                self.sockets[s] = if udp {
                    UdpSocket::bind_with(group, net, op.addr, how)?.socket()
                } else {
                    TcpListener::bind_with(group, net, op.addr, how)?.socket()
                };
                0
            }
            SET_OPTION => self.set_option(op).map(|()| 0)?,
            GET_OPTION => self.option(op)?,
            MULTICAST => {
                let any = Ipv4Addr::UNSPECIFIED;
                match (op.addr.to_std().ok_or(Errno::EINVAL)?.ip(), op.arg) {
                    (IpAddr::V4(addr), 0) => udp.join_multicast_v4(group, &addr, &any)?,
                    (IpAddr::V4(addr), _) => udp.leave_multicast_v4(group, &addr, &any)?,
                    (IpAddr::V6(addr), 0) => udp.join_multicast_v6(group, &addr, 0)?,
                    (IpAddr::V6(addr), _) => udp.leave_multicast_v6(group, &addr, 0)?,
                }
                0
            }
            PEER_UDP => {
                self.store_addr(op, udp.peer_addr(group)?.into());
                0
            }
            TIMEOUTS => {
                let ms =
                    |time: Option<core::time::Duration>| time.map_or(0, |t| t.as_millis() as u64);
                ms(socket.read_timeout()?) | ms(socket.write_timeout()?) << 32
            }
            _ => return Err(Errno::ENOSYS),
        })
    }

    fn set_option(&self, op: &NetOp) -> Result<(), Errno> {
        let (group, on, number) = (self.group, op.arg != 0, op.arg as u32);
        let socket = self.sockets[op.s as usize % REGISTERS];
        let (stream, udp) = (TcpStream::from(socket), UdpSocket::from(socket));
        match (op.t, op.len) {
            (option::TTL, 1) => udp.set_ttl(group, number),
            (option::BROADCAST, 1) => udp.set_broadcast(group, on),
            (option::MULTICAST_LOOP_V4, 1) => udp.set_multicast_loop_v4(group, on),
            (option::MULTICAST_TTL_V4, 1) => udp.set_multicast_ttl_v4(group, number),
            (option::MULTICAST_LOOP_V6, 1) => udp.set_multicast_loop_v6(group, on),
            (option::NODELAY, _) => stream.set_nodelay(group, on),
            (option::KEEPALIVE, _) => stream.set_keepalive(group, on),
            (option::TTL, _) => stream.set_ttl(group, number),
            (option::LINGER, _) => stream.set_linger(group, number.checked_sub(1)),
            (option::RECV_BUFFER, _) => stream.set_recv_buffer_size(group, number),
            (option::SEND_BUFFER, _) => stream.set_send_buffer_size(group, number),
            _ => Err(Errno::ENOSYS),
        }
    }

    fn option(&self, op: &NetOp) -> Result<u64, Errno> {
        let group = self.group;
        let socket = self.sockets[op.s as usize % REGISTERS];
        let (stream, udp) = (TcpStream::from(socket), UdpSocket::from(socket));
        let listener = TcpListener::from(socket);
        Ok(match (op.t, op.len) {
            (option::TTL, 2) => listener.ttl(group)?.into(),
            (option::ONLY_V6, 2) => listener.only_v6(group)?.into(),
            (option::TTL, 1) => udp.ttl(group)?.into(),
            (option::BROADCAST, 1) => udp.broadcast(group)?.into(),
            (option::MULTICAST_LOOP_V4, 1) => udp.multicast_loop_v4(group)?.into(),
            (option::MULTICAST_TTL_V4, 1) => udp.multicast_ttl_v4(group)?.into(),
            (option::MULTICAST_LOOP_V6, 1) => udp.multicast_loop_v6(group)?.into(),
            (option::NODELAY, _) => stream.nodelay(group)?.into(),
            (option::KEEPALIVE, _) => stream.keepalive(group)?.into(),
            (option::TTL, _) => stream.ttl(group)?.into(),
            (option::LINGER, _) => stream.linger(group)?.map_or(0, |seconds| seconds + 1).into(),
            (option::RECV_BUFFER, _) => stream.recv_buffer_size(group)?.into(),
            (option::SEND_BUFFER, _) => stream.send_buffer_size(group)?.into(),
            _ => return Err(Errno::ENOSYS),
        })
    }
}
