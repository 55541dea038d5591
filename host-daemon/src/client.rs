//! One client: its region, what it has open, and whoever polls for it.

use crate::daemon::Shared;
use crate::engine::{self, Flight, Job, Pool, Ring};
use crate::files::Files;
use crate::net::{FileRights, Net};
use crate::paths::{self, View};
use crate::serve::Worker;
use crate::stats::{self, Counters, Stats, bump};
use crate::threads::Threads;
use crate::validate::Limits;
use crate::{DaemonError, DeviceWindow, EngineKind, Grant, RegionMemory, wake};
use gpu_abi::layout::state;
use gpu_abi::ring::Consumer;
use gpu_abi::{Completion, Errno, HostAtomics, Region, Word32};
use rustix::fs::{Mode, OFlags};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// Longest single sleep: the heartbeat beats in between (H1), and a lost wake costs no more (D3).
const NAP: Duration = Duration::from_millis(40);
/// Sleep while another worker's ring has requests under way that nobody may be waiting for.
const SHORT_NAP: Duration = Duration::from_millis(1);
/// Longest park: far from where points in time overflow.
const IDLE_MAX: Duration = Duration::from_secs(3600);
/// The heartbeat counts up when this much time has passed, in milliseconds.
const BEAT_MS: i64 = 10;

/// What a poll came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many requests were taken and answers given. There may be more.
    Worked(usize),
    /// Nothing to do until a request that is under way ends, or another thread is at it.
    Pending,
    /// Nothing to do.
    Idle,
}

/// A client of a daemon: what serves one region. Dropping it marks the region stopped, waits for
/// the requests under way and closes what is open.
pub struct Client {
    pub(crate) inner: Arc<Inner>,
    pub(crate) threads: Mutex<Threads>,
}

pub(crate) struct Shard {
    pub(crate) consumer: Mutex<Consumer<'static, HostAtomics>>,
    /// The consumer's place, for a look without the lock.
    pub(crate) head: AtomicU32,
}

pub(crate) struct Inner {
    pub(crate) region: Region<HostAtomics>,
    pub(crate) limits: Limits,
    pub(crate) window: Option<DeviceWindow>,
    pub(crate) view: View,
    pub(crate) files: Files,
    pub(crate) shards: Box<[Shard]>,
    pub(crate) workers: Box<[Mutex<Worker>]>,
    /// Requests under way in each worker's ring, for a look without the lock.
    pub(crate) ring_flights: Box<[AtomicU32]>,
    pub(crate) counters: Box<[Counters]>,
    pub(crate) pool: Option<Pool>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) stop: AtomicBool,
    /// Its sockets, if its region has any.
    pub(crate) net: Option<Arc<Net>>,
    /// Guards that forbid spawned threads to sleep on the doorbell.
    pub(crate) awake: AtomicU32,
    last_beat: AtomicI64,
    pub(crate) last_warning: AtomicU64,
    /// Last: unmapped after everything that points into it.
    memory: Arc<RegionMemory>,
}

/// A write past `RLIMIT_FSIZE` would end the process (`SIGXFSZ`), at the will of any client. Ignored,
/// the signal leaves an error: `EFBIG`. A handler of the application's own stays.
fn outlive_the_file_size_limit() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: all zero is a valid value to be filled in.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: a query into a value of our own.
        let known = unsafe { libc::sigaction(libc::SIGXFSZ, std::ptr::null(), &raw mut action) };
        if known == 0 && action.sa_sigaction == libc::SIG_DFL {
            // SAFETY: no handler is involved.
            unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
        }
    });
}

