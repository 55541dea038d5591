//! Opening and closing: many openers of one file cost one request.
//!
//! ```text
//!            claim a record         the answer came
//!    FREE ────────────────▶ OPENING ───────────────▶ OPEN ──┐ more openers: +1 reference
//!     ▲                        │                      │ ▲───┘ closers: -1
//!     │                        ▼ refused by the host, │
//!     │            FAILED, LOST    or another record  │
//!     │            or ALIAS    │   has the name or    │
//!     │                        │   the file           │ no reference is left
//!     └──────────── CLOSING ◀──┴──────────────────────┘
//! ```
//!
//! A file that is open for writing is one file to all who open it on this device, by whatever name and
//! options: the first record that was opened for writing is the file's *master*, found by the inode in a
//! table of its own. Later opens of the file end as an ALIAS of it, and their openers take a reference
//! to the master instead. So all see what any of them wrote, and the size that it made.
//!
//! The word of a record is {generation, state, references} as that of a frame is {generation, state,
//! pins}; a reference may be added in any state and counts only in OPENING, OPEN and FAILED. A record
//! to which such a reference was added stays what it is until it is given back: also one that is LOST,
//! which somebody may have come to by an old entry of the table.

use crate::evict::Eviction;
use crate::file::OpenFile;
use crate::frame::PageKey;
use crate::index::{Entry, PageIndex};
use crate::mount::Fs;
use crate::options::{How, OpenOptions};
use crate::port::Patience;
use crate::stats::Count;
use gpu_abi::request::{CELL_NONE, HANDLE_NONE, PATH_MAX};
use gpu_abi::{Completion, Errno, FileInfo, Op, OpenFlags, Request};
use gpu_rt::atomic::Ordering;
use gpu_rt::{Group, Thread, mem};

const STATE: u64 = 7 << 32;
const OPENING: u64 = 1 << 32;
const OPEN: u64 = 2 << 32;
const FAILED: u64 = 3 << 32;
const CLOSING: u64 = 4 << 32;
const LOST: u64 = 5 << 32;
const ALIAS: u64 = 6 << 32;
const GENERATION: u64 = 1 << 35;
const REFERENCES: u64 = (1 << 32) - 1;

/// FNV-1a over the path and the options, as the key of the table of open files.
fn name_key(path: &[u8], options: OpenOptions) -> PageKey {
    let start = 0xcbf2_9ce4_8422_2325 ^ u64::from(options.sharing());
    let hash = path
        .iter()
        .fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    // 0 is the name of a record that is not in the table.
    PageKey(hash.max(1))
}

/// The key of a record's file in the table of masters.
fn inode_key(record: &OpenFile) -> PageKey {
    let (ino, dev) = record.inode();
    PageKey(ino ^ dev.rotate_left(40))
}

impl<I: PageIndex, E: Eviction> Fs<I, E> {
    /// Opens a file for a leader; the number of its record, with a reference.
    pub(crate) fn open_record<G: Group>(
        &self,
        path: &[u8],
        options: OpenOptions,
    ) -> Result<u32, Errno> {
        check_path(path)?;
        self.count(Count::Opens, 1);
        let mut index = if options.flags.contains(OpenFlags::EXCLUSIVE) {
            // Each asks the host for itself: of many who make a file one has made it.
            let index = self.claim_record()?;
            self.fill_name(index, PageKey(0), path, options);
            self.request_open::<G>(index, path, options)?
        } else {
            self.open_by_name::<G>(path, options)?
        };
        // A record that was opened for reading before the file was opened for writing.
        if self.globals().masters.load(Ordering::Relaxed) != 0
            && !self.open_file(index).is_writable()
            && let Some(master) = self.find_master(self.open_file(index))
        {
            self.unreference(index);
            index = master;
        }
        let record = self.open_file(index);
        if record.is_writable() {
            // Relaxed: the last close looks after it has taken its own away, by a read-modify-write.
            record.opens.fetch_add(1, Ordering::Relaxed);
            if !options.how.has(How::TEMPORARY) {
                record.temporary.store(0, Ordering::Relaxed);
            }
        }
        Ok(index)
    }

