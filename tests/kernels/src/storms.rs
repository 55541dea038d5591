//! Programs in which many threads want the same things at once. They check the bytes themselves.
//!
//! Results: \[threads that did all they should, wrong bytes, failures, the last one's number, …\].

use super::{Job, mismatches, scramble};
use gpu_rt::atomic::Ordering;
use gpu_rt::{Group, Thread, Warp, thread};
use gpufs::{DeviceSlice, Errno, Eviction, File, Fs, OpenOptions, PageIndex, Pending};

/// Every thread opens path 0; when all have it open, each reads a byte, and closes it.
pub const PROGRAM_OPEN_SAME: u32 = 1;
/// Every thread goes to `params[1]` random pages of path 0 (made from seed `params[0]`), by a view
/// or a read that may cross into the next page.
pub const PROGRAM_TOUCH: u32 = 2;
/// Every thread wants every page of path 0, in the same order.
pub const PROGRAM_EVERY_PAGE: u32 = 3;
/// Thread `i` opens path `i`. When all have tried, they close. Counter 4 counts `ENFILE`.
pub const PROGRAM_OPEN_OWN: u32 = 4;
/// One thread pins all `params[1]` frames, and wants another page: counter 4 counts `EBUSY`. It lets
/// go and wants it again.
pub const PROGRAM_PIN_ALL: u32 = 5;
/// Each thread reads path 0 from its beginning to its end, `params[1]` bytes at a time, with
/// [`OpenOptions::once`] if `params[2]` is not 0.
pub const PROGRAM_SEQUENTIAL: u32 = 6;
/// Each thread begins to read pages of path 0 until told `EAGAIN` (counter 4) or eight are under
/// way, then gets all of them, with `try_wait` first.
pub const PROGRAM_ASYNC: u32 = 7;
/// Every warp goes to random pages as warps, next to threads that go alone.
pub const PROGRAM_MIXED: u32 = 8;
/// Each thread opens and closes one of `params[1]` paths, `params[2]` times, and reads a piece of it
/// at a page boundary; the file of path `i` is made from seed `i`.
pub const PROGRAM_CHURN: u32 = 9;
/// Each thread asks the host for nothing, until it is told that there is none: counter 4.
pub const PROGRAM_UNTIL_GONE: u32 = 10;

pub(crate) const DONE: usize = 0;
pub(crate) const WRONG: usize = 1;
pub(crate) const FAILED: usize = 2;
pub(crate) const OTHER: usize = 4;
const GATE: usize = 5;

pub(super) fn run<I: PageIndex, E: Eviction>(fs: Fs<I, E>, job: &Job) {
    let outcome = match job.program {
        PROGRAM_OPEN_SAME => open_same(fs, job),
        PROGRAM_TOUCH => touch(fs, job),
        PROGRAM_EVERY_PAGE => every_page(fs, job),
        PROGRAM_OPEN_OWN => open_own(fs, job),
        PROGRAM_PIN_ALL => pin_all(fs, job),
        PROGRAM_SEQUENTIAL => sequential(fs, job),
        PROGRAM_ASYNC => asynchronous(fs, job),
        PROGRAM_MIXED => mixed(fs, job),
        PROGRAM_CHURN => churn(fs, job),
        PROGRAM_UNTIL_GONE => until_gone(fs, job),
        _ => Err(Errno::ENOSYS),
    };
    match outcome {
        Ok(()) => job.count(DONE, 1),
        Err(e) => job.fail(FAILED, e),
    }
}

/// Waits until every thread of the launch is here: all must be resident.
fn gate(job: &Job) {
    job.count(GATE, 1);
    while job.result(GATE).load(Ordering::Relaxed) < thread::count() {
        gpu_rt::relax();
    }
}

/// Checks `len` bytes at `offset` of a file made from `seed`.
fn check_read<I: PageIndex, E: Eviction>(
    file: &File<I, E>,
    job: &Job,
    seed: u64,
    offset: u64,
    len: usize,
) -> Result<(), Errno> {
    let mut buf = [0u8; 64];
    let len = len.min(64);
    let want = (file.size().saturating_sub(offset)).min(len as u64) as usize;
    let n = file.read_at(&Thread, &mut buf[..len], offset)?;
    job.count(WRONG, mismatches(&buf[..n], seed, offset) + n.abs_diff(want) as u64);
    Ok(())
}

