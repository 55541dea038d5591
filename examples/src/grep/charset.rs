//! Sets of characters and their regular expressions.

use regex_syntax::hir::{Class, ClassBytes, ClassBytesRange, ClassUnicode, ClassUnicodeRange, Hir};

use super::locale::{Charset, Folds};

/// A set of characters under construction.
#[derive(Clone, Debug, Default)]
pub(super) struct CharSet {
    ranges: Vec<(u32, u32)>,
}

impl CharSet {
    /// Adds all from `first` to `last`.
    pub(super) fn add(&mut self, first: u32, last: u32) {
        self.ranges.push((first, last));
    }

    /// Adds several ranges.
    pub(super) fn add_all(&mut self, ranges: &[(u32, u32)]) {
        self.ranges.extend_from_slice(ranges);
    }

    /// Adds what differs in case only from a member.
    pub(super) fn fold(&mut self, folds: &Folds) {
        let has = |c: u32| self.ranges.iter().any(|&(a, b)| (a..=b).contains(&c));
        let more: Vec<u32> =
            folds.cased().filter(|&c| has(c)).flat_map(|c| folds.variants(c)).collect();
        self.ranges.extend(more.into_iter().map(|c| (c, c)));
    }

    /// The expression that matches one character of the set, or one that is not in it. Never a
    /// newline, which ends the line, and never a byte that is no character.
    pub(super) fn into_hir(self, negated: bool, charset: Charset) -> Hir {
        match charset {
            Charset::Bytes => {
                let byte = |&(a, b): &(u32, u32)| {
                    Some(ClassBytesRange::new(u8::try_from(a).ok()?, b.min(255) as u8))
                };
                let mut class = ClassBytes::new(self.ranges.iter().filter_map(byte));
                if negated {
                    class.negate();
                }
                class.difference(&ClassBytes::new([ClassBytesRange::new(b'\n', b'\n')]));
                Hir::class(Class::Bytes(class))
            }
            Charset::Utf8 => {
                let scalar = |&(a, b): &(u32, u32)| {
                    // A range may begin or end among the surrogates; they are no characters.
                    let first = char::from_u32(a).unwrap_or('\u{e000}');
                    let last = char::from_u32(b).unwrap_or('\u{d7ff}');
                    (first <= last).then(|| ClassUnicodeRange::new(first, last))
                };
                let mut class = ClassUnicode::new(self.ranges.iter().filter_map(scalar));
                if negated {
                    class.negate();
                }
                class.difference(&ClassUnicode::new([ClassUnicodeRange::new('\n', '\n')]));
                Hir::class(Class::Unicode(class))
            }
        }
    }
}
