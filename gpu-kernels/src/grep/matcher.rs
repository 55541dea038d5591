//! From a program to lines that match: finds candidates with what is fastest, confirms them.

use memchr::memmem::Finder;
use memchr::{memchr, memchr2, memrchr, memrchr2};
use regex_automata::dfa::Automaton;
use regex_automata::{Anchored, Input, MatchErrorKind};

use super::chars::Chars;
use super::program::{Accept, Find, Program, ProgramFlags};

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
    #[inline]
    pub fn first(self, hay: &[u8]) -> Option<usize> {
        match self {
            Eol::Newline => memchr(b'\n', hay),
            Eol::NewlineOrNul => memchr2(b'\n', 0, hay),
        }
    }

    /// Offset of the last terminator.
    #[inline]
    pub fn last(self, hay: &[u8]) -> Option<usize> {
        match self {
            Eol::Newline => memrchr(b'\n', hay),
            Eol::NewlineOrNul => memrchr2(b'\n', 0, hay),
        }
    }

    /// Number of terminators.
    pub fn count(self, hay: &[u8]) -> usize {
        let newlines = memchr::memchr_iter(b'\n', hay).count();
        match self {
            Eol::Newline => newlines,
            Eol::NewlineOrNul => newlines + memchr::memchr_iter(0, hay).count(),
        }
    }
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

/// A line that the DFA gave up on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undecided;

enum Verdict {
    Yes,
    No,
    Undecided,
}

impl From<bool> for Verdict {
    fn from(yes: bool) -> Self {
        if yes { Verdict::Yes } else { Verdict::No }
    }
}

/// A program made ready to search.
pub struct Matcher<'p> {
    program: &'p Program<'p>,
    finder: Option<Finder<'p>>,
    chars: Chars<'p>,
    fold: bool,
}

impl<'p> Matcher<'p> {
    /// Builds what a search needs beyond the program: cheap, but not free; once per thread.
    pub fn new(program: &'p Program<'p>) -> Self {
        let literal = program.find == Find::Literal;
        let utf8 = program.flags.has(ProgramFlags::UTF8);
        Matcher {
            finder: literal.then(|| Finder::new(program.needle)),
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

    /// Length of the longest literal, if every match has one of the program's literals.
    pub(super) fn reach(&self) -> Option<usize> {
        match self.program.find {
            Find::Literal => Some(self.program.needle.len()),
            Find::Set => self.program.set.as_ref().map(|set| set.longest()),
            _ => None,
        }
    }

    /// Whether `part` of a line has a literal, where [`Matcher::reach`] says that there are some.
    pub(super) fn may_match(&self, part: &[u8]) -> bool {
        self.candidate(part, 0).is_some()
    }

    /// The first line at or after `from` that matches or may match. `hay` is whole lines, of which
    /// the last need not be terminated; `from` is the start of a line.
    pub fn next_line(&self, hay: &[u8], from: usize, eol: Eol) -> Option<Hit> {
        if from >= hay.len() {
            return None;
        }
        match self.program.find {
            Find::Nothing => None,
            Find::Everything => Some(line_around(hay, from, from, eol, true)),
            Find::Dfa => self.next_by_dfa(hay, from, eol),
            Find::Whole => self.next_whole(hay, from, eol),
            _ => self.next_by_literal(hay, from, eol),
        }
    }

    fn next_by_literal(&self, hay: &[u8], from: usize, eol: Eol) -> Option<Hit> {
        let mut from = from;
        while from < hay.len() {
            let (start, end) = self.candidate(hay, from)?;
            let mut hit = line_around(hay, from, start, eol, true);
            if end <= hit.end {
                match self.accept(&hay[hit.start..hit.end], start - hit.start, end - start) {
                    Verdict::Yes => return Some(hit),
                    Verdict::No => {}
                    Verdict::Undecided => {
                        hit.sure = false;
                        return Some(hit);
                    }
                }
            }
            from = hit.end + 1;
        }
        None
    }

    /// Bounds of some literal at or after `from`, such that no line before it has one.
    #[inline]
    fn candidate(&self, hay: &[u8], from: usize) -> Option<(usize, usize)> {
        let len = self.program.needle.len();
        let single = |i: usize| (from + i, from + i + len);
        match self.program.find {
            Find::Literal => self.finder.as_ref()?.find(&hay[from..]).map(single),
            Find::Set => {
                let set = self.program.set.as_ref()?;
                if self.fold {
                    set.find_any::<true>(hay, from)
                } else {
                    set.find_any::<false>(hay, from)
                }
            }
            Find::Words => self.program.words.as_ref()?.find(hay, from, &self.chars, self.fold),
            _ => None,
        }
    }

    /// Whether a line matches that has a literal at `at`.
    #[inline]
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
            Accept::Dfa => self.dfa_finds(line),
            Accept::DfaWord => match self.next_span(line, 0, true) {
                Ok(found) => found.is_some().into(),
                Err(Undecided) => Verdict::Undecided,
            },
        }
    }

