//! The kernel: every warp takes pieces of the databases, one after the other, and compares what is in
//! them with all queries.

use core::cell::Cell;

use gpu_rt::atomic::{DeviceAtomicU32, DeviceAtomicU64, Ordering};
use gpu_rt::{Group, Pod, Warp, Zeroable, ballot, kernel, thread, wide};
use gpufs::{DeviceSlice, Errno, File, Fs, OpenOptions};

use super::compare::{Compare, Queries};
use super::format::{Header, Strip};
use super::ranking::{Order, Rankings};

/// A record file to look through.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Database {
    /// What it begins with, as the host has seen and accepted it.
    pub header: Header,
    /// The number of its first record among those of all databases.
    pub first: u32,
    /// Where its path lies among the bytes of all paths.
    pub path_at: u32,
    /// Bytes of its path.
    pub path_len: u32,
    /// Zero.
    pub reserved: u32,
}

/// What is wrong with a database, when it is no error number: it is not what the host has seen.
pub const CHANGED: u32 = 1 << 16;

/// Arguments of [`matcher`].
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct MatcherArgs {
    /// The file system.
    pub fs: Fs,
    /// Where to look, in order; all with records of the same shape.
    pub databases: DeviceSlice<Database>,
    /// The bytes of all paths.
    pub paths: DeviceSlice<u8>,
    /// A zeroed word for each database: what is wrong with it, as an error number or [`CHANGED`].
    pub problems: DeviceSlice<u32>,
    /// What to look for: see [`Queries`].
    pub queries: DeviceSlice<Strip>,
    /// [`MatcherArgs::keep`] zeroed words for each query: see [`Ranking`](super::Ranking).
    pub matches: DeviceSlice<u64>,
    /// A zeroed word: pieces that were taken.
    pub taken: DeviceSlice<u64>,
    /// Where records are longer than a page, room for one for each warp.
    pub rooms: DeviceSlice<Strip>,
    /// How many queries there are.
    pub count: u32,
    /// How many matches a query keeps, at least one.
    pub keep: u32,
    /// The greatest squared distance of a match.
    pub limit: u32,
    /// An [`Order`].
    pub order: u32,
}

impl MatcherArgs {
    fn rankings(&self) -> Rankings<'_> {
        let (words, keep) = (self.matches.as_ptr().cast(), self.keep as usize);
        assert!(
            self.matches.len() == self.count as usize * keep,
            "the host gave other room for matches"
        );
        // SAFETY: zeroed by the host, and used as atomic words by every thread.
        Rankings { words: unsafe { core::slice::from_raw_parts(words, self.matches.len()) }, keep }
    }

    fn report(&self, database: usize, problem: u32) {
        assert!(database < self.problems.len(), "the host gave too little room for problems");
        // SAFETY: in range, zeroed by the host, and used as an atomic word by every thread.
        let word = unsafe { &*self.problems.as_ptr().add(database).cast::<DeviceAtomicU32>() };
        word.fetch_max(problem, Ordering::Relaxed);
    }

    /// The number of a piece for the warp, each once and in order.
    fn take(&self, warp: &Warp) -> u64 {
        assert!(!self.taken.is_empty(), "the host gave no counter");
        // SAFETY: in range, zeroed by the host, and used as an atomic word by every thread.
        let taken = unsafe { &*self.taken.as_ptr().cast::<DeviceAtomicU64>() };
        warp.broadcast(if warp.is_leader() { taken.fetch_add(1, Ordering::Relaxed) } else { 0 })
    }

    /// Whether no match of a record from `number` on would be kept, nor of any later one.
    fn is_settled(&self, warp: &Warp, number: u32) -> bool {
        let best = Order::from_raw(self.order).key(0, number);
        let rankings = self.rankings();
        let mine = (warp.rank()..self.count).step_by(warp.size() as usize);
        let open = mine.map(|query| rankings.of(query as usize)).any(|r| best < r.bar());
        ballot(warp.mask(), open) == 0
    }
}

