//! Which literals must stand in whatever an expression matches.
//!
//! Text without any of them is skipped at the speed of a literal search; only lines with one are
//! looked at by the DFA. Unlike a search for prefixes this takes literals from anywhere in the
//! expression, since the unit of the answer is the line.

use std::collections::BTreeSet;

use regex_syntax::hir::{Class, Hir, HirKind};

/// Strings of which one stands in every match; in lower case where case is ignored.
type Literals = BTreeSet<Vec<u8>>;

/// At most so many alternatives, of so many bytes each.
const COUNT_MAX: usize = 64;
/// Parts that follow each other are joined as long as that makes no more alternatives than can be
/// looked for at once: fewer, shorter literals are found faster than many long ones.
const JOINED_MAX: usize = super::blob::PROBES_MAX;
const LEN_MAX: usize = 64;
/// Classes of at most so many characters are spelled out.
const CLASS_MAX: usize = 16;

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Required {
    /// One of these stands in every match.
    pub(super) literals: Vec<Vec<u8>>,
    /// The matches are exactly these strings, wherever they stand.
    pub(super) exact: bool,
}

/// What one part of an expression demands.
struct Part {
    /// All that it matches, if that is few strings.
    exact: Option<Literals>,
    /// The best literals that stand in all that it matches.
    best: Option<Literals>,
    /// It also looks around itself.
    looks: bool,
}

/// The literals that `hir` requires; `None` if none are worth searching for. With `fold` the
/// expression ignores case: ASCII letters stand for both cases in the answer.
pub(super) fn required(hir: &Hir, fold: bool) -> Option<Required> {
    let Part { exact: all, best, looks } = part(hir, fold);
    // At equal worth, better exact ones, which need no DFA to confirm them.
    let exact = !looks
        && all.as_ref().is_some_and(|a| better(best.clone(), all.clone()) == Some(a.clone()));
    let best = better(best, all)?;
    // Literals that stand in most lines only add to the work of the DFA.
    let weak = !exact && score(&best) < 14;
    if weak || best.iter().any(Vec::is_empty) {
        return None;
    }
    Some(Required { literals: best.into_iter().collect(), exact })
}

fn part(hir: &Hir, fold: bool) -> Part {
    match hir.kind() {
        HirKind::Empty => Part::exact([Vec::new()]),
        HirKind::Literal(literal) => {
            let mut bytes = literal.0.to_vec();
            if fold {
                bytes.make_ascii_lowercase();
            }
            Part::exact([bytes])
        }
        HirKind::Class(class) => Part { exact: spell(class, fold), best: None, looks: false },
        HirKind::Look(_) => Part { looks: true, ..Part::exact([Vec::new()]) },
        HirKind::Capture(capture) => part(&capture.sub, fold),
        HirKind::Repetition(r) => {
            let sub = part(&r.sub, fold);
            match (r.min, r.max) {
                (0, Some(1)) => {
                    let mut exact = sub.exact;
                    if let Some(exact) = &mut exact {
                        exact.insert(Vec::new());
                    }
                    Part { exact, best: None, looks: sub.looks }
                }
                (0, _) => Part { exact: None, best: None, looks: sub.looks },
                (min, max) => {
                    let mut power = sub.exact.clone();
                    for _ in 1..min.min(LEN_MAX as u32 + 1) {
                        power = power.zip(sub.exact.as_ref()).and_then(|(a, b)| product(&a, b));
                    }
                    let best = better(sub.best, sub.exact);
                    let exact = power.filter(|_| max == Some(min) && min as usize <= LEN_MAX);
                    Part { exact, best, looks: sub.looks }
                }
            }
        }
        HirKind::Concat(subs) => {
            let (mut best, mut looks, mut whole) = (None, false, true);
            let mut run: Option<Literals> = Some(BTreeSet::from([Vec::new()]));
            for sub in subs {
                let sub = part(sub, fold);
                looks |= sub.looks;
                let longer = run.as_ref().zip(sub.exact.as_ref()).and_then(|(a, b)| product(a, b));
                if longer.is_none() {
                    whole = false;
                    best = better(best, run.take());
                } else if sub.exact.as_ref().is_some_and(|e| e.len() > 1) {
                    best = better(best, run.take());
                }
                best = better(best, sub.best);
                run = longer.or(sub.exact);
            }
            if whole {
                return Part { exact: run, best, looks };
            }
            Part { exact: None, best: better(best, run), looks }
        }
        HirKind::Alternation(subs) => {
            let parts: Vec<Part> = subs.iter().map(|s| part(s, fold)).collect();
            let looks = parts.iter().any(|p| p.looks);
            let exact = parts.iter().try_fold(Literals::new(), |mut all, p| {
                all.extend(p.exact.as_ref()?.iter().cloned());
                (all.len() <= COUNT_MAX).then_some(all)
            });
            let best = parts.into_iter().try_fold(Literals::new(), |mut all, p| {
                all.extend(better(p.best, p.exact)?);
                (all.len() <= COUNT_MAX).then_some(all)
            });
            Part { exact, best, looks }
        }
    }
}

