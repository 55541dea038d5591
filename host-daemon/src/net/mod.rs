//! A client's sockets: bytes between rings and the operating system (clauses N1 to N15).
//!
//! ```text
//!   device          region                 here                                 system
//!   ──────          ──────                 ────                                 ──────
//!   send ────────▶  tx ring ──────────▶  push: whoever serves the Wake,     ──▶ sendmsg
//!                   (Wake if tx_sleeps)       a task while the peer is slow
//!   recv ◀────────  rx ring ◀──────────  fill: whoever looks for arrivals   ◀── readv
//!   accept ◀──────  listener's rx ◀────  accept: a task per listener        ◀── accept4
//!   connect, bind ▶ request ring ──────▶  open: at once, or a task
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `runtime` | what runs the tasks |
//! | `table` | sockets by handle, places, generations |
//! | `socket` | one socket: its words, rings, ends, wake-ups |
//! | `arrivals` | who takes what has arrived |
//! | `stream`, `datagram`, `listener`, `local` | what fills and empties the rings |
//! | `open` | listening, connecting, binding, looking names up |
//! | `options` | options, names, multicast groups |
//! | `asked` | requests that tasks answer, or the device gives up |
//! | `grant` | what a client may do |
//! | `validate` | the judgement on a request |
//! | `addr` | addresses |
//!
//! A peer that does not read, or that sends without end, fills a ring of its own socket; then nothing
//! is moved for it until somebody makes room. No task and no lock is shared with another socket.

mod addr;
mod arrivals;
mod asked;
mod datagram;
mod grant;
mod listener;
mod local;
mod open;
mod options;
mod runtime;
mod serve;
mod socket;
mod stream;
mod table;
mod validate;

pub use grant::{NetGrant, Reach};
pub(crate) use open::Listeners;
pub(crate) use runtime::Runtime;
pub(crate) use validate::is_socket_op;

use crate::stats::{NET_OPS, NetStats};
use crate::{DaemonError, RegionMemory, wake};
use arrivals::Arrivals;
use asked::UnderWay;
use gpu_abi::{Completion, Errno, HostAtomics, Region};
use socket::{Kind, Link, Pulled, Pushed, ROUNDS, Sock, Watched};
use std::cell::Cell;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};
use table::Table;
use tokio::io::Interest;
use tokio::task::AbortHandle;

/// How long the bytes of a closed socket may wait for a peer that takes none (clause N11).
const LINGER: Duration = Duration::from_secs(10);
/// Pause before one more look whether a receiver of Unix datagrams has room.
const RETRY: Duration = Duration::from_millis(1);

/// Bits of an event's number that a socket remembers, below its queue's.
const EVENT_BITS: u32 = 48;

thread_local! {
    /// The network of the client whose turn this thread is in.
    static TURN: Cell<*const Net> = const { Cell::new(std::ptr::null()) };
}

/// A lock, whatever happened to whoever held it: nothing under these locks is left half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the sockets of a client have been up to.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) by_op: [AtomicU64; NET_OPS],
    pub(crate) received: AtomicU64,
    pub(crate) sent: AtomicU64,
    pub(crate) linked: AtomicU64,
    pub(crate) accepted: AtomicU64,
    pub(crate) events: AtomicU64,
    pub(crate) wakes: AtomicU64,
}

/// What a client's grant says about files, as far as it concerns Unix sockets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileRights {
    pub(crate) has_root: bool,
    pub(crate) read_only: bool,
}

/// A client's sockets.
pub(crate) struct Net {
    pub(crate) region: Region<HostAtomics>,
    pub(crate) table: Table,
    pub(crate) grant: NetGrant,
    /// Whether a Unix socket may be made in the file system.
    makes_files: bool,
    pub(crate) counters: Counters,
    pub(crate) arrivals: Arrivals,
    /// Ends the task that looks for arrivals.
    watch: Mutex<Option<AbortHandle>>,
    runtime: Arc<Runtime>,
    listeners: Arc<Listeners>,
    /// The next event's number, for each queue.
    queues: Box<[Mutex<u64>]>,
    stopped: AtomicBool,
    /// False when no answer may be written any more.
    answers: RwLock<bool>,
    under_way: UnderWay,
    /// Keeps the region mapped: tasks may be the last to go.
    _memory: Arc<RegionMemory>,
}

