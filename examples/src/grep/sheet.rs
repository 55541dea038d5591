//! What is written for a file: lines with their prefixes and colours, as GNU grep writes them.

use gpu_kernels::grep::RecordKind;

use super::records::Found;
use super::referee::Referee;
use super::resolve::{Answer, Entry, Piece, is_selected, without_terminator};
use super::settings::{Binary, Colors, Output, Settings};

/// A message for standard error.
pub(super) struct Message {
    /// Bytes of output that come before it.
    pub(super) after: usize,
    /// Its text.
    pub(super) text: Vec<u8>,
}

/// What is written for some files.
#[derive(Default)]
pub(super) struct Sheet {
    /// For standard output.
    pub(super) out: Vec<u8>,
    /// For standard error, in order.
    pub(super) messages: Vec<Message>,
    /// Whether something was selected.
    pub(super) matched: bool,
    /// Whether something went wrong.
    pub(super) failed: bool,
    /// Bytes that were searched.
    pub(super) bytes: u64,
}

impl Sheet {
    /// A sheet that is written to memory used before.
    pub(super) fn on(out: Vec<u8>) -> Self {
        Sheet { out, ..Sheet::default() }
    }

    /// Adds a message.
    pub(super) fn message(&mut self, parts: &[&[u8]]) {
        self.messages.push(Message { after: self.out.len(), text: parts.concat() });
    }
}

/// Writes sheets.
pub(super) struct Writer<'a> {
    pub(super) settings: &'a Settings,
    pub(super) referee: Option<&'a Referee>,
}

/// One file on its way to paper.
struct Page<'a> {
    settings: &'a Settings,
    name: &'a [u8],
    out: &'a mut Vec<u8>,
    /// Lines that may still be written.
    left: u64,
    /// Whether a line was held back because its bytes are not characters.
    bad_bytes: bool,
}

impl Writer<'_> {
    /// Adds what is to be written about a file.
    pub(super) fn file(
        &self,
        sheet: &mut Sheet,
        file: &Entry,
        (answer, text): (&Answer, &[Piece<'_>]),
    ) {
        let settings = self.settings;
        sheet.bytes += answer.bytes;
        if let Some(errno) = answer.errno {
            sheet.failed = true;
            if !settings.no_messages {
                let text = errno_text(errno);
                sheet.message(&[b"grep: ", file.name(), b": ", text.as_bytes()]);
            }
        }
        let skipped = settings.binary == Binary::WithoutMatch && answer.text_end != u64::MAX;
        let lines_of_text = answer.selected.min(settings.max_count);
        let lines = if skipped { 0 } else { lines_of_text + answer.binary_selected };
        // Only what the file's own lines decide counts as found before it is known to be binary.
        let found = if skipped && settings.first_decides() { lines_of_text } else { lines };
        let found = found.min(settings.max_count);
        sheet.matched |= found > 0;
        let mut page = Page {
            settings,
            name: file.name(),
            out: &mut sheet.out,
            left: settings.max_count,
            bad_bytes: false,
        };
        match settings.output {
            Output::Lines | Output::Matches => {
                self.text(&mut page, text, answer.text_end);
                let bad = page.bad_bytes && settings.binary == Binary::Detect;
                if bad || answer.binary_selected > 0 {
                    sheet.message(&[b"grep: ", file.name(), b": binary file matches"]);
                }
            }
            Output::Count => {
                if settings.with_filename {
                    page.file_name();
                    page.name_separator();
                }
                page.out.extend_from_slice(found.to_string().as_bytes());
                page.out.push(b'\n');
            }
            Output::FilesWith if found > 0 => page.listed(),
            Output::FilesWithout if found == 0 => page.listed(),
            _ => {}
        }
    }

    /// The lines or matches of a file's text.
    fn text(&self, page: &mut Page<'_>, text: &[Piece<'_>], text_end: u64) {
        let mut base = 0;
        for piece in text {
            if piece.result.restarted != 0 {
                return;
            }
            // Matches of one line count as one line.
            let mut last = None;
            for record in piece.records.iter().filter(|r| r.offset < text_end) {
                if page.left == 0 && last != Some(record.line) {
                    return;
                }
                let number = base + record.line + 1;
                match record.kind {
                    RecordKind::Lines => page.lines(&record, number, text_end),
                    RecordKind::Spans => {
                        page.left -= 1;
                        page.line(record.text, number, record.offset, record.spans());
                    }
                    RecordKind::Match => {
                        if last != Some(record.line) {
                            page.left -= 1;
                        }
                        last = Some(record.line);
                        page.one_match(record.text, number, record.offset);
                    }
                    RecordKind::Undecided => self.undecided(page, &record, number),
                    RecordKind::UndecidedNul => {}
                }
            }
            base += piece.result.lines;
        }
    }

    fn undecided(&self, page: &mut Page<'_>, record: &Found<'_>, number: u64) {
        let Some(referee) = self.referee else { return };
        if !is_selected(referee, self.settings.invert, record.text) {
            return;
        }
        page.left -= 1;
        let line = without_terminator(record.text);
        let mut spans = Vec::new();
        if self.settings.wants_spans() {
            let mut from = 0;
            while let Some(span) = referee.next_span(line, from, false) {
                from = span.1;
                spans.push(span);
            }
        }
        match self.settings.output {
            Output::Matches => {
                for (start, end) in spans {
                    page.one_match(&line[start..end], number, record.offset + start as u64);
                }
            }
            _ => page.line(record.text, number, record.offset, spans.into_iter()),
        }
    }
}

