//! Stores on the host: written, checked, read. Their format is that of
//! [`gpu_kernels::verify::store`].

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bytemuck::Zeroable;
use gpu_kernels::verify::lbp::{Counting, Framed, Method, Shape};
use gpu_kernels::verify::store::{
    Entry, FormatError, Header, INDEX_AT, PROBES_MAX, SLOTS_MAX, hash, reference_len,
};
use gpu_kernels::verify::wire::ID_MAX;
use gpu_rt::wide;

/// The file of references in a store's directory.
pub const FILE: &str = "references.lbp";

/// Why a store cannot be made or used, with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// There is none.
    #[error("{path}: there is no store; make one with --generate or --enroll")]
    Missing {
        /// The file that would be it.
        path: String,
    },
    /// It is no store, or damaged.
    #[error("{path}: {source}; make it anew with --generate or --enroll")]
    Format {
        /// The file.
        path: String,
        /// Why.
        source: FormatError,
    },
    /// There can be no such images.
    #[error(
        "images of {}x{} in {}x{} cells cannot be: choose a --size of 1 to 65,536 pixels, and a --grid \
         that divides it into cells of fewer", .0.width, .0.height, .0.columns, .0.rows
    )]
    Shape(Shape),
    /// An identity is too short or too long.
    #[error("'{0}' is no identity: it needs 1 to {ID_MAX} bytes; rename the image")]
    Id(String),
    /// Two images of one identity.
    #[error("two images are called '{0}': rename one, or put it elsewhere")]
    Twice(String),
    /// More than an index can have.
    #[error("{0} identities are more than a store can have: 536,870,912")]
    Many(usize),
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> StoreError + '_ {
    |source| StoreError::Io { path: path.display().to_string(), source }
}

/// The counts of an image's patterns, cell after cell: what a reference has. The image has as many pixels as
/// the shape, which is valid.
#[must_use]
pub fn counts(pixels: &[u8], shape: Shape, method: Method) -> Vec<u16> {
    let mut framed = vec![0; shape.framed_len()];
    let width = shape.width as usize;
    for (row, line) in pixels.chunks_exact(width).enumerate() {
        framed[shape.framed_row(row)..][..width].copy_from_slice(line);
    }
    let mut all = Vec::with_capacity(shape.cells() * method.bins());
    if let Some(image) = Framed::new(&framed, shape) {
        let each = |_: usize, counts: &[u16]| all.extend_from_slice(counts);
        wide(Counting { image, method, first: 0, step: 1, each });
    }
    all
}

/// A store in the making. It gets its name when it is complete.
pub struct StoreWriter {
    path: PathBuf,
    out: BufWriter<tempfile::NamedTempFile>,
    header: Header,
    index: Vec<Entry>,
}

impl StoreWriter {
    /// Begins the store of a directory, which is made if need be, with room for `most` references.
    ///
    /// # Errors
    /// [`StoreError::Shape`], [`StoreError::Many`], [`StoreError::Io`].
    pub fn new(
        dir: &Path,
        shape: Shape,
        method: Method,
        seed: u64,
        most: usize,
    ) -> Result<StoreWriter, StoreError> {
        let path = dir.join(FILE);
        // Half of the entries stay free, so that few have to be looked at.
        let slots = most.checked_mul(2).and_then(usize::checked_next_power_of_two);
        let slots = slots.and_then(|n| u32::try_from(n.max(64)).ok()).filter(|n| *n <= SLOTS_MAX);
        let slots = slots.ok_or(StoreError::Many(most))?;
        let header = Header::new(shape, method).ok_or(StoreError::Shape(shape))?;
        let header = Header { slots, seed, ..header };
        std::fs::create_dir_all(dir).map_err(io_error(dir))?;
        let file = tempfile::Builder::new()
            .prefix(".verify-")
            .permissions(PermissionsExt::from_mode(0o644))
            .tempfile_in(dir)
            .map_err(io_error(&path))?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        out.seek(SeekFrom::Start(header.reference_at(0))).map_err(io_error(&path))?;
        Ok(StoreWriter { path, out, header, index: vec![Entry::zeroed(); slots as usize] })
    }

