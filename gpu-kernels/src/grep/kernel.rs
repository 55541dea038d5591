//! The kernel: every thread takes items until none are left.

use core::ops::ControlFlow;

use gpu_rt::atomic::{DeviceAtomicU32, Ordering};
use gpu_rt::{Pod, Thread, Zeroable, kernel, thread};
use gpufs::{DeviceSlice, File, Fs, OpenOptions};

use super::arena::{Arena, Bump};
use super::item::{Item, ItemResult, Status, Task};
use super::matcher::Matcher;
use super::program::Program;
use super::search::{Pages, search_item};

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
    /// Two zeroed words: items taken, and units of output taken.
    pub counters: DeviceSlice<u32>,
    /// The output arena.
    pub output: DeviceSlice<u64>,
    /// Room for incomplete lines, an equal part of it for each thread.
    pub scratch: DeviceSlice<u8>,
    /// How to search.
    pub task: Task,
}

impl GrepArgs {
    fn counter(&self, index: usize) -> &DeviceAtomicU32 {
        assert!(index < self.counters.len(), "the host gave too few counters");
        // SAFETY: in range, zeroed by the host, and used as an atomic word by every thread.
        unsafe { &*self.counters.as_ptr().add(index).cast::<DeviceAtomicU32>() }
    }

    fn path(&self, file: u32) -> &[u8] {
        // SAFETY: the host wrote the tables before the launch and leaves them alone until its end.
        let (paths, bytes) = unsafe { (self.paths.as_slice(), self.path_bytes.as_slice()) };
        let Some(path) = paths.get(file as usize) else { return &[] };
        let start = path.offset as usize;
        bytes.get(start..start + path.len as usize).unwrap_or(&[])
    }
}

struct Counter<'a>(&'a DeviceAtomicU32);

impl Bump for Counter<'_> {
    fn bump(&self, n: u32) -> u32 {
        // Relaxed: the host reads the output after the launch, which orders everything.
        self.0.fetch_add(n, Ordering::Relaxed)
    }
}

struct FilePages {
    file: File,
    page: u64,
}

impl Pages for FilePages {
    fn visit(
        &mut self,
        from: u64,
        mut visit: impl FnMut(&[u8], bool) -> ControlFlow<()>,
    ) -> Result<(), u32> {
        let FilePages { file, page } = self;
        let mut at = from;
        loop {
            let len = *page - at % *page;
            let view = file.map(&Thread, at, len as usize).map_err(|e| e.raw())?;
            let bytes = view.as_slice().unwrap_or(&[]);
            at += len;
            let last = (bytes.len() as u64) < len || file.size() != 0 && at >= file.size();
            if !bytes.is_empty() && visit(bytes, last).is_break() || last {
                return Ok(());
            }
        }
    }
}

/// Searches `args.items`. Launched with any number of threads.
#[kernel]
pub fn grep(args: GrepArgs) {
    // SAFETY: the host wrote program and items before the launch and leaves them alone until its
    // end.
    let (program, items) = unsafe { (args.program.as_slice(), args.items.as_slice()) };
    // SAFETY: the host had `Program::parse` accept these bytes.
    let Ok(program) = (unsafe { Program::trusted(bytemuck::cast_slice(program)) }) else { return };
    let matcher = Matcher::new(&program);
    let options = OpenOptions::new().once().read_ahead(false);
    let share = args.scratch.len() / thread::count() as usize;
    let scratch = args.scratch.slice(thread::index() as usize * share, share);
    // SAFETY: each thread has a part of its own.
    let scratch = unsafe { core::slice::from_raw_parts_mut(scratch.as_ptr(), scratch.len()) };
    let counter = Counter(args.counter(1));
    // SAFETY: the host's buffer of zeroed words, which only the arenas of this launch write, and
    // its zeroed counter.
    let mut sink =
        unsafe { Arena::new(args.output.as_ptr().cast(), args.output.len() * 8, &counter) };
    loop {
        let number = args.counter(0).fetch_add(1, Ordering::Relaxed);
        let Some(item) = items.get(number as usize) else { return };
        let result = match args.fs.open(&Thread, args.path(item.file), options) {
            Ok(file) => {
                let mut pages = FilePages { file, page: args.fs.page_size() as u64 };
                let result =
                    search_item(&matcher, &args.task, item, number, scratch, &mut sink, &mut pages);
                file.close(&Thread);
                ItemResult { size: file.size(), ..result }
            }
            Err(e) => ItemResult {
                status: Status::Failed as u32,
                need: e.raw().into(),
                ..ItemResult::default()
            },
        };
        assert!((number as usize) < args.results.len(), "the host gave too few results");
        // SAFETY: in range, and only the thread that took this item writes its result.
        unsafe { args.results.as_ptr().add(number as usize).write(result) };
    }
}
