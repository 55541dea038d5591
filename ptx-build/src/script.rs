//! For build scripts.

use std::path::{Path, PathBuf};

use crate::{Build, Error, required};

/// What a crate's build script calls when the crate itself contains the kernels: compiles it to
/// `$OUT_DIR/kernels.ptx`.
///
/// ```no_run
/// // build.rs
/// fn main() -> Result<(), ptx_build::Error> {
///     ptx_build::build_script()
/// }
/// ```
/// ```ignore
/// // lib.rs
/// pub const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));
/// ```
///
/// Where no toolchain can compile for the GPU the file is empty and cargo shows a warning that says
/// what to install; with `PTX_REQUIRED=1` the build fails instead.
///
/// # Errors
/// As [`Build::run`].
pub fn build_script() -> Result<(), Error> {
    let here = variable("CARGO_MANIFEST_DIR")?;
    build_script_with(Build::new(here))
}

/// As [`build_script`], for another crate or with other settings; the target folder is set to `ptx` in
/// that of the cargo that runs the script, where all kernel crates and profiles share what they can.
///
/// # Errors
/// As [`Build::run`].
pub fn build_script_with(build: Build) -> Result<(), Error> {
    let out = variable("OUT_DIR")?;
    let path = out.join("kernels.ptx");
    let write = |ptx: &str| std::fs::write(&path, ptx).map_err(Error::io("write", &path));
    for name in ["PTX_REQUIRED", "PTX_RUSTC", "RUSTUP_HOME"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    // The compilation for the GPU comes here too, and needs no PTX of itself.
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "nvptx64") {
        return write("");
    }
    let manifest = build.dir().join("Cargo.toml");
    match build.target_dir(shared(&out).join("ptx")).run() {
        Ok(module) => {
            for source in &module.sources {
                println!("cargo::rerun-if-changed={}", source.display());
            }
            // Cargo does not name the sources of what is not in the workspace.
            let lock = manifest.ancestors().map(|dir| dir.join("Cargo.lock")).find(|l| l.exists());
            for file in [Some(manifest), lock].into_iter().flatten() {
                println!("cargo::rerun-if-changed={}", file.display());
            }
            write(&module.ptx)
        }
        Err(e) if e.is_missing_tool() && !required() => {
            // Cargo does not see that one has been installed.
            let package = std::env::var("CARGO_PKG_NAME").unwrap_or_default();
            let message = format!("no PTX, so no GPU: {e}\nand then: cargo clean -p {package}");
            for line in message.lines() {
                println!("cargo::warning={line}");
            }
            write("")
        }
        Err(e) => Err(e),
    }
}

/// The target folder that `out` lies in: cargo marks it, unless it was there before. A cargo that runs us holds the
/// folders of its profiles, and nothing beside them.
fn shared(out: &Path) -> &Path {
    let marked = out.ancestors().find(|dir| dir.join("CACHEDIR.TAG").exists());
    // PROFILE/build/CRATE/out
    let profile = || out.ancestors().find(|dir| dir.ends_with("build")).and_then(Path::parent);
    marked.or_else(|| profile()?.parent()).unwrap_or(out)
}

fn variable(name: &'static str) -> Result<PathBuf, Error> {
    std::env::var_os(name).map(PathBuf::from).ok_or(Error::NotABuildScript(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_share_what_is_built() {
        let dir = tempfile::tempdir().unwrap();
        for profile in ["debug", "x86_64-unknown-linux-gnu/release"] {
            let out = dir.path().join(profile).join("build/k-0/out");
            assert_eq!(shared(&out), dir.path().join(profile).parent().unwrap());
        }
        std::fs::write(dir.path().join("CACHEDIR.TAG"), "").unwrap();
        let out = dir.path().join("x86_64-unknown-linux-gnu/release/build/k-0/out");
        assert_eq!(shared(&out), dir.path());
        assert_eq!(shared(Path::new("/elsewhere")), Path::new("/elsewhere"));
    }
}
