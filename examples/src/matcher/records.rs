//! Record files on the host: written, checked, read. Their format is that of
//! [`gpu_kernels::matcher::format`].

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytemuck::Zeroable;
use gpu_kernels::matcher::format::MAGIC;
use gpu_kernels::matcher::{FormatError, Header, Shape};

/// Why a record file cannot be used, with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It begins with something that is no header.
    #[error("{path}: {source}; make it anew with --pack")]
    Format {
        /// The file.
        path: String,
        /// Why.
        source: FormatError,
    },
    /// It is shorter or longer than its header says.
    #[error(
        "{path}: {found} bytes, where {count} records and their names have {expected}; \
         make it anew with --pack"
    )]
    Length {
        /// The file.
        path: String,
        /// Bytes that it has.
        found: u64,
        /// Records that it should have.
        count: u64,
        /// Bytes that it should have.
        expected: u64,
    },
    /// There are fewer names than records.
    #[error("{path}: it does not name all of its {count} records; make it anew with --pack")]
    Names {
        /// The file.
        path: String,
        /// Records.
        count: u64,
    },
    /// Images of such a shape cannot be packed.
    #[error("images of {0} cannot be packed: they need 1 to 65,536 bytes; choose another --size")]
    Shape(Shape),
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> RecordError + '_ {
    |source| RecordError::Io { path: path.display().to_string(), source }
}

/// A record file whose header and length are as they should be.
#[derive(Debug)]
pub struct RecordFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it begins with.
    pub header: Header,
    file: File,
}

/// Where a record's image came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Its name, as it is printed.
    pub name: String,
    /// The image file, if it was made from one.
    pub file: Option<PathBuf>,
}

impl RecordFile {
    /// Whether the file at `path` begins as a record file does.
    pub fn is_one(path: &Path) -> bool {
        let mut magic = [0; MAGIC.len()];
        File::open(path).and_then(|f| f.read_exact_at(&mut magic, 0)).is_ok() && magic == MAGIC
    }

    /// Opens and checks it.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn open(path: &Path) -> Result<RecordFile, RecordError> {
        let shown = || path.display().to_string();
        let file = File::open(path).map_err(io_error(path))?;
        let found = file.metadata().map_err(io_error(path))?.len();
        let mut header = Header::zeroed();
        if found < size_of::<Header>() as u64 {
            return Err(RecordError::Format { path: shown(), source: FormatError::NotRecords });
        }
        file.read_exact_at(bytemuck::bytes_of_mut(&mut header), 0).map_err(io_error(path))?;
        header.check().map_err(|source| RecordError::Format { path: shown(), source })?;
        let expected = header.file_len();
        if found != expected {
            let count = header.count;
            return Err(RecordError::Length { path: shown(), found, count, expected });
        }
        Ok(RecordFile { path: path.to_owned(), header, file })
    }

    /// Fills `bytes` with the records from number `first` on, their padding included.
    ///
    /// # Errors
    /// [`RecordError::Io`].
    pub fn read(&self, first: u64, bytes: &mut [u8]) -> Result<(), RecordError> {
        let at = self.header.lead() + first * u64::from(self.header.stride);
        self.file.read_exact_at(bytes, at).map_err(io_error(&self.path))
    }

    /// The whole record with this number, its padding included.
    ///
    /// # Errors
    /// [`RecordError::Io`].
    pub fn record(&self, number: u64) -> Result<Vec<u8>, RecordError> {
        let mut bytes = vec![0; self.header.stride as usize];
        self.read(number, &mut bytes)?;
        Ok(bytes)
    }

    /// The names of all records.
    ///
    /// # Errors
    /// [`RecordError::Io`], [`RecordError::Names`].
    pub fn names(&self) -> Result<Names, RecordError> {
        let mut bytes = vec![0; self.header.names_len as usize];
        self.file.read_exact_at(&mut bytes, self.header.names()).map_err(io_error(&self.path))?;
        let ends: Vec<usize> = memchr::memchr_iter(0, &bytes).collect();
        // The first is that of the directory.
        if ends.len() as u64 != self.header.count + 1 {
            let path = self.path.display().to_string();
            return Err(RecordError::Names { path, count: self.header.count });
        }
        Ok(Names { bytes, ends })
    }
}

