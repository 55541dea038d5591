//! Small programs in PTX, each with what it must compute; and the kernels of `ptx-build/primitives`,
//! as compiled.

mod ptx_common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use gpu_emu::ptx::{Illegal, Interpreter, Module, Options, PtxFault};
use gpu_emu::{Config, Fault, LaunchConfig, LogSink};
use ptx_common::{Gpu, kernel, kernel_for, words};

const PRIMITIVES: &str = include_str!("ptx/primitives.ptx");

/// Arguments of all primitives.
fn primitive(at: &[u64], out: &[u64], value: u64, other: u64) -> Vec<u8> {
    words(&[at.as_ptr() as u64, out.as_ptr() as u64, value, other])
}

#[test]
fn every_primitive_runs() {
    let module = Module::parse(PRIMITIVES).unwrap();
    let gpu = Gpu::new(module.clone(), Options { check: true, ..Options::default() });
    let mut ran = 0;
    for name in module.kernels().filter(|&name| name != "speak") {
        let (at, out) = (gpu.words(64), gpu.words(64));
        // Those that wait wait for another value than is there.
        at.set(0, 7);
        let arguments = primitive(at.as_slice(), out.as_slice(), 64, 3);
        if let Err(e) = gpu.interpreter.run(name, LaunchConfig::new(1, 32), &arguments) {
            panic!("{e}");
        }
        ran += 1;
    }
    assert!(ran >= 50, "{ran}");
}

#[test]
fn primitives_compute() {
    let gpu = Gpu::new(Module::parse(PRIMITIVES).unwrap(), Options::default());
    let run = |name: &str, at: u64, value, other, threads: u32| {
        let (word, out) = (gpu.words(64), gpu.words(64));
        word.set(0, at);
        let arguments = primitive(word.as_slice(), out.as_slice(), value, other);
        gpu.interpreter.run(name, LaunchConfig::new(2, threads), &arguments).unwrap();
        (word.get(0), out.get(0))
    };
    assert_eq!(run("device32_add_relaxed", 5, 3, 0, 64).0, 5 + 3 * 128);
    assert_eq!(run("device32_sub_release", 1000, 2, 0, 32).0, 1000 - 2 * 64);
    assert_eq!(run("device32_max_relaxed", 5, 9, 0, 32), (9, 9));
    assert_eq!(run("device64_cas_acq_rel_acquire", 5, 5, 6, 32).0, 6);
    assert_eq!(run("warp_ballot", 0, 1, 0, 32).1, u64::from(u32::MAX));
    assert_eq!(run("warp_ballot", 0, 0, 0, 32).1, 0);
    assert_eq!(run("warp_shfl_u64", 0, u64::MAX - 7, 0, 32).1, u64::MAX - 7);
    assert_eq!(run("warp_match_any", 0, 3, 0, 32).1, u64::from(u32::MAX));
    assert_eq!(run("warp_active_mask", 0, 3, 0, 32).1, u64::from(u32::MAX));
    // The leader's: the value and its number; the last block to write wins.
    assert!([100, 100 + 96].contains(&run("block_broadcast", 0, 100, 0, 96).1));
    assert_eq!(run("system32_load_acquire", 77, 0, 0, 1).1, 77);
}

#[test]
fn a_block_copies_and_clears() {
    let gpu =
        Gpu::new(Module::parse(PRIMITIVES).unwrap(), Options { check: true, ..Options::default() });
    for bytes in [0usize, 1, 15, 16, 17, 4096, 5000] {
        let (from, to) = (gpu.words(1024), gpu.words(1024));
        (0..1024).for_each(|n| from.set(n, n as u64 * 0x0101_0101_0101));
        let arguments = primitive(from.as_slice(), to.as_slice(), bytes as u64, 0xab);
        gpu.interpreter.run("block_copy", LaunchConfig::new(1, 96), &arguments).unwrap();
        assert_eq!(to.bytes()[..bytes], from.bytes()[..bytes]);
        assert!(to.bytes()[bytes..].iter().all(|&byte| byte == 0));
        gpu.interpreter.run("block_fill", LaunchConfig::new(1, 96), &arguments).unwrap();
        assert!(to.bytes()[..bytes].iter().all(|&byte| byte == 0xab));
        assert!(to.bytes()[bytes..].iter().all(|&byte| byte == 0));
    }
}