impl Client {
    pub(crate) fn new(
        shared: Arc<Shared>,
        memory: Arc<RegionMemory>,
        grant: Grant,
    ) -> Result<Client, DaemonError> {
        if !(1..=1 << 20).contains(&grant.max_open) {
            let value = grant.max_open as usize;
            return Err(DaemonError::Option { name: "max_open", value, limits: "1 to 1048576" });
        }
        let view = match grant.root {
            None => View::Process,
            Some(path) => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                match rustix::fs::open(&path, flags, Mode::empty()) {
                    Ok(root) => View::Root(root),
                    Err(e) => return Err(DaemonError::Root { path, source: e.into() }),
                }
            }
        };
        if !grant.read_only {
            outlive_the_file_size_limit();
        }
        if memory.served.swap(true, Ordering::Relaxed) {
            return Err(DaemonError::RegionUsed);
        }
        let region = memory.region();
        let layout = *region.layout();
        let options = &shared.options;
        let window = grant.device_window.filter(|w| !w.is_empty());
        let device_window =
            window.map_or(0, |w| (w.len() as u64).min(layout.config.device_window) as usize);
        let count = options.ring_workers;
        let mut workers = Vec::with_capacity(count);
        for index in 0..count {
            let ring = match shared.engine {
                EngineKind::IoUring => Some(
                    Ring::new(&region, window, options)
                        .map_err(|source| DaemonError::RingUnavailable { source })?,
                ),
                _ => None,
            };
            workers.push(Mutex::new(Worker::new(index, options.batch, ring)));
        }
        let pool_threads = match shared.engine {
            EngineKind::PreadPool(n) => n,
            _ => 0,
        };
        let read_only = grant.read_only;
        let files = FileRights { has_root: matches!(view, View::Root(_)), read_only };
        let net = match layout.config.sockets {
            0 => None,
            _ => {
                let (memory, listeners) = (memory.clone(), shared.listeners.clone());
                Some(Net::new(memory, grant.net, files, shared.runtime()?, listeners)?)
            }
        };
        let inner = Arc::new(Inner {
            region,
            limits: Limits { layout, device_window, read_only: grant.read_only },
            window,
            view,
            files: Files::new(grant.max_open),
            shards: (0..layout.config.shards)
                .map(|s| Shard {
                    consumer: Mutex::new(region.consumer(s, 0)),
                    head: AtomicU32::new(0),
                })
                .collect(),
            workers: workers.into(),
            ring_flights: (0..count).map(|_| AtomicU32::new(0)).collect(),
            // One more for the pool's threads.
            counters: (0..=count).map(|_| Counters::default()).collect(),
            pool: (pool_threads > 0).then(|| Pool::new(options.in_flight)),
            stop: AtomicBool::new(false),
            net,
            awake: AtomicU32::new(0),
            last_beat: AtomicI64::new(0),
            last_warning: AtomicU64::new(0),
            memory,
            shared,
        });
        let client = Client { inner, threads: Mutex::new(Threads::default()) };
        client.start_pool(pool_threads)?;
        Ok(client)
    }

    /// Serves what waits, at most a batch, on the calling thread; and answers what has ended. `worker` picks one of [`crate::Options::ring_workers`] contexts (modulo their
    /// number); different threads should use different ones.
    ///
    /// A worker whose poll left requests under way should be polled or parked again before long;
    /// other workers' polls and parks look after them too, if less promptly.
    pub fn poll(&self, worker: usize) -> Progress {
        self.inner.poll(worker)
    }

    /// Sleeps until the doorbell rings, a request under way ends, or `timeout` has passed. Returns at
    /// once if there is something to poll for. May return early.
    ///
    /// Answers that *other* workers give do not end it: a driver that waits for some uses
    /// [`Client::park_watching`].
    pub fn park(&self, worker: usize, timeout: Duration) {
        self.inner.park(worker, None, timeout);
    }

    /// As [`Client::park`], for a driver that is also the device: any answer to the region ends the
    /// sleep as well, whoever gave it. The driver's steps are those of a device that sleeps
    /// (clause D4): read `bell` from the header's host line; raise `parked` in its device line;
    /// SeqCst fence; look at its cells once more; call this; lower `parked`.
    pub fn park_watching(&self, worker: usize, bell: u32, timeout: Duration) {
        self.inner.park(worker, Some(bell), timeout);
    }

    /// Ends the service for good and waits for nothing: H3, whoever waits for an answer fails with
    /// `EIO` from here on, and the client's own threads take no more requests.
    pub fn stop(&self) {
        self.inner.region.header().host.state.store_release(state::STOPPED);
        self.inner.stop.store(true, Ordering::Relaxed);
    }

    /// The region it serves.
    pub fn region(&self) -> Region<HostAtomics> {
        self.inner.region
    }

    /// Counters since it was attached.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for counters in &self.inner.counters {
            counters.add_to(&mut stats);
        }
        if let Some(net) = &self.inner.net {
            stats.net = net.stats();
        }
        stats
    }

    /// Files that are open now.
    pub fn open_files(&self) -> usize {
        self.inner.files.in_use()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let inner = &self.inner;
        self.stop();
        self.stop_threads();
        if let Some(net) = &inner.net {
            net.stop();
        }
        let mut leak = false;
        for worker in &inner.workers {
            let mut worker = worker.lock().unwrap_or_else(PoisonError::into_inner);
            leak |= !worker.finish(inner);
        }
        inner.wake_device(&inner.counters[0]);
        if leak {
            // The kernel may still use the region: keep it mapped for good.
            tracing::error!(
                "requests under way could not be awaited; the region's memory is leaked"
            );
            std::mem::forget(inner.memory.clone());
        }
    }
}

