//! What the instructions compute that concern a lane's registers alone: one table from names and
//! types to code.

mod arithmetic;
mod bitwise;
mod compare;
mod convert;
mod float;

use super::row::Map;
use super::syntax::Type;

pub(super) use compare::{combine, compare};
pub(super) use convert::convert;
pub(super) use float::{Float, flush, flushed};

/// A computation, and the types of its operands and its result.
#[derive(Clone, Copy)]
pub(super) struct Alu {
    pub(super) map: Map,
    pub(super) count: usize,
    pub(super) operands: [Type; 4],
    pub(super) result: Type,
    /// Whether subnormal operands and results are zero.
    pub(super) flushes: bool,
}

/// Whether modifiers are some of those that there may be, none twice.
fn some_of(modifiers: &[&str], known: &[&str]) -> bool {
    modifiers.iter().enumerate().all(|(n, m)| known.contains(m) && !modifiers[..n].contains(m))
}

/// The computation that an instruction's name, its modifiers and its type say; the type is the last
/// modifier, and no more among `modifiers`.
pub(super) fn find(name: &str, modifiers: &[&str], ty: Type) -> Option<Alu> {
    if ty.is_float() {
        float::find(name, modifiers, ty)
    } else {
        arithmetic::find(name, modifiers, ty).or_else(|| bitwise::find(name, modifiers, ty))
    }
}

/// A value of a lane as Rust's type for it.
trait Value: Copy {
    fn of(bits: u64) -> Self;
    fn bits(self) -> u64;
}

macro_rules! values {
    ($($ty:ty: |$bits:ident| $of:expr, |$value:ident| $to:expr;)*) => {$(
        impl Value for $ty {
            #[inline(always)]
            fn of($bits: u64) -> Self {
                $of
            }

            #[inline(always)]
            fn bits(self) -> u64 {
                let $value = self;
                $to
            }
        }
    )*};
}

values! {
    bool: |b| b & 1 != 0, |v| v.into();
    u8: |b| b as u8, |v| v.into();
    i8: |b| b as i8, |v| u64::from(v as u8);
    u16: |b| b as u16, |v| v.into();
    u32: |b| b as u32, |v| v.into();
    u64: |b| b, |v| v;
    i16: |b| b as i16, |v| u64::from(v as u16);
    i32: |b| b as i32, |v| u64::from(v as u32);
    i64: |b| b as i64, |v| v as u64;
    f32: |b| f32::from_bits(b as u32), |v| u64::from(v.to_bits());
    f64: |b| f64::from_bits(b), |v| v.to_bits();
}

/// A [`Map`] of a function of values.
macro_rules! map {
    (|$($x:ident: $t:ty),+| $result:expr) => {{
        fn run(lanes: &$crate::ptx::row::Lanes, i: &$crate::ptx::code::Inst) {
            lanes.map(i, |[$($x),+]| {
                $(let $x = <$t as $crate::ptx::alu::Value>::of($x);)+
                $crate::ptx::alu::Value::bits($result)
            });
        }
        run as $crate::ptx::row::Map
    }};
    (@all $t:ty, [$($x:ident),+], $result:expr) => {
        $crate::ptx::alu::map!(|$($x: $t),+| $result)
    };
}

/// A [`Map`] for each of several types, chosen by a [`Type`]; nothing for others. All operands have
/// that type.
macro_rules! by_type {
    ($ty:expr, $types:tt, |$($x:ident),+| $result:expr) => {
        $crate::ptx::alu::by_type!(@each $ty, $types, [$($x),+], $result)
    };
    (@each $ty:expr, [$($($variant:ident)|+ => $t:ident),+], $operands:tt, $result:expr) => {
        match $ty {
            $($($crate::ptx::syntax::Type::$variant)|+ => {
                Some($crate::ptx::alu::map!(@all $t, $operands, $result))
            })+
            _ => None,
        }
    };
}

/// [`by_type`] for integers, signed where the type is.
macro_rules! integers {
    ($ty:expr, |$($x:ident),+| $result:expr) => {
        $crate::ptx::alu::by_type!(
            $ty,
            [U16 => u16, U32 => u32, U64 => u64, S16 => i16, S32 => i32, S64 => i64],
            |$($x),+| $result
        )
    };
}

/// [`by_type`] for integers, all taken as unsigned.
macro_rules! numbers {
    ($ty:expr, |$($x:ident),+| $result:expr) => {
        $crate::ptx::alu::by_type!(
            $ty,
            [U16 | S16 => u16, U32 | S32 => u32, U64 | S64 => u64],
            |$($x),+| $result
        )
    };
}

/// [`by_type`] for types that are no more than bits.
macro_rules! bits {
    ($ty:expr, |$($x:ident),+| $result:expr) => {
        $crate::ptx::alu::by_type!($ty, [B16 => u16, B32 => u32, B64 => u64], |$($x),+| $result)
    };
}

use {bits, by_type, integers, map, numbers};
