//! Compiles a crate of GPU kernels to PTX, and checks the PTX. Needs no CUDA: a Rust toolchain with
//! the `nvptx64-nvidia-cuda` target, or with its own source, does.
//!
//! A crate whose library contains `#[kernel]` functions gets its PTX in its build script:
//!
//! ```no_run
//! // build.rs, with `ptx-build` (default-features = false) under [build-dependencies]
//! fn main() -> Result<(), ptx_build::Error> {
//!     ptx_build::build_script()
//! }
//! ```
//! ```ignore
//! // src/lib.rs
//! pub const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));
//! ```
//!
//! `examples/external-kernel` is such a crate. From a program or a test:
//!
//! ```no_run
//! let module = ptx_build::Build::new("gpu-kernels").run()?;
//! ptx_build::check::module(&module.ptx)?;
//! # Ok::<(), ptx_build::Error>(())
//! ```
//!
//! The command-line tool does both, and says what this machine lacks: `ptx-build build`, `check`,
//! `doctor`.

mod build;
pub mod check;
pub mod definite;
mod error;
pub mod ptx;
pub mod ptxas;
pub mod reach;
mod script;
pub mod toolchain;

pub use build::{Build, Module};
pub use error::{Error, required};
pub use script::{build_script, build_script_with};

/// The target that kernels are compiled for.
pub const TARGET: &str = "nvptx64-nvidia-cuda";
