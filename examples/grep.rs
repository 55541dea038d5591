//! grep: every file is opened, read and searched by a thread of the (emulated) GPU.
//!
//!     cargo run --release --example grep -- -rn 'unsafe fn' .

use std::io::{self, BufWriter, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gpu_examples::grep::backend::OnDevice;
use gpu_examples::grep::cli::{self, Command};
use gpu_examples::grep::compile::compile;
use gpu_examples::grep::locale::Locale;
use gpu_examples::grep::run::{Input, Outcome, Progress, run};
use gpu_examples::grep::settings::Output;
use gpu_examples::grep::walk;
use gpu_host::Session;

fn main() -> ExitCode {
    // A reader of our output that has seen enough ends us, as it does other filters.
    // SAFETY: before any other thread; the default action is always valid.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    match grep() {
        Ok(status) => ExitCode::from(status),
        Err(messages) => {
            for message in messages {
                eprintln!("grep: {message}");
            }
            ExitCode::from(2)
        }
    }
}

fn grep() -> Result<u8, Vec<String>> {
    let one = |message: &dyn std::fmt::Display| vec![message.to_string()];
    let locale = Locale::from_environment();
    let mut command =
        cli::parse(std::env::args_os(), locale.charset()).map_err(|message| vec![message])?;
    if command.selects_nothing() && command.settings.output != Output::FilesWithout {
        return Ok(1);
    }
    let compiled = compile(&command.patterns, command.options, &locale)?;
    for warning in &compiled.warnings {
        eprintln!("grep: {warning}");
    }
    let watched =
        matches!(command.settings.output, Output::Lines | Output::Matches | Output::Count);
    command.selection.output = walk::regular_output().filter(|_| watched);

    let session = Session::builder()
        .page_size(command.device.page_size)
        .cache_size(command.device.cache_size)
        .build()
        .map_err(|e| one(&e))?;
    let threads = command.device.threads;
    let backend = OnDevice::new(&session, &compiled.program, threads).map_err(|e| one(&e))?;
    let input = Input { operands: &command.operands, selection: &command.selection };
    let progress = Progress::default();
    let start = Instant::now();
    let outcome = with_bar(&progress, &|| {
        let mut out = BufWriter::with_capacity(64 << 10, io::stdout());
        run(
            &input,
            &command.settings,
            &backend,
            compiled.referee.as_ref(),
            &progress,
            (&mut out, &mut io::stderr()),
        )
    });
    let outcome = outcome.map_err(|e| one(&e))?;
    if command.device.stats {
        print_stats(&command, &session, &outcome, start.elapsed());
    }
    Ok(match (outcome.matched, outcome.failed) {
        (true, _) if command.settings.output == Output::Quiet => 0,
        (_, true) => 2,
        (true, false) => 0,
        (false, false) => 1,
    })
}

/// Runs `work`, with a progress bar if it takes long and somebody watches.
fn with_bar<T: Send>(progress: &Progress, work: &(dyn Fn() -> T + Sync)) -> T {
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
                std::thread::sleep(Duration::from_millis(20));
            }
            let bar = indicatif::ProgressBar::new(0);
            while !done.load(Ordering::Relaxed) {
                bar.set_length(progress.found.load(Ordering::Relaxed));
                bar.set_position(progress.done.load(Ordering::Relaxed));
                std::thread::sleep(Duration::from_millis(100));
            }
            bar.finish_and_clear();
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        let _ = bar.join();
        result
    })
}

fn print_stats(command: &Command, session: &Session, outcome: &Outcome, took: Duration) {
    let stats = session.stats();
    let daemon = session.daemon_stats();
    let rate = outcome.bytes as f64 / took.as_secs_f64() / 1e9;
    let mut err = io::stderr().lock();
    let _ = writeln!(
        err,
        "{} files, {} bytes in {:.3} s: {rate:.2} GB/s with {} threads a launch\n\
         page cache: {} hits, {} misses, {} prefetches, {} evictions, {} bytes fetched\n\
         requests: {} ({} opens); daemon: {daemon:?}",
        outcome.files,
        outcome.bytes,
        took.as_secs_f64(),
        command.device.threads,
        stats.hits,
        stats.misses,
        stats.prefetches,
        stats.evictions,
        stats.bytes_fetched,
        stats.requests,
        stats.opens,
    );
}
