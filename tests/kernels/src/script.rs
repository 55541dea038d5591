//! A script: operations that one group carries out in their order, with files that stay open from one to the
//! next. So a program's use of a file can be replayed on a plain array of bytes.

use super::{Job, pattern};
use bytemuck::{Pod, Zeroable};
use gpu_rt::atomic::Ordering;
use gpu_rt::{Block, Group, Thread, Warp, thread};
use gpufs::{Batch, DeviceSlice, Errno, Eviction, File, Fs, OpenOptions, PageIndex};

use crate::ops::{GROUP_THREAD, GROUP_WARP, failure};

/// Carries out a script for each group of the launch: those with `index % groups == group`, as
/// [`Line::group`] says.
pub const PROGRAM_SCRIPT: u32 = 100;

/// Opens `path` as file `file`, with `flags`. Result: the size.
pub const OPEN: u32 = 0;
/// Reads `len` bytes at `offset` to `at`. Result: the bytes read.
pub const READ: u32 = 1;
/// Writes `len` bytes of the pattern of `seed` at `offset`, by way of `at`. Result: the bytes written.
pub const WRITE: u32 = 2;
/// Reads by a view.
pub const MAP: u32 = 3;
/// Writes by a view, every `1 + flags`th byte of the range.
pub const MAP_MUT: u32 = 4;
/// [`File::sync`].
pub const SYNC: u32 = 5;
/// [`File::flush`].
pub const FLUSH: u32 = 6;
/// [`File::set_len`] to `offset`.
pub const SET_LEN: u32 = 7;
/// [`File::append`] of `len` bytes of the pattern of `seed`. Result: where.
pub const APPEND: u32 = 8;
/// Closes the file. With [`KEEP`] it can be closed again: once more for each launch that has left it open.
pub const CLOSE: u32 = 9;
/// Result: the size of the open file.
pub const SIZE: u32 = 10;
/// Removes `path`.
pub const UNLINK: u32 = 11;
/// Removes the directory `path`.
pub const RMDIR: u32 = 12;
/// Makes the directory `path`.
pub const MKDIR: u32 = 13;
/// Renames `path` to `other`.
pub const RENAME: u32 = 14;
/// The same, if that name is free.
pub const RENAME_NEW: u32 = 15;
/// As `WRITE`, asynchronously.
pub const WRITE_ASYNC: u32 = 16;
/// Reads by a typed view of values of 12 bytes, from the one that begins at or after `offset` on. Result: the
/// bytes read.
pub const TYPED: u32 = 17;
/// Reads the range in four parts, as one batch.
pub const BATCH: u32 = 18;

/// For `OPEN`: for writing.
pub const WRITES: u32 = 1;
/// For `OPEN`: make it.
pub const CREATE: u32 = 2;
/// For `OPEN`: it must not be there.
pub const CREATE_NEW: u32 = 4;
/// For `OPEN`: cut it.
pub const TRUNCATE: u32 = 8;
/// For `OPEN`: at the end only.
pub const APPENDS: u32 = 16;
/// For `OPEN`: write once.
pub const WRITE_ONCE: u32 = 32;
/// For `OPEN`: temporary.
pub const TEMPORARY: u32 = 64;

/// For `CLOSE`: see there.
pub const KEEP: u32 = 1;

/// Files that a script can have open.
pub const FILES: usize = 4;

/// One line of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Line {
    /// [`OPEN`] to [`BATCH`].
    pub what: u32,
    /// Which group of the launch carries it out.
    pub group: u32,
    /// The number of the open file.
    pub file: u32,
    /// The number of the path.
    pub path: u32,
    /// The number of another path.
    pub other: u32,
    /// What the operation says.
    pub flags: u32,
    /// Where in the file.
    pub offset: u64,
    /// How many bytes.
    pub len: u64,
    /// Where in [`Job::bytes`].
    pub at: u64,
    /// What bytes.
    pub seed: u64,
}

pub(super) fn run<I: PageIndex, E: Eviction>(fs: Fs<I, E>, job: &Job) {
    let block = thread::grid_dim().linear(thread::block_idx());
    let warps = thread::block_dim().count().div_ceil(32);
    match job.group {
        GROUP_THREAD => play(&Thread, fs, job, thread::index()),
        GROUP_WARP => {
            play(&Warp::all(), fs, job, block * warps + u64::from(thread::warp_id()));
        }
        _ => play(&Block, fs, job, block),
    }
}

fn play<G: Group, I: PageIndex, E: Eviction>(group: &G, fs: Fs<I, E>, job: &Job, number: u64) {
    let mut files: [Option<File<I, E>>; FILES] = [None; FILES];
    let lines: DeviceSlice<Line> = job.lines();
    // SAFETY: the host wrote them before the launch and leaves them alone until its end.
    let lines = unsafe { lines.as_slice() };
    for (i, line) in lines.iter().enumerate() {
        if u64::from(line.group) != number {
            continue;
        }
        let outcome = one(group, fs, job, line, &mut files);
        if group.is_leader() {
            job.result(i).store(outcome.unwrap_or_else(failure), Ordering::Relaxed);
        }
    }
}

fn options(flags: u32) -> OpenOptions {
    let mut options = OpenOptions::new();
    let has = |flag| flags & flag != 0;
    if has(WRITES) {
        options = options.write();
    }
    if has(CREATE) {
        options = options.create();
    }
    if has(CREATE_NEW) {
        options = options.create_new();
    }
    if has(TRUNCATE) {
        options = options.truncate();
    }
    if has(APPENDS) {
        options = options.append();
    }
    if has(WRITE_ONCE) {
        options = options.write_once();
    }
    if has(TEMPORARY) {
        options = options.temporary();
    }
    options
}

