//! The suite on an NVIDIA GPU, where there is one; `CUDA_REQUIRED=1` makes its absence an error.

use conformance::host::cuda;
use conformance::{HashClock, HashFifo, RadixClock, suite};
use gpu_host::DaemonMode;

suite!(hash_clock, HashClock, cuda);
suite!(one_daemon_thread_fifo, HashFifo, |builder| cuda(builder).daemon(DaemonMode::Threads(1)));
suite!(radix, RadixClock, cuda);
