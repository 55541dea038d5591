//! How many PTX instructions of threads one worker executes in a second: `cargo bench -p gpu-emu --bench
//! ptx_speed`. A loop of sums, shifts, a load and a store; by whole warps, and by one lane alone.

use std::cell::UnsafeCell;
use std::time::Instant;

use gpu_emu::ptx::{Interpreter, Module, Options};
use gpu_emu::{Config, LaunchConfig};

const LOOP: &str = ".version 7.0\n.target sm_70\n.address_size 64\n\
.visible .entry turns(.param .u64 at, .param .u32 n) {\n\
.reg .pred %p<2>; .reg .b32 %r<8>; .reg .b64 %rd<4>;\n\
ld.param.u64 %rd1, [at]; ld.param.u32 %r1, [n]; mov.u32 %r2, %tid.x; mul.wide.u32 %rd2, %r2, 8; add.s64 %rd2, %rd1, %rd2;\n\
mov.u32 %r3, 0; mov.u32 %r4, 1;\n\
TURN: add.s32 %r4, %r4, %r3; shl.b32 %r5, %r4, 3; xor.b32 %r4, %r4, %r5; and.b32 %r6, %r4, 255;\n\
add.s32 %r4, %r4, %r6; mad.lo.s32 %r4, %r4, 5, %r3; ld.u64 %rd3, [%rd2]; add.s64 %rd3, %rd3, 1; st.u64 [%rd2], %rd3;\n\
add.s32 %r3, %r3, 1; setp.lt.u32 %p1, %r3, %r1; @%p1 bra TURN;\n\
ret;\n}\n";

fn main() {
    let module = Module::parse(LOOP).expect("the loop is PTX");
    let config = Config { workers: 1, ..Config::default() };
    let interpreter = Interpreter::new(config, module, Options::default());
    let words: Vec<UnsafeCell<u64>> = (0..32).map(|_| UnsafeCell::new(0)).collect();
    let address = words.as_ptr().expose_provenance() as u64;
    // SAFETY: they outlive all launches, and nobody else looks at them meanwhile.
    unsafe { interpreter.memory().add(address, 32 * 8) };
    for (what, threads, turns) in [("whole warps", 32, 300_000u32), ("one lane", 1, 2_000_000)] {
        let mut arguments = address.to_le_bytes().to_vec();
        arguments.extend(turns.to_le_bytes());
        let start = Instant::now();
        let report = interpreter.run("turns", LaunchConfig::new(1, threads), &arguments);
        let counts = report.expect("the loop ends").counts.expect("the interpreter counts");
        let seconds = start.elapsed().as_secs_f64();
        let rate = counts.thread_instructions as f64 / seconds / 1e6;
        println!("{what}: {rate:.0} million instructions a second");
    }
    // SAFETY: no launch is under way.
    let first = unsafe { *words[0].get() };
    assert_eq!(first, 2_300_000, "each turn of the first lane counts");
}
