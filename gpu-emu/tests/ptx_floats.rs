//! Floating-point instructions of PTX at their edges: numbers that are none, zeroes with signs, subnormal
//! numbers, what does not fit an integer.

mod ptx_common;

use gpu_emu::LaunchConfig;
use gpu_emu::ptx::{Module, Options};
use ptx_common::{Gpu, kernel_for, words};

/// What a thread leaves in `%rd0`, of a module for sm_80.
fn value(body: &str) -> u64 {
    let module = Module::parse(&kernel_for("sm_80", body)).unwrap();
    let gpu = Gpu::new(module, Options::default());
    let out = gpu.words(32);
    let arguments = words(&[out.as_slice().as_ptr() as u64]);
    match gpu.interpreter.run("k", LaunchConfig::new(1, 1), &arguments) {
        Ok(_) => out.get(0),
        Err(e) => panic!("{e}\n{body}"),
    }
}

/// What an instruction makes of two numbers in single precision, `%f1` and `%f2`, in `%f3`.
fn single(instruction: &str, a: f32, b: f32) -> u32 {
    let (a, b) = (a.to_bits(), b.to_bits());
    let body = format!(
        "mov.b32 %f1, 0f{a:08X}; mov.b32 %f2, 0f{b:08X}; {instruction}\n\
         mov.b32 %r1, %f3; cvt.u64.u32 %rd0, %r1;"
    );
    value(&body) as u32
}

/// The only number that is none in single precision.
const NAN: u32 = 0x7fff_ffff;
/// Another one, as the host may make it.
const OTHER: f32 = f32::from_bits(0xffc0_1234);
/// The smallest subnormal number.
const TINY: f32 = f32::from_bits(1);

#[test]
fn what_is_no_number_becomes_zero_or_the_lowest_integer() {
    // What each conversion makes of it, in a register of 64 bits.
    let converted = |to: &str, from: &str| {
        let (register, bits) = match from {
            "f32" => ("%f1", "0f7FC00000"),
            _ => ("%fd1", "0d7FF8000000000000"),
        };
        value(&format!("mov.{from} {register}, {bits}; cvt.rzi.{to}.{from} %rd0, {register};"))
    };
    for to in ["u8", "s8", "u16", "s16", "u32", "s32"] {
        assert_eq!(converted(to, "f32"), 0, "{to}");
    }
    for (to, from) in [("u64", "f32"), ("s64", "f32"), ("u64", "f64"), ("s64", "f64")] {
        assert_eq!(converted(to, from), 1 << 63, "{to} {from}");
    }
    let expected =
        [("u8", 1 << 7), ("u16", 1 << 15), ("u32", 1 << 31), ("s8", i64::from(i8::MIN) as u64)];
    for (to, expected) in expected.into_iter().chain([("s32", i64::from(i32::MIN) as u64)]) {
        assert_eq!(converted(to, "f64"), expected, "{to}");
    }
}

#[test]
fn what_is_too_large_becomes_the_nearest_integer() {
    let converted = |to: &str, number: f64| {
        let bits = number.to_bits();
        value(&format!("mov.f64 %fd1, 0d{bits:016X}; cvt.rni.{to}.f64 %rd0, %fd1;")) as i64
    };
    assert_eq!([converted("s32", 1e10), converted("s32", -1e10)], [0x7fff_ffff, -0x8000_0000]);
    assert_eq!([converted("u32", 1e10), converted("u32", -1.5)], [0xffff_ffff, 0]);
    assert_eq!([converted("u8", 255.5), converted("s8", -128.6)], [255, -128]);
    assert_eq!([converted("s64", 1e30), converted("u64", 1e30)], [i64::MAX, -1]);
    assert_eq!([converted("s32", 2.5), converted("s32", f64::NEG_INFINITY)], [2, -0x8000_0000]);
}

#[test]
fn results_in_single_precision_that_are_no_numbers_are_all_the_same() {
    for instruction in [
        "add.f32 %f3, %f1, %f2;",
        "sub.rn.f32 %f3, %f2, %f1;",
        "mul.f32 %f3, %f1, %f2;",
        "fma.rn.f32 %f3, %f2, %f2, %f1;",
        "div.rn.f32 %f3, %f1, %f2;",
        "sqrt.rn.f32 %f3, %f1;",
        "neg.f32 %f3, %f1;",
        "abs.f32 %f3, %f1;",
        "lg2.approx.f32 %f3, %f1;",
        "max.f32 %f3, %f1, %f1;",
        "min.NaN.f32 %f3, %f2, %f1;",
        "mov.f64 %fd1, 0dFFF8000000000001; cvt.rn.f32.f64 %f3, %fd1;",
    ] {
        assert_eq!(single(instruction, OTHER, 2.0), NAN, "{instruction}");
    }
    assert_eq!(single("div.rn.f32 %f3, %f1, %f2;", 0.0, 0.0), NAN);
    assert_eq!(single("min.f32 %f3, %f1, %f2;", OTHER, 2.0), 2f32.to_bits());
    assert_eq!(single("copysign.f32 %f3, %f2, %f1;", OTHER, 2.0), 0x7fc0_1234);
}

