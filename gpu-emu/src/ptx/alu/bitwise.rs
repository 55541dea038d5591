//! Bits: logic, shifts, fields, counts, permutations.

use super::{Alu, bits, by_type, map};
use crate::ptx::syntax::Type;

pub(super) fn find(name: &str, modifiers: &[&str], ty: Type) -> Option<Alu> {
    let mut operands = [ty; 4];
    // Lengths, positions and amounts are 32-bit numbers whatever is shifted.
    let amounts = |from: usize| {
        let mut operands = [ty; 4];
        operands[from..].fill(Type::U32);
        operands
    };
    // Rows keep no bits above their width, so that these are the same for all types that may be.
    let logic = matches!(ty, Type::Pred | Type::B16 | Type::B32 | Type::B64);
    let (count, map) = match (name, modifiers) {
        ("and", []) if logic => (2, Some(map!(|a: u64, b: u64| a & b))),
        ("or", []) if logic => (2, Some(map!(|a: u64, b: u64| a | b))),
        ("xor", []) if logic => (2, Some(map!(|a: u64, b: u64| a ^ b))),
        ("not", []) if ty == Type::Pred => (1, Some(map!(|a: bool| !a))),
        ("not", []) => (1, bits!(ty, |a| !a)),
        ("cnot", []) => (1, bits!(ty, |a| if a == 0 { 1 } else { 0 })),
        ("mov", []) if ty.bits() != 8 => (1, Some(map!(|a: u64| a))),
        ("selp", []) if ty.bits() >= 16 => {
            operands[2] = Type::Pred;
            (3, Some(map!(|a: u64, b: u64, c: bool| if c { a } else { b })))
        }
        ("shl", []) => {
            operands = amounts(1);
            (2, shift_left(ty))
        }
        ("shr", []) => {
            operands = amounts(1);
            (2, shift_right(ty))
        }
        ("popc", []) => (1, by_type!(ty, [B32 => u32, B64 => u64], |a| a.count_ones())),
        ("clz", []) => (1, by_type!(ty, [B32 => u32, B64 => u64], |a| a.leading_zeros())),
        ("brev", []) => (1, by_type!(ty, [B32 => u32, B64 => u64], |a| a.reverse_bits())),
        ("bfind", []) => (1, highest(ty, false)),
        ("bfind", ["shiftamt"]) => (1, highest(ty, true)),
        ("bfe", []) => {
            operands = amounts(1);
            (3, extract(ty))
        }
        ("bfi", []) => {
            operands = amounts(2);
            let map = match ty {
                Type::B32 => map!(|a: u64, b: u64, c: u32, e: u32| insert(a, b, c, e, 32) as u32),
                Type::B64 => map!(|a: u64, b: u64, c: u32, e: u32| insert(a, b, c, e, 64)),
                _ => return None,
            };
            (4, Some(map))
        }
        ("prmt", [] | ["f4e" | "b4e" | "rc8" | "ecl" | "ecr" | "rc16"]) if ty == Type::B32 => {
            (3, Some(permute(modifiers.first().copied())))
        }
        ("lop3", []) if ty == Type::B32 => {
            (4, Some(map!(|a: u32, b: u32, c: u32, e: u32| table(a, b, c, e))))
        }
        ("shf", [direction, mode]) if ty == Type::B32 => {
            operands[2] = Type::U32;
            (3, funnel(direction, mode))
        }
        _ => return None,
    };
    // Those that count bits.
    let counts = matches!(name, "popc" | "clz" | "bfind");
    let result = if counts { Type::U32 } else { ty };
    Some(Alu { map: map?, count, operands, result, flushes: false })
}

// Amounts beyond the width shift everything out.
fn shift_left(ty: Type) -> Option<super::Map> {
    Some(match ty {
        Type::B16 => map!(|a: u16, b: u32| a.checked_shl(b).unwrap_or(0)),
        Type::B32 => map!(|a: u32, b: u32| a.checked_shl(b).unwrap_or(0)),
        Type::B64 => map!(|a: u64, b: u32| a.checked_shl(b).unwrap_or(0)),
        _ => return None,
    })
}

