//! A batch of files from items to answers: launches, and launches again what did not fit or what
//! turned out to be binary.

use std::fs::File;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use gpu_host::HostError;
use gpu_kernels::grep::{Item, ItemResult, RecordKind, Status, Task, TaskFlags};

use super::backend::{Backend, Launch};
use super::binary;
use super::records::{Records, Spare};
use super::referee::Referee;
use super::settings::{Binary, Output, Settings};

/// A file to search.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name in messages and before lines, where that is not its path.
    pub name: Option<Vec<u8>>,
    /// The path by which it is opened.
    pub path: Vec<u8>,
    /// Bytes in it, if known: it decides how many threads share the file.
    pub size: Option<u64>,
}

impl Entry {
    /// What to call it.
    pub fn name(&self) -> &[u8] {
        self.name.as_deref().unwrap_or(&self.path)
    }
}

/// Bytes of a file that one thread searches at most. Items begin a byte after a page does: whether a
/// line starts there is told by the byte before, which is then in the page that comes next anyway.
pub(super) const ITEM: u64 = (4 << 20) + 1;
/// What items are multiples of, but for that byte. Towards the end of a file they become as small as
/// this, so that nobody is left with much to do when the others are done.
const GRAIN: u64 = 256 << 10;
/// First size of each thread's buffer for lines cut by page boundaries, in bytes.
const SCRATCH: usize = 16 << 10;
/// First size of the output arena, in bytes.
const ARENA: usize = 256 << 20;
const ARENA_MAX: usize = 1 << 30;

/// A part of a file and what was found in it.
pub(super) struct Piece<'a> {
    file: usize,
    /// Bytes in it, as far as that is known.
    len: u64,
    item: Item,
    pub(super) result: ItemResult,
    pub(super) records: Records<'a>,
}

/// What is known of a file in the end.
pub(super) struct Answer {
    /// The places of its text's parts among those of all files.
    text: Range<usize>,
    /// Where its text ends and binary data begins: text lines start before it.
    pub(super) text_end: u64,
    /// Selected lines of the text.
    pub(super) selected: u64,
    /// Selected lines of the binary part, or whether there are any.
    pub(super) binary_selected: u64,
    /// The error number of a failed open or read.
    pub(super) errno: Option<i32>,
    /// Bytes that were searched.
    pub(super) bytes: u64,
}

/// What is known of some files.
pub(super) struct Answers<'a> {
    /// Parts of files, in the order of files and within them.
    pieces: Vec<Piece<'a>>,
    answers: Vec<Answer>,
}

impl<'a> Answers<'a> {
    /// Those of no file.
    pub(super) fn none() -> Self {
        Answers { pieces: Vec::new(), answers: Vec::new() }
    }

    /// Each file's answer with the parts of its text.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Answer, &[Piece<'a>])> {
        self.answers.iter().map(|answer| (answer, &self.pieces[answer.text.clone()]))
    }
}

/// What searches and decides.
pub(super) struct Resolver<'a> {
    pub(super) backend: &'a dyn Backend,
    pub(super) settings: &'a Settings,
    pub(super) referee: Option<&'a Referee>,
    pub(super) spare: Spare,
}

