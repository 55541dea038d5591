//! What the stand-in reads of PTX: kernels and variables.

use crate::ptx::Ptx;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, OnceLock};

/// A loaded module.
pub(crate) struct Module {
    ptx: OnceLock<Ptx>,
    parsed: gpu_emu::ptx::Module,
    log: u64,
    pub(crate) functions: BTreeMap<CString, Box<Function>>,
    pub(crate) globals: BTreeMap<CString, Box<[u64]>>,
}

/// A kernel of it.
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) args: usize,
    pub(crate) max_threads: i32,
    /// Bytes of a thread's stack, as far as its own text says.
    pub(crate) stack: usize,
    /// Bytes of shared memory that launches may add by permission.
    pub(crate) granted: AtomicU32,
    /// The module that it is of, which owns it.
    pub(crate) module: *const Module,
}

// SAFETY: the pointers in functions are to the module itself.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Sync for Module {}

impl Module {
    /// The address of the module's log, or 0.
    pub(crate) fn log(&self) -> u64 {
        self.log
    }

    /// What runs its kernels as PTX.
    pub(crate) fn ptx(&self) -> &Ptx {
        self.ptx.get_or_init(|| Ptx::new(self.parsed.clone(), self.log))
    }

    /// A module, or what the compiler says.
    pub(crate) fn compile(text: &str) -> Result<Arc<Module>, String> {
        let parsed =
            gpu_emu::ptx::Module::parse(text).map_err(|e| format!("ptxas error   : {e}"))?;
        let mut globals = BTreeMap::new();
        for line in text.lines().filter(|line| line.contains(".global ") && line.ends_with("];")) {
            // `.visible .global .align 8 .b8 name[24];`
            let words = line.trim_end_matches("];").rsplit(' ').next().unwrap_or_default();
            let Some((name, bytes)) = words.split_once('[') else { continue };
            let bytes: usize = bytes.parse().map_err(|_| format!("ptxas error   : {line}"))?;
            let name = CString::new(name).map_err(|e| e.to_string())?;
            globals.insert(name, vec![0u64; bytes.div_ceil(8)].into_boxed_slice());
        }
        let log = globals.get(c"gpu_rt_log").map_or(0, |words| words.as_ptr() as u64);
        let mut found = Vec::new();
        for entry in text.split(".entry ").skip(1) {
            let Some((name, rest)) = entry.split_once('(') else { continue };
            let args = rest.split_once("_param_0[").and_then(|(_, n)| n.split_once(']'));
            let args = args.and_then(|(n, _)| n.parse().ok()).unwrap_or(0);
            let max = rest.split_once(".maxntid ").and_then(|(_, n)| n.split_once(','));
            let max_threads = max.and_then(|(n, _)| n.parse().ok()).unwrap_or(1024);
            let body = rest.split_once("\n}").map_or(rest, |(body, _)| body);
            let local = body.split_once("__local_depot").and_then(|(_, n)| n.split_once('['));
            let local =
                local.and_then(|(_, n)| n.split_once(']')).and_then(|(n, _)| n.parse().ok());
            found.push((name.to_owned(), args, max_threads, local.unwrap_or(0)));
        }
        Ok(Arc::new_cyclic(|module| {
            let function = |(name, args, max_threads, stack): (String, _, _, _)| {
                let symbol = CString::new(name.as_str()).expect("PTX has no zeros");
                let module = module.as_ptr();
                (
                    symbol,
                    Box::new(Function {
                        name,
                        args,
                        max_threads,
                        stack,
                        granted: AtomicU32::new(0),
                        module,
                    }),
                )
            };
            let functions = found.into_iter().map(function).collect();
            Module { ptx: OnceLock::new(), parsed, log, functions, globals }
        }))
    }
}
