//! What can go wrong, and what to do about it.

use std::path::{Path, PathBuf};

/// Why a kernel crate could not be compiled or checked.
#[derive(thiserror::Error)]
pub enum Error {
    /// No installed compiler can compile for the GPU.
    #[error("no Rust toolchain here can compile for {target}:\n{tried}{REMEDY}", target = crate::TARGET)]
    NoToolchain {
        /// Which compilers were looked at, and what each lacks: a line each.
        tried: String,
    },
    /// No `ptxas` that knows one of the architectures.
    #[error(
        "no ptxas knows {arch}: run scripts/fetch-ptxas.sh, or put one on PATH, or name one in PTXAS"
    )]
    NoPtxas {
        /// The architecture, such as `sm_90`.
        arch: String,
    },
    /// The compiler refused the kernel crate.
    #[error("the crate in {} does not compile for the GPU:\n{output}", dir.display())]
    Compile {
        /// Where the crate is.
        dir: PathBuf,
        /// What the compiler said.
        output: String,
    },
    /// The compiler was content and left no PTX.
    #[error(
        "the compiler left no PTX at {}: is the crate a library? remove that folder and try again",
        path.display()
    )]
    NoPtx {
        /// Where it should be.
        path: PathBuf,
    },
    /// `ptxas` refused the PTX.
    #[error("ptxas refuses {} for {arch}:\n{output}", path.display())]
    Ptxas {
        /// The PTX.
        path: PathBuf,
        /// The architecture.
        arch: String,
        /// What `ptxas` said.
        output: String,
    },
    /// The PTX assembles, but is not as it has to be.
    #[error("{} finding(s):\n  {}", .0.len(), .0.join("\n  "))]
    Findings(Vec<String>),
    /// A build script's function was called outside a build script.
    #[error("{0} is not set: this function is for build scripts, which cargo runs with it set")]
    NotABuildScript(&'static str),
    /// A file could not be read or written, or a program not be started.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was attempted, such as `read`.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

const REMEDY: &str = "\
install one of these, whichever is easiest:
  rustup target add nvptx64-nvidia-cuda
  rustup component add rust-src
  apt-get install rustc-web rust-web-src   (Debian; it does not disturb rustup)
or name a compiler that has one of them in PTX_RUSTC";

/// As the message: a build script whose `main` returns an error is shown this way.
impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl Error {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        move |source| Error::Io { doing, path: path.to_owned(), source }
    }

    /// Whether only a tool is missing, so that a machine without it may skip the work.
    #[must_use]
    pub fn is_missing_tool(&self) -> bool {
        matches!(self, Error::NoToolchain { .. } | Error::NoPtxas { .. })
    }
}

/// Whether `PTX_REQUIRED=1` asks for failures instead of skips.
#[must_use]
pub fn required() -> bool {
    std::env::var_os("PTX_REQUIRED").is_some_and(|v| !v.is_empty() && v != "0")
}
