//! `ptxas`: does the PTX assemble, and what does each kernel need?

use std::cmp::Reverse;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::Error;

/// The architectures that are checked: the oldest that is supported, and two later generations.
pub const ARCHITECTURES: [u32; 3] = [70, 80, 90];

/// What a kernel needs on one architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The kernel.
    pub kernel: String,
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of local memory of a thread, callees included as far as known.
    pub stack: u32,
    /// Bytes that are stored to and loaded from local memory for want of registers, by the kernel and by what
    /// it calls: how much code does so, not how often it runs.
    pub spills: u32,
    /// Bytes of local memory of all functions together that are called through pointers: more than a thread needs
    /// beside its `stack`, unless one of them calls itself.
    pub pointers: u32,
}

/// The most that may be called through pointers, in bytes: what `gpu-host` adds to each thread's stack for it.
pub const POINTER_STACK: u32 = 2048;

/// The `ptxas` programs on this machine, in order: `PTXAS`, what `scripts/fetch-ptxas.sh` fetched,
/// `PATH`, the CUDA toolkit. Newer ones do not know the oldest architectures, hence the plural.
#[must_use]
pub fn find() -> Vec<PathBuf> {
    let env = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(ptxas) = env("PTXAS") {
        return vec![ptxas];
    }
    let fetched = env("PTXAS_DIR").unwrap_or_else(|| "target/ptxas".into());
    let mut found: Vec<PathBuf> = std::fs::read_dir(fetched)
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("ptxas"))
        .collect();
    // The newest first: versions are the names of the folders.
    found.sort();
    found.reverse();
    found.extend(std::env::split_paths(&env("PATH").unwrap_or_default()).map(|d| d.join("ptxas")));
    found.extend(env("CUDA_HOME").map(|d| d.join("bin/ptxas")));
    found.push("/usr/local/cuda/bin/ptxas".into());
    found.retain(|ptxas| ptxas.is_file());
    found
}

/// The first of the programs that assembles for `sm_{arch}`.
///
/// # Errors
/// [`Error::NoPtxas`].
pub fn for_architecture(arch: u32) -> Result<PathBuf, Error> {
    let arch = format!("sm_{arch}");
    let knows = |ptxas: &PathBuf| {
        // The help text lists the architectures.
        let output = Command::new(ptxas).arg("--help").output();
        output.is_ok_and(|o| String::from_utf8_lossy(&o.stdout).contains(&format!("'{arch}'")))
    };
    find().into_iter().find(knows).ok_or(Error::NoPtxas { arch })
}

/// Assembles a file for `sm_{arch}`; what each kernel needs.
///
/// # Errors
/// [`Error::Ptxas`] if it does not assemble, or does without a word about a kernel; [`Error::Io`] if `ptxas` cannot be
/// started.
pub fn assemble(ptxas: &Path, ptx: &Path, arch: u32) -> Result<Vec<Usage>, Error> {
    let output = Command::new(ptxas)
        .arg(format!("-arch=sm_{arch}"))
        .args(["-v", "-o", "/dev/null"])
        .arg(ptx)
        .output()
        .map_err(Error::io("start", ptxas))?;
    // It reports on either, depending on its version.
    let mut report = String::from_utf8_lossy(&output.stdout).into_owned();
    report.push_str(&String::from_utf8_lossy(&output.stderr));
    let usages = usage(&report);
    // What it does not say would be held to no bound.
    let says_all = !usages.is_empty() && usages.iter().all(|usage| usage.registers > 0);
    if !output.status.success() || !says_all {
        let (path, arch) = (ptx.to_owned(), format!("sm_{arch}"));
        return Err(Error::Ptxas { path, arch, output: report });
    }
    Ok(usages)
}

/// Assembles files for `sm_{arch}`, as many at once as there are processors; what each kernel needs, sorted
/// by name.
///
/// # Errors
/// As [`assemble`]: the first.
pub fn assemble_all(ptxas: &Path, files: &[PathBuf], arch: u32) -> Result<Vec<Usage>, Error> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(files.len());
    // The largest first: one that takes long and comes last has a processor to itself.
    let mut files: Vec<_> = files.iter().collect();
    files.sort_by_cached_key(|file| Reverse(std::fs::metadata(file).map_or(0, |data| data.len())));
    let next = AtomicUsize::new(0);
    let work = || {
        let mut usages = Vec::new();
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            usages.extend(assemble(ptxas, file, arch)?);
        }
        Ok(usages)
    };
    let mut usages = Vec::new();
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        for thread in running {
            usages.extend(thread.join().expect("it does not panic")?);
        }
        Ok(())
    })?;
    usages.sort_by(|a: &Usage, b| a.kernel.cmp(&b.kernel));
    Ok(usages)
}

/// What `ptxas -v` says of each kernel, sorted by name.
///
/// Functions that it lists after a kernel's first line are what that kernel calls. Those with a stack frame of
/// their own are called through pointers, as formatting is: they save the registers that they use when they are
/// called, which is no spilling.
#[must_use]
pub fn usage(report: &str) -> Vec<Usage> {
    let mut usages: Vec<Usage> = Vec::new();
    let mut function = "";
    for line in report.lines() {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            let kernel = rest.split('\'').next().unwrap_or_default().to_owned();
            usages.push(Usage { kernel, registers: 0, stack: 0, spills: 0, pointers: 0 });
        } else if let Some((_, name)) = line.split_once("Function properties for ") {
            function = name.trim();
        } else if let Some(usage) = usages.last_mut() {
            if line.contains("bytes stack frame") {
                let frame = before(line, " bytes stack frame");
                if usage.kernel == function {
                    usage.stack = usage.stack.max(frame);
                } else if frame > 0 {
                    usage.pointers += frame;
                    continue;
                }
                usage.spills +=
                    before(line, " bytes spill stores") + before(line, " bytes spill loads");
            } else if line.contains("registers") && line.contains("Used ") {
                usage.registers = before(line, " registers");
                usage.stack = usage.stack.max(before(line, " bytes cumulative stack size"));
            }
        }
    }
    usages.sort_by(|a, b| a.kernel.cmp(&b.kernel));
    usages
}

/// The number that stands before `unit` in `line`, or 0.
fn before(line: &str, unit: &str) -> u32 {
    let number = line.split_once(unit).and_then(|(text, _)| text.rsplit([' ', ',']).next());
    number.and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_read() {
        let report = "\
ptxas info    : 10101 bytes gmem
ptxas info    : Compiling entry function 'b' for 'sm_90'
ptxas info    : Function properties for b
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 64 bytes smem
ptxas info    : Compiling entry function 'a' for 'sm_90'
ptxas info    : Function properties for helper
    9000 bytes stack frame, 7 bytes spill stores, 7 bytes spill loads
ptxas info    : Function properties for callee
    0 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads
ptxas info    : Function properties for a
    592 bytes stack frame, 202 bytes spill stores, 300 bytes spill loads
ptxas info    : Used 255 registers, used 0 barriers, 600 bytes cumulative stack size
ptxas info    : Compile time = 3.0 ms
ptxas info    : Function properties for another
    0 bytes stack frame, 16 bytes spill stores, 16 bytes spill loads
";
        assert_eq!(
            usage(report),
            [
                Usage {
                    kernel: "a".into(),
                    registers: 255,
                    stack: 600,
                    spills: 546,
                    pointers: 9000
                },
                Usage { kernel: "b".into(), registers: 40, stack: 0, spills: 0, pointers: 0 },
            ]
        );
    }
}
