//! Open files: reading at an offset, mapping, describing.

use crate::cache::Page;
use crate::evict::{Clock, Eviction};
use crate::frame::PageKey;
use crate::index::{HashIndex, PageIndex};
use crate::mount::Fs;
use crate::view::View;
use bytemuck::{Pod, Zeroable};
use gpu_abi::{DeviceSlice, Errno, FileInfo, OpenFlags};
use gpu_rt::atomic::{DeviceAtomicU32, DeviceAtomicU64, Ordering};
use gpu_rt::{Group, mem};

/// What device memory keeps about an open file. Zeroed: free. The states are drawn in `open.rs`.
#[repr(C, align(64))]
pub(crate) struct OpenFile {
    pub(crate) word: DeviceAtomicU64,
    pub(crate) name: DeviceAtomicU64,
    info: [DeviceAtomicU64; 6],
    pub(crate) handle: DeviceAtomicU32,
    pub(crate) flags: DeviceAtomicU32,
    pub(crate) path_len: DeviceAtomicU32,
    pub(crate) errno: DeviceAtomicU32,
    /// Changes when an open ends.
    pub(crate) turn: DeviceAtomicU32,
    /// Read-ahead: the page after the one fetched last.
    pub(crate) next_page: DeviceAtomicU32,
    /// Read-ahead: pages to keep ahead of the reader.
    pub(crate) window: DeviceAtomicU32,
    /// Read-ahead: the last page that was asked for ahead.
    pub(crate) ahead: DeviceAtomicU32,
}

impl OpenFile {
    pub(crate) fn store_info(&self, info: &FileInfo) {
        let words: [u64; 6] = bytemuck::cast(*info);
        for (word, value) in self.info.iter().zip(words) {
            word.store(value, Ordering::Relaxed);
        }
    }

    fn load_info(&self) -> FileInfo {
        bytemuck::cast(self.info.each_ref().map(|word| word.load(Ordering::Relaxed)))
    }
}

/// Set in the version of what the host gives none: far from where its own numbers begin.
const UNVERSIONED: u32 = 1 << 31;

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    pub(crate) flags: OpenFlags,
    once: bool,
    ahead: bool,
}

impl Default for OpenOptions {
    fn default() -> Self {
        OpenOptions::new()
    }
}

impl OpenOptions {
    /// For reading.
    pub const fn new() -> OpenOptions {
        OpenOptions { flags: OpenFlags::READ, once: false, ahead: true }
    }

    /// It must be a directory (`ENOTDIR`).
    pub const fn directory(mut self) -> OpenOptions {
        self.flags = self.flags.with(OpenFlags::DIRECTORY);
        self
    }

    /// Do not follow a symbolic link in the last component (`ELOOP`).
    pub const fn no_follow(mut self) -> OpenOptions {
        self.flags = self.flags.with(OpenFlags::NO_FOLLOW);
        self
    }

    /// Its pages will be used once: each leaves the cache when its last pin is given back, so that a
    /// long scan neither drives other pages out nor wanders through all of the cache's memory.
    pub const fn once(mut self) -> OpenOptions {
        self.once = true;
        self
    }

    /// Whether pages are fetched ahead of a reader who goes through the file from page to page
    /// (default). Not worth it where many threads read parts of one file side by side: they keep the
    /// host busy as they are, and each would have the others' pages fetched anew.
    pub const fn read_ahead(mut self, ahead: bool) -> OpenOptions {
        self.ahead = ahead;
        self
    }
}

/// A place for bytes that a group reads: an exclusive slice, or a slice of device memory.
pub trait IoBufMut: sealed::Sealed {
    /// Address and length.
    #[doc(hidden)]
    fn raw(&mut self) -> (*mut u8, usize);
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for &mut [u8] {}
    impl Sealed for super::DeviceSlice<u8> {}
}

impl IoBufMut for &mut [u8] {
    fn raw(&mut self) -> (*mut u8, usize) {
        (self.as_mut_ptr(), self.len())
    }
}

impl IoBufMut for DeviceSlice<u8> {
    fn raw(&mut self) -> (*mut u8, usize) {
        (self.as_ptr(), self.len())
    }
}