impl Page<'_> {
    /// Selected lines that follow each other.
    fn lines(&mut self, record: &Found<'_>, number: u64, text_end: u64) {
        let plain = !self.has_prefix() && self.selected_color().is_empty();
        let whole = record.offset + record.text.len() as u64 <= text_end;
        if plain && whole && record.lines <= self.left && self.is_text(record.text) {
            self.left -= record.lines;
            self.put(record.text);
            return;
        }
        let mut offset = record.offset;
        let (mut number, mut rest) = (number, record.text);
        while !rest.is_empty() && self.left > 0 && offset < text_end {
            let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |i| i + 1);
            let line;
            (line, rest) = rest.split_at(end);
            self.left -= 1;
            self.line(line, number, offset, std::iter::empty());
            number += 1;
            offset += line.len() as u64;
        }
    }

    /// One selected line with the matches in it.
    fn line(
        &mut self,
        text: &[u8],
        number: u64,
        offset: u64,
        spans: impl Iterator<Item = (usize, usize)>,
    ) {
        let line = without_terminator(text);
        if !self.is_text(line) {
            self.bad_bytes = true;
            return;
        }
        self.prefix(number, offset);
        let mut at = 0;
        for (start, end) in spans {
            self.colored(|c| &c.selected, &line[at..start]);
            self.colored(|c| &c.matched, &line[start..end]);
            at = end;
        }
        let body = line.len() - usize::from(line.ends_with(b"\r") && line.len() > at);
        if self.selected_color().is_empty() {
            self.out.extend_from_slice(&line[at..]);
        } else {
            if body > at {
                self.colored(|c| &c.selected, &line[at..body]);
            }
            self.out.extend_from_slice(&line[body..]);
        }
        self.out.push(b'\n');
    }

    /// One match by itself.
    fn one_match(&mut self, text: &[u8], number: u64, offset: u64) {
        if !self.is_text(text) {
            self.bad_bytes = true;
            return;
        }
        self.prefix(number, offset);
        self.colored(|c| &c.matched, text);
        self.out.push(b'\n');
    }

    fn is_text(&self, bytes: &[u8]) -> bool {
        !self.settings.utf8 || self.settings.binary == Binary::Text || super::utf8::is_valid(bytes)
    }

    fn put(&mut self, text: &[u8]) {
        self.out.extend_from_slice(text);
        if text.last() != Some(&b'\n') {
            self.out.push(b'\n');
        }
    }

    fn has_prefix(&self) -> bool {
        self.settings.with_filename || self.settings.line_number || self.settings.byte_offset
    }

    fn selected_color(&self) -> &str {
        self.settings.colors.as_ref().map_or("", |c| &c.selected)
    }

    fn prefix(&mut self, number: u64, offset: u64) {
        if self.settings.with_filename {
            self.file_name();
            self.name_separator();
        }
        if self.settings.line_number {
            self.colored(|c| &c.line, number.to_string().as_bytes());
            self.colored(|c| &c.separator, b":");
        }
        if self.settings.byte_offset {
            self.colored(|c| &c.byte, offset.to_string().as_bytes());
            self.colored(|c| &c.separator, b":");
        }
    }

    fn file_name(&mut self) {
        let name = self.name;
        self.colored(|c| &c.file, name);
    }

    /// What follows a name before a line or a number.
    fn name_separator(&mut self) {
        match self.settings.null {
            true => self.out.push(0),
            false => self.colored(|c| &c.separator, b":"),
        }
    }

    /// The name by itself.
    fn listed(&mut self) {
        self.file_name();
        self.out.push(if self.settings.null { 0 } else { b'\n' });
    }

    fn colored(&mut self, color: impl Fn(&Colors) -> &String, text: &[u8]) {
        let colors = self.settings.colors.as_ref();
        match colors.map(|c| (color(c), c.no_erase)) {
            Some((sgr, no_erase)) if !sgr.is_empty() => {
                let erase = if no_erase { "" } else { "\x1b[K" };
                self.out.extend_from_slice(format!("\x1b[{sgr}m{erase}").as_bytes());
                self.out.extend_from_slice(text);
                self.out.extend_from_slice(format!("\x1b[m{erase}").as_bytes());
            }
            _ => self.out.extend_from_slice(text),
        }
    }
}

/// The C library's words for an error number.
pub(super) fn errno_text(errno: i32) -> String {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    // The standard library adds the number.
    match text.rfind(" (os error") {
        Some(end) => text[..end].into(),
        None => text,
    }
}
