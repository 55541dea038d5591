//! What a command line names: record files, images, directories of either.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use gpu_kernels::matcher::{Shape, Strip};

use super::images::{self, ImageFile};
use super::records::{Origin, RecordError, RecordFile, RecordWriter};

/// The ending of record files that are found in directories.
pub const EXTENSION: &str = "records";

/// What stands at a path.
enum Found {
    Records(Vec<PathBuf>),
    Images(Vec<ImageFile>),
}

fn find(path: &Path) -> Result<Found, String> {
    let error = |e: std::io::Error| format!("{}: {e}", path.display());
    if !path.metadata().map_err(error)?.is_dir() {
        return Ok(
            if RecordFile::is_one(path) || path.extension().is_some_and(|e| e == EXTENSION) {
                Found::Records(vec![path.to_owned()])
            } else {
                let name = path.file_name().unwrap_or(path.as_os_str()).into();
                Found::Images(vec![ImageFile { path: path.to_owned(), name }])
            },
        );
    }
    let mut records = Vec::new();
    for entry in path.read_dir().map_err(error)? {
        let path = entry.map_err(error)?.path();
        if path.extension().is_some_and(|e| e == EXTENSION) && path.is_file() {
            records.push(path);
        }
    }
    records.sort();
    if !records.is_empty() {
        return Ok(Found::Records(records));
    }
    let images = images::below(path).map_err(error)?;
    if images.is_empty() {
        let shown = path.display();
        return Err(format!("{shown}: neither images nor .{EXTENSION} files are in there"));
    }
    Ok(Found::Images(images))
}

/// Record files to look through, and messages about images that are not in them.
#[derive(Debug, Default)]
pub struct Databases {
    /// In the order of the command line.
    pub files: Vec<RecordFile>,
    /// What each is called: its file, or the directory of the images in it.
    pub names: Vec<String>,
    /// What could not be used.
    pub messages: Vec<String>,
}

/// The shape of all images: what was `asked` for, else that of the first record file.
///
/// # Errors
/// A message that names the file.
pub fn shape_of(paths: &[PathBuf], asked: Option<Shape>) -> Result<Shape, String> {
    if let Some(shape) = asked {
        return Ok(shape);
    }
    for path in paths {
        if let Found::Records(files) = find(path)? {
            return Ok(RecordFile::open(&files[0]).map_err(|e| e.to_string())?.header.shape);
        }
    }
    Ok(Shape { width: 64, height: 64, channels: 1 })
}

fn opened(path: &Path, shape: Shape) -> Result<RecordFile, String> {
    let file = RecordFile::open(path).map_err(|e| e.to_string())?;
    if file.header.shape != shape {
        let (found, path) = (file.header.shape, path.display());
        return Err(format!(
            "{path}: its images are {found}, the others {shape}; make it anew with --pack and --size {}x{}",
            shape.width, shape.height
        ));
    }
    Ok(file)
}

/// Opens the record files at `paths`; images there are packed first, and kept in the user's cache for
/// the next time.
///
/// # Errors
/// A message that names the file.
pub fn databases(paths: &[PathBuf], shape: Shape) -> Result<Databases, String> {
    let mut all = Databases::default();
    for path in paths {
        match find(path)? {
            Found::Records(files) => {
                for path in files {
                    all.files.push(opened(&path, shape)?);
                    all.names.push(path.display().to_string());
                }
            }
            Found::Images(images) => {
                let kept = kept_at(path, shape)?;
                let stamp = images::stamp(&images);
                let current = RecordFile::open(&kept).ok().filter(|f| f.header.stamp == stamp);
                if current.is_none() {
                    let dir = dir_of(path)?;
                    all.messages.extend(pack(&images, shape, &kept, &dir, stamp)?);
                }
                all.files.push(opened(&kept, shape)?);
                all.names.push(path.display().to_string());
            }
        }
    }
    Ok(all)
}

/// The directory that the names of images at `path` are relative to.
fn dir_of(path: &Path) -> Result<PathBuf, String> {
    let whole = path.canonicalize().map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(if whole.is_dir() { whole } else { whole.parent().map_or(whole.clone(), Path::to_owned) })
}

/// Where the packed images of `path` are kept.
fn kept_at(path: &Path, shape: Shape) -> Result<PathBuf, String> {
    let whole = path.canonicalize().map_err(|e| format!("{}: {e}", path.display()))?;
    let mut hasher = DefaultHasher::new();
    whole.hash(&mut hasher);
    let home = |name: &str, below: &str| {
        std::env::var_os(name).filter(|v| !v.is_empty()).map(|v| PathBuf::from(v).join(below))
    };
    let base = home("XDG_CACHE_HOME", "").or_else(|| home("HOME", ".cache"));
    let dir = base.unwrap_or_else(std::env::temp_dir).join("gpu-matcher");
    std::fs::create_dir_all(&dir)
        .map_err(|e| format!("{}: {e}; set XDG_CACHE_HOME to a directory", dir.display()))?;
    let name = whole.file_name().map_or("images".into(), |name| name.to_string_lossy());
    Ok(dir.join(format!("{name}-{:016x}-{shape}.{EXTENSION}", hasher.finish())))
}

