//! Which files are searched, in which order: operands as given, directories sorted by name.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::listing::{self, Listing};
use super::resolve::Entry;
use super::sheet::errno_text;

/// What to do with a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directories {
    /// Say that it is one.
    Read,
    /// Nothing.
    Skip,
    /// Search the files below it; symbolic links there are not followed.
    Recurse,
    /// The same, and follow them.
    RecurseFollowing,
}

/// One `--include` or `--exclude`.
#[derive(Clone, Debug)]
pub struct Glob {
    /// Whether it includes.
    pub include: bool,
    /// The pattern, as for fnmatch(3).
    pub pattern: CString,
}

/// Which files to take.
#[derive(Clone, Debug)]
pub struct Selection {
    /// What to do with directories.
    pub directories: Directories,
    /// `--include` and `--exclude`, in the order in which they are given.
    pub globs: Vec<Glob>,
    /// `--exclude-dir`.
    pub exclude_dirs: Vec<CString>,
    /// `-s`.
    pub no_messages: bool,
    /// Device and inode of the regular file that output goes to, if it does.
    pub output: Option<(u64, u64)>,
    /// The name of standard input (`--label`).
    pub label: Option<Vec<u8>>,
}

/// What a walk comes across.
#[derive(Debug)]
pub enum Step {
    /// A file to search.
    File(Entry),
    /// A message and whether it is about an error.
    Message(Vec<u8>, bool),
    /// An error that nothing is said about.
    Failure,
}

/// The receiver of a walk has had enough.
#[derive(Debug)]
pub struct Enough;

/// Walks operands.
pub struct Walk<'a, F> {
    selection: &'a Selection,
    /// Takes what is found.
    take: F,
    /// Spooled input, kept open while it may be searched.
    pub spooled: &'a mut Vec<OwnedFd>,
    /// For reading directories.
    buffer: Vec<MaybeUninit<u8>>,
}

impl<'a, F: FnMut(Step) -> Result<(), Enough>> Walk<'a, F> {
    /// A walk that hands what it finds to `take`.
    pub fn new(selection: &'a Selection, spooled: &'a mut Vec<OwnedFd>, take: F) -> Self {
        let buffer = vec![MaybeUninit::uninit(); listing::BUFFER];
        Walk { selection, take, spooled, buffer }
    }

    /// Walks one operand: `-` is standard input.
    ///
    /// # Errors
    /// [`Enough`] if `take` says so.
    pub fn operand(&mut self, operand: &OsStr) -> Result<(), Enough> {
        if operand == "-" {
            return self.standard_input();
        }
        let name = operand.as_bytes();
        let path = Path::new(operand);
        let meta = match fs::metadata(path) {
            Ok(meta) => meta,
            Err(e) => return self.error(name, &e),
        };
        if meta.is_dir() {
            if self.excluded_dir(name) {
                return Ok(());
            }
            return match self.selection.directories {
                Directories::Read => self.error(name, &io::Error::from_raw_os_error(libc::EISDIR)),
                Directories::Skip => Ok(()),
                _ => self.directory(path, name.to_vec(), &mut vec![(meta.dev(), meta.ino())]),
            };
        }
        if self.excluded(name, true) {
            return Ok(());
        }
        self.file(name.to_vec(), &meta)
    }

    /// Walks the current directory, whose name is left out.
    ///
    /// # Errors
    /// [`Enough`] if `take` says so.
    pub fn here(&mut self) -> Result<(), Enough> {
        match fs::metadata(".") {
            Ok(meta) => {
                let ancestors = &mut vec![(meta.dev(), meta.ino())];
                self.directory(Path::new("."), Vec::new(), ancestors)
            }
            Err(e) => self.error(b".", &e),
        }
    }

    fn error(&mut self, name: &[u8], error: &io::Error) -> Result<(), Enough> {
        if self.selection.no_messages {
            return (self.take)(Step::Failure);
        }
        let text = error.raw_os_error().map_or(error.to_string(), errno_text);
        let message = [b"grep: ", name, b": ", text.as_bytes()].concat();
        (self.take)(Step::Message(message, true))
    }

    fn standard_input(&mut self) -> Result<(), Enough> {
        let label = self.selection.label.as_deref();
        let name = label.unwrap_or(b"(standard input)");
        // SAFETY: the descriptor is not closed here: the file is taken apart again below.
        let stdin = unsafe { File::from_raw_fd(0) };
        let meta = stdin.metadata();
        let step = match meta {
            Ok(meta) if meta.is_dir() && self.selection.directories == Directories::Skip => None,
            Ok(meta) if meta.is_dir() => Some(Err(io::Error::from_raw_os_error(libc::EISDIR))),
            Ok(_) => Some(self.spool(&stdin)),
            Err(e) => Some(Err(e)),
        };
        std::mem::forget(stdin);
        match step {
            None => Ok(()),
            Some(Err(e)) => self.error(name, &e),
            Some(Ok((path, size))) => {
                (self.take)(Step::File(Entry { name: Some(name.to_vec()), path, size: Some(size) }))
            }
        }
    }