/// The names of a file's records.
pub struct Names {
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Names {
    /// Where the image of a record came from, which must be there.
    pub fn origin(&self, record: u64) -> Origin {
        let at = record as usize;
        let dir = &self.bytes[..self.ends[0]];
        let name = &self.bytes[self.ends[at] + 1..self.ends[at + 1]];
        Origin {
            name: String::from_utf8_lossy(name).into_owned(),
            file: (!dir.is_empty())
                .then(|| Path::new(OsStr::from_bytes(dir)).join(OsStr::from_bytes(name))),
        }
    }
}

/// A record file in the making. It gets its name when it is complete.
pub struct RecordWriter {
    path: PathBuf,
    out: BufWriter<tempfile::NamedTempFile>,
    header: Header,
    names: Vec<u8>,
}

impl RecordWriter {
    /// Begins a file at `path` of images of `shape`, whose names are those of files in `dir`, if there is
    /// one.
    ///
    /// # Errors
    /// [`RecordError::Shape`], [`RecordError::Io`].
    pub fn new(
        path: &Path,
        shape: Shape,
        dir: Option<&Path>,
        stamp: u64,
    ) -> Result<RecordWriter, RecordError> {
        let header = Header::new(shape, 0, 0, stamp).ok_or(RecordError::Shape(shape))?;
        let beside = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let file = tempfile::Builder::new()
            .prefix(".matcher-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(beside.unwrap_or(Path::new(".")))
            .map_err(io_error(path))?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        out.seek(SeekFrom::Start(header.lead())).map_err(io_error(path))?;
        let dir = dir.map_or(&b""[..], |dir| dir.as_os_str().as_bytes());
        let names = [dir, b"\0"].concat();
        Ok(RecordWriter { path: path.to_owned(), out, header, names })
    }

    /// Bytes of a record.
    pub fn stride(&self) -> usize {
        self.header.stride as usize
    }

    /// Appends a record: its pixels, and zeros if need be.
    ///
    /// # Errors
    /// [`RecordError::Io`].
    pub fn push(&mut self, name: &[u8], pixels: &[u8]) -> Result<(), RecordError> {
        assert!(pixels.len() <= self.stride(), "more pixels than the shape has");
        let padding = &[0; 1 << 16][..self.stride() - pixels.len()];
        let written = self.out.write_all(pixels).and_then(|()| self.out.write_all(padding));
        written.map_err(io_error(&self.path))?;
        self.header.count += 1;
        // A path has no NUL byte; what is not a path must not have any either.
        self.names.extend(name.iter().filter(|b| **b != 0));
        self.names.push(0);
        Ok(())
    }

    /// Completes the file, which replaces whatever had its name.
    ///
    /// # Errors
    /// [`RecordError::Io`].
    pub fn finish(mut self) -> Result<Header, RecordError> {
        let error = io_error(&self.path);
        self.header.names_len = self.names.len() as u64;
        self.out.write_all(&self.names).map_err(&error)?;
        let file = self.out.into_inner().map_err(|e| error(e.into_error()))?;
        file.as_file().write_all_at(bytemuck::bytes_of(&self.header), 0).map_err(&error)?;
        file.persist(&self.path).map_err(|e| error(e.error))?;
        Ok(self.header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { width: 10, height: 30, channels: 1 };

    fn written(path: &Path) -> Header {
        let mut writer = RecordWriter::new(path, SHAPE, Some(Path::new("/pictures")), 0).unwrap();
        writer.push(b"a.png", &[7; 300]).unwrap();
        writer.push(b"b/c.png", &[9; 300]).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn what_was_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.records");
        let header = written(&path);
        let file = RecordFile::open(&path).unwrap();
        assert!(RecordFile::is_one(&path));
        assert_eq!((file.header, header.count), (header, 2));
        assert_eq!(file.record(1).unwrap(), [&[9; 300][..], &[0; 212]].concat());
        let origin = file.names().unwrap().origin(1);
        assert_eq!(origin.name, "b/c.png");
        assert_eq!(origin.file.as_deref(), Some(Path::new("/pictures/b/c.png")));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn damage_is_named_with_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.records");
        written(&path);
        let good = std::fs::read(&path).unwrap();
        let refused = |bytes: &[u8], words: &[&str]| {
            std::fs::write(&path, bytes).unwrap();
            let names = RecordFile::open(&path).and_then(|file| file.names());
            let message = names.err().unwrap().to_string();
            for word in [&["x.records"], words].concat() {
                assert!(message.contains(word), "{message}");
            }
        };
        refused(b"", &["not a record file", "--pack"]);
        refused(&good[..good.len() - 1], &["2 records", "--pack"]);
        refused(&[&good[..], b"x"].concat(), &["2 records"]);
        refused(&[b"IMGRECS\n\x02", &good[9..]].concat(), &["version 2"]);
        let mut bad = good.clone();
        bad[good.len() - 1] = b'x';
        refused(&bad, &["does not name all"]);
        std::fs::remove_file(&path).unwrap();
        assert!(RecordFile::open(&path).unwrap_err().to_string().contains("x.records: No such"));
        let shape = Shape { width: 1000, ..SHAPE };
        let shape = Shape { height: 1000, ..shape };
        assert!(
            RecordWriter::new(&path, shape, None, 0).err().unwrap().to_string().contains("--size")
        );
    }
}
