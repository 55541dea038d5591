//! The benchmarks' kernels that write, and those that look at single values. They take a [`Probe`] too.

use crate::probe::{ENDED, FAILURES, Probe, about, buffer, in_order};
use gpu_rt::atomic::Ordering;
use gpu_rt::{Thread, kernel, thread};
use gpufs::{DeviceSlice, File, OpenOptions};

/// Bytes from one mark to the next.
pub const MARK_EVERY: usize = 4096;

/// The word at `offset` of what a launch writes that is told by `mark`.
pub fn marked(mark: u64, offset: u64) -> u64 {
    mark << 48 ^ offset
}

/// Word `number` of every file of random words: splitmix64, so that each can be told without those before it.
pub fn word(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What is done when all is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Sync,
    Flush,
}

/// The last thread to come here makes the file durable, or hands it to the host.
fn end(args: &Probe, file: File, then: Then) {
    // Release and acquire, with the same of the others: their writes come before what the last one does.
    let ended = args.word(ENDED).fetch_add(1, Ordering::AcqRel) + 1;
    if ended == thread::count() {
        args.check(match then {
            Then::Sync => file.sync(&Thread),
            Then::Flush => file.flush(&Thread),
        });
    }
    args.check(file.close(&Thread));
}

/// Writes `work` pieces of `len` bytes over those of the file, the next number by whichever thread is free:
/// each thread's buffer, in which the first word of every [`MARK_EVERY`] bytes is [`marked`].
fn overwrite(args: &Probe, pick: fn(u64, u64) -> u64, then: Then) {
    let Some(file) = args.open_with(&Thread, OpenOptions::new().write()) else { return };
    let buf = buffer(args, thread::index());
    while let Some(n) = args.next(&Thread) {
        let offset = pick(n, args.work) * args.len;
        for at in (0..buf.len()).step_by(MARK_EVERY) {
            // SAFETY: within this thread's buffer, at a multiple of 8, as the host gave it.
            unsafe {
                buf.as_ptr().add(at).cast::<u64>().write(marked(args.mark, offset + at as u64))
            };
        }
        let wrote = args.check(file.write_at(&Thread, buf, offset)).unwrap_or(0);
        args.add(&Thread, wrote as u64);
    }
    end(args, file, then);
}

/// One piece after the other, then on stable storage.
#[kernel(max_threads = 256)]
pub fn overwrite_in_order(args: Probe) {
    overwrite(&args, in_order, Then::Sync);
}

/// One piece after the other, then in the host's page cache.
#[kernel(max_threads = 256)]
pub fn overwrite_in_order_and_flush(args: Probe) {
    overwrite(&args, in_order, Then::Flush);
}

/// In an order that jumps about, then on stable storage.
#[kernel(max_threads = 256)]
pub fn overwrite_about(args: Probe) {
    overwrite(&args, about, Then::Sync);
}

/// In an order that jumps about, then in the host's page cache.
#[kernel(max_threads = 256)]
pub fn overwrite_about_and_flush(args: Probe) {
    overwrite(&args, about, Then::Flush);
}

/// Writes those pieces of `len` bytes of a file of `work` bytes whose number modulo 8 is `mark`: words by
/// [`word`]. Other devices write the others at the same time.
fn stripe(args: &Probe, options: OpenOptions) {
    let Some(file) = args.open_with(&Thread, options) else { return };
    let buf = buffer(args, thread::index());
    // `next` hands out numbers below `work`: pieces come to less than that.
    while let Some(n) = args.next(&Thread) {
        let offset = (n * 8 + args.mark) * args.len;
        if offset >= args.work {
            break;
        }
        for at in (0..args.len).step_by(8) {
            let value = word((offset + at) / 8);
            // SAFETY: as in `overwrite`; a piece is a multiple of 8 long.
            unsafe { buf.as_ptr().add(at as usize).cast::<u64>().write(value) };
        }
        let wrote = args.check(file.write_at(&Thread, buf, offset)).unwrap_or(0);
        args.add(&Thread, wrote as u64);
    }
    end(args, file, Then::Sync);
}

