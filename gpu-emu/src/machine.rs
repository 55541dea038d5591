//! What device code calls: [`Machine`] for a worker's core.

use std::fmt;
use std::sync::atomic::AtomicU32;

use gpu_rt::BROADCAST_MAX;
use gpu_rt::host::{Lane, Machine, Place, wall_clock};

use crate::error::Fault;
use crate::warp::{Op, add, lanes_of, same};
use crate::worker::{Core, Running};

/// How often a destructor may call `relax` while its thread unwinds, before the process gives up on
/// it.
const FUTILE: u32 = 1 << 20;

impl Core {
    /// Meets the other lanes of `mask`; what each brings and takes away depends on `op`.
    ///
    /// Inlined always, as is `barrier`: after a switch the processor predicts the returns of another
    /// fiber, so that each return on the way back to the kernel costs as much as the switch itself.
    #[inline(always)]
    fn meet(&self, op: Op, mask: u32, value: u64, arg: u32, at: Place) -> u64 {
        self.point(at);
        let running = self.running();
        let Running { warp, state, bit, .. } = running;
        state.at.set(Some(at));
        let absent = mask & (warp.exited.get() | !warp.exists);
        if mask & bit == 0 || absent != 0 {
            self.refuse(running, op, mask, at);
            return value;
        }
        let peers = warp.arrived.get() & mask;
        if peers != 0 {
            let peer = &warp.lanes[peers.trailing_zeros() as usize].meet;
            if (peer.mask.get(), peer.op.get()) != (mask, op) {
                self.compare(running, op, mask, peers, at);
            }
        }
        state.meet.mask.set(mask);
        state.meet.op.set(op);
        state.meet.arg.set(arg);
        state.meet.value.set(value);
        add(&warp.arrived, bit);
        if warp.complete(mask) {
            warp.conclude(op, mask, bit);
        } else {
            self.suspend();
        }
        state.meet.value.get()
    }

    /// Reports a mask that lacks the caller or names lanes that are gone.
    #[cold]
    fn refuse(&self, running: Running<'_>, op: Op, mask: u32, at: Place) {
        let Running { block, warp, lane: number, bit, .. } = running;
        let (lane, op) = (block.id(running.rank()), op.name());
        let gone = mask & (warp.exited.get() | !warp.exists);
        self.abort(if mask & bit == 0 {
            Fault::NotInMask { lane, number, op, mask, at }
        } else {
            Fault::ExitedInMask { lane, op, mask, gone, at }
        });
    }

    /// Reports a lane that waits for this one, and this one for it, in another meeting.
    #[cold]
    fn compare(&self, running: Running<'_>, op: Op, mask: u32, peers: u32, at: Place) {
        let Running { block, warp, bit, .. } = running;
        for peer in lanes_of(peers) {
            let other = &warp.lanes[peer];
            let (other_mask, other_op) = (other.meet.mask.get(), other.meet.op.get());
            if other_mask & bit != 0 && (other_mask, other_op) != (mask, op) {
                self.abort(Fault::Mismatch {
                    lane: block.id(running.rank()),
                    op: op.name(),
                    mask,
                    at,
                    other: block.id(warp.first + peer as u32),
                    other_op: other_op.name(),
                    other_mask,
                    other_at: other.at.get().unwrap_or(at),
                });
            }
        }
    }

    /// Waits at the block's barrier.
    #[inline(always)]
    fn barrier(&self, at: Place) {
        let running = self.running();
        let Running { block, warp, state, bit, .. } = running;
        state.at.set(Some(at));
        let barrier = &block.barrier;
        match barrier.first.get() {
            None => barrier.first.set(Some((at, running.rank()))),
            Some((other_at, rank)) if !same(at, other_at) => {
                self.diverged(running, at, rank, other_at);
            }
            Some(_) => {}
        }
        barrier.arrived.set(barrier.arrived.get() + 1);
        if !block.try_open() {
            add(&warp.at_barrier, bit);
            self.suspend();
        }
    }

    /// Reports a thread that is at another barrier than the first that came.
    #[cold]
    fn diverged(&self, running: Running<'_>, at: Place, rank: u32, other_at: Place) {
        let block = running.block;
        let (lane, other) = (block.id(running.rank()), block.id(rank));
        self.abort(Fault::DivergentBarrier { lane, at, other, other_at });
    }

    /// Waits for a word or a moment.
    fn park(&self, word: Option<&AtomicU32>, value: u32, timeout_ns: u64, at: Place) {
        let Running { warp, state, lane, bit, .. } = self.running();
        state.at.set(Some(at));
        // No clock for those who wait for ever.
        let forever = timeout_ns == u64::MAX;
        let deadline = if forever { u64::MAX } else { self.now().saturating_add(timeout_ns) };
        warp.waits.set(lane, word, value, deadline);
        add(&warp.waiting, bit);
        self.suspend();
    }

    /// A scheduling point, in deterministic mode.
    #[inline]
    fn point(&self, at: Place) {
        if self.deterministic.is_some() {
            let Running { warp, state, bit, .. } = self.running();
            state.at.set(Some(at));
            add(&warp.ready, bit);
            self.suspend();
        }
    }

