//! From a program to lines that match: finds candidates with what is fastest, confirms them.

use gpu_rt::VECTORS;
use memchr::{memchr, memchr_iter, memchr2, memrchr, memrchr2};
use regex_automata::dfa::Automaton;
use regex_automata::{Input, MatchErrorKind};

use super::chars::Chars;
use super::dfa::{self, Undecided, Verdict};
use super::needle::Needle;
use super::program::{Accept, Find, Program, ProgramFlags};
use super::set::Place;

/// What ends lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eol {
    /// Newlines.
    Newline,
    /// Newlines and NUL bytes.
    NewlineOrNul,
}

impl Eol {
    /// Offset of the first terminator.
    #[inline(never)]
    pub fn first(self, hay: &[u8]) -> Option<usize> {
        match self {
            Eol::Newline => memchr(b'\n', hay),
            Eol::NewlineOrNul => memchr2(b'\n', 0, hay),
        }
    }

    /// Offset of the last terminator.
    #[inline(never)]
    pub fn last(self, hay: &[u8]) -> Option<usize> {
        match self {
            Eol::Newline => memrchr(b'\n', hay),
            Eol::NewlineOrNul => memrchr2(b'\n', 0, hay),
        }
    }

    /// Number of terminators.
    #[inline(never)]
    pub fn count(self, hay: &[u8]) -> usize {
        let newlines = count(b'\n', hay);
        match self {
            Eol::Newline => newlines,
            Eol::NewlineOrNul => newlines + count(0, hay),
        }
    }
}

/// How often `byte` occurs.
#[inline]
fn count(byte: u8, hay: &[u8]) -> usize {
    if VECTORS { memchr_iter(byte, hay).count() } else { count_by_words(byte, hay) }
}

/// How often `byte` occurs, counted eight bytes at a time.
fn count_by_words(byte: u8, hay: &[u8]) -> usize {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let (head, words, tail) = bytemuck::pod_align_to::<u8, u64>(hay);
    let ones = |bytes: &[u8]| bytes.iter().filter(|&&b| b == byte).count();
    let mut count = ones(head) + ones(tail);
    for word in words {
        let other = word ^ u64::from_ne_bytes([byte; 8]);
        // The top bits of bytes that are not zero.
        let others = ((other & LOW) + LOW) | other;
        count += (!(others | LOW)).count_ones() as usize;
    }
    count
}

/// A line of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Its first byte.
    pub start: usize,
    /// Its terminator, or the end of the block.
    pub end: usize,
    /// Whether it matches for sure; otherwise the host has to decide.
    pub sure: bool,
}

impl Hit {
    /// The line, if it is one to report after this verdict on it.
    fn judged(self, verdict: Verdict) -> Option<Hit> {
        match verdict {
            Verdict::Yes => Some(self),
            Verdict::No => None,
            Verdict::Undecided => Some(Hit { sure: false, ..self }),
        }
    }
}

/// What was found in a block from some line on.
enum Found {
    /// A line to report.
    Line(Hit),
    /// One that is to be confirmed: in the line at this offset, so many bytes.
    Candidate(Hit, usize, usize),
    /// Nothing before this offset, where a line starts, or this end of the block.
    Beyond(usize),
}

/// A program made ready to search.
pub struct Matcher<'p> {
    program: &'p Program<'p>,
    needle: Needle<'p>,
    chars: Chars<'p>,
    fold: bool,
}

impl<'p> Matcher<'p> {
    /// Builds what a search needs beyond the program: cheap, but not free; once per thread.
    #[inline(never)]
    pub fn new(program: &'p Program<'p>) -> Self {
        let utf8 = program.flags.has(ProgramFlags::UTF8);
        Matcher {
            needle: Needle::new(program.needle),
            chars: Chars { utf8, words: program.word_chars },
            fold: program.flags.has(ProgramFlags::FOLD),
            program,
        }
    }

    /// How candidate lines are found.
    #[inline]
    pub fn find(&self) -> Find {
        self.program.find
    }

    /// Length of the longest literal or of the shape, if every match has one of the program's
    /// literals, or its shape.
    pub(super) fn reach(&self) -> Option<usize> {
        match self.program.find {
            Find::Literal => Some(self.needle.len()),
            Find::Set => self.program.set.as_ref().map(|set| set.longest()),
            Find::Shape => self.program.shape.as_ref().map(|shape| shape.width()),
            _ => None,
        }
    }

    /// Whether `part` of a line has a literal or the shape, where [`Matcher::reach`] says that there are some.
    pub(super) fn may_match(&self, part: &[u8]) -> bool {
        self.candidate(part, 0).is_some()
    }

