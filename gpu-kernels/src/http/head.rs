//! A request's head: its line and its fields. Pure, strict, and without memory of its own.
//!
//! What two servers could understand in two ways is refused: lines that do not end with CR LF, space
//! before a colon, folded fields, two lengths, a length beside a transfer coding. A request with a body
//! ends the connection, so that no body is ever taken for a request.

use super::bytes::{Bytes, Span};

/// Longest head, in bytes.
pub const HEAD_MAX: usize = 8192;
/// Longest request target.
pub const TARGET_MAX: usize = 4096;
/// Most fields.
pub const FIELDS_MAX: usize = 100;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The file.
    Get,
    /// Its head only.
    Head,
}

/// A request that can be answered.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// Bytes of the head: the next request begins there.
    pub len: usize,
    /// What is asked for.
    pub method: Method,
    /// The target's path and query.
    pub target: Span,
    /// Whether another request may follow.
    pub keep_alive: bool,
    /// The `Range` field.
    pub range: Option<Span>,
    /// The `If-Range` field.
    pub if_range: Option<Span>,
    /// The `If-Modified-Since` field.
    pub if_modified_since: Option<Span>,
}

/// What bytes are.
#[derive(Clone, Copy, Debug)]
pub enum Parsed {
    /// The beginning of a head.
    More,
    /// A head that is refused with this status. Where the next request begins is not known.
    Refused(u16),
    /// A whole head.
    Head(Head),
}

/// A line from `at` on: its span without CR LF, and where the next one begins.
enum Line {
    More,
    Bad,
    Whole(Span, usize),
}

// Not inlined, as what else reads a part of a head: one after the other they use the same registers then, on a GPU.
#[inline(never)]
fn line(bytes: &Bytes<'_>, at: usize) -> Line {
    let mut end = at;
    loop {
        match bytes.get(end) {
            None => return Line::More,
            Some(b'\r') => {
                return match bytes.get(end + 1) {
                    None => Line::More,
                    Some(b'\n') => Line::Whole(Span { at, len: end - at }, end + 2),
                    Some(_) => Line::Bad,
                };
            }
            // A tab may stand in fields.
            Some(b'\t') => end += 1,
            Some(0..=31 | 127) => return Line::Bad,
            Some(_) => end += 1,
        }
    }
}

const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Looks for a head at the beginning of `bytes`.
#[must_use]
// Each of its many ends would store all of the result in its caller.
#[inline(never)]
pub fn parse(bytes: &Bytes<'_>) -> Parsed {
    let mut at = 0;
    // A client may leave an empty line behind its last request.
    while bytes.get(at) == Some(b'\r') && bytes.get(at + 1) == Some(b'\n') && at < 4 {
        at += 2;
    }
    let (request, next) = match line(bytes, at) {
        Line::More if bytes.len() > TARGET_MAX + 64 => return Parsed::Refused(414),
        Line::More => return Parsed::More,
        Line::Bad => return Parsed::Refused(400),
        Line::Whole(request, next) => (request, next),
    };
    let (method, target, minor) = match request_line(bytes, request) {
        Ok(parts) => parts,
        Err(status) => return Parsed::Refused(status),
    };
    match fields(bytes, next) {
        Ok(None) if bytes.len() > HEAD_MAX => Parsed::Refused(431),
        Ok(None) => Parsed::More,
        Err(status) => Parsed::Refused(status),
        Ok(Some(fields)) => match fields.judge(method, target, minor) {
            Ok(head) => Parsed::Head(head),
            Err(status) => Parsed::Refused(status),
        },
    }
}

type RequestLine = (Result<Method, u16>, Span, u8);

/// Method, target, and the minor version.
#[inline(never)]
fn request_line(bytes: &Bytes<'_>, request: Span) -> Result<RequestLine, u16> {
    let text = bytes.span(request);
    let mut spaces = text.iter().enumerate().filter(|(_, b)| *b == b' ').map(|(i, _)| i);
    let (Some(first), Some(second), None) = (spaces.next(), spaces.next(), spaces.next()) else {
        return Err(400);
    };
    let name = text.span(Span { at: 0, len: first });
    if name.is_empty() || !name.iter().all(is_token) {
        return Err(400);
    }
    // Method names differ by case.
    let is = |word: &[u8]| name.len() == word.len() && name.iter().eq(word.iter().copied());
    let method = if is(b"GET") {
        Ok(Method::Get)
    } else if is(b"HEAD") {
        Ok(Method::Head)
    } else if [&b"POST"[..], b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"PATCH", b"CONNECT"]
        .into_iter()
        .any(is)
    {
        Err(405)
    } else {
        Err(501)
    };
    let version = text.span(Span { at: second + 1, len: text.len() - second - 1 });
    let is = |word: &[u8]| version.iter().eq(word.iter().copied());
    let minor = if is(b"HTTP/1.1") {
        1
    } else if is(b"HTTP/1.0") {
        0
    } else if version.len() == 8 && version.span(Span { at: 0, len: 5 }).is(b"HTTP/") {
        return Err(505);
    } else {
        return Err(400);
    };
    let mut target = Span { at: request.at + first + 1, len: second - first - 1 };
    if target.len > TARGET_MAX {
        return Err(414);
    }
    let scheme = bytes.span(Span { at: target.at, len: 7.min(target.len) });
    if scheme.is(b"http://") {
        // The absolute form: what follows the host is meant.
        let rest = Span { at: target.at + 7, len: target.len - 7 };
        let host = bytes.span(rest).iter().take_while(|b| *b != b'/').count();
        if host == 0 || host == rest.len {
            return Err(400);
        }
        target = Span { at: rest.at + host, len: rest.len - host };
    }
    // `OPTIONS *` and `CONNECT host:port` are methods that are not served.
    if bytes.get(target.at) != Some(b'/') && method.is_ok() || target.len == 0 {
        return Err(400);
    }
    Ok((method, target, minor))
}