#[test]
fn lines_of_the_log_reach_the_host_with_their_threads() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&lines);
    let sink: LogSink = Arc::new(move |kernel, lane, text| {
        seen.lock().unwrap().push((kernel.to_owned(), lane.to_string(), text.to_owned()));
    });
    let config = Config { log: Some(sink), workers: 1, ..Config::default() };
    let module = Module::parse(PRIMITIVES).unwrap();
    let interpreter = Interpreter::new(config, module, Options::default());
    for _ in 0..2 {
        let shape = LaunchConfig::new(1, 2).shared_bytes(48);
        interpreter.run("speak", shape, &[]).unwrap();
    }
    let lines = lines.lock().unwrap();
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[1].0, "speak");
    assert!(lines[1].1.contains("thread (1, 0, 0)"), "{:?}", lines[1]);
    assert!(lines[1].2.starts_with("48 bytes at 0x"), "{:?}", lines[1]);
}

/// Runs `body` in 32 threads, each of which leaves `%rd0` in its place; `%r0` is its number.
fn results(body: &str) -> Vec<u64> {
    let module = Module::parse(&kernel_for("sm_80", body)).unwrap();
    let gpu = Gpu::new(module, Options::default());
    let out = gpu.words(32);
    let arguments = words(&[out.as_slice().as_ptr() as u64]);
    match gpu.interpreter.run("k", LaunchConfig::new(1, 32), &arguments) {
        Ok(_) => out.as_slice().to_vec(),
        Err(e) => panic!("{e}\n{body}"),
    }
}

/// What each thread computes alone, from its number.
fn computes(body: &str, expected: impl Fn(u64) -> u64) {
    let found = results(body);
    for (n, found) in (0..).zip(found) {
        assert_eq!(found, expected(n), "thread {n} of\n{body}");
    }
}

#[test]
fn arithmetic() {
    let wide = |body: &str| format!("{body} cvt.u64.u32 %rd0, %r1;");
    computes(&wide("mul.lo.u32 %r1, %r0, -3;"), |n| {
        u64::from((n as u32).wrapping_mul(0u32.wrapping_sub(3)))
    });
    computes(&wide("mul.hi.u32 %r1, %r0, 0x80000001;"), |n| (n * 0x8000_0001) >> 32);
    computes("mul.wide.s32 %rd0, %r0, -5;", |n| (n as i64 * -5) as u64);
    computes(&wide("mad.lo.s32 %r1, %r0, %r0, -1;"), |n| u64::from((n * n).wrapping_sub(1) as u32));
    computes(&wide("sub.s32 %r1, 3, %r0; div.s32 %r1, %r1, 2;"), |n| {
        u64::from(((3 - n as i32) / 2) as u32)
    });
    computes(&wide("sub.s32 %r1, 3, %r0; rem.s32 %r1, %r1, 2;"), |n| {
        u64::from(((3 - n as i32) % 2) as u32)
    });
    computes(&wide("sub.s32 %r1, 3, %r0; abs.s32 %r1, %r1;"), |n| n.abs_diff(3));
    computes(&wide("sub.s32 %r1, 3, %r0; max.s32 %r1, %r1, -4;"), |n| {
        u64::from((3 - n as i32).max(-4) as u32)
    });
    computes(
        &wide("sub.s32 %r1, 3, %r0; min.u32 %r1, %r1, 7;"),
        |n| if n <= 3 { 3 - n } else { 7 },
    );
    computes(&wide("sad.u32 %r1, %r0, 5, 100;"), |n| 100 + n.abs_diff(5));
    computes(&wide("shl.b32 %r1, 1, %r0; shl.b32 %r1, %r1, %r0;"), |n| {
        if n < 16 { 1 << (2 * n) } else { 0 }
    });
    computes("shr.s64 %rd0, -256, %r0;", |n| (-256i64 >> n) as u64);
    computes("cvt.u64.u32 %rd1, %r0; sub.s64 %rd0, 0, %rd1; shr.u64 %rd0, %rd0, 200;", |_| 0);
    // 128 bits by halves.
    computes("cvt.u64.u32 %rd1, %r0; add.cc.u64 %rd2, %rd1, -1; addc.u64 %rd0, 5, 0;", |n| {
        if n > 0 { 6 } else { 5 }
    });
    computes("cvt.u64.u32 %rd1, %r0; sub.cc.u64 %rd2, %rd1, 4; subc.u64 %rd0, 5, 0;", |n| {
        if n < 4 { 4 } else { 5 }
    });
}

