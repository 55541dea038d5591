//! Reads patterns in the dialects of GNU grep: basic (`-G`) and extended (`-E`) regular
//! expressions.
//!
//! The two differ in which operators need a backslash, and in what an operator means where it has
//! nothing to apply to. Both are described by what GNU grep 3.8 does, which POSIX leaves open:
//! `*` at the start is a literal in the basic dialect and ignored, with a warning, in the other.
//! Where its two engines disagree, as on the extended `^*a`, the one that finds lines is followed.

use regex_syntax::hir::{Hir, Look, Repetition};

use super::bracket;
use super::charset::CharSet;
use super::locale::{Charset, Folds, Locale};

/// Which dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `-G`: `\(`, `\{`, `\|`, `\+`, `\?` are operators.
    Basic,
    /// `-E`: `(`, `{`, `|`, `+`, `?` are operators.
    Extended,
}

/// The largest count of an interval, as in the C library.
const REPEAT_MAX: u32 = 0x7fff;
/// Groups nest so deep at most: expressions are walked recursively.
const DEPTH_MAX: usize = 500;

/// What reading patterns depends on.
pub(super) struct Reader<'a> {
    pub(super) dialect: Dialect,
    pub(super) locale: &'a Locale,
    /// Case pairs, with `-i`.
    pub(super) folds: Option<&'a Folds>,
}

#[derive(Clone, Debug)]
enum Token {
    End,
    Open,
    Close,
    Or,
    Repeat { min: u32, max: Option<u32> },
    Atom(Hir),
}

struct Parser<'a> {
    reader: &'a Reader<'a>,
    text: &'a [u8],
    at: usize,
    /// No atom has been read since the start, `(` or `|`.
    start: bool,
    /// The last token was the start, `(` or `|`.
    after_open: bool,
    depth: usize,
    groups: u32,
    token: Token,
    warnings: &'a mut Vec<String>,
}

impl Reader<'_> {
    /// Reads one pattern. Warnings and the error are worded as GNU grep words them.
    pub(super) fn read(&self, text: &[u8], warnings: &mut Vec<String>) -> Result<Hir, String> {
        let mut parser = Parser {
            reader: self,
            text,
            at: 0,
            start: true,
            after_open: true,
            depth: 0,
            groups: 0,
            token: Token::End,
            warnings,
        };
        parser.advance()?;
        let hir = parser.alternatives()?;
        match parser.token {
            Token::End => Ok(hir),
            _ => Err("Unmatched ) or \\)".into()),
        }
    }

    /// A string of characters, in any case with `-i`.
    pub(super) fn literal(&self, text: &[u8]) -> Hir {
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (c, len) = self.char(rest);
            parts.push(self.char_hir(c, &rest[..len]));
            rest = &rest[len..];
        }
        Hir::concat(parts)
    }

    /// The first character of `text` and its length; `None` for a byte that is no character.
    pub(super) fn char(&self, text: &[u8]) -> (Option<u32>, usize) {
        let byte = text[0];
        if byte < 0x80 || self.locale.charset() == Charset::Bytes {
            return (Some(byte as u32), 1);
        }
        let head = &text[..text.len().min(4)];
        let valid = match std::str::from_utf8(head) {
            Ok(s) => s,
            Err(e) => std::str::from_utf8(&head[..e.valid_up_to()]).unwrap_or(""),
        };
        match valid.chars().next() {
            Some(c) => (Some(c as u32), c.len_utf8()),
            None => (None, 1),
        }
    }

    fn char_hir(&self, c: Option<u32>, bytes: &[u8]) -> Hir {
        match (c, self.folds) {
            (Some(c), Some(folds)) => {
                let mut set = CharSet::default();
                folds.variants(c).into_iter().for_each(|v| set.add(v, v));
                set.into_hir(false, self.locale.charset())
            }
            _ => Hir::literal(bytes.to_vec()),
        }
    }

    /// `\w` and `\s`, or what they leave out.
    fn class(&self, name: &str, more: Option<char>, negated: bool) -> Hir {
        let mut set = CharSet::default();
        set.add_all(&self.locale.class(name).unwrap_or_default());
        if let Some(c) = more {
            set.add(c as u32, c as u32);
        }
        set.into_hir(negated, self.locale.charset())
    }

    /// One of the assertions about words.
    fn word_look(&self, c: u8) -> Hir {
        let utf8 = self.locale.charset() == Charset::Utf8;
        Hir::look(match (c, utf8) {
            (b'<', false) => Look::WordStartAscii,
            (b'<', true) => Look::WordStartUnicode,
            (b'>', false) => Look::WordEndAscii,
            (b'>', true) => Look::WordEndUnicode,
            (b'b', false) => Look::WordAscii,
            (b'b', true) => Look::WordUnicode,
            (_, false) => Look::WordAsciiNegate,
            (_, true) => Look::WordUnicodeNegate,
        })
    }
}