    /// Nanoseconds, real or virtual.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.deterministic.as_ref().map_or_else(wall_clock, |deterministic| deterministic.clock())
    }
}

/// Copies at most [`BROADCAST_MAX`] bytes. By words: a call of memcpy would cost more than the copy.
///
/// # Safety
/// `from` is valid for reads and `to` for writes of `len` bytes, and they do not overlap.
#[inline(always)]
unsafe fn copy_words(to: *mut u8, from: *const u8, len: usize) {
    let (words, rest) = (len / 8, len % 8);
    // SAFETY: within `len` bytes, all of it.
    unsafe {
        for i in 0..words {
            let word = from.cast::<u64>().add(i).read_unaligned();
            to.cast::<u64>().add(i).write_unaligned(word);
        }
        for i in len - rest..len {
            to.add(i).write(from.add(i).read());
        }
    }
}

impl Machine for Core {
    fn sync_threads(&self, _lane: &Lane, at: Place) {
        self.point(at);
        self.barrier(at);
    }

    fn sync_warp(&self, _lane: &Lane, mask: u32, at: Place) {
        self.meet(Op::Sync, mask, 0, 0, at);
    }

    fn ballot(&self, _lane: &Lane, mask: u32, pred: bool, at: Place) -> u32 {
        self.meet(Op::Ballot, mask, u64::from(pred), 0, at) as u32
    }

    fn shfl(&self, lane: &Lane, mask: u32, value: u64, src_lane: u32, at: Place) -> u64 {
        if src_lane >= 32 || mask >> src_lane & 1 == 0 {
            let lane = self.running().block.id(lane.rank);
            self.abort(Fault::SourceNotInMask { lane, source_lane: src_lane, mask, at });
            return value;
        }
        self.meet(Op::Shfl, mask, value, src_lane, at)
    }

    fn match_any(&self, _lane: &Lane, mask: u32, value: u64, at: Place) -> u32 {
        self.meet(Op::Match, mask, value, 0, at) as u32
    }

    fn broadcast_warp(&self, _lane: &Lane, mask: u32, bytes: &mut [u8], at: Place) {
        let address = bytes.as_mut_ptr().expose_provenance() as u64;
        self.meet(Op::Broadcast, mask, address, bytes.len() as u32, at);
    }

    fn broadcast_block(&self, lane: &Lane, bytes: &mut [u8], at: Place) {
        debug_assert!(bytes.len() <= BROADCAST_MAX);
        self.point(at);
        let barrier = &self.running().block.barrier;
        let scratch = barrier.scratch[barrier.generation.get() % 2].as_ptr().cast::<u8>();
        if lane.rank == 0 {
            // SAFETY: the scratch has room, and nobody else uses it before the leader is at the
            // barrier.
            unsafe { copy_words(scratch, bytes.as_ptr(), bytes.len()) };
        }
        self.barrier(at);
        // SAFETY: the leader wrote that many bytes before the barrier opened, and nobody writes them
        // again before all have passed the next one.
        unsafe { copy_words(bytes.as_mut_ptr(), scratch, bytes.len()) };
    }

    fn converged(&self, _lane: &Lane, at: Place) -> u32 {
        let Running { warp, state, bit, .. } = self.running();
        state.at.set(Some(at));
        state.meet.value.set(u64::from(bit));
        add(&warp.converging, bit);
        if self.deterministic.is_none() && warp.ready.get() == 0 {
            // The last one. Those of other places form their groups when this one suspends.
            warp.form(warp.at_place(warp.converging.get(), at));
            warp.ready.set(warp.ready.get() & !bit);
        } else {
            self.suspend();
        }
        state.meet.value.get() as u32
    }

    fn relax(&self, _lane: &Lane, at: Place) {
        let Running { warp, state, bit, .. } = self.running();
        if std::thread::panicking() {
            self.futile.set(self.futile.get() + 1);
            if self.futile.get() > FUTILE {
                eprintln!("a destructor that runs because of a panic waits forever, {at}");
                std::process::abort();
            }
            return;
        }
        state.at.set(Some(at));
        add(&warp.yielded, bit);
        self.suspend();
    }

    fn wait(&self, _lane: &Lane, word: &AtomicU32, value: u32, timeout_ns: u64, at: Place) {
        self.park(Some(word), value, timeout_ns, at);
    }

    fn sleep(&self, _lane: &Lane, ns: u64, at: Place) {
        self.park(None, 0, ns, at);
    }

    fn clock(&self, _lane: &Lane) -> u64 {
        self.now()
    }

    fn log(&self, lane: &Lane, message: fmt::Arguments<'_>) {
        let block = self.running().block;
        let (name, id) = (&*block.launch.name, block.id(lane.rank));
        match &self.shared.config.log {
            Some(log) => log(name, id, &message.to_string()),
            None => eprintln!("[{name}: {id}] {message}"),
        }
    }

    fn preempt(&self, _lane: &Lane, at: Place) {
        self.point(at);
    }
}
