//! From patterns and options to a device program: chooses the fastest search that is exact.

use std::collections::{BTreeSet, HashSet};

use gpu_kernels::grep::{Accept, Find, Program, ProgramFlags};
use regex_automata::MatchKind;
use regex_automata::dfa::{StartKind, dense};
use regex_automata::nfa::thompson;
use regex_syntax::hir::{Class, Hir, HirKind, Look};

use super::blob::{self, Parts, Word};
use super::locale::{Charset, Folds, Locale};
use super::referee::Referee;
use super::required::{self, Required};
use super::shape;
use super::syntax::{Dialect, Reader};

/// How patterns are meant.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The dialect; `None` for fixed strings (`-F`).
    pub dialect: Option<Dialect>,
    /// `-i`.
    pub ignore_case: bool,
    /// `-w`.
    pub word: bool,
    /// `-x`.
    pub line: bool,
    /// Whether it matters where in a line the matches lie, and not only whether there are any.
    pub spans: bool,
}

/// Compiled patterns.
pub struct Compiled {
    /// The device program.
    pub program: Vec<u64>,
    /// Decides lines that the device cannot.
    pub referee: Option<Referee>,
    /// Warnings about the patterns, as GNU grep words them.
    pub warnings: Vec<String>,
}

/// From so many words on, one pass with a hash table is faster than a search for literals.
const MANY: usize = 32;
/// Case variants of fixed strings are spelled out up to so many strings.
const VARIANTS_MAX: usize = 4096;
/// Limits of a DFA, in bytes: of itself, and of what building it takes.
const DFA_MAX: usize = 16 << 20;
const DETERMINIZE_MAX: usize = 64 << 20;

struct Compiler<'a> {
    options: Options,
    locale: &'a Locale,
    folds: Option<Folds>,
    parts: Parts,
    warnings: Vec<String>,
}

/// Compiles `patterns`, of which a line has to match any. The errors are GNU grep's.
pub fn compile(
    patterns: &[Vec<u8>],
    options: Options,
    locale: &Locale,
) -> Result<Compiled, Vec<String>> {
    let mut seen = HashSet::new();
    let patterns: Vec<&[u8]> =
        patterns.iter().map(Vec::as_slice).filter(|p| seen.insert(*p)).collect();
    let mut compiler = Compiler {
        options,
        locale,
        folds: options.ignore_case.then(|| locale.folds()),
        parts: Parts::default(),
        warnings: Vec::new(),
    };
    let compiled = compiler.compile(&patterns)?;
    let bytes = bytemuck::cast_slice(&compiled.program);
    match Program::parse(bytes) {
        Ok(_) => Ok(compiled),
        Err(e) => Err(vec![format!("internal error: the program is not valid ({e:?})")]),
    }
}

