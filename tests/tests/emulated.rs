//! The suite on the emulated GPU: whoever serves it, whatever way pages take, all policies.

use conformance::host::emulated;
use conformance::{FifoHash, HashClock, suite};
use gpu_host::{DaemonMode, EmulatedOptions, EngineChoice, Mode, Schedule};

suite!(inline_direct, HashClock, |builder| builder.emulated(emulated()));
suite!(inline_slots, HashClock, |builder| builder.emulated(emulated()).direct(false));
suite!(threads_direct, HashClock, |builder| builder
    .emulated(emulated())
    .daemon(DaemonMode::Threads(2)));
suite!(threads_slots_fifo, FifoHash, |builder| builder
    .emulated(emulated())
    .daemon(DaemonMode::Threads(1))
    .direct(false));
suite!(pread, HashClock, |builder| builder.emulated(emulated()).engine(EngineChoice::Pread));
suite!(io_uring, FifoHash, |builder| builder.emulated(emulated()).engine(EngineChoice::IoUring));
suite!(deterministic, HashClock, many = (2, 64), |builder| builder.emulated(EmulatedOptions {
    mode: Mode::Deterministic(Schedule::Random { seed: 1 }),
    ..emulated()
}));
suite!(deterministic_slots, FifoHash, many = (2, 64), |builder| builder.direct(false).emulated(
    EmulatedOptions {
        mode: Mode::Deterministic(Schedule::Pct { depth: 3, seed: 1 }),
        ..emulated()
    }
));
