//! What is refused, by line and instruction, before anything runs: instructions and modifiers that the
//! interpreter does not know, and more memory than a module may take.

mod ptx_common;

use gpu_emu::ptx::{Module, Options, PtxError, PtxFault};
use gpu_emu::{Fault, LaunchConfig};
use ptx_common::{Gpu, kernel, words};

/// The line of [`kernel`]'s text that the body is on.
const LINE: u32 = 12;

#[test]
fn modifiers_that_mean_something_else_are_named() {
    for wrong in [
        "fence.proxy.alias",
        "fence.proxy.async.global",
        "fence",
        "fence.nonsense.gpu",
        "fence.sc",
        "fence.sc.gpu.sys",
        "membar",
        "membar.proxy.alias",
        "membar.gpu",
        "bra.something L",
        "@%p1 bra.something L",
        "ret.now",
        "exit.uni",
        "trap.uni",
        "brkpt.uni",
        "activemask %r1",
        "activemask.u32 %r1",
        "activemask.b32.x %r1",
        "nanosleep 5",
        "nanosleep.u64 5",
        "prefetch.L3 [%rd9]",
        "prefetch.shared.L1 [%rd9]",
        "prefetchu.L2 [%rd9]",
        "applypriority.global.L2::evict_first [%rd9], 128",
        "pmevent.x 1",
        "discard.global.L2 [%rd9], 128",
        "frobnicate.b32 %r1, %r2",
    ] {
        let error = Module::parse(&kernel(&format!("{wrong};\nL:"))).unwrap_err();
        let PtxError::Unsupported { line, instruction, .. } = &error else {
            panic!("{wrong}: {error}")
        };
        let opcode = wrong.trim_start_matches("@%p1 ").split(' ').next();
        assert_eq!((*line, Some(instruction.as_str())), (LINE, opcode), "{error}");
    }
}

/// Whether a body is an error that names its line.
fn is_named(body: &str) -> bool {
    let error = Module::parse(&kernel(&format!("{body};\nL:"))).err();
    matches!(
        error,
        Some(PtxError::Unsupported { line: LINE, .. } | PtxError::Malformed { line: LINE, .. })
    )
}

#[test]
fn instructions_have_their_types_and_no_others() {
    for wrong in [
        "add.b32 %r1, %r2, %r3",
        "mul.lo.b64 %rd1, %rd2, %rd3",
        "mad.lo.b32 %r1, %r2, %r3, %r4",
        "min.b32 %r1, %r2, %r3",
        "div.b32 %r1, %r2, %r3",
        "neg.u32 %r1, %r2",
        "addc.b32 %r1, %r2, %r3",
        "and.u32 %r1, %r2, %r3",
        "not.s32 %r1, %r2",
        "cnot.u32 %r1, %r2",
        "shl.u32 %r1, %r2, %r3",
        "bfi.u32 %r1, %r2, %r3, 0, 8",
        "lop3.b32 %r1, %r2, %r3, %r4, %r5",
        "lop3.b32 %r1, %r2, %r3, %r4, 256",
        "mov.b8 %r1, %r2",
        "selp.b8 %r1, %r2, %r3, %p1",
        "slct.b8.s32 %r1, %r2, %r3, %r4",
        "setp.lt.b32 %p1, %r2, %r3",
        "setp.lo.s32 %p1, %r2, %r3",
        "setp.eq.pred %p1, %p2, %p3",
        "set.eq.b32.u32 %r1, %r2, %r3",
        "cvt.b32.u32 %r1, %r2",
        "cvt.sat.u32.u32 %r1, %r2",
        "cvt.rn.f64.f32 %fd1, %f2",
        "cvt.rzi.f32.f64 %f1, %fd2",
        "atom.global.and.u32 %r1, [%rd9], %r2",
        "atom.global.add.s64 %rd1, [%rd9], %rd2",
        "atom.global.inc.u64 %rd1, [%rd9], %rd2",
        "atom.global.min.b32 %r1, [%rd9], %r2",
        "vote.sync.any.b32 %r1, %p1, -1",
        "vote.sync.ballot.pred %p1, %p2, -1",
        "redux.sync.add.b32 %r1, %r2, -1",
        "redux.sync.and.u32 %r1, %r2, -1",
    ] {
        assert!(is_named(wrong), "{wrong}");
    }
}