impl Compiler<'_> {
    fn utf8(&self) -> bool {
        self.locale.charset() == Charset::Utf8
    }

    fn compile(&mut self, patterns: &[&[u8]]) -> Result<Compiled, Vec<String>> {
        let fold = if self.options.ignore_case { ProgramFlags::FOLD } else { 0 };
        self.parts.flags = fold | if self.utf8() { ProgramFlags::UTF8 } else { 0 };
        if patterns.is_empty() {
            return Ok(self.done(Find::Nothing, Accept::Hit, None));
        }
        if self.options.word && self.utf8() {
            self.parts.word_chars = blob::word_chars(&self.word_ranges());
        }
        if patterns.iter().all(|p| is_plain(p, self.options.dialect))
            && let Some((find, accept)) = self.fixed(patterns)
        {
            return Ok(self.done(find, accept, None));
        }
        self.expressions(patterns)
    }

    fn done(&mut self, find: Find, accept: Accept, referee: Option<Referee>) -> Compiled {
        let program = self.parts.assemble(find, accept);
        Compiled { program, referee, warnings: std::mem::take(&mut self.warnings) }
    }

    fn word_ranges(&self) -> Vec<(u32, u32)> {
        let mut ranges = self.locale.class("alnum").unwrap_or_default();
        ranges.push((u32::from(b'_'), u32::from(b'_')));
        ranges.sort_unstable();
        ranges
    }

    /// Programs for fixed strings; `None` if only the general way is exact.
    fn fixed(&mut self, strings: &[&[u8]]) -> Option<(Find, Accept)> {
        let Options { word, line, spans, .. } = self.options;
        let empty = strings.iter().any(|s| s.is_empty());
        if line {
            if strings.len() <= MANY && !empty {
                return self.literals(strings, Accept::Line);
            }
            let whole = |bytes: Vec<u8>| Word { run: 0..bytes.len(), bytes };
            let words: Vec<Word> = self.variants(strings)?.into_iter().map(whole).collect();
            self.parts.words = blob::words(&words, self.options.ignore_case);
            return Some((Find::Whole, Accept::Hit));
        }
        if word {
            if empty {
                return None;
            }
            if strings.len() <= MANY {
                return self.literals(strings, Accept::Word);
            }
            return self.words(strings);
        }
        match (empty, spans) {
            (true, true) if strings.len() > 1 => None,
            (true, _) => Some((Find::Everything, Accept::Hit)),
            (false, _) => self.literals(strings, Accept::Hit),
        }
    }

    fn literals(&mut self, strings: &[&[u8]], accept: Accept) -> Option<(Find, Accept)> {
        let literals: Vec<Vec<u8>> = self.variants(strings)?.into_iter().collect();
        Some((self.find_literals(&literals), accept))
    }

    /// The search for one or several literals, in lower case with `-i`.
    fn find_literals(&mut self, literals: &[Vec<u8>]) -> Find {
        let fold = self.options.ignore_case;
        match literals {
            [needle] if !(fold && needle.iter().any(u8::is_ascii_alphabetic)) => {
                self.parts.needle = needle.clone();
                Find::Literal
            }
            _ => {
                self.parts.set = blob::set(literals, fold);
                Find::Set
            }
        }
    }

    /// Fixed strings with what differs from them in the case of characters beyond ASCII; ASCII
    /// letters become lower case.
    fn variants(&self, strings: &[&[u8]]) -> Option<BTreeSet<Vec<u8>>> {
        let Some(folds) = &self.folds else {
            return Some(strings.iter().map(|s| s.to_vec()).collect());
        };
        let mut all = BTreeSet::new();
        for string in strings {
            let mut variants = vec![Vec::new()];
            for choices in self.characters(string, folds) {
                let longer = |v: &Vec<u8>| {
                    choices.iter().map(|c| [&v[..], &c[..]].concat()).collect::<Vec<_>>()
                };
                variants = variants.iter().flat_map(longer).collect();
                if variants.len() > VARIANTS_MAX {
                    return None;
                }
            }
            all.extend(variants);
            if all.len() > VARIANTS_MAX && all.len() > 4 * strings.len() {
                return None;
            }
        }
        Some(all)
    }

    /// For each character of `string` the bytes that it may be, but for ASCII capitals.
    fn characters(&self, string: &[u8], folds: &Folds) -> Vec<Vec<Vec<u8>>> {
        let reader = self.reader(None);
        let (mut characters, mut rest) = (Vec::new(), string);
        while !rest.is_empty() {
            let (c, len) = reader.char(rest);
            let own = rest[..len].to_ascii_lowercase();
            let mut choices = BTreeSet::from([own]);
            if let Some(c) = c.filter(|_| self.utf8()) {
                let other = folds.variants(c).into_iter().filter_map(char::from_u32);
                choices.extend(other.map(|v| v.to_string().to_ascii_lowercase().into_bytes()));
            }
            characters.push(choices.into_iter().collect());
            rest = &rest[len..];
        }
        characters
    }

    /// Programs for many words; `None` if one of them has no word character at all.
    fn words(&mut self, strings: &[&[u8]]) -> Option<(Find, Accept)> {
        let ranges = self.word_ranges();
        let is_word = |c: Option<u32>| match c {
            Some(c) => {
                let at = ranges.partition_point(|r| r.1 < c);
                ranges.get(at).is_some_and(|r| r.0 <= c)
            }
            None => false,
        };
        let mut words = Vec::new();
        for string in strings {
            // Variants of ASCII letters in runs are folded as the text is read.
            let ascii = string.is_ascii() || !self.options.ignore_case;
            let spelled = match ascii {
                true => BTreeSet::from([match self.options.ignore_case {
                    true => string.to_ascii_lowercase(),
                    false => string.to_vec(),
                }]),
                false => self.variants(&[string])?,
            };
            for bytes in spelled {
                let run = first_run(&bytes, &self.reader(None), &is_word)?;
                words.push(Word { bytes, run });
            }
        }
        self.parts.words = blob::words(&words, self.options.ignore_case);
        Some((Find::Words, Accept::Hit))
    }

    fn reader(&self, dialect: Option<Dialect>) -> Reader<'_> {
        let dialect = dialect.unwrap_or(Dialect::Basic);
        Reader { dialect, locale: self.locale, folds: self.folds.as_ref() }
    }

    fn expressions(&mut self, patterns: &[&[u8]]) -> Result<Compiled, Vec<String>> {
        let hir = self.read(patterns, self.locale)?;
        let Options { word, line, ignore_case: fold, .. } = self.options;
        let required = required::required(&hir, fold);
        if let Some(Required { literals, exact: true }) = &required {
            let find = self.find_literals(literals);
            let accept = match (line, word) {
                (true, _) => Accept::Line,
                (_, true) => Accept::Word,
                _ => Accept::Hit,
            };
            return Ok(self.done(find, accept, None));
        }
        let literals = required.as_ref().map(|r| r.literals.as_slice());
        let shape = shape::shape(&hir).filter(|s| s.is_better_than(literals, fold));
        let whole = if line { anchored(hir) } else { hir };
        self.parts.starts = starts(&whole);
        let mut referee = None;
        self.parts.dfa = match dfa(&whole, self.utf8(), false) {
            Some(dfa) => {
                if self.utf8() && whole.properties().look_set().contains_word() {
                    referee = Some(whole);
                }
                dfa
            }
            None => {
                // Too many states: of ASCII alone there may be fewer. Lines that are not ASCII are
                // then the referee's.
                let c_locale = Locale::named("C");
                let ascii = self.read(patterns, &c_locale)?;
                let ascii = if line { anchored(ascii) } else { ascii };
                referee = Some(whole);
                let too_big = || vec!["Regular expression too big".into()];
                dfa(&ascii, false, self.utf8()).ok_or_else(too_big)?
            }
        };
        let accept = if word && !line { Accept::DfaWord } else { Accept::Dfa };
        let find = match (shape, required) {
            (Some(shape), _) => {
                self.parts.shape = blob::shape(&shape);
                Find::Shape
            }
            (None, Some(required)) => self.find_literals(&required.literals),
            (None, None) => Find::Dfa,
        };
        let accept = if find == Find::Dfa && accept == Accept::Dfa { Accept::Hit } else { accept };
        let bounded = word && !line;
        let referee = referee
            .map(|hir| Referee::new(&hir, self.word_ranges(), bounded, self.utf8()))
            .transpose();
        let referee = referee.map_err(|e| vec![e])?;
        if referee.is_some() {
            self.parts.flags |= ProgramFlags::UNDECIDED;
        }
        Ok(self.done(find, accept, referee))
    }

    fn read(&mut self, patterns: &[&[u8]], locale: &Locale) -> Result<Hir, Vec<String>> {
        let dialect = self.options.dialect;
        let reader = Reader {
            dialect: dialect.unwrap_or(Dialect::Basic),
            locale,
            folds: self.folds.as_ref(),
        };
        let (mut hirs, mut errors, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
        for pattern in patterns {
            match dialect {
                None => hirs.push(reader.literal(pattern)),
                Some(_) => match reader.read(pattern, &mut warnings) {
                    Ok(hir) => hirs.push(hir),
                    Err(e) => errors.push(e),
                },
            }
        }
        if self.warnings.is_empty() {
            self.warnings = warnings;
        }
        if errors.is_empty() { Ok(Hir::alternation(hirs)) } else { Err(errors) }
    }
}

