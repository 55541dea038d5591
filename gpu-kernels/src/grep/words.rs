//! Many words at once: one pass over the text, whatever their number.
//!
//! With `-w` a pattern matches between non-word characters only. So a *run*, a maximal string of
//! word characters, of the text is compared with the runs of the patterns, by hash: a pattern of
//! word characters alone (a *whole* run) matches where its run equals one of the text. Another
//! pattern, a [`Phrase`] such as `don't`, is filed under its first run, which is maximal in any
//! text that the pattern matches, since a non-word character of the pattern or its required
//! boundary stands on either side; the rest is compared in place.
//!
//! With `-x` the same tables hold whole lines.

use bytemuck::{Pod, Zeroable};

use super::chars::{Chars, decode, is_word_byte};
use super::program::{ProgramError, table};

/// The start of the section; the tables follow in the order of its fields.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct WordsHeader {
    /// The filter has `1 << filter_bits` bits.
    pub filter_bits: u32,
    /// There are `1 << slot_bits` [`Slot`]s, at least one of them empty.
    pub slot_bits: u32,
    /// Number of [`Run`]s.
    pub runs: u32,
    /// Number of [`Phrase`]s.
    pub phrases: u32,
    /// Bytes of runs and phrases, in lower case if the program folds.
    pub bytes: u32,
    /// Longest run in bytes.
    pub longest: u32,
}

/// One place of the open-addressing table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Slot {
    /// Upper half of the run's hash.
    pub tag: u32,
    /// Number of its run plus one; 0: empty.
    pub run: u32,
}

/// A run that starts, or is, patterns.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Run {
    /// Where its bytes start.
    pub offset: u32,
    /// Its length; the top bit tells that the run is itself a pattern.
    pub len: u32,
    /// First of its phrases.
    pub first_phrase: u32,
    /// Number of its phrases.
    pub phrases: u32,
}

impl Run {
    /// The bit of `len` that marks a run that is itself a pattern.
    pub const WHOLE: u32 = 1 << 31;
}

/// A pattern with characters beyond its first run.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Phrase {
    /// Where its bytes start.
    pub offset: u32,
    /// Bytes.
    pub len: u32,
    /// Bytes before its first run.
    pub lead: u32,
}

/// Hash of a run. Folding sets one bit of every byte, which maps both cases of a letter to one
/// value; what else collides is told apart by comparing.
#[inline]
pub fn hash_run(run: &[u8], fold: bool) -> u64 {
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    let case = if fold { 0x2020_2020_2020_2020 } else { 0u64 };
    let mut h = run.len() as u64;
    let mut rest = run;
    while let Some((eight, tail)) = rest.split_first_chunk::<8>() {
        h = (h ^ (u64::from_le_bytes(*eight) | case)).wrapping_mul(K);
        h ^= h >> 29;
        rest = tail;
    }
    let mut last = 0u64;
    for &b in rest {
        last = last << 8 | b as u64;
    }
    h = (h ^ (last | case)).wrapping_mul(K);
    h ^ h >> 32
}

/// The tables, typed.
#[derive(Clone, Copy)]
pub(super) struct Words<'p> {
    filter: &'p [u32],
    slots: &'p [Slot],
    runs: &'p [Run],
    phrases: &'p [Phrase],
    bytes: &'p [u8],
    longest: usize,
}

/// A text and a run in it.
struct Text<'h> {
    hay: &'h [u8],
    /// Nothing before this offset counts.
    from: usize,
    chars: &'h Chars<'h>,
    fold: bool,
    start: usize,
    end: usize,
    /// Whether the run is ASCII.
    ascii: bool,
}

impl Text<'_> {
    /// Goes on to the next run, if there is one.
    #[inline(never)]
    fn next_run(&mut self) -> bool {
        let (hay, chars) = (self.hay, self.chars);
        let mut at = self.end;
        // Most bytes are word bytes, so byte by byte.
        loop {
            match chars.starts_word(hay, at) {
                None => return false,
                Some(true) => break,
                Some(false) => at += 1,
            }
        }
        (self.start, self.ascii) = (at, true);
        while at < hay.len() {
            let b = hay[at];
            if is_word_byte(b) {
                at += 1;
            } else if b < 0x80 {
                break;
            } else {
                match chars.word_len(&hay[at..]) {
                    0 => break,
                    n => at += n,
                }
                self.ascii = false;
            }
        }
        self.end = at;
        true
    }
}

/// What the host folds into ASCII: the two other letters whose capitals are ASCII (long s and
/// dotless i). Runs of the text that hold them are rewritten before they are looked up.
const FOLDS_TO_ASCII: [(u32, u8); 2] = [(0x17f, b's'), (0x131, b'i')];

impl<'p> Words<'p> {
    pub(super) fn new(section: &'p [u8]) -> Result<Self, ProgramError> {
        let (header, rest) = table::<WordsHeader>(section, 1)?;
        let h = &header[0];
        if !(5..=28).contains(&h.filter_bits) || h.slot_bits > 28 {
            return Err(ProgramError::Table);
        }
        let (filter, rest) = table::<u32>(rest, 1 << (h.filter_bits - 5))?;
        let (slots, rest) = table::<Slot>(rest, 1 << h.slot_bits)?;
        let (runs, rest) = table::<Run>(rest, h.runs as usize)?;
        let (phrases, rest) = table::<Phrase>(rest, h.phrases as usize)?;
        let (bytes, _) = table::<u8>(rest, h.bytes as usize)?;
        Ok(Words { filter, slots, runs, phrases, bytes, longest: h.longest as usize })
    }