#[test]
fn instructions_have_their_modifiers_and_no_others() {
    for wrong in [
        "fma.f32 %f1, %f1, %f2, %f3",
        "div.f32 %f1, %f1, %f2",
        "sqrt.f32 %f1, %f1",
        "rsqrt.rn.f32 %f1, %f1",
        "sin.full.f32 %f1, %f1",
        "add.approx.f32 %f1, %f1, %f2",
        "add.rn.rn.f32 %f1, %f1, %f2",
        "min.rn.f32 %f1, %f1, %f2",
        "add.ftz.f64 %fd1, %fd1, %fd2",
        "mul.rn.sat.f64 %fd1, %fd1, %fd2",
        "setp.eq.ftz.u32 %p1, %r1, %r2",
        "slct.ftz.u32.s32 %r1, %r2, %r3, %r4",
        "cvt.rzi.ftz.s32.f64 %r1, %fd1",
        "ld.acquire.global.u32 %r1, [%rd9]",
        "ld.gpu.u32 %r1, [%rd9]",
        "ld.weak.gpu.u32 %r1, [%rd9]",
        "ld.volatile.gpu.u32 %r1, [%rd9]",
        "ld.relaxed.acquire.gpu.u32 %r1, [%rd9]",
        "ld.relaxed.gpu.sys.u32 %r1, [%rd9]",
        "ld.relaxed.gpu.local.u32 %r1, [0]",
        "ld.relaxed.gpu.cg.u32 %r1, [%rd9]",
        "ld.global.shared.u32 %r1, [%rd9]",
        "ld.wb.u32 %r1, [%rd9]",
        "ld.nc.u32 %r1, [%rd9]",
        "ld.global.nc.cv.u32 %r1, [%rd9]",
        "ldu.shared.u32 %r1, [word]",
        "st.const.u32 [%rd9], %r1",
        "st.global.nc.u32 [%rd9], %r1",
        "st.ca.u32 [%rd9], %r1",
        "atom.sc.gpu.add.u32 %r1, [%rd9], 1",
        "atom.local.add.u32 %r1, [%rd9], 1",
        "atom.volatile.add.u32 %r1, [%rd9], 1",
        "atom.add.global.max.u32 %r1, [%rd9], 1",
        "red.exch.b32 [%rd9], 1",
        "red.cas.b32 [%rd9], 1, 2",
        "red.acquire.gpu.add.u32 [%rd9], 1",
        "bar.sync.aligned 0",
        "barrier.warp.sync -1",
        "vote.sync.any.pred %p1|%p2, %p3, -1",
        "match.any.sync.b32 %r1|%p2, %r3, -1",
        "isspacep.const %p1, %rd1",
    ] {
        assert!(is_named(wrong), "{wrong}");
    }
}

