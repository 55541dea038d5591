//! The kernels of the examples and benchmarks.
//!
//! Those that call the libOS are launched with blocks of at most 256 threads (`#[kernel(max_threads = 256)]`): at
//! 1,024 a GPU has 64 registers for each thread, and the values that live across a call would be spilled.
#![no_std]

pub mod echo;
pub mod grep;
pub mod http;
pub mod ladder;
pub mod matcher;
pub mod matrix;
pub mod own_eviction;
pub mod probe;
pub mod server;
pub mod verify;
pub mod wire;
pub mod writes;

/// The kernels as PTX; empty where no toolchain can compile for the GPU.
#[cfg(feature = "ptx")]
pub const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));
