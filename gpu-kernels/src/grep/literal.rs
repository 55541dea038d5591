//! One literal, in one case or in both.

use super::program::Program;

/// Bytes compared at a time by [`Folded`]; a multiple of every vector width.
const LANES: usize = 64;

/// A literal of which ASCII letters match both cases.
///
/// Two bytes of the needle that are rare in text are compared at all positions of a block at
/// once, which compilers turn into vector code on any target; the whole needle is compared where
/// both agree. (The packed-pair technique of Muła's generic SIMD substring search.)
#[derive(Clone, Copy)]
pub(super) struct Folded<'p> {
    needle: &'p [u8],
    /// Offset in the needle, the byte there, and the bit that its case may differ in.
    first: Probe,
    second: Probe,
}

#[derive(Clone, Copy)]
struct Probe {
    at: usize,
    byte: u8,
    case: u8,
}

impl Probe {
    fn new(needle: &[u8], at: usize) -> Self {
        let byte = needle[at];
        let case = if byte.is_ascii_alphabetic() { 0x20 } else { 0 };
        Probe { at, byte: byte | case, case }
    }
}

impl<'p> Folded<'p> {
    /// `program.needle` is in lower case and not empty.
    pub(super) fn new(program: &Program<'p>) -> Self {
        let needle = program.needle;
        // The two rarest bytes; the same offset twice when there is but one.
        let (mut a, mut b) = (0, needle.len() - 1);
        if rarity(needle[a]) < rarity(needle[b]) {
            (a, b) = (b, a);
        }
        for i in 1..needle.len().saturating_sub(1) {
            if rarity(needle[i]) > rarity(needle[a]) {
                (a, b) = (i, a);
            } else if rarity(needle[i]) > rarity(needle[b]) {
                b = i;
            }
        }
        Folded { needle, first: Probe::new(needle, a), second: Probe::new(needle, b) }
    }

    /// Offset of the first occurrence in `hay`.
    pub(super) fn find(&self, hay: &[u8]) -> Option<usize> {
        let starts = (hay.len() + 1).checked_sub(self.needle.len())?;
        let (p, q) = (self.first, self.second);
        let mut i = 0;
        while i + LANES <= starts {
            let x: &[u8; LANES] = hay[i + p.at..].first_chunk()?;
            let y: &[u8; LANES] = hay[i + q.at..].first_chunk()?;
            let mut any = 0u8;
            for k in 0..LANES {
                any |= ((x[k] | p.case == p.byte) & (y[k] | q.case == q.byte)) as u8;
            }
            if any != 0
                && let Some(k) = (i..i + LANES).find(|&k| self.matches(hay, k))
            {
                return Some(k);
            }
            i += LANES;
        }
        (i..starts).find(|&k| self.matches(hay, k))
    }

    #[inline]
    fn matches(&self, hay: &[u8], at: usize) -> bool {
        let p = self.first;
        hay[at + p.at] | p.case == p.byte
            && hay[at..at + self.needle.len()].eq_ignore_ascii_case(self.needle)
    }
}

/// How rare a byte is in prose and source code, roughly: greater is rarer.
fn rarity(b: u8) -> u8 {
    match b {
        b' ' => 0,
        b'e' | b't' | b'a' | b'o' | b'i' | b'n' | b's' | b'r' => 1,
        b'l' | b'd' | b'c' | b'u' | b'h' | b'm' | b'p' => 2,
        b'f' | b'g' | b'y' | b'b' | b'w' | b'v' | b'_' | b'.' | b',' | b'-' | b'"' | b'/' => 3,
        b'k' | b'x' | b'0'..=b'9' | b'(' | b')' | b':' | b';' | b'=' | b'<' | b'>' => 4,
        b'j' | b'q' | b'z' => 5,
        _ => 6,
    }
}
