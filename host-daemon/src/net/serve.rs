//! Carrying socket requests out.

use super::validate::{self, Valid};
use super::{Net, addr, lock};
use crate::client::Inner;
use crate::serve::Worker;
use crate::stats::bump;
use crate::validate::Refusal;
use gpu_abi::socket::{option, shut};
use gpu_abi::{Completion, Errno, Op, Request};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

impl Worker {
    /// Serves one socket request: answers it, or hands it to a task.
    pub(crate) fn serve_socket(&mut self, inner: &Inner, net: &Arc<Net>, r: &Request) {
        let counters = &inner.counters[self.index];
        net.counters.by_op[(r.op - Op::Listen as u8) as usize].fetch_add(1, Ordering::Relaxed);
        let valid = match validate::check(&inner.limits, r) {
            Ok(valid) => valid,
            Err(Refusal::Drop) => {
                bump(&counters.dropped, 1);
                return inner.warn(r, "has no cell to be answered in");
            }
            Err(Refusal::Answer(errno)) => {
                bump(&counters.rejected, 1);
                inner.warn(r, errno.message());
                return inner.answer(r.cell, r.tag, &Completion::of(Err(errno)));
            }
        };
        let outcome = match valid {
            Valid::Wake { handle, what } => net.wake(handle, what).map(|()| Some(0)),
            Valid::Close { handle } => net.close(handle).map(|()| Some(0)),
            Valid::Shutdown { handle, how } => net.shut(handle, how).map(|()| Some(0)),
            Valid::SetOption { handle, option, value } => {
                net.set_option(handle, option, value).map(|()| Some(0))
            }
            Valid::Listen { addr, backlog } => self
                .with_bytes(inner, addr, |bytes| net.listen(bytes, backlog))
                .map(|handle| Some(handle.into())),
            Valid::Bind { addr } => self
                .with_bytes(inner, addr, |bytes| net.bind(bytes))
                .map(|handle| Some(handle.into())),
            Valid::SetPeer { handle, addr } => {
                self.with_bytes(inner, addr, |bytes| net.set_peer(handle, bytes)).map(|()| Some(0))
            }
            Valid::Connect { addr, patience_ms } => self.with_bytes(inner, addr, |bytes| {
                net.connect(bytes, Duration::from_millis(patience_ms), (r.cell, r.tag))
            }),
            Valid::LookUp { name, port } => {
                self.with_bytes(inner, name, |bytes| net.look_up(bytes, port, (r.cell, r.tag)))
            }
        };
        match outcome {
            Ok(Some(value)) => inner.answer(r.cell, r.tag, &Completion::of(Ok(value))),
            Ok(None) => {}
            Err(e) => inner.answer(r.cell, r.tag, &Completion::of(Err(e))),
        }
    }
}

impl Net {
    /// O: Shutdown.
    fn shut(self: &Arc<Net>, handle: u32, how: u8) -> Result<(), Errno> {
        let sock = self.table.get(handle).ok_or(Errno::EBADF)?;
        if how & shut::READ != 0 {
            if let Some(fd) = sock.fd() {
                // SAFETY: the socket keeps it open.
                unsafe { libc::shutdown(fd, libc::SHUT_RD) };
            }
            sock.end_rx(self, None);
        }
        if how & shut::WRITE != 0 {
            lock(&sock.tx).shut = true;
            self.push(&sock);
        }
        Ok(())
    }

    fn set_option(&self, handle: u32, which: u32, value: u64) -> Result<(), Errno> {
        let sock = self.table.get(handle).ok_or(Errno::EBADF)?;
        // What is linked has no such options: they make no difference there.
        let Some(fd) = sock.fd() else { return Ok(()) };
        // SAFETY: the socket keeps it open.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let socket = socket2::SockRef::from(&fd);
        let number = usize::try_from(value).ok().filter(|n| *n <= i32::MAX as usize);
        let number = number.ok_or(Errno::EINVAL)?;
        let flag = || match number {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Errno::EINVAL),
        };
        let outcome = match which {
            option::NODELAY => socket.set_tcp_nodelay(flag()?),
            option::RECV_BUFFER => socket.set_recv_buffer_size(number),
            option::SEND_BUFFER => socket.set_send_buffer_size(number),
            option::KEEPALIVE => socket.set_keepalive(flag()?),
            option::BROADCAST => socket.set_broadcast(flag()?),
            option::TTL => socket.set_ttl_v4(number as u32),
            option::LINGER => {
                let time = number.checked_sub(1).map(|s| Duration::from_secs(s as u64));
                socket.set_linger(time)
            }
            _ => return Err(Errno::ENOPROTOOPT),
        };
        outcome.map_err(|e| addr::errno_of(&e))
    }
}