fn shift_right(ty: Type) -> Option<super::Map> {
    Some(match (ty.bits(), ty.is_signed()) {
        (16, false) => map!(|a: u16, b: u32| a.checked_shr(b).unwrap_or(0)),
        (32, false) => map!(|a: u32, b: u32| a.checked_shr(b).unwrap_or(0)),
        (64, false) => map!(|a: u64, b: u32| a.checked_shr(b).unwrap_or(0)),
        (16, true) => map!(|a: i16, b: u32| a >> b.min(15)),
        (32, true) => map!(|a: i32, b: u32| a >> b.min(31)),
        (64, true) => map!(|a: i64, b: u32| a >> b.min(63)),
        _ => return None,
    })
}

/// The number of the highest bit that is set, or for negative numbers that is not; or how far left
/// it is from there to the top.
fn highest(ty: Type, amount: bool) -> Option<super::Map> {
    Some(match (ty, amount) {
        (Type::U32, false) => map!(|a: u32| 31u32.wrapping_sub(a.leading_zeros())),
        (Type::S32, false) => map!(|a: i32| 31u32.wrapping_sub((a ^ a >> 31).leading_zeros())),
        (Type::U64, false) => map!(|a: u64| 63u32.wrapping_sub(a.leading_zeros())),
        (Type::S64, false) => map!(|a: i64| 63u32.wrapping_sub((a ^ a >> 63).leading_zeros())),
        (Type::U32, true) => map!(|a: u32| if a == 0 { u32::MAX } else { a.leading_zeros() }),
        (Type::S32, true) => {
            map!(|a: i32| if a ^ a >> 31 == 0 { u32::MAX } else { (a ^ a >> 31).leading_zeros() })
        }
        (Type::U64, true) => map!(|a: u64| if a == 0 { u32::MAX } else { a.leading_zeros() }),
        (Type::S64, true) => {
            map!(|a: i64| if a ^ a >> 63 == 0 { u32::MAX } else { (a ^ a >> 63).leading_zeros() })
        }
        _ => return None,
    })
}

fn extract(ty: Type) -> Option<super::Map> {
    Some(match ty {
        Type::U32 => map!(|a: u32, b: u32, c: u32| unsigned_field(a.into(), b, c) as u32),
        Type::U64 => map!(|a: u64, b: u32, c: u32| unsigned_field(a, b, c)),
        Type::S32 => map!(|a: i32, b: u32, c: u32| signed_field(a.into(), b, c, 32) as i32),
        Type::S64 => map!(|a: i64, b: u32, c: u32| signed_field(a, b, c, 64)),
        _ => return None,
    })
}

/// The lowest `len` bits that are set; all 64 from there on.
fn ones(len: u32) -> u64 {
    1u64.checked_shl(len).map_or(u64::MAX, |bit| bit - 1)
}

fn unsigned_field(a: u64, at: u32, len: u32) -> u64 {
    a.checked_shr(at & 0xff).unwrap_or(0) & ones(len & 0xff)
}

/// Beyond the top, a field has copies of the sign.
fn signed_field(a: i64, at: u32, len: u32, width: u32) -> i64 {
    let (at, len) = (at & 0xff, len & 0xff);
    if len == 0 {
        return 0;
    }
    let field = a >> at.min(width - 1);
    let unused = 64u32.saturating_sub(len);
    field << unused >> unused
}

/// `b` with the lowest `len` bits of `a` at `at`; what would lie beyond the top is dropped.
fn insert(a: u64, b: u64, at: u32, len: u32, width: u32) -> u64 {
    let (at, len) = (at & 0xff, len & 0xff);
    if at >= width {
        return b;
    }
    let field = ones(len) << at;
    b & !field | a << at & field
}

/// Each nibble of the selector takes one of the eight bytes of `b:a`, or its sign.
fn select(a: u32, b: u32, nibbles: u32) -> u32 {
    let bytes = u64::from(b) << 32 | u64::from(a);
    (0..4).fold(0, |result, n| {
        let nibble = nibbles >> (4 * n) & 0xf;
        let byte = (bytes >> (8 * (nibble & 7))) as u8;
        let byte = if nibble & 8 != 0 { (byte as i8 >> 7) as u8 } else { byte };
        result | u32::from(byte) << (8 * n)
    })
}

