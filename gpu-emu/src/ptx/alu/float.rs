//! Floating-point numbers, rounded to the nearest. What a GPU approximates is exact to the last bit or
//! two.

use super::{Alu, by_type, map, some_of};
use crate::ptx::row::Map;
use crate::ptx::syntax::Type;

macro_rules! floats {
    ($ty:expr, |$($x:ident),+| $result:expr) => {
        by_type!($ty, [F32 => f32, F64 => f64], |$($x),+| $result)
    };
}

/// What GPUs do otherwise than the host.
pub(in crate::ptx) trait Float: Copy {
    type Bits;
    /// The bits of a result: in single precision there is but one that is no number.
    fn result(self) -> Self::Bits;
    /// Between zero, which is also what is no number becomes, and one.
    fn saturated(self) -> Self;
    /// The lesser of two, or the one that is a number. Zero with a sign is less than without.
    fn least(self, other: Self) -> Self;
    /// The greater of two, or the one that is a number. Zero with a sign is less than without.
    fn greatest(self, other: Self) -> Self;
}

macro_rules! float {
    ($ty:ident, $bits:ident, |$a:ident| $result:expr) => {
        impl Float for $ty {
            type Bits = $bits;

            #[inline(always)]
            fn result(self) -> $bits {
                let $a = self.to_bits();
                $result
            }

            #[inline(always)]
            fn saturated(self) -> $ty {
                if self > 0.0 { self.min(1.0) } else { 0.0 }
            }

            #[inline(always)]
            fn least(self, other: $ty) -> $ty {
                let first = self < other || other.is_nan();
                let zero = self == other && self.is_sign_negative();
                if first || zero { self } else { other }
            }

            #[inline(always)]
            fn greatest(self, other: $ty) -> $ty {
                let first = self > other || other.is_nan();
                let zero = self == other && self.is_sign_positive();
                if first || zero { self } else { other }
            }
        }
    };
}

// By its bits: to the compiler, one number that is none is as good as another.
float!(f32, u32, |a| if a & 0x7fff_ffff > f32::INFINITY.to_bits() { 0x7fff_ffff } else { a });
float!(f64, u64, |a| a);

/// A subnormal number becomes zero with its sign.
#[inline(always)]
pub(in crate::ptx) fn flushed(a: f32) -> f32 {
    if a.is_subnormal() { 0f32.copysign(a) } else { a }
}

/// What `.ftz` does to operands and results.
pub(in crate::ptx) fn flush() -> Map {
    map!(|a: f32| flushed(a))
}

/// Whether an instruction has such modifiers: one of those that say how it computes, where it needs one,
/// and some of the others.
fn known(name: &str, modifiers: &[&str], ty: Type) -> bool {
    let (how, others): (&[&str], &[&str]) = match name {
        "mov" | "selp" | "copysign" => (&[""], &[]),
        "add" | "sub" | "mul" => (&["", "rn"], &["ftz", "sat"]),
        "fma" | "mad" => (&["rn"], &["ftz", "sat"]),
        "div" => (&["rn", "approx", "full"], &["ftz"]),
        "rcp" | "sqrt" => (&["rn", "approx"], &["ftz"]),
        "rsqrt" | "ex2" | "lg2" | "sin" | "cos" => (&["approx"], &["ftz"]),
        "tanh" => (&["approx"], &[]),
        "neg" | "abs" => (&[""], &["ftz"]),
        "min" | "max" => (&[""], &["ftz", "NaN"]),
        _ => return false,
    };
    let (given, rest): (Vec<&str>, Vec<&str>) =
        modifiers.iter().partition(|m| matches!(**m, "rn" | "approx" | "full"));
    let given = match given[..] {
        [] => "",
        [given] => given,
        _ => return false,
    };
    // Double precision is never flushed, saturated or, but for `rsqrt`, approximated.
    let precise = matches!(given, "" | "rn") || name == "rsqrt";
    how.contains(&given)
        && some_of(&rest, others)
        && (ty == Type::F32 || precise && rest.is_empty())
}

pub(super) fn find(name: &str, modifiers: &[&str], ty: Type) -> Option<Alu> {
    if !known(name, modifiers, ty) {
        return None;
    }
    let has = |modifier| modifiers.contains(&modifier);
    let (saturates, propagates) = (has("sat"), has("NaN"));
    let mut operands = [ty; 4];
    let (count, map) = match name {
        "mov" => (1, Some(map!(|a: u64| a))),
        "selp" => {
            operands[2] = Type::Pred;
            (3, Some(map!(|a: u64, b: u64, c: bool| if c { a } else { b })))
        }
        "add" if saturates => (2, floats!(ty, |a, b| (a + b).saturated())),
        "sub" if saturates => (2, floats!(ty, |a, b| (a - b).saturated())),
        "mul" if saturates => (2, floats!(ty, |a, b| (a * b).saturated())),
        "fma" | "mad" if saturates => (3, floats!(ty, |a, b, c| a.mul_add(b, c).saturated())),
        "add" => (2, floats!(ty, |a, b| (a + b).result())),
        "sub" => (2, floats!(ty, |a, b| (a - b).result())),
        "mul" => (2, floats!(ty, |a, b| (a * b).result())),
        "fma" | "mad" => (3, floats!(ty, |a, b, c| a.mul_add(b, c).result())),
        "div" if has("approx") => (2, by_type!(ty, [F32 => f32], |a, b| quotient(a, b).result())),
        "div" => (2, floats!(ty, |a, b| (a / b).result())),
        "rcp" => (1, floats!(ty, |a| a.recip().result())),
        "sqrt" => (1, floats!(ty, |a| a.sqrt().result())),
        "rsqrt" => (1, floats!(ty, |a| a.sqrt().recip().result())),
        "neg" => (1, floats!(ty, |a| (-a).result())),
        "abs" => (1, floats!(ty, |a| a.abs().result())),
        "min" if propagates => (
            2,
            by_type!(ty, [F32 => f32], |a, b| if a.is_nan() { a } else if b.is_nan() { b } else { a.least(b) }.result()),
        ),
        "max" if propagates => (
            2,
            by_type!(ty, [F32 => f32], |a, b| if a.is_nan() { a } else if b.is_nan() { b } else { a.greatest(b) }.result()),
        ),
        "min" => (2, floats!(ty, |a, b| a.least(b).result())),
        "max" => (2, floats!(ty, |a, b| a.greatest(b).result())),
        "copysign" => (2, floats!(ty, |a, b| b.copysign(a))),
        "ex2" => (1, by_type!(ty, [F32 => f32], |a| a.exp2().result())),
        "lg2" => (1, by_type!(ty, [F32 => f32], |a| a.log2().result())),
        "sin" => (1, by_type!(ty, [F32 => f32], |a| a.sin().result())),
        "cos" => (1, by_type!(ty, [F32 => f32], |a| a.cos().result())),
        "tanh" => (1, by_type!(ty, [F32 => f32], |a| a.tanh().result())),
        _ => return None,
    };
    Some(Alu { map: map?, count, operands, result: ty, flushes: has("ftz") })
}

/// `a / b` as `div.approx` computes it: the reciprocal of what is larger than 2^126 is zero.
fn quotient(a: f32, b: f32) -> f32 {
    const LARGE: f32 = f32::from_bits(253 << 23);
    if b.abs() > LARGE { a * 0f32.copysign(b) } else { a / b }
}
