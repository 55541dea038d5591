//! Looking for images: the example `matcher` beside the host's threads, which do the same with the same
//! files and as many cores.

use super::{Measure, no_commands};
use crate::Result;
use crate::row::{Aim, Better, Row};
use crate::scale::Scale;
use crate::stats::{Side, in_turns};
use gpu_examples::matcher::generate::Plan;
use gpu_examples::matcher::library::{self, Databases, QuerySet};
use gpu_examples::matcher::reference;
use gpu_examples::matcher::search::{self, Match, Task, Warps};
use gpu_host::Session;
use gpu_kernels::matcher::{Order, Shape};
use std::path::PathBuf;
use std::time::Instant;

/// Images in databases larger than the cache.
pub(crate) const MATCHER: Measure = Measure {
    name: "matcher",
    what: "32 images looked for in databases four times as large as the page cache: the nearest, and the first",
    commands: no_commands,
    run: measure,
};

const SHAPE: Shape = Shape { width: 64, height: 64, channels: 1 };
const RECORD: u64 = 4096;
const DATABASES: u64 = 4;
const QUERIES: u64 = 32;
/// What is planted is nearer, but for the copies with most noise.
const THRESHOLD: f64 = 1000.0;
const PAGE: u32 = 256 << 10;

/// The databases of this scale, made if they are not there.
fn data(scale: &Scale) -> Result<(Databases, QuerySet)> {
    let dir = scale.dir.join("matcher");
    let images = scale.images / DATABASES;
    let plan = Plan {
        images,
        databases: DATABASES,
        queries: QUERIES,
        seed: 1,
        shape: SHAPE,
        pictures: false,
    };
    // Written last, so that what it describes is whole.
    let (note, made) = (dir.join("made.txt"), format!("{plan:?}\n"));
    if std::fs::read_to_string(&note).is_ok_and(|text| text == made) {
        return open(&dir);
    }
    eprintln!("  making {} MB of images in {}", scale.images * RECORD / 1_000_000, dir.display());
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    plan.make(&dir)?;
    std::fs::write(note, made)?;
    // On the disk, so that no write-back runs beside the measures.
    std::process::Command::new("sync").status()?;
    open(&dir)
}

fn open(dir: &std::path::Path) -> Result<(Databases, QuerySet)> {
    let paths = |name: &str| -> Vec<PathBuf> { vec![dir.join(name)] };
    Ok((
        library::databases(&paths("databases"), SHAPE)?,
        library::queries(&paths("queries"), SHAPE)?,
    ))
}

fn measure(scale: &Scale) -> Result<Vec<Row>> {
    let (databases, queries) = data(scale)?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let warps = Warps { count: 2 * threads as u32, lanes: 1 };
    let bytes = scale.images * RECORD;
    let cache = (bytes / 4).max(8 * u64::from(PAGE));
    let strips = library::strips(&queries.records);
    let count = queries.records.len();
    let mut rows = Vec::new();
    for (name, order, keep) in [
        ("matcher", Order::Best, 1),
        ("matcher-5", Order::Best, 5),
        ("matcher-first", Order::First, 1),
    ] {
        let task = Task { limit: Task::limit(THRESHOLD), order, keep };
        let expected = reference::search(&databases.files, &strips, count, &task, threads)?;
        let same = |found: Vec<Vec<Match>>, seconds: f64| {
            let odd = found.iter().zip(&expected).position(|(found, expected)| found != expected);
            match odd {
                None if found.len() == expected.len() => Ok(seconds),
                odd => Err(format!("{name}: query {odd:?} has other matches by the device")),
            }
        };
        // One of four is in no database; something may resemble it all the same.
        if expected.iter().enumerate().any(|(query, m)| query % 4 != 3 && m.is_empty()) {
            return Err("not all of the images that were planted were found".into());
        }
        let ours: Side<'_> = Box::new(|| {
            let start = Instant::now();
            let session = Session::builder().page_size(PAGE).cache_size(cache).build()?;
            let answer = search::search(&session, &databases.files, &strips, count, &task, warps)?;
            Ok(same(answer.matches, start.elapsed().as_secs_f64())?)
        });
        let peer: Side<'_> = Box::new(|| {
            let start = Instant::now();
            let matches = reference::search(&databases.files, &strips, count, &task, threads)?;
            Ok(same(matches, start.elapsed().as_secs_f64())?)
        });
        let [ours, peer] = in_turns(scale.rounds, [ours, peer])?;
        let row = Row::new(name, "s", Better::Less, ours)
            .peer(format!("{threads} threads of the host, vector instructions"), peer)
            .note(format!(
                "{count} queries, {} MB of databases, cache {} MB, {keep} kept for each, {} KiB pages",
                bytes / 1_000_000,
                cache / 1_000_000,
                PAGE >> 10
            ));
        // The others end early, or differ little: their ratio says no more.
        rows.push(if name == MATCHER.name { row.aim(Aim::Ratio(0.9)) } else { row });
    }
    Ok(rows)
}
