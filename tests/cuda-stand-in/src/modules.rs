//! What the stand-in reads of PTX: kernels and variables.

use std::collections::BTreeMap;
use std::ffi::CString;

/// A loaded module.
pub(crate) struct Module {
    pub(crate) functions: BTreeMap<CString, Box<Function>>,
    pub(crate) globals: BTreeMap<CString, Box<[u64]>>,
}

/// A kernel of it.
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) args: usize,
    pub(crate) max_threads: i32,
    /// The address of the module's log, or 0.
    pub(crate) log: u64,
}

impl Module {
    /// A module, or what the compiler says.
    pub(crate) fn compile(text: &str) -> Result<Module, String> {
        if !text.trim_start().starts_with(".version") {
            return Err("ptxas fatal   : Missing .version directive at start of file".into());
        }
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
        let mut functions = BTreeMap::new();
        for entry in text.split(".entry ").skip(1) {
            let Some((name, rest)) = entry.split_once('(') else { continue };
            let args = rest.split_once("_param_0[").and_then(|(_, n)| n.split_once(']'));
            let args = args.and_then(|(n, _)| n.parse().ok()).unwrap_or(0);
            let max = rest.split_once(".maxntid ").and_then(|(_, n)| n.split_once(','));
            let max_threads = max.and_then(|(n, _)| n.parse().ok()).unwrap_or(1024);
            let function = Function { name: name.into(), args, max_threads, log };
            functions.insert(CString::new(name).map_err(|e| e.to_string())?, Box::new(function));
        }
        Ok(Module { functions, globals })
    }
}