#[test]
fn bits() {
    let wide = |body: &str| format!("{body} cvt.u64.u32 %rd0, %r1;");
    computes(&wide("popc.b32 %r1, %r0;"), |n| u64::from(n.count_ones()));
    computes(&wide("clz.b32 %r1, %r0;"), |n| u64::from((n as u32).leading_zeros()));
    computes(&wide("brev.b32 %r1, %r0;"), |n| u64::from((n as u32).reverse_bits()));
    computes(&wide("bfind.u32 %r1, %r0;"), |n| {
        u64::from((n as u32).checked_ilog2().unwrap_or(u32::MAX))
    });
    computes(&wide("bfe.u32 %r1, 0xfedcba98, %r0, 4;"), |n| (0xfedc_ba98 >> n) & 0xf);
    computes(&wide("bfi.b32 %r1, 0xf, 0, %r0, 3;"), |n| (7 << n) & 0xffff_ffff);
    computes(&wide("prmt.b32 %r1, 0x33221100, 0x77665544, %r0;"), |n| {
        let lowest = 0x11 * (n & 7);
        // The other nibbles of the selector: 0, or 1 from sixteen on; a ninth bit spreads the sign.
        let second = if n >= 16 { 0x1100 } else { 0 };
        second | if n & 8 != 0 { 0 } else { lowest }
    });
    computes(&wide("prmt.b32.f4e %r1, 0x33221100, 0x77665544, %r0;"), |n| {
        (0x7766_5544_3322_1100 >> (8 * (n & 3))) & 0xffff_ffff
    });
    computes(&wide("prmt.b32.ecl %r1, 0x33221100, 0, %r0;"), |n| {
        [0x3322_1100, 0x3322_1111, 0x3322_2222, 0x3333_3333][(n & 3) as usize]
    });
    computes(&wide("lop3.b32 %r1, %r0, 12, 10, 0x96;"), |n| n ^ 12 ^ 10);
    computes(&wide("shf.l.wrap.b32 %r1, 0x80000000, 1, %r0;"), |n| {
        ((0x1_8000_0000u64 << n) >> 32) & 0xffff_ffff
    });
    computes("mov.b64 %rd0, {%r0, 7};", |n| 7 << 32 | n);
    computes(
        "mov.b64 {%r1, %r2}, 0x100000002; add.s32 %r1, %r1, %r2; cvt.u64.u32 %rd0, %r1;",
        |_| 3,
    );
}

#[test]
fn predicates_and_conversions() {
    computes("setp.lt.u32 %p1, %r0, 7; selp.b64 %rd0, 1, 2, %p1;", |n| if n < 7 { 1 } else { 2 });
    computes(
        "setp.gt.u32 %p3, %r0, 3; setp.lt.and.u32 %p1|%p2, %r0, 7, %p3; selp.b64 %rd0, 1, 0, %p1; @%p2 add.s64 %rd0, %rd0, 2;",
        |n| u64::from(n > 3 && n < 7) | u64::from(n >= 7) << 1,
    );
    computes("setp.ge.s32 %p1, %r0, 5; not.pred %p2, %p1; selp.b64 %rd0, 1, 0, %p2;", |n| {
        u64::from(n < 5)
    });
    computes("sub.s32 %r1, %r0, 9; cvt.s64.s32 %rd0, %r1;", |n| (n as i64 - 9) as u64);
    computes("mul.lo.u32 %r1, %r0, 100; cvt.s32.s8 %r1, %r1; cvt.s64.s32 %rd0, %r1;", |n| {
        (n * 100) as i8 as i64 as u64
    });
    computes(
        "sub.s32 %r1, %r0, 9; mul.lo.s32 %r1, %r1, 100; cvt.sat.u8.s32 %r1, %r1; cvt.u64.u32 %rd0, %r1;",
        |n| ((n as i64 - 9) * 100).clamp(0, 255) as u64,
    );
    computes("slct.b64.s32 %rd0, 1, 2, %r0;", |_| 1);
    computes("sub.s32 %r1, %r0, 9; set.lt.u32.s32 %r1, %r1, 0; cvt.u64.u32 %rd0, %r1;", |n| {
        if n < 9 { 0xffff_ffff } else { 0 }
    });
}

