//! Carrying requests out: the turn of a worker. What it does with files is in `read` and `write`, with
//! names in `names`.

mod names;
mod read;
mod write;

use crate::client::Inner;
use crate::dir;
use crate::engine::{Flight, Outcome, Ring};
use crate::files::Held;
use crate::net::{Net, is_socket_op};
use crate::stats::{OPS, bump};
use crate::validate::{Buffer, Refusal, Valid};
use bytemuck::Zeroable;
use gpu_abi::request::Run;
use gpu_abi::{Completion, Errno, FileInfo, Op, Request};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, TryLockError};
use std::time::{SystemTime, UNIX_EPOCH};

/// What one poll needs of its own: one thread at a time has it.
pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) ring: Option<Ring>,
    inbox: Box<[Request]>,
    scratch: Vec<u8>,
    /// What the request that is being served has in the region: a path, two paths, a table.
    copied: Vec<u8>,
    second: Vec<u8>,
    /// The pool's count of ended requests when this worker last polled: its driver may not have seen
    /// the answers of later ones.
    pub(crate) pool_seen: u32,
    /// Turns so far: moves the shard that is looked at first.
    turns: usize,
    /// Whether it counts as one that looks for what arrives at sockets.
    looks: bool,
}

/// What is left of a turn's allowance.
struct Budget {
    requests: usize,
    bytes: usize,
}

impl Worker {
    pub(crate) fn new(index: usize, batch: usize, ring: Option<Ring>) -> Worker {
        Worker {
            index,
            ring,
            inbox: vec![Request::zeroed(); batch].into(),
            scratch: vec![0; dir::SCRATCH],
            copied: Vec::new(),
            second: Vec::new(),
            pool_seen: 0,
            turns: 0,
            looks: false,
        }
    }

