//! Threads that serve a client which nobody drives.

use crate::client::{Client, Inner, Progress};
use crate::{DaemonError, wake};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Looks for work this long before going to sleep: about what a sleep and a wake cost.
const SPIN: Duration = Duration::from_micros(20);
/// Sleep between looks while the client must not park.
const BACK_OFF: Duration = Duration::from_micros(20);
/// The heart beats this often whatever the workers do.
const BEAT: Duration = Duration::from_millis(20);
/// Longest sleep of an idle worker.
const IDLE: Duration = Duration::from_secs(1);

/// A client's own threads.
#[derive(Default)]
pub(crate) struct Threads {
    workers: Vec<JoinHandle<()>>,
    pool: Vec<JoinHandle<()>>,
    heart: Option<(Arc<Heart>, JoinHandle<()>)>,
}

#[derive(Default)]
struct Heart {
    stopped: Mutex<bool>,
    changed: Condvar,
}

/// Clause D5. While one lives, the client's threads look for work every few microseconds instead of sleeping
/// on the doorbell: for devices that cannot ring it, while kernels run.
pub struct AwakeGuard {
    inner: Arc<Inner>,
}

impl Drop for AwakeGuard {
    fn drop(&mut self) {
        self.inner.awake.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Client {
    /// Starts `n` threads that poll, spin briefly and park; they end with the client. May be
    /// called again for more. Each uses the next worker context.
    pub fn spawn(&self, n: usize) -> Result<(), DaemonError> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..n {
            let (inner, index) = (self.inner.clone(), threads.workers.len());
            let name = format!("gpu-hostd-{index}");
            threads.workers.push(start(name, move || work(&inner, index))?);
        }
        if n > 0 && threads.heart.is_none() {
            let heart = Arc::new(Heart::default());
            let (inner, ours) = (self.inner.clone(), heart.clone());
            let thread = start("gpu-hostd-heart".into(), move || ours.run(&inner))?;
            threads.heart = Some((heart, thread));
        }
        Ok(())
    }

    /// Keeps the client's threads from sleeping on the doorbell. Take one while a device that
    /// cannot ring it (a GPU) runs kernels.
    pub fn keep_awake(&self) -> AwakeGuard {
        self.inner.awake.fetch_add(1, Ordering::Relaxed);
        wake::futex_wake(&self.inner.region.header().device.doorbell, i32::MAX);
        AwakeGuard { inner: self.inner.clone() }
    }

    pub(crate) fn start_pool(&self, n: usize) -> Result<(), DaemonError> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for i in 0..n {
            let inner = self.inner.clone();
            threads.pool.push(start(format!("gpu-hostd-wait-{i}"), move || wait(&inner))?);
        }
        Ok(())
    }

    /// Ends all threads; `stop` has been set.
    pub(crate) fn stop_threads(&self) {
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let doorbell = &self.inner.region.header().device.doorbell;
        for thread in threads.workers {
            // One that was about to sleep misses a wake: ring until it has ended.
            while !thread.is_finished() {
                wake::futex_wake(doorbell, i32::MAX);
                std::thread::sleep(Duration::from_micros(100));
            }
            let _ = thread.join();
        }
        if let Some(pool) = &self.inner.pool {
            pool.close();
        }
        for thread in threads.pool {
            let _ = thread.join();
        }
        if let Some((heart, thread)) = threads.heart {
            *heart.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
            heart.changed.notify_all();
            let _ = thread.join();
        }
    }
}

fn start(name: String, f: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, DaemonError> {
    std::thread::Builder::new().name(name).spawn(f).map_err(|source| DaemonError::Spawn { source })
}

/// A worker: poll, spin, sleep.
fn work(inner: &Inner, index: usize) {
    // SAFETY: lets this thread's sleeps end when they should; they would take 50 µs more each.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
    let mut idle_since = None;
    while !inner.stop.load(Ordering::Relaxed) {
        if let Progress::Worked(_) = inner.poll(index) {
            idle_since = None;
            inner.share();
            continue;
        }
        let since = *idle_since.get_or_insert_with(Instant::now);
        if since.elapsed() < SPIN {
            std::hint::spin_loop();
        } else if inner.awake.load(Ordering::Relaxed) > 0 {
            std::thread::sleep(BACK_OFF);
        } else {
            inner.park(index, None, IDLE);
            idle_since = None;
        }
    }
}

/// A thread of the pool.
fn wait(inner: &Inner) {
    let Some(pool) = &inner.pool else { return };
    let Some(counters) = inner.counters.last() else { return };
    while let Some(mut flight) = pool.next() {
        let result = inner.carry_out(&mut flight);
        inner.land(&flight, result, counters);
        inner.wake_device(counters);
        pool.ended();
    }
}

impl Inner {
    /// D3: a ring of the doorbell wakes one worker; if that one leaves work behind, it wakes the
    /// next.
    fn share(&self) {
        let header = self.region.header();
        if header.host.parked.load(Ordering::Relaxed) != 0 && self.any_ready() {
            wake::futex_wake(&header.device.doorbell, 1);
        }
    }
}

impl Heart {
    /// H1: a worker may be held up by a slow file system; the daemon is alive all the same.
    fn run(&self, inner: &Inner) {
        let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        while !*stopped {
            inner.beat();
            let woken = self.changed.wait_timeout(stopped, BEAT);
            stopped = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