/// Whether a pattern has no operators, so that it stands for itself.
fn is_plain(pattern: &[u8], dialect: Option<Dialect>) -> bool {
    let operators: &[u8] = match dialect {
        None => return true,
        Some(Dialect::Basic) => b"\\[.*^$",
        Some(Dialect::Extended) => b"\\[.*^$+?{|()",
    };
    !pattern.iter().any(|b| operators.contains(b))
}

/// Where the first run of word characters lies.
fn first_run(
    bytes: &[u8],
    reader: &Reader<'_>,
    is_word: &impl Fn(Option<u32>) -> bool,
) -> Option<std::ops::Range<usize>> {
    let mut start = None;
    let mut at = 0;
    while at < bytes.len() {
        let (c, len) = reader.char(&bytes[at..]);
        match (is_word(c), start) {
            (true, None) => start = Some(at),
            (false, Some(start)) => return Some(start..at),
            _ => {}
        }
        at += len;
    }
    start.map(|start| start..at)
}

fn anchored(hir: Hir) -> Hir {
    Hir::concat(vec![Hir::look(Look::StartLF), hir, Hir::look(Look::EndLF)])
}

/// A DFA that finds the ends of all matches; `None` if it would be too big. With `ascii_only` it
/// gives up on other bytes.
fn dfa(hir: &Hir, utf8: bool, ascii_only: bool) -> Option<Vec<u8>> {
    let nfa = thompson::Compiler::new()
        .configure(
            thompson::Config::new()
                .utf8(false)
                .nfa_size_limit(Some(DETERMINIZE_MAX))
                .which_captures(thompson::WhichCaptures::None),
        )
        .build_from_hir(hir)
        .ok()?;
    let mut config = dense::Config::new()
        .match_kind(MatchKind::All)
        .start_kind(StartKind::Both)
        .unicode_word_boundary(utf8)
        .dfa_size_limit(Some(DFA_MAX))
        .determinize_size_limit(Some(DETERMINIZE_MAX));
    if ascii_only {
        for byte in 0x80..=0xff {
            config = config.quit(byte, true);
        }
    }
    let dfa = dense::Builder::new().configure(config).build_from_nfa(&nfa).ok()?;
    let (bytes, padding) = dfa.to_bytes_native_endian();
    Some(bytes[padding..].to_vec())
}

