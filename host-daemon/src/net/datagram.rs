//! Datagrams: each in a ring with its length and address before it (clause N10).

use super::socket::{Kind, Pulled, Pushed, ROUNDS, Sock, copy_in, copy_out};
use super::stream::last_errno;
use super::{Net, addr, lock};
use crate::engine::errno;
use bytemuck::Zeroable;
use gpu_abi::Errno;
use gpu_abi::socket::{Datagram, NetAddr};
use std::os::fd::RawFd;
use std::sync::atomic::Ordering;

const HEAD: u32 = size_of::<Datagram>() as u32;

/// Receives one that is there into rx.
pub(crate) fn pull(net: &Net, sock: &Sock, fd: RawFd) -> Pulled {
    let result = {
        let mut rx = lock(&sock.rx);
        if rx.ended || net.is_stopped() {
            return Pulled::Ended;
        }
        // Until half of the ring is free the system keeps them, and drops them when it has too many.
        match sock.rx_room(&mut rx, sock.size / 2) {
            Err(e) => Err(e),
            Ok(0) => return Pulled::Full,
            Ok(room) => {
                // Behind the datagram its sender's path, if that has one.
                let path_room = if sock.kind == Kind::UnixDatagram { NetAddr::SUN_PATH } else { 0 };
                let room = room - HEAD - path_room as u32;
                let (mut vectors, count) = sock.rx_vectors(rx.tail.wrapping_add(HEAD), room);
                // SAFETY: plain zeroes are a valid value of this C struct.
                let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
                message.msg_iov = vectors.as_mut_ptr();
                message.msg_iovlen = count;
                // SAFETY: the closure gives recvmsg the storage for the address and its length.
                let received = unsafe {
                    socket2::SockAddr::try_init(|storage, len| {
                        message.msg_name = storage.cast();
                        message.msg_namelen = *len;
                        let flags = libc::MSG_DONTWAIT;
                        let n = libc::recvmsg(fd, &raw mut message, flags);
                        *len = message.msg_namelen;
                        if n < 0 { Err(std::io::Error::last_os_error()) } else { Ok(n as u32) }
                    })
                };
                match received {
                    Ok(_) if message.msg_flags & libc::MSG_TRUNC != 0 => Ok(0),
                    Ok((len, from)) => {
                        let head = Datagram::new(len, addr::from_system(&from));
                        copy_in(sock.rx_ring, rx.tail, bytemuck::bytes_of(&head), sock.size);
                        if head.path_len() > 0 {
                            let at = rx.tail.wrapping_add(HEAD + len);
                            copy_in(sock.rx_ring, at, &addr::path_of(&from), sock.size);
                        }
                        // The ring and its room are multiples of 8: the padding fits.
                        match head.room() {
                            Some(room) => sock.advance_rx(&mut rx, room),
                            None => tracing::debug!(len, "a datagram longer than any is dropped"),
                        }
                        Ok(len)
                    }
                    Err(e) => match e.raw_os_error().unwrap_or_else(last_errno) {
                        libc::EAGAIN => return Pulled::Drained,
                        libc::EINTR => return Pulled::More,
                        raw => Err(errno(raw)),
                    },
                }
            }
        }
    };
    match result {
        Ok(n) => {
            sock.rx_changed(net);
            net.counters.received.fetch_add(u64::from(n), Ordering::Relaxed);
            Pulled::More
        }
        Err(Errno::EPROTO) => {
            sock.fail(net, Errno::EPROTO);
            Pulled::Ended
        }
        // An answer of the network's to something sent earlier: noted, and on.
        Err(e) => {
            sock.words.host.errno.store(e.raw(), Ordering::Relaxed);
            Pulled::More
        }
    }
}

/// Sends what is in tx.
pub(crate) fn push(net: &Net, sock: &Sock, fd: RawFd, by_task: bool) -> Pushed {
    let mut sent = 0;
    let outcome = 'out: {
        let mut tx = lock(&sock.tx);
        if tx.ended || net.is_stopped() {
            return Pushed::Ended;
        }
        for _ in 0..ROUNDS * 4 {
            let there = match sock.tx_used(&tx) {
                Ok(0) => {
                    tx.flushing &= !by_task;
                    break 'out Ok(if tx.shut { Pushed::Ended } else { Pushed::Empty });
                }
                Ok(there) => there,
                Err(_) => break 'out Err(()),
            };
            let mut head = Datagram::zeroed();
            if there < HEAD {
                break 'out Err(());
            }
            copy_out(sock.tx_ring, tx.head, bytemuck::bytes_of_mut(&mut head), sock.size);
            // N10: judged on the copy.
            let Some(takes) = head.room().filter(|takes| *takes <= there) else {
                break 'out Err(());
            };
            match send_one(net, sock, fd, tx.head.wrapping_add(HEAD), &head) {
                Ok(()) => sent += u64::from(head.len),
                Err(libc::EAGAIN) => break 'out Ok(Pushed::Blocked),
                Err(libc::EINTR) => continue,
                Err(raw) => sock.words.host.errno.store(errno(raw).raw(), Ordering::Relaxed),
            }
            sock.advance_tx(&mut tx, takes);
        }
        Ok(Pushed::More)
    };
    sock.tx_changed(net);
    net.counters.sent.fetch_add(sent, Ordering::Relaxed);
    match outcome {
        Ok(pushed) => pushed,
        Err(()) => {
            sock.fail(net, Errno::EPROTO);
            Pushed::Ended
        }
    }
}

fn send_one(net: &Net, sock: &Sock, fd: RawFd, from: u32, head: &Datagram) -> Result<(), i32> {
    let (mut vectors, count) = sock.tx_vectors(from, head.len);
    // SAFETY: plain zeroes are a valid value of this C struct.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = vectors.as_mut_ptr();
    message.msg_iovlen = count;
    let to = if head.addr.family == NetAddr::default().family {
        None
    } else if net.grant.may_reach(&head.addr) {
        let mut path = vec![0; head.path_len() as usize];
        copy_out(sock.tx_ring, from.wrapping_add(head.len), &mut path, sock.size);
        Some(addr::to_system(&head.addr, &path).map_err(|e| e.raw() as i32)?)
    } else {
        tracing::debug!(to = ?head.addr, "a datagram to where the grant does not reach is dropped");
        return Err(libc::EPERM);
    };
    if let Some(to) = &to {
        message.msg_name = to.as_ptr().cast_mut().cast();
        message.msg_namelen = to.len();
    }
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: the vectors name bytes of tx, which are ours until its head passes them; the address lives.
    match unsafe { libc::sendmsg(fd, &raw const message, flags) } {
        n if n >= 0 => Ok(()),
        _ => Err(last_errno()),
    }
}
