//! What the servers have in common: persistent groups of threads that share a listener and an event
//! queue.
//!
//! ```text
//!   group 0           ── listens, makes the queue, says so (or why not) ──▶ the host, the other groups
//!   every group       ── waits for an event ──▶ the listener: takes what waits, watches each, watches on
//!                                          └──▶ a connection: serves what is there, watches it on
//! ```
//!
//! An event goes to one group, and a socket is watched again when that group is done with it: a
//! connection is never served by two at once.

use bytemuck::{Pod, Zeroable};
use core::time::Duration;
use gpu_rt::atomic::{DeviceAtomicU32, DeviceAtomicU64, Ordering};
use gpu_rt::{Group, thread};
use gpunet::{DeviceSlice, Errno, Interest, Net, NetAddr, Poll, TcpListener, TcpStream};

/// What a server's launch shares with the host and among its groups. Zeroed before the launch.
#[derive(Debug)]
#[repr(C)]
pub struct Shared {
    /// 0: not yet. Then 1 for a server that listens, or 2 and more: an error number + 2.
    pub state: DeviceAtomicU32,
    /// Connections taken so far.
    pub taken: DeviceAtomicU32,
    /// What it listens at.
    listener: [DeviceAtomicU64; 2],
    poll: [DeviceAtomicU64; 2],
    /// The address, as a [`NetAddr`]'s words.
    pub addr: [DeviceAtomicU64; 4],
    /// What the host's clock showed when the device's was 0, in nanoseconds since 1970; 0: nobody knows.
    /// Kept by whoever wants to tell the time.
    pub epoch: DeviceAtomicU64,
    /// When to sweep next.
    next_sweep: DeviceAtomicU64,
    /// What the server counts.
    pub counts: [DeviceAtomicU64; 8],
}

/// [`Shared`] as the host allocates it.
pub const SHARED_WORDS: usize = size_of::<Shared>() / 8;

/// What every server's arguments have.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Server {
    /// The network.
    pub net: Net,
    /// Where to listen.
    pub addr: NetAddr,
    /// [`SHARED_WORDS`] zeroed words.
    pub shared: DeviceSlice<u64>,
    /// Connections that may wait to be taken.
    pub backlog: u32,
    /// Must be 0.
    pub reserved: u32,
}

/// Whether the calling thread is of the launch's first warp: the one that listens where warps serve.
#[must_use]
pub fn is_first_warp() -> bool {
    thread::grid_dim().linear(thread::block_idx()) == 0 && thread::warp_id() == 0
}

/// A server, as one of its groups has it.
pub struct Serving {
    /// The network.
    pub net: Net,
    listener: TcpListener,
    poll: Poll,
}

impl Server {
    /// The shared words.
    #[must_use]
    pub fn shared(&self) -> &Shared {
        assert!(self.shared.len() >= SHARED_WORDS, "the host gave too few shared words");
        // SAFETY: long enough, zeroed by the host, and made of atomic words.
        unsafe { &*self.shared.as_ptr().cast::<Shared>() }
    }

    /// Listens (the group with `first`), or waits until that has been done.
    ///
    /// # Errors
    /// Why it cannot listen, for all groups.
    pub fn start<G: Group>(&self, group: &G, first: bool) -> Result<Serving, Errno> {
        let shared = self.shared();
        if first {
            let begun = self.listen(group);
            if group.is_leader() {
                let state = match begun {
                    Ok(()) => 1,
                    Err(e) => e.raw() + 2,
                };
                // Release: pairs with the acquire below.
                shared.state.store(state, Ordering::Release);
            }
        }
        let mut state = 0;
        if group.is_leader() {
            loop {
                // Acquire, in the wait: pairs with the release above.
                state = gpu_rt::wait_while_eq(&shared.state, 0, 1_000_000_000);
                if state != 0 {
                    break;
                }
            }
        }
        match group.broadcast(state) {
            1 => {}
            e => return Err(Errno::from_raw(e.saturating_sub(2)).unwrap_or(Errno::EIO)),
        }
        let load =
            |words: &[DeviceAtomicU64; 2]| words.each_ref().map(|w| w.load(Ordering::Relaxed));
        Ok(Serving {
            net: self.net,
            listener: bytemuck::cast(load(&shared.listener)),
            poll: bytemuck::cast(load(&shared.poll)),
        })
    }

    /// As [`Server::start`], for servers that wait for connections rather than events.
    ///
    /// # Errors
    /// Why it cannot listen, for all groups.
    pub fn listen_only<G: Group>(&self, group: &G, first: bool) -> Result<TcpListener, Errno> {
        self.start(group, first).map(|serving| serving.listener)
    }

