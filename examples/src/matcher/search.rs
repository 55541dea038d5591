//! A search: what there is to do, and the device that does it.

use std::cmp::Ordering;
use std::os::unix::ffi::OsStrExt;

use gpu_host::{HostError, LaunchConfig, LaunchReport, Session};
use gpu_kernels::matcher::{CHANGED, Database, MatcherArgs, Order, Ranking, Strip, matcher};

use super::records::{RecordError, RecordFile};

/// What to find.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// The greatest squared distance of a match.
    pub limit: u32,
    /// Which matches are better.
    pub order: Order,
    /// How many to keep for each query.
    pub keep: u32,
}

impl Task {
    /// The greatest square of an integer's root that is at most `threshold`.
    pub fn limit(threshold: f64) -> u32 {
        // Saturates: no distance is greater.
        (threshold * threshold).floor() as u32
    }
}

/// A record that matches a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// The number of its database.
    pub database: usize,
    /// Its number in there.
    pub record: u64,
    /// The square of the distance.
    pub squared: u32,
}

impl Match {
    /// The distance.
    pub fn distance(&self) -> f64 {
        f64::from(self.squared).sqrt()
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The device failed.
    #[error("{0}")]
    Device(#[from] HostError),
    /// The host could not read a database.
    #[error("{0}")]
    Records(#[from] RecordError),
    /// The device could not read a database.
    #[error("{path}: {why}")]
    Database {
        /// Its file.
        path: String,
        /// Why, with the remedy.
        why: String,
    },
    /// Numbers of records have 32 bits.
    #[error("{0} records are more than one search can number: search the databases in parts")]
    TooMany(u64),
}

/// The warps of a launch.
#[derive(Clone, Copy, Debug)]
pub struct Warps {
    /// How many.
    pub count: u32,
    /// Threads of each.
    pub lanes: u32,
}

impl Warps {
    /// Several warps to a block where they are whole.
    fn shape(self) -> (u32, u32) {
        let per_block = if self.lanes == 32 { self.count.min(4) } else { 1 };
        (self.count.div_ceil(per_block), per_block * self.lanes)
    }
}

/// The numbers of the first records, and of all of them.
pub(super) fn firsts(databases: &[RecordFile]) -> Result<Vec<u32>, SearchError> {
    let mut sum = 0u64;
    let mut firsts = Vec::with_capacity(databases.len());
    for database in databases {
        firsts.push(u32::try_from(sum).map_err(|_| SearchError::TooMany(sum))?);
        sum += database.header.count;
    }
    u32::try_from(sum).map_err(|_| SearchError::TooMany(sum))?;
    Ok(firsts)
}

/// The match that a key stands for.
pub(super) fn decode(order: Order, key: u64, firsts: &[u32]) -> Match {
    let (squared, number) = order.parts(key);
    // The last that begins at or before it: those without records begin where the next one does.
    let database = firsts.partition_point(|first| *first <= number) - 1;
    Match { database, record: u64::from(number - firsts[database]), squared }
}

/// What a search came to.
pub struct Answer {
    /// The matches of each query, best first.
    pub matches: Vec<Vec<Match>>,
    /// What the launch was.
    pub report: LaunchReport,
}

/// Looks for `count` queries, as [`super::library::strips`] lays them out, in all databases.
///
/// # Errors
/// [`SearchError`]; there is no part of an answer.
pub fn search(
    session: &Session,
    databases: &[RecordFile],
    queries: &[Strip],
    count: usize,
    task: &Task,
    warps: Warps,
) -> Result<Answer, SearchError> {
    let firsts = firsts(databases)?;
    let mut paths = Vec::new();
    let mut table = Vec::new();
    for (file, &first) in databases.iter().zip(&firsts) {
        let path = file.path.as_os_str().as_bytes();
        let (path_at, path_len) = (paths.len() as u32, path.len() as u32);
        table.push(Database { header: file.header, first, path_at, path_len, reserved: 0 });
        paths.extend_from_slice(path);
    }
    let (blocks, threads) = warps.shape();
    let strips = databases.first().map_or(0, |file| file.header.strips());
    let rooms = strips * blocks as usize * threads.div_ceil(32) as usize;
    let (table, paths) = (session.alloc_from(&table)?, session.alloc_from(&paths)?);
    let problems = session.alloc::<u32>(databases.len())?;
    let queries = session.alloc_from(queries)?;
    let matches = session.alloc::<u64>(count * task.keep as usize)?;
    let taken = session.alloc::<u64>(1)?;
    let rooms = session.alloc::<Strip>(rooms)?;
    let args = MatcherArgs {
        fs: session.fs(),
        databases: table.slice(),
        paths: paths.slice(),
        problems: problems.slice(),
        queries: queries.slice(),
        matches: matches.slice(),
        taken: taken.slice(),
        rooms: rooms.slice(),
        count: count as u32,
        keep: task.keep,
        limit: task.limit,
        order: task.order as u32,
    };
    let report = session.run(&matcher, LaunchConfig::new(blocks, threads), args)?;
    for (file, problem) in databases.iter().zip(problems.to_vec()?) {
        let why = match problem.cmp(&CHANGED) {
            _ if problem == 0 => continue,
            Ordering::Less => std::io::Error::from_raw_os_error(problem as i32).to_string(),
            _ => "it has changed while it was read; run this again".into(),
        };
        return Err(SearchError::Database { path: file.path.display().to_string(), why });
    }
    let words = matches.to_vec()?;
    let matches = words
        .chunks(task.keep as usize)
        .map(|words| Ranking::keys(words).map(|key| decode(task.order, key, &firsts)).collect());
    Ok(Answer { matches: matches.collect(), report })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_exact() {
        for (threshold, limit) in
            [(0.0, 0), (0.99, 0), (1.0, 1), (1.5, 2), (65279.0, 4_261_347_841), (1e9, u32::MAX)]
        {
            assert_eq!(Task::limit(threshold), limit, "{threshold}");
        }
    }

    #[test]
    fn numbers_lead_back_to_records() {
        // The second database is empty.
        let firsts = [0, 10, 10, 15];
        for (number, database, record) in [(0, 0, 0), (9, 0, 9), (10, 2, 0), (14, 2, 4), (15, 3, 0)]
        {
            for order in [Order::Best, Order::First] {
                let found = decode(order, order.key(77, number), &firsts);
                assert_eq!(found, Match { database, record, squared: 77 });
            }
        }
    }

    #[test]
    fn launches_have_the_warps_that_were_asked_for() {
        for (count, lanes, shape) in
            [(8, 1, (8, 1)), (8, 32, (2, 128)), (3, 32, (1, 96)), (5, 32, (2, 128)), (2, 7, (2, 7))]
        {
            assert_eq!(Warps { count, lanes }.shape(), shape);
        }
    }
}
