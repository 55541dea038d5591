//! Where items are searched: a session's device.

use std::sync::Mutex;

use bytemuck::Zeroable;
use gpu_host::{DeviceBuffer, DeviceSlice, HostError, LaunchConfig, Session};
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
    /// Searches all items of a launch; a result for each. What is found goes to `arena`.
    ///
    /// # Errors
    /// When the device fails, as opposed to a file.
    fn search(
        &self,
        launch: &Launch<'_>,
        arena: &mut OutputArena,
    ) -> Result<Vec<ItemResult>, HostError>;
}

/// An output arena of the device, as the host reads it. It is used again and again: fresh memory would
/// cost more than what is written there.
#[derive(Default)]
pub struct OutputArena {
    device: Option<DeviceBuffer<u64>>,
    /// What is in use, where the host cannot read it in place.
    copy: Vec<u64>,
    used: usize,
}

impl OutputArena {
    /// The arena for a launch that may fill `words` words.
    fn room(&mut self, session: &Session, words: usize) -> Result<DeviceSlice<u64>, HostError> {
        // One that is too small goes before the next is made.
        let buffer = match self.device.take().filter(|buffer| buffer.len() >= words) {
            Some(buffer) => buffer,
            None => session.alloc(words.next_power_of_two())?,
        };
        Ok(self.device.insert(buffer).slice().slice(0, words))
    }

    /// The launch has ended and filled `used` words.
    fn filled(&mut self, used: usize) -> Result<(), HostError> {
        self.used = used;
        if self.in_place().is_none()
            && let Some(buffer) = &self.device
        {
            self.copy.resize(used.max(self.copy.len()), 0);
            buffer.copy_to(0, &mut self.copy[..used])?;
        }
        Ok(())
    }

    fn in_place(&self) -> Option<&[u64]> {
        // SAFETY: launches write to the arena only through `room`, which wants it exclusively, and
        // the last one has ended before anybody asks.
        self.device.as_ref().and_then(|buffer| unsafe { buffer.in_place() })
    }

    /// The bytes in use.
    pub fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.in_place().unwrap_or(&self.copy)[..self.used])
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
/// Bytes for long lines, those of all threads of a launch together.
const SPILL: usize = 64 << 20;

struct Buffers {
    items: DeviceBuffer<Item>,
    results: DeviceBuffer<ItemResult>,
    paths: DeviceBuffer<PathRef>,
    path_bytes: DeviceBuffer<u8>,
    counters: DeviceBuffer<u32>,
    scratch: DeviceBuffer<u8>,
    spill: DeviceBuffer<u8>,
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
            counters: session.alloc(3)?,
            scratch: session.alloc(0)?,
            spill: session.alloc(SPILL)?,
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
        arena: &mut OutputArena,
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
        let output = arena.room(self.session, launch.output / 8)?;
        self.grow(&mut b.scratch, scratch)?;
        self.grow(&mut b.beginnings, beginnings)?;
        b.items.copy_from(0, launch.items)?;
        b.results.copy_from(0, &vec![ItemResult::zeroed(); items])?;
        b.paths.copy_from(0, &refs)?;
        b.path_bytes.copy_from(0, &bytes)?;
        b.counters.copy_from(0, &[0, 0, 0])?;
        let args = GrepArgs {
            fs: self.session.fs(),
            program: self.program.slice(),
            items: b.items.slice().slice(0, items),
            results: b.results.slice().slice(0, items),
            paths: b.paths.slice().slice(0, refs.len()),
            path_bytes: b.path_bytes.slice().slice(0, bytes.len()),
            counters: b.counters.slice(),
            output,
            scratch: b.scratch.slice().slice(0, scratch),
            spill: b.spill.slice(),
            buffers: b.beginnings.slice().slice(0, beginnings),
            task: launch.task,
        };
        self.session.run(&grep::grep, LaunchConfig::new(blocks, block), args)?;
        let mut results = vec![ItemResult::zeroed(); items];
        b.results.copy_to(0, &mut results)?;
        let mut counters = [0; 3];
        b.counters.copy_to(0, &mut counters)?;
        arena.filled((counters[1] as usize).min(launch.output / 8))?;
        self.spare.lock().unwrap_or_else(|e| e.into_inner()).push(buffers);
        Ok(results)
    }
}
