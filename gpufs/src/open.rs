//! Opening and closing: many openers of one file cost one request.
//!
//! ```text
//!            claim a record         the answer came
//!    FREE ────────────────▶ OPENING ───────────────▶ OPEN ──┐ more openers: +1 reference
//!     ▲                        │                      │ ▲───┘ closers: -1
//!     │                        ▼ refused by the host, │
//!     │            FAILED or LOST  or another record  │
//!     │                        │   has the name       │ no reference is left
//!     └──────────── CLOSING ◀──┴──────────────────────┘
//! ```
//!
//! The word of a record is {generation, state, references} as that of a frame is {generation, state,
//! pins}; a reference may be added in any state and counts only in OPENING, OPEN and FAILED. A record
//! to which such a reference was added stays what it is until it is given back: also one that is LOST,
//! which somebody may have come to by an old entry of the table.

use crate::evict::Eviction;
use crate::file::{OpenFile, OpenOptions};
use crate::frame::PageKey;
use crate::index::{Entry, PageIndex};
use crate::mount::Fs;
use crate::port::Patience;
use crate::stats::Count;
use gpu_abi::request::{CELL_NONE, HANDLE_NONE, PATH_MAX};
use gpu_abi::{Completion, Errno, FileInfo, Op, Request};
use gpu_rt::atomic::Ordering;
use gpu_rt::{Group, Thread, mem};

const STATE: u64 = 7 << 32;
const OPENING: u64 = 1 << 32;
const OPEN: u64 = 2 << 32;
const FAILED: u64 = 3 << 32;
const CLOSING: u64 = 4 << 32;
const LOST: u64 = 5 << 32;
const GENERATION: u64 = 1 << 35;
const REFERENCES: u64 = (1 << 32) - 1;

/// FNV-1a over the path and the options, as the key of the table of open files.
fn name_key(path: &[u8], options: OpenOptions) -> PageKey {
    let start = 0xcbf2_9ce4_8422_2325 ^ u64::from(options.flags.0);
    PageKey(
        path.iter().fold(start, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        }),
    )
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
        let key = name_key(path, options);
        let mut patience = Patience::new();
        loop {
            if let Some(index) = self.names().find(key, |entry| {
                self.is_name(entry.number(), key, path, options).then_some(entry.number())
            }) {
                match self.await_open(index)? {
                    Some(index) => return Ok(index),
                    None => continue,
                }
            }
            let Some(index) = self.file_bits().claim(gpu_rt::thread::index() as u32 / 32) else {
                if self.all_records_are_open() {
                    return Err(Errno::ENFILE);
                }
                patience.spin(&self.region())?;
                continue;
            };
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
                self.request_open::<G>(index, key, path, options)?;
                return Ok(index);
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
        if matches!(word & (STATE | REFERENCES), FAILED | LOST) {
            self.close_if_unused(index, word);
        }
    }

    fn name_matches(&self, index: u32, key: PageKey, path: &[u8], options: OpenOptions) -> bool {
        let record = self.open_file(index);
        if record.name.load(Ordering::Relaxed) != key.0
            || record.flags.load(Ordering::Relaxed) != u32::from(options.flags.0)
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
        record.flags.store(u32::from(options.flags.0), Ordering::Relaxed);
        record.path_len.store(path.len() as u32, Ordering::Relaxed);
        record.next_page.store(0, Ordering::Relaxed);
        record.window.store(0, Ordering::Relaxed);
        record.ahead.store(0, Ordering::Relaxed);
        // SAFETY: the record is FREE and ours; `check_path` bounded the length.
        unsafe {
            mem::copy(&Thread, self.path_buffer(index), path.as_ptr(), path.len());
        }
        // Release: pairs with the acquire in `is_name`, for those who come by an old entry.
        record.word.fetch_add(OPENING + GENERATION + 1, Ordering::Release);
    }

    fn request_open<G: Group>(
        &self,
        index: u32,
        key: PageKey,
        path: &[u8],
        options: OpenOptions,
    ) -> Result<(), Errno> {
        let record = self.open_file(index);
        let request =
            Request { op: Op::Open as u8, flags: options.flags.0, ..bytemuck::Zeroable::zeroed() };
        let answer = self.call_with_path::<G>(request, path);
        let outcome = answer.and_then(|c| c.result().map(|handle| (handle, c.info())));
        match outcome {
            Ok((handle, info)) => {
                record.handle.store(handle as u32, Ordering::Relaxed);
                record.store_info(&info);
                // Release: pairs with `await_open`'s acquire.
                record.word.fetch_add(OPEN - OPENING, Ordering::Release);
                self.tell_openers(record);
                Ok(())
            }
            Err(e) => {
                record.errno.store(e.raw(), Ordering::Relaxed);
                // Whoever comes from now on asks the host anew.
                self.names().remove(key, Entry::frame(index));
                record.word.fetch_add(FAILED - OPENING, Ordering::Release);
                self.tell_openers(record);
                self.unreference(index);
                Err(e)
            }
        }
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
                _ => patience.wait(&self.region(), &record.turn, turn)?,
            }
        }
    }

    /// Gives a reference back; whoever gives the last one back closes the file.
    pub(crate) fn unreference(&self, index: u32) {
        let record = self.open_file(index);
        // Release: pairs with the acquire in `close_if_unused`: the file is closed after its last use.
        let old = record.word.fetch_sub(1, Ordering::Release);
        let word = old - 1;
        if word & REFERENCES != 0 || !matches!(word & STATE, OPEN | FAILED | LOST) {
            return;
        }
        self.close_if_unused(index, word);
    }

    /// OPEN, FAILED or LOST, as `word` says, without references → CLOSING → FREE, unless that has changed.
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
            let key = PageKey(record.name.load(Ordering::Relaxed));
            self.names().remove(key, Entry::frame(index));
            let request = Request {
                op: Op::Close as u8,
                handle: record.handle.load(Ordering::Relaxed),
                ..bytemuck::Zeroable::zeroed()
            };
            // Nobody waits for it. If the host is gone there is nothing left to close.
            self.post_alone(CELL_NONE, request).ok();
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
