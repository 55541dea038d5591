//! Launches of whatever a text has, which nobody needs to have checked.

use std::sync::Arc;
use std::time::Duration;

use gpu_emu::ptx::{Interpreter, Module, Options, PtxFault};
use gpu_emu::{Config, Fault, LaunchConfig};

use super::{Gpu, words};

/// Launches all kernels of a text, if it is PTX, with addresses of memory and small numbers for arguments. What
/// came of each: nothing, or why it failed.
pub(crate) fn launch(text: &str, check: bool, limit: Duration) -> Vec<Option<String>> {
    let Ok(module) = Module::parse(text) else { return Vec::new() };
    let kernels: Vec<String> = module.kernels().map(str::to_owned).collect();
    let options = Options { check, ..Options::default() };
    let config = Config {
        workers: 1,
        resident_threads: 128,
        stack_size: 4096,
        log: Some(Arc::new(|_, _, _| {})),
        ..Config::default()
    };
    let gpu = Gpu { interpreter: Interpreter::new(config, module, options) };
    let memory = gpu.words(128);
    let address = memory.as_slice().as_ptr() as u64;
    // Two blocks race for the places of the results.
    let blocks = if check { 1 } else { 2 };
    let outcome = |kernel: &String| {
        let shape = LaunchConfig::new(blocks, 48).shared_bytes(64).timeout(limit);
        // What it wants it says itself.
        let bytes = match gpu.interpreter.run(kernel, shape, &[]) {
            Ok(_) => return None,
            Err(e) => match *e.fault {
                Fault::Ptx(PtxFault::Arguments { expected, .. }) => expected,
                _ => 0,
            },
        };
        let mut arguments = words(&[address, address + 512, 40, 3].repeat(bytes / 32 + 1));
        arguments.truncate(bytes);
        match gpu.interpreter.run(kernel, shape, &arguments) {
            Ok(_) => None,
            Err(e) => {
                assert!(
                    !matches!(*e.fault, Fault::Host(_)),
                    "the interpreter itself failed: {e}\n{text}"
                );
                assert!(e.to_string().len() > 8, "{e}");
                Some(e.to_string())
            }
        }
    };
    kernels.iter().map(outcome).collect()
}