    fn open_by_name<G: Group>(&self, path: &[u8], options: OpenOptions) -> Result<u32, Errno> {
        let key = name_key(path, options);
        loop {
            if let Some(index) = self.names().find(key, |entry| {
                self.is_name(entry.number(), key, path, options).then_some(entry.number())
            }) {
                match self.await_open(index)? {
                    Some(index) => return Ok(index),
                    None => continue,
                }
            }
            let index = self.claim_record()?;
            let record = self.open_file(index);
            self.fill_name(index, key, path, options);
            let mut other = None;
            let is_same = |entry: Entry| {
                let same = self.is_name(entry.number(), key, path, options);
                if same {
                    other = Some(entry.number());
                }
                same
            };
            if self.names().insert(key, Entry::frame(index), is_same) {
                return self.request_open::<G>(index, path, options);
            }
            // Another record has the name. This one never was in the table, but whoever came by an
            // entry of its last name, if that was the same, waits for it. Release: as for OPEN.
            record.word.fetch_add(LOST - OPENING, Ordering::Release);
            self.tell_openers(record);
            self.unreference(index);
            // The reference is the one that `is_name` took.
            if let Some(index) = other
                && let Some(index) = self.await_open(index)?
            {
                return Ok(index);
            }
        }
    }

    /// A free record; waits while others are on their way to be free.
    fn claim_record(&self) -> Result<u32, Errno> {
        let mut patience = Patience::new();
        loop {
            if let Some(index) = self.file_bits().claim(gpu_rt::thread::index() as u32 / 32) {
                return Ok(index);
            }
            if self.all_records_are_open() {
                return Err(Errno::ENFILE);
            }
            patience.spin(self.region().header())?;
        }
    }

    /// The master of a record's file, with a reference, if it is open for writing.
    fn find_master(&self, of: &OpenFile) -> Option<u32> {
        self.masters().find(inode_key(of), |entry| {
            self.is_master(entry.number(), of).then_some(entry.number())
        })
    }

    /// Takes a reference if the record `index` is the master of the file of another.
    fn is_master(&self, index: u32, of: &OpenFile) -> bool {
        let record = self.open_file(index);
        // Acquire: pairs with the release in `request_open`, for the description.
        let old = record.word.fetch_add(1, Ordering::Acquire);
        if old & STATE == OPEN && record.is_writable() && record.inode() == of.inode() {
            return true;
        }
        self.pass(index);
        false
    }

    /// Whether every record is an open file's that somebody uses. Closes those that nobody does: see
    /// [`Fs::pass`].
    fn all_records_are_open(&self) -> bool {
        let mut all = true;
        for index in 0..self.header().open_files {
            // Relaxed: a closing goes by the compare-exchange of `close_if_unused`.
            let word = self.open_file(index).word.load(Ordering::Relaxed);
            if word & STATE != OPEN {
                all = false;
            } else if word & REFERENCES == 0 {
                self.close_if_unused(index, word);
                all = false;
            }
        }
        all
    }

    /// Takes a reference if the record is this name's and alive.
    fn is_name(&self, index: u32, key: PageKey, path: &[u8], options: OpenOptions) -> bool {
        let record = self.open_file(index);
        if record.name.load(Ordering::Relaxed) != key.0 {
            return false;
        }
        // Acquire: pairs with the release in `fill_name`.
        let old = record.word.fetch_add(1, Ordering::Acquire);
        let alive = matches!(old & STATE, OPENING | OPEN | FAILED);
        if alive && self.name_matches(index, key, path, options) {
            return true;
        }
        self.pass(index);
        false
    }