#[test]
fn operands_are_of_the_types_that_are_due() {
    for wrong in [
        // Registers of another size, another kind.
        "add.u32 %rd1, %r1, %r2",
        "add.u32 %r1, %rd1, %r2",
        "add.u32 %r1, %f1, %r2",
        "add.f32 %f1, %f2, %fd1",
        "and.b32 %r1, %rd1, %rd2",
        "and.pred %p1, %p2, %r1",
        "mul.wide.u32 %r1, %r2, %r3",
        "mad.wide.u32 %rd1, %r2, %r3, %r4",
        "popc.b64 %rd1, %rd2",
        "clz.b32 %r1, %rd2",
        "shl.b64 %rd1, %rd2, %rd3",
        "bfe.u64 %rd1, %rd2, %rd3, 8",
        "selp.b64 %rd1, %r1, %rd2, %p1",
        "selp.b32 %r1, %r2, %r3, %r4",
        "setp.eq.b32 %p1, %rd1, 0",
        "setp.eq.b32 %r1, %r2, 0",
        "mov.b32 %r1, %rd1",
        "mov.b64 %rd1, %r1",
        "mov.u32 %r1, %f1",
        "mov.b64 %rd1, {%rd2, %r1}",
        "mov.u64 %rd1, {%r1, %r2}",
        "mov.b64 {%f1, %rd2}, %rd1",
        "cvt.u64.u32 %r1, %r2",
        "cvt.u32.u64 %r1, %r2",
        "cvt.f64.f32 %fd1, %fd2",
        "cvta.shared.u64 %r1, %rd1",
        "activemask.b32 %rd1",
        "vote.sync.ballot.b32 %p1, %p2, -1",
        "vote.sync.any.pred %r1, %p2, -1",
        "shfl.sync.idx.b32 %rd1, %r1, 0, 31, -1",
        "match.any.sync.b64 %r1, %r2, -1",
        "bar.red.popc.u32 %p1, 0, %p2",
        "bar.red.and.pred %r1, 0, %p2",
        "ld.global.u32 %rd1, [%r1]",
        "ld.global.u64 %r1, [%rd9]",
        "ld.global.f32 %r1, [%f1]",
        "ld.global.v2.u8 {%r1, %rd1}, [%rd9]",
        "ld.param.u64 %r1, [out]",
        "st.global.u64 [%rd9], %r1",
        "st.global.v2.u32 [%rd9], {%rd1, %r1}",
        "mov.b64 %rd1, {word, %r1}",
        "mov.b64 {_, _}, %rd1",
        "cvt.rn.f32.u32 %f1, %tid.x",
        "st.global.f32 [%rd9], %fd1",
        "atom.global.add.u32 %rd1, [%rd9], %r2",
        "atom.global.add.u32 %r1, [%rd9], %rd2",
        "brx.idx %rd1, T",
        // Numbers of another kind.
        "add.u32 %r1, %r2, 1.5",
        "add.f32 %f1, %f2, 1",
        "mov.b64 %rd1, 0f3F800000",
        // What is no register.
        "add.s64 %rd1, %rd2, word",
        "add.u32 %r1, %tid.x, 1",
        "st.global.u32 [%rd9], %laneid",
        "mov.u64 %rd1, %tid.x",
        "mov.u32 %r1, %clock64",
        "mov.u32 %r1, k",
        "cvta.local.u64 %rd1, word",
        // Addresses in another memory, and what nothing is stored to.
        "ld.global.u32 %r1, [word]",
        "atom.global.add.u32 %r1, [word], 1",
        "ld.shared.u32 %r1, [8]",
        "ld.u32 %r1, [k]",
        "st.param.b64 [out], %rd1",
        // Results that are not wanted, where there is no other.
        "add.u32 _, %r1, %r2",
        "ld.global.u32 _, [%rd9]",
    ] {
        let body = format!("T: .branchtargets L; {wrong}");
        assert!(is_named(&body), "{wrong}");
    }
}

