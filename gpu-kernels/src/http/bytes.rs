//! Bytes in two parts, as a ring lends them.

/// Bytes of which the second part goes on where the first ends.
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a> {
    parts: [&'a [u8]; 2],
}

impl<'a> Bytes<'a> {
    /// The bytes of both parts.
    #[must_use]
    pub const fn new(parts: [&'a [u8]; 2]) -> Self {
        Bytes { parts }
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.parts[0].len() + self.parts[1].len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The byte at `at`.
    #[inline]
    #[must_use]
    pub fn get(&self, at: usize) -> Option<u8> {
        let [first, second] = self.parts;
        first.get(at).or_else(|| second.get(at.wrapping_sub(first.len()))).copied()
    }

    /// Those of a span, cut to what is there.
    #[must_use]
    pub fn span(&self, span: Span) -> Bytes<'a> {
        let cut = |part: &'a [u8], before: usize| {
            let start = span.at.saturating_sub(before).min(part.len());
            let end = (span.at + span.len).saturating_sub(before).clamp(start, part.len());
            &part[start..end]
        };
        let [first, second] = self.parts;
        Bytes::new([cut(first, 0), cut(second, first.len())])
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = u8> + use<'a> {
        self.parts.into_iter().flatten().copied()
    }

    /// Whether they are these, whatever the case of letters.
    #[must_use]
    pub fn is(&self, word: &[u8]) -> bool {
        self.len() == word.len() && self.iter().zip(word).all(|(a, b)| a.eq_ignore_ascii_case(b))
    }

    /// Without spaces and tabs at either end.
    #[must_use]
    pub fn trimmed(&self, span: Span) -> Span {
        let is_space = |at: usize| matches!(self.get(at), Some(b' ' | b'\t'));
        let (mut start, mut end) = (span.at, span.at + span.len);
        while start < end && is_space(start) {
            start += 1;
        }
        while end > start && is_space(end - 1) {
            end -= 1;
        }
        Span { at: start, len: end - start }
    }

    /// The number that they are, in decimal digits and nothing else.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        if self.is_empty() {
            return None;
        }
        self.iter().try_fold(0u64, |n, digit| {
            let digit = digit.checked_sub(b'0').filter(|d| *d < 10)?;
            n.checked_mul(10)?.checked_add(digit.into())
        })
    }
}

/// Some of the bytes, by place and length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Where they begin.
    pub at: usize,
    /// How many they are.
    pub len: usize,
}