    /// The first line at or after `from` that matches or may match. `hay` is whole lines, of which
    /// the last need not be terminated; `from` is the start of a line.
    ///
    /// Lines are found and confirmed one after the other from here: nothing of how a line was found is kept while it
    /// is confirmed.
    #[inline(never)]
    pub fn next_line(&self, hay: &[u8], from: usize, eol: Eol) -> Option<Hit> {
        let mut from = from;
        let mut effort = Effort::new(from);
        while from < hay.len() {
            let found = match self.program.find {
                Find::Nothing => return None,
                Find::Everything => Found::Line(line_around(hay, from, from, eol, true)),
                Find::Dfa => self.find_by_dfa(hay, from, eol)?,
                Find::Shape if from < effort.dfa_until => {
                    let until = effort.dfa_until;
                    self.find_by_dfa(&hay[..until], from, eol).unwrap_or(Found::Beyond(until))
                }
                Find::Shape => self.find_by_shape(hay, from, eol, &mut effort)?,
                Find::Whole => self.find_whole(hay, from, eol)?,
                Find::Literal | Find::Set | Find::Words => self.find_by_literal(hay, from, eol)?,
            };
            from = match found {
                Found::Line(hit) => return Some(hit),
                Found::Candidate(hit, at, len) => {
                    let verdict = self.accept(&hay[hit.start..hit.end], at, len);
                    if let Some(hit) = hit.judged(verdict) {
                        return Some(hit);
                    }
                    hit.end + 1
                }
                Found::Beyond(from) => from,
            };
        }
        None
    }

    #[inline(never)]
    fn find_by_literal(&self, hay: &[u8], from: usize, eol: Eol) -> Option<Found> {
        let (start, end) = self.candidate(hay, from)?;
        let hit = line_around(hay, from, start, eol, true);
        if end > hit.end {
            return Some(Found::Beyond(hit.end + 1));
        }
        Some(Found::Candidate(hit, start - hit.start, end - start))
    }

    /// Bounds of some literal, or of a place of the shape, at or after `from`, such that no line before it has one.
    #[inline(never)]
    fn candidate(&self, hay: &[u8], from: usize) -> Option<(usize, usize)> {
        let single = |i: usize| (from + i, from + i + self.needle.len());
        match self.program.find {
            Find::Literal => self.needle.find(&hay[from..]).map(single),
            Find::Set => {
                let set = self.program.set.as_ref()?;
                if self.fold {
                    set.find_any::<true>(hay, from)
                } else {
                    set.find_any::<false>(hay, from)
                }
            }
            Find::Words => self.program.words.as_ref()?.find(hay, from, &self.chars, self.fold),
            Find::Shape => {
                let shape = self.program.shape.as_ref()?;
                shape.find(hay, from, |at| Some((at, at + shape.width())))
            }
            _ => None,
        }
    }

    /// Whether a line matches that has a literal at `at`.
    #[inline(never)]
    fn accept(&self, line: &[u8], at: usize, len: usize) -> Verdict {
        match self.program.accept {
            Accept::Hit => Verdict::Yes,
            Accept::Word => {
                // The hit may not be the line's first of a set: start over there.
                let from = if self.program.find == Find::Set { 0 } else { at };
                self.next_literal(line, from).is_some().into()
            }
            Accept::Line => {
                let whole = |s, e| s == 0 && e == line.len();
                (whole(at, at + len) || self.literal_where(line, 0, whole).is_some()).into()
            }
            Accept::Dfa => match &self.program.dfa {
                Some(dfa) => dfa::finds(dfa, line),
                None => Verdict::No,
            },
            Accept::DfaWord => match self.next_span(line, 0, true) {
                Ok(found) => found.is_some().into(),
                Err(Undecided) => Verdict::Undecided,
            },
        }
    }

    #[inline(never)]
    fn find_by_shape(
        &self,
        hay: &[u8],
        from: usize,
        eol: Eol,
        effort: &mut Effort,
    ) -> Option<Found> {
        let (shape, dfa) = (self.program.shape.as_ref()?, self.program.dfa.as_ref()?);
        if effort.is_vain(from) {
            let far = (from + VAIN_STRETCH).min(hay.len());
            let until = eol.first(&hay[far..]).map_or(hay.len(), |i| far + i + 1);
            *effort = Effort { dfa_until: until, ..Effort::new(until) };
            return Some(Found::Beyond(from));
        }
        // A DFA does not know that lines end at NUL bytes: then they have to be cut out for it.
        let in_place = shape.at_start && eol == Eol::Newline;
        let (at, starts) = shape.find(hay, from, |at| {
            effort.spent += CANDIDATE;
            if !in_place {
                return Some((at, Verdict::Yes));
            }
            match dfa::match_starts(dfa, hay, at, &mut effort.spent) {
                Verdict::No if !effort.is_vain(at) => None,
                starts => Some((at, starts)),
            }
        })?;
        let hit = line_around(hay, from, at, eol, true);
        Some(match starts {
            Verdict::No => Found::Beyond(hit.start),
            Verdict::Undecided => Found::Line(Hit { sure: false, ..hit }),
            Verdict::Yes if in_place && self.program.accept != Accept::DfaWord => Found::Line(hit),
            Verdict::Yes => {
                effort.spent += hit.end - hit.start;
                Found::Candidate(hit, at - hit.start, 0)
            }
        })
    }

