//! The CUDA backend against the stand-in for the driver, which interprets the kernels' PTX: all there is of the
//! way to a GPU but the GPU.

use conformance::host::cuda;
use conformance::{HashClock, RadixFifo, stand_in, suite};
use gpu_host::SessionBuilder;

fn on_stand_in(builder: SessionBuilder) -> SessionBuilder {
    stand_in::install();
    cuda(builder)
}

suite!(hash_clock, HashClock, on_stand_in);
suite!(radix_fifo, RadixFifo, many = (4, 64), on_stand_in);
