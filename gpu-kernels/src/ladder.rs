//! The kernels of the numbered examples: each shows one thing.

use gpu_rt::atomic::{DeviceAtomicU64, Ordering};
use gpu_rt::{Block, Group, Pod, Thread, Zeroable, kernel, log, thread};
use gpufs::{DeviceSlice, Errno, Fs, OpenOptions};

/// Arguments of kernels that read one file.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct OneFile {
    /// The file system.
    pub fs: Fs,
    /// The file's path.
    pub path: DeviceSlice<u8>,
    /// Where results go.
    pub out: DeviceSlice<u64>,
}

impl OneFile {
    fn path(&self) -> &[u8] {
        // SAFETY: the host wrote the path before the launch and leaves it alone until its end.
        unsafe { self.path.as_slice() }
    }

    fn out(&self, index: usize) -> &DeviceAtomicU64 {
        assert!(index < self.out.len(), "the host gave too few places for results");
        // SAFETY: in range, zeroed by the host, and used as an atomic word by every thread.
        unsafe { &*self.out.as_ptr().add(index).cast::<DeviceAtomicU64>() }
    }
}

/// 01: a block opens a file together, looks at its beginning and says what it is.
#[kernel(max_threads = 256)]
pub fn hello_file(args: OneFile) {
    let file = match args.fs.open(&Block, args.path(), OpenOptions::new()) {
        Ok(file) => file,
        Err(e) => {
            if Block.is_leader() {
                log!("block {}: {e}", thread::block_idx().x);
            }
            return;
        }
    };
    let view = file.map(&Block, 0, 64);
    if Block.is_leader() {
        match &view {
            Ok(view) => {
                let text = view.slices().next().unwrap_or_default();
                let line = text.split(|b| *b == b'\n').next().unwrap_or_default();
                let line = core::str::from_utf8(line).unwrap_or("(not text)");
                let size = file.size();
                log!("block {}: {size} bytes, beginning: {line}", thread::block_idx().x);
                args.out(0).fetch_add(1, Ordering::Relaxed);
            }
            Err(e) => log!("block {}: {e}", thread::block_idx().x),
        }
    }
    drop(view);
    file.close(&Block).ok();
}

/// 02: every thread counts the lines of its share of the pages, which are lent, not copied.
/// `out` = [lines, bytes, errors].
#[kernel(max_threads = 256)]
pub fn count_lines(args: OneFile) {
    let file = match args.fs.open(&Thread, args.path(), OpenOptions::new()) {
        Ok(file) => file,
        Err(e) => {
            log!("{e}");
            args.out(2).fetch_add(1, Ordering::Relaxed);
            return;
        }
    };
    let page = args.fs.page_size() as u64;
    let mut at = thread::index() * page;
    while at < file.size() {
        match file.map(&Thread, at, page as usize) {
            Ok(view) => {
                for bytes in view.slices() {
                    let lines = bytes.iter().filter(|b| **b == b'\n').count();
                    args.out(0).fetch_add(lines as u64, Ordering::Relaxed);
                    args.out(1).fetch_add(bytes.len() as u64, Ordering::Relaxed);
                }
            }
            Err(e) => {
                log!("page at {at}: {e}");
                args.out(2).fetch_add(1, Ordering::Relaxed);
            }
        }
        at += thread::count() * page;
    }
    file.close(&Thread).ok();
}

/// 03: one thread lists a directory. `out` = [entries, directories].
#[kernel(max_threads = 256)]
pub fn list_dir(args: OneFile) {
    let mut buf = [0u8; 1024];
    let outcome = args.fs.read_dir(&Thread, args.path()).and_then(|mut dir| {
        loop {
            let n = dir.read(&Thread, &mut buf[..])?;
            if n == 0 {
                break;
            }
            for entry in gpufs::dir::entries(&buf[..n]) {
                let kind = if entry.is_dir() { "dir " } else { "file" };
                log!("{kind} {}", core::str::from_utf8(entry.name).unwrap_or("(not text)"));
                args.out(0).fetch_add(1, Ordering::Relaxed);
                args.out(1).fetch_add(u64::from(entry.is_dir()), Ordering::Relaxed);
            }
        }
        dir.close(&Thread);
        Ok(())
    });
    if let Err(e) = outcome {
        log!("{e}");
    }
}

/// 04: begins to read the second 4 KiB of a file, works on the first meanwhile, and then waits.
/// `out` = [sum of the bytes, 1 if the second part had arrived by then].
#[kernel(max_threads = 256)]
pub fn read_while_working(args: OneFile) {
    if let Err(e) = add_up_two_parts(&args) {
        log!("{e}");
    }
}

fn add_up_two_parts(args: &OneFile) -> Result<(), Errno> {
    let sum = |bytes: &[u8]| bytes.iter().map(|b| u64::from(*b)).sum::<u64>();
    let file = args.fs.open(&Thread, args.path(), OpenOptions::new())?;
    let (mut first, mut second) = ([0u8; 4096], [0u8; 4096]);

    // SAFETY: `second` lives, and nobody looks at it, until the read has been waited for.
    let pending = unsafe { file.read_at_async(&Thread, &mut second[..], 4096)? };
    let n = file.read_at(&Thread, &mut first[..], 0)?;
    args.out(0).fetch_add(sum(&first[..n]), Ordering::Relaxed);

    let n = match pending.try_wait(&Thread) {
        Ok(n) => {
            args.out(1).store(1, Ordering::Relaxed);
            n?
        }
        Err(pending) => pending.wait(&Thread)?,
    };
    args.out(0).fetch_add(sum(&second[..n]), Ordering::Relaxed);
    file.close(&Thread).ok();
    Ok(())
}

/// Bytes of a [`write_file`] record, line end included.
pub const RECORD: usize = 32;

/// 06: every thread writes its record to one file, the last one to do so makes it durable.
/// `out` = [threads that have written, errors].
#[kernel(max_threads = 256)]
pub fn write_file(args: OneFile) {
    if let Err(e) = write_record(&args) {
        log!("{e}");
        args.out(1).fetch_add(1, Ordering::Relaxed);
    }
}

fn write_record(args: &OneFile) -> Result<(), Errno> {
    // The first thread makes the file; the others open what it made, most of them without a request.
    let file = args.fs.open(&Thread, args.path(), OpenOptions::new().create())?;
    let mut record = *b"thread 00000 wrote this line   \n";
    let mut rest = thread::index();
    for digit in record[7..12].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    // Records of many threads share a page; each thread's bytes are written, and no others.
    file.write_at(&Thread, &record[..], thread::index() * RECORD as u64)?;
    // Release and acquire, with the same of the others: their records come before the last one's `sync`.
    let written = args.out(0).fetch_add(1, Ordering::AcqRel) + 1;
    if written == thread::count() {
        file.sync(&Thread)?;
    }
    file.close(&Thread)
}