    #[inline(never)]
    fn find_by_dfa(&self, hay: &[u8], from: usize, eol: Eol) -> Option<Found> {
        let dfa = self.program.dfa.as_ref()?;
        // Only newlines bound matches inside the DFA: with other terminators, line by line.
        let (end, first) = match eol {
            Eol::Newline => (hay.len(), hay),
            Eol::NewlineOrNul => {
                let end = from + eol.first(&hay[from..]).unwrap_or(hay.len() - from);
                (end, &hay[from..end])
            }
        };
        let shift = end - first.len();
        let input = Input::new(first).range(from - shift..).earliest(true);
        let (at, sure) = match dfa.try_search_fwd(&input) {
            Ok(Some(found)) => (shift + found.offset(), true),
            Ok(None) => return (end < hay.len()).then_some(Found::Beyond(end + 1)),
            Err(e) => match *e.kind() {
                // A damaged DFA may give up on what ended the line before.
                MatchErrorKind::Quit { offset, .. } => (from.max(shift + offset), false),
                _ => (from, false),
            },
        };
        if at >= hay.len() && eol.last(hay) == Some(hay.len() - 1) {
            // An empty match behind the last terminator: there is no line.
            return None;
        }
        let hit = line_around(hay, from, at, eol, sure);
        Some(match self.program.accept {
            Accept::DfaWord if sure => Found::Candidate(hit, 0, 0),
            _ => Found::Line(hit),
        })
    }

    #[inline(never)]
    fn find_whole(&self, hay: &[u8], from: usize, eol: Eol) -> Option<Found> {
        let words = self.program.words.as_ref()?;
        let hit = line_around(hay, from, from, eol, true);
        Some(match words.is_whole(&hay[from..hit.end], self.fold) {
            true => Found::Line(hit),
            false => Found::Beyond(hit.end + 1),
        })
    }

    /// Whether all matches in `line` can be told.
    pub(super) fn tells_spans(&self, line: &[u8]) -> bool {
        if !self.program.flags.has(ProgramFlags::UNDECIDED) {
            return true;
        }
        let mut spans = self.spans(line);
        while spans.next().is_some() {}
        !spans.undecided
    }

    /// The matches in `line` that are not empty.
    pub(super) fn spans<'m>(&'m self, line: &'m [u8]) -> Spans<'m> {
        Spans { matcher: self, line, from: 0, undecided: false }
    }

    /// The leftmost, then longest match in `line` at or after `from`; `with_empty`: also one of no
    /// bytes.
    fn next_span(
        &self,
        line: &[u8],
        from: usize,
        with_empty: bool,
    ) -> Result<Option<(usize, usize)>, Undecided> {
        let words = matches!(self.program.accept, Accept::Word | Accept::DfaWord);
        match (self.program.find, self.program.accept) {
            (Find::Nothing, _) => Ok(None),
            (Find::Everything, _) => Ok((with_empty && from <= line.len()).then_some((from, from))),
            (Find::Words, _) => {
                let table = self.program.words.as_ref();
                Ok(table.and_then(|w| w.find(line, from, &self.chars, self.fold)))
            }
            (Find::Whole, _) | (_, Accept::Line) => {
                Ok((from == 0 && (with_empty || !line.is_empty())).then_some((0, line.len())))
            }
            (Find::Dfa, _) | (_, Accept::Dfa | Accept::DfaWord) => {
                self.dfa_span(line, from, with_empty, words)
            }
            _ => Ok(self.next_literal(line, from)),
        }
    }

    /// The leftmost, then longest literal in `line` that stands as the program demands.
    #[inline(never)]
    fn next_literal(&self, line: &[u8], from: usize) -> Option<(usize, usize)> {
        let words = self.program.accept == Accept::Word;
        let stands = |s: usize, e: usize| !words || self.chars.is_bounded(line, s, e);
        self.literal_where(line, from, stands)
    }

