//! Carrying socket requests out.

use super::validate::{self, Valid};
use super::{Net, lock};
use crate::client::Inner;
use crate::serve::Worker;
use crate::stats::bump;
use crate::validate::Refusal;
use gpu_abi::socket::shut;
use gpu_abi::{Completion, Errno, Op, Request};
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
            Valid::GetOption { handle, option } => net.option(handle, option).map(Some),
            Valid::Name { handle, peer, slot } => net.name(handle, peer, slot).map(Some),
            Valid::Pair { datagrams } => net.pair(datagrams).map(Some),
            Valid::Multicast { handle, addr, leave } => self
                .with_bytes(inner, addr, |bytes| net.multicast(handle, bytes, leave))
                .map(|()| Some(0)),
            Valid::Listen { addr, backlog, how } => self
                .with_bytes(inner, addr, |bytes| net.listen(bytes, backlog, how))
                .map(|handle| Some(handle.into())),
            Valid::Bind { addr, how } => self
                .with_bytes(inner, addr, |bytes| net.bind(bytes, how))
                .map(|handle| Some(handle.into())),
            Valid::SetPeer { handle, addr } => {
                self.with_bytes(inner, addr, |bytes| net.set_peer(handle, bytes)).map(|()| Some(0))
            }
            Valid::Connect { addr, patience_ms } => self.with_bytes(inner, addr, |bytes| {
                net.connect(bytes, Duration::from_millis(patience_ms), (r.cell, r.tag))
            }),
            Valid::Cancel { cell, tag } => {
                net.under_way.give_up((cell, tag));
                Ok(Some(0))
            }
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
}