#[test]
fn floating_point() {
    computes("cvt.rn.f64.u32 %fd1, %r0; sqrt.rn.f64 %fd1, %fd1; mov.b64 %rd0, %fd1;", |n| {
        (n as f64).sqrt().to_bits()
    });
    computes(
        "cvt.rn.f32.u32 %f1, %r0; fma.rn.f32 %f1, %f1, 0f3F000000, 0fBF800000; cvt.rmi.s32.f32 %r1, %f1; cvt.s64.s32 %rd0, %r1;",
        |n| (n as f64 * 0.5 - 1.0).floor() as i64 as u64,
    );
    computes(
        "cvt.rn.f32.u32 %f1, %r0; div.rn.f32 %f1, %f1, 0f00000000; setp.nan.f32 %p1, %f1, %f1; selp.b64 %rd0, 1, 0, %p1;",
        |n| u64::from(n == 0),
    );
    computes("cvt.rn.f32.u32 %f1, %r0; cvt.f64.f32 %fd1, %f1; cvt.rzi.u64.f64 %rd0, %fd1;", |n| n);
}

#[test]
fn lanes_diverge_and_meet_again() {
    // Each lane takes as many turns as its number; then all vote together.
    computes(
        "mov.u32 %r1, 0; setp.eq.u32 %p1, %r0, 0; @%p1 bra END;\n\
         TURN: add.s32 %r1, %r1, 1; setp.lt.u32 %p1, %r1, %r0; @%p1 bra TURN;\n\
         END: activemask.b32 %r2; shl.b32 %r2, %r2, 8; or.b32 %r2, %r2, %r1; cvt.u64.u32 %rd0, %r2;",
        |n| u64::from(u32::MAX << 8) | n,
    );
    // The branch of a table.
    computes(
        "T: .branchtargets A, B, C;\n and.b32 %r1, %r0, 3; min.u32 %r1, %r1, 2; brx.idx %r1, T;\n\
         A: mov.b64 %rd0, 10; bra.uni END;\n B: mov.b64 %rd0, 20; bra.uni END;\n C: mov.b64 %rd0, 30;\n END:",
        |n| [10, 20, 30, 30][(n % 4) as usize],
    );
}

#[test]
fn a_lane_that_spins_lets_the_lane_it_waits_for_go_on() {
    // Lane 31 stores what lane 0 spins for, further down than lane 0 spins.
    computes(
        "setp.ne.u32 %p1, %r0, 0; @!%p1 st.shared.u32 [word], 0; bar.warp.sync -1; @%p1 bra OTHERS;\n\
         SPIN: ld.shared.u32 %r1, [word]; setp.eq.u32 %p1, %r1, 0; @%p1 bra SPIN;\n bra.uni END;\n\
         OTHERS: setp.ne.u32 %p1, %r0, 31; @%p1 bra END; st.shared.u32 [word], 5;\n\
         END: bar.warp.sync -1; ld.shared.u32 %r1, [word]; cvt.u64.u32 %rd0, %r1;",
        |_| 5,
    );
}

#[test]
fn lanes_exchange() {
    computes("shfl.sync.bfly.b32 %r1, %r0, 3, 31, -1; cvt.u64.u32 %rd0, %r1;", |n| n ^ 3);
    computes(
        "shfl.sync.up.b32 %r1|%p1, %r0, 1, 0, -1; selp.b32 %r1, %r1, 99, %p1; cvt.u64.u32 %rd0, %r1;",
        |n| if n == 0 { 99 } else { n - 1 },
    );
    computes("and.b32 %r1, %r0, 3; match.any.sync.b32 %r2, %r1, -1; cvt.u64.u32 %rd0, %r2;", |n| {
        0x1111_1111 << (n & 3)
    });
    computes("match.all.sync.b32 %r2|%p1, %r0, -1; selp.b64 %rd0, 1, 0, %p1;", |_| 0);
    computes(
        "setp.lt.u32 %p1, %r0, 4; vote.sync.any.pred %p2, %p1, -1; selp.b64 %rd0, 1, 0, %p2;",
        |_| 1,
    );
    computes("redux.sync.add.u32 %r1, %r0, -1; cvt.u64.u32 %rd0, %r1;", |_| 31 * 16);
    computes(
        "setp.lt.u32 %p1, %r0, 4; bar.red.popc.u32 %r1, 0, %p1; cvt.u64.u32 %rd0, %r1;",
        |_| 4,
    );
}

