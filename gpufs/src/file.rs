//! Open files: reading at an offset, mapping, describing, closing.

use crate::cache::Page;
use crate::evict::{Clock, Eviction};
use crate::frame::PageKey;
use crate::index::{HashIndex, PageIndex};
use crate::mount::Fs;
use crate::options::{How, OpenOptions};
use crate::view::View;
use crate::view_mut::ViewMut;
use bytemuck::{Pod, Zeroable};
use gpu_abi::{DeviceSlice, Errno, FileInfo, OpenFlags};
use gpu_rt::atomic::{DeviceAtomicU32, DeviceAtomicU64, Ordering};
use gpu_rt::{Group, mem};

/// What device memory keeps about an open file. Zeroed: free. The states are drawn in `open.rs`.
#[repr(C, align(64))]
pub(crate) struct OpenFile {
    pub(crate) word: DeviceAtomicU64,
    pub(crate) name: DeviceAtomicU64,
    /// The description; its first word, the size, grows as a file opened for writing does.
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
    /// Calls of `open` that have not been closed. A file with dirty pages has at least one.
    pub(crate) opens: DeviceAtomicU32,
    /// Pages that are dirty, or being written back. Counted up when marks are first made on a page,
    /// down when they have been carried out.
    pub(crate) dirty_pages: DeviceAtomicU32,
    /// For an ALIAS: the record to go to.
    pub(crate) alias: DeviceAtomicU32,
    /// Not 0 if nobody minds that what is written is lost in the end.
    pub(crate) temporary: DeviceAtomicU32,
    /// Threads that are cutting the file: meanwhile nobody begins to write its pages back.
    pub(crate) cutting: DeviceAtomicU32,
    reserved: [u32; 3],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<OpenFile>() == 128);

impl OpenFile {
    pub(crate) fn store_info(&self, info: &FileInfo) {
        let words: [u64; 6] = bytemuck::cast(*info);
        for (word, value) in self.info.iter().zip(words) {
            word.store(value, Ordering::Relaxed);
        }
    }

    pub(crate) fn load_info(&self) -> FileInfo {
        bytemuck::cast(self.info.each_ref().map(|word| word.load(Ordering::Relaxed)))
    }

    /// Its inode number, and the device that has it: no two files' are the same.
    pub(crate) fn inode(&self) -> (u64, u64) {
        let info = self.load_info();
        (info.ino, info.dev)
    }

    /// As [`FileInfo::version`].
    pub(crate) fn version(&self) -> u32 {
        self.load_info().version
    }

    /// The size, as far as this device knows.
    pub(crate) fn size(&self) -> &DeviceAtomicU64 {
        &self.info[0]
    }

    /// Whether it is open for writing.
    pub(crate) fn is_writable(&self) -> bool {
        OpenFlags(self.flags.load(Ordering::Relaxed) as u8).contains(OpenFlags::WRITE)
    }
}