impl Parser<'_> {
    fn alternatives(&mut self) -> Result<Hir, String> {
        let mut branches = vec![self.branch()?];
        while matches!(self.token, Token::Or) {
            self.advance()?;
            branches.push(self.branch()?);
        }
        Ok(Hir::alternation(branches))
    }

    fn branch(&mut self) -> Result<Hir, String> {
        let mut pieces: Vec<Hir> = Vec::new();
        loop {
            match std::mem::replace(&mut self.token, Token::End) {
                Token::Atom(hir) => {
                    self.advance()?;
                    let piece = self.repeated(hir)?;
                    pieces.push(piece);
                }
                Token::Open => {
                    self.depth += 1;
                    self.groups += 1;
                    if self.depth > DEPTH_MAX {
                        return Err("Regular expression too big".into());
                    }
                    self.advance()?;
                    let hir = self.alternatives()?;
                    if !matches!(self.token, Token::Close) {
                        return Err("Unmatched ( or \\(".into());
                    }
                    self.depth -= 1;
                    self.advance()?;
                    let piece = self.repeated(hir)?;
                    pieces.push(piece);
                }
                // Nothing to repeat: the empty string.
                Token::Repeat { .. } => self.advance()?,
                token => {
                    self.token = token;
                    return Ok(Hir::concat(pieces));
                }
            }
        }
    }

    fn repeated(&mut self, mut hir: Hir) -> Result<Hir, String> {
        while let Token::Repeat { min, max } = self.token {
            hir = Hir::repetition(Repetition { min, max, greedy: true, sub: Box::new(hir) });
            self.advance()?;
        }
        Ok(hir)
    }

    /// Reads the next token into `self.token`.
    fn advance(&mut self) -> Result<(), String> {
        let was_open = std::mem::replace(&mut self.after_open, false);
        self.token = self.lex(was_open)?;
        match self.token {
            Token::Open | Token::Or => (self.start, self.after_open) = (true, true),
            _ => {}
        }
        Ok(())
    }

    fn lex(&mut self, was_open: bool) -> Result<Token, String> {
        let extended = self.reader.dialect == Dialect::Extended;
        let Some(&first) = self.text.get(self.at) else { return Ok(Token::End) };
        let escaped = first == b'\\';
        let begin = self.at + escaped as usize;
        let Some(&c) = self.text.get(begin) else { return Err("Trailing backslash".into()) };
        let after = begin + 1;
        // Operators that take a backslash in the basic dialect only.
        let operator = escaped != extended;
        let token = match c {
            b'^' if !escaped && (extended || was_open) => Token::Atom(Hir::look(Look::StartLF)),
            b'$' if !escaped && (extended || self.closes(after)) => {
                Token::Atom(Hir::look(Look::EndLF))
            }
            b'`' if escaped => Token::Atom(Hir::look(Look::StartLF)),
            b'\'' if escaped => Token::Atom(Hir::look(Look::EndLF)),
            b'<' | b'>' | b'b' | b'B' if escaped => Token::Atom(self.reader.word_look(c)),
            b'1'..=b'9' if escaped => {
                return Err(if (c - b'0') as u32 > self.groups {
                    "Invalid back reference".into()
                } else {
                    "back-references are not supported".into()
                });
            }
            b'*' if !escaped && self.may_repeat("*") => Token::Repeat { min: 0, max: None },
            b'+' if operator && self.may_repeat("+") => Token::Repeat { min: 1, max: None },
            b'?' if operator && self.may_repeat("?") => Token::Repeat { min: 0, max: Some(1) },
            b'{' if operator && (extended || !self.start) => {
                match self.interval(after, escaped)? {
                    Some((min, max, end)) => {
                        self.may_repeat("{...}");
                        self.start = false;
                        self.at = end;
                        return Ok(Token::Repeat { min, max });
                    }
                    None => return Ok(self.character(begin)),
                }
            }
            b'(' if operator => Token::Open,
            b')' if operator && (self.depth > 0 || !extended) => Token::Close,
            b'|' if operator => Token::Or,
            b'.' if !escaped => {
                self.start = false;
                Token::Atom(CharSet::default().into_hir(true, self.reader.locale.charset()))
            }
            b'w' | b'W' if escaped => {
                self.start = false;
                Token::Atom(self.reader.class("alnum", Some('_'), c == b'W'))
            }
            b's' | b'S' if escaped => {
                self.start = false;
                Token::Atom(self.reader.class("space", None, c == b'S'))
            }
            b'[' if !escaped => {
                let (hir, end) = bracket::read(self.reader, self.text, after)?;
                self.start = false;
                self.at = end;
                return Ok(Token::Atom(hir));
            }
            _ => return Ok(self.character(begin)),
        };
        if matches!(token, Token::Close) {
            self.start = false;
        }
        self.at = after;
        Ok(token)
    }

    fn character(&mut self, begin: usize) -> Token {
        let rest = &self.text[begin..];
        let (c, len) = self.reader.char(rest);
        self.start = false;
        self.at = begin + len;
        Token::Atom(self.reader.char_hir(c, &rest[..len]))
    }

    /// Whether a repetition is one here. At the start the basic dialect reads a literal.
    fn may_repeat(&mut self, operator: &str) -> bool {
        if !self.start {
            return true;
        }
        if self.reader.dialect == Dialect::Extended {
            self.warnings.push(format!("warning: {operator} at start of expression"));
            return true;
        }
        false
    }

    /// Whether a basic expression or group ends at `at`.
    fn closes(&self, at: usize) -> bool {
        matches!(self.text.get(at..), Some([] | [b'\\', b')' | b'|', ..]))
    }

    /// Reads `M}`, `M,}`, `,N}` or `M,N}` (with `\}` if `escaped`): the counts and the end. `None`
    /// if it is none of these and therefore literal in the extended dialect.
    fn interval(
        &self,
        from: usize,
        escaped: bool,
    ) -> Result<Option<(u32, Option<u32>, usize)>, String> {
        let close: &[u8] = if escaped { b"\\}" } else { b"}" };
        let body = &self.text[from..];
        let len = body.windows(close.len()).position(|w| w == close);
        let counts = len.and_then(|len| interval_counts(&body[..len]));
        match (counts, len) {
            (Some((min, max)), Some(len)) => {
                if max.is_some_and(|max| max < min) {
                    return Err("Invalid content of \\{\\}".into());
                }
                if max.unwrap_or(min) > REPEAT_MAX {
                    return Err("Regular expression too big".into());
                }
                Ok(Some((min, max, from + len + close.len())))
            }
            _ if !escaped => Ok(None),
            (_, None) => Err("Unmatched \\{".into()),
            (None, Some(_)) => Err("Invalid content of \\{\\}".into()),
        }
    }
}

fn interval_counts(body: &[u8]) -> Option<(u32, Option<u32>)> {
    let number = |digits: &[u8]| {
        let valid = digits.iter().all(u8::is_ascii_digit);
        let value = |n: u32, d: &u8| (n * 10 + (d - b'0') as u32).min(REPEAT_MAX + 1);
        valid.then(|| (!digits.is_empty()).then(|| digits.iter().fold(0, value)))
    };
    match body.iter().position(|&b| b == b',') {
        None => number(body)?.map(|n| (n, Some(n))),
        Some(comma) => {
            let (min, max) = (number(&body[..comma])?, number(&body[comma + 1..])?);
            Some((min.unwrap_or(0), max))
        }
    }
}
