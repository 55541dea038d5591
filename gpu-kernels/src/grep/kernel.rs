//! The kernel: every thread takes items until none are left.

use gpu_rt::atomic::{DeviceAtomicU32, Ordering};
use gpu_rt::{Pod, Thread, Zeroable, kernel, thread};
use gpufs::{DeviceSlice, Errno, File, Fs, OpenOptions, View};

use super::arena::{Arena, Bump};
use super::item::{Item, ItemResult, Status, Task};
use super::matcher::Matcher;
use super::program::Program;
use super::search::{Pages, Search};

/// Where a file's path lies among the paths of a launch.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct PathRef {
    /// First byte.
    pub offset: u32,
    /// Bytes.
    pub len: u32,
}

/// Arguments of [`grep`].
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct GrepArgs {
    /// The file system.
    pub fs: Fs,
    /// A program that [`Program::parse`] has accepted.
    pub program: DeviceSlice<u64>,
    /// What to search.
    pub items: DeviceSlice<Item>,
    /// One for each item.
    pub results: DeviceSlice<ItemResult>,
    /// One for each file.
    pub paths: DeviceSlice<PathRef>,
    /// The bytes of all paths.
    pub path_bytes: DeviceSlice<u8>,
    /// Three zeroed words: items taken, and units of output and of `spill` taken.
    pub counters: DeviceSlice<u32>,
    /// The output arena.
    pub output: DeviceSlice<u64>,
    /// Room for incomplete lines, an equal part of it for each thread.
    pub scratch: DeviceSlice<u8>,
    /// Room for lines that do not fit in a thread's scratch, for those who take it first.
    pub spill: DeviceSlice<u8>,
    /// Room for the beginnings of files, a page for each thread.
    pub buffers: DeviceSlice<u8>,
    /// How to search.
    pub task: Task,
}

impl GrepArgs {
    fn counter(&self, index: usize) -> &DeviceAtomicU32 {
        assert!(index < self.counters.len(), "the host gave too few counters");
        // SAFETY: in range, zeroed by the host, and used as an atomic word by every thread.
        unsafe { &*self.counters.as_ptr().add(index).cast::<DeviceAtomicU32>() }
    }

    fn item(&self, number: u32) -> Option<&Item> {
        // SAFETY: the host wrote the items before the launch and leaves them alone until its end.
        unsafe { self.items.as_slice() }.get(number as usize)
    }

    fn path(&self, file: u32) -> &[u8] {
        // SAFETY: the host wrote the tables before the launch and leaves them alone until its end.
        let (paths, bytes) = unsafe { (self.paths.as_slice(), self.path_bytes.as_slice()) };
        let Some(path) = paths.get(file as usize) else { return &[] };
        let start = path.offset as usize;
        bytes.get(start..start + path.len as usize).unwrap_or(&[])
    }
}

/// Bytes that a unit of [`GrepArgs::spill`] has.
const SPILL_UNIT: u64 = 4096;

impl GrepArgs {
    /// Takes room for a line of `need` bytes, if there is any left: nobody else gets it.
    fn spill(&self, need: u64) -> Option<DeviceSlice<u8>> {
        let units = need.div_ceil(SPILL_UNIT);
        let all = self.spill.len() as u64 / SPILL_UNIT;
        // Not even asked for if it cannot be had, so that the counter does not wrap.
        if units > all {
            return None;
        }
        let first = u64::from(self.counter(2).fetch_add(units as u32, Ordering::Relaxed));
        (first + units <= all)
            .then(|| self.spill.slice((first * SPILL_UNIT) as usize, need as usize))
    }
}

struct Counter<'a>(&'a DeviceAtomicU32);

impl Bump for Counter<'_> {
    fn bump(&self, n: u32) -> u32 {
        // Relaxed: the host reads the output after the launch, which orders everything.
        self.0.fetch_add(n, Ordering::Relaxed)
    }
}

/// A file of which the beginning, for most files all of it, comes in one request to a buffer, and the
/// rest through the page cache.
struct FilePages<'a> {
    args: &'a GrepArgs,
    path: &'a [u8],
    buffer: &'a mut [u8],
    /// Bytes in the buffer, once they were asked for.
    beginning: Option<usize>,
    /// Open once more is wanted than the beginning.
    file: Option<File>,
    /// The page that was asked for last, unless it was the beginning.
    view: Option<View<Thread>>,
}

impl FilePages<'_> {
    /// Bytes in the buffer.
    #[inline(never)]
    fn beginning(&mut self) -> Result<usize, Errno> {
        if let Some(n) = self.beginning {
            return Ok(n);
        }
        let n = self.args.fs.read(&Thread, self.path, &mut *self.buffer)?;
        self.beginning = Some(n);
        Ok(n)
    }

    fn file(&mut self) -> Result<File, Errno> {
        if let Some(file) = self.file {
            return Ok(file);
        }
        let options = OpenOptions::new().once().read_ahead(false);
        let file = self.args.fs.open(&Thread, self.path, options)?;
        self.file = Some(file);
        Ok(file)
    }

    /// Bytes of the whole file; closes it.
    #[inline(never)]
    fn finish(&mut self) -> Result<u64, Errno> {
        self.view = None;
        if let Some(whole) = self.beginning.filter(|n| *n < self.buffer.len()) {
            return Ok(whole as u64);
        }
        let file = self.file()?;
        file.close(&Thread).ok();
        Ok(file.size())
    }
}