impl Inner {
    pub(crate) fn worker(&self, index: usize) -> Option<MutexGuard<'_, Worker>> {
        match self.workers[index % self.workers.len()].try_lock() {
            Ok(worker) => Some(worker),
            Err(TryLockError::Poisoned(worker)) => Some(worker.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    pub(crate) fn poll(&self, index: usize) -> Progress {
        let Some(mut worker) = self.worker(index) else { return Progress::Pending };
        self.beat();
        let worked = match &self.net {
            None => worker.turn(self),
            Some(net) => net.in_turn(|| worker.turn(self) + worker.look(net)),
        };
        if worked > 0 {
            self.wake_device(&self.counters[worker.index]);
            bump(&self.counters[worker.index].batches, 1);
            return Progress::Worked(worked);
        }
        if self.flights() > 0 || self.net.as_ref().is_some_and(|net| net.is_pending()) {
            return Progress::Pending;
        }
        Progress::Idle
    }

    /// Requests under way, all workers' together.
    pub(crate) fn flights(&self) -> usize {
        let rings: u32 = self.ring_flights.iter().map(|f| f.load(Ordering::Relaxed)).sum();
        rings as usize + self.pool.as_ref().map_or(0, Pool::flights)
    }

    /// H1: counts the heartbeat up, at most every few milliseconds: the line is read by devices.
    pub(crate) fn beat(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
        let now = now.tv_sec * 1000 + now.tv_nsec / 1_000_000;
        if now - self.last_beat.load(Ordering::Relaxed) >= BEAT_MS {
            self.last_beat.store(now, Ordering::Relaxed);
            // Several workers may beat at once.
            self.region.header().host.heartbeat.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether a request waits in any shard.
    pub(crate) fn any_ready(&self) -> bool {
        (0..).zip(&self.shards).any(|(s, shard)| {
            let head = shard.head.load(Ordering::Relaxed);
            self.region.entry(s, head).take(head).is_some()
        })
    }

    pub(crate) fn park(&self, index: usize, bell: Option<u32>, timeout: Duration) {
        let until = Instant::now() + timeout.min(IDLE_MAX);
        let Some(mut worker) = self.worker(index) else {
            // Another thread uses this context: it serves. Don't let the caller spin.
            std::thread::sleep(timeout.min(SHORT_NAP));
            return;
        };
        bump(&self.counters[worker.index].parks, 1);
        worker.rest(self);
        let (host, device) = (&self.region.header().host, &self.region.header().device);
        loop {
            self.beat();
            // D2: before `parked` is raised.
            let doorbell = (&device.doorbell, device.doorbell.load(Ordering::Relaxed));
            let other = match (bell, &self.pool) {
                (Some(bell), _) => (&host.bell, bell),
                (None, Some(pool)) => (pool.finished(), worker.pool_seen),
                (None, None) => doorbell,
            };
            host.parked.fetch_add(1, Ordering::Relaxed);
            // D2, SeqCst: pairs with the device's fence between its publication and its look at `parked`.
            fence(Ordering::SeqCst);
            let over = |worker: &mut Worker| {
                self.stop.load(Ordering::Relaxed)
                    || worker.has_ended()
                    || other.0.load(Ordering::Relaxed) != other.1
                    || device.doorbell.load(Ordering::Relaxed) != doorbell.1
                    // One whose engine is full can take no request before another has ended.
                    || worker.room(self) > 0 && self.any_ready()
            };
            let mut awake = over(&mut worker);
            if !awake {
                let own = self.ring_flights[worker.index].load(Ordering::Relaxed);
                let foreign =
                    self.ring_flights.iter().map(|f| f.load(Ordering::Relaxed)).sum::<u32>();
                let left = until.saturating_duration_since(Instant::now());
                let nap = left.min(if foreign > own { SHORT_NAP } else { NAP });
                let words = [doorbell, other];
                let words =
                    if bell.is_none() && self.pool.is_none() { &words[..1] } else { &words };
                match &mut worker.ring {
                    Some(ring) if own > 0 => ring.wait(words, nap),
                    _ => wake::futex_wait_any(words, nap),
                }
                // What rings do ends unseen by their words: let the caller poll for them.
                awake = over(&mut worker) || foreign > 0 || Instant::now() >= until;
            }
            host.parked.fetch_sub(1, Ordering::Relaxed);
            if awake {
                return;
            }
        }
    }

    /// D4: after a batch of completions.
    pub(crate) fn wake_device(&self, counters: &Counters) {
        let header = self.region.header();
        if wake::ring_device(&header.device.parked, &header.host.bell) {
            counters.wakes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Carries a request out on this thread, however long that takes.
    pub(crate) fn carry_out(&self, flight: &mut Flight) -> Result<u64, Errno> {
        let faults = self.shared.options.faults.as_deref();
        match flight.job {
            Job::Append => engine::append(flight, self.files.position(flight.file.index), faults),
            _ => engine::carry_out(flight, faults),
        }
    }

    /// Ends a request: gives its file back. What its cell is to be told.
    #[inline]
    pub(crate) fn conclude(
        &self,
        flight: &Flight,
        result: Result<u64, Errno>,
        counters: &Counters,
        count: impl Fn(&AtomicU64, u64),
    ) -> Completion {
        let mut completion = Completion::of(result);
        match flight.job {
            Job::Read => count(&counters.bytes_read, completion.value),
            Job::Write | Job::WriteRuns(_) | Job::Append => {
                count(&counters.bytes_written, completion.value);
                self.shared.versions.wrote(flight.asked, || paths::identity(&flight.file));
            }
            Job::Sync { .. } => {}
        }
        if matches!(flight.job, Job::Append) && result.is_ok() {
            completion.detail[0] = flight.offset;
        }
        self.files.give_back(flight.file.index);
        completion
    }

    /// The same for a request that has waited: answers its cell.
    pub(crate) fn land(&self, flight: &Flight, result: Result<u64, Errno>, counters: &Counters) {
        let completion = self.conclude(flight, result, counters, stats::add);
        self.answer(flight.cell, flight.tag, &completion);
    }

    /// C2: answers a cell; `CELL_NONE` is past the last.
    #[inline]
    pub(crate) fn answer(&self, cell: u32, tag: u32, completion: &Completion) {
        if let Some(cell) = self.region.cell(cell) {
            cell.complete(tag, completion);
        }
    }
}
