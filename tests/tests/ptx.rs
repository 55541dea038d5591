//! The suite's kernels as a GPU would get them, run by the PTX interpreter; `PTX_REQUIRED=1` makes the
//! absence of a toolchain for them an error.

use conformance::host::ptx;
use conformance::{HashClock, HashFifo, RadixClock, RadixFifo, suite};
use gpu_host::DaemonMode;

suite!(inline_direct, HashClock, ptx);
suite!(inline_slots, HashFifo, |builder| ptx(builder).direct(false));
suite!(threads_slots, RadixClock, |builder| ptx(builder)
    .daemon(DaemonMode::Threads(2))
    .direct(false));
suite!(threads_direct, RadixFifo, |builder| ptx(builder).daemon(DaemonMode::Threads(1)));