    /// Takes back a reference that was only for looking. Not [`Fs::unreference`]: the table's lock may
    /// be held, which closing needs. A file that its last user gave back in this very moment stays
    /// open, until it is next opened and closed by its name or its record is needed.
    fn pass(&self, index: u32) {
        // Relaxed: nothing was changed under this reference.
        let word = self.open_file(index).word.fetch_sub(1, Ordering::Relaxed) - 1;
        // These are in no table any more: that needs no lock, and nobody will come for them.
        if matches!(word & (STATE | REFERENCES), FAILED | LOST | ALIAS) {
            self.close_if_unused(index, word);
        }
    }

    fn name_matches(&self, index: u32, key: PageKey, path: &[u8], options: OpenOptions) -> bool {
        let record = self.open_file(index);
        if record.name.load(Ordering::Relaxed) != key.0
            || record.flags.load(Ordering::Relaxed) != options.sharing()
            || record.path_len.load(Ordering::Relaxed) as usize != path.len()
        {
            return false;
        }
        // SAFETY: the record is referenced and alive, so its path does not change; the buffer has
        // room for `PATH_MAX` bytes, and this many of them were written.
        path == unsafe { core::slice::from_raw_parts(self.path_buffer(index), path.len()) }
    }

    /// A claimed record becomes OPENING, with one reference.
    fn fill_name(&self, index: u32, key: PageKey, path: &[u8], options: OpenOptions) {
        let record = self.open_file(index);
        record.name.store(key.0, Ordering::Relaxed);
        record.flags.store(options.sharing(), Ordering::Relaxed);
        record.path_len.store(path.len() as u32, Ordering::Relaxed);
        record.next_page.store(0, Ordering::Relaxed);
        record.window.store(0, Ordering::Relaxed);
        record.ahead.store(0, Ordering::Relaxed);
        record.temporary.store(u32::from(options.how.has(How::TEMPORARY)), Ordering::Relaxed);
        // SAFETY: the record is FREE and ours; `check_path` bounded the length.
        unsafe {
            mem::copy(&Thread, self.path_buffer(index), path.as_ptr(), path.len());
        }
        // Release: pairs with the acquire in `is_name`, for those who come by an old entry.
        record.word.fetch_add(OPENING + GENERATION + 1, Ordering::Release);
    }

    /// Opens a record's file on the host; the record that it is open by, with the caller's reference.
    #[inline(never)]
    fn request_open<G: Group>(
        &self,
        index: u32,
        path: &[u8],
        options: OpenOptions,
    ) -> Result<u32, Errno> {
        let record = self.open_file(index);
        match self.open_on_host::<G>(index, path, options) {
            Ok(Some(master)) => {
                record.alias.store(master, Ordering::Relaxed);
                self.drop_name(record, index);
                // Release: pairs with `await_open`'s acquire.
                record.word.fetch_add(ALIAS - OPENING, Ordering::Release);
                self.tell_openers(record);
                self.unreference(index);
                Ok(master)
            }
            Ok(None) => {
                // Release: pairs with `await_open`'s acquire, and that of `is_master`.
                record.word.fetch_add(OPEN - OPENING, Ordering::Release);
                self.tell_openers(record);
                Ok(index)
            }
            Err(e) => {
                record.errno.store(e.raw(), Ordering::Relaxed);
                // Whoever comes from now on asks the host anew.
                self.drop_name(record, index);
                record.word.fetch_add(FAILED - OPENING, Ordering::Release);
                self.tell_openers(record);
                self.unreference(index);
                Err(e)
            }
        }
    }

    /// Takes a record's name out of the table, if it is there.
    fn drop_name(&self, record: &OpenFile, index: u32) {
        let key = PageKey(record.name.load(Ordering::Relaxed));
        if key.0 != 0 {
            self.names().remove(key, Entry::frame(index));
        }
    }