/// An open file of the mount `Fs<I, E>`. A plain value: every thread of the group that opened it has
/// it, and may use it with groups of any kind until the group closes it.
pub struct File<I: PageIndex = HashIndex, E: Eviction = Clock> {
    pub(crate) fs: Fs<I, E>,
    index: u32,
    handle: u32,
    version: u32,
    once: bool,
    ahead: bool,
    size: u64,
}

impl<I: PageIndex, E: Eviction> Clone for File<I, E> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<I: PageIndex, E: Eviction> Copy for File<I, E> {}

impl<I: PageIndex, E: Eviction> Fs<I, E> {
    /// Opens the file at `path` for a group: its leader's path counts.
    ///
    /// Threads and blocks that have the same path open with the same options share one host
    /// descriptor, and the version of the file as it was when the first of them opened it.
    ///
    /// # Errors
    /// As open(2). `ENAMETOOLONG` for a path of more than 4,095 bytes, `ENFILE` if the mount has no
    /// record left for one more open file, `EIO` if the host is gone.
    #[inline(never)]
    pub fn open<G: Group>(
        &self,
        group: &G,
        path: &[u8],
        options: OpenOptions,
    ) -> Result<File<I, E>, Errno> {
        let index = self.by_leader(group, || self.open_record::<G>(path, options))?;
        let record = self.open_file(index);
        let info = record.load_info();
        let handle = record.handle.load(Ordering::Relaxed);
        Ok(File {
            fs: *self,
            index,
            handle,
            // Directories, devices and pipes have no version: each open of one is its own.
            version: if info.version == 0 { UNVERSIONED | handle } else { info.version },
            // What has no size (procfs) changes without a trace: its pages are not kept.
            once: options.once || info.size == 0,
            ahead: options.ahead,
            size: info.size,
        })
    }
}

/// A page's worth of a read, as its leader tells the group of it.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Step {
    /// One of the below.
    what: u32,
    /// Not 0: the read has failed.
    errno: u32,
    /// The page that was copied from, still pinned.
    page: Page,
    /// Bytes copied.
    len: u64,
    /// The page to fetch.
    number: u32,
    reserved: u32,
}

impl Step {
    /// The page is not in the cache.
    const MISS: u32 = 0;
    /// There was nothing left to read.
    const END: u32 = 1;
    /// Copied; there is more to read.
    const MORE: u32 = 2;
    /// Copied; that was all.
    const LAST: u32 = 3;
}

impl<I: PageIndex, E: Eviction> File<I, E> {
    /// Bytes in the file when it was opened.
    #[inline]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of a page of the cache that the file is read through.
    #[inline]
    pub fn page_size(&self) -> usize {
        self.fs.page_size()
    }

    /// The file's description when it was opened. No request.
    pub fn stat(&self) -> FileInfo {
        self.record().load_info()
    }

    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    pub(crate) fn handle(&self) -> u32 {
        self.handle
    }

    pub(crate) fn drops_pages(&self) -> bool {
        self.once
    }

    pub(crate) fn reads_ahead(&self) -> bool {
        self.ahead
    }

    pub(crate) fn record(&self) -> &OpenFile {
        self.fs.open_file(self.index)
    }

    /// Gives the file back: the last close of a path closes the host's descriptor. Its pages stay
    /// in the cache for whoever opens the same version again.
    pub fn close<G: Group>(self, group: &G) {
        group.sync();
        if group.is_leader() {
            self.fs.unreference(self.index);
        }
    }

    /// How many of `len` bytes at `offset` the file can have: files of size 0 are asked anyway, as
    /// those of procfs have content all the same.
    pub(crate) fn clamp(&self, offset: u64, len: usize) -> usize {
        if self.size == 0 {
            return len;
        }
        (len as u64).min(self.size.saturating_sub(offset)) as usize
    }

    /// The number of the page that `offset` is in.
    pub(crate) fn page_number(&self, offset: u64) -> Result<u32, Errno> {
        u32::try_from(offset >> self.fs.header().page_shift).map_err(|_| Errno::EFBIG)
    }

