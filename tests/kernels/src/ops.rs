//! A list of operations, shared out among the groups of a launch. Each is what a program would do
//! with `std::fs` in one call: so `std::fs` can say what must come of it.

use super::Job;
use bytemuck::{Pod, Zeroable};
use gpu_rt::atomic::Ordering;
use gpu_rt::{Block, Group, Thread, Warp, thread};
use gpufs::{DeviceSlice, Dir, Errno, Eviction, Fs, OpenOptions, PageIndex};

/// Does [`Job::ops`].
pub const PROGRAM_OPS: u32 = 0;

/// Each thread alone.
pub const GROUP_THREAD: u32 = 0;
/// Each warp together.
pub const GROUP_WARP: u32 = 1;
/// Each block together.
pub const GROUP_BLOCK: u32 = 2;

/// Opens, and gives back. Result: the size.
pub const OPEN: u32 = 0;
/// Opens, reads `len` bytes at `offset` to `at`, closes. Result: the bytes read.
pub const READ: u32 = 1;
/// The same by a view.
pub const MAP: u32 = 2;
/// The same by an asynchronous read, or a plain one where that says `EAGAIN`.
pub const ASYNC: u32 = 3;
/// Describes a path: a `FileInfo` at `at`. Result: the size.
pub const STAT: u32 = 4;
/// Lists a directory into the `len` bytes at `at`, `offset` bytes at a time. Result: bytes filled.
pub const LIST: u32 = 5;
/// As `STAT`, of the file once it is open.
pub const STAT_OPEN: u32 = 6;
/// Reads the file whole, or its first `len` bytes, to `at`. Result: the bytes read.
pub const WHOLE: u32 = 7;

/// For [`Op::flags`]: it must be a directory.
pub const DIRECTORY: u32 = 1;
/// For [`Op::flags`]: do not follow a symbolic link.
pub const NO_FOLLOW: u32 = 2;
/// For [`Op::flags`]: pages are used once.
pub const ONCE: u32 = 4;

/// One operation.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Op {
    /// [`OPEN`] to [`WHOLE`].
    pub what: u32,
    /// The number of the path.
    pub path: u32,
    /// [`DIRECTORY`], [`NO_FOLLOW`], [`ONCE`].
    pub flags: u32,
    /// 0.
    pub reserved: u32,
    /// Where in the file.
    pub offset: u64,
    /// How many bytes.
    pub len: u64,
    /// Where in [`Job::bytes`].
    pub at: u64,
}

pub(super) fn run<I: PageIndex, E: Eviction>(fs: Fs<I, E>, job: &Job) {
    let warps = thread::block_dim().count().div_ceil(32);
    match job.group {
        GROUP_THREAD => share(&Thread, fs, job, thread::index(), thread::count()),
        GROUP_WARP => {
            let warp = thread::grid_dim().linear(thread::block_idx()) * warps
                + u64::from(thread::warp_id());
            share(&Warp::all(), fs, job, warp, thread::grid_dim().count() * warps);
        }
        _ => {
            let block = thread::grid_dim().linear(thread::block_idx());
            share(&Block, fs, job, block, thread::grid_dim().count());
        }
    }
}

fn share<G: Group, I: PageIndex, E: Eviction>(
    group: &G,
    fs: Fs<I, E>,
    job: &Job,
    first: u64,
    step: u64,
) {
    // SAFETY: the host wrote them before the launch and leaves them alone until its end.
    let ops = unsafe { job.ops.as_slice() };
    for i in (first as usize..ops.len()).step_by(step as usize) {
        let outcome = one(group, fs, job, &ops[i]);
        if group.is_leader() {
            let value = outcome.unwrap_or_else(failure);
            job.result(i).store(value, Ordering::Relaxed);
        }
    }
}

/// How a result says that there was an error.
pub const fn failure(e: Errno) -> u64 {
    (-(e.raw() as i64)) as u64
}

fn one<G: Group, I: PageIndex, E: Eviction>(
    group: &G,
    fs: Fs<I, E>,
    job: &Job,
    op: &Op,
) -> Result<u64, Errno> {
    let path = job.path(op.path);
    let to = job.bytes.slice(op.at as usize, op.len as usize);
    match op.what {
        STAT => {
            let info = fs.stat(group, path)?;
            put(group, job, op, bytemuck::bytes_of(&info));
            return Ok(info.size);
        }
        WHOLE => return fs.read(group, path, to).map(|n| n as u64),
        LIST => return list(group, fs.read_dir(group, path)?, op.offset as usize, to),
        _ => {}
    }
    let mut options = OpenOptions::new();
    if op.flags & DIRECTORY != 0 {
        options = options.directory();
    }
    if op.flags & NO_FOLLOW != 0 {
        options = options.no_follow();
    }
    if op.flags & ONCE != 0 {
        options = options.once();
    }
    let file = fs.open(group, path, options)?;
    let outcome = match op.what {
        OPEN => Ok(file.size()),
        STAT_OPEN => {
            let info = file.stat();
            put(group, job, op, bytemuck::bytes_of(&info));
            Ok(info.size)
        }
        READ => file.read_at(group, to, op.offset).map(|n| n as u64),
        ASYNC => {
            // SAFETY: these bytes are this operation's alone, and it waits below.
            match unsafe { file.read_at_async(group, to, op.offset) } {
                Ok(pending) => pending.wait(group),
                Err(Errno::EAGAIN) => file.read_at(group, to, op.offset),
                Err(e) => Err(e),
            }
            .map(|n| n as u64)
        }
        _ => file.map(group, op.offset, op.len as usize).map(|view| {
            let mut done = 0;
            for piece in view.slices() {
                if group.is_leader() {
                    // SAFETY: these bytes are this operation's alone.
                    unsafe { to.slice(done, piece.len()).as_mut_slice() }.copy_from_slice(piece);
                }
                done += piece.len();
            }
            let whole = view.as_slice().map_or(done, <[u8]>::len);
            // What the view says of itself must agree with what it lends.
            if done == view.len() && whole == done && view.is_empty() == (done == 0) {
                done as u64
            } else {
                failure(Errno::EPROTO)
            }
        }),
    };
    file.close(group).ok();
    outcome
}

fn put<G: Group>(group: &G, job: &Job, op: &Op, bytes: &[u8]) {
    if group.is_leader() {
        let to = job.bytes.slice(op.at as usize, bytes.len());
        // SAFETY: these bytes are this operation's alone.
        unsafe { to.as_mut_slice() }.copy_from_slice(bytes);
    }
}

fn list<G: Group, I: PageIndex, E: Eviction>(
    group: &G,
    mut dir: Dir<I, E>,
    batch: usize,
    to: DeviceSlice<u8>,
) -> Result<u64, Errno> {
    let mut done = 0;
    let outcome = loop {
        match dir.read(group, to.slice(done, batch)) {
            Ok(0) => break Ok(done as u64),
            Ok(n) => done += n,
            Err(e) => break Err(e),
        }
    };
    dir.close(group);
    outcome
}
