//! A launch: waiting for it, with an end to that.

use super::calls::{self, Status};
use super::error::{Abandoned, CudaError};
use super::failure::{failure, is_fatal};
use super::gpu::Gpu;
use crate::HostError;
use crate::device::Running;
use cudarc::driver::sys::{CUresult, CUstream};
use gpu_emu::{LaunchConfig, LaunchReport};
use host_daemon::AwakeGuard;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a launch has to end by itself once the host has stopped answering.
const GRACE: Duration = Duration::from_secs(2);
/// Looks without sleeping for so long: many launches are short.
const SPIN: Duration = Duration::from_micros(100);
/// Sleeps between looks later.
const NAP: Duration = Duration::from_micros(50);

/// A launch. Dropping it waits for its end, as long as it may take.
pub(super) struct CudaLaunch {
    gpu: Arc<Gpu>,
    number: u64,
    kernel: &'static str,
    threads: u64,
    /// Which has nothing to do but this.
    stream: CUstream,
    started: Instant,
    limit: Option<Duration>,
    ended: bool,
    /// The daemon looks for requests as long as this lives.
    _awake: Option<AwakeGuard>,
}

// SAFETY: streams may be used from any thread in which their context is current.
unsafe impl Send for CudaLaunch {}

impl CudaLaunch {
    pub(super) fn new(
        gpu: Arc<Gpu>,
        number: u64,
        kernel: &'static str,
        shape: LaunchConfig,
        stream: CUstream,
        awake: Option<AwakeGuard>,
    ) -> CudaLaunch {
        let limit = shape.timeout.or(gpu.timeout);
        let threads = shape.grid.count().saturating_mul(shape.block.count());
        let started = Instant::now();
        CudaLaunch {
            gpu,
            number,
            kernel,
            threads,
            stream,
            started,
            limit,
            ended: false,
            _awake: awake,
        }
    }

    /// How it stands; an error if the session is lost.
    fn query(&self) -> Result<Status, CudaError> {
        let _current = self.gpu.enter()?;
        // SAFETY: a stream of this context.
        Ok(unsafe { calls::cuStreamQuery(self.stream) })
    }

    /// Waits until the launch has ended, or until `deadline`; `None` if that came first.
    fn wait_until(&self, deadline: Option<Instant>) -> Option<Result<(), HostError>> {
        let start = Instant::now();
        loop {
            let state = self.query();
            let mut under_way = self.gpu.under_way();
            under_way.print(self.gpu.sink.as_ref());
            let state = match state {
                Ok(state) => state,
                // Others may have come to know of it first; what a kernel has said is there to be read.
                Err(lost) => {
                    return Some(Err(under_way.panic().map_or(lost.into(), HostError::from)));
                }
            };
            if state == CUresult::CUDA_SUCCESS {
                return Some(Ok(()));
            }
            if state != CUresult::CUDA_ERROR_NOT_READY {
                let why = under_way.failure(state, Some(self.kernel));
                let why = why.unwrap_or_else(|| failure(self.kernel, &[], state).into());
                // After what we do not know, a kernel may still run.
                self.gpu.lose(why.to_string(), !is_fatal(state));
                return Some(Err(why));
            }
            drop(under_way);
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return None;
            }
            if start.elapsed() < SPIN {
                std::thread::yield_now();
            } else {
                std::thread::sleep(NAP);
            }
        }
    }

    fn finish(&mut self) -> Result<LaunchReport, HostError> {
        let deadline = self.limit.and_then(|limit| self.started.checked_add(limit));
        let outcome = self.wait_until(deadline).unwrap_or_else(|| Err(self.stop()));
        let mut under_way = self.gpu.under_way();
        under_way.end(self.number);
        self.ended = true;
        outcome?;
        under_way.give_back(self.stream);
        drop(under_way);
        let elapsed = self.started.elapsed();
        Ok(LaunchReport { elapsed, threads: self.threads, switches: 0, trace: None, counts: None })
    }

    /// Time is up. Kernels that wait for the host are told that it is gone; others cannot be stopped.
    fn stop(&self) -> HostError {
        self.gpu.give_up();
        let deadline = Instant::now().checked_add(GRACE);
        let end = match self.wait_until(deadline) {
            Some(Ok(())) => Abandoned::Ended,
            Some(Err(e)) => return e,
            None => Abandoned::Running,
        };
        let limit = self.limit.unwrap_or_default();
        let error = CudaError::Timeout { kernel: self.kernel.into(), limit, end };
        self.gpu.abandon(error.to_string(), deadline);
        error.into()
    }
}

impl Running for CudaLaunch {
    fn is_finished(&self) -> bool {
        self.query().map_or(true, |state| state != CUresult::CUDA_ERROR_NOT_READY)
    }

    fn wait(mut self: Box<Self>) -> Result<LaunchReport, HostError> {
        self.finish()
    }
}

impl Drop for CudaLaunch {
    fn drop(&mut self) {
        if !self.ended {
            // Whoever drops a launch does not want to know.
            let _ = self.finish();
        }
    }
}
