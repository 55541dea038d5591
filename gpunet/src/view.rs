//! Bytes lent in place: what has arrived, where it lies, and room for what is to be sent.

use crate::ring::Span;
use crate::socket::Socket;
use gpu_abi::DeviceSlice;
use gpu_rt::{Group, Thread};

/// Bytes that have arrived, lent from the ring: two slices, since the ring wraps. Nobody else receives
/// from the socket while it lives.
///
/// Dropping it takes none of them: whoever receives next gets them again. For a warp or a block dropping
/// and consuming are points where all its threads meet.
pub struct RecvView<G: Group> {
    group: G,
    socket: Socket,
    span: Span,
    taken: u32,
}

impl<G: Group> RecvView<G> {
    pub(crate) fn new(group: &G, socket: Socket, span: Span) -> Self {
        RecvView { group: *group, socket, span, taken: 0 }
    }

    /// How many bytes there are; 0: the peer has ended its sending.
    #[must_use]
    pub fn len(&self) -> usize {
        self.span.len as usize
    }

    /// Whether the peer has ended its sending.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.span.len == 0
    }

    /// Whether nothing will arrive after these bytes: the peer has ended its sending, or the connection
    /// failed. What wants more than is here need not wait then. All threads of the group meet.
    #[must_use]
    pub fn is_last(&self) -> bool {
        // The leader's answer counts: it may change at any time.
        let last = self.group.is_leader() && self.socket.at().is_ok_and(|at| at.is_last(self.span));
        self.group.broadcast(u32::from(last)) != 0
    }

    /// The bytes: the second slice goes on where the first ends.
    #[must_use]
    pub fn slices(&self) -> [&[u8]; 2] {
        let Ok(at) = self.socket.at() else { return [&[], &[]] };
        let (first, len, second) = at.places(at.rx(), self.span.from, self.span.len);
        // SAFETY: within the ring; the host writes only room, and the lock is ours, so that none of these
        // bytes becomes room while the view lives.
        unsafe {
            [core::slice::from_raw_parts(first, len), core::slice::from_raw_parts(at.rx(), second)]
        }
    }

    /// Takes the first `n` bytes (at most all), which makes room for others, and ends the view.
    pub fn consume(mut self, n: usize) {
        self.taken = n.min(self.len()) as u32;
    }
}

impl<G: Group> Drop for RecvView<G> {
    fn drop(&mut self) {
        self.group.sync();
        if self.group.is_leader()
            && self.span.len > 0
            && let Ok(at) = self.socket.at()
        {
            at.finish_recv(self.span, self.taken);
        }
    }
}

/// Room for bytes to be sent, lent from the ring: two slices, since the ring wraps. Nobody else sends to
/// the socket while it lives. Dropping it sends nothing.
pub struct SendView<G: Group> {
    group: G,
    socket: Socket,
    span: Span,
    sent: u32,
}

impl<G: Group> SendView<G> {
    pub(crate) fn new(group: &G, socket: Socket, span: Span) -> Self {
        SendView { group: *group, socket, span, sent: 0 }
    }

    /// How many bytes there is room for.
    #[must_use]
    pub fn len(&self) -> usize {
        self.span.len as usize
    }

    /// Never: a view has room for at least a byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.span.len == 0
    }

    /// The room, as addresses that the threads of the group share: the second slice goes on where the
    /// first ends.
    #[must_use]
    pub fn slices(&self) -> [DeviceSlice<u8>; 2] {
        let Ok(at) = self.socket.at() else { return [DeviceSlice::new(0, 0); 2] };
        let (first, len, second) = at.places(at.tx(), self.span.from, self.span.len);
        [
            DeviceSlice::new(first as u64, len as u64),
            DeviceSlice::new(at.tx() as u64, second as u64),
        ]
    }

    /// Has the leader write its bytes to the beginning of the room, as far as there is any. Other threads may
    /// write what is behind them meanwhile.
    pub fn put(&self, bytes: &[u8]) {
        if self.group.is_leader()
            && let Ok(at) = self.socket.at()
        {
            at.put(self.span.from, &bytes[..bytes.len().min(self.len())]);
        }
    }

    /// Sends the first `n` bytes (at most all), which the group has written, and ends the view.
    pub fn commit(mut self, n: usize) {
        self.sent = n.min(self.len()) as u32;
    }
}

impl SendView<Thread> {
    /// The room, for a thread that fills it alone.
    #[must_use]
    pub fn slices_mut(&mut self) -> [&mut [u8]; 2] {
        let [first, second] = self.slices();
        // SAFETY: two parts of the ring that are ours while the view lives, borrowed from it.
        unsafe { [first.as_mut_slice(), second.as_mut_slice()] }
    }
}

impl<G: Group> Drop for SendView<G> {
    fn drop(&mut self) {
        self.group.sync();
        if self.group.is_leader()
            && let Ok(at) = self.socket.at()
        {
            at.finish_send(self.span, self.sent);
        }
    }
}
