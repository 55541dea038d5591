//! What a run of grep is to do, the command line understood.

use gpu_kernels::grep::TaskFlags;

/// What is written for each file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Selected lines.
    Lines,
    /// Each match by itself (`-o`).
    Matches,
    /// How many lines are selected (`-c`).
    Count,
    /// The names of files with selected lines (`-l`).
    FilesWith,
    /// The names of files without (`-L`).
    FilesWithout,
    /// Nothing (`-q`): the exit status tells.
    Quiet,
}

/// How files are treated that are not text (`--binary-files`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// That one matches is told, not how.
    Detect,
    /// As text (`-a`).
    Text,
    /// As if they did not match (`-I`).
    WithoutMatch,
}

/// Colours, as SGR parameters; empty for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Colors {
    /// Matching text in selected lines.
    pub matched: String,
    /// Selected lines.
    pub selected: String,
    /// File names.
    pub file: String,
    /// Line numbers.
    pub line: String,
    /// Byte offsets.
    pub byte: String,
    /// Separators.
    pub separator: String,
    /// Whether to leave the rest of the line alone instead of erasing it.
    pub no_erase: bool,
}

impl Default for Colors {
    fn default() -> Self {
        Colors {
            matched: "01;31".into(),
            selected: String::new(),
            file: "35".into(),
            line: "32".into(),
            byte: "32".into(),
            separator: "36".into(),
            no_erase: false,
        }
    }
}

impl Colors {
    /// The colours that `GREP_COLORS` sets; like GNU grep's it stops at what it does not
    /// understand. With `invert`, `rv` is of importance; it is ignored here.
    pub fn from_variable(variable: &str) -> Self {
        let mut colors = Colors::default();
        for part in variable.split(':') {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            if !value.bytes().all(|b| b.is_ascii_digit() || b == b';') {
                break;
            }
            let place = match name {
                "mt" | "ms" => &mut colors.matched,
                "sl" => &mut colors.selected,
                "fn" => &mut colors.file,
                "ln" => &mut colors.line,
                "bn" => &mut colors.byte,
                "se" => &mut colors.separator,
                "ne" => {
                    colors.no_erase = true;
                    continue;
                }
                _ => continue,
            };
            *place = value.into();
        }
        colors
    }
}

/// What a run of grep is to do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What is written.
    pub output: Output,
    /// `-v`.
    pub invert: bool,
    /// `-n`.
    pub line_number: bool,
    /// `-b`.
    pub byte_offset: bool,
    /// File names stand before what is written.
    pub with_filename: bool,
    /// `-Z`: NUL bytes follow file names.
    pub null: bool,
    /// `-m`.
    pub max_count: u64,
    /// `--binary-files`.
    pub binary: Binary,
    /// `--color`, where it applies.
    pub colors: Option<Colors>,
    /// `-s`.
    pub no_messages: bool,
    /// Text is UTF-8, so that bytes can be wrong.
    pub utf8: bool,
}

impl Settings {
    /// Whether one selected line tells all about a file.
    pub(super) fn first_decides(&self) -> bool {
        matches!(self.output, Output::FilesWith | Output::FilesWithout | Output::Quiet)
    }

    /// Whether lines or matches are written.
    pub(super) fn shows_text(&self) -> bool {
        matches!(self.output, Output::Lines | Output::Matches)
    }

    /// Whether the places of matches in lines matter.
    pub fn wants_spans(&self) -> bool {
        let colored = self.colors.as_ref().is_some_and(|c| !c.matched.is_empty());
        !self.invert && (self.output == Output::Matches || colored && self.output == Output::Lines)
    }

    /// The [`TaskFlags`] of the first search of a file.
    pub(super) fn task_flags(&self) -> u32 {
        let mut flags = 0;
        if self.invert {
            flags |= TaskFlags::INVERT;
        }
        match self.output {
            Output::Lines => {
                flags |= TaskFlags::LINES;
                if self.wants_spans() {
                    flags |= TaskFlags::SPANS;
                }
            }
            // The matches of lines that do not match are none.
            Output::Matches if !self.invert => flags |= TaskFlags::ONLY,
            _ => {}
        }
        if self.line_number && self.shows_text() {
            flags |= TaskFlags::NUMBER;
        }
        if self.output == Output::Count {
            flags |= TaskFlags::COUNT;
        }
        match self.binary {
            Binary::Text => {}
            Binary::Detect => flags |= TaskFlags::STOP_AT_NUL | TaskFlags::RESTART,
            Binary::WithoutMatch => flags |= TaskFlags::STOP_AT_NUL,
        }
        let drains = match self.binary {
            Binary::Text => false,
            Binary::Detect => self.shows_text(),
            Binary::WithoutMatch => true,
        };
        if drains { flags | TaskFlags::DRAIN } else { flags }
    }

    /// Selected lines after which the search of an item may stop.
    pub(super) fn item_limit(&self) -> u64 {
        if self.first_decides() { 1 } else { self.max_count.max(1) }
    }
}
