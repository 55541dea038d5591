//! One kernel of a module, with as much of the rest as it reaches.
//!
//! Assemblers, and the driver's with them, compile everything that a kernel reaches once more for each
//! kernel. A module of one kernel takes seconds where one of forty takes minutes.

use std::collections::{BTreeSet, HashMap};

/// A module in pieces.
#[derive(Debug)]
pub struct Pieces<'a> {
    /// In order; directives that belong to the module are among them.
    pieces: Vec<Piece<'a>>,
    /// The pieces that declare or define a name.
    named: HashMap<&'a str, Vec<usize>>,
}

#[derive(Debug)]
struct Piece<'a> {
    text: &'a str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The module's own: version, target, debug sections.
    Module,
    Entry,
    /// A function or a variable.
    Named,
}

impl<'a> Pieces<'a> {
    /// Takes PTX apart; `None` if braces or quotes are left open.
    #[must_use]
    pub fn of(ptx: &'a str) -> Option<Pieces<'a>> {
        let mut pieces = Vec::new();
        let mut named: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut rest = ptx;
        loop {
            rest = past_space(rest);
            if rest.is_empty() {
                return Some(Pieces { pieces, named });
            }
            let form = Form::of(rest);
            let (text, after) = rest.split_at(end(rest, form)?);
            rest = after;
            let kind = match form {
                Form::Line | Form::Section => Kind::Module,
                Form::Entry => Kind::Entry,
                Form::Function | Form::Variable => Kind::Named,
            };
            if kind != Kind::Module {
                named.entry(name(text, form)?).or_default().push(pieces.len());
            }
            pieces.push(Piece { text, kind });
        }
    }

    /// The names of the kernels, in order.
    pub fn kernels(&self) -> impl Iterator<Item = &'a str> {
        let of = |piece: &&Piece<'a>| piece.kind == Kind::Entry;
        self.pieces.iter().filter(of).filter_map(|piece| name(piece.text, Form::Entry))
    }

    /// A module with this kernel alone and all that it reaches; `None` if there is no such kernel.
    #[must_use]
    pub fn only(&self, kernel: &str) -> Option<String> {
        let is_kernel = |&i: &usize| self.pieces[i].kind == Kind::Entry;
        let start = self.named.get(kernel)?.iter().copied().find(is_kernel)?;
        let mut reached = BTreeSet::from([start]);
        let mut todo = vec![start];
        while let Some(piece) = todo.pop() {
            for word in words(self.pieces[piece].text) {
                for &other in self.named.get(word).into_iter().flatten() {
                    // Kernels are launched, not called: a word like the name of one is something else.
                    if !is_kernel(&other) && reached.insert(other) {
                        todo.push(other);
                    }
                }
            }
        }
        let mut text = String::new();
        for (i, piece) in self.pieces.iter().enumerate() {
            if piece.kind == Kind::Module || reached.contains(&i) {
                text.push_str(piece.text.trim_end());
                text.push('\n');
            }
        }
        Some(text)
    }
}

/// How a piece is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// To the end of the line.
    Line,
    /// To its closing brace.
    Section,
    /// To its closing brace, or a semicolon where it is declared only.
    Entry,
    Function,
    /// To a semicolon.
    Variable,
}

impl Form {
    fn of(text: &str) -> Form {
        let mut words = text.split_whitespace();
        let linkage = |word: &&str| matches!(*word, ".visible" | ".weak" | ".extern" | ".common");
        match words.find(|word| !linkage(word)).unwrap_or_default() {
            ".entry" => Form::Entry,
            ".func" => Form::Function,
            ".global" | ".const" | ".shared" | ".alias" => Form::Variable,
            ".section" => Form::Section,
            _ => Form::Line,
        }
    }
}

/// Where the piece that `text` begins with ends.
fn end(text: &str, form: Form) -> Option<usize> {
    if form == Form::Line {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    let bytes = text.as_bytes();
    let mut depth = 0usize;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'/' if matches!(bytes.get(at + 1), Some(b'/' | b'*')) => {
                at = text.len() - past_space(&text[at..]).len();
                continue;
            }
            b'"' => at += 1 + text[at + 1..].find('"')?,
            b'{' => depth += 1,
            b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 && form != Form::Variable {
                    return Some(at + 1);
                }
            }
            b';' if depth == 0 => return Some(at + 1),
            _ => {}
        }
        at += 1;
    }
    None
}