    /// Reads at `offset` into the leader's `buf`; how many bytes that were: fewer than asked for
    /// only at the end of the file, as in pread(2). Returns to all threads of the group, after all
    /// bytes are there.
    ///
    /// # Errors
    /// `EBUSY` if no page frame came free for long, since all are pinned; `EISDIR`, `ESPIPE` for
    /// what cannot be read at an offset; `EIO` from the host's storage, or if the host is gone.
    #[inline]
    pub fn read_at<G: Group>(
        &self,
        group: &G,
        mut buf: impl IoBufMut,
        offset: u64,
    ) -> Result<usize, Errno> {
        self.read_raw(group, buf.raw(), offset)
    }

    /// Not inlined: on a GPU its many values would be its caller's, and spilled with them.
    #[inline(never)]
    fn read_raw<G: Group>(
        &self,
        group: &G,
        buf: (*mut u8, usize),
        offset: u64,
    ) -> Result<usize, Errno> {
        let mut done = 0;
        loop {
            let at = offset.wrapping_add(done);
            // SAFETY: the plan copies from a page that stays pinned until it is carried out to the
            // leader's buffer, exclusively ours; the two cannot overlap.
            let mut step = unsafe { mem::copy_led(group, || self.begin_step(buf, at, done)) };
            Errno::check(step.errno)?;
            if step.what == Step::MISS {
                step = self.read_miss(group, buf, at, done, step.number)?;
            }
            if step.what == Step::END {
                return Ok(done as usize);
            }
            if group.is_leader() {
                self.fs.unpin(step.page, self.once);
            }
            done += step.len;
            if step.what == Step::LAST {
                return Ok(done as usize);
            }
        }
    }

    /// A read of a page that is not in the cache.
    #[inline(never)]
    fn read_miss<G: Group>(
        &self,
        group: &G,
        buf: (*mut u8, usize),
        at: u64,
        done: u64,
        number: u32,
    ) -> Result<Step, Errno> {
        let page = self.fs.pin(group, self, number)?;
        // SAFETY: as in `read_raw`.
        Ok(unsafe { mem::copy_led(group, || self.copy_step(buf, at, done, page)) })
    }

    /// A leader's look at where a read stands, `done` bytes into its buffer: copies if the page is
    /// in the cache.
    fn begin_step(&self, buf: (*mut u8, usize), at: u64, done: u64) -> (mem::Plan, Step) {
        let none = Step::zeroed();
        if self.clamp(at, buf.1 - done as usize) == 0 {
            return (mem::Plan::NOTHING, Step { what: Step::END, ..none });
        }
        let number = match self.page_number(at) {
            Ok(number) => number,
            Err(e) => return (mem::Plan::NOTHING, Step { errno: e.raw(), ..none }),
        };
        match self.fs.pin_if_cached(PageKey::new(self.version, number)) {
            Some(page) => self.copy_step(buf, at, done, page),
            None => (mem::Plan::NOTHING, Step { what: Step::MISS, number, ..none }),
        }
    }

    /// What to copy from a pinned page.
    #[inline]
    fn copy_step(
        &self,
        buf: (*mut u8, usize),
        at: u64,
        done: u64,
        page: Page,
    ) -> (mem::Plan, Step) {
        let page_size = self.fs.page_size();
        let start = at as usize & (page_size - 1);
        let want = self.clamp(at, buf.1 - done as usize);
        let n = (page.len as usize).saturating_sub(start).min(want);
        let is_last = n == want || n == 0 || (page.len as usize) < page_size;
        let what = if is_last { Step::LAST } else { Step::MORE };
        // SAFETY: `start` is within the frame, `done` within the buffer.
        let (src, dst) =
            unsafe { (self.fs.frame_data(page.frame).add(start), buf.0.add(done as usize)) };
        (mem::Plan { dst, src, len: n }, Step { what, page, len: n as u64, ..Step::zeroed() })
    }

    /// Pins the pages that hold `len` bytes at `offset`, cut at the end of the file, and lends
    /// them without a copy.
    ///
    /// # Errors
    /// As [`File::read_at`]; `EINVAL` if the range needs more pages than [`View::MAX_PAGES`].
    pub fn map<G: Group>(
        &self,
        group: &G,
        offset: u64,
        len: usize,
    ) -> Result<View<G, I, E>, Errno> {
        View::new(group, self, offset, len)
    }
}