fn permute(mode: Option<&str>) -> super::Map {
    /// The selector of a mode for each value of its two lowest bits.
    fn by(modes: [u32; 4], c: u32) -> u32 {
        modes[(c & 3) as usize]
    }
    match mode {
        Some("f4e") => {
            map!(|a: u32, b: u32, c: u32| select(a, b, by([0x3210, 0x4321, 0x5432, 0x6543], c)))
        }
        Some("b4e") => {
            map!(|a: u32, b: u32, c: u32| select(a, b, by([0x5670, 0x6701, 0x7012, 0x0123], c)))
        }
        Some("rc8") => {
            map!(|a: u32, b: u32, c: u32| select(a, b, by([0x0000, 0x1111, 0x2222, 0x3333], c)))
        }
        Some("ecl") => {
            map!(|a: u32, b: u32, c: u32| select(a, b, by([0x3210, 0x3211, 0x3222, 0x3333], c)))
        }
        Some("ecr") => {
            map!(|a: u32, b: u32, c: u32| select(a, b, by([0x0000, 0x1110, 0x2210, 0x3210], c)))
        }
        Some("rc16") => {
            map!(|a: u32, b: u32, c: u32| select(a, b, by([0x1010, 0x3232, 0x1010, 0x3232], c)))
        }
        _ => map!(|a: u32, b: u32, c: u32| select(a, b, c)),
    }
}

/// Any function of three bits, as a table of eight.
fn table(a: u32, b: u32, c: u32, table: u32) -> u32 {
    (0..8).filter(|row| table >> row & 1 != 0).fold(0, |result, row| {
        let pick = |word: u32, bit: u32| if row >> bit & 1 != 0 { word } else { !word };
        result | pick(a, 2) & pick(b, 1) & pick(c, 0)
    })
}

/// Shifts `b:a` and keeps half.
fn funnel(direction: &str, mode: &str) -> Option<super::Map> {
    fn pair(a: u32, b: u32) -> u64 {
        u64::from(b) << 32 | u64::from(a)
    }
    Some(match (direction, mode) {
        ("l", "wrap") => map!(|a: u32, b: u32, c: u32| (pair(a, b) << (c & 31) >> 32) as u32),
        ("l", "clamp") => map!(|a: u32, b: u32, c: u32| (pair(a, b) << c.min(32) >> 32) as u32),
        ("r", "wrap") => map!(|a: u32, b: u32, c: u32| (pair(a, b) >> (c & 31)) as u32),
        ("r", "clamp") => map!(|a: u32, b: u32, c: u32| (pair(a, b) >> c.min(32)) as u32),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_beyond_the_top() {
        assert_eq!(unsigned_field(0xff00, 8, 4), 0xf);
        assert_eq!(unsigned_field(u64::MAX, 64, 8), 0);
        assert_eq!(signed_field(-1, 40, 8, 64), -1);
        assert_eq!(signed_field(0x80, 4, 4, 32), -8);
        assert_eq!(signed_field(i64::from(i32::MIN), 40, 1, 32), -1);
        assert_eq!(insert(0xff, 0, 60, 8, 64), 0xf << 60);
        assert_eq!(insert(0xab, 0x1111_1111, 8, 8, 32), 0x1111_ab11);
    }

    #[test]
    fn bytes_are_permuted() {
        assert_eq!(select(0x3322_1100, 0x7766_5544, 0x0246), 0x0022_4466);
        assert_eq!(select(0x0000_0080, 0, 0x8888), 0xffff_ffff);
        assert_eq!(select(0x0403_0201, 0, 0x7773), 0x0000_0004);
    }

    #[test]
    fn tables_of_three_bits() {
        let (a, b, c) = (0xf0f0_1234, 0xcccc_5678, 0xaaaa_9abc);
        assert_eq!(table(a, b, c, 0x80), a & b & c);
        assert_eq!(table(a, b, c, 0x96), a ^ b ^ c);
        assert_eq!(table(a, b, c, 0xca), a & b | !a & c);
    }
}
