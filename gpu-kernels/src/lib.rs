//! The kernels of the examples and benchmarks.
#![no_std]

pub mod grep;
pub mod ladder;
pub mod probe;
