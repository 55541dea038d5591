//! Operations on Unix sockets.

use super::{
    ACCEPT_UNIX, BIND_UNIX, LOCAL_UNIX, NetOp, PAIR, PEER_UNIX, RECV_UNIX, REGISTERS, SEND_UNIX,
    SET_PEER_UNIX, Script,
};
use gpu_rt::Group;
use gpunet::{Errno, UnixAddr, UnixDatagram, UnixListener, UnixStream};

impl<G: Group> Script<'_, G> {
    /// Puts a path where `at` says; how long it is.
    fn store_path(&self, at: usize, addr: &UnixAddr) -> u64 {
        let path = addr.as_pathname().unwrap_or(&[]);
        if self.group.is_leader() {
            let place = self.job.bytes.slice(at, path.len());
            assert!(place.len() == path.len(), "no place for a path");
            // SAFETY: in range; the host reads after the launch.
            unsafe { place.as_ptr().copy_from_nonoverlapping(path.as_ptr(), path.len()) };
        }
        path.len() as u64
    }

    pub(super) fn exec_unix(&mut self, op: &NetOp) -> Result<u64, Errno> {
        let (group, net) = (self.group, &self.job.net);
        let (s, t) = (op.s as usize % REGISTERS, op.t as usize % REGISTERS);
        let (stream, datagram) =
            (UnixStream::from(self.sockets[s]), UnixDatagram::from(self.sockets[s]));
        // An end of either sort is asked in the same way.
        let at = op.at as usize;
        Ok(match op.what {
            ACCEPT_UNIX => {
                let (stream, from) = UnixListener::from(self.sockets[t]).accept(group)?;
                self.sockets[s] = stream.socket();
                self.store_path(at, &from)
            }
            LOCAL_UNIX => self.store_path(at, &stream.local_addr(group)?),
            PEER_UNIX => self.store_path(at, &stream.peer_addr(group)?),
            PAIR => {
                let (one, other) = if op.arg != 0 {
                    let (one, other) = UnixDatagram::pair(group, net)?;
                    (one.socket(), other.socket())
                } else {
                    let (one, other) = UnixStream::pair(group, net)?;
                    (one.socket(), other.socket())
                };
                (self.sockets[s], self.sockets[t]) = (one, other);
                0
            }
            BIND_UNIX => {
                let datagram = if op.len == 0 && op.arg == 0 {
                    UnixDatagram::unbound(group, net)?
                } else {
                    UnixDatagram::bind(group, net, self.path(op))?
                };
                self.sockets[s] = datagram.socket();
                0
            }
            SET_PEER_UNIX => {
                datagram.connect(group, self.path(op))?;
                0
            }
            SEND_UNIX if op.arg == 0 => datagram.send(group, self.bytes(op))? as u64,
            SEND_UNIX => {
                let path = self.job.bytes.slice(op.arg as u32 as usize, (op.arg >> 32) as usize);
                // SAFETY: written by the host before the launch.
                datagram.send_to(group, self.bytes(op), unsafe { path.as_slice() })? as u64
            }
            RECV_UNIX => {
                let (n, from) = datagram.recv_from(group, self.bytes(op))?;
                n as u64 | self.store_path(op.arg as usize, &from) << 32
            }
            _ => return Err(Errno::ENOSYS),
        })
    }
}
