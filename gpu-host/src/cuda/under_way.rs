//! The launches under way, each with a stream of its own; and the kernels that have been compiled, with
//! their logs.
//!
//! Launches run side by side, as they do on every device: a kernel that serves until it is told to end keeps no
//! other from running. Streams are kept for later launches, so that there are as many as launches were under way at once.
//! The driver has 8 queues for them, or as many as CUDA_DEVICE_MAX_CONNECTIONS says: of more launches, some may wait for
//! others.

use super::calls::{self, Status};
use super::driver;
use super::error::CudaError;
use super::failure::failure;
use super::kernels::Loaded;
use super::log::{Log, lane};
use crate::HostError;
use cudarc::driver::sys::{CUresult, CUstream};
use gpu_emu::{LaunchError, LogSink};
use gpu_rt::Dim3;
use std::collections::BTreeMap;

/// The launches that have begun and not been seen to end, the oldest first; and what they need.
pub(super) struct UnderWay {
    launches: Vec<Begun>,
    next: u64,
    /// Streams that nothing runs on.
    idle: Vec<CUstream>,
    /// The kernels that have been compiled, by name.
    pub(super) kernels: BTreeMap<String, Loaded>,
    /// The logs of those that have one.
    logs: BTreeMap<String, Log>,
    log_lines: usize,
}

struct Begun {
    number: u64,
    kernel: &'static str,
    grid: Dim3,
    block: Dim3,
    stream: CUstream,
}

impl UnderWay {
    /// Logs are to have room for so many lines.
    pub(super) fn new(log_lines: usize) -> UnderWay {
        UnderWay {
            launches: Vec::new(),
            next: 0,
            idle: Vec::new(),
            kernels: BTreeMap::new(),
            logs: BTreeMap::new(),
            log_lines,
        }
    }

    /// Whether anything runs, in the current context.
    pub(super) fn is_busy(&self) -> bool {
        self.launches.iter().any(|launch| {
            // SAFETY: a stream of this context.
            unsafe { calls::cuStreamQuery(launch.stream) == CUresult::CUDA_ERROR_NOT_READY }
        })
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

    /// A stream of the current context that nothing runs on.
    pub(super) fn stream(&mut self) -> Result<CUstream, CudaError> {
        self.idle.pop().map_or_else(driver::stream, Ok)
    }

    /// Takes one back that nothing runs on any more.
    pub(super) fn give_back(&mut self, stream: CUstream) {
        self.idle.push(stream);
    }

    /// Notes a launch that has begun; its number.
    pub(super) fn begin(
        &mut self,
        kernel: &'static str,
        (grid, block): (Dim3, Dim3),
        stream: CUstream,
    ) -> u64 {
        self.next += 1;
        self.launches.push(Begun { number: self.next, kernel, grid, block, stream });
        self.next
    }

    /// Forgets a launch, whose stream is to be given back if it has ended.
    pub(super) fn end(&mut self, number: u64) {
        self.launches.retain(|launch| launch.number != number);
    }

    /// Hands on new lines.
    pub(super) fn print(&mut self, sink: Option<&LogSink>) {
        for (kernel, log) in &mut self.logs {
            let Some(running) = oldest(&self.launches, kernel) else { continue };
            log.new_lines(|thread, text| {
                let lane = lane(thread, running.grid, running.block);
                match sink {
                    Some(sink) => sink(kernel, lane, text),
                    None => eprintln!("[{kernel}: {lane}] {text}"),
                }
            });
        }
    }

    /// The panic that ended the launches, if it was one.
    pub(super) fn panic(&self) -> Option<LaunchError> {
        self.logs.iter().find_map(|(kernel, log)| {
            let running = oldest(&self.launches, kernel)?;
            let fault = log.panic(running.grid, running.block)?;
            Some(LaunchError { kernel: kernel.clone(), fault: fault.into(), replay: None })
        })
    }

    /// What ended the launches, of which the driver says `status`: what a kernel has said itself, or else
    /// that one of them has failed, `first` before all others. None if there are none.
    pub(super) fn failure(&self, status: Status, first: Option<&str>) -> Option<HostError> {
        if let Some(panic) = self.panic() {
            return Some(panic.into());
        }
        let mut kernels: Vec<&str> = first.into_iter().collect();
        for launch in &self.launches {
            if !kernels.contains(&launch.kernel) {
                kernels.push(launch.kernel);
            }
        }
        let (kernel, beside) = kernels.split_first()?;
        Some(failure(kernel, beside, status).into())
    }
}

/// The oldest launch of a kernel: what is in the kernel's log is taken for its.
fn oldest<'a>(launches: &'a [Begun], kernel: &str) -> Option<&'a Begun> {
    launches.iter().find(|launch| launch.kernel == kernel)
}