/// One device's share of a file that several write together, never fetching a page of it.
#[kernel(max_threads = 256)]
pub fn write_stripe(args: Probe) {
    stripe(&args, OpenOptions::new().write_once());
}

/// The same by a device that may read the file, too: pages of which it writes a part are fetched.
#[kernel(max_threads = 256)]
pub fn write_stripe_of_read(args: Probe) {
    stripe(&args, OpenOptions::new().write());
}

/// Where a thread's share of `values` values begins, and how many they are.
fn share(values: u64) -> (u64, u64) {
    let each = values / thread::count();
    (each * thread::index(), each)
}

/// The number of value `i` of a share, if each 4 KiB are gone through in an order that jumps about.
fn within(i: u64) -> u64 {
    const VALUES: u64 = 512;
    i / VALUES * VALUES + i.wrapping_mul(0x9e37_79b9) % VALUES
}

/// Adds up what `get` finds, `work` times over each thread's share of so many values.
#[inline(always)]
fn add_up(args: &Probe, values: u64, mut get: impl FnMut(u64) -> Option<u64>) {
    let (first, count) = share(values);
    let mut sum = 0u64;
    for _ in 0..args.work {
        for i in 0..count {
            match get(first + i) {
                Some(value) => sum = sum.wrapping_add(value),
                None => {
                    args.word(FAILURES).fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
        }
    }
    args.add(&Thread, sum);
}

#[inline(always)]
fn sum_of_view(args: &Probe, pick: impl Fn(u64) -> u64) {
    let Some(file) = args.open_with(&Thread, OpenOptions::new().read_ahead(false)) else { return };
    if let Some(mut view) = args.check(file.view::<u64>()) {
        add_up(args, view.len(), |i| view.get(pick(i)).ok().flatten());
    }
    file.close(&Thread).ok();
}

#[inline(always)]
fn sum_of_slice(args: &Probe, pick: impl Fn(u64) -> u64) {
    let words = DeviceSlice::<u64>::new(args.source.addr(), args.source.len() as u64 / 8);
    // SAFETY: the host wrote it before the launch and leaves it alone until its end; it is aligned.
    let words = unsafe { words.as_slice() };
    add_up(args, words.len() as u64, |i| Some(words[pick(i) as usize]));
}

/// Each thread adds up its share of the file's words, one after the other, `work` times.
#[kernel(max_threads = 256)]
pub fn sum_view(args: Probe) {
    sum_of_view(&args, |i| i);
}

/// As [`sum_view`], by runs of values that are lent.
#[kernel(max_threads = 256)]
pub fn sum_runs(args: Probe) {
    let Some(file) = args.open_with(&Thread, OpenOptions::new().read_ahead(false)) else { return };
    if let Some(mut view) = args.check(file.view::<u64>()) {
        let (first, count) = share(view.len());
        let mut sum = 0u64;
        for _ in 0..args.work {
            let mut at = first;
            while at < first + count {
                let Some(run) = args.check(view.run(at)).filter(|run| !run.is_empty()) else {
                    return;
                };
                let run = &run[..run.len().min((first + count - at) as usize)];
                sum = run.iter().fold(sum, |sum, value| sum.wrapping_add(*value));
                at += run.len() as u64;
            }
        }
        args.add(&Thread, sum);
    }
    file.close(&Thread).ok();
}

/// As [`sum_view`], in an order that jumps about within each 4 KiB.
#[kernel(max_threads = 256)]
pub fn sum_view_within(args: Probe) {
    sum_of_view(&args, within);
}

/// What [`sum_view`] is compared with: the same words in device memory.
#[kernel]
pub fn sum_slice(args: Probe) {
    sum_of_slice(&args, |i| i);
}

/// What [`sum_view_within`] is compared with: the same words in device memory.
#[kernel]
pub fn sum_slice_within(args: Probe) {
    sum_of_slice(&args, within);
}