/// What comes after space and comments.
fn past_space(mut text: &str) -> &str {
    loop {
        text = text.trim_start();
        let (open, close) = match text.as_bytes() {
            [b'/', b'/', ..] => (2, "\n"),
            [b'/', b'*', ..] => (2, "*/"),
            _ => return text,
        };
        text = text[open..].split_once(close).map_or("", |(_, after)| after);
    }
}

/// What a piece declares or defines.
fn name(text: &str, form: Form) -> Option<&str> {
    if form == Form::Variable {
        let head = &text[..text.find(['[', '=', ';', ','])?];
        return words(head).last();
    }
    let rest = text.split_once(".entry").or_else(|| text.split_once(".func"))?.1.trim_start();
    // A result in parentheses may come first.
    let rest = match rest.strip_prefix('(') {
        Some(result) => result.split_once(')')?.1,
        None => rest,
    };
    words(rest).next()
}

/// The identifiers in a text, and what looks like them.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '$'))
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: &str = "\
//
.version 7.0
.target sm_70
.address_size 64

.extern .shared .align 16 .b8 dynamic[];
.visible .global .align 8 .b8 log[24];
.global .align 8 .u64 table[2] = {one, two}; // } in a comment
.extern .func never
()
.noreturn;
.func one()
;
.func (.param .b32 r) two(
\t.param .b64 two_param_0
)
.noreturn
{
\t{ // callseq 0, 0
\tcall.uni one, ();
\t}
\tst.global.u8 [log+8], 1;
\tret;
}
\t// .globl first
.visible .entry first(
\t.param .align 8 .b8 first_param_0[96]
)
.maxntid 1024, 1, 1
{
\tld.global.u64 %rd1, [table];
\tret;
}
.func one()
{ div.s32 %r1, %r2, %r3; ret; }
.visible .entry second() { /* } */ ret; }
.section .debug_str { .b8 125 }
";

    fn only(kernel: &str) -> String {
        Pieces::of(MODULE).unwrap().only(kernel).unwrap()
    }

    #[test]
    fn a_kernel_comes_with_what_it_reaches() {
        let first = only("first");
        for kept in [".version 7.0", "log[24]", "table[2]", "two(", "first(", ".debug_str"] {
            assert!(first.contains(kept), "{kept} in\n{first}");
        }
        assert_eq!(first.matches(".func one()").count(), 2, "declared and defined:\n{first}");
        assert!(!first.contains("second") && !first.contains("never"), "{first}");
        assert!(!first.contains("dynamic"), "{first}");
        let second = only("second");
        assert_eq!(second.matches(".func").count() + second.matches(".global").count(), 0);
        assert!(second.contains(".target sm_70\n.address_size 64\n.visible .entry second"));
    }

    #[test]
    fn each_kernel_is_found_in_what_is_left_of_it() {
        let pieces = Pieces::of(MODULE).unwrap();
        assert_eq!(pieces.kernels().collect::<Vec<_>>(), ["first", "second"]);
        for kernel in pieces.kernels() {
            let text = pieces.only(kernel).unwrap();
            let again = Pieces::of(&text).unwrap();
            assert_eq!(again.kernels().collect::<Vec<_>>(), [kernel]);
            assert_eq!(again.only(kernel).unwrap(), text);
        }
        assert!(pieces.only("third").is_none() && pieces.only("one").is_none());
    }

    #[test]
    fn what_is_cut_short_is_refused() {
        for cut in 0..MODULE.len() {
            // Nothing worse happens than that there is no such kernel.
            let found = Pieces::of(&MODULE[..cut]).and_then(|pieces| pieces.only("first"));
            assert!(found.is_none_or(|text| text.contains("[table]")));
        }
        assert!(Pieces::of(".visible .entry k() { ret;").is_none());
        assert!(Pieces::of(".func f() }").is_none());
        assert!(
            Pieces::of(".pragma \"open").is_some() && Pieces::of(".global .b8 x = \"").is_none()
        );
    }
}