    /// Whether a request of its ring has ended and waits to be answered.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.ring.as_mut().is_some_and(Ring::has_ended)
    }

    /// Answers what has ended, then takes and serves a batch. How much that was; if it was anything, the device
    /// is to be woken.
    pub(crate) fn turn(&mut self, inner: &Inner) -> usize {
        if let Some(pool) = &inner.pool {
            self.pool_seen = pool.ended_so_far();
        }
        let mut worked = self.reap(inner);
        let mut budget = Budget { requests: self.inbox.len(), bytes: self.batch_bytes(inner) };
        let (shards, workers) = (inner.shards.len(), inner.workers.len());
        self.turns = self.turns.wrapping_add(1);
        // Its own shards are those with its index modulo the number of workers. They come first,
        // except now and then, lest a busy one starve a shard whose worker is away.
        let own_first = !self.turns.is_multiple_of(8);
        for own in [own_first, !own_first] {
            for i in 0..shards {
                let s = (i + self.turns) % shards;
                if (s % workers == self.index % shards.min(workers)) == own {
                    worked += self.serve_shard(inner, s, &mut budget);
                }
            }
        }
        if let Some(ring) = &mut self.ring
            && ring.submit()
        {
            worked += self.reap(inner);
        }
        if worked == 0 {
            self.reap_others(inner);
        }
        worked
    }

    /// Takes what has arrived at sockets; of how many.
    pub(crate) fn look(&mut self, net: &Arc<Net>) -> usize {
        if !std::mem::replace(&mut self.looks, true) {
            net.arrivals.worker_wakes();
        }
        net.look()
    }

    /// It will not look before it polls again.
    pub(crate) fn rest(&mut self, inner: &Inner) {
        if let Some(net) = inner.net.as_ref().filter(|_| std::mem::take(&mut self.looks)) {
            net.arrivals.worker_rests();
        }
    }

    fn batch_bytes(&self, inner: &Inner) -> usize {
        inner.shared.options.batch_bytes
    }

    /// Answers the requests of its ring that have ended.
    fn reap(&mut self, inner: &Inner) -> usize {
        let Some(ring) = &mut self.ring else { return 0 };
        let counters = &inner.counters[self.index];
        let landed = ring.reap(|flight, result| inner.land(flight, result, counters));
        inner.ring_flights[self.index].store(ring.flights(), Ordering::Relaxed);
        landed
    }

    /// Answers the requests of workers that nobody polls just now.
    fn reap_others(&self, inner: &Inner) {
        for (i, flights) in inner.ring_flights.iter().enumerate() {
            if i != self.index
                && flights.load(Ordering::Relaxed) > 0
                && let Some(mut other) = inner.worker(i)
            {
                if other.reap(inner) > 0 {
                    inner.wake_device(&inner.counters[other.index]);
                }
                // What came short has been queued again.
                other.ring.as_mut().map(Ring::submit);
            }
        }
    }

    /// Requests that this worker may still hand to the engine.
    pub(crate) fn room(&self, inner: &Inner) -> usize {
        match (&self.ring, &inner.pool) {
            (Some(ring), _) => ring.room(),
            (_, Some(pool)) => pool.room(),
            _ => usize::MAX,
        }
    }

    fn serve_shard(&mut self, inner: &Inner, s: usize, budget: &mut Budget) -> usize {
        let shard = &inner.shards[s];
        let mut served = 0;
        // A look without the lock. Relaxed: a hint; the consumer looks again.
        let head = shard.head.load(Ordering::Relaxed);
        if inner.region.entry(s as u32, head).take(head).is_none() {
            return 0;
        }
        // One worker at a time, until all it took is served: requests of a shard take hold of their
        // handles in the order of the ring.
        let mut consumer = match shard.consumer.try_lock() {
            Ok(consumer) => consumer,
            Err(TryLockError::Poisoned(consumer)) => consumer.into_inner(),
            Err(TryLockError::WouldBlock) => return 0,
        };
        let room = self.room(inner).min(budget.requests);
        let mut taken = 0;
        while taken < room && budget.bytes > 0 {
            // S4: a private copy. What the peer writes from now on does not matter.
            let Some(request) = consumer.take() else { break };
            budget.bytes = budget.bytes.saturating_sub(bytes_of(&request));
            self.inbox[taken] = request;
            taken += 1;
        }
        if taken > 0 {
            shard.head.store(consumer.head(), Ordering::Relaxed);
            consumer.release();
            budget.requests -= taken;
            for i in 0..taken {
                let request = self.inbox[i];
                self.serve(inner, &request);
            }
            served += taken;
        }
        served
    }

    /// Serves one request: answers it, or hands it to the engine.
    fn serve(&mut self, inner: &Inner, r: &Request) {
        if let Some(net) = &inner.net
            && is_socket_op(r.op)
        {
            return self.serve_socket(inner, net, r);
        }
        let counters = &inner.counters[self.index];
        let op = usize::from(r.op);
        bump(&counters.by_op[if op < OPS { op } else { 0 }], 1);
        let valid = match inner.limits.check(r) {
            Ok(valid) => valid,
            Err(Refusal::Drop) => {
                bump(&counters.dropped, 1);
                inner.warn(r, "has no cell to be answered in");
                return;
            }
            Err(Refusal::Answer(errno)) => {
                bump(&counters.rejected, 1);
                inner.warn(r, errno.message());
                inner.answer(r.cell, r.tag, &Completion::of(Err(errno)));
                return;
            }
        };
        let answer = match valid {
            Valid::Nop => Some(Completion::of(Ok(0))),
            Valid::Time => Some(Completion::of(Ok(since_1970()))),
            Valid::Read { handle, offset, buffer } => self.read(inner, r, handle, offset, buffer),
            Valid::Close { handle } => Some(Completion::of(inner.files.close(handle).map(|()| 0))),
            Valid::Open { path, flags } => Some(match self.open(inner, path, flags) {
                Ok((handle, info)) => Completion::with_info(handle.into(), info),
                Err(e) => Completion::of(Err(e)),
            }),
            Valid::ReadFile { path, flags, buffer } => {
                self.read_file(inner, r, path, flags, buffer)
            }
            Valid::Stat { subject } => Some(described(self.stat(inner, subject))),
            Valid::ReadDir { handle, cookie, buffer } => {
                Some(self.read_dir(inner, handle, cookie, buffer))
            }
            Valid::Write { handle, offset, buffer } => self.write(inner, r, handle, offset, buffer),
            Valid::WriteRuns { handle, table } => self.write_runs(inner, r, handle, table),
            Valid::Append { handle, buffer } => self.append(inner, r, handle, buffer),
            Valid::Sync { handle, data_only } => self.sync(inner, r, handle, data_only),
            Valid::Truncate { handle, size } => Some(described(inner.truncate(handle, size))),
            Valid::Unlink { path, directory } => {
                Some(done(self.with_path(inner, path, |path| inner.view.unlink(path, directory))))
            }
            Valid::Rename { old, new, replace } => {
                Some(done(self.rename(inner, old, new, replace)))
            }
            Valid::MakeDir { path } => {
                Some(done(self.with_path(inner, path, |path| inner.view.make_dir(path))))
            }
        };
        if let Some(completion) = answer {
            inner.answer(r.cell, r.tag, &completion);
        }
    }

    /// Begins what is to be done with a held file. `None`: it is under way and will be answered when
    /// it ends.
    #[inline]
    fn fly(&mut self, inner: &Inner, flight: Flight) -> Option<Completion> {
        let counters = &inner.counters[self.index];
        match inner.begin(flight) {
            Outcome::Ended(flight, result) => Some(inner.conclude(&flight, result, counters, bump)),
            Outcome::Waits(mut flight) => {
                bump(&counters.deferred, 1);
                inner.files.make_blocking(&flight.file);
                match (&mut self.ring, &inner.pool) {
                    (Some(ring), _) => {
                        ring.push(flight);
                        inner.ring_flights[self.index].store(ring.flights(), Ordering::Relaxed);
                    }
                    (None, Some(pool)) => pool.push(flight),
                    (None, None) => {
                        let result = inner.carry_out(&mut flight);
                        inner.land(&flight, result, counters);
                    }
                }
                None
            }
        }
    }

    /// Lends bytes that lie in the region, copied out.
    pub(crate) fn with_bytes<T>(
        &mut self,
        inner: &Inner,
        buffer: Buffer,
        use_them: impl FnOnce(&[u8]) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        Self::copy_out(inner, buffer, &mut self.copied);
        use_them(&self.copied)
    }

    /// Copies what a request has in the region out of it.
    fn copy_out(inner: &Inner, buffer: Buffer, to: &mut Vec<u8>) {
        let (at, len) = inner.locate(buffer);
        to.clear();
        to.reserve(len);
        // Words where they are aligned: a table of runs has thousands of bytes.
        let word = size_of::<u64>();
        let words = if at.addr().is_multiple_of(word) { len / word } else { 0 };
        // SAFETY: `locate` gives memory of this client that is valid for `len` bytes; the peer may
        // write it at the same time, hence the atomic loads.
        let load = |i| unsafe { AtomicU64::from_ptr(at.cast::<u64>().add(i)) };
        for i in 0..words {
            to.extend_from_slice(&load(i).load(Ordering::Relaxed).to_ne_bytes());
        }
        // SAFETY: as above.
        let load = |i| unsafe { AtomicU8::from_ptr(at.add(i)) };
        to.extend((words * word..len).map(|i| load(i).load(Ordering::Relaxed)));
    }

    /// Waits for every request of its ring; false if that is impossible.
    pub(crate) fn finish(&mut self, inner: &Inner) -> bool {
        loop {
            self.reap(inner);
            let Some(ring) = &mut self.ring else { return true };
            if ring.flights() == 0 {
                return true;
            }
            if !ring.submit_and_wait() {
                return false;
            }
        }
    }
}

