//! The suite on the PTX interpreter: the kernels that a GPU would get, instruction by instruction.

use conformance::host::{Tree, ptx};
use conformance::{Backend, HashClock, RadixFifo, suite};
use gpu_host::DaemonMode;

suite!(inline_direct, HashClock, ptx);
suite!(threads_slots_fifo, RadixFifo, |builder| ptx(builder)
    .daemon(DaemonMode::Threads(2))
    .direct(false));

#[test]
fn launches_are_counted() {
    let backend = Backend::new("ptx", ptx);
    let Some(bench) = backend.session::<HashClock>(|builder| builder) else { return };
    let counts = bench.session.counts().expect("the interpreter counts");
    assert_eq!(counts.thread_instructions, 0);
    let tree = Tree::new();
    let paths = [tree.file("a", 1, 100)];
    bench.ops((1, 32), 0, &paths, &[]);
    let counts = bench.session.counts().expect("the interpreter counts");
    assert!(counts.warp_instructions > 0 && counts.thread_instructions > counts.warp_instructions);
}