/// Set in the version of what the host gives none: far from where its own numbers begin.
const UNVERSIONED: u32 = 1 << 31;

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
    how: How,
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
        let mut how = options.how;
        // What has no size (procfs) changes without a trace: its pages are not kept.
        if info.version != 0 && record.is_writable() {
            how = how.with(How::LIVE);
        } else if info.size == 0 {
            how = how.with(How::ONCE);
        }
        Ok(File {
            fs: *self,
            index,
            handle,
            // Directories, devices and pipes have no version: each open of one is its own.
            version: if info.version == 0 { UNVERSIONED | handle } else { info.version },
            how,
            size: info.size,
        })
    }

    /// Opens a file for writing and cuts it to nothing, or makes it: `std::fs::File::create`, with
    /// [`OpenOptions::truncate`]'s exception.
    ///
    /// # Errors
    /// As [`Fs::open`].
    pub fn create<G: Group>(&self, group: &G, path: &[u8]) -> Result<File<I, E>, Errno> {
        self.open(group, path, OpenOptions::new().create().truncate())
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
    /// Bytes in the file: as of the open, or as of now if it is open for writing on this device.
    #[inline]
    pub fn size(&self) -> u64 {
        if self.is_live() { self.record().size().load(Ordering::Relaxed) } else { self.size }
    }

    /// Bytes of a page of the cache that the file is read through.
    #[inline]
    pub fn page_size(&self) -> usize {
        self.fs.page_size()
    }

    /// The file's description when it was opened, and its [`File::size`]. No request.
    pub fn stat(&self) -> FileInfo {
        FileInfo { size: self.size(), ..self.record().load_info() }
    }

    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    pub(crate) fn handle(&self) -> u32 {
        self.handle
    }

    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    pub(crate) fn drops_pages(&self) -> bool {
        self.how.has(How::ONCE)
    }

    pub(crate) fn reads_ahead(&self) -> bool {
        self.how.has(How::AHEAD)
    }

    /// Whether its size may change, and its pages are valid to their ends.
    #[inline]
    pub(crate) fn is_live(&self) -> bool {
        self.how.has(How::LIVE)
    }

    /// Whether the file goes through the cache at all: devices and pipes are written past it.
    pub(crate) fn is_cached(&self) -> bool {
        self.version & UNVERSIONED == 0
    }

    /// Whether its pages are fetched before parts of them are written.
    pub(crate) fn fetches(&self) -> bool {
        self.how.has(How::READ)
    }

    /// `EBADF` unless the file was opened for writing.
    pub(crate) fn may_write(&self) -> Result<(), Errno> {
        if self.how.has(How::WRITE) { Ok(()) } else { Err(Errno::EBADF) }
    }

    /// The same, at a place of the caller's choice.
    pub(crate) fn may_write_at(&self) -> Result<(), Errno> {
        if self.how.has(How::APPEND) { Err(Errno::EBADF) } else { self.may_write() }
    }

    /// `EBADF` if the file was opened for writing alone.
    pub(crate) fn may_read(&self) -> Result<(), Errno> {
        if self.how.has(How::READ) { Ok(()) } else { Err(Errno::EBADF) }
    }

    pub(crate) fn record(&self) -> &OpenFile {
        self.fs.open_file(self.index)
    }

    /// Gives the file back: the last close of a file closes the host's descriptor, after writing back
    /// what is dirty, so that whoever opens the file then sees it ([`File::sync`] makes it durable).
    /// Its pages stay in the cache for whoever opens the same version again.
    ///
    /// # Errors
    /// Only for a file open for writing: what the host said to the writing (`ENOSPC`, `EIO`). The file then
    /// stays open and its pages dirty: `close` or `sync` can be tried again.
    pub fn close<G: Group>(self, group: &G) -> Result<(), Errno> {
        group.sync();
        if self.record().is_writable() {
            return self.fs.close_written(group, self.index);
        }
        if group.is_leader() {
            self.fs.unreference(self.index);
        }
        Ok(())
    }

    /// How many of `len` bytes at `offset` the file can have: files of size 0 are asked anyway, as
    /// those of procfs have content all the same.
    pub(crate) fn clamp(&self, offset: u64, len: usize) -> usize {
        let size = self.size();
        if size == 0 && !self.is_live() {
            return len;
        }
        (len as u64).min(size.saturating_sub(offset)) as usize
    }

    /// The number of the page that `offset` is in.
    pub(crate) fn page_number(&self, offset: u64) -> Result<u32, Errno> {
        u32::try_from(offset >> self.fs.header().page_shift).map_err(|_| Errno::EFBIG)
    }

    /// The first page of a range of `len` bytes, how many pages it touches, and where in the first it begins.
    pub(crate) fn span(&self, offset: u64, len: usize) -> Result<(u32, usize, usize), Errno> {
        if len == 0 {
            return Ok((0, 0, 0));
        }
        let page_size = self.page_size();
        let start = offset as usize & (page_size - 1);
        // Before the sum below: what passes it is far from where that could overflow.
        let last = offset.checked_add(len as u64 - 1).ok_or(Errno::EFBIG)?;
        self.page_number(last)?;
        Ok((self.page_number(offset)?, (start + len).div_ceil(page_size), start))
    }

    /// Reads at `offset` into the leader's `buf`; how many bytes that were: fewer than asked for
    /// only at the end of the file, as in pread(2). Returns to all threads of the group, after all
    /// bytes are there.
    ///
    /// # Errors
    /// `EBUSY` if no page frame came free for long, since all are pinned; `EISDIR`, `ESPIPE` for
    /// what cannot be read at an offset; `EBADF` for a file opened with [`OpenOptions::write_once`];
    /// `EIO` from the host's storage, or if the host is gone; if all pages that could make room are
    /// dirty and cannot be written back, what the host said to that.
    #[inline]
    pub fn read_at<G: Group>(
        &self,
        group: &G,
        mut buf: impl IoBufMut,
        offset: u64,
    ) -> Result<usize, Errno> {
        self.may_read()?;
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
        // The page at hand, if it had to be fetched.
        let mut fetched = None;
        loop {
            let at = offset.wrapping_add(done);
            // SAFETY: the plan copies from a page that stays pinned until it is carried out to the
            // leader's buffer, exclusively ours; the two cannot overlap.
            let step = unsafe {
                mem::copy_led(group, || match fetched.take() {
                    Some(page) => self.copy_step(buf, at, done, page),
                    None => self.begin_step(buf, at, done),
                })
            };
            Errno::check(step.errno)?;
            if step.what == Step::MISS {
                fetched = Some(self.pin(group, step.number)?);
                continue;
            }
            if step.what == Step::END {
                return Ok(done as usize);
            }
            if group.is_leader() {
                self.fs.unpin(step.page, self.drops_pages());
            }
            done += step.len;
            if step.what == Step::LAST {
                return Ok(done as usize);
            }
        }
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
            Some(page) => match self.whole(page) {
                Ok(page) => self.copy_step(buf, at, done, page),
                Err(e) => (mem::Plan::NOTHING, Step { errno: e.raw(), ..none }),
            },
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
        self.may_read()?;
        View::new(group, self, offset, len)
    }

    /// As [`File::map`], but the group may change the bytes. What it has changed becomes the file's as
    /// what [`File::write_at`] writes does, when the view is unmapped or synchronised: exactly the bytes that
    /// differ then from what they were.
    ///
    /// # Errors
    /// As [`File::map`]; `EBADF` if the file was not opened for reading and writing; `EINVAL` for a range that
    /// is not wholly within the file ([`File::set_len`] makes it longer); `EBUSY` if there is no frame
    /// for the *twin* that each page has while it is mapped so.
    pub fn map_mut<G: Group>(
        &self,
        group: &G,
        offset: u64,
        len: usize,
    ) -> Result<ViewMut<G, I, E>, Errno> {
        self.may_read()?;
        self.may_write_at()?;
        ViewMut::new(group, self, offset, len)
    }
}
