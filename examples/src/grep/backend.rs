//! Where items are searched: a session's device.

use std::sync::Mutex;

use bytemuck::Zeroable;
use gpu_host::{DeviceBuffer, HostError, LaunchConfig, Session};
use gpu_kernels::grep::{self, GrepArgs, Item, ItemResult, PathRef, Task};

/// Items to search together.
pub struct Launch<'a> {
    /// Paths to open, by number.
    pub paths: &'a [&'a [u8]],
    /// What to search.
    pub items: &'a [Item],
    /// How to search.
    pub task: Task,
    /// Bytes that each thread has for a line cut by the end of a page.
    pub scratch: usize,
    /// Bytes of the output arena.
    pub output: usize,
}

/// Searches items. Several threads may call it at once.
pub trait Backend: Sync {
    /// Searches all items of a launch; a result for each. The part of the output arena that is in
    /// use is copied to `arena`.
    ///
    /// # Errors
    /// When the device fails, as opposed to a file.
    fn search(
        &self,
        launch: &Launch<'_>,
        arena: &mut ArenaCopy,
    ) -> Result<Vec<ItemResult>, HostError>;
}

/// A copy of an output arena. It is used again and again: fresh memory would cost more than the
/// copy.
#[derive(Debug, Default)]
pub struct ArenaCopy {
    words: Vec<u64>,
    used: usize,
}

impl ArenaCopy {
    /// Room for `len` words, to be overwritten.
    pub fn room(&mut self, len: usize) -> &mut [u64] {
        if self.words.len() < len {
            // Not resized: nothing of it is kept, and fresh zero pages cost nothing until used.
            self.words = vec![0; len.next_power_of_two()];
        }
        self.used = len;
        &mut self.words[..len]
    }

    /// The bytes of the arena.
    pub fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.words[..self.used])
    }
}

/// A session and a program on its device.
pub struct OnDevice<'s> {
    session: &'s Session,
    program: DeviceBuffer<u64>,
    threads: u32,
    page: usize,
    /// Buffers of launches that have ended, for the next ones.
    spare: Mutex<Vec<Buffers>>,
}

/// Threads of a block at most, and the blocks that there should be of a small launch: every
/// multiprocessor should get some.
const BLOCK: u32 = 32;
const BLOCKS: u32 = 8;

struct Buffers {
    items: DeviceBuffer<Item>,
    results: DeviceBuffer<ItemResult>,
    paths: DeviceBuffer<PathRef>,
    path_bytes: DeviceBuffer<u8>,
    counters: DeviceBuffer<u32>,
    output: DeviceBuffer<u64>,
    scratch: DeviceBuffer<u8>,
    beginnings: DeviceBuffer<u8>,
}

impl<'s> OnDevice<'s> {
    /// Loads `program`, which [`grep::Program::parse`] has accepted, to search with `threads`
    /// threads at a time, each of which has a buffer of `page` bytes for the beginnings of files.
    ///
    /// # Errors
    /// [`HostError::OutOfDeviceMemory`].
    pub fn new(
        session: &'s Session,
        program: &[u64],
        threads: u32,
        page: usize,
    ) -> Result<Self, HostError> {
        let program = session.alloc_from(program)?;
        Ok(OnDevice { session, program, threads, page, spare: Mutex::new(Vec::new()) })
    }

    fn buffers(&self) -> Result<Buffers, HostError> {
        let spare = self.spare.lock().unwrap_or_else(|e| e.into_inner()).pop();
        if let Some(buffers) = spare {
            return Ok(buffers);
        }
        let session = self.session;
        Ok(Buffers {
            items: session.alloc(0)?,
            results: session.alloc(0)?,
            paths: session.alloc(0)?,
            path_bytes: session.alloc(0)?,
            counters: session.alloc(2)?,
            output: session.alloc(0)?,
            scratch: session.alloc(0)?,
            beginnings: session.alloc(0)?,
        })
    }

    /// Makes a buffer at least `len` values long.
    fn grow<T: bytemuck::Pod>(
        &self,
        buffer: &mut DeviceBuffer<T>,
        len: usize,
    ) -> Result<(), HostError> {
        if buffer.len() < len {
            *buffer = self.session.alloc(len.next_power_of_two())?;
        }
        Ok(())
    }
}

impl Backend for OnDevice<'_> {
    fn search(
        &self,
        launch: &Launch<'_>,
        arena: &mut ArenaCopy,
    ) -> Result<Vec<ItemResult>, HostError> {
        let mut buffers = self.buffers()?;
        let b = &mut buffers;
        let items = launch.items.len();
        let threads = (items as u32).min(self.threads);
        let block = threads.div_ceil(BLOCKS).clamp(1, BLOCK);
        let blocks = threads.div_ceil(block);
        let mut refs = Vec::with_capacity(launch.paths.len());
        let mut bytes = Vec::new();
        for path in launch.paths {
            refs.push(PathRef { offset: bytes.len() as u32, len: path.len() as u32 });
            bytes.extend_from_slice(path);
        }
        let scratch = (blocks * block) as usize * launch.scratch;
        let beginnings = (blocks * block) as usize * self.page;
        self.grow(&mut b.items, items)?;
        self.grow(&mut b.results, items)?;
        self.grow(&mut b.paths, refs.len())?;
        self.grow(&mut b.path_bytes, bytes.len())?;
        self.grow(&mut b.output, launch.output / 8)?;
        self.grow(&mut b.scratch, scratch)?;
        self.grow(&mut b.beginnings, beginnings)?;
        b.items.copy_from(0, launch.items)?;
        b.results.copy_from(0, &vec![ItemResult::zeroed(); items])?;
        b.paths.copy_from(0, &refs)?;
        b.path_bytes.copy_from(0, &bytes)?;
        b.counters.copy_from(0, &[0, 0])?;
        let args = GrepArgs {
            fs: self.session.fs(),
            program: self.program.slice(),
            items: b.items.slice().slice(0, items),
            results: b.results.slice().slice(0, items),
            paths: b.paths.slice().slice(0, refs.len()),
            path_bytes: b.path_bytes.slice().slice(0, bytes.len()),
            counters: b.counters.slice(),
            output: b.output.slice().slice(0, launch.output / 8),
            scratch: b.scratch.slice().slice(0, scratch),
            buffers: b.beginnings.slice().slice(0, beginnings),
            task: launch.task,
        };
        self.session.run(&grep::grep, LaunchConfig::new(blocks, block), args)?;
        let mut results = vec![ItemResult::zeroed(); items];
        b.results.copy_to(0, &mut results)?;
        let mut counters = [0; 2];
        b.counters.copy_to(0, &mut counters)?;
        b.output.copy_to(0, arena.room((counters[1] as usize).min(launch.output / 8)))?;
        self.spare.lock().unwrap_or_else(|e| e.into_inner()).push(buffers);
        Ok(results)
    }
}
