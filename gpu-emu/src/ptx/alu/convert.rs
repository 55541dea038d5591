//! Conversions between types.

use super::float::{Float, flush};
use super::{by_type, map};
use crate::ptx::row::Map;
use crate::ptx::syntax::Type;

/// A step of a conversion: a computation on the value and up to two numbers.
pub(in crate::ptx) struct Step {
    pub(in crate::ptx) map: Map,
    pub(in crate::ptx) numbers: [u64; 2],
}

impl Step {
    fn new(map: Map) -> Step {
        Step { map, numbers: [0; 2] }
    }
}

fn mask(bits: u32) -> u64 {
    u64::MAX >> (64 - bits)
}

/// What a conversion's modifiers say.
#[derive(Clone, Copy)]
struct How<'a> {
    rounding: Option<&'a str>,
    saturates: bool,
    flushes: bool,
}

impl<'a> How<'a> {
    fn new(modifiers: &[&'a str]) -> Option<How<'a>> {
        let mut how = How { rounding: None, saturates: false, flushes: false };
        for &modifier in modifiers {
            match modifier {
                "sat" if !how.saturates => how.saturates = true,
                "ftz" if !how.flushes => how.flushes = true,
                "rn" | "rni" | "rzi" | "rmi" | "rpi" if how.rounding.is_none() => {
                    how.rounding = Some(modifier);
                }
                _ => return None,
            }
        }
        Some(how)
    }
}

/// The steps from `from` to `to`, and on to a register of `width` bits, which keeps the sign of a
/// signed type. Nothing for what is not supported.
pub(in crate::ptx) fn convert(
    modifiers: &[&str],
    to: Type,
    from: Type,
    width: u32,
) -> Option<Vec<Step>> {
    let how = How::new(modifiers)?;
    let has = |ty| to == ty || from == ty;
    let number = |ty: Type| ty.is_float() || ty.is_integer();
    if !number(to) || !number(from) || how.flushes && !has(Type::F32) {
        return None;
    }
    let mut steps = match (to.is_float(), from.is_float()) {
        (false, false) if how.rounding.is_none() && !(how.saturates && to == from) => {
            integers(how.saturates, to, from)
        }
        (true, false) if how.rounding == Some("rn") && !how.saturates => {
            // A narrow number first becomes one of 64 bits.
            let mut steps =
                integers(false, if from.is_signed() { Type::S64 } else { Type::U64 }, from);
            steps.push(Step::new(match (to, from.is_signed()) {
                (Type::F32, false) => map!(|a: u64| a as f32),
                (Type::F32, true) => map!(|a: i64| a as f32),
                (_, false) => map!(|a: u64| a as f64),
                (_, true) => map!(|a: i64| a as f64),
            }));
            return Some(steps);
        }
        (false, true) => {
            let mut steps = vec![Step::new(round(how.rounding?, from)?)];
            steps.push(Step::new(truncate(to, from)?));
            steps
        }
        (true, true) => floats(how, to, from)?,
        _ => return None,
    };
    if how.flushes && from == Type::F32 {
        steps.insert(0, Step::new(flush()));
    }
    if how.flushes && to == Type::F32 {
        steps.push(Step::new(flush()));
    }
    if to.is_signed() && to.bits() < width {
        steps.push(sign_extension(to.bits(), width));
    }
    Some(steps)
}

/// The lowest `from` bits as a signed number of `to` bits.
fn sign_extension(from: u32, to: u32) -> Step {
    Step {
        map: map!(|a: u64, shift: u64, mask: u64| ((a << shift) as i64) >> shift & mask as i64),
        numbers: [u64::from(64 - from), mask(to)],
    }
}

fn integers(saturate: bool, to: Type, from: Type) -> Vec<Step> {
    if saturate {
        // The bounds within which nothing changes, as the source sees them.
        let (low, high) = if to.is_signed() {
            (-(1i128 << (to.bits() - 1)), (1i128 << (to.bits() - 1)) - 1)
        } else {
            (0, mask(to.bits()).into())
        };
        if from.is_signed() {
            let wide = sign_extension(from.bits(), 64);
            let bound = |n: i128| n.clamp(i64::MIN.into(), i64::MAX.into()) as i64 as u64;
            let clamp = Step {
                map: map!(|a: i64, low: i64, high: i64| a.clamp(low, high)),
                numbers: [bound(low), bound(high)],
            };
            return vec![wide, clamp, truncation(to.bits())];
        }
        let clamp = Step { map: map!(|a: u64, high: u64| a.min(high)), numbers: [high as u64, 0] };
        return vec![truncation(from.bits()), clamp];
    }
    if from.is_signed() && from.bits() < to.bits() {
        vec![sign_extension(from.bits(), to.bits())]
    } else {
        vec![truncation(from.bits().min(to.bits()))]
    }
}

fn truncation(bits: u32) -> Step {
    Step { map: map!(|a: u64, mask: u64| a & mask), numbers: [mask(bits), 0] }
}

/// To a whole number, in the same type.
fn round(rounding: &str, ty: Type) -> Option<Map> {
    macro_rules! float {
        (|$a:ident| $result:expr) => {
            by_type!(ty, [F32 => f32, F64 => f64], |$a| $result)
        };
    }
    match rounding {
        "rni" => float!(|a| a.round_ties_even()),
        "rzi" => float!(|a| a.trunc()),
        "rmi" => float!(|a| a.floor()),
        "rpi" => float!(|a| a.ceil()),
        _ => None,
    }
}

/// From a whole number in a floating-point type; what does not fit becomes the nearest that does. What is
/// no number becomes zero if both types have at most 32 bits, else the highest bit alone.
fn truncate(to: Type, from: Type) -> Option<Map> {
    macro_rules! to {
        ($t:ident) => {{
            const HIGHEST: $t = 1 << ($t::BITS - 1);
            match from {
                Type::F32 if $t::BITS < 64 => Some(map!(|a: f32| a as $t)),
                _ => by_type!(from, [F32 => f32, F64 => f64], |a| if a.is_nan() { HIGHEST } else { a as $t }),
            }
        }};
    }
    match to {
        Type::U8 => to!(u8),
        Type::S8 => to!(i8),
        Type::U16 => to!(u16),
        Type::U32 => to!(u32),
        Type::U64 => to!(u64),
        Type::S16 => to!(i16),
        Type::S32 => to!(i32),
        Type::S64 => to!(i64),
        _ => None,
    }
}

fn floats(how: How<'_>, to: Type, from: Type) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    match (to, from, how.rounding) {
        (Type::F64, Type::F32, None) => steps.push(Step::new(map!(|a: f32| f64::from(a)))),
        (Type::F32, Type::F64, Some("rn")) => {
            steps.push(Step::new(map!(|a: f64| (a as f32).result())));
        }
        (_, _, Some(integral)) if to == from => steps.push(Step::new(round(integral, from)?)),
        (_, _, None) if to == from => steps.push(Step::new(map!(|a: u64| a))),
        _ => return None,
    }
    if how.saturates {
        steps.push(Step::new(by_type!(to, [F32 => f32, F64 => f64], |a| a.saturated())?));
    }
    Some(steps)
}