    /// Copies what can only be read once to memory; its path and size.
    fn spool(&mut self, mut from: &File) -> io::Result<(Vec<u8>, u64)> {
        // SAFETY: the name is a C string.
        let fd = unsafe { libc::memfd_create(c"input".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just created, and nobody else's.
        let mut to = unsafe { File::from_raw_fd(fd) };
        let size = io::copy(&mut from, &mut to)?;
        self.spooled.push(to.into());
        Ok((format!("/proc/self/fd/{fd}").into_bytes(), size))
    }

    fn file(&mut self, path: Vec<u8>, meta: &fs::Metadata) -> Result<(), Enough> {
        if meta.is_file() {
            if self.selection.output == Some((meta.dev(), meta.ino())) {
                let said = b": input file is also the output";
                return (self.take)(Step::Message([b"grep: ", &path[..], said].concat(), true));
            }
            return (self.take)(Step::File(Entry { name: None, path, size: Some(meta.size()) }));
        }
        let spooled = File::open(OsStr::from_bytes(&path)).and_then(|f| self.spool(&f));
        match spooled {
            Ok((spool, size)) => {
                (self.take)(Step::File(Entry { name: Some(path), path: spool, size: Some(size) }))
            }
            Err(e) => self.error(&path, &e),
        }
    }

    /// Walks a directory; `name` is what its files' names start with.
    fn directory(
        &mut self,
        path: &Path,
        name: Vec<u8>,
        ancestors: &mut Vec<(u64, u64)>,
    ) -> Result<(), Enough> {
        let follow = self.selection.directories == Directories::RecurseFollowing;
        let shown = if name.is_empty() { b".".to_vec() } else { name.clone() };
        let mut listing = Listing::default();
        if let Err(e) = listing.fill(path, &mut self.buffer) {
            return self.error(&shown, &e);
        }
        for entry in &listing.sorted() {
            let (file_name, file_type) = (listing.name(entry), entry.kind);
            let mut child = Vec::with_capacity(name.len() + 1 + file_name.len());
            child.extend_from_slice(&name);
            if !child.is_empty() && !child.ends_with(b"/") {
                child.push(b'/');
            }
            child.extend_from_slice(file_name);
            let is_dir = file_type.is_dir();
            if is_dir && self.excluded_dir(file_name)
                || file_type.is_file() && self.excluded(file_name, false)
                || file_type.is_symlink() && !follow
            {
                continue;
            }
            let may_be_output = self.selection.output.is_some_and(|(_, ino)| ino == entry.ino);
            if file_type.is_file() && !may_be_output {
                // Its size is told by whoever opens it: one question less for most files.
                (self.take)(Step::File(Entry { name: None, path: child, size: None }))?;
                continue;
            }
            // The name is also the path, which spares the joining.
            let path = Path::new(OsStr::from_bytes(&child));
            let meta = match if follow { fs::metadata(path) } else { fs::symlink_metadata(path) } {
                Ok(meta) => meta,
                Err(e) => {
                    self.error(&child, &e)?;
                    continue;
                }
            };
            let kind = meta.file_type();
            if meta.is_dir() {
                let own = (meta.dev(), meta.ino());
                if ancestors.contains(&own) {
                    let said = b": warning: recursive directory loop";
                    let message = [b"grep: ", &child[..], said].concat();
                    (self.take)(Step::Message(message, false))?;
                    continue;
                }
                ancestors.push(own);
                self.directory(path, child.clone(), ancestors)?;
                ancestors.pop();
                continue;
            }
            let special = kind.is_char_device()
                || kind.is_block_device()
                || kind.is_fifo()
                || kind.is_socket();
            let left_out = file_type.is_symlink() && self.excluded(file_name, false);
            if !special && !left_out {
                self.file(child, &meta)?;
            }
        }
        Ok(())
    }

    fn excluded_dir(&self, name: &[u8]) -> bool {
        // Trailing slashes do not count.
        let end = name.iter().rposition(|&b| b != b'/').map_or(name.len(), |i| i + 1);
        self.selection.exclude_dirs.iter().any(|glob| matches(glob, &name[..end], true))
    }

    /// Whether `--include` and `--exclude` leave a file out: the last that applies decides.
    fn excluded(&self, name: &[u8], operand: bool) -> bool {
        let globs = &self.selection.globs;
        let Some(first) = globs.first() else { return false };
        match globs.iter().rfind(|g| matches(&g.pattern, name, operand)) {
            Some(glob) => !glob.include,
            None => first.include,
        }
    }
}

/// Whether `glob` matches `name` or, for an operand, any part of it that follows a slash.
fn matches(glob: &CString, name: &[u8], operand: bool) -> bool {
    let one = |name: &[u8]| {
        let Ok(name) = CString::new(name) else { return false };
        // SAFETY: two C strings.
        unsafe { libc::fnmatch(glob.as_ptr(), name.as_ptr(), 0) == 0 }
    };
    let after_slash = (1..name.len()).filter(|&i| name[i - 1] == b'/' && name[i] != b'/');
    one(name) || operand && after_slash.into_iter().any(|i| one(&name[i..]))
}

/// Device and inode of standard output if it is a regular file.
pub fn regular_output() -> Option<(u64, u64)> {
    let meta = fs::metadata(format!("/proc/self/fd/{}", io::stdout().as_raw_fd())).ok()?;
    meta.is_file().then(|| (meta.dev(), meta.ino()))
}
