//! The whole program, but for where its output goes.

use std::ffi::OsString;
use std::io::Write;
use std::time::{Duration, Instant};

use gpu_host::Session;
use gpu_kernels::matcher::Order;

use super::cli::{self, Command, DeviceSettings, Search};
use super::library::{self, Databases, QuerySet};
use super::output::{Named, Results};
use super::page;
use super::records::Names;
use super::search::{Answer, search};
use crate::device::{write_counts, write_stats};

/// Runs the matcher with `arguments`, of which the first is the program's name; the exit status.
/// `terminal` tells whether `out` is one.
pub fn run(
    arguments: impl Iterator<Item = OsString>,
    terminal: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let mut messages = Vec::new();
    let outcome = cli::parse(arguments).and_then(|command| match command {
        Command::Search(job) => look(&job, terminal, out, err, &mut messages),
        Command::Pack { to, from, shape } => {
            let (count, left_out) = library::pack_into(&to, &from, shape)?;
            messages.extend(left_out);
            writeln!(out, "{}: {count} records of {shape}", to.display()).map_err(write_error)?;
            Ok(0)
        }
        Command::Generate { dir, plan } => {
            plan.make(&dir)?;
            let (dir, plan) = (dir.display(), &plan);
            writeln!(
                out,
                "{dir}/queries: {} images\n{dir}/databases: {} databases of {} images",
                plan.queries, plan.databases, plan.images
            )
            .map_err(write_error)?;
            Ok(0)
        }
    });
    let status = outcome.unwrap_or_else(|message| {
        messages.push(message);
        2
    });
    for message in &messages {
        // There is nobody left to tell that this cannot be told.
        let _ = writeln!(err, "matcher: {message}");
    }
    if messages.is_empty() { status } else { 2 }
}

fn write_error(error: std::io::Error) -> String {
    format!("write error: {error}")
}

fn look(
    job: &Search,
    terminal: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
    messages: &mut Vec<String>,
) -> Result<u8, String> {
    let shape = library::shape_of(&job.databases, job.shape)?;
    let mut queries = library::queries(&job.queries, shape)?;
    messages.append(&mut queries.messages);
    if queries.records.is_empty() {
        return Err("there is no image to look for: see --queries".into());
    }
    let mut databases = library::databases(&job.databases, shape)?;
    messages.append(&mut databases.messages);
    let session = session(&job.device)?;
    let strips = library::strips(&queries.records);
    let start = Instant::now();
    let count = queries.records.len();
    let answer = search(&session, &databases.files, &strips, count, &job.task, job.device.warps)
        .map_err(|e| e.to_string())?;
    let took = start.elapsed();
    if job.device.stats {
        // What is said there is no answer: nothing depends on it.
        let _ = write_search(job, &session, &queries, &databases, took, err);
    }
    let results = name(answer, &queries, &databases, job.threshold)?;
    if let Some(file) = &job.html {
        let page = illustrate(&results, &queries, &databases)?;
        std::fs::write(file, page).map_err(|e| format!("{}: {e}", file.display()))?;
    }
    let written = match (job.json, terminal) {
        (true, _) => writeln!(out, "{:#}", results.json()),
        (false, true) => results.write_table(out),
        (false, false) => results.write_tabs(out),
    };
    written.map_err(write_error)?;
    Ok(if results.matched() > 0 { 0 } else { 1 })
}

fn session(device: &DeviceSettings) -> Result<Session, String> {
    let builder = device.which.session().map_err(|e| e.to_string())?;
    builder
        .page_size(device.page_size)
        .cache_size(device.cache_size)
        .build()
        .map_err(|e| e.to_string())
}

/// Adds names to an answer.
fn name(
    answer: Answer,
    queries: &QuerySet,
    databases: &Databases,
    threshold: f64,
) -> Result<Results, String> {
    // The names of a database are read when the first of its records is found.
    let mut names: Vec<Option<Names>> = databases.files.iter().map(|_| None).collect();
    let mut named = Vec::new();
    for found in answer.matches {
        let mut row = Vec::new();
        for found in found {
            let names = match &mut names[found.database] {
                Some(names) => names,
                none => {
                    let file = &databases.files[found.database];
                    none.insert(file.names().map_err(|e| e.to_string())?)
                }
            };
            let origin = names.origin(found.record);
            row.push(Named { found, database: databases.names[found.database].clone(), origin });
        }
        named.push(row);
    }
    Ok(Results { queries: queries.origins.clone(), matches: named, threshold })
}

/// The page that shows the results.
fn illustrate(
    results: &Results,
    queries: &QuerySet,
    databases: &Databases,
) -> Result<String, String> {
    let shape = databases.files.first().map(|file| file.header.shape).unwrap_or_default();
    let shown = queries.origins.iter().zip(&queries.records);
    let shown: Vec<_> =
        shown.map(|(origin, record)| page::picture(origin, shape, record)).collect();
    let mut found = Vec::new();
    for row in &results.matches {
        let pictures = row.iter().map(|m| {
            let record = databases.files[m.found.database].record(m.found.record)?;
            Ok(page::picture(&m.origin, shape, &record))
        });
        let pictures: Result<Vec<_>, super::records::RecordError> = pictures.collect();
        found.push(pictures.map_err(|e| e.to_string())?);
    }
    Ok(page::page(results, &shown, &found))
}

fn write_search(
    job: &Search,
    session: &Session,
    queries: &QuerySet,
    databases: &Databases,
    took: Duration,
    err: &mut dyn Write,
) -> Result<(), Box<dyn std::error::Error>> {
    let records: u64 = databases.files.iter().map(|f| f.header.count).sum();
    let bytes: u64 =
        databases.files.iter().map(|f| f.header.count * u64::from(f.header.stride)).sum();
    let (seconds, count, warps) = (took.as_secs_f64(), queries.records.len(), job.device.warps);
    let stats = session.stats()?;
    let way = if job.task.order == Order::First { "at most " } else { "" };
    writeln!(
        err,
        "compared: {count} queries with {way}{records} records, {bytes} bytes in {seconds:.3} s \
         ({:.2} GB/s), {} warps",
        bytes as f64 / seconds / 1e9,
        warps.count
    )?;
    write_stats(&stats, err)?;
    write_counts(&session.counts_by_kernel(), err)?;
    Ok(())
}
