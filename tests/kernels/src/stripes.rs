//! Programs in which many threads write one file. What must come of it is plain to the host: byte `i` is the
//! pattern's.
//!
//! Results: as in [`storms`](crate::storms).

use super::{Job, pattern};
use crate::storms::{DONE, FAILED, OTHER, WRONG};
use gpu_rt::{Thread, thread};
use gpufs::{Errno, Eviction, File, Fs, OpenOptions, PageIndex};

/// Thread `i` of `n` writes the pieces `i`, `i + n`, … of path 0, in an order of its own. `params`: the seed;
/// bytes of a piece; bytes of the file; and packed: 7…0 how many pieces there are for each that this
/// launch writes, 15…8 which of those (other devices write the others), 16 whether by views, 17 whether some
/// threads call `sync` in between, 18 whether the file is opened anew for each piece.
pub const PROGRAM_STRIPES: u32 = 200;
/// Every thread appends `params[1]` records of 16 bytes to path 0, each with its number `params[0]`, the thread's,
/// and the record's.
pub const PROGRAM_APPEND: u32 = 201;
/// Every thread tries to make path 0: counter 4 counts those who have made it, the others must see `EEXIST`.
pub const PROGRAM_CREATE_NEW: u32 = 202;

pub(super) fn run<I: PageIndex, E: Eviction>(fs: Fs<I, E>, job: &Job) {
    let outcome = match job.program {
        PROGRAM_STRIPES => stripes(fs, job),
        PROGRAM_APPEND => append(fs, job),
        PROGRAM_CREATE_NEW => create_new(fs, job),
        _ => Err(Errno::ENOSYS),
    };
    match outcome {
        Ok(()) => job.count(DONE, 1),
        Err(e) => job.fail(FAILED, e),
    }
}

fn stripes<I: PageIndex, E: Eviction>(fs: Fs<I, E>, job: &Job) -> Result<(), Errno> {
    let [_, piece, len, packed] = job.params;
    let (shares, share) = (packed & 0xff, packed >> 8 & 0xff);
    let by_view = packed >> 16 & 1 != 0;
    let syncs = packed >> 17 & 1 != 0 && thread::index().is_multiple_of(3);
    let anew = packed >> 18 & 1 != 0;
    let options = OpenOptions::new().create();
    let mut file = fs.open(&Thread, job.path(0), options)?;
    // All of a launch's pieces, by number: every `shares`th of the file's.
    let pieces = len.div_ceil(piece);
    let mine = pieces.saturating_sub(share).div_ceil(shares);
    let (n, i) = (thread::count(), thread::index());
    let rounds = mine.saturating_sub(i).div_ceil(n);
    for round in 0..rounds {
        // Odd threads go backwards.
        let round = if i.is_multiple_of(2) { round } else { rounds - 1 - round };
        let offset = ((round * n + i) * shares + share) * piece;
        let bytes = piece.min(len - offset) as usize;
        if anew {
            file.close(&Thread)?;
            file = fs.open(&Thread, job.path(0), options)?;
        }
        if by_view && offset + bytes as u64 <= file.size() {
            by_mapping(&file, job, offset, bytes)?;
        } else {
            by_writing(&file, job, offset, bytes)?;
        }
        if syncs && round % 5 == 2 {
            file.sync(&Thread)?;
        }
    }
    file.close(&Thread)
}

fn by_writing<I: PageIndex, E: Eviction>(
    file: &File<I, E>,
    job: &Job,
    offset: u64,
    len: usize,
) -> Result<(), Errno> {
    let mut done = 0;
    while done < len {
        let mut buf = [0u8; 64];
        let n = (len - done).min(64);
        let at = offset + done as u64;
        for (byte, at) in buf[..n].iter_mut().zip(at..) {
            *byte = pattern(job.params[0], at);
        }
        let wrote = file.write_at(&Thread, &buf[..n], at)?;
        job.count(WRONG, (n - wrote) as u64);
        // What this thread has written it can read at once.
        let mut again = [0u8; 64];
        let read = file.read_at(&Thread, &mut again[..n], at)?;
        job.count(WRONG, u64::from(read != n || again[..n] != buf[..n]));
        done += n;
    }
    Ok(())
}

fn by_mapping<I: PageIndex, E: Eviction>(
    file: &File<I, E>,
    job: &Job,
    offset: u64,
    len: usize,
) -> Result<(), Errno> {
    let view = file.map_mut(&Thread, offset, len)?;
    let mut at = offset;
    for piece in view.pieces() {
        for i in 0..piece.len() {
            // SAFETY: within the piece; no other thread writes these bytes.
            unsafe { piece.as_ptr().add(i).write(pattern(job.params[0], at)) };
            at += 1;
        }
    }
    view.unmap()
}

fn append<I: PageIndex, E: Eviction>(fs: Fs<I, E>, job: &Job) -> Result<(), Errno> {
    let [device, records, ..] = job.params;
    let file = fs.open(&Thread, job.path(0), OpenOptions::new().create().append())?;
    for record in 0..records {
        let numbers = [device as u32, thread::index() as u32, record as u32, !0];
        let at = file.append(&Thread, bytemuck::bytes_of(&numbers))?;
        job.count(WRONG, u64::from(!at.is_multiple_of(16)));
    }
    file.close(&Thread)
}

fn create_new<I: PageIndex, E: Eviction>(fs: Fs<I, E>, job: &Job) -> Result<(), Errno> {
    match fs.open(&Thread, job.path(0), OpenOptions::new().create_new()) {
        Ok(file) => {
            job.count(OTHER, 1);
            file.close(&Thread)
        }
        Err(Errno::EEXIST) => Ok(()),
        Err(e) => Err(e),
    }
}
