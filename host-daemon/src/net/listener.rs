//! Listeners: connections accepted in advance, and announced in the listener's ring (clause N8).

use super::socket::{Kind, Link, Sock, Watched, copy_in};
use super::stream::last_errno;
use super::{Net, addr, lock};
use gpu_abi::Errno;
use gpu_abi::socket::{Accepted, NetAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::Interest;

/// Pause after the system has no descriptors or memory left.
const BACK_OFF: Duration = Duration::from_millis(10);
const RECORD: u32 = size_of::<Accepted>() as u32;

impl Sock {
    /// Whether one more connection may wait.
    pub(crate) fn has_backlog(&self) -> Result<bool, Errno> {
        let mut rx = lock(&self.rx);
        if rx.ended {
            return Err(Errno::EBADF);
        }
        let room_wanted = self.size - (self.backlog - 1).saturating_mul(RECORD);
        Ok(self.rx_room(&mut rx, room_wanted)? > 0)
    }

    /// Announces a connection; false if the listener has ended meanwhile.
    pub(crate) fn announce(&self, net: &Net, handle: u32) -> bool {
        {
            let mut rx = lock(&self.rx);
            if rx.ended || net.is_stopped() {
                return false;
            }
            // Those that have been taken need not be remembered.
            let head = self.words.device.rx_head.load(Ordering::Relaxed);
            while rx.waiting.front().is_some_and(|(at, _)| (at.wrapping_sub(head) as i32) < 0) {
                rx.waiting.pop_front();
            }
            let tail = rx.tail;
            rx.waiting.push_back((tail, handle));
            let record = Accepted { handle, reserved: 0 };
            copy_in(self.rx_ring, tail, bytemuck::bytes_of(&record), self.size);
            self.advance_rx(&mut rx, RECORD);
        }
        net.counters.accepted.fetch_add(1, Ordering::Relaxed);
        self.rx_changed(net);
        true
    }

    /// The connections that nobody has taken, once the listener has ended.
    pub(crate) fn not_taken(&self) -> Vec<u32> {
        let mut rx = lock(&self.rx);
        rx.ended = true;
        let head = self.words.device.rx_head.load(Ordering::Acquire);
        let waiting = std::mem::take(&mut rx.waiting);
        waiting
            .into_iter()
            .filter(|(at, _)| (at.wrapping_sub(head) as i32) >= 0)
            .map(|(_, handle)| handle)
            .collect()
    }
}

/// Accepts until the listener is closed.
pub(crate) async fn accept(net: Arc<Net>, listener: Arc<Sock>) {
    let fd = match addr::watched(Watched(listener.clone()), Interest::READABLE).await {
        Ok(fd) => fd,
        Err(e) => return listener.fail(&net, e),
    };
    let raw = fd.as_raw_fd();
    loop {
        let Ok(mut ready) = fd.readable().await else { return };
        match listener.has_backlog() {
            Ok(true) => {}
            Ok(false) => {
                listener.room.notified().await;
                continue;
            }
            Err(Errno::EBADF) => return,
            Err(e) => return listener.fail(&net, e),
        }
        // From here on nothing waits while it holds the handle: were this task aborted meanwhile, the place
        // would be lost.
        let handle = net.table.reserve_soon().await;
        match accept_one(raw) {
            Ok((fd, peer)) => {
                if !net.admit(&listener, handle, fd, peer) {
                    return;
                }
            }
            Err(libc::EAGAIN) => {
                net.table.release(handle);
                ready.clear_ready();
            }
            // Of that connection, not of the listener.
            Err(libc::EINTR | libc::ECONNABORTED | libc::EPROTO) => net.table.release(handle),
            Err(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                net.table.release(handle);
                tokio::time::sleep(BACK_OFF).await;
            }
            Err(raw) => {
                net.table.release(handle);
                return listener.fail(&net, crate::engine::errno(raw));
            }
        }
    }
}

fn accept_one(fd: RawFd) -> Result<(OwnedFd, NetAddr), i32> {
    let mut new = -1;
    // SAFETY: the closure fills address and length as accept4 does.
    let outcome = unsafe {
        socket2::SockAddr::try_init(|storage, len| {
            let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
            new = libc::accept4(fd, storage.cast(), len, flags);
            if new < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
        })
    };
    match outcome {
        // SAFETY: a descriptor that accept4 has just made.
        Ok(((), peer)) => Ok((unsafe { OwnedFd::from_raw_fd(new) }, addr::from_system(&peer))),
        Err(e) => Err(e.raw_os_error().unwrap_or_else(last_errno)),
    }
}

impl Net {
    /// Makes a socket of an accepted connection and announces it; false if the listener has ended.
    fn admit(self: &Arc<Net>, listener: &Sock, handle: u32, fd: OwnedFd, peer: NetAddr) -> bool {
        addr::set_nodelay(&fd, peer.family);
        let local = addr::local(&fd);
        let sock = Sock::new(self, handle, Kind::Stream, Link::Fd(fd), 0);
        sock.publish(local, peer);
        self.table.insert(sock.clone());
        if !listener.announce(self, handle) {
            self.close(handle).ok();
            return false;
        }
        self.start_filling(&sock);
        true
    }
}