#[test]
fn local_memory_is_each_threads_own() {
    computes(
        ".local .align 8 .b8 mine[64];\n mov.b64 %rd1, mine; cvta.local.u64 %rd2, %rd1;\n\
         st.u32 [%rd2+60], %r0; ld.local.s32 %rd0, [%rd1+60]; isspacep.local %p1, %rd2; @!%p1 mov.b64 %rd0, -1;",
        |n| n,
    );
}

#[test]
fn nobody_clears_shared_and_local_memory() {
    computes(
        ".local .align 8 .b8 mine[16];\n ld.shared.u32 %r1, [word]; ld.local.u32 %r2, [mine+8]; setp.ne.u32 %p1, %r1, 0;\n\
         setp.ne.and.u32 %p1, %r2, 0, %p1; selp.b64 %rd0, 1, 0, %p1;",
        |_| 1,
    );
}

#[test]
fn dynamic_shared_memory_is_aligned_and_whole() {
    let body = "mov.b64 %rd1, many; and.b64 %rd0, %rd1, 127; mov.b64 %rd2, more; and.b64 %rd3, %rd2, 127;\n\
        or.b64 %rd0, %rd0, %rd3; mul.wide.u32 %rd4, %r0, 4; add.s64 %rd1, %rd1, %rd4; st.shared.u32 [%rd1], %r0;";
    let variables =
        ".extern .shared .align 128 .b8 many[];\n.extern .shared .align 4 .b8 more[];\n.visible";
    let gpu = Gpu::new(
        Module::parse(&kernel(body).replace(".visible", variables)).unwrap(),
        Options::default(),
    );
    let out = gpu.words(32);
    let arguments = words(&[out.as_slice().as_ptr() as u64]);
    let shape = LaunchConfig::new(1, 32).shared_bytes(128);
    gpu.interpreter.run("k", shape, &arguments).unwrap();
    assert_eq!(out.as_slice(), [0; 32]);
}

#[test]
fn variables_begin_as_numbers_of_their_types() {
    let variables = ".global .f32 half = 0.5;\n.global .f64 less[2] = {-1.5, 0d3FF0000000000000};\n\
        .global .b32 one = 1.0;\n.global .b64 two = 2.0;\n.global .f32 three = 0f40400000;\n.global .s32 four = -4;\n.visible";
    let read = |name: &str, ty: &str| {
        let body = format!("mov.b64 %rd1, {name}; ld.global.b{ty} %rd0, [%rd1];");
        let text = kernel(&body).replace(".visible", variables);
        let gpu = Gpu::new(Module::parse(&text).unwrap(), Options::default());
        let out = gpu.words(32);
        let arguments = words(&[out.as_slice().as_ptr() as u64]);
        gpu.interpreter.run("k", LaunchConfig::new(1, 1), &arguments).unwrap();
        out.get(0)
    };
    assert_eq!(read("half", "32"), u64::from(0.5f32.to_bits()));
    assert_eq!(read("less", "64"), (-1.5f64).to_bits());
    assert_eq!(read("less+8", "64"), 1f64.to_bits());
    assert_eq!([read("one", "32"), read("three", "32")], [1f32, 3.0].map(|n| n.to_bits().into()));
    assert_eq!([read("two", "64"), read("four", "32")], [2f64.to_bits(), 0xffff_fffc]);
    for wrong in [".f32 x = 1", ".u32 x = 1.5", ".f64 x = 0f3F800000", ".u64 x = word", ".pred x"] {
        let text = kernel("").replace(".visible", &format!(".global {wrong};\n.visible"));
        assert!(Module::parse(&text).is_err(), "{wrong}");
    }
}

#[test]
fn a_variables_name_says_where_it_is() {
    computes(
        ".local .align 8 .b8 mine[16];\n st.b32 [mine+4], %r0; ld.volatile.u32 %r1, [mine+4]; setp.eq.u32 %p1, %r0, 3;\n\
         @%p1 st.u32 [word+8], %r1; bar.sync 0; ld.u32 %r2, [word+8]; add.u32 %r1, %r1, %r2; cvt.u64.u32 %rd0, %r1;",
        |n| n + 3,
    );
    computes(
        "setp.eq.u32 %p1, %r0, 0; @%p1 st.shared.u32 [word], 0; bar.sync 0; atom.add.u32 _, [word], 2;\n\
         bar.sync 0; mov.u32 %r2, word; ld.shared.u32 %r1, [%r2]; cvt.u64.u32 %rd0, %r1;",
        |_| 64,
    );
}

