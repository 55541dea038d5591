//! Kernels that no executor takes are run as what they are: PTX, by the interpreter.

use crate::LaunchCall;
use gpu_emu::ptx::{Interpreter, Module, Options, PtxFault};
use gpu_emu::{Config, Fault, LaneId, LaunchConfig};
use gpu_rt::Dim3;
use gpu_rt::device_log::{Control, Kind};
use std::sync::{Arc, Mutex};

const ILLEGAL_ADDRESS: u32 = 700;
const LAUNCH_FAILED: u32 = 719;

/// An interpreter of a module, which leaves lines where a GPU would: in the log that the host has given
/// the module.
pub(crate) struct Ptx {
    interpreter: Interpreter,
    shape: Arc<Mutex<(Dim3, Dim3)>>,
    log: u64,
}

impl Ptx {
    /// `log` is the address of the module's log, or 0.
    pub(crate) fn new(module: Module, log: u64) -> Ptx {
        let shape = Arc::new(Mutex::new((Dim3::ONE, Dim3::ONE)));
        let current = shape.clone();
        let config = Config {
            workers: 2,
            resident_threads: 4096,
            log: Some(Arc::new(move |_: &str, lane: LaneId, text: &str| {
                let (grid, block) = *current.lock().expect("a shape");
                write(log, Kind::Line, number(lane, grid, block), text);
            })),
            ..Config::default()
        };
        Ptx { interpreter: Interpreter::new(config, module, Options::default()), shape, log }
    }

    /// Runs a kernel that may use so much `memory`, first address and bytes each.
    pub(crate) fn run(&self, name: &str, call: &LaunchCall, memory: &[(u64, u64)]) -> u32 {
        for &(address, bytes) in memory {
            // SAFETY: the context's, which outlives its launches; the host uses it as kernels do.
            unsafe { self.interpreter.memory().add(address, bytes) };
        }
        let [grid, block] = [call.grid, call.block].map(|[x, y, z]| Dim3::new(x, y, z));
        *self.shape.lock().expect("a shape") = (grid, block);
        // SAFETY: the stand-in's own copy of the argument.
        let args = unsafe { std::slice::from_raw_parts(call.args, call.args_len) };
        let config = LaunchConfig::new(grid, block).shared_bytes(call.shared_bytes as usize);
        let Err(error) = self.interpreter.run(name, config, args) else { return 0 };
        match *error.fault {
            Fault::Panicked { lane, message, at } => {
                let text = format!("panicked at {at}:\n{message}");
                write(self.log, Kind::Panic, number(lane, grid, block), &text);
                LAUNCH_FAILED
            }
            Fault::Ptx(fault @ PtxFault::Access { .. }) => {
                // More than a driver would say.
                eprintln!("{name}: {fault}");
                ILLEGAL_ADDRESS
            }
            fault => {
                eprintln!("{name}: {fault}");
                LAUNCH_FAILED
            }
        }
    }
}

/// The number of a thread in its launch.
pub(crate) fn number(lane: LaneId, grid: Dim3, block: Dim3) -> u64 {
    grid.linear(lane.block) * block.count() + block.linear(lane.thread)
}

/// Leaves a line in the log whose address this is, or nowhere if that is 0.
pub(crate) fn write(log: u64, kind: Kind, thread: u64, text: &str) {
    // SAFETY: the module's log, which lives as long as the module; the host has given it its room.
    unsafe {
        if let Some(log) = (log as *const Control).as_ref() {
            log.write(kind, thread, format_args!("{text}"));
        }
    }
}