/// A database cut into pieces: a page of the cache each, or a record where those are longer.
struct Pieces<'a> {
    header: &'a Header,
    page: u64,
}

impl Pieces<'_> {
    /// Records that a piece has room for.
    fn room(&self) -> u64 {
        (self.page / u64::from(self.header.stride)).max(1)
    }

    fn count(&self) -> u64 {
        (self.header.lead_records() + self.header.count).div_ceil(self.room())
    }

    fn offset(&self, piece: u64) -> u64 {
        piece * self.len() as u64
    }

    fn len(&self) -> usize {
        (self.room() * u64::from(self.header.stride)) as usize
    }

    /// The first record of a piece, where it lies in there, and how many there are.
    fn records(&self, piece: u64) -> (u64, usize, usize) {
        let (lead, room) = (self.header.lead_records(), self.room());
        let start = (piece * room).max(lead);
        let end = ((piece + 1) * room).min(lead + self.header.count);
        (start - lead, (start - piece * room) as usize, end.saturating_sub(start) as usize)
    }
}

/// Looks through all databases. Launched with any number of warps, of any size, in blocks of at most 256 threads.
#[kernel(max_threads = 256)]
pub fn matcher(args: MatcherArgs) {
    let warp = Warp::all();
    // SAFETY: the host wrote the table before the launch and leaves it alone until its end.
    let databases = unsafe { args.databases.as_slice() };
    let turn = Turn { args: &args, warp, piece: Cell::new(args.take(&warp)), before: Cell::new(0) };
    for (number, database) in databases.iter().enumerate() {
        match turn.database(database) {
            Ok(More::Perhaps) => {}
            Ok(More::No) => return,
            Err(problem) => {
                if warp.is_leader() {
                    args.report(number, problem);
                }
                return;
            }
        }
    }
}

/// Whether there may be matches in what follows.
enum More {
    Perhaps,
    No,
}

/// Where a warp is. In cells: on a GPU it is read anew after each call rather than kept in registers across all that a
/// read of a page may come to.
struct Turn<'a> {
    args: &'a MatcherArgs,
    warp: Warp,
    /// The piece whose turn it is, and those of the databases before.
    piece: Cell<u64>,
    before: Cell<u64>,
}

