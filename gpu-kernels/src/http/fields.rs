//! Dates, ranges and content types.

use super::bytes::{Bytes, Span};

const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// A date as HTTP writes it, such as `Sun, 06 Nov 1994 08:49:37 GMT`.
#[must_use]
pub fn date(seconds: u64) -> [u8; 29] {
    let days = seconds / 86_400;
    // From days to a date: Howard Hinnant's algorithm, from the 1st of March of the year 0.
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z - era * 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);

    let mut text = *b"ddd, dd mmm yyyy hh:mm:ss GMT";
    text[..3].copy_from_slice(DAYS[(days % 7) as usize]);
    text[8..11].copy_from_slice(MONTHS[month as usize - 1]);
    let mut digits = |at: usize, n: u64| {
        text[at] = b'0' + (n / 10 % 10) as u8;
        text[at + 1] = b'0' + (n % 10) as u8;
    };
    digits(5, day);
    digits(12, year / 100);
    digits(14, year % 100);
    digits(17, seconds / 3600 % 24);
    digits(20, seconds / 60 % 60);
    digits(23, seconds % 60);
    text
}

/// The moment of a date in that form; others, which no client has written for decades, are none.
#[must_use]
pub fn parse_date(text: &Bytes<'_>) -> Option<u64> {
    let number = |at, len| text.span(Span { at, len }).number();
    if text.len() != 29 || !text.span(Span { at: 25, len: 4 }).is(b" GMT") {
        return None;
    }
    let month = text.span(Span { at: 8, len: 3 });
    let month = MONTHS.iter().position(|name| month.is(&name[..]))? as u64 + 1;
    let (day, year) = (number(5, 2)?, number(12, 4)?);
    let (hour, minute, second) = (number(17, 2)?, number(20, 2)?, number(23, 2)?);
    if year < 1970 || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let year = year - u64::from(month <= 2);
    let (era, year_of_era) = (year / 400, year % 400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (era * 146_097 + day_of_era).checked_sub(719_468)?;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Which bytes of a file are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// All, as if there were no range: what is asked for is not understood, or more than one.
    Whole,
    /// These.
    Part {
        /// The first.
        start: u64,
        /// How many: at least one.
        len: u64,
    },
    /// None that the file has.
    Unsatisfiable,
}

/// The range that a field asks for, of a file of `size` bytes.
#[must_use]
pub fn range(field: &Bytes<'_>, size: u64) -> Range {
    let unit = field.span(Span { at: 0, len: 6 });
    let rest = field.span(Span { at: 6, len: field.len().saturating_sub(6) });
    let dash = rest.iter().take_while(|b| *b != b'-').count();
    if !unit.is(b"bytes=") || dash == rest.len() || rest.iter().any(|b| b == b',') {
        return Range::Whole;
    }
    let first = rest.span(Span { at: 0, len: dash });
    let last = rest.span(Span { at: dash + 1, len: rest.len() - dash - 1 });
    match (first.is_empty(), first.number(), last.is_empty(), last.number()) {
        // The last so many.
        (true, _, false, Some(0)) => Range::Unsatisfiable,
        (true, _, false, Some(_)) if size == 0 => Range::Unsatisfiable,
        (true, _, false, Some(n)) => {
            Range::Part { start: size.saturating_sub(n), len: n.min(size) }
        }
        (false, Some(start), empty, end) if empty || end.is_some() => {
            if end.is_some_and(|end| end < start) {
                return Range::Whole;
            }
            if start >= size {
                return Range::Unsatisfiable;
            }
            let end = end.unwrap_or(u64::MAX).min(size - 1);
            Range::Part { start, len: end - start + 1 }
        }
        _ => Range::Whole,
    }
}

/// What a file is, by the end of its name.
#[must_use]
pub fn content_type(path: &[u8]) -> &'static [u8] {
    let name = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
    let Some(dot) = name.iter().rposition(|b| *b == b'.') else {
        return b"application/octet-stream";
    };
    let end = Bytes::new([&name[dot + 1..], &[]]);
    const TYPES: &[(&[u8], &[u8])] = &[
        (b"html", b"text/html; charset=utf-8"),
        (b"htm", b"text/html; charset=utf-8"),
        (b"css", b"text/css; charset=utf-8"),
        (b"js", b"text/javascript; charset=utf-8"),
        (b"mjs", b"text/javascript; charset=utf-8"),
        (b"json", b"application/json"),
        (b"txt", b"text/plain; charset=utf-8"),
        (b"md", b"text/markdown; charset=utf-8"),
        (b"rs", b"text/plain; charset=utf-8"),
        (b"toml", b"text/plain; charset=utf-8"),
        (b"xml", b"application/xml"),
        (b"svg", b"image/svg+xml"),
        (b"png", b"image/png"),
        (b"jpg", b"image/jpeg"),
        (b"jpeg", b"image/jpeg"),
        (b"gif", b"image/gif"),
        (b"webp", b"image/webp"),
        (b"ico", b"image/x-icon"),
        (b"pdf", b"application/pdf"),
        (b"wasm", b"application/wasm"),
        (b"woff2", b"font/woff2"),
        (b"mp4", b"video/mp4"),
        (b"zip", b"application/zip"),
        (b"gz", b"application/gzip"),
    ];
    TYPES
        .iter()
        .find(|(name, _)| end.is(name))
        .map_or(b"application/octet-stream", |(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &[u8]) -> Bytes<'_> {
        Bytes::new([text, &[]])
    }

    #[test]
    fn dates_come_back_as_they_went() {
        assert_eq!(&date(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(&date(0), b"Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(&date(951_782_400), b"Tue, 29 Feb 2000 00:00:00 GMT");
        let mut seconds = 0;
        while seconds < 8_000_000_000 {
            assert_eq!(parse_date(&bytes(&date(seconds))), Some(seconds));
            seconds += 12_345_678;
        }
        for bad in [
            "",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06 Foo 1994 08:49:37 GMT",
            "Sun, 46 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(parse_date(&bytes(bad.as_bytes())), None, "{bad}");
        }
    }

    #[test]
    fn ranges_are_those_of_the_file() {
        use Range::{Part, Unsatisfiable, Whole};
        for (text, expected) in [
            ("bytes=0-0", Part { start: 0, len: 1 }),
            ("bytes=2-5", Part { start: 2, len: 4 }),
            ("bytes=2-", Part { start: 2, len: 8 }),
            ("bytes=2-99", Part { start: 2, len: 8 }),
            ("bytes=-3", Part { start: 7, len: 3 }),
            ("bytes=-99", Part { start: 0, len: 10 }),
            ("bytes=10-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=5-2", Whole),
            ("bytes=1-2,4-5", Whole),
            ("bytes=-", Whole),
            ("bytes=x-2", Whole),
            ("bytes=1-x", Whole),
            ("lines=1-2", Whole),
            ("", Whole),
        ] {
            assert_eq!(range(&bytes(text.as_bytes()), 10), expected, "{text}");
        }
        assert_eq!(range(&bytes(b"bytes=0-"), 0), Unsatisfiable);
        assert_eq!(range(&bytes(b"bytes=-5"), 0), Unsatisfiable);
    }

    #[test]
    fn types_go_by_the_end_of_the_name() {
        assert_eq!(content_type(b"/a/b.HTML"), b"text/html; charset=utf-8");
        assert_eq!(content_type(b"/a.html/b"), b"application/octet-stream");
        assert_eq!(content_type(b"/x.tar.gz"), b"application/gzip");
    }
}