impl Pages for FilePages<'_> {
    /// Not inlined, for the caller's registers.
    #[inline(never)]
    fn page(&mut self, at: u64) -> Result<Option<(&[u8], bool)>, u32> {
        self.view = None;
        if at == 0 {
            let n = self.beginning().map_err(Errno::raw)?;
            return Ok((n > 0).then_some((&self.buffer[..n], n < self.buffer.len())));
        }
        let file = self.file().map_err(Errno::raw)?;
        let page = self.args.fs.page_size() as u64;
        let len = page - at % page;
        let view = file.map(&Thread, at, len as usize).map_err(Errno::raw)?;
        let bytes = self.view.insert(view).as_slice().unwrap_or(&[]);
        let end = at + bytes.len() as u64;
        let last = (bytes.len() as u64) < len || file.size() != 0 && end >= file.size();
        Ok((!bytes.is_empty()).then_some((bytes, last)))
    }
}

/// The calling thread's part of memory that is shared out equally.
///
/// # Safety
/// Nothing else uses the memory for as long as the thread has its part.
unsafe fn share_of<'a>(all: &DeviceSlice<u8>) -> &'a mut [u8] {
    let share = all.len() / thread::count() as usize;
    let part = all.slice(thread::index() as usize * share, share);
    // SAFETY: device memory; parts of different threads do not overlap.
    unsafe { core::slice::from_raw_parts_mut(part.as_ptr(), part.len()) }
}

/// What a thread searches with.
struct Worker<'a> {
    args: &'a GrepArgs,
    matcher: Matcher<'a>,
    scratch: &'a mut [u8],
    buffer: &'a mut [u8],
    sink: Arena<'a, Counter<'a>>,
}

impl Worker<'_> {
    /// Takes the next item, if there is one.
    // Not inlined, nor the search: a GPU would keep what does not change from one item to the next.
    #[inline(never)]
    fn take(&self) -> Option<u32> {
        let number = self.args.counter(0).fetch_add(1, Ordering::Relaxed);
        ((number as usize) < self.args.items.len()).then_some(number)
    }

    /// Searches an item, the first time with the thread's own scratch.
    #[inline(never)]
    fn search(&mut self, number: u32) {
        let args = self.args;
        let Some(item) = args.item(number) else { return };
        let mut search = Search {
            matcher: &self.matcher,
            task: args.task,
            item: *item,
            number,
            scratch: &mut *self.scratch,
            sink: &mut self.sink,
            pages: FilePages {
                args,
                path: args.path(item.file),
                buffer: &mut *self.buffer,
                beginning: None,
                file: None,
                view: None,
            },
            result: ItemResult::default(),
        };
        loop {
            search.run();
            if !has_more_scratch(&mut search) {
                break;
            }
        }
        report(&mut search);
    }
}

type ItemSearch<'s, 'a> = Search<'s, 'a, Arena<'a, Counter<'a>>, FilePages<'s>>;

/// Whether the search of an item, which needs more scratch than a thread has, can begin anew with enough.
#[inline(never)]
fn has_more_scratch(search: &mut ItemSearch<'_, '_>) -> bool {
    let args = search.pages.args;
    if search.result.status() != Status::Scratch || search.result.attempt != 0 {
        return false;
    }
    let (Some(room), Some(item)) = (args.spill(search.result.need), args.item(search.number))
    else {
        return false;
    };
    (search.task, search.item) = (args.task, *item);
    search.number += args.items.len() as u32;
    // SAFETY: this thread's alone, by `spill`.
    search.scratch = unsafe { room.as_mut_slice() };
    search.result.attempt = 1;
    true
}

/// Leaves the result of an item's search for the host.
#[inline(never)]
fn report(search: &mut ItemSearch<'_, '_>) {
    // If the file fails now, the search has failed likewise, or was content with what it saw.
    if let Ok(size) = search.pages.finish() {
        search.result.size = size;
    }
    let args = search.pages.args;
    // As it was taken.
    let number = (search.number - search.result.attempt * args.items.len() as u32) as usize;
    assert!(number < args.results.len(), "the host gave too few results");
    // SAFETY: in range, and only the thread that took this item writes its result.
    unsafe { args.results.as_ptr().add(number).write(search.result) };
}

/// Searches `args.items`. Launched with any number of threads.
#[kernel(max_threads = 256)]
pub fn grep(args: GrepArgs) {
    // SAFETY: the host wrote the program before the launch and leaves it alone until its end.
    let program = unsafe { args.program.as_slice() };
    // SAFETY: the host had `Program::parse` accept these bytes.
    let program = unsafe { Program::trusted(bytemuck::cast_slice(program)) };
    // Used where it was read to: it is large.
    let Ok(program) = &program else { return };
    let counter = Counter(args.counter(1));
    // SAFETY: each thread takes its own part, once.
    let (scratch, buffer) = unsafe { (share_of(&args.scratch), share_of(&args.buffers)) };
    // SAFETY: the host's buffer of zeroed words, which only the arenas of this launch write, and
    // its zeroed counter.
    let sink = unsafe { Arena::new(args.output.as_ptr().cast(), args.output.len() * 8, &counter) };
    let matcher = Matcher::new(program);
    let mut worker = Worker { args: &args, matcher, scratch, buffer, sink };
    while let Some(number) = worker.take() {
        worker.search(number);
    }
}
