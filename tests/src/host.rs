//! Sessions, files with known bytes, launches.

use crate::Policy;
use crate::device::script::{Line, PROGRAM_SCRIPT};
use crate::device::{Job, PTX, ops::Op, pattern};
use gpu_host::{
    CudaError, CudaOptions, DeviceChoice, EmulatedOptions, HostError, LaunchConfig, Module,
    ModuleError, PtxOptions, Session, SessionBuilder,
};
use gpu_rt::Dim3;
use gpufs::Stats;
use host_daemon::DaemonError;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

/// What turns a launch that hangs into a failure. Nothing is measured by it.
const HANG: Duration = Duration::from_secs(120);

/// A way to build sessions.
#[derive(Clone, Copy)]
pub struct Backend {
    name: &'static str,
    many: (u32, u32),
    configure: fn(SessionBuilder) -> SessionBuilder,
}

impl Backend {
    /// The backend that `configure` makes of a builder.
    pub fn new(name: &'static str, configure: fn(SessionBuilder) -> SessionBuilder) -> Backend {
        Backend { name, many: (16, 256), configure }
    }

    /// With another idea of many threads than 16 blocks of 256: all of them must be resident at once.
    #[must_use]
    pub fn with_many(self, blocks: u32, threads: u32) -> Backend {
        Backend { many: (blocks, threads), ..self }
    }

    /// The shape of a launch of many threads.
    pub fn many(&self) -> (u32, u32) {
        self.many
    }

    /// How many that are.
    pub fn many_threads(&self) -> u64 {
        u64::from(self.many.0 * self.many.1)
    }

    /// A session of this kind, made as `refine` wants it; `None`, with a printed reason, if this
    /// machine lacks what the backend needs.
    pub fn session<P: Policy>(
        &self,
        refine: impl FnOnce(SessionBuilder) -> SessionBuilder,
    ) -> Option<Bench<P>> {
        // The backend has the last word: its bodies say how much, it says how.
        match (self.configure)(refine(Session::builder())).build_with() {
            Ok(session) => Some(Bench { session }),
            Err(e) if is_absent(&e) => {
                say_once(&format!("skipped on {}: {e}", self.name));
                None
            }
            Err(e) => panic!("{}: {e}", self.name),
        }
    }
}

/// Prints a line that the test's harness does not keep to itself, the first time it is said.
fn say_once(line: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(line.to_owned()) {
        // Nobody is there to be told that nobody is there.
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

/// Whether a session cannot be had because this machine lacks something that nobody has said it must have:
/// `CUDA_REQUIRED=1` asks for a GPU, `PTX_REQUIRED=1` for the kernels as PTX.
fn is_absent(error: &HostError) -> bool {
    let required = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty() && v != "0");
    match error {
        HostError::Daemon(DaemonError::RingUnavailable { .. }) => true,
        HostError::Cuda(CudaError::NoDriver | CudaError::NoDevice { .. }) => {
            !required("CUDA_REQUIRED")
        }
        HostError::Module(ModuleError::Missing { .. }) => {
            !required("PTX_REQUIRED") && !required("CUDA_REQUIRED")
        }
        _ => false,
    }
}

/// The suite's kernels as PTX, on the GPU of that number; fails rather than hang.
pub fn cuda(builder: SessionBuilder) -> SessionBuilder {
    let options = CudaOptions { timeout: Some(HANG), ..CudaOptions::default() };
    builder.module(module()).device(DeviceChoice::Cuda(options)).device_memory(1 << 30)
}

/// The suite's kernels as PTX, run by the interpreter; fails rather than hang.
pub fn ptx(builder: SessionBuilder) -> SessionBuilder {
    interpreted(builder, false)
}

/// The same; what blocks do to each other's memory without any order is an error too, and so are loads of shared
/// memory that nobody has written.
pub fn ptx_checked(builder: SessionBuilder) -> SessionBuilder {
    interpreted(builder, true)
}

fn interpreted(builder: SessionBuilder, check: bool) -> SessionBuilder {
    let options = PtxOptions {
        workers: 2,
        resident_threads: 4096,
        timeout: Some(HANG),
        check,
        ..PtxOptions::default()
    };
    builder.module(module()).device(DeviceChoice::Ptx(options)).device_memory(1 << 30)
}

/// The suite's kernels as PTX, if they could be built.
fn module() -> Option<Module> {
    // Twelve megabytes, looked through once and not for each session.
    static MODULE: LazyLock<Option<Module>> = LazyLock::new(|| {
        (!PTX.is_empty()).then(|| Module::new(PTX).unwrap_or_else(|e| panic!("{e}")))
    });
    MODULE.clone()
}

/// An emulated GPU that holds thousands of threads on however few processors, and fails rather
/// than hang.
pub fn emulated() -> EmulatedOptions {
    EmulatedOptions {
        workers: 2,
        resident_threads: 4096,
        timeout: Some(HANG),
        ..EmulatedOptions::default()
    }
}

/// A session with what the tests do on it.
pub struct Bench<P: Policy> {
    /// The session.
    pub session: Session<P::Index, P::Eviction>,
}

/// What came of a launch: results, and bytes.
pub type Outcome = (Vec<u64>, Vec<u8>);

/// The counters of a storm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storm {
    /// Threads that did all they should.
    pub done: u64,
    /// Bytes that were not the file's.
    pub wrong: u64,
    /// Threads that failed.
    pub failed: u64,
    /// The error number of the last that did.
    pub errno: u64,
    /// What the program says.
    pub other: u64,
}