/// Packs images; messages about those that are left out. If there are any, the file gets no stamp,
/// so that they are told of again the next time.
fn pack(
    images: &[ImageFile],
    shape: Shape,
    to: &Path,
    dir: &Path,
    stamp: u64,
) -> Result<Vec<String>, String> {
    let attempt = |stamp| {
        let mut messages = Vec::new();
        let mut writer = RecordWriter::new(to, shape, Some(dir), stamp)?;
        images::load_all(images, shape, |image, loaded| {
            match loaded {
                Ok(pixels) => writer.push(image.name.as_os_str().as_bytes(), &pixels)?,
                Err(message) => messages.push(message),
            }
            Ok::<_, RecordError>(())
        })?;
        if messages.is_empty() || stamp == 0 {
            writer.finish()?;
        }
        Ok::<_, RecordError>(messages)
    };
    let mut messages = attempt(stamp).map_err(|e| e.to_string())?;
    if !messages.is_empty() && stamp != 0 {
        messages = attempt(0).map_err(|e| e.to_string())?;
    }
    Ok(messages)
}

/// Packs the images at `path` into the record file `to`; how many, and messages about those that are left
/// out.
///
/// # Errors
/// A message that names the file.
pub fn pack_into(to: &Path, path: &Path, shape: Shape) -> Result<(u64, Vec<String>), String> {
    let images = match find(path)? {
        Found::Images(images) => images,
        Found::Records(files) => {
            return Err(format!("{}: already packed", files[0].display()));
        }
    };
    let dir = dir_of(path)?;
    let messages = pack(&images, shape, to, &dir, 0)?;
    let header = RecordFile::open(to).map_err(|e| e.to_string())?.header;
    Ok((header.count, messages))
}

/// What to look for.
#[derive(Debug, Default)]
pub struct QuerySet {
    /// Where each came from.
    pub origins: Vec<Origin>,
    /// The pixels of each, padded as a record is.
    pub records: Vec<Vec<u8>>,
    /// What could not be used.
    pub messages: Vec<String>,
}

/// The images at `paths`, in `shape`.
///
/// # Errors
/// A message that names the file.
pub fn queries(paths: &[PathBuf], shape: Shape) -> Result<QuerySet, String> {
    let stride = gpu_kernels::matcher::Header::new(shape, 0, 0, 0).map(|h| h.stride as usize);
    let stride = stride.ok_or_else(|| RecordError::Shape(shape).to_string())?;
    let mut all = QuerySet::default();
    for path in paths {
        match find(path)? {
            Found::Records(files) => {
                for path in files {
                    let file = opened(&path, shape)?;
                    let names = file.names().map_err(|e| e.to_string())?;
                    for number in 0..file.header.count {
                        all.origins.push(names.origin(number));
                        all.records.push(file.record(number).map_err(|e| e.to_string())?);
                    }
                }
            }
            Found::Images(images) => images::load_all(&images, shape, |image, loaded| {
                match loaded {
                    Ok(mut pixels) => {
                        pixels.resize(stride, 0);
                        let name = image.name.to_string_lossy().into_owned();
                        all.origins.push(Origin { name, file: Some(image.path.clone()) });
                        all.records.push(pixels);
                    }
                    Err(message) => all.messages.push(message),
                }
                Ok::<_, String>(())
            })?,
        }
    }
    Ok(all)
}

/// The records strip by strip, as [`gpu_kernels::matcher::Queries`] has them.
pub fn strips(records: &[Vec<u8>]) -> Vec<Strip> {
    let per_record = records.first().map_or(0, |r| r.len() / size_of::<Strip>());
    let strip = |at: usize, record: &Vec<u8>| {
        bytemuck::pod_read_unaligned(&record[at * size_of::<Strip>()..][..size_of::<Strip>()])
    };
    (0..per_record).flat_map(|at| records.iter().map(move |record| strip(at, record))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_stand_side_by_side() {
        let record = |a: u8, b: u8| [[a; 256], [b; 256]].concat();
        let strips = strips(&[record(1, 2), record(3, 4), record(5, 6)]);
        assert!(strips.iter().map(|s| s.0[255]).eq([1, 3, 5, 2, 4, 6]));
    }
}
