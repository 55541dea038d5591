//! Characters: UTF-8 at the two ends of a byte string, and which characters make words.

use super::program::{ProgramError, table};

/// Entries of the first level of [`WordChars`]: one per 256 code points.
pub const WORD_INDEX_LEN: usize = 0x11_0000 / 256;

/// The code points that belong to words, as a two-level bitmap.
///
/// `index[c / 256]` is the number of a block of 256 bits, in which bit `c % 256` tells. Equal
/// blocks are stored once.
#[derive(Clone, Copy)]
pub struct WordChars<'p> {
    index: &'p [u16],
    blocks: &'p [[u32; 8]],
}

impl<'p> WordChars<'p> {
    /// Reads the section: [`WORD_INDEX_LEN`] indices, then the blocks.
    pub(super) fn new(bytes: &'p [u8]) -> Result<Self, ProgramError> {
        let (index, rest) = table::<u16>(bytes, WORD_INDEX_LEN)?;
        let (blocks, _) = table::<[u32; 8]>(rest, rest.len() / 32)?;
        Ok(WordChars { index, blocks })
    }

    /// Whether `c` belongs to words. A block that is not there has no such characters.
    pub fn contains(&self, c: u32) -> bool {
        let Some(&block) = self.index.get((c / 256) as usize) else { return false };
        match self.blocks.get(block as usize) {
            Some(bits) => bits[(c % 256 / 32) as usize] >> (c % 32) & 1 != 0,
            None => false,
        }
    }
}

/// The characters of a text: bytes, or UTF-8 with a table of word characters.
#[derive(Clone, Copy)]
pub(super) struct Chars<'p> {
    pub(super) utf8: bool,
    pub(super) words: Option<WordChars<'p>>,
}

/// Whether an ASCII byte belongs to words: letters, digits, underscore.
#[inline]
pub(super) fn is_word_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

impl Chars<'_> {
    /// Whether a word character ends right before `at`.
    #[inline]
    pub(super) fn word_before(&self, text: &[u8], at: usize) -> bool {
        match text[..at].last() {
            None => false,
            Some(&b) if b < 0x80 => is_word_byte(b),
            Some(_) => self.utf8 && decode_last(&text[..at]).is_some_and(|c| self.is_word(c)),
        }
    }

    /// Whether a word character starts at `at`.
    #[inline]
    pub(super) fn word_after(&self, text: &[u8], at: usize) -> bool {
        match text[at..].first() {
            None => false,
            Some(&b) if b < 0x80 => is_word_byte(b),
            Some(_) => self.word_len(&text[at..]) != 0,
        }
    }

    /// Whether neither end of `start..end` has a word character on its other side.
    #[inline(never)]
    pub(super) fn is_bounded(&self, text: &[u8], start: usize, end: usize) -> bool {
        !self.word_before(text, start) && !self.word_after(text, end)
    }

    /// Whether a word character starts at `at`; `None` at the end of `text`.
    #[inline]
    pub(super) fn starts_word(&self, text: &[u8], at: usize) -> Option<bool> {
        let &b = text.get(at)?;
        Some(if b < 0x80 { is_word_byte(b) } else { self.word_len(&text[at..]) != 0 })
    }

    /// Length of the word character with which `text` starts; 0 when it starts with none.
    #[inline]
    pub(super) fn word_len(&self, text: &[u8]) -> usize {
        match text.first() {
            None => 0,
            Some(&b) if b < 0x80 => is_word_byte(b) as usize,
            Some(_) if !self.utf8 => 0,
            Some(_) => match decode(text) {
                Some((c, len)) if self.is_word(c) => len,
                _ => 0,
            },
        }
    }

    /// Whether `at` lies inside a character of several bytes.
    #[inline(never)]
    pub(super) fn splits_char(&self, text: &[u8], at: usize) -> bool {
        if !self.utf8 || text.get(at).is_none_or(|b| b & 0xc0 != 0x80) {
            return false;
        }
        let tail = &text[at.saturating_sub(3)..at];
        let Some(lead) = tail.iter().rposition(|b| b & 0xc0 != 0x80) else { return false };
        let lead = at - tail.len() + lead;
        decode(&text[lead..]).is_some_and(|(_, len)| lead + len > at)
    }

    fn is_word(&self, c: u32) -> bool {
        self.words.is_some_and(|w| w.contains(c))
    }
}

/// The code point at the start of `text` and its length; `None` if the bytes are not UTF-8.
#[inline(never)]
pub(super) fn decode(text: &[u8]) -> Option<(u32, usize)> {
    let &first = text.first()?;
    // How long it is, what its first byte says of it, and the least that needs so many bytes.
    let (len, bits, least) = match first {
        0..0x80 => (1, first, 0),
        0xc2..0xe0 => (2, first & 0x1f, 0x80),
        0xe0..0xf0 => (3, first & 0xf, 0x800),
        0xf0..0xf5 => (4, first & 7, 0x1_0000),
        _ => return None,
    };
    let mut c = u32::from(bits);
    for &b in text.get(1..len)? {
        if b & 0xc0 != 0x80 {
            return None;
        }
        c = c << 6 | u32::from(b & 0x3f);
    }
    // There are none for surrogates, nor beyond the last.
    char::from_u32(c).filter(|_| c >= least).map(|_| (c, len))
}

/// The code point that ends `text`; `None` if the bytes there are not UTF-8.
#[inline(never)]
fn decode_last(text: &[u8]) -> Option<u32> {
    let tail = &text[text.len().saturating_sub(4)..];
    let lead = tail.iter().rposition(|b| b & 0xc0 != 0x80)?;
    let (c, len) = decode(&tail[lead..])?;
    (lead + len == tail.len()).then_some(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_those_of_the_standard_library() {
        // Bytes at the bounds of what may follow the first, which may be any.
        const NEXT: [u8; 13] =
            [0, 0x41, 0x7f, 0x80, 0x81, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xf4, 0xff];
        for number in 0..256 * NEXT.len().pow(3) {
            let next = |place: u32| NEXT[number / 256 / NEXT.len().pow(place) % NEXT.len()];
            let text = [(number % 256) as u8, next(0), next(1), next(2)];
            for len in 0..=4 {
                let bytes = &text[..len];
                let valid = match core::str::from_utf8(bytes) {
                    Ok(all) => all,
                    Err(e) => core::str::from_utf8(&bytes[..e.valid_up_to()]).unwrap(),
                };
                let first = valid.chars().next().map(|c| (c as u32, c.len_utf8()));
                assert_eq!(decode(bytes), first, "{bytes:x?}");
            }
        }
        for char in '\0'..=char::MAX {
            let mut bytes = [0; 4];
            let len = char.encode_utf8(&mut bytes).len();
            assert_eq!(decode(&bytes), Some((char as u32, len)));
        }
    }
}
