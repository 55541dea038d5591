//! Comparisons, and what combines them with another predicate.

use super::{by_type, integers, map};
use crate::ptx::row::Map;
use crate::ptx::syntax::Type;

/// The predicate that a comparison of two values makes.
pub(in crate::ptx) fn compare(how: &str, ty: Type) -> Option<Map> {
    if ty.is_float() {
        return floats(how, ty);
    }
    // Some are of unsigned numbers alone; bits are equal or not, and nothing more.
    let how = match how {
        "lo" | "ls" | "hi" | "hs" if ty.is_signed() => return None,
        "lo" => "lt",
        "ls" => "le",
        "hi" => "gt",
        "hs" => "ge",
        how => how,
    };
    match how {
        "eq" if ty.bits() >= 16 => Some(map!(|a: u64, b: u64| a == b)),
        "ne" if ty.bits() >= 16 => Some(map!(|a: u64, b: u64| a != b)),
        "lt" => integers!(ty, |a, b| a < b),
        "le" => integers!(ty, |a, b| a <= b),
        "gt" => integers!(ty, |a, b| a > b),
        "ge" => integers!(ty, |a, b| a >= b),
        _ => None,
    }
}

/// The second row of each pair holds also where one of the two is not a number.
fn floats(how: &str, ty: Type) -> Option<Map> {
    macro_rules! float {
        (|$a:ident, $b:ident| $result:expr) => {
            by_type!(ty, [F32 => f32, F64 => f64], |$a, $b| $result)
        };
    }
    match how {
        "eq" => float!(|a, b| a == b),
        "equ" => float!(|a, b| a == b || a.is_nan() || b.is_nan()),
        "ne" => float!(|a, b| a != b && !a.is_nan() && !b.is_nan()),
        "neu" => float!(|a, b| a != b),
        "lt" => float!(|a, b| a < b),
        "ltu" => float!(|a, b| a.is_nan() || b.is_nan() || a < b),
        "le" => float!(|a, b| a <= b),
        "leu" => float!(|a, b| a.is_nan() || b.is_nan() || a <= b),
        "gt" => float!(|a, b| a > b),
        "gtu" => float!(|a, b| a.is_nan() || b.is_nan() || a > b),
        "ge" => float!(|a, b| a >= b),
        "geu" => float!(|a, b| a.is_nan() || b.is_nan() || a >= b),
        "num" => float!(|a, b| !a.is_nan() && !b.is_nan()),
        "nan" => float!(|a, b| a.is_nan() || b.is_nan()),
        _ => None,
    }
}

/// What makes one predicate of two.
pub(in crate::ptx) fn combine(how: &str) -> Option<Map> {
    match how {
        "and" => Some(map!(|a: u64, b: u64| a & b)),
        "or" => Some(map!(|a: u64, b: u64| a | b)),
        "xor" => Some(map!(|a: u64, b: u64| a ^ b)),
        _ => None,
    }
}
