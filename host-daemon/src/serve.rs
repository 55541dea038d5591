//! Carrying requests out: the turn of a worker.

use crate::client::Inner;
use crate::engine::{self, Flight, Outcome, Ring};
use crate::files::{Held, Kind};
use crate::stats::{Counters, bump};
use crate::validate::{Buffer, Refusal, Subject, Valid};
use crate::{EngineKind, dir, paths};
use bytemuck::Zeroable;
use gpu_abi::{Completion, Errno, FileInfo, OpenFlags, Request};
use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{PoisonError, TryLockError};

/// What one poll needs of its own: one thread at a time has it.
pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) ring: Option<Ring>,
    inbox: Box<[Request]>,
    scratch: Vec<u8>,
    /// The path of the request that is being served.
    path: Vec<u8>,
    /// The pool's count of ended reads when this worker last polled: its driver may not have seen
    /// the answers of later ones.
    pub(crate) pool_seen: u32,
    /// Turns so far: moves the shard that is looked at first.
    turns: usize,
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
            path: Vec::new(),
            pool_seen: 0,
            turns: 0,
        }
    }

    /// Whether a read of its ring has ended and waits to be answered.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.ring.as_mut().is_some_and(Ring::has_ended)
    }

    /// One poll: answers what has ended, then takes and serves a batch. How much that was.
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
        if worked > 0 {
            inner.wake_device(&inner.counters[self.index]);
        } else {
            self.reap_others(inner);
        }
        worked
    }

    fn batch_bytes(&self, inner: &Inner) -> usize {
        inner.shared.options.batch_bytes
    }

    /// Answers the reads of its ring that have ended.
    fn reap(&mut self, inner: &Inner) -> usize {
        let Some(ring) = &mut self.ring else { return 0 };
        let counters = &inner.counters[self.index];
        let landed = ring.reap(|flight, result| inner.land(flight, result, counters));
        inner.ring_flights[self.index].store(ring.flights(), Ordering::Relaxed);
        landed
    }

    /// Answers the reads of workers that nobody polls just now.
    fn reap_others(&self, inner: &Inner) {
        for (i, flights) in inner.ring_flights.iter().enumerate() {
            if i != self.index
                && flights.load(Ordering::Relaxed) > 0
                && let Some(mut other) = inner.worker(i)
            {
                if other.reap(inner) > 0 {
                    inner.wake_device(&inner.counters[other.index]);
                }
                // Short reads have been queued again.
                other.ring.as_mut().map(Ring::submit);
            }
        }
    }

    /// Reads that this worker may still hand to the engine.
    fn room(&self, inner: &Inner) -> usize {
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
            budget.bytes = budget.bytes.saturating_sub(request.len as usize);
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
        let counters = &inner.counters[self.index];
        bump(&counters.by_op[if r.op < 8 { r.op as usize } else { 0 }], 1);
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
        let completion = match valid {
            Valid::Nop => Completion::of(Ok(0)),
            Valid::Read { handle, offset, buffer } => {
                match self.read(inner, r, handle, offset, buffer) {
                    Some(result) => Completion::of(result),
                    None => return,
                }
            }
            Valid::Close { handle } => Completion::of(inner.files.close(handle).map(|()| 0)),
            Valid::Open { path, flags } => match self.open(inner, path, flags) {
                Ok((handle, info)) => Completion::with_info(handle.into(), info),
                Err(e) => Completion::of(Err(e)),
            },
            Valid::ReadFile { path, flags, buffer } => {
                match self.read_file(inner, r, path, flags, buffer) {
                    Some(result) => Completion::of(result),
                    None => return,
                }
            }
            Valid::Stat { subject } => match self.stat(inner, subject) {
                Ok(info) => Completion::with_info(0, info),
                Err(e) => Completion::of(Err(e)),
            },
            Valid::ReadDir { handle, cookie, buffer } => {
                match self.read_dir(inner, handle, cookie, buffer) {
                    Ok((filled, next)) => {
                        let mut completion = Completion::of(Ok(filled as u64));
                        completion.detail[0] = next;
                        completion
                    }
                    Err(e) => Completion::of(Err(e)),
                }
            }
        };
        inner.answer(r.cell, r.tag, &completion);
    }

    /// O3. `None`: it is under way and will be answered when it ends.
    #[inline]
    fn read(
        &mut self,
        inner: &Inner,
        r: &Request,
        handle: u32,
        offset: u64,
        buffer: Buffer,
    ) -> Option<Result<u64, Errno>> {
        let Some(file) = inner.files.hold(handle) else { return Some(Err(Errno::EBADF)) };
        let (target, len) = inner.locate(buffer);
        let flight = Flight { file, cell: r.cell, tag: r.tag, target, len, done: 0, offset };
        self.fly(inner, flight)
    }

    /// Begins a read of a held file. `None`: it is under way and will be answered when it ends.
    #[inline]
    fn fly(&mut self, inner: &Inner, flight: Flight) -> Option<Result<u64, Errno>> {
        let outcome = inner.read_now(flight);
        let counters = &inner.counters[self.index];
        match outcome {
            Outcome::Ended(result) => {
                inner.files.give_back(flight.file.index);
                count_read(counters, &result);
                Some(result)
            }
            Outcome::Waits(flight) => {
                bump(&counters.deferred, 1);
                inner.files.make_blocking(&flight.file);
                match (&mut self.ring, &inner.pool) {
                    (Some(ring), _) => {
                        ring.push(flight);
                        inner.ring_flights[self.index].store(ring.flights(), Ordering::Relaxed);
                    }
                    (None, Some(pool)) => pool.push(flight),
                    (None, None) => {
                        let result = engine::read_waiting(flight);
                        inner.land(&flight, result, counters);
                    }
                }
                None
            }
        }
    }

    /// O8. `None`: as for [`Worker::read`].
    fn read_file(
        &mut self,
        inner: &Inner,
        r: &Request,
        path: Buffer,
        flags: OpenFlags,
        buffer: Buffer,
    ) -> Option<Result<u64, Errno>> {
        let opened = self.with_path(inner, path, |path| inner.view.open_for_reading(path, flags));
        let fd = match opened {
            Ok(fd) => fd,
            Err(e) => return Some(Err(e)),
        };
        let (target, len) = inner.locate(buffer);
        let mut flight = Flight {
            file: Held::unlisted(&fd),
            cell: r.cell,
            tag: r.tag,
            target,
            len,
            done: 0,
            offset: 0,
        };
        // Most files are small and cached: they are read and closed without ever having a handle. Not
        // those of which nothing is wanted: preadv2 then does not even say that one is a directory.
        let options = &inner.shared.options;
        if options.nowait_first && inner.shared.engine != EngineKind::Pread && len > 0 {
            match engine::read_without_waiting(flight) {
                (Outcome::Ended(result), _) => {
                    count_read(&inner.counters[self.index], &result);
                    return Some(result);
                }
                (Outcome::Waits(rest), _) => flight = rest,
            }
        }
        match inner.list(fd) {
            Ok(file) => self.fly(inner, Flight { file, ..flight }),
            Err(e) => Some(Err(e)),
        }
    }

    /// Lends a path that lies in the region, copied out and checked.
    fn with_path<T>(
        &mut self,
        inner: &Inner,
        buffer: Buffer,
        use_it: impl FnOnce(&CStr) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let (at, len) = inner.locate(buffer);
        let path = &mut self.path;
        path.clear();
        // V6: copied out before it is looked at.
        // SAFETY: `locate` gives memory of this client that is valid for `len` bytes; the peer may
        // write it at the same time, hence the atomic loads.
        path.extend(
            (0..len).map(|i| unsafe { AtomicU8::from_ptr(at.add(i)) }.load(Ordering::Relaxed)),
        );
        use_it(paths::c_path(path)?)
    }

    fn open(
        &mut self,
        inner: &Inner,
        path: Buffer,
        flags: OpenFlags,
    ) -> Result<(u32, FileInfo), Errno> {
        if !inner.files.has_room() {
            return Err(Errno::EMFILE);
        }
        let shared = &inner.shared;
        let (fd, kind, info) = self.with_path(inner, path, |path| {
            inner.view.open(path, flags, &shared.versions, &shared.file_systems)
        })?;
        let size = if info.is_file() { info.size } else { 0 };
        Ok((inner.files.insert(fd, kind, size)?, info))
    }

    fn stat(&mut self, inner: &Inner, subject: Subject) -> Result<FileInfo, Errno> {
        match subject {
            Subject::Handle(handle) => inner.with_file(handle, |file| {
                // SAFETY: held, so it stays open for the call.
                let fd = unsafe { BorrowedFd::borrow_raw(file.fd) };
                paths::describe(fd, c"", &inner.shared.versions)
            }),
            Subject::Path(path) => {
                self.with_path(inner, path, |path| inner.view.stat(path, &inner.shared.versions))
            }
        }
    }

    fn read_dir(
        &mut self,
        inner: &Inner,
        handle: u32,
        cookie: u64,
        buffer: Buffer,
    ) -> Result<(usize, u64), Errno> {
        let (at, room) = inner.locate(buffer);
        let scratch = &mut self.scratch;
        inner.with_file(handle, |file| {
            let cursor = inner.files.cursor(file.index);
            let mut cursor = cursor.lock().unwrap_or_else(PoisonError::into_inner);
            dir::list(file.fd, &mut cursor, cookie, room, scratch, |offset, bytes| {
                debug_assert!(offset + bytes.len() <= room);
                for (i, byte) in bytes.iter().enumerate() {
                    // SAFETY: `list` stays within `room`; atomic, as the peer may look on.
                    unsafe { AtomicU8::from_ptr(at.add(offset + i)) }
                        .store(*byte, Ordering::Relaxed);
                }
            })
        })
    }

    /// Waits for every read of its ring; false if that is impossible.
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
    /// Reads at once as far as that needs no waiting; under the synchronous engine, to the end.
    #[inline]
    fn read_now(&self, flight: Flight) -> Outcome {
        let waits = match flight.file.kind {
            Kind::InMemory => return Outcome::Ended(engine::read_waiting(flight)),
            Kind::Other => return Outcome::Ended(engine::read_once(flight)),
            Kind::Stored | Kind::StoredNoNowait if self.shared.engine == EngineKind::Pread => {
                return Outcome::Ended(engine::read_waiting(flight));
            }
            Kind::Stored => self.shared.options.nowait_first,
            Kind::StoredNoNowait => false,
        };
        if !waits {
            return Outcome::Waits(flight);
        }
        let (outcome, unsupported) = engine::read_without_waiting(flight);
        if unsupported {
            self.files.without_nowait(flight.file.index);
        }
        outcome
    }

    /// Gives a descriptor a place among the open files, for one read alone: it is closed when that
    /// has ended.
    fn list(&self, fd: OwnedFd) -> Result<Held, Errno> {
        let kind = paths::kind(&fd, &self.shared.file_systems)?;
        let handle = self.files.insert(fd, kind, 0)?;
        // Nobody else knows the handle, so that it is still open.
        let held = self.files.hold(handle).ok_or(Errno::EBADF)?;
        self.files.close(handle)?;
        Ok(held)
    }

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
    fn warn(&self, r: &Request, why: &str) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
        let now = now.tv_sec as u64 + 1;
        if self.last_warning.swap(now, Ordering::Relaxed) != now {
            tracing::warn!(op = r.op, cell = r.cell, tag = r.tag, "a request was refused: {why}");
        }
    }
}

fn count_read(counters: &Counters, result: &Result<u64, Errno>) {
    if let Ok(bytes) = result {
        bump(&counters.bytes_read, *bytes);
    }
}
