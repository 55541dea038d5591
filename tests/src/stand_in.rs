//! The CUDA backend without a GPU: a library that answers as the driver does, in this process, and the
//! emulator behind it. What is tested so is the host's side, and nothing of a GPU.

use cuda_stand_in::{FAIL_NEXT, FailNext, LaunchCall, NOT_MINE, SET_EXECUTOR, SetExecutor};
use gpu_emu::{Config, Emulator, Fault, LaunchConfig, LaunchError};
use gpu_host::{CudaOptions, DeviceChoice, Module};
use gpu_rt::device_log::{Control, Kind};
use gpu_rt::{Dim3, Kernel, Pod};
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::sync::{Arc, OnceLock};

/// The driver's number for kernels that have trapped.
const LAUNCH_FAILED: u32 = 719;
/// What kernels panic with, and a number, to fail as a GPU does that says nothing else.
const SILENTLY: &str = "driver error ";

/// What one thread runs, given the bytes of the argument.
type Run = Box<dyn Fn(&[u8]) + Send + Sync>;

/// A kernel whose argument's type has been forgotten.
struct HostKernel {
    args: usize,
    run: Run,
}

/// The kernels that the stand-in's module has.
#[derive(Default)]
pub struct Kernels(BTreeMap<&'static str, HostKernel>);

static KERNELS: OnceLock<Kernels> = OnceLock::new();
static LIBRARY: OnceLock<libloading::Library> = OnceLock::new();

impl Kernels {
    /// None yet.
    pub fn new() -> Kernels {
        Kernels::default()
    }

    /// And this one.
    #[must_use]
    pub fn with<A: Pod + Send + Sync>(mut self, kernel: &'static Kernel<A>) -> Kernels {
        let run: Run = Box::new(|bytes: &[u8]| kernel.call(bytemuck::pod_read_unaligned(bytes)));
        self.0.insert(kernel.name(), HostKernel { args: size_of::<A>(), run });
        self
    }

    /// Puts the stand-in in the place of the driver for the rest of this process, with these kernels, the
    /// first time it is called; the module that has them, with a log.
    ///
    /// # Panics
    /// If cargo has not built the stand-in beside the test.
    pub fn install(self) -> Module {
        let kernels = KERNELS.get_or_init(|| {
            load();
            self
        });
        let mut text = String::from(".version 7.0\n.target sm_70\n.address_size 64\n");
        text += ".visible .global .align 8 .b8 gpu_rt_log[24];\n";
        for (name, HostKernel { args, .. }) in &kernels.0 {
            text += &format!(
                ".visible .entry {name}(\n\t.param .align 8 .b8 {name}_param_0[{args}]\n)\n.maxntid 1024, 1, 1\n{{\n\t.reg .b64 %rd1;\n\tmov.u64 %rd1, gpu_rt_log;\n\tret;\n}}\n"
            );
        }
        Module::new(&text).expect("there are kernels")
    }
}

/// Loads the stand-in, which is called what the driver's library is called, so that whoever asks for that
/// gets this.
fn load() {
    let test = std::env::current_exe().expect("a test has a program");
    let path = test.with_file_name("libcuda_stand_in.so");
    // SAFETY: our own library; it has no initialisers. It stays loaded.
    unsafe {
        let library = libloading::Library::new(&path).unwrap_or_else(|e| panic!("{e}"));
        let set = library.get::<SetExecutor>(SET_EXECUTOR).expect("it has this function");
        set(execute);
        LIBRARY.get_or_init(|| library);
    }
}

/// Ends a kernel as a GPU would, with the driver's error of that number.
///
/// # Panics
/// That is how.
pub fn fail_with(error: u32) -> ! {
    panic!("{SILENTLY}{error}");
}

/// Has the next call of one of the driver's functions by this thread fail with that error.
///
/// # Panics
/// If the stand-in has not been installed.
pub fn fail_next(function: &CStr, error: u32) {
    let library = LIBRARY.get().expect("the stand-in is installed");
    // SAFETY: our own library's function of that type; the name ends with a zero.
    unsafe {
        let fail = library.get::<FailNext>(FAIL_NEXT).expect("it has this function");
        fail(function.as_ptr(), error);
    }
}

/// Puts the stand-in in the place of the driver, as [`Kernels::install`] does, with no kernels but those of
/// modules' PTX.
pub fn install() {
    KERNELS.get_or_init(|| {
        load();
        Kernels::new()
    });
}

/// The first device of the stand-in.
pub fn device() -> DeviceChoice {
    DeviceChoice::Cuda(CudaOptions::default())
}

/// Runs a kernel on an emulator, with lines and panics by way of the module's log.
extern "C" fn execute(call: &LaunchCall) -> u32 {
    // SAFETY: the stand-in passes bytes that live until this returns.
    let (name, args) = unsafe {
        (
            std::slice::from_raw_parts(call.name, call.name_len),
            std::slice::from_raw_parts(call.args, call.args_len),
        )
    };
    let name = std::str::from_utf8(name).expect("as it was given");
    let Some(kernel) = KERNELS.get().and_then(|kernels| kernels.0.get(name)) else {
        return NOT_MINE;
    };
    let (grid, block) = (dim(call.grid), dim(call.block));
    // SAFETY: the module's log, which lives as long as the module; if zero there is none.
    let log = unsafe { (call.log as *const Control).as_ref() };
    let write = move |kind, thread, message: &str| {
        if let Some(log) = log {
            // SAFETY: the host gave the log its room before the launch.
            unsafe { log.write(kind, thread, format_args!("{message}")) };
        }
    };
    let number = move |lane: gpu_emu::LaneId| {
        grid.linear(lane.block) * block.count() + block.linear(lane.thread)
    };
    let emulator = Emulator::new(Config {
        workers: 2,
        resident_threads: 4096,
        log: Some(Arc::new(move |_, lane, text| write(Kind::Line, number(lane), text))),
        ..Config::default()
    });
    let shape = LaunchConfig::new(grid, block).shared_bytes(call.shared_bytes as usize);
    match emulator.run_fn(name, shape, &|| (kernel.run)(args)) {
        Ok(_) => 0,
        Err(LaunchError { fault, .. }) => match *fault {
            Fault::Panicked { lane, message, at } => {
                let silently = message.strip_prefix(SILENTLY).and_then(|error| error.parse().ok());
                silently.unwrap_or_else(|| {
                    write(Kind::Panic, number(lane), &format!("panicked at {at}:\n{message}"));
                    LAUNCH_FAILED
                })
            }
            _ => LAUNCH_FAILED,
        },
    }
}

fn dim([x, y, z]: [u32; 3]) -> Dim3 {
    Dim3::new(x, y, z)
}