/// What the fields say.
#[derive(Default)]
struct Fields {
    end: usize,
    hosts: u32,
    length: Option<u64>,
    coded: bool,
    close: bool,
    keep: bool,
    expects: bool,
    range: Option<Span>,
    if_range: Option<Span>,
    if_modified_since: Option<Span>,
}

/// The fields from `at` on; `None` if they go on beyond the bytes.
#[inline(never)]
fn fields(bytes: &Bytes<'_>, mut at: usize) -> Result<Option<Fields>, u16> {
    let mut fields = Fields::default();
    for _ in 0..=FIELDS_MAX {
        let (text, next) = match line(bytes, at) {
            Line::More => return Ok(None),
            Line::Bad => return Err(400),
            Line::Whole(text, next) => (text, next),
        };
        if next > HEAD_MAX {
            return Err(431);
        }
        if text.len == 0 {
            fields.end = next;
            return Ok(Some(fields));
        }
        let all = bytes.span(text);
        let colon = all.iter().take_while(|b| is_token(*b)).count();
        // Not a colon right after the name: a space before it, a folded line, no field at all.
        if colon == 0 || all.get(colon) != Some(b':') {
            return Err(400);
        }
        let name = all.span(Span { at: 0, len: colon });
        let value = Span { at: text.at + colon + 1, len: text.len - colon - 1 };
        fields.take(bytes, &name, bytes.trimmed(value))?;
        at = next;
    }
    Err(431)
}

impl Fields {
    #[inline(never)]
    fn take(&mut self, bytes: &Bytes<'_>, name: &Bytes<'_>, value: Span) -> Result<(), u16> {
        let text = bytes.span(value);
        if name.is(b"host") {
            self.hosts += 1;
        } else if name.is(b"content-length") {
            let length = text.number().ok_or(400u16)?;
            if self.length.replace(length).is_some_and(|before| before != length) {
                return Err(400);
            }
        } else if name.is(b"transfer-encoding") {
            self.coded = true;
        } else if name.is(b"connection") {
            self.connection(bytes, value);
        } else if name.is(b"expect") {
            self.expects = true;
        } else if name.is(b"range") {
            self.range = Some(value);
        } else if name.is(b"if-range") {
            self.if_range = Some(value);
        } else if name.is(b"if-modified-since") {
            self.if_modified_since = Some(value);
        }
        Ok(())
    }

    fn connection(&mut self, bytes: &Bytes<'_>, value: Span) {
        let (mut at, end) = (value.at, value.at + value.len);
        while at < end {
            let rest = Span { at, len: end - at };
            let len = bytes.span(rest).iter().take_while(|b| *b != b',').count();
            let word = bytes.span(bytes.trimmed(Span { at, len }));
            self.close |= word.is(b"close");
            self.keep |= word.is(b"keep-alive");
            at += len + 1;
        }
    }

