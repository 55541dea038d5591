//! A directory's entries, with one allocation for all of their names.

use std::cmp::Ordering;
use std::io;
use std::mem::MaybeUninit;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, RawDir, openat};

/// Room for what the system is asked for at a time.
pub(super) const BUFFER: usize = 32 << 10;

/// One entry of a [`Listing`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// The first bytes of what it is sorted by, so that most comparisons need no look elsewhere.
    key: u64,
    start: u32,
    len: u32,
    /// What the directory says it is; asked for where it says nothing.
    pub(super) kind: FileType,
    /// Its inode.
    pub(super) ino: u64,
}

/// What a directory holds, but for itself and its parent.
#[derive(Debug, Default)]
pub(super) struct Listing {
    names: Vec<u8>,
    entries: Vec<Found>,
}

impl Listing {
    /// Reads a directory.
    ///
    /// # Errors
    /// As opendir(3) and readdir(3).
    pub(super) fn fill(&mut self, path: &Path, buffer: &mut [MaybeUninit<u8>]) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let dir = openat(CWD, path, flags, Mode::empty())?;
        let mut entries = RawDir::new(&dir, buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => {
                    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
                    let stat = rustix::fs::statat(&dir, entry.file_name(), flags)?;
                    FileType::from_raw_mode(stat.st_mode)
                }
                kind => kind,
            };
            let start = self.names.len();
            self.names.extend_from_slice(name);
            let found = Found {
                key: key(name, kind),
                // A directory's names are far from 4 GiB.
                start: start as u32,
                len: name.len() as u32,
                kind,
                ino: entry.ino(),
            };
            self.entries.push(found);
        }
        Ok(())
    }

    /// The entries in the order of the paths' bytes: a directory's have a slash next.
    pub(super) fn sorted(&mut self) -> Vec<Found> {
        let mut entries = std::mem::take(&mut self.entries);
        entries.sort_unstable_by(|a, b| {
            a.key.cmp(&b.key).then_with(|| order(self.name(a), a.kind, self.name(b), b.kind))
        });
        entries
    }

    /// An entry's name.
    pub(super) fn name(&self, entry: &Found) -> &[u8] {
        &self.names[entry.start as usize..][..entry.len as usize]
    }
}

/// The byte that follows an entry's name in the paths below it.
fn slash(kind: FileType) -> Option<u8> {
    kind.is_dir().then_some(b'/')
}

/// The first eight bytes as a number; names have no zero bytes, so that shorter ones come first.
fn key(name: &[u8], kind: FileType) -> u64 {
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(name.iter().copied().chain(slash(kind))) {
        *to = from;
    }
    u64::from_be_bytes(bytes)
}

fn order(a: &[u8], a_kind: FileType, b: &[u8], b_kind: FileType) -> Ordering {
    let common = a.len().min(b.len());
    a[..common].cmp(&b[..common]).then_with(|| {
        let a = a[common..].iter().copied().chain(slash(a_kind));
        a.cmp(b[common..].iter().copied().chain(slash(b_kind)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_in_the_order_of_the_paths_below_them() {
        let dir = tempfile::tempdir().unwrap();
        let files = ["a", "a.b", "a0", "longer-name", "longer-name.x", "longer-nam", "b!", "é"];
        let dirs = ["a-", "c", "longer-name-", "longer-name+", "b"];
        for name in files {
            std::fs::write(dir.path().join(name), []).unwrap();
        }
        let mut want: Vec<String> = files.map(String::from).to_vec();
        for name in dirs {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            want.push(format!("{name}/"));
        }
        want.sort_unstable_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        let mut listing = Listing::default();
        // Too small for all of them at once.
        listing.fill(dir.path(), &mut [MaybeUninit::uninit(); 300]).unwrap();
        let got = listing.sorted();
        let got = got.iter().map(|e| {
            let name = String::from_utf8(listing.name(e).to_vec()).unwrap();
            if e.kind.is_dir() { name + "/" } else { name }
        });
        assert_eq!(got.collect::<Vec<_>>(), want);
        assert!(Listing::default().fill(&dir.path().join("a"), &mut []).is_err());
    }
}
