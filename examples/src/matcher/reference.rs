//! The same search by plain threads: what the kernel's answers and times are compared with.
//!
//! It does what one would do on a processor: each thread reads the next piece of a file into a buffer that
//! stays in its caches, compares strips with vector instructions, ends where a distance is too great, and
//! shares with the others how good a match has to be.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use gpu_kernels::matcher::{Order, Strip};
use gpu_rt::{Wide, wide};

use super::records::RecordFile;
use super::search::{Match, SearchError, Task, decode, firsts};

/// Bytes that a thread reads at a time, at least a record: its core's own cache holds them.
const PIECE: usize = 128 << 10;

/// The matches of each query, best first, by `threads` threads. Queries are laid out as
/// [`super::library::strips`] does.
///
/// # Errors
/// [`SearchError`].
pub fn search(
    databases: &[RecordFile],
    queries: &[Strip],
    count: usize,
    task: &Task,
    threads: usize,
) -> Result<Vec<Vec<Match>>, SearchError> {
    let firsts = firsts(databases)?;
    let mut pieces = Vec::new();
    for (number, file) in databases.iter().enumerate() {
        let stride = file.header.stride as usize;
        let most = (PIECE / stride).max(1);
        let all = file.header.count as usize;
        let of = |start| (number, start, most.min(all - start));
        pieces.extend((0..all).step_by(most).map(of));
    }
    let next = AtomicUsize::new(0);
    let bars: Vec<AtomicU64> = (0..count).map(|_| AtomicU64::new(u64::MAX)).collect();
    let kept = Mutex::new(vec![Vec::new(); count]);
    let work = || {
        let mut buffer = Vec::<Strip>::new();
        let mut mine = vec![Vec::new(); count];
        while let Some(&(database, start, records)) =
            pieces.get(next.fetch_add(1, Ordering::Relaxed))
        {
            let file = &databases[database];
            let strips = file.header.strips();
            buffer.resize(records * strips, bytemuck::Zeroable::zeroed());
            file.read(start as u64, bytemuck::cast_slice_mut(&mut buffer))?;
            wide(Piece {
                records: &buffer,
                strips,
                used: file.header.used_strips(),
                first: firsts[database] + start as u32,
                queries,
                task,
                bars: &bars,
                kept: &mut mine,
            });
        }
        let mut all = kept.lock().unwrap_or_else(|e| e.into_inner());
        all.iter_mut().zip(mine).for_each(|(all, mine)| all.extend(mine));
        Ok::<_, SearchError>(())
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let own = work();
        others.into_iter().fold(own, |all, other| {
            all.and(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    })?;
    let kept = kept.into_inner().unwrap_or_else(|e| e.into_inner());
    let matches = kept.into_iter().map(|mut keys: Vec<u64>| {
        keys.sort_unstable();
        keys.truncate(task.keep as usize);
        keys.into_iter().map(|key| decode(task.order, key, &firsts)).collect()
    });
    Ok(matches.collect())
}

/// Records to compare with all queries.
struct Piece<'a> {
    records: &'a [Strip],
    strips: usize,
    used: usize,
    first: u32,
    queries: &'a [Strip],
    task: &'a Task,
    /// For each query, the key that a match has to be below.
    bars: &'a [AtomicU64],
    /// For each query, the keys that this thread keeps, in order.
    kept: &'a mut [Vec<u64>],
}

impl Wide for Piece<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let count = self.bars.len();
        for (number, record) in (self.first..).zip(self.records.chunks_exact(self.strips)) {
            for query in 0..count {
                let bar = self.bars[query].load(Ordering::Relaxed);
                if self.task.order.key(0, number) >= bar {
                    continue;
                }
                let limit = match self.task.order {
                    Order::Best => self.task.limit.min((bar >> 32) as u32),
                    Order::First => self.task.limit,
                };
                let strips = self.queries[query..].iter().step_by(count);
                let mut sum = 0;
                for (a, b) in record[..self.used].iter().zip(strips) {
                    let squares = a.0.iter().zip(&b.0).map(|(a, b)| {
                        let d = i16::from(*a) - i16::from(*b);
                        (i32::from(d) * i32::from(d)) as u32
                    });
                    sum += squares.sum::<u32>();
                    if sum > limit {
                        break;
                    }
                }
                if sum <= limit {
                    let (keys, keep) = (&mut self.kept[query], self.task.keep as usize);
                    let key = self.task.order.key(sum, number);
                    keys.insert(keys.partition_point(|k| *k < key), key);
                    keys.truncate(keep);
                    if keys.len() == keep {
                        self.bars[query].fetch_min(keys[keep - 1], Ordering::Relaxed);
                    }
                }
            }
        }
    }
}