    /// Asks the host to open the file of a record, and fills the record. If the file is open for writing
    /// already: its master, with a reference, and the host has closed the new handle.
    #[inline(never)]
    fn open_on_host<G: Group>(
        &self,
        index: u32,
        path: &[u8],
        options: OpenOptions,
    ) -> Result<Option<u32>, Errno> {
        let record = self.open_file(index);
        let writes = options.flags.contains(OpenFlags::WRITE);
        match self.ask_to_open::<G>(record, path, options.flags) {
            // What may be written but not read can be opened for that alone.
            Err(Errno::EACCES) if writes && !options.how.has(How::READ) => {
                let flags = OpenFlags(options.flags.0 & !OpenFlags::READ.0);
                self.ask_to_open::<G>(record, path, flags)?;
            }
            outcome => outcome?,
        }
        if record.version() == 0 {
            return Ok(None);
        }
        if !writes {
            if self.globals().masters.load(Ordering::Relaxed) == 0 {
                return Ok(None);
            }
            let master = self.find_master(record);
            if master.is_some() {
                self.close_on_host(record);
            }
            return Ok(master);
        }
        // Those who look for a master find it when it is OPEN; until then they wait at its lock.
        if let Some(master) = self.become_master(index)? {
            self.close_on_host(record);
            return Ok(Some(master));
        }
        if options.how.has(How::TRUNCATE)
            && record.size().load(Ordering::Relaxed) != 0
            && let Err(e) = self.ask_to_truncate::<G>(record)
        {
            self.resign(record, index);
            self.close_on_host(record);
            return Err(e);
        }
        Ok(None)
    }

    /// Asks the host to open a file; its answer goes to the record.
    #[inline(never)]
    fn ask_to_open<G: Group>(
        &self,
        record: &OpenFile,
        path: &[u8],
        flags: OpenFlags,
    ) -> Result<(), Errno> {
        let request =
            Request { op: Op::Open as u8, flags: flags.0, ..bytemuck::Zeroable::zeroed() };
        let answer = self.call_with_path::<G>(request, path)?;
        record.handle.store(answer.result()? as u32, Ordering::Relaxed);
        record.store_info(&answer.info());
        Ok(())
    }

    /// Asks the host to cut a record's file to nothing.
    #[inline(never)]
    fn ask_to_truncate<G: Group>(&self, record: &OpenFile) -> Result<(), Errno> {
        let handle = record.handle.load(Ordering::Relaxed);
        let request = Request { op: Op::Truncate as u8, handle, ..bytemuck::Zeroable::zeroed() };
        let answer = self.call::<G>(request)?;
        answer.result()?;
        record.store_info(&answer.info());
        Ok(())
    }

    /// Has the host close a record's file. Nobody waits for it.
    #[inline(never)]
    fn close_on_host(&self, record: &OpenFile) {
        let handle = record.handle.load(Ordering::Relaxed);
        let request = Request { op: Op::Close as u8, handle, ..bytemuck::Zeroable::zeroed() };
        // If the host is gone there is nothing left to close.
        self.post_alone(CELL_NONE, request).ok();
    }

    /// Enters a record that is OPENING as its file's master; another one that is, with a reference.
    #[inline(never)]
    fn become_master(&self, index: u32) -> Result<Option<u32>, Errno> {
        let record = self.open_file(index);
        let mut patience = Patience::new();
        loop {
            let mut master = None;
            let mut opening = false;
            let is_same = |entry: Entry| {
                let other = entry.number();
                if self.is_master(other, record) {
                    master = Some(other);
                    return true;
                }
                // One that was entered and is not open yet, or is being closed: it will tell.
                opening = self.open_file(other).inode() == record.inode();
                opening
            };
            if self.masters().insert(inode_key(record), Entry::frame(index), is_same) {
                self.globals().masters.fetch_add(1, Ordering::Relaxed);
                return Ok(None);
            }
            if master.is_some() {
                return Ok(master);
            }
            debug_assert!(opening);
            patience.spin(self.region().header())?;
        }
    }

    /// Takes a record out of the table of masters.
    fn resign(&self, record: &OpenFile, index: u32) {
        self.masters().remove(inode_key(record), Entry::frame(index));
        self.globals().masters.fetch_sub(1, Ordering::Relaxed);
    }

    fn tell_openers(&self, record: &OpenFile) {
        // Release: pairs with the acquire of the wait in `await_open`.
        record.turn.fetch_add(1, Ordering::Release);
    }

