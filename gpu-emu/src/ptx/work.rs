//! What a launch of a kernel runs.

use std::sync::Arc;

use super::check::Checker;
use super::code::{Kernel, Program};
use super::fault::PtxFault;
use super::interpreter::Options;
use super::module::Module;
use crate::config::{LaunchConfig, MAX_SHARED_BYTES};
use crate::error::Fault;

/// A kernel with its arguments.
pub(crate) struct Call {
    pub(super) program: Arc<Program>,
    pub(super) kernel: Kernel,
    pub(super) arguments: Vec<u8>,
    pub(super) checker: Option<Checker>,
    pub(super) profile: bool,
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
        let bytes = config.shared_bytes.saturating_add(program.shared_bytes as usize);
        if bytes > MAX_SHARED_BYTES {
            return Err(Fault::SharedTooLarge { bytes });
        }
        let checker = options.check.then(|| Checker::new(config.grid, config.block));
        let profile = options.profile;
        Ok(Call { program, kernel, arguments: arguments.to_vec(), checker, profile })
    }
}