impl Net {
    pub(crate) fn new(
        memory: Arc<RegionMemory>,
        grant: NetGrant,
        files: FileRights,
        runtime: Arc<Runtime>,
        listeners: Arc<Listeners>,
    ) -> Result<Arc<Net>, DaemonError> {
        let region = memory.region();
        let config = region.layout().config;
        let grant = NetGrant { unix: grant.unix && !files.has_root, ..grant };
        let arrivals = Arrivals::new().map_err(|source| DaemonError::Arrivals { source })?;
        let net = Arc::new(Net {
            region,
            table: Table::new(config.sockets, grant.sockets),
            grant,
            makes_files: !files.read_only,
            counters: Counters::default(),
            arrivals,
            watch: Mutex::default(),
            runtime,
            listeners,
            queues: (0..config.pollers).map(|_| Mutex::new(0)).collect(),
            stopped: AtomicBool::new(false),
            answers: RwLock::new(true),
            under_way: UnderWay::default(),
            _memory: memory,
        });
        *lock(&net.watch) = Some(net.runtime.spawn(arrivals::watch(net.clone())));
        Ok(net)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Whether something may happen that nobody inside asked for: bytes or connections from outside.
    pub(crate) fn is_pending(&self) -> bool {
        self.table.outside.load(Ordering::Relaxed) > 0 || self.under_way.is_any()
    }

    /// Ends everything. Afterwards nothing here writes into the region.
    pub(crate) fn stop(&self) {
        *self.answers.write().unwrap_or_else(PoisonError::into_inner) = false;
        self.stopped.store(true, Ordering::Relaxed);
        self.listeners.forget(self);
        if let Some(watch) = lock(&self.watch).take() {
            watch.abort();
        }
        for sock in self.table.all() {
            sock.abort_tasks();
            // Whoever moves bytes holds one of these; whoever comes later sees `ended`.
            lock(&sock.rx).ended = true;
            lock(&sock.tx).ended = true;
            if let Some((net, peer)) = sock.local_peer() {
                peer.fail(&net, Errno::ECONNRESET);
            }
            self.table.take(sock.handle);
        }
    }

    pub(crate) fn stats(&self) -> NetStats {
        let Counters { by_op, received, sent, linked, accepted, events, wakes } = &self.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        NetStats {
            by_op: by_op.each_ref().map(read),
            received: read(received),
            sent: read(sent),
            linked: read(linked),
            accepted: read(accepted),
            events: read(events),
            wakes: read(wakes),
            sockets: self.table.in_use(),
        }
    }

    /// N7: appends to a queue, unless the socket's last event is there still; dropped if that is full or there is
    /// none.
    fn append_event(&self, word: u64, sock: &Sock) {
        let Some(number) = gpu_abi::socket::watch::queue(word) else { return };
        let (Some(queue), Some(tail)) =
            (self.region.queue(number), self.queues.get(number as usize))
        else {
            return;
        };
        let mut tail = lock(tail);
        let len = queue.entries.len() as u32;
        // Acquire: pairs with the device's release: it has read the entries before.
        let waiting = (*tail as u32).wrapping_sub(queue.device.head.load(Ordering::Acquire));
        let (ours, count) = (u64::from(number + 1) << EVENT_BITS, (1 << EVENT_BITS) - 1);
        let last = sock.event.load(Ordering::Relaxed);
        let is_there = last & !count == ours
            && (1..=waiting.into()).contains(&(tail.wrapping_sub(last) & count));
        if is_there || waiting >= len {
            return;
        }
        sock.event.store(ours | *tail & count, Ordering::Relaxed);
        queue.entries[*tail as usize & (len as usize - 1)].store(sock.handle, Ordering::Relaxed);
        *tail += 1;
        // Release: pairs with the device's acquire: it finds the entry.
        queue.host.tail.store(*tail as u32, Ordering::Release);
        self.counters.events.fetch_add(1, Ordering::Relaxed);
    }

    /// Does a worker's turn, after which it rings the device if it did anything: what is told meanwhile need not.
    pub(crate) fn in_turn<T>(&self, turn: impl FnOnce() -> T) -> T {
        struct Over;
        impl Drop for Over {
            fn drop(&mut self) {
                TURN.set(std::ptr::null());
            }
        }
        TURN.set(self);
        let _over = Over;
        turn()
    }

    /// D4: something has been told to the device.
    fn ring(&self) {
        if std::ptr::eq(TURN.get(), self) {
            return;
        }
        let header = self.region.header();
        if wake::ring_device(&header.device.parked, &header.host.bell) {
            self.counters.wakes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Begins a task of a socket's.
    fn start(&self, sock: &Sock, task: impl std::future::Future<Output = ()> + Send + 'static) {
        let task = self.runtime.spawn(task);
        let mut tasks = lock(&sock.tasks);
        tasks.retain(|task| !task.is_finished());
        tasks.push(task);
        // One that is closed meanwhile has had its tasks ended.
        if sock.finished.load(Ordering::SeqCst) {
            tasks.drain(..).for_each(|task| task.abort());
        }
    }

    /// Starts what fills rx.
    fn start_filling(self: &Arc<Net>, sock: &Arc<Sock>) {
        match &sock.link {
            Link::Local(_) => {}
            Link::Fd(_) if sock.kind == Kind::Listener => {
                self.start(sock, listener::accept(self.clone(), sock.clone()));
            }
            Link::Fd(fd) => {
                if let Err(e) = self.arrivals.add(fd.as_fd(), sock.handle) {
                    sock.fail(self, addr::errno_of(&e));
                }
            }
        }
    }

    /// Puts what has arrived into rx; if that takes long, the rest is for another look.
    fn fill(&self, sock: &Sock) {
        let Link::Fd(fd) = &sock.link else { return };
        for _ in 0..ROUNDS {
            let pulled = match sock.kind {
                Kind::Listener => return,
                Kind::Stream => stream::pull(self, sock, fd.as_raw_fd()),
                Kind::Datagram | Kind::UnixDatagram => datagram::pull(self, sock, fd.as_raw_fd()),
            };
            match pulled {
                Pulled::More => {}
                // Whatever comes is announced anew; the device says when there is room.
                Pulled::Drained | Pulled::Full | Pulled::Ended => return,
            }
        }
        self.arrivals.again(fd.as_fd(), sock.handle);
    }

    fn push_once(&self, sock: &Sock, by_task: bool) -> Pushed {
        match (sock.fd(), sock.kind) {
            (_, Kind::Listener) => Pushed::Ended,
            (None, _) => local::push(self, sock, by_task),
            (Some(fd), Kind::Stream) => stream::push(self, sock, fd, by_task),
            (Some(fd), Kind::Datagram | Kind::UnixDatagram) => {
                datagram::push(self, sock, fd, by_task)
            }
        }
    }

    /// Sends what is in tx, as far as that needs no waiting; a task does the rest.
    fn push(self: &Arc<Net>, sock: &Arc<Sock>) {
        match self.push_once(sock, false) {
            // Not the end, even if it has been closed since: who closes looks at tx once more, and there may be
            // bytes in it that came after our look.
            Pushed::Empty => {}
            Pushed::Ended => self.finish_if_closed(sock),
            // What is linked goes on when the peer has made room, which it tells us.
            Pushed::Blocked if !sock.is_outside() => self.linger(sock),
            Pushed::More if !sock.is_outside() => {
                self.start(sock, relay(self.clone(), sock.clone()));
            }
            Pushed::Blocked | Pushed::More => {
                if !std::mem::replace(&mut lock(&sock.tx).flushing, true) {
                    self.start(sock, flush(self.clone(), sock.clone()));
                }
            }
        }
    }

    /// A closed socket whose bytes wait for a linked peer: it gets some time.
    fn linger(self: &Arc<Net>, sock: &Arc<Sock>) {
        if !sock.closed.load(Ordering::Relaxed)
            || std::mem::replace(&mut lock(&sock.tx).flushing, true)
        {
            return;
        }
        let (net, ours) = (self.clone(), sock.clone());
        self.start(sock, async move {
            loop {
                let before = lock(&ours.tx).head;
                tokio::time::sleep(LINGER).await;
                if lock(&ours.tx).head == before {
                    return net.finish(&ours);
                }
            }
        });
    }

    /// N11: the device is done with it.
    pub(crate) fn close(self: &Arc<Net>, handle: u32) -> Result<(), Errno> {
        let sock = self.table.take(handle).ok_or(Errno::EBADF)?;
        sock.closed.store(true, Ordering::Relaxed);
        sock.words.host.handle.store(0, Ordering::Relaxed);
        sock.abort_tasks();
        lock(&sock.rx).ended = true;
        match sock.kind {
            Kind::Listener => {
                self.listeners.remove(handle, self);
                if let Some(fd) = sock.fd() {
                    // Nobody gets through from here on; the descriptor goes when its task has ended.
                    // SAFETY: the socket keeps it open.
                    unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
                }
                for waiting in sock.not_taken() {
                    self.close(waiting).ok();
                }
                self.finish(&sock);
            }
            Kind::Stream | Kind::Datagram | Kind::UnixDatagram => {
                {
                    let mut tx = lock(&sock.tx);
                    (tx.shut, tx.flushing) = (true, false);
                }
                if let Some((net, peer)) = sock.local_peer() {
                    // It will send to nobody.
                    net.push(&peer);
                }
                self.push(&sock);
            }
        }
        Ok(())
    }

    fn finish_if_closed(&self, sock: &Arc<Sock>) {
        if sock.closed.load(Ordering::Relaxed) {
            self.finish(sock);
        }
    }

    /// The last of a socket: its place is free.
    fn finish(&self, sock: &Arc<Sock>) {
        if sock.finished.swap(true, Ordering::SeqCst) {
            return;
        }
        lock(&sock.tx).ended = true;
        if let Some((net, peer)) = sock.local_peer() {
            peer.end_rx(&net, None);
        }
        sock.abort_tasks();
        if let (Some(fd), Kind::Stream) = (sock.fd(), sock.kind) {
            stream::discard(fd);
        }
        self.table.release(sock.handle);
    }

    /// N5: the device has put bytes into tx, or taken some from rx.
    pub(crate) fn wake(self: &Arc<Net>, handle: u32, what: u8) -> Result<(), Errno> {
        use gpu_abi::socket::wake;
        let sock = self.table.get(handle).ok_or(Errno::EBADF)?;
        if what & wake::TX != 0 {
            self.push(&sock);
        }
        if what & wake::RX != 0 {
            match (sock.local_peer(), sock.kind) {
                (Some((net, peer)), _) => net.push(&peer),
                (None, Kind::Listener) => sock.room.notify_one(),
                (None, _) => self.fill(&sock),
            }
        }
        if what & wake::WATCH != 0 {
            sock.look_for_watch(self);
        }
        Ok(())
    }

    /// Fills the slot of a request that has not been answered.
    fn write_slot(&self, cell: u32, bytes: &[u8]) {
        let open = self.answers.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = self.region.slot(cell).filter(|_| *open) {
            // SAFETY: the caller cut the bytes to the slot's size; the slot is the host's until the answer.
            unsafe { slot.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        }
    }

    /// C2, by a task.
    fn answer(&self, cell: u32, tag: u32, completion: &Completion) {
        let open = self.answers.read().unwrap_or_else(PoisonError::into_inner);
        if !*open {
            return;
        }
        if let Some(cell) = self.region.cell(cell) {
            cell.complete(tag, completion);
        }
        self.ring();
    }
}

/// Sends what is in tx to a peer that is slow.
async fn flush(net: Arc<Net>, sock: Arc<Sock>) {
    // The task that did this before the socket was closed may not be gone.
    let fd = match addr::watched(Watched(sock.clone()), Interest::WRITABLE).await {
        Ok(fd) => fd,
        Err(e) => return sock.fail(&net, e),
    };
    // A receiver of Unix datagrams that has room again tells only those that are connected to it.
    let retries = sock.kind == Kind::UnixDatagram;
    let (mut head, mut since) = (lock(&sock.tx).head, Instant::now());
    loop {
        let closed = sock.closed.load(Ordering::Relaxed);
        let wait = fd.writable();
        let ready = if closed || retries {
            let patience = if retries { RETRY } else { LINGER };
            match tokio::time::timeout(patience, wait).await {
                Ok(ready) => ready.map(Some),
                Err(_) if retries => Ok(None),
                Err(_) => break,
            }
        } else {
            wait.await.map(Some)
        };
        let Ok(ready) = ready else { break };
        if retries {
            let now = lock(&sock.tx).head;
            if now != head || !closed {
                (head, since) = (now, Instant::now());
            } else if since.elapsed() > LINGER {
                break;
            }
        }
        match net.push_once(&sock, true) {
            Pushed::Blocked => {
                if let Some(mut ready) = ready {
                    ready.clear_ready();
                }
            }
            Pushed::More => tokio::task::yield_now().await,
            // As in `Net::push`.
            Pushed::Empty => return,
            Pushed::Ended => break,
        }
    }
    net.finish_if_closed(&sock);
}

/// Goes on with what a linked socket sends, after others had their turn.
async fn relay(net: Arc<Net>, sock: Arc<Sock>) {
    loop {
        tokio::task::yield_now().await;
        match net.push_once(&sock, false) {
            Pushed::More => {}
            Pushed::Blocked => return net.linger(&sock),
            Pushed::Empty => return,
            Pushed::Ended => return net.finish_if_closed(&sock),
        }
    }
}