    /// Waits, with a reference, until the record is open; gives the reference back if it failed. `None`
    /// if another record has the name.
    fn await_open(&self, index: u32) -> Result<Option<u32>, Errno> {
        let record = self.open_file(index);
        let mut patience = Patience::new();
        loop {
            let turn = record.turn.load(Ordering::Acquire);
            // Acquire: pairs with the releases in `request_open`.
            match record.word.load(Ordering::Acquire) & STATE {
                OPEN => return Ok(Some(index)),
                FAILED => {
                    let errno = Errno::check(record.errno.load(Ordering::Relaxed));
                    self.unreference(index);
                    return Err(errno.err().unwrap_or(Errno::EIO));
                }
                LOST => {
                    self.unreference(index);
                    return Ok(None);
                }
                ALIAS => {
                    let master = record.alias.load(Ordering::Relaxed);
                    let found = self.is_master(master, record);
                    self.unreference(index);
                    return Ok(found.then_some(master));
                }
                _ => patience.wait(self.region().header(), &record.turn, turn)?,
            }
        }
    }

    /// Gives a reference back; whoever gives the last one back closes the file.
    pub(crate) fn unreference(&self, index: u32) {
        let record = self.open_file(index);
        // Release: pairs with the acquire in `close_if_unused`: the file is closed after its last use.
        let old = record.word.fetch_sub(1, Ordering::Release);
        let word = old - 1;
        if word & REFERENCES != 0 || !matches!(word & STATE, OPEN | FAILED | LOST | ALIAS) {
            return;
        }
        self.close_if_unused(index, word);
    }

    /// OPEN, FAILED, LOST or ALIAS, as `word` says, without references → CLOSING → FREE, unless that has changed.
    fn close_if_unused(&self, index: u32, word: u64) {
        let record = self.open_file(index);
        let closing = word - (word & STATE) + CLOSING;
        // Acquire: pairs with the release in `unreference`. Of several who see no reference one wins.
        if record
            .word
            .compare_exchange(word, closing, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            return;
        }
        if word & STATE == OPEN {
            self.drop_name(record, index);
            if record.is_writable() && record.version() != 0 {
                self.resign(record, index);
            }
            self.close_on_host(record);
        }
        self.drop_record(index);
    }

    /// CLOSING → FREE.
    fn drop_record(&self, index: u32) {
        let record = self.open_file(index);
        // Subtracts the state alone: references that pass by stay intact, as do their removals.
        record.word.fetch_sub(CLOSING, Ordering::Relaxed);
        self.file_bits().release(index);
    }

    /// A request that names a path: it travels in the cell's transfer slot.
    pub(crate) fn call_with_path<G: Group>(
        &self,
        mut request: Request,
        path: &[u8],
    ) -> Result<Completion, Errno> {
        let (cell, _) = self.claim_with_path(path)?;
        request.buf = u64::from(cell) * u64::from(self.header().slot_size);
        request.len = path.len() as u32;
        let tag = self.post::<G>(cell, request)?;
        let completion = self.wait_for(cell, tag)?;
        self.release_cell(cell);
        Ok(completion)
    }

    /// Describes the file at `path`, following symbolic links.
    ///
    /// # Errors
    /// As stat(2); `ENAMETOOLONG` for a path of more than [`PATH_MAX`] bytes, `EIO` if the host is
    /// gone.
    pub fn stat<G: Group>(&self, group: &G, path: &[u8]) -> Result<FileInfo, Errno> {
        self.by_leader(group, || {
            let request =
                Request { op: Op::Stat as u8, handle: HANDLE_NONE, ..bytemuck::Zeroable::zeroed() };
            let completion = self.call_with_path::<G>(request, path)?;
            completion.result()?;
            Ok(completion.info())
        })
    }
}

pub(crate) fn check_path(path: &[u8]) -> Result<(), Errno> {
    match path.len() {
        0 => Err(Errno::ENOENT),
        1..=PATH_MAX => Ok(()),
        _ => Err(Errno::ENAMETOOLONG),
    }
}