fn open_same<I: PageIndex, E: Eviction>(fs: Fs<I, E>, job: &Job) -> Result<(), Errno> {
    let opened = fs.open(&Thread, job.path(0), OpenOptions::new());
    gate(job);
    let file = opened?;
    let outcome = check_read(&file, job, job.params[0], thread::index() % file.size(), 1);
    file.close(&Thread).ok();
    outcome
}

fn touch<I: PageIndex, E: Eviction>(fs: Fs<I, E>, job: &Job) -> Result<(), Errno> {
    let [seed, rounds, ..] = job.params;
    let file = fs.open(&Thread, job.path(0), OpenOptions::new())?;
    let page = fs.page_size() as u64;
    let outcome = (0..rounds).try_for_each(|round| {
        let random = scramble((thread::index() << 20) | round);
        let number = random % file.size().div_ceil(page);
        if (random >> 40) & 1 == 0 {
            // Up to the end of this page and into the next.
            return check_read(&file, job, seed, (number + 1) * page - (random >> 32) % 40, 64);
        }
        let view = file.map(&Thread, number * page, page as usize)?;
        let bytes = view.as_slice().unwrap_or_default();
        let want = (file.size() - number * page).min(page);
        let (first, last) = (bytes.len().min(16), bytes.len().saturating_sub(16));
        job.count(
            WRONG,
            mismatches(&bytes[..first], seed, number * page)
                + mismatches(&bytes[last..], seed, number * page + last as u64)
                + want.abs_diff(bytes.len() as u64),
        );
        Ok(())
    });
    file.close(&Thread).ok();
    outcome
}

fn every_page<I: PageIndex, E: Eviction>(fs: Fs<I, E>, job: &Job) -> Result<(), Errno> {
    let file = fs.open(&Thread, job.path(0), OpenOptions::new())?;
    let page = fs.page_size() as u64;
    let outcome = (0..file.size().div_ceil(page))
        .rev()
        .try_for_each(|number| check_read(&file, job, job.params[0], number * page, 8));
    file.close(&Thread).ok();
    outcome
}

fn open_own<I: PageIndex, E: Eviction>(fs: Fs<I, E>, job: &Job) -> Result<(), Errno> {
    let opened = fs.open(&Thread, job.path(thread::index() as u32), OpenOptions::new());
    gate(job);
    match opened {
        Ok(file) => {
            file.close(&Thread).ok();
        }
        Err(Errno::ENFILE) => job.count(OTHER, 1),
        Err(e) => return Err(e),
    }
    Ok(())
}

fn pin_all<I: PageIndex, E: Eviction>(fs: Fs<I, E>, job: &Job) -> Result<(), Errno> {
    let [seed, frames, ..] = job.params;
    let file = fs.open(&Thread, job.path(0), OpenOptions::new())?;
    let page = fs.page_size() as u64;
    let mut held: [_; 8] = core::array::from_fn(|_| None);
    for i in 0..frames.div_ceil(8) {
        let count = (frames - i * 8).min(8);
        held[i as usize] = Some(file.map(&Thread, i * 8 * page, (count * page) as usize)?);
    }
    match check_read(&file, job, seed, frames * page, 8) {
        Err(Errno::EBUSY) => job.count(OTHER, 1),
        Err(e) => return Err(e),
        Ok(()) => {}
    }
    drop(held);
    check_read(&file, job, seed, frames * page, 8)?;
    file.close(&Thread).ok();
    Ok(())
}

fn sequential<I: PageIndex, E: Eviction>(fs: Fs<I, E>, job: &Job) -> Result<(), Errno> {
    let [seed, step, once, _] = job.params;
    let options = if once == 0 { OpenOptions::new() } else { OpenOptions::new().once() };
    let file = fs.open(&Thread, job.path(0), options)?;
    let mut at = 0;
    while at < file.size() {
        let view = file.map(&Thread, at, step as usize)?;
        let mut offset = at;
        for bytes in view.slices() {
            job.count(WRONG, mismatches(bytes, seed, offset));
            offset += bytes.len() as u64;
        }
        job.count(WRONG, (at + step).min(file.size()).abs_diff(offset));
        at += step;
    }
    file.close(&Thread).ok();
    Ok(())
}