#[test]
fn local_memory_is_aligned_as_its_variables_want() {
    let function = ".func (.param .b64 at) f() {\n.local .align 256 .b8 mine[8]; .reg .b64 %rd<3>;\n\
        mov.b64 %rd1, mine; cvta.local.u64 %rd2, %rd1; st.param.b64 [at], %rd2; ret;\n}\n.visible .entry";
    let body = ".local .align 8 .b8 own[24]; mov.b64 %rd1, own; st.local.b64 [%rd1], 0;\n\
        { .param .b64 at; call.uni (at), f, (); ld.param.b64 %rd0, [at]; } and.b64 %rd0, %rd0, 255;";
    let text = kernel(body).replacen(".visible .entry", function, 1);
    let gpu = Gpu::new(Module::parse(&text).unwrap(), Options::default());
    let out = gpu.words(32);
    let arguments = words(&[out.as_slice().as_ptr() as u64]);
    gpu.interpreter.run("k", LaunchConfig::new(1, 32), &arguments).unwrap();
    assert_eq!(out.as_slice(), [0; 32]);
}

fn fault(body: &str, options: Options) -> Fault {
    let gpu = Gpu::new(Module::parse(&kernel(body)).unwrap(), options);
    let out = gpu.words(32);
    let arguments = words(&[out.as_slice().as_ptr() as u64]);
    let shape = LaunchConfig::new(2, 32).timeout(Duration::from_secs(20));
    let error = gpu.interpreter.run("k", shape, &arguments).expect_err("it is wrong");
    assert_eq!(error.kernel, "k");
    (*error.fault).clone()
}

#[test]
fn illegal_accesses_name_thread_address_and_instruction() {
    let fault = fault("mov.b64 %rd0, 64; ld.u32 %r1, [%rd0+4];", Options::default());
    let Fault::Ptx(PtxFault::Access { address: 68, bytes: 4, ref at, .. }) = fault else {
        panic!("{fault}")
    };
    assert_eq!(at.instruction, "mov.b64 %rd0, 64; ld.u32 %r1, [%rd0+4]");
    let text = fault.to_string();
    assert!(text.contains("thread (0, 0, 0)") && text.contains("0x44"), "{text}");
}

#[test]
fn each_illegal_access_has_its_reason() {
    let why = |body: &str| match fault(body, Options { check: true, ..Options::default() }) {
        Fault::Ptx(PtxFault::Access { illegal, .. }) => illegal,
        other => panic!("{other}"),
    };
    assert_eq!(why("ld.shared.u32 %r1, [word+2];"), Illegal::Misaligned(4));
    assert!(matches!(why("ld.shared.u32 %r1, [word+128];"), Illegal::Shared(_)));
    assert!(matches!(why("ld.local.u32 %r1, [64];"), Illegal::Local(_)));
    assert_eq!(why("ld.shared.u32 %r1, [word];"), Illegal::Uninitialised);
    assert_eq!(why("mov.b64 %rd1, -8; ld.u64 %rd1, [%rd1];"), Illegal::NoMemory);
    assert!(matches!(why("st.u32 [%rd9], %r0;"), Illegal::Race { .. }));
}

#[test]
fn what_waits_for_ever_is_a_deadlock() {
    let barrier = fault(
        "setp.eq.u32 %p1, %r0, 0; @%p1 bar.warp.sync -1; barrier.sync 0;",
        Options::default(),
    );
    assert!(matches!(barrier, Fault::Ptx(PtxFault::Deadlock(_))), "{barrier}");
    let exited = fault("setp.eq.u32 %p1, %r0, 0; @%p1 exit; bar.warp.sync -1;", Options::default());
    assert!(matches!(exited, Fault::Ptx(PtxFault::ExitedInMask { gone: 1, .. })), "{exited}");
    let apart = fault("setp.eq.u32 %p1, %r0, 0; @%p1 bar.sync 0; bar.sync 0;", Options::default());
    assert!(matches!(apart, Fault::Ptx(PtxFault::DivergentBarrier { .. })), "{apart}");
    let trap = fault("trap;", Options::default());
    assert!(matches!(trap, Fault::Ptx(PtxFault::Trap { .. })), "{trap}");
}

