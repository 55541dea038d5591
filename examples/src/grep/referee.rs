//! Decides the lines that the device cannot: where the DFA would need to know which of the
//! characters beyond ASCII make words. A slower machine that does know walks those lines here.

use regex_automata::nfa::thompson::pikevm::{self, PikeVM};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::pool::Pool;
use regex_automata::{Anchored, Input, MatchKind};
use regex_syntax::hir::Hir;

type CachePool = Pool<pikevm::Cache, Box<dyn Fn() -> pikevm::Cache + Send + Sync>>;

/// The same search as the device's, for single lines.
pub struct Referee {
    vm: PikeVM,
    caches: CachePool,
    /// With `-w`: the word characters, as sorted ranges.
    words: Option<Vec<(u32, u32)>>,
}

impl Referee {
    /// For lines that match `hir`; given word characters, between others only.
    pub(super) fn new(hir: &Hir, words: Option<Vec<(u32, u32)>>) -> Result<Self, String> {
        let config = thompson::Config::new().utf8(false).which_captures(WhichCaptures::Implicit);
        let too_big = |e| format!("Regular expression too big ({e})");
        let nfa = thompson::Compiler::new().configure(config).build_from_hir(hir);
        let vm = PikeVM::builder()
            .configure(PikeVM::config().match_kind(MatchKind::All))
            .build_from_nfa(nfa.map_err(too_big)?)
            .map_err(too_big)?;
        let cached = vm.clone();
        let caches: CachePool = Pool::new(Box::new(move || cached.create_cache()));
        Ok(Referee { vm, caches, words })
    }

    /// The leftmost, then longest match at or after `from`.
    pub fn next_span(&self, line: &[u8], from: usize, with_empty: bool) -> Option<(usize, usize)> {
        let mut cache = self.caches.get();
        for start in from..=line.len() {
            if self.word_before(line, start) {
                continue;
            }
            let mut end = line.len();
            // Shorter and shorter, until the match ends where it may.
            loop {
                let input = Input::new(line).range(start..end).anchored(Anchored::Yes);
                let mut slots = [None; 2];
                if self.vm.search_slots(&mut cache, &input, &mut slots).is_none() {
                    break;
                }
                let found = slots[1].map_or(start, |e| e.get());
                if !self.word_after(line, found) && (with_empty || found > start) {
                    return Some((start, found));
                }
                if found <= start {
                    break;
                }
                end = found - 1;
            }
        }
        None
    }

    fn word_before(&self, line: &[u8], at: usize) -> bool {
        let lead = line[..at].iter().rposition(|b| b & 0xc0 != 0x80).unwrap_or(0);
        match std::str::from_utf8(&line[lead..at]) {
            Ok(s) => s.chars().next_back().is_some_and(|c| self.is_word(c)),
            Err(_) => false,
        }
    }

    fn word_after(&self, line: &[u8], at: usize) -> bool {
        let next = &line[at..line.len().min(at + 4)];
        let valid = match std::str::from_utf8(next) {
            Ok(s) => s,
            Err(e) => std::str::from_utf8(&next[..e.valid_up_to()]).unwrap_or(""),
        };
        valid.chars().next().is_some_and(|c| self.is_word(c))
    }

    fn is_word(&self, c: char) -> bool {
        let Some(words) = &self.words else { return false };
        let at = words.partition_point(|r| r.1 < c as u32);
        words.get(at).is_some_and(|r| r.0 <= c as u32)
    }
}
