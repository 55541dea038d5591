//! The suite on the emulated GPU: whoever serves it, whatever way pages take, all policies.

use conformance::host::emulated;
use conformance::{HashClock, HashFifo, RadixClock, RadixFifo, suite};
use gpu_host::{DaemonMode, EmulatedOptions, EngineChoice, Mode, Schedule};

suite!(inline_direct, HashClock, |builder| builder.emulated(emulated()));
suite!(inline_slots, HashClock, |builder| builder.emulated(emulated()).direct(false));
suite!(threads_direct, HashClock, |builder| builder
    .emulated(emulated())
    .daemon(DaemonMode::Threads(2)));
suite!(threads_slots_fifo, HashFifo, |builder| builder
    .emulated(emulated())
    .daemon(DaemonMode::Threads(1))
    .direct(false));
suite!(pread, HashClock, |builder| builder.emulated(emulated()).engine(EngineChoice::Pread));
suite!(io_uring, HashFifo, |builder| builder.emulated(emulated()).engine(EngineChoice::IoUring));
suite!(radix_inline_direct, RadixClock, |builder| builder.emulated(emulated()));
suite!(radix_threads_slots_fifo, RadixFifo, |builder| builder
    .emulated(emulated())
    .daemon(DaemonMode::Threads(2))
    .direct(false));
suite!(deterministic, HashClock, many = (2, 64), |builder| builder.emulated(EmulatedOptions {
    mode: Mode::Deterministic(Schedule::Random { seed: 1 }),
    ..emulated()
}));
suite!(deterministic_slots, HashFifo, many = (2, 64), |builder| builder.direct(false).emulated(
    EmulatedOptions {
        mode: Mode::Deterministic(Schedule::Pct { depth: 3, seed: 1 }),
        ..emulated()
    }
));
suite!(deterministic_radix, RadixClock, many = (2, 64), |builder| builder.emulated(
    EmulatedOptions { mode: Mode::Deterministic(Schedule::Random { seed: 2 }), ..emulated() }
));
