//! Text to tokens.

use crate::ptx::PtxError;

/// What a module's text is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Token<'a> {
    /// A name, a register, a directive or an instruction with its modifiers.
    Word(&'a str),
    /// What stands between quotes.
    Text(&'a str),
    Int(u64),
    /// The bits of a single-precision number.
    Single(u32),
    /// The bits of a double-precision number.
    Double(u64),
    Punct(u8),
    End,
}

impl std::fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Token::Word(word) => write!(f, "`{word}`"),
            Token::Text(text) => write!(f, "\"{text}\""),
            Token::Int(value) => write!(f, "{value}"),
            Token::Single(bits) => write!(f, "0f{bits:08X}"),
            Token::Double(bits) => write!(f, "0d{bits:016X}"),
            Token::Punct(c) => write!(f, "`{}`", char::from(*c)),
            Token::End => f.write_str("the end of the text"),
        }
    }
}

/// Reads a text token by token.
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: u32,
}

fn starts_word(c: u8) -> bool {
    c.is_ascii_alphabetic() || matches!(c, b'_' | b'$' | b'%' | b'.')
}

fn continues_word(c: u8) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, b'_' | b'$' | b'%' | b'.')
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, line: 1 }
    }

    fn peek(&self, ahead: usize) -> u8 {
        // A NUL never continues anything.
        self.text.as_bytes().get(self.at + ahead).copied().unwrap_or(0)
    }

    /// Skips what separates tokens.
    fn skip(&mut self) {
        loop {
            match (self.peek(0), self.peek(1)) {
                (b'\n', _) => {
                    self.line += 1;
                    self.at += 1;
                }
                (b' ' | b'\t' | b'\r', _) => self.at += 1,
                (b'/', b'/') => self.at = self.end_of(b"\n"),
                (b'/', b'*') => {
                    let end = self.end_of(b"*/");
                    let skipped = &self.text.as_bytes()[self.at..end];
                    self.line += skipped.iter().filter(|&&c| c == b'\n').count() as u32;
                    self.at = (end + 2).min(self.text.len());
                }
                _ => return,
            }
        }
    }

    /// Where `mark` stands next; the end of the text if nowhere.
    fn end_of(&self, mark: &[u8]) -> usize {
        let rest = &self.text.as_bytes()[self.at..];
        rest.windows(mark.len())
            .position(|window| window == mark)
            .map_or(self.text.len(), |n| self.at + n)
    }

    /// The next token, and its line.
    pub(super) fn next(&mut self) -> Result<(Token<'a>, u32), PtxError> {
        self.skip();
        let line = self.line;
        let start = self.at;
        let c = self.peek(0);
        let token = if start >= self.text.len() {
            Token::End
        } else if c.is_ascii_digit() || (c == b'.' && self.peek(1).is_ascii_digit()) {
            self.number()?
        } else if starts_word(c) {
            while continues_word(self.peek(0)) || (self.peek(0) == b':' && self.peek(1) == b':') {
                self.at += if self.peek(0) == b':' { 2 } else { 1 };
            }
            Token::Word(&self.text[start..self.at])
        } else if c == b'"' {
            self.at += 1;
            let end = self.end_of(b"\"");
            let text = &self.text[self.at..end];
            self.line += text.bytes().filter(|&c| c == b'\n').count() as u32;
            self.at = (end + 1).min(self.text.len());
            Token::Text(text)
        } else if c.is_ascii_graphic() {
            self.at += 1;
            Token::Punct(c)
        } else {
            let found = self.text[start..].chars().next().unwrap_or_default();
            return Err(PtxError::Syntax {
                line,
                found: format!("{found:?}"),
                expected: "PTX, which is ASCII".into(),
            });
        };
        Ok((token, line))
    }

    fn number(&mut self) -> Result<Token<'a>, PtxError> {
        let start = self.at;
        while self.peek(0).is_ascii_alphanumeric()
            || self.peek(0) == b'.'
            || (matches!(self.peek(0), b'+' | b'-')
                && self.at > start
                && self.text.as_bytes()[self.at - 1].eq_ignore_ascii_case(&b'e')
                && !self.text[start..].starts_with("0x"))
        {
            self.at += 1;
        }
        let text = &self.text[start..self.at];
        number(text).ok_or_else(|| PtxError::Syntax {
            line: self.line,
            found: format!("`{text}`"),
            expected: "a number of at most 64 bits".into(),
        })
    }
}

/// A number as PTX writes it: decimal, octal, hexadecimal or binary, the bits of a float, a float.
fn number<'a>(text: &str) -> Option<Token<'a>> {
    let prefixed = |prefixes: [&str; 2]| prefixes.iter().find_map(|p| text.strip_prefix(p));
    if let Some(bits) = prefixed(["0f", "0F"]) {
        return (bits.len() == 8).then(|| u32::from_str_radix(bits, 16).ok())?.map(Token::Single);
    }
    if let Some(bits) = prefixed(["0d", "0D"]) {
        return (bits.len() == 16).then(|| u64::from_str_radix(bits, 16).ok())?.map(Token::Double);
    }
    let unsigned = |digits: &str, radix| {
        let digits = digits.strip_suffix('U').unwrap_or(digits);
        u64::from_str_radix(digits, radix).ok().map(Token::Int)
    };
    if let Some(digits) = prefixed(["0x", "0X"]) {
        unsigned(digits, 16)
    } else if let Some(digits) = prefixed(["0b", "0B"]) {
        unsigned(digits, 2)
    } else if text.contains(['.', 'e', 'E']) {
        text.parse::<f64>().ok().map(|value| Token::Double(value.to_bits()))
    } else if text.len() > 1 && text.starts_with('0') && text != "0U" {
        unsigned(&text[1..], 8)
    } else {
        unsigned(text, 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<Token<'_>> {
        let mut lexer = Lexer::new(text);
        std::iter::from_fn(|| Some(lexer.next().unwrap().0))
            .take_while(|token| *token != Token::End)
            .collect()
    }

    #[test]
    fn an_instruction_is_words_and_punctuation() {
        let found = tokens("@!%p1 ld.v2.b32 {%r1,_}, [%rd2+-8]; // away\n");
        let word = Token::Word;
        let punct = |c: char| Token::Punct(c as u8);
        let expected = [
            punct('@'),
            punct('!'),
            word("%p1"),
            word("ld.v2.b32"),
            punct('{'),
            word("%r1"),
            punct(','),
            word("_"),
            punct('}'),
            punct(','),
            punct('['),
            word("%rd2"),
            punct('+'),
            punct('-'),
            Token::Int(8),
            punct(']'),
            punct(';'),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn numbers_in_all_their_forms() {
        assert_eq!(
            tokens("0x7773U 017 0b101 0 42U 0f3F800000 0d3FF0000000000000 1.5 2e-1"),
            [
                Token::Int(0x7773),
                Token::Int(15),
                Token::Int(5),
                Token::Int(0),
                Token::Int(42),
                Token::Single(1f32.to_bits()),
                Token::Double(1f64.to_bits()),
                Token::Double(1.5f64.to_bits()),
                Token::Double(0.2f64.to_bits()),
            ]
        );
        for bad in ["0x", "09", "0f12", "18446744073709551616", "12z"] {
            assert!(Lexer::new(bad).next().is_err(), "{bad}");
        }
    }

    #[test]
    fn lines_are_counted_through_comments() {
        let mut lexer = Lexer::new("a /* \n\n */ b\n// c\nd");
        let lines: Vec<u32> = (0..3).map(|_| lexer.next().unwrap().1).collect();
        assert_eq!(lines, [1, 3, 5]);
    }
}