#[test]
fn what_is_said_to_be_uniform_is() {
    for (uniform, parts) in [
        (
            "setp.lt.u32 %p1, %r0, 99; @%p1 bra.uni L; L:",
            "setp.lt.u32 %p1, %r0, 9; @%p1 bra.uni L; L:",
        ),
        ("@!%p1 bra.uni L; trap; L:", "setp.ge.u32 %p1, %r0, 31; @!%p1 bra.uni L; L:"),
        (
            "T: .branchtargets L, M; mov.u32 %r1, 1; brx.idx.uni %r1, T; L: trap; M:",
            "T: .branchtargets L, M; and.b32 %r1, %r0, 1; brx.idx.uni %r1, T; L: mov.b64 %rd0, 2; M:",
        ),
    ] {
        computes(&format!("mov.b64 %rd0, 1; {uniform}"), |_| 1);
        let parted = fault(parts, Options::default());
        assert!(matches!(parted, Fault::Ptx(PtxFault::Parted { .. })), "{parts}: {parted}");
    }
    // Who has parted before need not go the same way.
    let apart = "mov.b64 %rd0, 1; setp.eq.u32 %p1, %r0, 0; @%p1 bra A; setp.eq.u32 %p2, %r0, 0; @%p2 bra.uni E; bra E;\n\
        A: setp.eq.u32 %p2, %r0, 0; @%p2 bra.uni E; trap; E:";
    computes(apart, |_| 1);
    let call = |choice: &str| {
        format!(
            "mov.b64 %rd1, f; mov.b64 %rd2, g; {choice} P: .callprototype _ (); call.uni %rd1, (), P;"
        )
    };
    let functions = ".func f() {{ ret; }}\n.func g() {{ ret; }}\n.visible .entry";
    let run = |choice: &str| {
        let functions = functions.replace("{{", "{").replace("}}", "}");
        let text = kernel(&call(choice)).replacen(".visible .entry", &functions, 1);
        let gpu = Gpu::new(Module::parse(&text).unwrap(), Options::default());
        let out = gpu.words(32);
        let arguments = words(&[out.as_slice().as_ptr() as u64]);
        gpu.interpreter.run("k", LaunchConfig::new(1, 32), &arguments)
    };
    assert!(run("").is_ok());
    let parted = run("setp.eq.u32 %p1, %r0, 5; @%p1 mov.b64 %rd1, %rd2;").unwrap_err();
    assert!(matches!(*parted.fault, Fault::Ptx(PtxFault::Parted { .. })), "{parted}");
}

#[test]
fn a_kernel_that_never_ends_is_stopped() {
    let gpu = Gpu::new(Module::parse(&kernel("L: bra.uni L;")).unwrap(), Options::default());
    let shape = LaunchConfig::new(1, 32).timeout(Duration::from_millis(50));
    let error = gpu.interpreter.run("k", shape, &words(&[0])).expect_err("it does not end");
    assert!(matches!(*error.fault, Fault::Ptx(PtxFault::Timeout { .. })), "{error}");
}

#[test]
fn barriers_without_end_are_stopped() {
    // The only warp that the barrier is for finds it open whenever it comes.
    let gpu =
        Gpu::new(Module::parse(&kernel("L: bar.sync 0; bra.uni L;")).unwrap(), Options::default());
    let shape = LaunchConfig::new(1, 32).timeout(Duration::from_millis(50));
    let error = gpu.interpreter.run("k", shape, &words(&[0])).expect_err("it does not end");
    assert!(matches!(*error.fault, Fault::Ptx(PtxFault::Timeout { .. })), "{error}");
}

#[test]
fn wrong_launches_are_refused() {
    let gpu = Gpu::new(Module::parse(&kernel("")).unwrap(), Options::default());
    let run = |name: &str, shape: LaunchConfig, bytes: usize| {
        let error = gpu.interpreter.run(name, shape, &vec![0; bytes]).expect_err("it is wrong");
        (*error.fault).clone()
    };
    let one = LaunchConfig::new(1, 1);
    let unknown = run("other", one, 8);
    assert!(unknown.to_string().contains("it has k"), "{unknown}");
    let short = run("k", one, 7);
    assert!(matches!(short, Fault::Ptx(PtxFault::Arguments { given: 7, expected: 8 })), "{short}");
    assert!(matches!(
        run("k", LaunchConfig::new(1, 1025), 8),
        Fault::BlockTooLarge { .. } | Fault::Ptx(_)
    ));
    assert!(matches!(run("k", LaunchConfig::new(0, 1), 8), Fault::Empty { .. }));
    assert!(matches!(run("k", one.shared_bytes(1 << 20), 8), Fault::SharedTooLarge { .. }));
}