    fn literal_where(
        &self,
        line: &[u8],
        from: usize,
        mut accept: impl FnMut(usize, usize) -> bool,
    ) -> Option<(usize, usize)> {
        if self.program.find == Find::Set {
            let set = self.program.set.as_ref()?;
            let mut place = Place::new(from);
            loop {
                let (start, end) = if self.fold {
                    set.next::<true>(line, &mut place)?
                } else {
                    set.next::<false>(line, &mut place)?
                };
                if accept(start, end) {
                    return Some((start, end));
                }
            }
        }
        let mut from = from;
        loop {
            let (start, end) = self.candidate(line, from)?;
            if accept(start, end) {
                return Some((start, end));
            }
            from = start + 1;
        }
    }

    /// The places of `line` at or after `from` where a match may start.
    fn starts(&self, line: &[u8], from: usize, with_empty: bool) -> impl Iterator<Item = usize> {
        let mut next = from;
        core::iter::from_fn(move || {
            let rest = line.get(next..)?;
            next += match with_empty {
                true => 0,
                false => rest.iter().position(|&b| self.program.may_start(b))?,
            };
            next += 1;
            Some(next - 1)
        })
    }

    #[inline(never)]
    fn dfa_span(
        &self,
        line: &[u8],
        from: usize,
        with_empty: bool,
        words: bool,
    ) -> Result<Option<(usize, usize)>, Undecided> {
        let span_at = |start: usize| self.dfa_span_at(line, start, with_empty, words);
        let span = match &self.program.shape {
            Some(shape) if shape.at_start => shape.find(line, from, span_at),
            _ => self.starts(line, from, with_empty).find_map(span_at),
        };
        span.transpose()
    }

    /// The longest match that starts at `start`, if one may.
    #[inline(never)]
    fn dfa_span_at(
        &self,
        line: &[u8],
        start: usize,
        with_empty: bool,
        words: bool,
    ) -> Option<Result<(usize, usize), Undecided>> {
        let dfa = self.program.dfa.as_ref()?;
        if words && self.chars.word_before(line, start)
            || with_empty && self.chars.splits_char(line, start)
        {
            return None;
        }
        match dfa::longest(dfa, line, start, words.then_some(&self.chars)) {
            Ok(Some(end)) if with_empty || end > start => Some(Ok((start, end))),
            Ok(_) => None,
            Err(undecided) => Some(Err(undecided)),
        }
    }
}

/// Bounds of matches in a line, one after the other, until there are no more or the program gives up.
pub(super) struct Spans<'m> {
    matcher: &'m Matcher<'m>,
    line: &'m [u8],
    from: usize,
    /// Whether it gave up.
    undecided: bool,
}

impl Iterator for Spans<'_> {
    type Item = (usize, usize);

    #[inline(never)]
    fn next(&mut self) -> Option<(usize, usize)> {
        let found = self.matcher.next_span(self.line, self.from, false);
        self.undecided = found.is_err();
        let (start, end) = found.ok().flatten()?;
        self.from = end;
        Some((start, end))
    }
}

/// What a candidate costs beside the bytes that are looked at, in bytes of a DFA's search.
const CANDIDATE: usize = 8;
/// After vain efforts a DFA searches so many bytes alone.
const VAIN_STRETCH: usize = 16 << 10;

/// What was spent on candidates that came to nothing.
struct Effort {
    /// In bytes of a DFA's search.
    spent: usize,
    since: usize,
    /// Up to there a DFA searches alone.
    dfa_until: usize,
}

impl Effort {
    /// None so far, at offset `at` of the text.
    fn new(at: usize) -> Self {
        Effort { spent: 0, since: at, dfa_until: 0 }
    }

    /// Whether, now at offset `at`, a DFA would have been there sooner.
    #[inline]
    fn is_vain(&self, at: usize) -> bool {
        self.spent > 1024 + (at - self.since) / 4 * 3
    }
}

/// The line of `hay` that has offset `at`; no line before `from` counts.
#[inline]
fn line_around(hay: &[u8], from: usize, at: usize, eol: Eol, sure: bool) -> Hit {
    let at = at.min(hay.len());
    let start = eol.last(&hay[from..at]).map_or(from, |i| from + i + 1);
    let end = eol.first(&hay[at..]).map_or(hay.len(), |i| at + i);
    Hit { start, end, sure }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_count_the_same() {
        let hay: [u8; 700] = core::array::from_fn(|i| (i * i % 7) as u8 ^ [0, 0x80][i % 2]);
        for (start, end) in [(0, 700), (1, 700), (3, 18), (8, 16), (5, 5), (691, 699)] {
            for byte in [0, 1, 0x80, 0x84, 9] {
                let part = &hay[start..end];
                assert_eq!(count_by_words(byte, part), memchr_iter(byte, part).count());
            }
        }
    }
}
