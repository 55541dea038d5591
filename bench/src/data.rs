//! The file of random words that reads are measured on.

use crate::Result;
use crate::scale::Scale;
use gpu_kernels::writes::word;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A file of random words, in the operating system's page cache.
pub(crate) struct DataFile {
    path: PathBuf,
    len: u64,
}

impl DataFile {
    /// The file of this scale, made if it is not there, and read once.
    pub(crate) fn new(scale: &Scale) -> Result<DataFile> {
        std::fs::create_dir_all(&scale.dir)
            .map_err(|e| format!("{}: {e}; set BENCH_DIR to a directory", scale.dir.display()))?;
        let file = DataFile { path: scale.dir.join("words.bin"), len: scale.file };
        if std::fs::metadata(&file.path).is_ok_and(|meta| meta.len() == file.len) && file.warm()? {
            return Ok(file);
        }
        eprintln!("  writing {} MiB to {}", file.len >> 20, file.path.display());
        let mut out = BufWriter::with_capacity(1 << 20, File::create(&file.path)?);
        for number in 0..file.len / 8 {
            out.write_all(&word(number).to_le_bytes())?;
        }
        // On the disk, so that no write-back runs beside the measures.
        out.into_inner()?.sync_all()?;
        if file.warm()? { Ok(file) } else { Err("the file does not keep what was written".into()) }
    }

    /// Reads the file; whether each page begins with the word that it should.
    fn warm(&self) -> Result<bool> {
        let mut file = File::open(&self.path)?;
        let mut block = vec![0; 64 << 10];
        for at in (0..self.len).step_by(block.len()) {
            let n = block.len().min((self.len - at) as usize);
            file.read_exact(&mut block[..n])?;
            for page in (0..n).step_by(4096) {
                if block[page..page + 8] != word((at + page as u64) / 8).to_le_bytes() {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes in it.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The sum of the first words of all pieces of `bytes`.
    pub(crate) fn first_words(&self, bytes: u64) -> u64 {
        (0..self.len / bytes).fold(0, |sum, piece| sum.wrapping_add(word(piece * bytes / 8)))
    }

    /// Its first `bytes` bytes.
    pub(crate) fn beginning(&self, bytes: usize) -> Result<Vec<u8>> {
        let mut block = vec![0; bytes];
        File::open(&self.path)?.read_exact_at(&mut block, 0)?;
        Ok(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let scale = Scale::tiny(dir.path());
        let data = DataFile::new(&scale).unwrap();
        let sum = data.beginning(data.len() as usize).unwrap();
        let sum = sum.chunks(4096).fold(0u64, |sum, page| {
            sum.wrapping_add(u64::from_le_bytes(*page.first_chunk().unwrap()))
        });
        assert_eq!(sum, data.first_words(4096));
        File::options().write(true).open(data.path()).unwrap().write_at(b"damage", 8192).unwrap();
        assert!(!data.warm().unwrap());
        assert!(DataFile::new(&scale).unwrap().warm().unwrap());
    }
}
