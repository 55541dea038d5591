//! Floating-point numbers. Subnormal numbers are kept, also where `.ftz` would allow to flush them, and
//! what a GPU approximates is exact to the last bit or two.

use super::{Alu, by_type, map};
use crate::ptx::syntax::Type;

macro_rules! floats {
    ($ty:expr, |$($x:ident),+| $result:expr) => {
        by_type!($ty, [F32 => f32, F64 => f64], |$($x),+| $result)
    };
}

pub(super) fn find(name: &str, modifiers: &[&str], ty: Type) -> Option<Alu> {
    let saturate = modifiers.contains(&"sat");
    let approximate = modifiers.iter().any(|m| matches!(*m, "approx" | "full"));
    // Round to nearest is all there is here.
    let known = |m: &&str| matches!(*m, "rn" | "ftz" | "sat" | "approx" | "full" | "NaN");
    if !modifiers.iter().all(known) {
        return None;
    }
    let mut operands = [ty; 4];
    let (count, map) = match name {
        "mov" => (1, Some(map!(|a: u64| a))),
        "selp" => {
            operands[2] = Type::Pred;
            (3, Some(map!(|a: u64, b: u64, c: bool| if c { a } else { b })))
        }
        "add" if saturate => (2, floats!(ty, |a, b| (a + b).clamp(0.0, 1.0))),
        "sub" if saturate => (2, floats!(ty, |a, b| (a - b).clamp(0.0, 1.0))),
        "mul" if saturate => (2, floats!(ty, |a, b| (a * b).clamp(0.0, 1.0))),
        "fma" | "mad" if saturate => (3, floats!(ty, |a, b, c| a.mul_add(b, c).clamp(0.0, 1.0))),
        _ if saturate => return None,
        "add" => (2, floats!(ty, |a, b| a + b)),
        "sub" => (2, floats!(ty, |a, b| a - b)),
        "mul" => (2, floats!(ty, |a, b| a * b)),
        "fma" | "mad" => (3, floats!(ty, |a, b, c| a.mul_add(b, c))),
        "div" => (2, floats!(ty, |a, b| a / b)),
        "rcp" => (1, floats!(ty, |a| a.recip())),
        "sqrt" => (1, floats!(ty, |a| a.sqrt())),
        "rsqrt" => (1, floats!(ty, |a| a.sqrt().recip())),
        "neg" => (1, floats!(ty, |a| -a)),
        "abs" => (1, floats!(ty, |a| a.abs())),
        "min" if modifiers.contains(&"NaN") => (
            2,
            floats!(ty, |a, b| if a.is_nan() {
                a
            } else if b.is_nan() {
                b
            } else {
                a.min(b)
            }),
        ),
        "max" if modifiers.contains(&"NaN") => (
            2,
            floats!(ty, |a, b| if a.is_nan() {
                a
            } else if b.is_nan() {
                b
            } else {
                a.max(b)
            }),
        ),
        "min" => (2, floats!(ty, |a, b| a.min(b))),
        "max" => (2, floats!(ty, |a, b| a.max(b))),
        "copysign" => (2, floats!(ty, |a, b| b.copysign(a))),
        "ex2" if approximate => (1, by_type!(ty, [F32 => f32], |a| a.exp2())),
        "lg2" if approximate => (1, by_type!(ty, [F32 => f32], |a| a.log2())),
        "sin" if approximate => (1, by_type!(ty, [F32 => f32], |a| a.sin())),
        "cos" if approximate => (1, by_type!(ty, [F32 => f32], |a| a.cos())),
        "tanh" if approximate => (1, by_type!(ty, [F32 => f32], |a| a.tanh())),
        _ => return None,
    };
    Some(Alu { map: map?, count, operands })
}