/// The bytes with which a match that is not empty may start, as bits.
fn starts(hir: &Hir) -> [u32; 8] {
    let mut bits = [0; 8];
    add_starts(hir, &mut bits);
    bits
}

/// Returns whether `hir` can match the empty string.
fn add_starts(hir: &Hir, bits: &mut [u32; 8]) -> bool {
    let mut add = |first: u8, last: u8| {
        for b in first..=last {
            bits[b as usize / 32] |= 1 << (b % 32);
        }
    };
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => true,
        HirKind::Literal(literal) => {
            add(literal.0[0], literal.0[0]);
            false
        }
        HirKind::Class(Class::Bytes(class)) => {
            class.ranges().iter().for_each(|r| add(r.start(), r.end()));
            false
        }
        HirKind::Class(Class::Unicode(class)) => {
            let lead = |c: char| c.encode_utf8(&mut [0; 4]).as_bytes()[0];
            // Lead bytes are in the order of the characters.
            class.ranges().iter().for_each(|r| add(lead(r.start()), lead(r.end())));
            false
        }
        HirKind::Capture(capture) => add_starts(&capture.sub, bits),
        HirKind::Repetition(r) => add_starts(&r.sub, bits) || r.min == 0,
        HirKind::Concat(subs) => subs.iter().all(|sub| add_starts(sub, bits)),
        HirKind::Alternation(subs) => {
            subs.iter().fold(false, |empty, sub| add_starts(sub, bits) | empty)
        }
    }
}

/// The referee for patterns, also where their program needs none: what tests compare it with.
///
/// # Errors
/// As [`compile`].
pub fn referee(
    patterns: &[Vec<u8>],
    options: Options,
    locale: &Locale,
) -> Result<Referee, Vec<String>> {
    let mut compiler = Compiler {
        options,
        locale,
        folds: options.ignore_case.then(|| locale.folds()),
        parts: Parts::default(),
        warnings: Vec::new(),
    };
    let patterns: Vec<&[u8]> = patterns.iter().map(Vec::as_slice).collect();
    let hir = compiler.read(&patterns, locale)?;
    let hir = if options.line { anchored(hir) } else { hir };
    let bounded = options.word && !options.line;
    Referee::new(&hir, compiler.word_ranges(), bounded, compiler.utf8()).map_err(|e| vec![e])
}
