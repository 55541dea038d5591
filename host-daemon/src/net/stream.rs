//! Streams: bytes from a descriptor into rx, and from tx into a descriptor, without a copy between.

use super::socket::{Pulled, Pushed, ROUNDS, Sock};
use super::{Net, lock};
use crate::engine::errno;
use gpu_abi::Errno;
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering;

pub(crate) fn last_errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

/// Reads what is there into rx.
pub(crate) fn pull(net: &Net, sock: &Sock, fd: RawFd) -> Pulled {
    let result = {
        let mut rx = lock(&sock.rx);
        if rx.ended || net.is_stopped() {
            return Pulled::Ended;
        }
        match sock.rx_room(&mut rx, 1) {
            Err(e) => Err(e),
            Ok(0) => return Pulled::Full,
            Ok(room) => {
                let (vectors, count) = sock.rx_vectors(rx.tail, room);
                // SAFETY: the vectors name free room of rx, which is ours under the lock.
                match unsafe { libc::readv(fd, vectors.as_ptr(), count as i32) } {
                    0 => Ok(None),
                    n if n > 0 => {
                        sock.advance_rx(&mut rx, n as u32);
                        // Fewer than there was room for: there are no more now, and whatever comes is announced
                        // anew; unless that is the end.
                        let more = n as u32 == room || rx.last;
                        Ok(Some((n as u32, more)))
                    }
                    _ => match last_errno() {
                        libc::EAGAIN => return Pulled::Drained,
                        libc::EINTR => return Pulled::More,
                        raw => Err(errno(raw)),
                    },
                }
            }
        }
    };
    match result {
        Ok(Some((n, more))) => {
            sock.rx_changed(net);
            net.counters.received.fetch_add(u64::from(n), Ordering::Relaxed);
            if more { Pulled::More } else { Pulled::Drained }
        }
        Ok(None) => {
            sock.end_rx(net, None);
            Pulled::Ended
        }
        Err(e) => {
            sock.fail(net, e);
            Pulled::Ended
        }
    }
}

/// Writes what is in tx.
pub(crate) fn push(net: &Net, sock: &Sock, fd: RawFd, by_task: bool) -> Pushed {
    let mut sent = 0;
    let outcome = 'out: {
        let mut tx = lock(&sock.tx);
        if tx.ended || net.is_stopped() {
            return Pushed::Ended;
        }
        for _ in 0..ROUNDS {
            let there = match sock.tx_used(&tx) {
                Ok(there) => there,
                Err(e) => break 'out Err(e),
            };
            if there == 0 {
                tx.flushing &= !by_task;
                break 'out Ok(if tx.shut { None } else { Some(Pushed::Empty) });
            }
            let (vectors, count) = sock.tx_vectors(tx.head, there);
            // SAFETY: plain zeroes are a valid value of this C struct.
            let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
            message.msg_iov = vectors.as_ptr().cast_mut();
            message.msg_iovlen = count;
            let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
            // SAFETY: the vectors name bytes of tx, which are ours until its head passes them.
            match unsafe { libc::sendmsg(fd, &raw const message, flags) } {
                n if n >= 0 => {
                    sent += n as u64;
                    sock.advance_tx(&mut tx, n as u32);
                    if (n as u32) < there {
                        break 'out Ok(Some(Pushed::Blocked));
                    }
                }
                _ => match last_errno() {
                    libc::EAGAIN => break 'out Ok(Some(Pushed::Blocked)),
                    libc::EINTR => {}
                    raw => break 'out Err(errno(raw)),
                },
            }
        }
        Ok(Some(Pushed::More))
    };
    if sent > 0 {
        sock.tx_changed(net);
        net.counters.sent.fetch_add(sent, Ordering::Relaxed);
    }
    match outcome {
        Ok(Some(pushed)) => pushed,
        Ok(None) => {
            // SAFETY: an open descriptor.
            unsafe { libc::shutdown(fd, libc::SHUT_WR) };
            sock.end_tx(net, None);
            Pushed::Ended
        }
        Err(e) => {
            // As std: a peer that is gone is EPIPE to those who send, and the end or a reset to those who
            // receive.
            sock.end_tx(net, Some(e));
            if e == Errno::EPROTO {
                sock.end_rx(net, Some(e));
            }
            Pushed::Ended
        }
    }
}

/// Throws away what has arrived and nobody will read: were it still there when the descriptor is closed,
/// the system would reset the connection, and the peer might lose the end of what it was sent.
pub(crate) fn discard(fd: RawFd) {
    let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
    for _ in 0..ROUNDS {
        // SAFETY: with MSG_TRUNC, TCP drops the bytes and writes none.
        let n = unsafe { libc::recv(fd, std::ptr::null_mut(), 1 << 20, flags) };
        if n <= 0 {
            return;
        }
    }
}