impl Inner {
    /// Runs `f` on an open file.
    fn with_file<T>(
        &self,
        handle: u32,
        f: impl FnOnce(Held) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let file = self.files.hold(handle).ok_or(Errno::EBADF)?;
        let result = f(file);
        self.files.give_back(file.index);
        result
    }

    /// Where a valid buffer lies.
    #[inline]
    fn locate(&self, buffer: Buffer) -> (*mut u8, usize) {
        match buffer {
            Buffer::Slot { slot, at, len } => {
                let base = self.region.slot(slot).unwrap_or_else(|| unreachable!("V4"));
                // SAFETY: `Limits::check` found `at + len` within the slot.
                (unsafe { base.add(at) }, len)
            }
            Buffer::Device { at, len } => {
                let window = self.window.unwrap_or_else(|| unreachable!("V5"));
                // SAFETY: `Limits::check` found `at + len` within the granted window.
                (unsafe { window.base().as_ptr().add(at) }, len)
            }
        }
    }

    /// Says what is wrong with a request, once a second at most: a hostile peer must not fill logs.
    #[cold]
    pub(crate) fn warn(&self, r: &Request, why: &str) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
        let now = now.tv_sec as u64 + 1;
        if self.last_warning.swap(now, Ordering::Relaxed) != now {
            tracing::warn!(op = r.op, cell = r.cell, tag = r.tag, "a request was refused: {why}");
        }
    }
}

/// What a request takes of a poll's allowance of bytes. How many a table of runs comes to is not known
/// before it is looked at: a page each.
fn bytes_of(r: &Request) -> usize {
    let len = r.len as usize;
    if r.op == Op::WriteRuns as u8 { len / size_of::<Run>() * 4096 } else { len }
}

/// Nanoseconds, by the system's clock; 0 where that is set to before.
fn since_1970() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_nanos().try_into().unwrap_or(u64::MAX)
}

fn done(result: Result<(), Errno>) -> Completion {
    Completion::of(result.map(|()| 0))
}

fn described(result: Result<FileInfo, Errno>) -> Completion {
    match result {
        Ok(info) => Completion::with_info(0, info),
        Err(e) => Completion::of(Err(e)),
    }
}
