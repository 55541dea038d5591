//! The pipeline: a walk finds files, launches search batches of them, answers are written in
//! order.
//!
//! ```text
//!   walk ──batches──► lane 1 ┐
//!                     lane 2 ├─sheets──► in order ──► standard output and error
//!                     lane 3 ┘
//! ```
//!
//! A lane launches, launches again where that is needed, and puts the answers on a sheet; while it
//! does, the device has the launches of the others.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use gpu_host::HostError;

use super::backend::Backend;
use super::records::Spare;
use super::referee::Referee;
use super::resolve::{Answers, Resolver};
use super::settings::{Output, Settings};
use super::sheet::{Sheet, Writer};
use super::walk::{Enough, Selection, Step, Walk};

/// Launches under way or being written up.
const LANES: usize = 3;
/// A batch is full with so many files or bytes.
const BATCH_FILES: usize = 1024;
const BATCH_BYTES: u64 = 256 << 20;
/// The first batch is small, so that the first lines come soon; each further one may be twice the
/// one before.
const FIRST_FILES: usize = 64;

/// What a run has come to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Something was selected.
    pub matched: bool,
    /// Something went wrong.
    pub failed: bool,
    /// Files that were searched.
    pub files: u64,
    /// Bytes that were searched.
    pub bytes: u64,
}

/// Counts for whoever watches a run.
#[derive(Debug, Default)]
pub struct Progress {
    /// Files found so far.
    pub found: AtomicU64,
    /// Files done so far.
    pub done: AtomicU64,
    /// Bytes searched so far.
    pub bytes: AtomicU64,
}

/// What to search.
pub struct Input<'a> {
    /// Operands; none for the current directory.
    pub operands: &'a [OsString],
    /// Which files below them.
    pub selection: &'a Selection,
}

struct Batch {
    number: u64,
    steps: Vec<Step>,
}