#[test]
fn what_a_module_is_for_decides_what_it_has() {
    let parse = |version: &str, target: &str, body: &str| {
        let text = kernel(&format!("{body};"));
        let text = text.replace(".version 7.0", &format!(".version {version}"));
        Module::parse(&text.replace("sm_70", target)).err().map(|e| e.to_string())
    };
    for (version, target, body) in [
        ("6.2", "sm_70", "activemask.b32 %r1"),
        ("6.2", "sm_70", "nanosleep.u32 5"),
        ("6.3", "sm_70", "mov.b16 %h1, 1; atom.cas.b16 %h1, [%rd9], %h1, 2"),
        ("7.0", "sm_75", "tanh.approx.f32 %f1, %f1"),
        ("7.0", "sm_80", "min.NaN.f32 %f1, %f1, %f2"),
        ("7.0", "sm_80", "redux.sync.add.u32 %r1, %r2, -1"),
        ("7.4", "sm_80", "applypriority.global.L2::evict_normal [%rd9], 128"),
        ("7.4", "sm_80", "prefetch.global.L2::evict_last [%rd9]"),
        ("7.8", "sm_70", "barrier.cta.sync 0"),
        ("7.8", "sm_70", "ld.shared::cta.u32 %r1, [word]"),
        ("8.3", "sm_90a", "ld.param::entry.u64 %rd1, [out]"),
    ] {
        let body = format!(".reg .b16 %h<2>; {body}");
        assert_eq!(parse(version, target, &body), None, "{body}");
        let older = if version < "7.0" { "6.0" } else { "7.0" };
        let error = parse(older, "sm_70", &body).unwrap_or_else(|| panic!("{body} passes"));
        assert!(error.contains("is due") || error.contains("none before"), "{body}: {error}");
    }
    for (version, target) in [("5.0", "sm_70"), ("7.0", "sm_61"), ("7.0", "nothing")] {
        assert!(parse(version, target, "").is_some(), "{version} {target}");
    }
    assert!(Module::parse(&kernel("").replace(".target sm_70\n", "")).is_err());
    // How many bytes of parameters a kernel has.
    let long = |version: &str| {
        let text = kernel("").replace(".param .u64 out", ".param .u64 out, .param .b8 many[5000]");
        Module::parse(&text.replace("7.0", version)).err()
    };
    assert!(matches!(long("7.0"), Some(PtxError::TooLarge { most: 4352, .. })));
    assert_eq!(long("8.1"), None);
}

#[test]
fn operands_too_many_or_too_few_are_named() {
    for wrong in ["fence.sc.gpu %r1", "trap 1", "ret %r1", "exit 1", "prefetch.L1", "pmevent 1, 2"]
    {
        let error = Module::parse(&kernel(&format!("{wrong};"))).unwrap_err();
        assert!(matches!(error, PtxError::Malformed { line: LINE, .. }), "{wrong}: {error}");
    }
}

#[test]
fn what_is_known_passes() {
    let known = "fence.sc.sys; fence.acq_rel.gpu; fence.acq_rel.cta; membar.gl; membar.sys; membar.cta;\n\
        prefetch.global.L2 [%rd9]; prefetch.L1 [%rd9]; prefetchu.L1 [%rd9]; pmevent 7;\n\
        activemask.b32 %r1; nanosleep.u32 5; bra.uni L; bra L;\n\
        @%p1 bra.uni L; L: ret.uni; exit; trap; brkpt;";
    Module::parse(&kernel(known)).unwrap();
    let operands = "mov.b32 %r1, %f1; mov.b32 %f1, %r1; mov.b64 %rd1, %fd1; and.b32 %f1, %r1, 0f80000000;\n\
        mov.u32 %r1, word; mov.u64 %rd1, word+4; mov.b64 %rd2, k; cvta.shared.u64 %rd3, word; cvt.u64.u32 %rd4, %tid.x;\n\
        ld.global.u8 %rd1, [%rd9]; ld.global.s16 %r1, [%rd9]; ld.global.f32 %r1, [%rd9]; ld.shared.u32 %r1, [%r2];\n\
        ld.global.v2.u32 {_, %r1}, [%rd9]; ld.param.v2.u32 {_, %r1}, [out]; st.global.u8 [%rd9], %r1; cvt.s8.s32 %rd1, %rd2; cvt.rn.f32.s64 %f1, %rd2;\n\
        atom.global.add.u32 _, [%rd9], 1; setp.eq.u32 _|%p1, %r1, 5; mov.b64 {_, %r1}, %rd1; add.f64 %fd1, %fd1, 0.5;\n\
        match.all.sync.b32 _|%p1, %r1, -1; selp.b32 %r1, 0x123456789, -1, !%p1; add.u32 %r1, %r1, WARP_SZ;";
    Module::parse(&kernel(operands)).unwrap();
}