    /// Adds an identity with its [`counts`].
    ///
    /// # Errors
    /// [`StoreError::Id`], [`StoreError::Twice`], [`StoreError::Many`], [`StoreError::Io`].
    pub fn push(&mut self, id: &str, counts: &[u16]) -> Result<(), StoreError> {
        let entry = Entry::new(id.as_bytes(), self.header.count);
        let entry = entry.ok_or_else(|| StoreError::Id(id.into()))?;
        let first = hash(id.bytes()) as usize;
        let mut probe = 0;
        loop {
            let slot =
                &mut self.index[first.wrapping_add(probe) & (self.header.slots as usize - 1)];
            if slot.len == 0 {
                *slot = entry;
                break;
            }
            if slot.id == entry.id && slot.len == entry.len {
                return Err(StoreError::Twice(id.into()));
            }
            probe += 1;
            if probe == (PROBES_MAX.min(self.header.slots)) as usize {
                return Err(StoreError::Many(self.header.count as usize + 1));
            }
        }
        self.header.probes = self.header.probes.max(probe as u32 + 1);
        let bytes: &[u8] = bytemuck::cast_slice(counts);
        let padding = vec![0; self.header.stride as usize - bytes.len()];
        let written = self.out.write_all(bytes).and_then(|()| self.out.write_all(&padding));
        written.map_err(io_error(&self.path))?;
        self.header.count += 1;
        Ok(())
    }

    /// Completes the store, which replaces the directory's old one.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn finish(self) -> Result<Header, StoreError> {
        let error = io_error(&self.path);
        let file = self.out.into_inner().map_err(|e| error(e.into_error()))?;
        let whole = file.as_file();
        whole.write_all_at(bytemuck::bytes_of(&self.header), 0).map_err(&error)?;
        whole.write_all_at(bytemuck::cast_slice(&self.index), INDEX_AT).map_err(&error)?;
        // Without references nothing lies behind the index.
        whole.set_len(self.header.file_len()).map_err(&error)?;
        file.persist(&self.path).map_err(|e| error(e.error))?;
        Ok(self.header)
    }
}

/// A store whose header and length are as they should be.
#[derive(Debug)]
pub struct Store {
    /// Its file.
    pub path: PathBuf,
    /// What it begins with.
    pub header: Header,
    /// How patterns are sorted.
    pub method: Method,
    file: File,
}