/// Fills the bytes of a line with what it writes, for the group.
fn fill<G: Group>(group: &G, line: &Line, bytes: DeviceSlice<u8>) {
    if group.is_leader() {
        // SAFETY: these bytes are this line's alone.
        let bytes = unsafe { bytes.as_mut_slice() };
        for (i, byte) in (0..).zip(bytes) {
            *byte = pattern(line.seed, i);
        }
    }
    group.sync();
}

/// Every thread looks at the same values, as the threads of a group do that take turns; the leader keeps them.
fn typed<G: Group, I: PageIndex, E: Eviction>(
    group: &G,
    file: &File<I, E>,
    line: &Line,
    bytes: DeviceSlice<u8>,
) -> Result<u64, Errno> {
    let mut view = file.view::<[u8; 12]>()?;
    let first = line.offset.div_ceil(12);
    let mut done = 0;
    let mut outcome = Ok(());
    for value in view.iter_from(first, 1).take(bytes.len() / 12) {
        match value {
            Ok(value) if group.is_leader() => {
                // SAFETY: these bytes are this line's alone.
                unsafe { bytes.slice(done, 12).as_mut_slice() }.copy_from_slice(&value);
            }
            Ok(_) => {}
            Err(e) => outcome = Err(e),
        }
        done += 12;
    }
    // Four times 2^62 is 0, but there is no such value.
    if view.get(first | 1 << 62) != Ok(None) || view.run(first | 1 << 62) != Ok(&[][..]) {
        outcome = Err(Errno::EPROTO);
    }
    drop(view);
    group.sync();
    outcome.map(|()| done as u64)
}

fn one<G: Group, I: PageIndex, E: Eviction>(
    group: &G,
    fs: Fs<I, E>,
    job: &Job,
    line: &Line,
    files: &mut [Option<File<I, E>>; FILES],
) -> Result<u64, Errno> {
    let bytes = job.bytes.slice(line.at as usize, line.len as usize);
    let unit = |result: Result<(), Errno>| result.map(|()| 0);
    match line.what {
        UNLINK => return unit(fs.unlink(group, job.path(line.path))),
        RMDIR => return unit(fs.rmdir(group, job.path(line.path))),
        MKDIR => return unit(fs.mkdir(group, job.path(line.path))),
        RENAME => return unit(fs.rename(group, job.path(line.path), job.path(line.other))),
        RENAME_NEW => {
            return unit(fs.rename_new(group, job.path(line.path), job.path(line.other)));
        }
        OPEN => {
            let file = fs.open(group, job.path(line.path), options(line.flags))?;
            files[line.file as usize] = Some(file);
            return Ok(file.size());
        }
        _ => {}
    }
    let file = files[line.file as usize].ok_or(Errno::ENOENT)?;
    match line.what {
        READ => file.read_at(group, bytes, line.offset).map(|n| n as u64),
        WRITE => {
            fill(group, line, bytes);
            file.write_at(group, bytes, line.offset).map(|n| n as u64)
        }
        WRITE_ASYNC => {
            fill(group, line, bytes);
            // SAFETY: these bytes are this line's alone, and it waits.
            match unsafe { file.write_at_async(group, bytes, line.offset) } {
                Ok(pending) => pending.wait(group),
                Err(Errno::EAGAIN) => file.write_at(group, bytes, line.offset),
                Err(e) => Err(e),
            }
            .map(|n| n as u64)
        }
        TYPED => typed(group, &file, line, bytes),
        BATCH => {
            let mut batch = Batch::<4, I, E>::new();
            let part = bytes.len().div_ceil(4).max(1);
            for i in 0..4 {
                let (buf, at) = (bytes.slice(i * part, part), line.offset + (i * part) as u64);
                // SAFETY: these bytes are this line's alone, and it waits.
                unsafe { batch.read_at(group, &file, buf, at) }?;
            }
            batch.submit(group)?;
            Ok(batch.wait(group)?.iter().sum::<usize>() as u64)
        }
        MAP => {
            let view = file.map(group, line.offset, line.len as usize)?;
            let mut done = 0;
            for piece in view.slices() {
                if group.is_leader() {
                    // SAFETY: these bytes are this line's alone.
                    unsafe { bytes.slice(done, piece.len()).as_mut_slice() }.copy_from_slice(piece);
                }
                done += piece.len();
            }
            Ok(done as u64)
        }
        MAP_MUT => {
            let view = file.map_mut(group, line.offset, line.len as usize)?;
            let mut done = 0;
            for piece in view.pieces() {
                if group.is_leader() {
                    // SAFETY: nobody else uses this file's bytes while the script runs.
                    let piece = unsafe { piece.as_mut_slice() };
                    for (i, byte) in (done..).zip(piece) {
                        if i % (1 + u64::from(line.flags)) == 0 {
                            *byte = pattern(line.seed, i);
                        }
                    }
                }
                done += piece.len() as u64;
            }
            view.unmap()?;
            Ok(done)
        }
        SYNC => unit(file.sync(group)),
        FLUSH => unit(file.flush(group)),
        SET_LEN => unit(file.set_len(group, line.offset)),
        APPEND => {
            fill(group, line, bytes);
            file.append(group, bytes)
        }
        CLOSE => {
            file.close(group)?;
            if line.flags & KEEP == 0 {
                files[line.file as usize] = None;
            }
            Ok(0)
        }
        _ => Ok(file.size()),
    }
}