    fn next_by_dfa(&self, hay: &[u8], from: usize, eol: Eol) -> Option<Hit> {
        let dfa = self.program.dfa.as_ref()?;
        let mut from = from;
        while from < hay.len() {
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
                Ok(None) if end >= hay.len() => return None,
                Ok(None) => {
                    from = end + 1;
                    continue;
                }
                Err(e) => match *e.kind() {
                    MatchErrorKind::Quit { offset, .. } => (shift + offset, false),
                    _ => (from, false),
                },
            };
            if at >= hay.len() && eol.last(hay) == Some(hay.len() - 1) {
                // An empty match behind the last terminator: there is no line.
                return None;
            }
            let mut hit = line_around(hay, from, at, eol, sure);
            if sure && self.program.accept == Accept::DfaWord {
                match self.next_span(&hay[hit.start..hit.end], 0, true) {
                    Ok(Some(_)) => {}
                    Ok(None) => {
                        from = hit.end + 1;
                        continue;
                    }
                    Err(Undecided) => hit.sure = false,
                }
            }
            return Some(hit);
        }
        None
    }

    fn next_whole(&self, hay: &[u8], from: usize, eol: Eol) -> Option<Hit> {
        let words = self.program.words.as_ref()?;
        let mut from = from;
        while from < hay.len() {
            let hit = line_around(hay, from, from, eol, true);
            if words.is_whole(&hay[from..hit.end], self.fold) {
                return Some(hit);
            }
            from = hit.end + 1;
        }
        None
    }

    fn dfa_finds(&self, line: &[u8]) -> Verdict {
        let Some(dfa) = self.program.dfa.as_ref() else { return Verdict::No };
        match dfa.try_search_fwd(&Input::new(line).earliest(true)) {
            Ok(found) => found.is_some().into(),
            Err(_) => Verdict::Undecided,
        }
    }

    /// Whether all matches in `line` can be told.
    pub(super) fn tells_spans(&self, line: &[u8]) -> bool {
        if !self.program.flags.has(ProgramFlags::UNDECIDED) {
            return true;
        }
        let mut from = 0;
        loop {
            match self.next_span(line, from, false) {
                Ok(Some((_, end))) => from = end,
                Ok(None) => return true,
                Err(Undecided) => return false,
            }
        }
    }

    /// The leftmost, then longest match in `line` at or after `from`; `with_empty`: also one of no
    /// bytes.
    pub fn next_span(
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
    fn next_literal(&self, line: &[u8], from: usize) -> Option<(usize, usize)> {
        let words = self.program.accept == Accept::Word;
        let stands = |s: usize, e: usize| {
            !words || (!self.chars.word_before(line, s) && !self.chars.word_after(line, e))
        };
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
            return if self.fold {
                set.find::<true>(line, from, accept)
            } else {
                set.find::<false>(line, from, accept)
            };
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

    fn dfa_span(
        &self,
        line: &[u8],
        from: usize,
        with_empty: bool,
        words: bool,
    ) -> Result<Option<(usize, usize)>, Undecided> {
        for start in from..=line.len() {
            let possible =
                with_empty || line.get(start).is_some_and(|&b| self.program.may_start(b));
            if !possible
                || words && self.chars.word_before(line, start)
                || with_empty && self.chars.splits_char(line, start)
            {
                continue;
            }
            let end =
                if words { self.longest_word(line, start)? } else { self.longest(line, start)? };
            if let Some(end) = end
                && (with_empty || end > start)
            {
                return Ok(Some((start, end)));
            }
        }
        Ok(None)
    }

    /// End of the longest match that starts at `start`.
    fn longest(&self, line: &[u8], start: usize) -> Result<Option<usize>, Undecided> {
        let Some(dfa) = self.program.dfa.as_ref() else { return Ok(None) };
        let input = Input::new(line).range(start..).anchored(Anchored::Yes);
        match dfa.try_search_fwd(&input) {
            Ok(found) => Ok(found.map(|m| m.offset())),
            Err(_) => Err(Undecided),
        }
    }

    /// End of the longest match that starts at `start` and ends before no word character. The
    /// DFA reports a match one byte late, so the states are walked here, not by its own search.
    fn longest_word(&self, line: &[u8], start: usize) -> Result<Option<usize>, Undecided> {
        let Some(dfa) = self.program.dfa.as_ref() else { return Ok(None) };
        let input = Input::new(line).range(start..).anchored(Anchored::Yes);
        let mut state = dfa.start_state_forward(&input).map_err(|_| Undecided)?;
        let mut longest = None;
        for at in start..line.len() {
            state = dfa.next_state(state, line[at]);
            if dfa.is_special_state(state) {
                if dfa.is_match_state(state) && !self.chars.word_after(line, at) {
                    longest = Some(at);
                } else if dfa.is_dead_state(state) {
                    return Ok(longest);
                } else if dfa.is_quit_state(state) {
                    return Err(Undecided);
                }
            }
        }
        if dfa.is_match_state(dfa.next_eoi_state(state)) {
            longest = Some(line.len());
        }
        Ok(longest)
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