fn asynchronous<I: PageIndex, E: Eviction>(fs: Fs<I, E>, job: &Job) -> Result<(), Errno> {
    let seed = job.params[0];
    let file = fs.open(&Thread, job.path(0), OpenOptions::new())?;
    let page = fs.page_size() as u64;
    let pages = file.size().div_ceil(page);
    let mut bufs = [[0u8; 48]; 8];
    let mut begun: [Option<(Pending<I, E>, u64)>; 8] = core::array::from_fn(|_| None);
    for (i, (buf, slot)) in bufs.iter_mut().zip(&mut begun).enumerate() {
        let number = (thread::index() * 8 + i as u64) % pages;
        let offset = number * page + 5;
        let to = DeviceSlice::new(buf.as_mut_ptr() as u64, 48);
        // SAFETY: the buffer lives until all are waited for below, and nobody looks at it before.
        match unsafe { file.read_at_async(&Thread, to, offset) } {
            Ok(pending) => *slot = Some((pending, offset)),
            Err(Errno::EAGAIN) => {
                job.count(OTHER, 1);
                check_read(&file, job, seed, offset, 48)?;
            }
            Err(e) => return Err(e),
        }
    }
    for (buf, slot) in bufs.iter().zip(&mut begun) {
        let Some((pending, offset)) = slot.take() else { continue };
        let n = match pending.try_wait(&Thread) {
            Ok(n) => n?,
            Err(pending) => pending.wait(&Thread)?,
        };
        let want = (file.size() - offset).min(48) as usize;
        job.count(WRONG, mismatches(&buf[..n], seed, offset) + n.abs_diff(want) as u64);
    }
    file.close(&Thread).ok();
    Ok(())
}

fn mixed<I: PageIndex, E: Eviction>(fs: Fs<I, E>, job: &Job) -> Result<(), Errno> {
    let [seed, rounds, ..] = job.params;
    let warp = Warp::all();
    let file = fs.open(&warp, job.path(0), OpenOptions::new())?;
    let page = fs.page_size() as u64;
    let pages = file.size().div_ceil(page);
    for round in 0..rounds {
        let random = scramble((round << 20) | (thread::index() / 32));
        let view = file.map(&warp, random % pages * page, 64)?;
        let bytes = view.as_slice().unwrap_or_default();
        job.count(WRONG, mismatches(bytes, seed, random % pages * page));
        drop(view);
        // Some lanes of their own accord, to pages that other lanes want too.
        let alone = scramble(random ^ u64::from(thread::lane_id() / 4));
        if alone & 1 == 0 {
            check_read(&file, job, seed, alone % pages * page, 32)?;
        }
        warp.sync();
    }
    file.close(&warp).ok();
    Ok(())
}

fn churn<I: PageIndex, E: Eviction>(fs: Fs<I, E>, job: &Job) -> Result<(), Errno> {
    let [_, files, rounds, _] = job.params;
    for round in 0..rounds {
        let random = scramble((thread::index() << 20) | round);
        let which = random % files;
        let file = fs.open(&Thread, job.path(which as u32), OpenOptions::new())?;
        let page = fs.page_size() as u64;
        let number = (random >> 32) % file.size().div_ceil(page);
        if (random >> 20) & 3 == 0 {
            file.prefetch(&Thread, number * page, page as usize).ok();
        }
        let outcome = check_read(&file, job, which, number * page + page - 8, 16);
        file.close(&Thread).ok();
        outcome?;
    }
    Ok(())
}

fn until_gone<I: PageIndex, E: Eviction>(fs: Fs<I, E>, job: &Job) -> Result<(), Errno> {
    loop {
        match fs.nop(&Thread) {
            Ok(()) => job.count(GATE, 1),
            Err(Errno::EIO) => {
                job.count(OTHER, 1);
                return Ok(());
            }
            Err(e) => return Err(e),
        }
    }
}
