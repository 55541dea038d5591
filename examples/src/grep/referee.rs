//! Decides the lines that the device cannot: where its DFA would need to know which of the
//! characters beyond ASCII make words. The automaton that the DFA was made from does know, state
//! by state.

use regex_automata::nfa::thompson::{self, NFA, State, WhichCaptures};
use regex_automata::util::primitives::StateID;
use regex_syntax::hir::{Hir, Look};

/// The same search as the device's, for single lines.
pub struct Referee {
    nfa: NFA,
    /// Word characters, as sorted ranges.
    words: Vec<(u32, u32)>,
    /// `-w`: matches stand between other characters.
    bounded: bool,
    /// Characters are UTF-8, otherwise bytes.
    utf8: bool,
}

/// The states that are alive at one place.
struct Alive {
    states: Vec<StateID>,
    seen: Vec<bool>,
}

impl Referee {
    /// For lines that match `hir`.
    pub(super) fn new(
        hir: &Hir,
        words: Vec<(u32, u32)>,
        bounded: bool,
        utf8: bool,
    ) -> Result<Self, String> {
        let config = thompson::Config::new().utf8(false).which_captures(WhichCaptures::None);
        let nfa = thompson::Compiler::new().configure(config).build_from_hir(hir);
        let nfa = nfa.map_err(|e| format!("Regular expression too big ({e})"))?;
        Ok(Referee { nfa, words, bounded, utf8 })
    }

    /// The leftmost, then longest match at or after `from`.
    pub fn next_span(&self, line: &[u8], from: usize, with_empty: bool) -> Option<(usize, usize)> {
        (from..=line.len()).find_map(|start| {
            if self.splits_char(line, start) {
                return None;
            }
            if self.bounded && self.char_before(line, start).is_some_and(|c| self.is_word(c)) {
                return None;
            }
            let end = self.longest(line, start)?;
            (with_empty || end > start).then_some((start, end))
        })
    }

    /// End of the longest match that starts at `start`.
    fn longest(&self, line: &[u8], start: usize) -> Option<usize> {
        let none = || Alive { states: Vec::new(), seen: vec![false; self.nfa.states().len()] };
        let (mut now, mut next) = (none(), none());
        let mut longest = None;
        self.enter(self.nfa.start_anchored(), line, start, &mut now);
        for at in start..=line.len() {
            let byte = line.get(at).copied();
            for &id in &now.states {
                let step = match (self.nfa.state(id), byte) {
                    (State::Match { .. }, _) => {
                        if !self.bounded
                            || !self.char_after(line, at).is_some_and(|c| self.is_word(c))
                        {
                            longest = Some(at);
                        }
                        None
                    }
                    (State::ByteRange { trans }, Some(b)) => {
                        trans.matches_byte(b).then_some(trans.next)
                    }
                    (State::Sparse(sparse), Some(b)) => sparse.matches_byte(b),
                    (State::Dense(dense), Some(b)) => dense.matches_byte(b),
                    _ => None,
                };
                if let Some(id) = step {
                    self.enter(id, line, at + 1, &mut next);
                }
            }
            std::mem::swap(&mut now, &mut next);
            next.states.clear();
            next.seen.fill(false);
            if now.states.is_empty() {
                break;
            }
        }
        longest
    }

    /// Adds a state and all that follow without a byte.
    fn enter(&self, id: StateID, line: &[u8], at: usize, alive: &mut Alive) {
        let mut stack = vec![id];
        while let Some(id) = stack.pop() {
            if std::mem::replace(&mut alive.seen[id.as_usize()], true) {
                continue;
            }
            match self.nfa.state(id) {
                State::Union { alternates } => stack.extend_from_slice(alternates),
                State::BinaryUnion { alt1, alt2 } => stack.extend([*alt1, *alt2]),
                State::Capture { next, .. } => stack.push(*next),
                State::Look { look, next } => {
                    // The same type under the name that it has in another crate.
                    let look = Look::from_repr(look.as_repr());
                    if look.is_some_and(|l| self.looks(l, line, at)) {
                        stack.push(*next);
                    }
                }
                _ => alive.states.push(id),
            }
        }
    }

    fn looks(&self, look: Look, line: &[u8], at: usize) -> bool {
        // A byte that is no character counts as one of a word here, as in GNU grep.
        let before = at > 0 && self.char_before(line, at).is_none_or(|c| self.is_word(c));
        let after = at < line.len() && self.char_after(line, at).is_none_or(|c| self.is_word(c));
        match look {
            Look::Start | Look::StartLF | Look::StartCRLF => at == 0,
            Look::End | Look::EndLF | Look::EndCRLF => at == line.len(),
            Look::WordAscii | Look::WordUnicode => before != after,
            Look::WordAsciiNegate | Look::WordUnicodeNegate => before == after,
            Look::WordStartAscii | Look::WordStartUnicode => !before && after,
            Look::WordEndAscii | Look::WordEndUnicode => before && !after,
            Look::WordStartHalfAscii | Look::WordStartHalfUnicode => !before,
            Look::WordEndHalfAscii | Look::WordEndHalfUnicode => !after,
        }
    }

    fn char_before(&self, line: &[u8], at: usize) -> Option<u32> {
        if !self.utf8 {
            return line[..at].last().map(|&b| b.into());
        }
        let tail = &line[at.saturating_sub(4)..at];
        let lead = tail.iter().rposition(|b| b & 0xc0 != 0x80)?;
        std::str::from_utf8(&tail[lead..]).ok()?.chars().next_back().map(u32::from)
    }

    fn char_after(&self, line: &[u8], at: usize) -> Option<u32> {
        if !self.utf8 {
            return line.get(at).map(|&b| b.into());
        }
        let head = &line[at..line.len().min(at + 4)];
        head.utf8_chunks().next()?.valid().chars().next().map(u32::from)
    }

    /// Whether `at` lies inside a character of several bytes.
    fn splits_char(&self, line: &[u8], at: usize) -> bool {
        if !self.utf8 || line.get(at).is_none_or(|b| b & 0xc0 != 0x80) {
            return false;
        }
        let len = |c: u32| char::from_u32(c).map_or(1, char::len_utf8);
        (1..=3.min(at)).any(|back| self.char_after(line, at - back).is_some_and(|c| len(c) > back))
    }

    fn is_word(&self, c: u32) -> bool {
        let at = self.words.partition_point(|r| r.1 < c);
        self.words.get(at).is_some_and(|r| r.0 <= c)
    }
}
