//! Bracket expressions: `[abc]`, `[^a-z]`, `[[:alpha:]_]`.

use regex_syntax::hir::Hir;

use super::charset::CharSet;
use super::syntax::Reader;

const UNMATCHED: &str = "Unmatched [, [^, [:, [., or [=";

/// One end of a range, or what stands by itself.
enum Element {
    Char(u32),
    /// A byte that is no character: it matches nothing that is one.
    Byte,
    Class(String),
}

/// Reads the bracket expression of which the inside starts at `from`; also returns its end.
pub(super) fn read(reader: &Reader<'_>, text: &[u8], from: usize) -> Result<(Hir, usize), String> {
    let mut at = from;
    let negated = text.get(at) == Some(&b'^');
    at += negated as usize;
    let first = at;
    let mut set = CharSet::default();
    loop {
        let Some(&b) = text.get(at) else { return Err(UNMATCHED.into()) };
        if b == b']' && at > first {
            break;
        }
        let (element, next) = element(reader, text, at)?;
        at = next;
        let ranged = text.get(at) == Some(&b'-') && !matches!(text.get(at + 1), None | Some(b']'));
        if ranged {
            let (last, next) = self::element(reader, text, at + 1)?;
            at = next;
            match (element, last) {
                (Element::Char(a), Element::Char(b)) if a <= b => set.add(a, b),
                _ => return Err("Invalid range end".into()),
            }
            continue;
        }
        match element {
            Element::Char(c) => set.add(c, c),
            Element::Byte => {}
            Element::Class(name) => {
                let name = match (name.as_str(), reader.folds) {
                    ("upper" | "lower", Some(_)) => "alpha",
                    (name, _) => name,
                };
                let class = reader.locale.class(name).ok_or("Invalid character class name")?;
                set.add_all(&class);
            }
        }
    }
    // `[:space:]` was surely meant to be `[[:space:]]`.
    if !negated && text[first] == b':' && at - first > 1 && text[at - 1] == b':' {
        return Err("character class syntax is [[:space:]], not [:space:]".into());
    }
    if let Some(folds) = reader.folds {
        set.fold(folds);
    }
    Ok((set.into_hir(negated, reader.locale.charset()), at + 1))
}

fn element(reader: &Reader<'_>, text: &[u8], at: usize) -> Result<(Element, usize), String> {
    if let [b'[', kind @ (b':' | b'.' | b'='), ..] = text[at..] {
        let body = at + 2;
        let close = [kind, b']'];
        let len = text[body..].windows(2).position(|w| w == close).ok_or(UNMATCHED)?;
        let name = &text[body..body + len];
        let end = body + len + 2;
        if kind == b':' {
            return Ok((Element::Class(String::from_utf8_lossy(name).into_owned()), end));
        }
        // Equivalence classes and collating symbols of one character are that character.
        return match name {
            [] => Err("Invalid collation character".into()),
            _ => match reader.char(name) {
                (Some(c), len) if len == name.len() => Ok((Element::Char(c), end)),
                _ => Err("Invalid collation character".into()),
            },
        };
    }
    let (c, len) = reader.char(&text[at..]);
    Ok((c.map_or(Element::Byte, Element::Char), at + len))
}