/// Searches `input` and writes what is found to `out` and `err`.
///
/// # Errors
/// When the device or the writing fails.
pub fn run(
    input: &Input<'_>,
    settings: &Settings,
    backend: &dyn Backend,
    referee: Option<&Referee>,
    progress: &Progress,
    (out, err): (&mut dyn Write, &mut dyn Write),
) -> Result<Outcome, RunError> {
    let (to_lanes, from_walk) = sync_channel::<Batch>(LANES);
    let (to_paper, from_lanes) = sync_channel(2 * LANES);
    // Dropped with the last lane, so that the walk does not wait for nobody.
    let from_walk = Arc::new(Mutex::new(from_walk));
    let stop = AtomicBool::new(false);
    let resolver = Resolver { backend, settings, referee, spare: Spare::default() };
    let writer = Writer { settings, referee };
    let paper = Paper::default();
    let mut spooled = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| walk(input, to_lanes, progress, &stop, &mut spooled));
        for _ in 0..LANES {
            let (from_walk, to_paper) = (from_walk.clone(), to_paper.clone());
            let (resolver, writer, paper) = (&resolver, &writer, &paper);
            scope.spawn(move || lane(resolver, writer, paper, &from_walk, to_paper));
        }
        drop((from_walk, to_paper));
        let outcome = put_down(settings, &paper, from_lanes, progress, &stop, out, err);
        stop.store(true, Ordering::Relaxed);
        outcome
    })
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The device failed.
    #[error("{0}")]
    Device(#[from] HostError),
    /// Output could not be written.
    #[error("write error: {0}")]
    Write(#[from] io::Error),
}

fn walk(
    input: &Input<'_>,
    to_lanes: SyncSender<Batch>,
    progress: &Progress,
    stop: &AtomicBool,
    spooled: &mut Vec<std::os::fd::OwnedFd>,
) {
    let (mut steps, mut files, mut bytes, mut number) = (Vec::new(), 0, 0, 0);
    let mut full = FIRST_FILES;
    let mut send = |steps: &mut Vec<Step>| {
        let batch = Batch { number, steps: std::mem::take(steps) };
        number += 1;
        to_lanes.send(batch).map_err(|_| Enough)
    };
    let take = |step: Step| {
        if stop.load(Ordering::Relaxed) {
            return Err(Enough);
        }
        if let Step::File(entry) = &step {
            progress.found.fetch_add(1, Ordering::Relaxed);
            files += 1;
            bytes += entry.size.unwrap_or(0);
        }
        steps.push(step);
        if files >= full || bytes >= BATCH_BYTES {
            send(&mut steps)?;
            (files, bytes, full) = (0, 0, (2 * full).min(BATCH_FILES));
        }
        Ok(())
    };
    let mut walk = Walk::new(input.selection, spooled, take);
    let ended = match input.operands {
        [] => walk.here(),
        operands => operands.iter().try_for_each(|o| walk.operand(o)),
    };
    if ended.is_ok() && !steps.is_empty() {
        let _ = send(&mut steps);
    }
}

/// Memory that sheets were written to, for the next ones.
type Paper = Mutex<Vec<Vec<u8>>>;

type Written = (u64, Result<(Sheet, u64), HostError>);

fn lane(
    resolver: &Resolver<'_>,
    writer: &Writer<'_>,
    paper: &Paper,
    from_walk: &Mutex<Receiver<Batch>>,
    to_paper: SyncSender<Written>,
) {
    loop {
        // The lock is held while waiting, too: the other lanes have nothing else to wait for.
        let batch = from_walk.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(batch) = batch else { return };
        let paper = paper.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let sheet = search(resolver, writer, paper.unwrap_or_default(), &batch.steps);
        if to_paper.send((batch.number, sheet)).is_err() {
            return;
        }
    }
}

fn search(
    resolver: &Resolver<'_>,
    writer: &Writer<'_>,
    paper: Vec<u8>,
    steps: &[Step],
) -> Result<(Sheet, u64), HostError> {
    let files = steps.iter().filter_map(|step| match step {
        Step::File(entry) => Some(entry),
        _ => None,
    });
    let files: Vec<_> = files.collect();
    let answers = match files.is_empty() {
        true => Answers::none(),
        false => resolver.resolve(&files)?,
    };
    let mut answers = answers.iter();
    let mut sheet = Sheet::on(paper);
    for step in steps {
        match step {
            Step::File(entry) => {
                if let Some(answer) = answers.next() {
                    writer.file(&mut sheet, entry, answer);
                }
            }
            Step::Message(text, is_error) => {
                sheet.failed |= is_error;
                sheet.message(&[text]);
            }
            Step::Failure => sheet.failed = true,
        }
        if sheet.matched && writer.settings.output == Output::Quiet {
            // Nothing that follows would have been looked at.
            break;
        }
    }
    Ok((sheet, files.len() as u64))
}

/// Writes sheets in the order of their numbers.
fn put_down(
    settings: &Settings,
    paper: &Paper,
    from_lanes: Receiver<Written>,
    progress: &Progress,
    stop: &AtomicBool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<Outcome, RunError> {
    let mut outcome = Outcome::default();
    let mut waiting = BTreeMap::new();
    let mut next = 0;
    for (number, sheet) in from_lanes {
        waiting.insert(number, sheet);
        while let Some(sheet) = waiting.remove(&next) {
            next += 1;
            let (sheet, files) = sheet?;
            outcome.matched |= sheet.matched;
            outcome.failed |= sheet.failed;
            outcome.files += files;
            outcome.bytes += sheet.bytes;
            progress.done.fetch_add(files, Ordering::Relaxed);
            progress.bytes.fetch_add(sheet.bytes, Ordering::Relaxed);
            let mut written = 0;
            for message in &sheet.messages {
                out.write_all(&sheet.out[written..message.after])?;
                out.flush()?;
                err.write_all(&message.text)?;
                err.write_all(b"\n")?;
                written = message.after;
            }
            out.write_all(&sheet.out[written..])?;
            let mut used = sheet.out;
            used.clear();
            paper.lock().unwrap_or_else(PoisonError::into_inner).push(used);
            if settings.output == Output::Quiet && outcome.matched {
                stop.store(true, Ordering::Relaxed);
                return Ok(outcome);
            }
        }
        out.flush()?;
    }
    Ok(outcome)
}