impl Resolver<'_> {
    /// Searches `files`; one answer for each.
    pub(super) fn resolve(&self, files: &[&Entry]) -> Result<Answers<'_>, HostError> {
        let limit = self.settings.item_limit();
        let flags = self.settings.task_flags();
        let mut pieces = Vec::new();
        for (number, file) in files.iter().enumerate() {
            // Of a file of unknown size the first part tells whether there are more.
            let size = file.size.unwrap_or(ITEM);
            self.cut(number, 0, size.max(1), file.size.is_some(), limit, &mut pieces);
        }
        self.launch(files, &mut pieces, flags)?;
        let mut rest = Vec::new();
        for piece in &pieces {
            let size = match piece.result.size {
                // Files of procfs do not tell.
                0 if piece.result.bytes >= ITEM => ITEM + 1,
                size => size,
            };
            let found = piece.result.selected > 0 && self.settings.first_decides();
            let ended = piece.result.status() == Status::Failed || found;
            if files[piece.file].size.is_none() && size > ITEM && !ended {
                self.cut(piece.file, ITEM, size, true, limit, &mut rest);
            }
        }
        if !rest.is_empty() {
            self.launch(files, &mut rest, flags)?;
            pieces.append(&mut rest);
            // Stable: parts of a file stay in their order.
            pieces.sort_by_key(|p| p.file);
        }

        let mut answers = Vec::with_capacity(files.len());
        let (mut more, mut start) = (Vec::new(), 0);
        for (number, file) in files.iter().enumerate() {
            let parts = pieces[start..].iter().take_while(|p| p.file == number).count();
            let mut answer = Answer::of(start..start + parts);
            self.split_binary(file, number, &pieces[answer.text.clone()], &mut answer, &mut more);
            answers.push(answer);
            start += parts;
        }
        if !more.is_empty() {
            let count = if self.settings.output == Output::Count { TaskFlags::COUNT } else { 0 };
            let invert = self.settings.task_flags() & TaskFlags::INVERT;
            self.launch(files, &mut more, invert | count)?;
            for piece in more {
                let answer = &mut answers[piece.file];
                answer.bytes += piece.result.bytes;
                let selected = self.selected(&piece, u64::MAX);
                match piece.item.flags & TaskFlags::NUL_ENDS_LINE {
                    0 => answer.selected += selected,
                    _ => answer.binary_selected += selected,
                }
            }
        }
        Ok(Answers { pieces, answers })
    }

    /// Cuts `start..size` of a file into pieces; the last goes on to the `end` of the file, if that
    /// is known to be near.
    fn cut<'s>(
        &'s self,
        file: usize,
        mut start: u64,
        size: u64,
        end: bool,
        limit: u64,
        pieces: &mut Vec<Piece<'s>>,
    ) {
        while start < size {
            let left = size - start;
            // Of what is left to all threads, a thread gets an eighth, but not too little.
            let share = if end { (left / 8).next_multiple_of(GRAIN).max(GRAIN) } else { ITEM };
            let len = (share + u64::from(start == 0)).min(ITEM - u64::from(start > 0));
            let to = if left <= len && end { u64::MAX } else { start + len };
            let piece = self.piece(file, start, to, 0, limit);
            pieces.push(Piece { len: len.min(left), ..piece });
            start += len;
        }
    }

    fn piece(&self, file: usize, start: u64, end: u64, flags: u32, limit: u64) -> Piece<'_> {
        let item = Item { start, end, limit, file: file as u32, flags };
        let len = end.saturating_sub(start).min(ITEM);
        Piece { file, len, item, result: ItemResult::default(), records: Records::default() }
    }

    /// Searches all pieces, again with more room those that did not have enough.
    fn launch<'s>(
        &'s self,
        files: &[&Entry],
        pieces: &mut [Piece<'s>],
        flags: u32,
    ) -> Result<(), HostError> {
        let (mut scratch, mut output) = (SCRATCH, ARENA);
        let task = Task { window: binary::BUFFER, flags, reserved: 0 };
        let paths: Vec<&[u8]> = files.iter().map(|f| f.path.as_slice()).collect();
        let mut open: Vec<usize> = (0..pieces.len()).collect();
        // The large ones first. Stable: equal ones stay side by side.
        open.sort_by_key(|&i| std::cmp::Reverse(pieces[i].len));
        while !open.is_empty() {
            let items: Vec<Item> = open.iter().map(|&i| pieces[i].item).collect();
            let launch = Launch { paths: &paths, items: &items, task, scratch, output };
            let mut arena = self.spare.take();
            let results = self.backend.search(&launch, &mut arena)?;
            let mut records = Records::split(arena, &self.spare, 2 * items.len());
            let mut again = Vec::new();
            for (number, (i, result)) in open.iter().zip(results).enumerate() {
                match result.status() {
                    Status::Scratch => {
                        scratch = scratch.max((result.need as usize).next_power_of_two());
                        again.push(*i);
                    }
                    Status::Output | Status::Pending => {
                        let need = (result.need as usize * 2).next_power_of_two();
                        output = output.max(need);
                        again.push(*i);
                    }
                    Status::Done | Status::Nul | Status::Failed => {
                        pieces[*i].result = result;
                        let attempt = number + result.attempt as usize * items.len();
                        pieces[*i].records = std::mem::take(&mut records[attempt]);
                    }
                }
            }
            // More room for the rest; with little of it left, fewer would be the remedy.
            if again.len() * 2 > open.len() && output < ARENA_MAX {
                output *= 4;
            }
            open = again;
        }
        Ok(())
    }

    /// Adds up a file's parts; what has to be searched as binary goes to `more`.
    fn split_binary<'s>(
        &'s self,
        file: &Entry,
        number: usize,
        text: &[Piece<'s>],
        answer: &mut Answer,
        more: &mut Vec<Piece<'s>>,
    ) {
        answer.bytes = text.iter().map(|p| p.result.bytes).sum();
        let failed = text.iter().find(|p| p.result.status() == Status::Failed);
        answer.errno = failed.map(|p| p.result.need as i32);
        let is_binary = |p: &Piece<'_>| p.result.status() == Status::Nul || p.result.restarted != 0;
        let Some(first) = text.iter().position(is_binary) else {
            answer.selected = text.iter().map(|p| self.selected(p, u64::MAX)).sum();
            return;
        };
        let nul = text[first].result.nul;
        let end = match nul < binary::BUFFER {
            true => 0,
            // A file that is gone meanwhile has no text.
            false => File::open(Path::new(std::ffi::OsStr::from_bytes(&file.path)))
                .and_then(|f| binary::text_end(&f, nul))
                .unwrap_or(0),
        };
        answer.text_end = end;
        let counts = self.settings.output == Output::Count;
        let skips = self.settings.binary == Binary::WithoutMatch;
        let restarted = text[first].result.restarted != 0;
        // The part that text ends in was counted up to the NUL byte: where only the number is
        // known, and it matters which lines they are, it is counted again.
        let again = counts || skips && self.settings.first_decides();
        if restarted {
            answer.binary_selected = self.selected(&text[first], u64::MAX);
        } else {
            let parts = text.iter().filter(|p| p.item.start < end);
            let parts = parts.filter(|p| !again || p.item.end <= end);
            answer.selected = parts.map(|p| self.selected(p, end)).sum();
            let cut = text.iter().find(|p| p.item.start < end && p.item.end > end);
            if let Some(p) = cut.filter(|_| again) {
                more.push(self.piece(number, p.item.start, end, 0, p.item.limit));
            }
        }
        if answer.selected >= self.settings.max_count {
            // All that is asked for was found before the file turned out to be binary.
            answer.text_end = u64::MAX;
            return;
        }
        let known = !counts && answer.binary_selected > 0
            || self.settings.first_decides() && answer.selected > 0;
        if skips || known {
            return;
        }
        let limit = if counts { u64::MAX } else { 1 };
        for (i, p) in text.iter().enumerate() {
            let start = p.item.start.max(end);
            if start < p.item.end && !(restarted && i == first) {
                let flags = TaskFlags::NUL_ENDS_LINE;
                more.push(self.piece(number, start, p.item.end, flags, limit));
            }
        }
    }

    /// Selected lines of a piece that start before `end`, with those that the referee selects.
    fn selected(&self, piece: &Piece<'_>, end: u64) -> u64 {
        let decided = match self.settings.shows_text() && end != u64::MAX {
            false => piece.result.selected,
            true => shown_before(piece, end),
        };
        decided + self.undecided(piece, end)
    }

    fn undecided(&self, piece: &Piece<'_>, end: u64) -> u64 {
        let Some(referee) = self.referee else { return 0 };
        let restarted = piece.result.restarted != 0;
        let chosen = piece.records.iter().filter(|r| {
            let kind = match r.kind {
                RecordKind::Undecided => !restarted,
                RecordKind::UndecidedNul => true,
                _ => false,
            };
            kind && r.offset < end && is_selected(referee, self.settings.invert, r.text)
        });
        chosen.count() as u64
    }
}