#[test]
fn zeroes_have_an_order() {
    for (a, b) in [(0.0, -0.0), (-0.0, 0.0)] {
        assert_eq!(single("min.f32 %f3, %f1, %f2;", a, b), (-0f32).to_bits());
        assert_eq!(single("max.f32 %f3, %f1, %f2;", a, b), 0);
        assert_eq!(single("min.NaN.f32 %f3, %f1, %f2;", a, b), (-0f32).to_bits());
        let double = |name: &str| {
            let (a, b) = (f64::from(a).to_bits(), f64::from(b).to_bits());
            value(&format!("{name}.f64 %fd1, 0d{a:016X}, 0d{b:016X}; mov.b64 %rd0, %fd1;"))
        };
        assert_eq!([double("min"), double("max")], [1 << 63, 0]);
    }
}

#[test]
fn saturated_results_are_between_zero_and_one() {
    let sum = |a, b| single("add.sat.f32 %f3, %f1, %f2;", a, b);
    assert_eq!(
        [sum(0.5, 1.0), sum(-2.0, 1.0), sum(0.25, 0.5)],
        [1f32, 0.0, 0.75].map(f32::to_bits)
    );
    assert_eq!([sum(OTHER, 1.0), sum(-0.0, -0.0)], [0, 0]);
    assert_eq!(single("fma.rn.sat.f32 %f3, %f1, %f2, %f2;", f32::INFINITY, 0.0), 0);
    assert_eq!(single("cvt.sat.f32.f32 %f3, %f1;", OTHER, 0.0), 0);
    assert_eq!(single("cvt.sat.f32.f32 %f3, %f1;", 7.0, 0.0), 1f32.to_bits());
}

#[test]
fn subnormal_numbers_are_zero_with_ftz_alone() {
    let negative = (-0f32).to_bits();
    for (instruction, kept, flushed) in [
        ("add.FTZf32 %f3, %f1, %f2;", 1, 0),
        ("mul.rn.FTZf32 %f3, %f1, 0fBF800000;", TINY.to_bits() | 1 << 31, negative),
        // The result alone is subnormal.
        ("mul.FTZf32 %f3, 0f00800000, 0fBF000000;", 0x8040_0000, negative),
        ("sub.sat.FTZf32 %f3, %f1, %f2;", 1, 0),
        ("neg.FTZf32 %f3, %f1;", 1 | 1 << 31, negative),
        ("min.FTZf32 %f3, %f1, 0f3F800000;", 1, 0),
        ("rcp.approx.FTZf32 %f3, 0f7F000000;", 0x0040_0000, 0),
        ("cvt.FTZf32.f32 %f3, %f1;", 1, 0),
        ("mov.f64 %fd1, 0d37E0000000000000; cvt.rn.FTZf32.f64 %f3, %fd1;", 1 << 20, 0),
        ("cvt.rpi.FTZs32.f32 %r1, %f1; mov.b32 %f3, %r1;", 1, 0),
        ("setp.gt.FTZf32 %p1, %f1, %f2; selp.b32 %r1, 1, 0, %p1; mov.b32 %f3, %r1;", 1, 0),
        ("neg.f32 %f0, %f1; slct.FTZb32.f32 %r1, 0, 1, %f0; mov.b32 %f3, %r1;", 1, 0),
    ] {
        assert_eq!(single(&instruction.replace("FTZ", ""), TINY, 0.0), kept, "{instruction}");
        let ftz = instruction.replace("FTZ", "ftz.");
        assert_eq!(single(&ftz, TINY, 0.0), flushed, "{ftz}");
    }
    // In memory, whether sums are flushed is a matter of where they are.
    for (place, expected) in [("global", 0), ("shared", 2)] {
        let address = if place == "global" { "%rd9" } else { "%rd1" };
        let body = format!(
            "mov.b64 %rd1, word; st.{place}.f32 [{address}], %f1; red.{place}.add.f32 [{address}], %f1; ld.{place}.f32 %f3, [{address}];"
        );
        assert_eq!(single(&body, TINY, 0.0), expected, "{place}");
    }
    assert_eq!(
        single(
            "st.f32 [%rd9], %f1; atom.add.f32 %f0, [%rd9], %f2; ld.f32 %f3, [%rd9];",
            OTHER,
            0.0
        ),
        NAN
    );
}

#[test]
fn what_approximates_divides_by_large_numbers_as_by_infinity() {
    let large = f32::from_bits(0x7e90_0000);
    let by = |how: &str, a, b| single(&format!("div.{how}.f32 %f3, %f1, %f2;"), a, b);
    assert_eq!([by("approx", 1e38, large), by("approx", -1e38, large)], [0, 1 << 31]);
    assert_eq!(by("approx", f32::INFINITY, large), NAN);
    for how in ["full", "rn"] {
        assert_eq!(by(how, 1e38, large), (1e38 / large).to_bits());
    }
    assert_eq!(by("approx", 6.0, 2.0), 3f32.to_bits());
}

#[test]
fn a_remainder_of_nothing_has_all_bits() {
    for (ty, register, all) in [
        ("u32", "%r1", u64::from(u32::MAX)),
        ("s64", "%rd0", u64::MAX),
        ("s32", "%r1", u32::MAX.into()),
    ] {
        for name in ["div", "rem"] {
            let zero = if register == "%r1" { "mov.u32 %r2, 0;" } else { "" };
            let widen = if register == "%r1" { "cvt.u64.u32 %rd0, %r1;" } else { "" };
            let by = if register == "%r1" { "%r2" } else { "0" };
            let start = if register == "%r1" { "mov.b32 %r1, 17;" } else { "mov.b64 %rd0, 17;" };
            let body = format!("{zero} {start} {name}.{ty} {register}, {register}, {by}; {widen}");
            assert_eq!(value(&body), all, "{body}");
        }
    }
}