impl Store {
    /// The store in a directory.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Format`], [`StoreError::Io`].
    pub fn open(dir: &Path) -> Result<Store, StoreError> {
        let path = dir.join(FILE);
        let mut file = File::open(&path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => StoreError::Missing { path: path.display().to_string() },
            _ => io_error(&path)(e),
        })?;
        let format = |source| StoreError::Format { path: path.display().to_string(), source };
        let mut header = Header::zeroed();
        match file.read_exact(bytemuck::bytes_of_mut(&mut header)) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(format(FormatError::NotAStore));
            }
            outcome => outcome.map_err(io_error(&path))?,
        }
        let len = file.metadata().map_err(io_error(&path))?.len();
        let method = header.check(len).map_err(format)?;
        Ok(Store { path, header, method, file })
    }

    /// The identities in the order of their references.
    ///
    /// # Errors
    /// [`StoreError::Io`]; [`StoreError::Format`] if the index is not what the header says.
    pub fn ids(&self) -> Result<Vec<String>, StoreError> {
        let mut index = vec![Entry::zeroed(); self.header.slots as usize];
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut index);
        self.file.read_exact_at(bytes, INDEX_AT).map_err(io_error(&self.path))?;
        let mut ids = vec![String::new(); self.header.count as usize];
        for entry in index.iter().filter(|entry| entry.len != 0) {
            let id = entry.id().and_then(|id| std::str::from_utf8(id).ok());
            let place = ids.get_mut(entry.record as usize).filter(|place| place.is_empty());
            match (id, place) {
                (Some(id), Some(place)) => *place = id.into(),
                _ => return Err(self.damaged()),
            }
        }
        if ids.iter().any(String::is_empty) { Err(self.damaged()) } else { Ok(ids) }
    }

    fn damaged(&self) -> StoreError {
        let path = self.path.display().to_string();
        StoreError::Format { path, source: FormatError::Index }
    }

    /// The counts of a reference.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn reference(&self, record: u32) -> Result<Vec<u16>, StoreError> {
        let len = reference_len(self.header.shape, self.method).unwrap_or(0);
        let mut counts = vec![0u16; len / 2];
        let at = self.header.reference_at(record);
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut counts);
        self.file.read_exact_at(bytes, at).map_err(io_error(&self.path))?;
        Ok(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { width: 8, height: 6, columns: 2, rows: 3 };

    fn made(dir: &Path, ids: &[String]) -> Header {
        let mut writer = StoreWriter::new(dir, SHAPE, Method::Uniform, 7, ids.len()).unwrap();
        for (number, id) in ids.iter().enumerate() {
            writer.push(id, &counts(&[number as u8; 48], SHAPE, Method::Uniform)).unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn what_was_written_is_read() {
        for count in [0, 1, 300] {
            let dir = tempfile::tempdir().unwrap();
            let ids: Vec<_> = (0..count).map(|n| format!("person {n}")).collect();
            let header = made(dir.path(), &ids);
            let store = Store::open(dir.path()).unwrap();
            assert_eq!((store.header, store.ids().unwrap()), (header, ids));
            assert_eq!(header.count, count);
            for record in 0..count {
                let expected = counts(&[record as u8; 48], SHAPE, Method::Uniform);
                assert_eq!(store.reference(record).unwrap(), expected);
            }
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
        }
    }

    #[test]
    fn damage_is_named_with_file_and_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let message = |error: StoreError| error.to_string();
        assert!(message(Store::open(dir.path()).unwrap_err()).contains("--generate"));
        made(dir.path(), &["a".into(), "b".into()]);
        let path = dir.path().join(FILE);
        let good = std::fs::read(&path).unwrap();
        for bad in [&good[..10], &good[..good.len() - 1], &[b"x", &good[1..]].concat()] {
            std::fs::write(&path, bad).unwrap();
            let said = message(Store::open(dir.path()).unwrap_err());
            assert!(said.contains(FILE) && said.contains("--enroll"), "{said}");
        }
        // Both entries of one record.
        let mut bad = good.clone();
        for entry in bad[4096..][..64 * 64].chunks_exact_mut(64) {
            entry[60] = 0;
        }
        std::fs::write(&path, bad).unwrap();
        assert!(message(Store::open(dir.path()).unwrap().ids().unwrap_err()).contains("index"));
    }

    #[test]
    fn identities_are_checked() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = StoreWriter::new(dir.path(), SHAPE, Method::Default, 0, 4).unwrap();
        let counts = counts(&[0; 48], SHAPE, Method::Default);
        writer.push(&"x".repeat(ID_MAX), &counts).unwrap();
        let refused = |writer: &mut StoreWriter, id: &str| writer.push(id, &counts).unwrap_err();
        assert!(matches!(refused(&mut writer, ""), StoreError::Id(_)));
        assert!(matches!(refused(&mut writer, &"x".repeat(ID_MAX + 1)), StoreError::Id(_)));
        assert!(matches!(refused(&mut writer, &"x".repeat(ID_MAX)), StoreError::Twice(_)));
        let shape = Shape { columns: 3, ..SHAPE };
        let refused = StoreWriter::new(dir.path(), shape, Method::Default, 0, 4).err().unwrap();
        assert!(refused.to_string().contains("--grid"));
    }
}