impl Part {
    fn exact<const N: usize>(literals: [Vec<u8>; N]) -> Self {
        Part { exact: Some(BTreeSet::from(literals)), best: None, looks: false }
    }
}

/// The strings of a small class. When case is ignored, one with a letter in one case only cannot
/// be told in folded literals.
fn spell(class: &Class, fold: bool) -> Option<Literals> {
    let mut literals: Vec<Vec<u8>> = Vec::new();
    match class {
        Class::Unicode(class) => {
            for range in class.ranges() {
                if range.len() > CLASS_MAX {
                    return None;
                }
                literals.extend((range.start()..=range.end()).map(|c| c.to_string().into_bytes()));
            }
        }
        Class::Bytes(class) => {
            for range in class.ranges() {
                if range.len() > CLASS_MAX {
                    return None;
                }
                literals.extend((range.start()..=range.end()).map(|b| vec![b]));
            }
        }
    }
    if literals.len() > CLASS_MAX || literals.is_empty() {
        return None;
    }
    if fold {
        let all: BTreeSet<Vec<u8>> = literals.iter().cloned().collect();
        for literal in &mut literals {
            if !all.contains(&literal.to_ascii_uppercase())
                || !all.contains(&literal.to_ascii_lowercase())
            {
                return None;
            }
            literal.make_ascii_lowercase();
        }
    }
    Some(literals.into_iter().collect())
}

fn product(a: &Literals, b: &Literals) -> Option<Literals> {
    if a.len() * b.len() > JOINED_MAX.max(a.len()).max(b.len()) {
        return None;
    }
    let mut all = Literals::new();
    for x in a {
        for y in b {
            if x.len() + y.len() > LEN_MAX {
                return None;
            }
            all.insert([&x[..], &y[..]].concat());
        }
    }
    Some(all)
}

fn better(a: Option<Literals>, b: Option<Literals>) -> Option<Literals> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if score(&b) >= score(&a) { b } else { a }),
        (a, b) => a.or(b),
    }
}

/// How selective a set of literals is, roughly: long ones of rare bytes are, many are not.
fn score(literals: &Literals) -> i64 {
    let one = |l: &Vec<u8>| l.iter().take(12).map(|&b| 4 + super::blob::rarity(b) as i64).sum();
    let weakest: i64 = literals.iter().map(one).min().unwrap_or(0);
    weakest * 2 - 6 * i64::from(literals.len().max(1).ilog2())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pattern: &str, fold: bool) -> Option<(Vec<String>, bool)> {
        let hir = regex_syntax::ParserBuilder::new()
            .unicode(false)
            .utf8(false)
            .case_insensitive(fold)
            .build()
            .parse(pattern)
            .unwrap();
        required(&hir, fold).map(|r| {
            let text = |l: Vec<u8>| String::from_utf8(l).unwrap();
            (r.literals.into_iter().map(text).collect(), r.exact)
        })
    }

    fn some(literals: &[&str], exact: bool) -> Option<(Vec<String>, bool)> {
        Some((literals.iter().map(|l| l.to_string()).collect(), exact))
    }

    #[test]
    fn literals_are_found_anywhere() {
        assert_eq!(of("unsafe fn", false), some(&["unsafe fn"], true));
        assert_eq!(of("unsafe[0-9]", false), some(&["unsafe"], false));
        assert_eq!(of("[a-z]+_unsafe[0-9]", false), some(&["_unsafe"], false));
        assert_eq!(of("foo(bar|bazz)quux", false), some(&["foobarquux", "foobazzquux"], true));
        assert_eq!(of("x*y?[0-9]+", false), None);
        assert_eq!(of("^start", false), some(&["start"], false));
        assert_eq!(of("(abc.*|.*def)", false), some(&["abc", "def"], false));
        assert_eq!(of("(abc.*|[0-9]+)", false), None);
    }

    #[test]
    fn folded_literals_are_lower_case() {
        assert_eq!(of("UnSafe", true), some(&["unsafe"], true));
        assert_eq!(of("a[b]c.*longer", true), some(&["longer"], false));
    }
}
