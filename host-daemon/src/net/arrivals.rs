//! What has arrived from outside, and who takes it.
//!
//! ```text
//!   sockets ──▶ epoll `sockets` ──▶ a worker that polls: `Net::look`
//!                     │
//!                     └──▶ epoll `gate` ──▶ the runtime's thread, while no worker looks: `watch`
//! ```
//!
//! A worker that is awake takes what has arrived itself, on the core whose kernels will use it: nobody
//! has to be woken, and the bytes stay in that core's cache. When the last of the workers parks it opens
//! the gate; then the next arrival wakes the runtime's thread, which takes it, and wakes the device.
//! A gate lets one wake-up through and is closed until it is opened again.
//!
//! Each arrival is told to one of those who look (the epoll is edge-triggered). Two that look for the
//! same socket do so one after the other, under the lock of its rx.

use super::{Net, addr, lock};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use rustix::time::Timespec;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::Interest;

/// So many sockets are served in one look: others want the worker, too.
const AT_ONCE: usize = 8;
/// When a worker that is awake has not looked for so long, the runtime's thread does.
const PATIENCE: Duration = Duration::from_millis(2);

/// See the module.
pub(crate) struct Arrivals {
    sockets: OwnedFd,
    gate: OwnedFd,
    /// Workers that are awake, and will look before they park.
    awake: AtomicU32,
    /// Looks of workers so far.
    looks: AtomicU32,
}

/// What tokio watches of the gate.
struct Gate(Arc<Net>);

impl AsRawFd for Gate {
    fn as_raw_fd(&self) -> RawFd {
        self.0.arrivals.gate.as_raw_fd()
    }
}

// SAFETY: the network has it as long as it lives.
unsafe impl addr::Keeps for Gate {}

impl Arrivals {
    pub(crate) fn new() -> io::Result<Arrivals> {
        let sockets = epoll::create(CreateFlags::CLOEXEC)?;
        let gate = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&gate, &sockets, EventData::new_u64(0), EventFlags::empty())?;
        Ok(Arrivals { sockets, gate, awake: AtomicU32::new(0), looks: AtomicU32::new(0) })
    }

    /// From here on it is told what arrives at a socket. It forgets the socket when its descriptor is closed.
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, handle: u32) -> io::Result<()> {
        Ok(epoll::add(&self.sockets, fd, EventData::new_u64(handle.into()), IN)?)
    }

    /// There may be more of what has been told already.
    pub(crate) fn again(&self, fd: BorrowedFd<'_>, handle: u32) {
        // It has been added; a failure would be one of memory, which changing needs none of.
        let _ = epoll::modify(&self.sockets, fd, EventData::new_u64(handle.into()), IN);
    }

    /// A worker begins to look.
    pub(crate) fn worker_wakes(&self) {
        self.awake.fetch_add(1, Ordering::SeqCst);
    }

    /// A worker that looked is about to park.
    pub(crate) fn worker_rests(&self) {
        // SeqCst: the runtime's thread opens the gate if it sees 0 here, and it looks after it closed it.
        if self.awake.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.open_gate();
        }
    }

    /// Lets the next arrival through to the runtime's thread, or one that has come already.
    fn open_gate(&self) {
        let once = EventFlags::IN | EventFlags::ONESHOT;
        let _ = epoll::modify(&self.gate, &self.sockets, EventData::new_u64(0), once);
    }

    /// What has let it through is taken note of; it is closed.
    fn close_gate(&self) {
        wait(&self.gate, &mut [NOTHING]);
    }
}

const IN: EventFlags = EventFlags::IN.union(EventFlags::RDHUP).union(EventFlags::ET);
const LAST: EventFlags = EventFlags::RDHUP.union(EventFlags::HUP).union(EventFlags::ERR);
const NOTHING: Event = Event { flags: EventFlags::empty(), data: EventData::new_u64(0) };

/// What has happened already, without waiting.
fn wait<'a>(epoll: &impl AsFd, events: &'a mut [Event]) -> &'a [Event] {
    let found = epoll::wait(epoll, &mut *events, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    &events[..found.unwrap_or(0)]
}

impl Net {
    /// Takes what has arrived, as a worker that polls: of so many sockets.
    pub(crate) fn look(self: &Arc<Net>) -> usize {
        if self.table.outside.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        let looks = &self.arrivals.looks;
        looks.store(looks.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        self.take()
    }

    fn take(self: &Arc<Net>) -> usize {
        let mut events = [NOTHING; AT_ONCE];
        let events = wait(&self.arrivals.sockets, &mut events);
        for event in events {
            // One that has been closed meanwhile, or whose place is another's, is not found.
            if let Some(sock) = self.table.get(event.data.u64() as u32) {
                if LAST.intersects(event.flags) {
                    lock(&sock.rx).last = true;
                }
                self.fill(&sock);
            }
        }
        events.len()
    }
}

/// Takes what arrives while no worker looks.
pub(crate) async fn watch(net: Arc<Net>) {
    let gate = match addr::watched(Gate(net.clone()), Interest::READABLE).await {
        Ok(gate) => gate,
        Err(error) => return tracing::error!(%error, "nothing will arrive at sockets"),
    };
    let arrivals = &net.arrivals;
    loop {
        let looks = arrivals.looks.load(Ordering::Relaxed);
        // SeqCst: pairs with `worker_rests`. Whichever comes second opens the gate. Where nothing can arrive, a worker
        // may sleep for long without having parked.
        let nobody_looks = arrivals.awake.load(Ordering::SeqCst) == 0
            || net.table.outside.load(Ordering::Relaxed) == 0;
        let passed = if nobody_looks {
            arrivals.open_gate();
            Ok(gate.readable().await)
        } else {
            tokio::time::timeout(PATIENCE, gate.readable()).await
        };
        match passed {
            Ok(Ok(mut ready)) => {
                ready.clear_ready();
                arrivals.close_gate();
            }
            Ok(Err(_)) => return,
            Err(_) if arrivals.looks.load(Ordering::Relaxed) != looks => continue,
            // Those that are awake are busy.
            Err(_) => {}
        }
        // Until there is no more, or one that is awake has looked: it will do so again.
        while net.take() > 0 && arrivals.looks.load(Ordering::Relaxed) == looks {
            tokio::task::yield_now().await;
        }
    }
}