#[test]
fn blocks_have_the_extent_that_a_kernel_was_compiled_for() {
    let launch = |directive: &str, block: (u32, u32, u32)| {
        let text = kernel("mov.b64 %rd0, 1;").replace("out)\n{", &format!("out)\n{directive}\n{{"));
        let gpu = Gpu::new(Module::parse(&text).unwrap(), Options::default());
        let out = gpu.words(64);
        let arguments = words(&[out.as_slice().as_ptr() as u64]);
        let error = gpu.interpreter.run("k", LaunchConfig::new(1, block), &arguments).err()?;
        match &*error.fault {
            Fault::Ptx(fault) => Some(fault.clone()),
            other => panic!("{other}"),
        }
    };
    assert_eq!(launch(".reqntid 16, 2", (16, 2, 1)), None);
    for other in [(2, 16, 1), (32, 1, 1), (8, 2, 1)] {
        let fault = launch(".reqntid 16, 2", other);
        assert!(matches!(fault, Some(PtxFault::Extent { .. })), "{fault:?}");
    }
    assert_eq!(launch(".maxntid 16, 2", (8, 1, 4)), None);
    let deep = launch("", (1, 1, 65));
    assert!(matches!(deep, Some(PtxFault::TooLarge { what: "block", .. })), "{deep:?}");
    let more = launch(".maxntid 16, 2", (33, 1, 1));
    assert_eq!(more, Some(PtxFault::TooManyThreads { threads: 33, most: 32 }));
}

#[test]
fn counts_follow_from_the_program() {
    let gpu = Gpu::new(Module::parse(&kernel("mov.b64 %rd0, 1;")).unwrap(), Options::default());
    let out = gpu.words(32);
    let arguments = words(&[out.as_slice().as_ptr() as u64]);
    let report = gpu.interpreter.run("k", LaunchConfig::new(1, 32), &arguments).unwrap();
    let counts = report.counts.expect("the interpreter counts");
    // The frame of every test kernel: four instructions before the body and three after it.
    assert_eq!((counts.warp_instructions, counts.thread_instructions), (8, 8 * 32));
    assert_eq!((counts.loads, counts.stores, counts.sectors), (0, 1, 8));
    assert_eq!(gpu.interpreter.profile(), [], "not asked for");
}

#[test]
fn each_kernel_has_its_own_counts() {
    let another = kernel("mov.b64 %rd0, 1;").replace(" k(", " another(");
    let (_, another) = another.split_once(".visible").expect("an entry");
    let text = format!("{}.visible{another}", kernel(""));
    let gpu = Gpu::new(Module::parse(&text).unwrap(), Options::default());
    assert!(gpu.interpreter.counts_by_kernel().is_empty());
    let out = gpu.words(32);
    let arguments = words(&[out.as_slice().as_ptr() as u64]);
    for name in ["k", "another", "k"] {
        gpu.interpreter.run(name, LaunchConfig::new(1, 32), &arguments).unwrap();
    }
    let counts = gpu.interpreter.counts_by_kernel();
    let of = |name: &str| counts[name].warp_instructions;
    // Seven instructions of the frame, and one of a body.
    assert_eq!((of("k"), of("another"), counts.len()), (2 * 7, 8, 2));
    assert_eq!(gpu.interpreter.counts().warp_instructions, 2 * 7 + 8);
}

#[test]
fn a_profile_adds_up_to_the_counts() {
    let options = Options { profile: true, ..Options::default() };
    let gpu = Gpu::new(Module::parse(&kernel("mov.b64 %rd0, 1;")).unwrap(), options);
    let out = gpu.words(32);
    let arguments = words(&[out.as_slice().as_ptr() as u64]);
    for launches in 1..3 {
        gpu.interpreter.run("k", LaunchConfig::new(1, 32), &arguments).unwrap();
        let profile = gpu.interpreter.profile();
        let all: u64 = profile.iter().map(|line| line.instructions).sum();
        assert_eq!(all, gpu.interpreter.counts().thread_instructions);
        let line = profile.iter().find(|line| line.text == "mov.b64 %rd0, 1;").unwrap();
        assert_eq!((line.function.as_str(), line.instructions), ("k", launches * 32));
        assert!(profile.is_sorted_by_key(|line| line.line));
    }
}
