//! Walks through the states of a DFA that finds the ends of all matches.

use regex_automata::dfa::Automaton;
use regex_automata::dfa::dense::DFA;
use regex_automata::{Anchored, Input};

use super::chars::Chars;

/// A line that the DFA gave up on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undecided;

/// Whether something holds, as far as the DFA can tell.
pub(super) enum Verdict {
    Yes,
    No,
    Undecided,
}

impl From<bool> for Verdict {
    fn from(yes: bool) -> Self {
        if yes { Verdict::Yes } else { Verdict::No }
    }
}

type Dfa<'p> = DFA<&'p [u32]>;

/// Whether there is a match in `line`.
#[inline(never)]
pub(super) fn finds(dfa: &Dfa<'_>, line: &[u8]) -> Verdict {
    match dfa.try_search_fwd(&Input::new(line).earliest(true)) {
        Ok(found) => found.is_some().into(),
        Err(_) => Verdict::Undecided,
    }
}

/// Whether a match starts at `start`; `looked_at` grows by the number of bytes that it took to know.
pub(super) fn match_starts(
    dfa: &Dfa<'_>,
    hay: &[u8],
    start: usize,
    looked_at: &mut usize,
) -> Verdict {
    let input = Input::new(hay).range(start..).anchored(Anchored::Yes);
    let Ok(mut state) = dfa.start_state_forward(&input) else { return Verdict::Undecided };
    for &byte in &hay[start..] {
        state = dfa.next_state(state, byte);
        *looked_at += 1;
        if dfa.is_special_state(state) {
            if dfa.is_match_state(state) {
                return Verdict::Yes;
            } else if dfa.is_dead_state(state) {
                return Verdict::No;
            } else if dfa.is_quit_state(state) {
                return Verdict::Undecided;
            }
        }
    }
    dfa.is_match_state(dfa.next_eoi_state(state)).into()
}

/// End of the longest match that starts at `start`, of those before no word character if `words` tells which these
/// are.
#[inline(never)]
pub(super) fn longest(
    dfa: &Dfa<'_>,
    line: &[u8],
    start: usize,
    words: Option<&Chars<'_>>,
) -> Result<Option<usize>, Undecided> {
    let input = Input::new(line).range(start..).anchored(Anchored::Yes);
    let mut state = dfa.start_state_forward(&input).map_err(|_| Undecided)?;
    let mut longest = None;
    for at in start..line.len() {
        state = dfa.next_state(state, line[at]);
        if dfa.is_special_state(state) {
            // The DFA reports a match one byte late.
            if dfa.is_match_state(state) {
                if words.is_none_or(|chars| !chars.word_after(line, at)) {
                    longest = Some(at);
                }
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
