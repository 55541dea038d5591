//! What a launch of a kernel runs.

use std::sync::Arc;

use gpu_rt::Dim3;

use super::check::Checker;
use super::code::{Kernel, Program};
use super::fault::PtxFault;
use super::interpreter::Options;
use super::module::Module;
use super::row::{LANES, Row};
use crate::config::{Config, LaunchConfig, MAX_SHARED_BYTES};
use crate::error::Fault;

/// A kernel with its arguments.
pub(crate) struct Call {
    pub(super) program: Arc<Program>,
    pub(super) kernel: Kernel,
    pub(super) arguments: Vec<u8>,
    pub(super) checker: Option<Checker>,
    pub(super) profile: bool,
    /// How many rows a warp's frames may take, all together.
    pub(super) most_rows: u32,
}

/// The bytes of registers that a worker may hold: those that one warp may have follow from it, so that
/// a module cannot take the host's memory.
const REGISTER_BYTES: u64 = 1 << 30;
/// Rows that a warp may always have, however many there are: more than any compiled kernel and what it
/// calls need.
const ROWS: u64 = 1 << 13;

/// How many rows each warp of a launch may have.
fn most_rows(config: &LaunchConfig, emulator: &Config) -> u32 {
    let threads = config.block.count().max(1);
    let share = config.grid.count().div_ceil(emulator.workers.max(1) as u64);
    let blocks = share.min(u64::from(emulator.resident_threads) / threads).max(1);
    let warps = blocks * threads.div_ceil(LANES as u64);
    let rows = REGISTER_BYTES / size_of::<Row>() as u64 / warps;
    // At most 4 Mi.
    rows.max(ROWS) as u32
}

/// The largest extents of a block, and of a grid, as PTX has them.
const LARGEST: [(&str, Dim3); 2] =
    [("block", Dim3::new(1024, 1024, 64)), ("grid", Dim3::new(i32::MAX as u32, 65535, 65535))];

/// Fails where a launch is larger in one dimension than any GPU's may be.
fn check_extents(config: &LaunchConfig) -> Result<(), PtxFault> {
    for ((what, most), given) in LARGEST.into_iter().zip([config.block, config.grid]) {
        if given.x > most.x || given.y > most.y || given.z > most.z {
            return Err(PtxFault::TooLarge { what, given, most });
        }
    }
    Ok(())
}

/// How many kernels a message names.
const NAMED: usize = 8;

impl Call {
    /// Finds the kernel, and checks what it is launched with.
    pub(super) fn new(
        module: &Module,
        name: &str,
        config: &LaunchConfig,
        arguments: &[u8],
        options: &Options,
        emulator: &Config,
    ) -> Result<Call, Fault> {
        let program = Arc::clone(&module.program);
        let Some(kernel) = program.kernels.get(name).cloned() else {
            let mut known: Vec<&str> = module.kernels().take(NAMED).collect();
            if program.kernels.len() > NAMED {
                known.push("…");
            }
            let known = if known.is_empty() { "none".into() } else { known.join(", ") };
            return Err(PtxFault::NoKernel { known }.into());
        };
        let (given, expected) = (arguments.len(), kernel.argument_bytes as usize);
        if given != expected {
            return Err(PtxFault::Arguments { given, expected }.into());
        }
        let threads = config.block.count();
        if let Some(most) = kernel.max_threads.filter(|&most| threads > most.into()) {
            return Err(PtxFault::TooManyThreads { threads, most }.into());
        }
        check_extents(config)?;
        let given = config.block;
        if let Some(due) = kernel.extent.filter(|&due| due != given) {
            return Err(PtxFault::Extent { given, due }.into());
        }
        let bytes = config.shared_bytes.saturating_add(program.shared_bytes as usize);
        if bytes > MAX_SHARED_BYTES {
            return Err(Fault::SharedTooLarge { bytes });
        }
        let function = &program.functions[kernel.function as usize];
        let most_rows = most_rows(config, emulator);
        if function.rows > most_rows {
            let row = size_of::<Row>() as u64;
            let (bytes, most) = (u64::from(function.rows) * row, u64::from(most_rows) * row);
            return Err(PtxFault::Registers { bytes, most }.into());
        }
        if function.local_bytes as usize > emulator.stack_size {
            let (bytes, most) = (function.local_bytes.into(), emulator.stack_size as u64);
            return Err(PtxFault::LocalMemory { bytes, most }.into());
        }
        let checker = options.check.then(|| Checker::new(config.grid, config.block));
        let profile = options.profile;
        let arguments = arguments.to_vec();
        Ok(Call { program, kernel, arguments, checker, profile, most_rows })
    }
}
