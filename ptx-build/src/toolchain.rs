//! Finding a compiler that can compile for the GPU.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Error, TARGET};

/// The oldest compiler that compiles the device crates.
const OLDEST: (u32, u32) = (1, 95);

/// Where `core` for the GPU comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Core {
    /// Compiled beforehand: the toolchain has the target.
    Installed,
    /// Compiled along with the kernels (half a minute, once): the toolchain has its own source.
    FromSource,
}

/// A compiler that can compile for the GPU.
#[derive(Clone, Debug)]
pub struct Toolchain {
    /// The compiler.
    pub rustc: PathBuf,
    /// The cargo that belongs to it.
    pub cargo: PathBuf,
    /// Its version, as `rustc --version` says it.
    pub version: String,
    /// Where `core` comes from.
    pub core: Core,
}

/// What was found out about a compiler.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The compiler.
    pub rustc: PathBuf,
    /// The toolchain that it makes, or what it lacks.
    pub verdict: Result<Toolchain, String>,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.rustc.display())?;
        match &self.verdict {
            Ok(t) if t.core == Core::Installed => write!(f, "{}, has the target", t.version),
            Ok(t) => write!(f, "{}, has its source", t.version),
            Err(why) => f.write_str(why),
        }
    }
}

impl Toolchain {
    /// The best toolchain here: one that has the target before one that has only its source, and
    /// within that the one in use, then rustup's others, then the system's.
    ///
    /// # Errors
    /// [`Error::NoToolchain`], which says what was looked at and what would help.
    pub fn find() -> Result<Toolchain, Error> {
        let candidates = Toolchain::candidates();
        let usable = candidates.iter().filter_map(|c| c.verdict.as_ref().ok());
        // The first of those that are equally good.
        usable.min_by_key(|t| t.core).cloned().ok_or_else(|| Error::NoToolchain {
            tried: candidates.iter().map(|c| format!("  {c}\n")).collect(),
        })
    }

    /// All compilers that were looked at, in order.
    #[must_use]
    pub fn candidates() -> Vec<Candidate> {
        let mut seen = Vec::new();
        let mut candidates = Vec::new();
        for rustc in places() {
            let verdict = match sysroot(&rustc) {
                // Several names may lead to one toolchain (rustup's do).
                Ok(root) if seen.contains(&root) => continue,
                Ok(root) => {
                    seen.push(root.clone());
                    examine(&root)
                }
                Err(why) => Err(why),
            };
            candidates.push(Candidate { rustc, verdict });
        }
        candidates
    }
}

/// Compilers to look at, in order. `PTX_RUSTC`, if set, is the only one.
fn places() -> Vec<PathBuf> {
    let env = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(rustc) = env("PTX_RUSTC") {
        return vec![rustc];
    }
    let mut places = vec![env("RUSTC").unwrap_or_else(|| "rustc".into())];
    let rustup = env("RUSTUP_HOME").or_else(|| env("HOME").map(|home| home.join(".rustup")));
    if let Some(rustup) = rustup {
        let entries = std::fs::read_dir(rustup.join("toolchains")).into_iter().flatten().flatten();
        let mut others: Vec<_> = entries.map(|e| e.path().join("bin/rustc")).collect();
        others.retain(|rustc| rustc.exists());
        others.sort();
        places.extend(others);
    }
    let system = PathBuf::from("/usr/bin/rustc");
    if system.exists() {
        places.push(system);
    }
    places
}

fn ask(rustc: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(rustc)
        .args(arguments)
        .output()
        .map_err(|e| format!("cannot be started: {e}"))?;
    if !output.status.success() {
        return Err(format!("fails: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn sysroot(rustc: &Path) -> Result<PathBuf, String> {
    ask(rustc, &["--print", "sysroot"]).map(PathBuf::from)
}

fn examine(sysroot: &Path) -> Result<Toolchain, String> {
    // The compiler itself, not rustup's stand-in, which would follow its own idea of a toolchain.
    let (rustc, cargo) = (sysroot.join("bin/rustc"), sysroot.join("bin/cargo"));
    let version = ask(&rustc, &["--version"])?;
    if minor_version(&version).is_none_or(|v| v < OLDEST) {
        return Err(format!("{version} is older than {}.{}", OLDEST.0, OLDEST.1));
    }
    if !cargo.exists() {
        return Err(format!("{version} has no cargo beside it"));
    }
    let lib = sysroot.join("lib/rustlib");
    let core = if lib.join(TARGET).join("lib").exists() {
        Core::Installed
    } else if lib.join("src/rust/library/core").exists() {
        Core::FromSource
    } else {
        return Err(format!("{version} has neither the target nor its own source"));
    };
    Ok(Toolchain { rustc, cargo, version, core })
}

/// Major and minor version in the output of `rustc --version`.
fn minor_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split_whitespace().nth(1)?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(minor_version("rustc 1.96.0 (ac68faa20 2026-05-25)"), Some((1, 96)));
        assert_eq!(minor_version("rustc 1.98.0-nightly (0000000 2026-07-01)"), Some((1, 98)));
        assert_eq!(minor_version("clang"), None);
    }

    #[test]
    fn a_missing_compiler_is_named_with_its_remedy() {
        let tried = format!("  {}\n", Candidate { rustc: "x".into(), verdict: Err("no".into()) });
        let message = Error::NoToolchain { tried }.to_string();
        assert!(message.contains("x: no") && message.contains("rustup target add"), "{message}");
    }
}