impl Turn<'_> {
    /// Takes pieces of a database for as long as the next one is its. An error is an error number, or [`CHANGED`].
    #[inline(never)]
    fn database(&self, database: &Database) -> Result<More, u32> {
        let pieces = self.pieces(database);
        let piece = self.piece.get() - self.before.get();
        if piece < pieces.count() {
            let first = pieces.records(piece).0 as u32;
            if self.args.is_settled(&self.warp, database.first + first) {
                return Ok(More::No);
            }
            let file = self.open(database).map_err(Errno::raw)?;
            let outcome = self.look_through(database, &file);
            file.close(&self.warp).ok();
            outcome?;
        }
        self.before.update(|before| before + pieces.count());
        Ok(More::Perhaps)
    }

    fn pieces<'a>(&self, database: &'a Database) -> Pieces<'a> {
        Pieces { header: &database.header, page: self.args.fs.page_size() as u64 }
    }

    fn open(&self, database: &Database) -> Result<File, Errno> {
        let path = self.args.paths.slice(database.path_at as usize, database.path_len as usize);
        // SAFETY: the host wrote the paths before the launch and leaves them alone until its end.
        let path = unsafe { path.as_slice() };
        // The warps go through it side by side, and nobody comes back to a page.
        self.args.fs.open(&self.warp, path, OpenOptions::new().once().read_ahead(false))
    }

    fn look_through(&self, database: &Database, file: &File) -> Result<(), u32> {
        loop {
            let piece = self.piece.get() - self.before.get();
            if piece >= self.pieces(database).count() {
                return Ok(());
            }
            self.piece(database, file, piece)?;
            self.piece.set(self.args.take(&self.warp));
        }
    }

    /// Compares the records of a piece with all queries.
    ///
    /// Not inlined: on a GPU its many values would be the loop's, and spilled with it.
    #[inline(never)]
    fn piece(&self, database: &Database, file: &File, piece: u64) -> Result<(), u32> {
        let pieces = self.pieces(database);
        let (first, ..) = pieces.records(piece);
        if self.args.is_settled(&self.warp, database.first + first as u32) {
            return Ok(());
        }
        let (offset, len) = (pieces.offset(piece), pieces.len());
        if len as u64 <= pieces.page {
            let view = file.map(&self.warp, offset, len).map_err(Errno::raw)?;
            return self.compare(database, piece, view.as_slice().unwrap_or(&[]));
        }
        // A record of several pages is put together first.
        let room = self.room(database);
        let read = file.read_at(&self.warp, room, offset).map_err(Errno::raw)?;
        // SAFETY: this warp's alone, which has filled it and met since, and does not write it before it
        // has met again.
        let bytes = unsafe { self.room(database).slice(0, read).as_slice() };
        let outcome = self.compare(database, piece, bytes);
        self.warp.sync();
        outcome
    }

    /// The warp's room for a record.
    #[inline(never)]
    fn room(&self, database: &Database) -> DeviceSlice<u8> {
        let strips = database.header.strips();
        let warps_of_block = thread::block_dim().count().div_ceil(32);
        let number = thread::grid_dim().linear(thread::block_idx()) * warps_of_block;
        let number = number as usize + thread::warp_id() as usize;
        let room = self.args.rooms.slice(number * strips, strips);
        assert!(room.len() == strips, "the host gave too little room for records");
        DeviceSlice::new(room.addr(), u64::from(database.header.stride))
    }

    /// Compares the records in the `bytes` of a piece.
    #[inline(never)]
    fn compare(&self, database: &Database, piece: u64, bytes: &[u8]) -> Result<(), u32> {
        let (args, header) = (self.args, &database.header);
        // The header is the beginning of the first piece. What it says was counted on.
        if piece == 0 && !bytes.starts_with(bytemuck::bytes_of(header)) {
            return Err(CHANGED);
        }
        let (first, skip, count) = self.pieces(database).records(piece);
        let stride = header.stride as usize;
        let records = bytes.get(skip * stride..(skip + count) * stride).ok_or(CHANGED)?;
        // SAFETY: the host wrote the queries before the launch and leaves them alone until its end.
        let queries = Queries::new(unsafe { args.queries.as_slice() }, args.count as usize);
        wide(Compare {
            queries,
            rankings: args.rankings(),
            order: Order::from_raw(args.order),
            limit: args.limit,
            // Pages and rooms are aligned to more than a strip is.
            records: bytemuck::try_cast_slice(records).map_err(|_| CHANGED)?,
            stride: header.strips(),
            used: header.used_strips(),
            first: database.first + first as u32,
            rank: self.warp.rank() as usize,
            threads: self.warp.size() as usize,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matcher::Shape;

    #[test]
    fn pieces_have_every_record_once() {
        for (side, page) in [(64, 65536), (64, 4096), (16, 4096), (128, 4096), (100, 65536)] {
            for count in [0, 1, 15, 16, 17, 100] {
                let shape = Shape { width: side, height: side, channels: 1 };
                let header = Header::new(shape, count, 0, 0).unwrap();
                let pieces = Pieces { header: &header, page };
                let mut next = 0;
                for piece in 0..pieces.count() {
                    let (first, skip, records) = pieces.records(piece);
                    assert!(records == 0 || first == next, "{side} {page} {count} {piece}");
                    let at = pieces.offset(piece) + skip as u64 * u64::from(header.stride);
                    assert!(records == 0 || at == header.lead() + next * u64::from(header.stride));
                    assert!((skip + records) * header.stride as usize <= pieces.len());
                    next += records as u64;
                }
                assert_eq!(next, count);
                assert_eq!(pieces.offset(0), 0, "the header is in the first piece");
            }
        }
    }
}
