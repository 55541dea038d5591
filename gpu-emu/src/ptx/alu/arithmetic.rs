//! Whole numbers: sums, products, quotients.

use super::{Alu, by_type, integers, map, numbers};
use crate::ptx::syntax::Type;

/// The type that is twice as wide.
fn wide(ty: Type) -> Type {
    match ty {
        Type::U16 => Type::U32,
        Type::S16 => Type::S32,
        Type::S32 => Type::S64,
        _ => Type::U64,
    }
}

/// A computation on two integers and a carry.
macro_rules! with_carry {
    ($ty:expr, |$a:ident, $b:ident, $c:ident| $result:expr) => {
        match $ty {
            Type::U32 | Type::S32 => Some(map!(|$a: u32, $b: u32, $c: bool| $result)),
            Type::U64 | Type::S64 => Some(map!(|$a: u64, $b: u64, $c: bool| $result)),
            _ => None,
        }
    };
}

pub(super) fn find(name: &str, modifiers: &[&str], ty: Type) -> Option<Alu> {
    let mut operands = [ty; 4];
    let (count, map) = match (name, modifiers) {
        ("add", []) => (2, numbers!(ty, |a, b| a.wrapping_add(b))),
        ("sub", []) => (2, numbers!(ty, |a, b| a.wrapping_sub(b))),
        ("add", ["sat"]) => (2, by_type!(ty, [S32 => i32], |a, b| a.saturating_add(b))),
        ("sub", ["sat"]) => (2, by_type!(ty, [S32 => i32], |a, b| a.saturating_sub(b))),
        ("mul", ["lo"]) => (2, numbers!(ty, |a, b| a.wrapping_mul(b))),
        ("mul", ["hi"]) => (2, high(ty)),
        ("mul", ["wide"]) => {
            let map = match ty {
                Type::U16 => map!(|a: u16, b: u16| u32::from(a) * u32::from(b)),
                Type::S16 => map!(|a: i16, b: i16| i32::from(a) * i32::from(b)),
                Type::U32 => map!(|a: u32, b: u32| u64::from(a) * u64::from(b)),
                Type::S32 => map!(|a: i32, b: i32| i64::from(a) * i64::from(b)),
                _ => return None,
            };
            (2, Some(map))
        }
        ("mad", ["lo"]) => (3, numbers!(ty, |a, b, c| a.wrapping_mul(b).wrapping_add(c))),
        ("mad", ["hi"]) => (3, high_and_add(ty)),
        ("mad", ["wide"]) => {
            operands[2] = wide(ty);
            let map = match ty {
                Type::U16 => {
                    map!(|a: u16, b: u16, c: u32| (u32::from(a) * u32::from(b)).wrapping_add(c))
                }
                Type::S16 => {
                    map!(|a: i16, b: i16, c: i32| (i32::from(a) * i32::from(b)).wrapping_add(c))
                }
                Type::U32 => {
                    map!(|a: u32, b: u32, c: u64| (u64::from(a) * u64::from(b)).wrapping_add(c))
                }
                Type::S32 => {
                    map!(|a: i32, b: i32, c: i64| (i64::from(a) * i64::from(b)).wrapping_add(c))
                }
                _ => return None,
            };
            (3, Some(map))
        }
        // What a division by zero gives is left open; GPUs give all ones.
        ("div", []) => (2, integers!(ty, |a, b| if b == 0 { !0 } else { a.wrapping_div(b) })),
        ("rem", []) => (2, integers!(ty, |a, b| if b == 0 { !0 } else { a.wrapping_rem(b) })),
        ("min", []) => (2, integers!(ty, |a, b| a.min(b))),
        ("max", []) => (2, integers!(ty, |a, b| a.max(b))),
        ("neg", []) => {
            (1, by_type!(ty, [S16 => i16, S32 => i32, S64 => i64], |a| a.wrapping_neg()))
        }
        ("abs", []) => {
            (1, by_type!(ty, [S16 => i16, S32 => i32, S64 => i64], |a| a.wrapping_abs()))
        }
        ("sad", []) => {
            (3, integers!(ty, |a, b, c| c.wrapping_add(a.max(b).wrapping_sub(a.min(b)))))
        }
        // With the carry as the last operand; what comes out of them is `carry` and `borrow`.
        ("addc", []) => {
            operands[2] = Type::Pred;
            (3, with_carry!(ty, |a, b, c| a.wrapping_add(b).wrapping_add(c.into())))
        }
        ("subc", []) => {
            operands[2] = Type::Pred;
            (3, with_carry!(ty, |a, b, c| a.wrapping_sub(b).wrapping_sub(c.into())))
        }
        ("addc", ["carry"]) => (3, with_carry!(ty, |a, b, c| a.carry_out(b, c))),
        ("subc", ["carry"]) => (3, with_carry!(ty, |a, b, c| a.borrow_out(b, c))),
        _ => return None,
    };
    let result = if modifiers == ["wide"] { wide(ty) } else { ty };
    Some(Alu { map: map?, count, operands, result, flushes: false })
}

/// The carry out of a sum of three, and the borrow out of a difference.
trait Carry {
    fn carry_out(self, b: Self, carry: bool) -> bool;
    fn borrow_out(self, b: Self, borrow: bool) -> bool;
}

macro_rules! carry {
    ($($ty:ty, $wide:ty;)*) => {$(
        impl Carry for $ty {
            fn carry_out(self, b: $ty, carry: bool) -> bool {
                <$wide>::from(self) + <$wide>::from(b) + <$wide>::from(carry) > <$ty>::MAX.into()
            }

            fn borrow_out(self, b: $ty, borrow: bool) -> bool {
                <$wide>::from(self) < <$wide>::from(b) + <$wide>::from(borrow)
            }
        }
    )*};
}

carry! {
    u32, u64;
    u64, u128;
}

/// The upper half of a product.
fn high(ty: Type) -> Option<super::Map> {
    Some(match ty {
        Type::U16 => map!(|a: u16, b: u16| ((u32::from(a) * u32::from(b)) >> 16) as u16),
        Type::S16 => map!(|a: i16, b: i16| ((i32::from(a) * i32::from(b)) >> 16) as i16),
        Type::U32 => map!(|a: u32, b: u32| ((u64::from(a) * u64::from(b)) >> 32) as u32),
        Type::S32 => map!(|a: i32, b: i32| ((i64::from(a) * i64::from(b)) >> 32) as i32),
        Type::U64 => map!(|a: u64, b: u64| ((u128::from(a) * u128::from(b)) >> 64) as u64),
        Type::S64 => map!(|a: i64, b: i64| ((i128::from(a) * i128::from(b)) >> 64) as i64),
        _ => return None,
    })
}

fn high_and_add(ty: Type) -> Option<super::Map> {
    Some(match ty {
        Type::U32 => map!(|a: u32, b: u32, c: u32| {
            (((u64::from(a) * u64::from(b)) >> 32) as u32).wrapping_add(c)
        }),
        Type::S32 => map!(|a: i32, b: i32, c: i32| {
            (((i64::from(a) * i64::from(b)) >> 32) as i32).wrapping_add(c)
        }),
        Type::U64 => map!(|a: u64, b: u64, c: u64| {
            (((u128::from(a) * u128::from(b)) >> 64) as u64).wrapping_add(c)
        }),
        Type::S64 => map!(|a: i64, b: i64, c: i64| {
            (((i128::from(a) * i128::from(b)) >> 64) as i64).wrapping_add(c)
        }),
        _ => return None,
    })
}