    fn listen<G: Group>(&self, group: &G) -> Result<(), Errno> {
        let listener =
            TcpListener::bind_with_backlog(group, &self.net, self.addr, self.backlog.max(1))?;
        let poll = Poll::new(group, &self.net)?;
        let shared = self.shared();
        if group.is_leader() {
            let store = |words: &[DeviceAtomicU64], values: &[u64]| {
                for (word, value) in words.iter().zip(values) {
                    word.store(*value, Ordering::Relaxed);
                }
            };
            store(&shared.listener, &bytemuck::cast::<_, [u64; 2]>(listener));
            store(&shared.poll, &bytemuck::cast::<_, [u64; 2]>(poll));
            store(&shared.addr, &bytemuck::cast::<_, [u64; 4]>(listener.local()?));
        }
        poll.add(group, &listener, Interest::Readable)
    }

    /// Adds to one of the counters.
    pub fn count(&self, which: usize, n: u64) {
        self.shared().counts[which].fetch_add(n, Ordering::Relaxed);
    }
}

/// What became of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is nothing more to do until something arrives.
    More(Interest),
    /// It is to be closed.
    Done,
    /// Another group has it.
    Left,
}

/// What a server does.
pub trait Service<G: Group> {
    /// A connection has been taken. Nobody serves it yet.
    fn accepted(&self, _stream: &TcpStream) {}

    /// Serves what a connection has, without waiting, and says what became of it.
    fn ready(&self, stream: &TcpStream) -> Outcome;

    /// Called by one group about every quarter of a second.
    fn sweep(&self) {}
}

/// How often [`Service::sweep`] is called.
const SWEEP: Duration = Duration::from_millis(250);
/// A busy group looks at the clock after so many events.
const LOOK: u32 = 64;

impl Serving {
    /// Serves connections until the kernels are asked to end.
    pub fn run<G: Group>(&self, group: &G, shared: &Shared, service: &impl Service<G>) {
        let mut events = 1u32;
        while self.turn(group, shared, service, events) {
            events = events.wrapping_add(1);
        }
    }

    /// Waits for an event, and does what there is to be done. Whether there may be others.
    // Not inlined, nor what it does into it: on a GPU what they need would be worked out before the loop over all
    // events, and kept.
    #[inline(never)]
    fn turn<G: Group>(
        &self,
        group: &G,
        shared: &Shared,
        service: &impl Service<G>,
        events: u32,
    ) -> bool {
        let event = self.poll.wait_timeout(group, SWEEP);
        if (event.is_err() || events.is_multiple_of(LOOK)) && self.is_time(group, shared) {
            service.sweep();
        }
        match event {
            Ok(socket) if socket == self.listener.socket() => {
                self.take_all(group, shared, service);
            }
            Ok(socket) => self.serve(group, &TcpStream::from(socket), service),
            Err(Errno::EAGAIN) => {}
            Err(_) => return false,
        }
        true
    }

    /// Whether it is this group that is to sweep now.
    #[inline(never)]
    fn is_time<G: Group>(&self, group: &G, shared: &Shared) -> bool {
        let mut ours = 0u32;
        if group.is_leader() {
            let (now, next) = (gpu_rt::clock(), shared.next_sweep.load(Ordering::Relaxed));
            let then = now + SWEEP.as_nanos() as u64;
            let (relaxed, word) = (Ordering::Relaxed, &shared.next_sweep);
            ours = u32::from(
                now >= next && word.compare_exchange(next, then, relaxed, relaxed).is_ok(),
            );
        }
        group.broadcast(ours) != 0
    }

    /// Takes the connections that wait.
    #[inline(never)]
    fn take_all<G: Group>(&self, group: &G, shared: &Shared, service: &impl Service<G>) {
        loop {
            while let Ok((stream, _)) = self.listener.try_accept(group) {
                if group.is_leader() {
                    shared.taken.fetch_add(1, Ordering::Relaxed);
                }
                service.accepted(&stream);
                self.poll.add(group, &stream, Interest::Readable).ok();
            }
            // What came since is an event already, or is here now.
            if !matches!(self.poll.watch(group, &self.listener, Interest::Readable), Ok(true)) {
                return;
            }
        }
    }

    fn serve<G: Group>(&self, group: &G, stream: &TcpStream, service: &impl Service<G>) {
        loop {
            match service.ready(stream) {
                Outcome::Done => return stream.close(group),
                Outcome::Left => return,
                Outcome::More(interest) => match self.poll.watch(group, stream, interest) {
                    // Something has come meanwhile.
                    Ok(true) => {}
                    Ok(false) | Err(_) => return,
                },
            }
        }
    }
}