impl Answer {
    fn of(text: Range<usize>) -> Self {
        Answer { text, text_end: u64::MAX, selected: 0, binary_selected: 0, errno: None, bytes: 0 }
    }
}

/// Lines before `end` among those that a piece shows.
fn shown_before(piece: &Piece<'_>, end: u64) -> u64 {
    let mut last = u64::MAX;
    let mut lines = 0;
    for record in piece.records.iter().filter(|r| r.offset < end) {
        match record.kind {
            RecordKind::Lines | RecordKind::Spans => {
                let room = (end - record.offset).min(record.text.len() as u64) as usize;
                let text = &record.text[..room];
                lines += memchr::memchr_iter(b'\n', text).count() as u64;
                lines += u64::from(room == record.text.len() && text.last() != Some(&b'\n'));
            }
            // Matches of one line have its number, or are told apart by nothing else: any of
            // them is enough to know that there is one.
            RecordKind::Match if last != record.line => {
                last = record.line;
                lines += 1;
            }
            _ => {}
        }
    }
    lines
}

/// Whether a line that the device left open is selected.
pub(super) fn is_selected(referee: &Referee, invert: bool, text: &[u8]) -> bool {
    let line = without_terminator(text);
    referee.next_span(line, 0, true).is_some() != invert
}

/// A line without the newline or NUL byte at its end.
pub(super) fn without_terminator(text: &[u8]) -> &[u8] {
    match text {
        [line @ .., b'\n' | 0] => line,
        line => line,
    }
}
