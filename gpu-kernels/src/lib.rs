//! The kernels of the examples and benchmarks.