    /// What lookups rely on: an empty slot to end a probe, and indices inside their tables.
    pub(super) fn check(&self) -> Result<(), ProgramError> {
        let inside = |offset: u32, len: u32| offset as usize + len as usize <= self.bytes.len();
        let run_fits = |r: &Run| {
            inside(r.offset, r.len & !Run::WHOLE)
                && r.first_phrase as usize + r.phrases as usize <= self.phrases.len()
        };
        let fits = self.slots.iter().any(|s| s.run == 0)
            && self.slots.iter().all(|s| s.run as usize <= self.runs.len())
            && self.runs.iter().all(run_fits)
            && self.phrases.iter().all(|p| inside(p.offset, p.len) && p.lead <= p.len);
        if fits { Ok(()) } else { Err(ProgramError::Table) }
    }

    /// The run equal to `text`.
    // Each run of a text is looked up: a call less takes a twentieth of the time.
    #[inline(always)]
    fn lookup(&self, text: &[u8], fold: bool) -> Option<&'p Run> {
        if text.len() > self.longest {
            return None;
        }
        let hash = hash_run(text, fold);
        let bit = hash as usize & (self.filter.len() * 32 - 1);
        if self.filter[bit / 32] >> (bit % 32) & 1 == 0 {
            return None;
        }
        let mask = self.slots.len() - 1;
        let tag = (hash >> 32) as u32;
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots[at];
            let run = self.runs.get((slot.run as usize).wrapping_sub(1))?;
            if slot.tag == tag {
                let bytes = self.part(run.offset, run.len & !Run::WHOLE);
                if equal(text, bytes, fold) {
                    return Some(run);
                }
            }
            at = (at + 1) & mask;
        }
    }

    #[inline]
    fn part(&self, offset: u32, len: u32) -> &'p [u8] {
        &self.bytes[offset as usize..][..len as usize]
    }

    /// Whether `line` is one of the strings.
    pub(super) fn is_whole(&self, line: &[u8], fold: bool) -> bool {
        self.lookup(line, fold).is_some_and(|r| r.len & Run::WHOLE != 0)
    }

    /// The first run at or after `from` where a pattern matches: the pattern's bounds, the
    /// leftmost then longest of those filed under that run.
    pub(super) fn find(
        &self,
        hay: &[u8],
        from: usize,
        chars: &Chars<'_>,
        fold: bool,
    ) -> Option<(usize, usize)> {
        let mut text = Text { hay, from, chars, fold, start: from, end: from, ascii: true };
        while text.next_run() {
            let found = self.at_run(&text);
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// The pattern that matches at a run of the text.
    // Not inlined: on a GPU the addresses of all tables would be kept in the loop over runs.
    #[inline(never)]
    fn at_run(&self, text: &Text<'_>) -> Option<(usize, usize)> {
        let bytes = &text.hay[text.start..text.end];
        let run = match text.ascii || !text.fold {
            true => self.lookup(bytes, text.fold)?,
            false => self.lookup_folded(bytes)?,
        };
        let mut best = (run.len & Run::WHOLE != 0).then_some((text.start, text.end));
        for phrase in &self.phrases[run.first_phrase as usize..][..run.phrases as usize] {
            let found = self.phrase(text, run, phrase);
            best = match (best, found) {
                (Some(b), Some(f)) if (f.0, !f.1) < (b.0, !b.1) => Some(f),
                (None, f) => f,
                (b, _) => b,
            };
        }
        best
    }

    /// Compares a phrase around its first run, which stands in the text.
    #[inline(never)]
    fn phrase(&self, text: &Text<'_>, run: &Run, phrase: &Phrase) -> Option<(usize, usize)> {
        let bytes = self.part(phrase.offset, phrase.len);
        let (lead, rest) = bytes.split_at(phrase.lead as usize);
        let tail = rest.get((run.len & !Run::WHOLE) as usize..)?;
        let first = text.start.checked_sub(lead.len()).filter(|&f| f >= text.from)?;
        let last = text.end.checked_add(tail.len()).filter(|&l| l <= text.hay.len())?;
        let stands = equal(&text.hay[first..text.start], lead, text.fold)
            && equal(&text.hay[text.end..last], tail, text.fold)
            && text.chars.is_bounded(text.hay, first, last);
        stands.then_some((first, last))
    }

    /// Looks up a run of the text that is not ASCII, folded.
    #[inline(never)]
    fn lookup_folded(&self, text: &[u8]) -> Option<&'p Run> {
        let mut folded = [0u8; 256];
        let (mut from, mut to) = (0, 0);
        while from < text.len() {
            let (c, len) = decode(&text[from..])?;
            let ascii = FOLDS_TO_ASCII.iter().find(|(f, _)| *f == c);
            let char = ascii.map_or(&text[from..from + len], |(_, a)| core::slice::from_ref(a));
            folded.get_mut(to..to + char.len())?.copy_from_slice(char);
            (from, to) = (from + len, to + char.len());
        }
        self.lookup(&folded[..to], true)
    }
}

#[inline]
fn equal(text: &[u8], lower: &[u8], fold: bool) -> bool {
    if fold { text.eq_ignore_ascii_case(lower) } else { text == lower }
}
