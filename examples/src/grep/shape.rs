//! What all that an expression matches looks like, byte by byte, as far as that is the same.

use gpu_kernels::grep::ByteTest;
use regex_syntax::hir::{Class, Hir, HirKind};

/// Which bytes may stand somewhere.
type Bytes = [bool; 256];

/// No more bytes in a row are kept.
const LEN_MAX: usize = 32;
/// No more bytes are tested: each further one costs at every place of the text.
const TESTS_MAX: usize = 4;
/// Bytes that stand beside each other have to do with each other: a further test lets through at
/// least this part of what those before it did.
const FURTHER_LEAST: f64 = 0.2;

/// Bytes of which some are tested.
#[derive(Debug, PartialEq)]
pub(super) struct Shape {
    /// The tests, the most telling first.
    pub(super) tests: Vec<ByteTest>,
    /// Whether it starts where the match does.
    pub(super) at_start: bool,
    /// How many of all places look like it, roughly.
    pub(super) frequency: f64,
}

/// What searches cost, in nanoseconds a byte, roughly: by a DFA alone, for a shape, for one
/// literal, for each of several.
const DFA: f64 = 0.7;
const SHAPE: f64 = 0.1;
const LITERAL: f64 = 0.06;
const SEVERAL: f64 = 0.05;
/// And what it costs to look at a candidate, in nanoseconds: at a place, or at its whole line.
const PLACE: f64 = 10.0;
const LINE: f64 = 80.0;

impl Shape {
    /// Whether a search for this shape is faster than one for literals or, without any, than one
    /// by a DFA.
    pub(super) fn is_better_than(&self, literals: Option<&[Vec<u8>]>, fold: bool) -> bool {
        let own = SHAPE + self.frequency * if self.at_start { PLACE } else { LINE };
        let Some(literals) = literals else { return own < DFA };
        let scan = match literals {
            [_] if !fold => LITERAL,
            all if all.len() <= super::blob::PROBES_MAX => SEVERAL * all.len() as f64,
            _ => DFA,
        };
        let found: f64 = literals.iter().map(|l| frequency(l)).sum();
        own < scan + found * LINE
    }
}

/// What is known of the bytes of a part of an expression.
#[derive(Clone)]
struct Part {
    /// Those that all that it matches starts with, …
    head: Vec<Bytes>,
    /// … and ends with.
    tail: Vec<Bytes>,
    /// Others in between that follow each other.
    inner: Vec<Vec<Bytes>>,
    /// Head and tail are the same and all there is.
    whole: bool,
}

/// The most telling shape of what `hir` matches; `None` if it may be empty.
pub(super) fn shape(hir: &Hir) -> Option<Shape> {
    let Part { head, tail, inner, .. } = part(hir);
    let others = inner.iter().chain([&tail]).filter_map(|run| tests(run, false));
    // What starts where the match does is confirmed with less effort.
    let cost = |s: &Shape| s.frequency * if s.at_start { 1.0 } else { 8.0 };
    others.chain(tests(&head, true)).min_by(|a, b| cost(a).total_cmp(&cost(b)))
}

fn part(hir: &Hir) -> Part {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Part::of(Vec::new()),
        HirKind::Literal(literal) => Part::of(literal.0.iter().map(|&b| just(b, b)).collect()),
        HirKind::Class(class) => match bytes(class) {
            Some(bytes) => Part::of(vec![bytes]),
            None => Part::unknown(),
        },
        HirKind::Capture(capture) => part(&capture.sub),
        HirKind::Repetition(r) if r.min == 0 => Part::unknown(),
        HirKind::Repetition(r) => {
            let one = part(&r.sub);
            let times = r.min.min(LEN_MAX as u32 + 1);
            let least = (1..times).fold(one.clone(), |all, _| all.then(one.clone()));
            match r.max == Some(r.min) {
                true => least,
                false => Part { whole: false, ..least },
            }
        }
        HirKind::Concat(subs) => {
            subs.iter().map(part).fold(Part::of(Vec::new()), |all, next| all.then(next))
        }
        HirKind::Alternation(subs) => {
            subs.iter().map(part).reduce(Part::or).unwrap_or(Part::unknown())
        }
    }
}

impl Part {
    fn of(bytes: Vec<Bytes>) -> Self {
        let whole = bytes.len() <= LEN_MAX;
        let (mut head, mut tail) = (bytes.clone(), bytes);
        head.truncate(LEN_MAX);
        tail.drain(..tail.len().saturating_sub(LEN_MAX));
        Part { head, tail, inner: Vec::new(), whole }
    }

    fn unknown() -> Self {
        Part { whole: false, ..Part::of(Vec::new()) }
    }

    /// This and then another.
    fn then(self, next: Part) -> Part {
        let across = Part::of([&self.tail[..], &next.head].concat());
        let mut inner = [self.inner, next.inner].concat();
        let (head, tail, whole) = match (self.whole, next.whole) {
            (true, true) => (across.head, across.tail, across.whole),
            (true, false) => (across.head, next.tail, false),
            (false, true) => (self.head, across.tail, false),
            (false, false) => {
                inner.push(across.head);
                (self.head, next.tail, false)
            }
        };
        Part { head, tail, inner, whole }
    }

