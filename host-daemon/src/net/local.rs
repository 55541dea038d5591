//! Connections between clients of one daemon: from ring to ring (clause N15).

use super::open::Listeners;
use super::socket::{Kind, Link, Pushed, Sock};
use super::{Net, lock};
use gpu_abi::Errno;
use gpu_abi::socket::{NetAddr, parts};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

/// Bytes after which the receiver is told: it takes them, from a cache that they are still in, while the next are
/// copied.
const PIECE: u32 = 64 << 10;
/// So many pieces go before others have their turn.
const PIECES: usize = 16;

/// Copies what is in tx into the peer's rx.
pub(crate) fn push(net: &Net, sock: &Sock, by_task: bool) -> Pushed {
    let Some((peer_net, peer)) = sock.local_peer() else {
        sock.fail(net, Errno::ECONNRESET);
        return Pushed::Ended;
    };
    let mut peer_ended = false;
    let outcome = 'out: {
        let mut tx = lock(&sock.tx);
        if tx.ended || net.is_stopped() {
            return Pushed::Ended;
        }
        for _ in 0..PIECES {
            let there = match sock.tx_used(&tx) {
                Ok(there) => there,
                Err(e) => break 'out Err(e),
            };
            if there == 0 {
                tx.flushing &= !by_task;
                break 'out Ok(if tx.shut { None } else { Some(Pushed::Empty) });
            }
            let mut rx = lock(&peer.rx);
            if rx.ended || peer_net.is_stopped() {
                peer_ended = true;
                break 'out Err(Errno::EPIPE);
            }
            let room = match peer.rx_room(&mut rx, 1) {
                Ok(0) => break 'out Ok(Some(Pushed::Blocked)),
                Ok(room) => room,
                Err(_) => {
                    peer_ended = true;
                    break 'out Err(Errno::EPIPE);
                }
            };
            let n = there.min(room).min(PIECE);
            copy(sock, tx.head, &peer, rx.tail, n);
            peer.advance_rx(&mut rx, n);
            drop(rx);
            sock.advance_tx(&mut tx, n);
            net.counters.linked.fetch_add(u64::from(n), Ordering::Relaxed);
            peer.rx_changed(&peer_net);
            sock.tx_changed(net);
        }
        Ok(Some(Pushed::More))
    };
    match outcome {
        Ok(Some(pushed)) => pushed,
        Ok(None) => {
            sock.end_tx(net, None);
            peer.end_rx(&peer_net, None);
            Pushed::Ended
        }
        Err(e) => {
            sock.end_tx(net, Some(e));
            if !peer_ended {
                sock.end_rx(net, Some(e));
                peer.fail(&peer_net, Errno::ECONNRESET);
            }
            Pushed::Ended
        }
    }
}

/// `n` bytes from one ring to another; both wrap.
fn copy(from: &Sock, head: u32, to: &Sock, tail: u32, n: u32) {
    let mut done = 0;
    while done < n {
        let (src, src_len, _) = parts(head.wrapping_add(done), n - done, from.size);
        let (dst, dst_len, _) = parts(tail.wrapping_add(done), n - done, to.size);
        let len = src_len.min(dst_len);
        // SAFETY: `parts` stays within each ring; the bytes of tx are ours until its head passes them, and
        // the room in rx until its tail does. Two sockets, two rings.
        unsafe { to.rx_ring.add(dst).copy_from_nonoverlapping(from.tx_ring.add(src), len) };
        done += len as u32;
    }
}

impl Net {
    /// A connection to a listener of a client of this daemon, if there is one at this address that can
    /// take another: the handle of this end. `None`: the system is asked.
    pub(crate) fn connect_locally(
        self: &Arc<Net>,
        listeners: &Listeners,
        to: &NetAddr,
        handle: u32,
    ) -> Option<()> {
        let (net, listener) = listeners.find(to)?;
        if listener.has_backlog() != Ok(true) {
            return None;
        }
        let other = net.table.reserve()?;
        let here = Sock::new(self, handle, Kind::Stream, Link::Local(OnceLock::new()), 0);
        let there = Sock::new(&net, other, Kind::Stream, Link::Local(OnceLock::new()), 0);
        for (sock, peer_net, peer) in [(&here, &net, &there), (&there, self, &here)] {
            if let Link::Local(link) = &sock.link {
                let _ = link.set((Arc::downgrade(peer_net), Arc::downgrade(peer)));
            }
        }
        let ours = NetAddr { port: 0, ..*to };
        here.publish(ours, *to);
        there.publish(*to, ours);
        self.table.insert(here);
        net.table.insert(there);
        if !listener.announce(&net, other) {
            net.close(other).ok();
            self.table.take(handle);
            return None;
        }
        Some(())
    }
}