#[test]
fn variables_and_functions_are_such_as_there_are() {
    for (wrong, right) in [
        (".shared .u32 x = 5;", ".global .u32 x = 5;"),
        (".shared .u32 x[];", ".extern .shared .u32 x[];"),
        (".global .u32 x[];", ".global .u32 x[1];"),
        (".func f(.reg .b32 a) { ret; }", ".func f(.param .b32 a) { ret; }"),
        (".entry (.param .b32 r) f() { ret; }", ".func (.param .b32 r) f() { ret; }"),
        (
            ".entry f() { ret; } .func g() { call f; ret; }",
            ".func f() { ret; } .func g() { call f; ret; }",
        ),
        (".func f() { .local .u32 x = 5; ret; }", ".func f() { .local .u32 x; ret; }"),
    ] {
        let parse = |text: &str| {
            Module::parse(&kernel("").replace(".visible", &format!("{text}\n.visible")))
        };
        assert!(parse(wrong).is_err(), "{wrong}");
        assert!(parse(right).is_ok(), "{right}");
    }
}

#[test]
fn who_takes_too_much_is_named_by_line() {
    let inside = [
        ".reg .b32 %many<65000>; .reg .b32 %more<65000>; .reg .b32 %most<65000>;",
        ".local .b64 many[9000000];",
    ]
    .map(kernel);
    let outside = |variable: &str| {
        format!(".version 7.0\n.target sm_70\n.address_size 64\n.global .u32 one;\n{variable}\n")
    };
    let outside = [
        ".shared .b8 many[300000];",
        ".global .b64 many[16777216]; .global .b64 more[16777216];",
        ".func f(.param .b8 few[8], .param .b8 many[40000]);",
    ]
    .map(outside);
    let lines = [LINE, LINE, 5, 5, 5];
    for (text, expected) in inside.into_iter().chain(outside).zip(lines) {
        let error = Module::parse(&text).unwrap_err();
        let PtxError::TooLarge { line, bytes, most, .. } = error else { panic!("{error}\n{text}") };
        assert!(line == expected && bytes > most, "{error}");
    }
}

/// Why `k` with this body cannot be launched by blocks of that many threads.
fn refused(body: &str, threads: u32) -> Option<PtxFault> {
    let gpu = Gpu::new(Module::parse(&kernel(body)).unwrap(), Options::default());
    let out = gpu.words(threads as usize);
    let arguments = words(&[out.as_slice().as_ptr() as u64]);
    let error = gpu.interpreter.run("k", LaunchConfig::new(2, threads), &arguments).err()?;
    assert!(error.to_string().contains("`k`"), "{error}");
    match &*error.fault {
        Fault::Ptx(fault) => Some(fault.clone()),
        other => panic!("{other}"),
    }
}

#[test]
fn a_frame_that_so_many_warps_cannot_have_is_an_error() {
    // 25 MB in each warp.
    let many = ".reg .b64 %many<50000>; .reg .b64 %more<50000>; mov.b64 %rd0, 1;";
    let Some(PtxFault::Registers { bytes, most }) = refused(many, 1024) else { panic!("it runs") };
    assert!(bytes > 100_000 * 256 && most < bytes, "{bytes} of {most}");
    assert_eq!(refused(many, 32), None);
    assert_eq!(refused(".reg .b64 %many<8000>; mov.b64 %rd0, 1;", 1024), None);
}

#[test]
fn local_variables_larger_than_the_stack_are_an_error() {
    let large = ".local .b8 large[1000000]; mov.b64 %rd0, 1;";
    let Some(PtxFault::LocalMemory { bytes, most }) = refused(large, 32) else { panic!("it runs") };
    assert!(bytes == 1_000_000 && most < bytes, "{bytes} of {most}");
    assert_eq!(refused(".local .b8 small[1000]; mov.b64 %rd0, 1;", 32), None);
}

#[test]
fn a_call_without_end_overflows() {
    let text = kernel("call.uni f, ();").replace(
        ".visible .entry",
        ".func f();\n.func f() { .reg .b64 %rd<500>; call.uni f, (); ret; }\n.visible .entry",
    );
    let gpu = Gpu::new(Module::parse(&text).unwrap(), Options::default());
    let error = gpu.interpreter.run("k", LaunchConfig::new(4, 1024), &words(&[0])).unwrap_err();
    assert!(matches!(*error.fault, Fault::StackOverflow { .. }), "{error}");
}
