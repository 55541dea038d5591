//! Launches under way: waiting for them, with an end to that.

use super::error::{Abandoned, CudaError};
use super::gpu::{Gpu, failure};
use super::log::{Log, lane};
use crate::HostError;
use crate::device::Running;
use cudarc::driver::sys::{self, CUresult};
use gpu_emu::{LaunchConfig, LaunchError, LaunchReport, LogSink};
use gpu_rt::Dim3;
use host_daemon::AwakeGuard;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a launch has to end by itself once the host has stopped answering.
const GRACE: Duration = Duration::from_secs(2);
/// Looks without sleeping for so long: many launches are short.
const SPIN: Duration = Duration::from_micros(100);
/// Sleeps between looks later.
const NAP: Duration = Duration::from_micros(50);

/// The launches that have begun and not been seen to end, in order; and the logs of the kernels.
pub(super) struct UnderWay {
    launches: VecDeque<Begun>,
    next: u64,
    logs: BTreeMap<String, Log>,
    log_lines: usize,
}

struct Begun {
    number: u64,
    kernel: &'static str,
    grid: Dim3,
    block: Dim3,
}

impl UnderWay {
    /// Logs are to have room for so many lines.
    pub(super) fn new(log_lines: usize) -> UnderWay {
        UnderWay { launches: VecDeque::new(), next: 0, logs: BTreeMap::new(), log_lines }
    }

    /// Gives a kernel a log, in the current context.
    pub(super) fn add_log(&mut self, kernel: &str) -> Result<(), CudaError> {
        self.logs.insert(kernel.to_owned(), Log::new(self.log_lines)?);
        Ok(())
    }

    /// The kernel's log, if no launch is under way that may write it.
    pub(super) fn idle_log(&mut self, kernel: &str) -> Option<&mut Log> {
        let idle = self.launches.iter().all(|launch| launch.kernel != kernel);
        self.logs.get_mut(kernel).filter(|_| idle)
    }

    pub(super) fn take_logs(&mut self) -> BTreeMap<String, Log> {
        std::mem::take(&mut self.logs)
    }

    pub(super) fn begin(&mut self, kernel: &'static str, grid: Dim3, block: Dim3) -> u64 {
        self.next += 1;
        self.launches.push_back(Begun { number: self.next, kernel, grid, block });
        self.next
    }

    fn end(&mut self, number: u64) {
        self.launches.retain(|launch| launch.number != number);
    }

    /// Hands on new lines. One launch runs at a time: they are the oldest one's.
    fn print(&mut self, sink: Option<&LogSink>) {
        let Some(running) = self.launches.front() else { return };
        let Some(log) = self.logs.get_mut(running.kernel) else { return };
        log.new_lines(|thread, text| {
            let lane = lane(thread, running.grid, running.block);
            match sink {
                Some(sink) => sink(running.kernel, lane, text),
                None => eprintln!("[{}: {lane}] {text}", running.kernel),
            }
        });
    }

    /// The panic that ended the oldest launch, if it was one.
    fn panic(&self) -> Option<LaunchError> {
        let running = self.launches.front()?;
        let fault = self.logs.get(running.kernel)?.panic(running.grid, running.block)?;
        Some(LaunchError { kernel: running.kernel.into(), fault: fault.into(), replay: None })
    }
}

/// A launch. Dropping it waits for its end, as long as it may take.
pub(super) struct CudaLaunch {
    gpu: Arc<Gpu>,
    number: u64,
    kernel: &'static str,
    threads: u64,
    event: sys::CUevent,
    /// What came of recording it: an error if the kernel had failed by then.
    recorded: CUresult,
    started: Instant,
    limit: Option<Duration>,
    ended: bool,
    /// The daemon looks for requests as long as this lives.
    _awake: Option<AwakeGuard>,
}

// SAFETY: events may be used from any thread in which their context is current.
unsafe impl Send for CudaLaunch {}

impl CudaLaunch {
    pub(super) fn new(
        gpu: Arc<Gpu>,
        number: u64,
        kernel: &'static str,
        shape: LaunchConfig,
        (event, recorded): (sys::CUevent, CUresult),
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
            event,
            recorded,
            started,
            limit,
            ended: false,
            _awake: awake,
        }
    }

    /// How it stands; an error if the session is lost.
    fn query(&self) -> Result<CUresult, CudaError> {
        let _current = self.gpu.enter()?;
        if self.recorded != CUresult::CUDA_SUCCESS {
            return Ok(self.recorded);
        }
        // SAFETY: our own event, of this context.
        Ok(unsafe { sys::cuEventQuery(self.event) })
    }

    /// Waits until the launch has ended, or until `deadline`; `None` if that came first.
    fn wait_until(&self, deadline: Option<Instant>) -> Option<Result<(), HostError>> {
        let start = Instant::now();
        loop {
            let state = match self.query() {
                Ok(state) => state,
                Err(lost) => return Some(Err(lost.into())),
            };
            self.gpu.under_way().print(self.gpu.sink.as_ref());
            match state {
                CUresult::CUDA_SUCCESS => return Some(Ok(())),
                CUresult::CUDA_ERROR_NOT_READY => {}
                failed => {
                    let why = self.last_words(failure(self.kernel, failed));
                    self.gpu.lose(why.to_string(), false);
                    return Some(Err(why));
                }
            }
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

    /// What the kernel that failed said itself, or else `otherwise`.
    fn last_words(&self, otherwise: CudaError) -> HostError {
        // The oldest launch is the one that failed; later ones fail with it.
        self.gpu.under_way().panic().map_or(otherwise.into(), HostError::from)
    }

    fn finish(&mut self) -> Result<LaunchReport, HostError> {
        let deadline = self.limit.and_then(|limit| self.started.checked_add(limit));
        let outcome = self.wait_until(deadline).unwrap_or_else(|| Err(self.stop()));
        self.gpu.under_way().end(self.number);
        self.ended = true;
        outcome?;
        // SAFETY: our own event, which has happened. The context lives as long as we do.
        unsafe {
            if let Ok(_current) = self.gpu.enter() {
                let _ = sys::cuEventDestroy_v2(self.event);
            }
        }
        let elapsed = self.started.elapsed();
        Ok(LaunchReport { elapsed, threads: self.threads, switches: 0, trace: None, counts: None })
    }

    /// Time is up. Kernels that wait for the host are told that it is gone; others cannot be stopped.
    fn stop(&self) -> HostError {
        self.gpu.give_up();
        let end = match self.wait_until(Instant::now().checked_add(GRACE)) {
            Some(Ok(())) => Abandoned::Ended,
            Some(Err(e)) => return e,
            None => Abandoned::Running,
        };
        let limit = self.limit.unwrap_or_default();
        let error = CudaError::Timeout { kernel: self.kernel.into(), limit, end };
        self.gpu.lose(error.to_string(), end == Abandoned::Running);
        error.into()
    }
}

impl Running for CudaLaunch {
    fn is_finished(&self) -> bool {
        !matches!(self.query(), Ok(CUresult::CUDA_ERROR_NOT_READY))
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