    fn judge(self, method: Result<Method, u16>, target: Span, minor: u8) -> Result<Head, u16> {
        // HTTP/1.1 has exactly one host; HTTP/1.0 at most one.
        if self.hosts > 1 || minor == 1 && self.hosts == 0 {
            return Err(400);
        }
        if self.coded && (self.length.is_some() || minor == 0) {
            return Err(400);
        }
        let method = method?;
        if self.coded {
            return Err(501);
        }
        if self.length.unwrap_or(0) > 0 {
            return Err(413);
        }
        if self.expects {
            return Err(417);
        }
        Ok(Head {
            len: self.end,
            method,
            target,
            keep_alive: !self.close && (minor == 1 || self.keep),
            range: self.range,
            if_range: self.if_range,
            if_modified_since: self.if_modified_since,
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::String;
    use std::vec::Vec;

    fn of(text: &str) -> Parsed {
        parse(&Bytes::new([text.as_bytes(), &[]]))
    }

    fn status(text: &str) -> u16 {
        match of(text) {
            Parsed::Head(_) => 200,
            Parsed::More => 0,
            Parsed::Refused(status) => status,
        }
    }

    #[test]
    fn a_head_is_what_it_says_wherever_the_ring_wraps() {
        let text = b"GET /a/b?c HTTP/1.1\r\nHost: x\r\nRange: bytes=1-2\r\nConnection: foo , close\r\n\r\nGET";
        for cut in 0..=text.len() {
            let bytes = Bytes::new([&text[..cut], &text[cut..]]);
            let Parsed::Head(head) = parse(&bytes) else { panic!("cut at {cut}") };
            assert_eq!((head.len, head.method), (text.len() - 3, Method::Get));
            assert!(bytes.span(head.target).is(b"/a/b?c"));
            assert!(bytes.span(head.range.unwrap()).is(b"bytes=1-2"));
            assert!(!head.keep_alive);
        }
        // Every beginning of it is a beginning.
        for end in 0..text.len() - 3 {
            assert!(matches!(parse(&Bytes::new([&text[..end], &[]])), Parsed::More), "{end}");
        }
    }

    #[test]
    fn connections_go_on_as_their_version_says() {
        let keep = |text: &str| matches!(of(text), Parsed::Head(head) if head.keep_alive);
        assert!(keep("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert!(!keep("GET / HTTP/1.0\r\n\r\n"));
        assert!(keep("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
        assert!(!keep("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
    }

    #[test]
    fn what_can_be_understood_in_two_ways_is_refused() {
        let with =
            |fields: &str| status(&std::format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n"));
        assert_eq!(with(""), 200);
        for (fields, expected) in [
            ("Content-Length: 0\r\n", 200),
            ("Content-Length: 0\r\nContent-Length: 0\r\n", 200),
            ("Content-Length: 3\r\n", 413),
            ("Content-Length: 0\r\nContent-Length: 3\r\n", 400),
            ("Content-Length: +3\r\n", 400),
            ("Content-Length: 3, 3\r\n", 400),
            ("Content-Length: \r\n", 400),
            ("Content-Length: 99999999999999999999\r\n", 400),
            ("Transfer-Encoding: chunked\r\n", 501),
            ("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", 400),
            ("Transfer-Encoding : chunked\r\n", 400),
            (" folded\r\n", 400),
            ("X: a\r\n b\r\n", 400),
            ("X: a\rb\r\n", 400),
            ("X: a\nY: b\r\n", 400),
            ("X: a\0b\r\n", 400),
            ("no field\r\n", 400),
            (": empty\r\n", 400),
            ("Host: y\r\n", 400),
            ("Expect: 100-continue\r\n", 417),
        ] {
            assert_eq!(with(fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn request_lines_are_judged() {
        let head = "\r\nHost: x\r\n\r\n";
        for (line, expected) in [
            ("GET / HTTP/1.1", 200),
            ("\r\nGET / HTTP/1.1", 200),
            ("HEAD / HTTP/1.1", 200),
            ("GET http://host/p HTTP/1.1", 200),
            ("GET http://host HTTP/1.1", 400),
            ("GET http:///p HTTP/1.1", 400),
            ("GET * HTTP/1.1", 400),
            ("GET p HTTP/1.1", 400),
            ("GET  / HTTP/1.1", 400),
            ("GET / HTTP/1.1 ", 400),
            ("GET /", 400),
            ("GET / HTTP/2.0", 505),
            ("GET / HTTX/1.1", 400),
            ("GET / http/1.1", 505),
            ("POST / HTTP/1.1", 405),
            ("OPTIONS * HTTP/1.1", 405),
            ("get / HTTP/1.1", 501),
            ("BREW / HTTP/1.1", 501),
            ("G@T / HTTP/1.1", 400),
        ] {
            assert_eq!(status(&std::format!("{line}{head}")), expected, "{line:?}");
        }
        assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), 400, "no host");
        assert_eq!(status("GET / HTTP/1.0\r\n\r\n"), 200);
    }

    #[test]
    fn sizes_are_bounded() {
        let long: String = core::iter::repeat_n('a', TARGET_MAX).collect();
        assert_eq!(status(&std::format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n")), 414);
        assert_eq!(status(&std::format!("GET /{long}{long}")), 414);
        let field = std::format!("X: {long}\r\n");
        let all = std::format!("GET / HTTP/1.1\r\nHost: x\r\n{field}{field}{field}");
        assert_eq!(status(&all), 431);
        let many: Vec<&str> = core::iter::repeat_n("X: y\r\n", FIELDS_MAX + 1).collect();
        assert_eq!(status(&std::format!("GET / HTTP/1.0\r\n{}\r\n", many.concat())), 431);
    }
}