    /// This or another.
    fn or(self, other: Part) -> Part {
        let whole = self.whole && other.whole && self.head.len() == other.head.len();
        let either = |(a, b): (&Bytes, &Bytes)| std::array::from_fn(|i| a[i] || b[i]);
        let head = self.head.iter().zip(&other.head).map(either).collect();
        let mut tail: Vec<Bytes> =
            self.tail.iter().rev().zip(other.tail.iter().rev()).map(either).collect();
        tail.reverse();
        Part { head, tail, inner: Vec::new(), whole }
    }
}

fn just(first: u8, last: u8) -> Bytes {
    std::array::from_fn(|b| (usize::from(first)..=usize::from(last)).contains(&b))
}

/// The bytes of a class whose characters are of one byte each.
fn bytes(class: &Class) -> Option<Bytes> {
    let mut all = [false; 256];
    match class {
        Class::Bytes(class) => {
            class.ranges().iter().for_each(|r| all[r.start().into()..=r.end().into()].fill(true));
        }
        Class::Unicode(class) => {
            for range in class.ranges() {
                let last = u8::try_from(range.end()).ok().filter(u8::is_ascii)?;
                all[range.start() as usize..=last.into()].fill(true);
            }
        }
    }
    Some(all)
}

/// The most telling tests of bytes that follow each other.
fn tests(run: &[Bytes], at_start: bool) -> Option<Shape> {
    let mut all: Vec<(f64, ByteTest)> =
        run.iter().enumerate().map(|(at, bytes)| test(at as u8, bytes)).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut frequency, _) = *all.first()?;
    let mut tests = Vec::new();
    for (passing, test) in all.into_iter().take(TESTS_MAX) {
        if !tests.is_empty() {
            // A test that tells nothing more, or nothing that is still worth knowing.
            if passing > 0.5 || frequency < 1e-4 {
                break;
            }
            frequency *= passing.max(FURTHER_LEAST);
        }
        tests.push(test);
    }
    Some(Shape { tests, at_start, frequency })
}

/// How many of all places have `literal`, roughly.
fn frequency(literal: &[u8]) -> f64 {
    let mut bytes: Vec<f64> = literal.iter().map(|&b| super::blob::frequency(b)).collect();
    bytes.sort_by(f64::total_cmp);
    let further = bytes.iter().skip(1).map(|f| f.max(FURTHER_LEAST));
    bytes.first().unwrap_or(&1.0) * further.product::<f64>()
}

/// The narrowest test that all of `bytes` pass, and which part of a text passes it.
fn test(at: u8, bytes: &Bytes) -> (f64, ByteTest) {
    let ranges = [0, 0x20].map(|case| {
        let folded = || (0..=255u8).filter(|&b| bytes[usize::from(b)]).map(|b| b | case);
        let low = folded().min().unwrap_or(0);
        let test = ByteTest { at, case, low, span: folded().max().unwrap_or(0) - low };
        let passing = (0..=255).filter(|&b| test.passes(b)).map(super::blob::frequency).sum();
        (passing, test)
    });
    let [plain, folded] = ranges;
    if folded.0 < plain.0 { folded } else { plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hir(pattern: &str) -> Hir {
        let mut parser = regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build();
        parser.parse(pattern).unwrap()
    }

    /// Offsets that are tested, and whether the shape starts where the match does.
    fn of(pattern: &str) -> Option<(Vec<u8>, bool)> {
        shape(&hir(pattern)).map(|s| (s.tests.iter().map(|t| t.at).collect(), s.at_start))
    }

    #[test]
    fn the_rarest_bytes_are_tested() {
        assert_eq!(of("[0-9]{4}-[0-9]{2}-[0-9]{2}"), Some((vec![4, 7, 0, 1], true)));
        assert_eq!(of("[a-z]+:[0-9]+"), Some((vec![1, 2], false)));
        assert_eq!(of("(ab|xyz)Q[0-9]?"), Some((vec![2], false)));
        assert_eq!(of("(a|b)#(c|d)"), Some((vec![1, 2, 0], true)));
        assert_eq!(of("(a#)?b*"), None);
    }

    #[test]
    fn tests_let_all_of_a_class_pass() {
        for pattern in ["[a-z]", "[A-Za-z]", "[0-9_]", "[^x]", "[\\x00-\\xff]", "[Kk]"] {
            let one = shape(&hir(pattern)).unwrap().tests[0];
            let regex = regex_automata::dfa::regex::Regex::builder()
                .syntax(regex_automata::util::syntax::Config::new().unicode(false).utf8(false))
                .build(pattern)
                .unwrap();
            assert!((0..=255).all(|b| !regex.is_match(&[b][..]) || one.passes(b)), "{pattern}");
        }
    }
}
