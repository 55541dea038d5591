//! A line of a function, as far as it matters what it does to registers, and where it leads.

/// What a line is. Registers are those whose names end with a number: `%rd7`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) kind: Kind<'a>,
    /// All registers that it mentions, in order.
    pub(super) mentions: Vec<&'a str>,
    /// The first of them, if it writes to them whatever they were before.
    pub(super) writes: Vec<&'a str>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    /// The next line follows.
    #[default]
    Plain,
    /// `.reg .b64 %rd<27>;`: registers of that name, and their type.
    Registers(&'a str, &'a str),
    Label(&'a str),
    /// The first line of a list of labels, which goes on to the next semicolon.
    Table(&'a str),
    /// A branch to a label, which may have a condition.
    Branch(&'a str, bool),
    /// A branch to one of the labels of a table, which may have a condition.
    Switch(&'a str, bool),
    /// Nothing follows.
    End,
}

/// A line without its comments.
pub(super) fn code(line: &str) -> &str {
    let line = line.split_once("//").map_or(line, |(code, _)| code);
    line.split_once("/*").map_or(line, |(code, _)| code)
}

/// Operations that write to no register.
const WITHOUT_RESULT: [&str; 17] = [
    "st",
    "red",
    "bar",
    "barrier",
    "membar",
    "fence",
    "prefetch",
    "prefetchu",
    "nanosleep",
    "call",
    "bra",
    "brx",
    "ret",
    "exit",
    "trap",
    "discard",
    "cp",
];

impl<'a> Line<'a> {
    /// Reads a line; `None` if it is not understood.
    pub(super) fn of(line: &'a str) -> Option<Line<'a>> {
        // A comment that goes on, or that something follows.
        if let Some((_, comment)) = line.split_once("/*")
            && comment.split_once("*/").is_none_or(|(_, rest)| !rest.trim().is_empty())
        {
            return None;
        }
        let text = code(line).trim();
        let mut found = Line { mentions: registers(text).collect(), ..Line::default() };
        // A directive has its line to itself.
        if text.starts_with('.') && text.split(';').nth(1).is_some_and(|rest| !rest.is_empty()) {
            return None;
        }
        if let Some(rest) = text.strip_prefix(".reg") {
            let (kind, name) =
                rest.trim_start().strip_prefix('.')?.split_once(char::is_whitespace)?;
            if let Some((name, _)) =
                name.trim_start().strip_prefix('%').and_then(|n| n.split_once('<'))
            {
                found.kind = Kind::Registers(name, kind);
            }
            return Some(found);
        }
        if text.is_empty() || text.starts_with('.') {
            return Some(found);
        }
        if let Some((label, rest)) = text.split_once(':').filter(|(label, _)| is_name(label)) {
            let rest = rest.trim_start();
            found.kind = match rest {
                "" => Kind::Label(label),
                _ if rest.starts_with(".branchtargets") => Kind::Table(label),
                _ => return None,
            };
            return Some(found);
        }
        let statements: Vec<&str> = text
            .split(';')
            .map(|s| s.trim_matches(|c| " \t{}".contains(c)))
            .filter(|s| !s.is_empty())
            .collect();
        let is_alone = statements.len() == 1 && !text.starts_with('{');
        for statement in statements {
            let (is_sure, statement) = match statement.strip_prefix('@') {
                // Of one word; a space after the sign would make it two.
                Some(rest) if rest.trim_start_matches('!').starts_with('%') => {
                    (false, rest.split_once(char::is_whitespace)?.1.trim_start())
                }
                Some(_) => return None,
                None => (true, statement),
            };
            let (name, operands) =
                statement.split_once(char::is_whitespace).unwrap_or((statement, ""));
            let operation = name.split('.').next().unwrap_or_default();
            let last =
                || operands.split(',').next_back().map(str::trim).filter(|name| is_name(name));
            match operation {
                "bra" | "brx" if !is_alone => return None,
                "bra" => found.kind = Kind::Branch(last()?, !is_sure),
                "brx" => found.kind = Kind::Switch(last()?, !is_sure),
                "ret" | "exit" | "trap" if is_sure => found.kind = Kind::End,
                _ if is_sure && is_alone && !WITHOUT_RESULT.contains(&operation) => {
                    found.writes = registers(result(operands)).collect();
                }
                _ => {}
            }
        }
        Some(found)
    }
}

/// The first of several operands, unless it is an address.
fn result(operands: &str) -> &str {
    let operands = operands.trim_start();
    let end = if operands.starts_with('{') { operands.find('}') } else { operands.find(',') };
    end.map(|end| &operands[..end]).filter(|first| !first.contains('[')).unwrap_or_default()
}

/// The names in a text: of labels, where there is nothing else.
pub(super) fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !is_part(c)).filter(|name| !name.is_empty())
}

fn is_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_$.".contains(c)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_part)
}

/// The registers in a text, and what else has such a name.
fn registers(text: &str) -> impl Iterator<Item = &str> {
    text.split('%').skip(1).filter_map(|rest| {
        let name = &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())];
        name.ends_with(|c: char| c.is_ascii_digit()).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Line<'_> {
        Line::of(line).unwrap_or_else(|| panic!("{line}"))
    }

    #[test]
    fn what_lines_write_to_and_mention() {
        for (line, writes, mentions) in [
            ("\tadd.s64 \t%rd5, %rd6, %rd5;", &["rd5"][..], &["rd5", "rd6", "rd5"][..]),
            ("\tld.v2.b32 \t{%r7, %r8}, [%rd1+8]; // %r9", &["r7", "r8"], &["r7", "r8", "rd1"]),
            ("\tsetp.lt.u32 \t%p1|%p2, %r1, 7;", &["p1", "p2"], &["p1", "p2", "r1"]),
            ("\tmov.b64 \t%rd3, {%r1, %r2};", &["rd3"], &["rd3", "r1", "r2"]),
            ("\tst.b64 \t[%rd1], %rd2;", &[], &["rd1", "rd2"]),
            ("\tst.param.v2.b32 \t[param0], {%r1, %r18};", &[], &["r1", "r18"]),
            ("\tnanosleep.u32 \t%r1;", &[], &["r1"]),
            ("\tmbarrier.init.shared.b64 [%rd1], %r1;", &[], &["rd1", "r1"]),
            ("\t@%p3 mov.b32 \t%r1, 0;", &[], &["p3", "r1"]),
            ("\t{ .reg .b32 tmp; mov.b64 {tmp, %r50}, %rd99; }", &[], &["r50", "rd99"]),
            ("\tmov.u32 \t%r4, %laneid;", &["r4"], &["r4"]),
            ("\tcall.uni (retval0), f, (param0);", &[], &[]),
            ("\t/* %r3 */", &[], &[]),
            ("", &[], &[]),
        ] {
            let found = of(line);
            assert_eq!((&found.writes[..], &found.mentions[..]), (writes, mentions), "{line}");
            assert_eq!(found.kind, Kind::Plain, "{line}");
        }
    }

    #[test]
    fn where_lines_lead() {
        for (line, kind) in [
            ("$L__BB0_1: // a loop", Kind::Label("$L__BB0_1")),
            ("\tbra.uni \t$L__BB0_1;", Kind::Branch("$L__BB0_1", false)),
            ("\t@!%p1 bra \t$L__BB0_1;", Kind::Branch("$L__BB0_1", true)),
            ("\t$L_brx_0: .branchtargets", Kind::Table("$L_brx_0")),
            ("\tbrx.idx \t%r2, $L_brx_0;", Kind::Switch("$L_brx_0", false)),
            ("\tret;", Kind::End),
            ("\ttrap; exit;", Kind::End),
            ("\t@%p1 ret;", Kind::Plain),
            ("\t.reg .b64 \t%rd<27>;", Kind::Registers("rd", "b64")),
            ("\t.reg .b64 \t%SP;", Kind::Plain),
            ("\t.loc\t1 2 3", Kind::Plain),
        ] {
            assert_eq!(of(line).kind, kind, "{line}");
        }
        for line in [
            "{ @%p1 bra $L1; mov.b32 %r1, 0; }",
            "/* open",
            "$L1: ret;",
            ".reg .b32 %r<3>; bra $L1;",
            "/* a */ ret;",
            "/* a */ /* b */ ret;",
            "ret; /*/",
            "@ %p1 bra $L1;",
            "@! %p1 bra $L1;",
            "@%p1",
        ] {
            assert_eq!(Line::of(line), None, "{line}");
        }
    }
}