impl Storm {
    /// Fails unless all `threads` did all they should and saw no wrong byte.
    #[track_caller]
    pub fn assert_clean(&self, threads: u64) {
        let Storm { done, wrong, failed, .. } = *self;
        assert_eq!((done, wrong, failed), (threads, 0, 0), "{self:?}");
    }
}

impl<P: Policy> Bench<P> {
    /// Launches the policy's kernel.
    ///
    /// # Errors
    /// Whatever the launch failed with.
    pub fn launch(
        &self,
        shape: (u32, u32),
        paths: &[impl AsRef<Path>],
        ops: &[Op],
        results: usize,
        bytes: usize,
        fill: impl FnOnce(&mut Job),
    ) -> Result<Outcome, HostError> {
        let mut all = Vec::new();
        let mut ends = Vec::new();
        for path in paths {
            all.extend_from_slice(path.as_ref().as_os_str().as_bytes());
            ends.push(all.len() as u32);
        }
        let session = &self.session;
        let (all, ends) = (session.alloc_from(&all)?, session.alloc_from(&ends)?);
        let ops = session.alloc_from(ops)?;
        let (out, bytes) = (session.alloc::<u64>(results)?, session.alloc::<u8>(bytes)?);
        let mut job = Job {
            fs: bytemuck::cast(session.fs()),
            program: 0,
            group: 0,
            paths: all.slice(),
            ends: ends.slice(),
            ops: ops.slice(),
            results: out.slice(),
            bytes: bytes.slice(),
            params: [0; 4],
        };
        fill(&mut job);
        let (grid, block): (Dim3, Dim3) = (shape.0.into(), shape.1.into());
        session.run(P::kernel(), LaunchConfig::new(grid, block), job)?;
        Ok((out.to_vec()?, bytes.to_vec()?))
    }

    /// Does operations, shared out among groups of a kind (a `GROUP_*`).
    #[track_caller]
    pub fn ops(&self, shape: (u32, u32), group: u32, paths: &[PathBuf], ops: &[Op]) -> Outcome {
        let bytes = ops.iter().map(|op| op.at + op.len).max().unwrap_or(0).max(1) as usize;
        match self.launch(shape, paths, ops, ops.len(), bytes, |job| job.group = group) {
            Ok(outcome) => outcome,
            Err(e) => panic!("{e}"),
        }
    }

    /// Carries out a script, by `groups` groups of a kind (a `GROUP_*`): the lines of each in their order.
    #[track_caller]
    pub fn script(
        &self,
        shape: (u32, u32),
        group: u32,
        paths: &[PathBuf],
        lines: &[Line],
    ) -> Outcome {
        match self.try_script(shape, group, paths, lines) {
            Ok(outcome) => outcome,
            Err(e) => panic!("{e}"),
        }
    }

    /// As [`Bench::script`].
    ///
    /// # Errors
    /// Whatever the launch failed with.
    pub fn try_script(
        &self,
        shape: (u32, u32),
        group: u32,
        paths: &[PathBuf],
        lines: &[Line],
    ) -> Result<Outcome, HostError> {
        let bytes = lines.iter().map(|line| line.at + line.len).max().unwrap_or(0).max(1) as usize;
        let script = self.session.alloc_from(lines)?;
        let params = [script.slice().addr(), lines.len() as u64, 0, 0];
        self.launch(shape, paths, &[], lines.len(), bytes, |job| {
            job.program = PROGRAM_SCRIPT;
            job.group = group;
            job.params = params;
        })
    }

    /// Runs a storm.
    #[track_caller]
    pub fn storm(
        &self,
        shape: (u32, u32),
        program: u32,
        paths: &[PathBuf],
        params: [u64; 4],
    ) -> Storm {
        match self.try_storm(shape, program, paths, params) {
            Ok(storm) => storm,
            Err(e) => panic!("{e}"),
        }
    }

    /// Runs a storm.
    ///
    /// # Errors
    /// Whatever the launch failed with.
    pub fn try_storm(
        &self,
        shape: (u32, u32),
        program: u32,
        paths: &[PathBuf],
        params: [u64; 4],
    ) -> Result<Storm, HostError> {
        let fill = |job: &mut Job| (job.program, job.params) = (program, params);
        let (results, _) = self.launch(shape, paths, &[], 8, 1, fill)?;
        let [done, wrong, failed, errno, other, ..] = results[..] else {
            unreachable!("8 results")
        };
        Ok(Storm { done, wrong, failed, errno, other })
    }

    /// What the page cache counted so far.
    ///
    /// # Panics
    /// If the device fails.
    #[track_caller]
    pub fn stats(&self) -> Stats {
        self.session.stats().unwrap_or_else(|e| panic!("{e}"))
    }

    /// Requests of one kind that the daemon has taken so far.
    pub fn taken(&self, op: gpu_abi::Op) -> u64 {
        self.session.daemon_stats().by_op[op as usize]
    }
}

/// A directory that goes with the value, with files of known bytes.
pub struct Tree {
    dir: tempfile::TempDir,
}

impl Default for Tree {
    fn default() -> Self {
        Tree::new()
    }
}

impl Tree {
    /// An empty directory.
    ///
    /// # Panics
    /// Where the system gives none.
    pub fn new() -> Tree {
        Tree { dir: tempfile::tempdir().expect("a temporary directory") }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    /// The path of `name` in it.
    pub fn path(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.dir.path().join(name.as_ref())
    }

    /// A file of `len` bytes made from `seed`; its path.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn file(&self, name: impl AsRef<OsStr>, seed: u64, len: u64) -> PathBuf {
        let path = self.path(name);
        let bytes: Vec<u8> = (0..len).map(|at| pattern(seed, at)).collect();
        std::fs::write(&path, bytes).expect("the file can be written");
        path
    }
}
