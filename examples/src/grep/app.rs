//! The whole program, but for where its output goes.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gpu_host::{ProfileLine, Stats};

use super::backend::OnDevice;
use super::cli::{self, Command};
use super::compile::compile;
use super::locale::Locale;
use super::run::{Input, Outcome, Progress, run};
use super::settings::Output;
use super::walk;
use crate::device::{write_counts, write_stats};

/// Runs grep with `arguments`, of which the first is the program's name; the exit status.
pub fn grep(
    arguments: impl Iterator<Item = OsString>,
    locale: &Locale,
    out: &mut (dyn Write + Send),
    err: &mut (dyn Write + Send),
) -> u8 {
    match try_grep(arguments, locale, out, err) {
        Ok(status) => status,
        Err(messages) => {
            for message in messages {
                // There is nobody left to tell that this cannot be told.
                let _ = writeln!(err, "grep: {message}");
            }
            2
        }
    }
}

fn try_grep(
    arguments: impl Iterator<Item = OsString>,
    locale: &Locale,
    out: &mut (dyn Write + Send),
    err: &mut (dyn Write + Send),
) -> Result<u8, Vec<String>> {
    let one = |message: &dyn std::fmt::Display| vec![message.to_string()];
    let mut command = cli::parse(arguments, locale.charset()).map_err(|m| vec![m])?;
    if command.selects_nothing() && command.settings.output != Output::FilesWithout {
        return Ok(1);
    }
    let compiled = compile(&command.patterns, command.options, locale)?;
    for warning in &compiled.warnings {
        let _ = writeln!(err, "grep: {warning}");
    }
    let output = command.settings.output;
    let grows = matches!(output, Output::Lines | Output::Matches | Output::Count);
    command.selection.output = walk::regular_output().filter(|_| grows);

    let session = command
        .device
        .which
        .session()
        .map_err(|e| one(&e))?
        .page_size(command.device.page_size)
        .cache_size(command.device.cache_size)
        .build()
        .map_err(|e| one(&e))?;
    let (threads, page) = (command.device.threads, command.device.page_size as usize);
    let backend = OnDevice::new(&session, &compiled.program, threads, page).map_err(|e| one(&e))?;
    let input = Input { operands: &command.operands, selection: &command.selection };
    let progress = Progress::default();
    let start = Instant::now();
    let outcome = with_bar(&progress, || {
        let referee = compiled.referee.as_ref();
        run(&input, &command.settings, &backend, referee, &progress, (out, err))
    });
    let outcome = outcome.map_err(|e| one(&e))?;
    if command.device.stats {
        let took = start.elapsed();
        let stats = session.stats().map_err(|e| one(&e))?;
        let _ = print_stats(&command, &stats, &outcome, took, err);
        let _ = write_counts(&session.counts_by_kernel(), err);
        let _ = print_profile(&session.profile(), err);
    }
    Ok(match (outcome.matched, outcome.failed) {
        (true, _) if output == Output::Quiet => 0,
        (_, true) => 2,
        (true, false) => 0,
        (false, false) => 1,
    })
}

/// How many functions of a profile are worth a line.
const FUNCTIONS: usize = 12;

/// The functions that most instructions went to, if that was counted.
fn print_profile(lines: &[ProfileLine], err: &mut dyn Write) -> io::Result<()> {
    let mut functions: BTreeMap<&str, u64> = BTreeMap::new();
    for line in lines {
        *functions.entry(&line.function).or_default() += line.instructions;
    }
    let mut functions: Vec<_> = functions.into_iter().collect();
    functions.sort_by_key(|(_, instructions)| Reverse(*instructions));
    for (function, instructions) in functions.into_iter().take(FUNCTIONS) {
        writeln!(err, "{instructions:>13} {function}")?;
    }
    Ok(())
}

/// Runs `work`, with a progress bar if it takes long and somebody watches.
fn with_bar<T>(progress: &Progress, work: impl FnOnce() -> T) -> T {
    // A bar on the terminal that lines are written to would only be in their way.
    if !io::stderr().is_terminal() || io::stdout().is_terminal() {
        return work();
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let bar = scope.spawn(|| {
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(1) {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::park_timeout(Duration::from_secs(1));
            }
            let bar = indicatif::ProgressBar::new(0);
            while !done.load(Ordering::Relaxed) {
                bar.set_length(progress.found.load(Ordering::Relaxed));
                bar.set_position(progress.done.load(Ordering::Relaxed));
                std::thread::park_timeout(Duration::from_millis(100));
            }
            bar.finish_and_clear();
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        bar.thread().unpark();
        result
    })
}

fn print_stats(
    command: &Command,
    stats: &Stats,
    outcome: &Outcome,
    took: Duration,
    err: &mut dyn Write,
) -> io::Result<()> {
    let rate = outcome.bytes as f64 / took.as_secs_f64() / 1e9;
    let Outcome { files, bytes, .. } = outcome;
    let (seconds, threads) = (took.as_secs_f64(), command.device.threads);
    writeln!(
        err,
        "searched: {files} files, {bytes} bytes in {seconds:.3} s ({rate:.2} GB/s), \
         {threads} threads a launch"
    )?;
    write_stats(stats, err)
}
