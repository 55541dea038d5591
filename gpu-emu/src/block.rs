//! A resident block: its warps, its barrier, its shared memory.

use std::cell::Cell;
use std::sync::Arc;

use gpu_rt::host::{BlockInfo, Place};
use gpu_rt::{BROADCAST_MAX, Dim3};

use crate::fiber::FiberRef;
use crate::launch::Launch;
use crate::report::{LaneId, Roll, Whereabouts};
use crate::warp::{Warp, add, lanes_of};

/// The block barrier. Each broadcast uses the other scratch than the one before: the leader can be
/// one ahead of the slowest thread, never two.
#[derive(Debug, Default)]
pub(crate) struct Barrier {
    pub(crate) arrived: Cell<u32>,
    /// The place and the rank of the first thread that came.
    pub(crate) first: Cell<Option<(Place, u32)>>,
    pub(crate) generation: Cell<usize>,
    pub(crate) scratch: [Cell<[u64; BROADCAST_MAX / 8]>; 2],
}

/// A block on a worker. `info` is first: lanes know their block by its address.
#[repr(C)]
pub(crate) struct Block {
    pub(crate) info: BlockInfo,
    pub(crate) launch: Arc<Launch>,
    /// The actor of its first thread, for deterministic schedulers.
    pub(crate) actor: u64,
    pub(crate) threads: u32,
    /// The threads that have not exited.
    pub(crate) live: Cell<u32>,
    pub(crate) barrier: Barrier,
    pub(crate) warps: Vec<Warp>,
    /// The memory that `info.shared` points to.
    _shared: Box<[u128]>,
}

impl Block {
    /// Block number `index` of `launch`, its threads on `fibers`.
    pub(crate) fn new(
        launch: Arc<Launch>,
        index: u64,
        actor: u64,
        sm_id: u32,
        fibers: &[FiberRef],
    ) -> Self {
        let config = &launch.config;
        let mut shared = vec![0_u128; config.shared_bytes.div_ceil(16)].into_boxed_slice();
        let threads = fibers.len() as u32;
        Self {
            info: BlockInfo {
                block_idx: config.grid.at(index),
                block_dim: config.block,
                grid_dim: config.grid,
                sm_id,
                shared: shared.as_mut_ptr().cast(),
                shared_len: config.shared_bytes,
            },
            launch,
            actor,
            threads,
            live: Cell::new(threads),
            barrier: Barrier::default(),
            warps: (0..)
                .step_by(32)
                .zip(fibers.chunks(32))
                .map(|(first, lanes)| Warp::new(first, lanes.iter().copied()))
                .collect(),
            _shared: shared,
        }
    }

    pub(crate) fn thread(&self, rank: u32) -> Dim3 {
        self.info.block_dim.at(u64::from(rank))
    }

    pub(crate) fn id(&self, rank: u32) -> LaneId {
        LaneId { block: self.info.block_idx, thread: self.thread(rank) }
    }

    /// Opens the barrier if everyone is there.
    #[inline]
    pub(crate) fn try_open(&self) -> bool {
        let open = self.barrier.arrived.get() == self.live.get();
        if open {
            self.barrier.arrived.set(0);
            self.barrier.first.set(None);
            self.barrier.generation.set(self.barrier.generation.get() + 1);
            for warp in &self.warps {
                add(&warp.ready, warp.at_barrier.take());
            }
        }
        open
    }

    /// Whether nothing can ever make one of its threads run again: all wait for each other.
    pub(crate) fn stuck(&self) -> bool {
        self.live.get() > 0
            && self.warps.iter().all(|warp| !warp.lively() && warp.waiting.get() == 0)
    }

    /// Adds its threads that have not exited.
    pub(crate) fn call_roll(&self, roll: &mut Roll) {
        for warp in &self.warps {
            for lane in lanes_of(warp.exists) {
                if let Some(doing) = warp.doing(lane) {
                    let lane_id = self.id(warp.first + lane as u32);
                    roll.0.push(Whereabouts {
                        lane: lane_id,
                        doing,
                        at: warp.lanes[lane].at.get(),
                    });
                }
            }
        }
    }
}
