//! The suite on the PTX interpreter: the kernels that a GPU would get, instruction by instruction.

use conformance::host::interpreted;
use conformance::{HashClock, RadixFifo, suite};
use gpu_host::DaemonMode;

suite!(inline_direct, HashClock, interpreted);
suite!(threads_slots_fifo, RadixFifo, |builder| interpreted(builder)
    .daemon(DaemonMode::Threads(2))
    .direct(false));
