//! Numbers for versions of a file's content (clause O4).
//!
//! Two equal numbers mean equal content, as far as size, mtime and ctime can tell. A file whose
//! times lie in the present tick of the kernel's clock could be written again without its times
//! changing; such a version is never given out twice. Forgetting is always safe: it costs
//! the client its cached pages of the file.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Files remembered before the table is emptied: about 5 MiB.
const MAX_FILES: usize = 1 << 16;

/// What distinguishes one version of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) size: u64,
    pub(crate) mtime: (i64, u32),
    pub(crate) ctime: (i64, u32),
}

#[derive(Clone, Copy)]
struct Known {
    stamp: Stamp,
    version: u32,
    settled: bool,
}

/// All clients' files, by device and inode.
pub(crate) struct Versions {
    table: Mutex<Table>,
    /// Versions asked for so far.
    asked: AtomicU64,
}

struct Table {
    files: HashMap<(u64, u64), Known>,
    last: u32,
}

impl Versions {
    pub(crate) fn new() -> Versions {
        let table = Mutex::new(Table { files: HashMap::new(), last: 0 });
        Versions { table, asked: AtomicU64::new(0) }
    }

    /// To be called before a write of this daemon; the write's end takes it to [`Versions::wrote`].
    #[inline]
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    /// A write has ended. The kernel sets a file's times before it copies the bytes: whoever was told
    /// a version in between may have read old bytes under the new times, so that this version must
    /// not be given out again. `file` says which file it is, and is asked only where somebody was.
    #[inline]
    pub(crate) fn wrote(&self, asked_before: u64, file: impl FnOnce() -> Option<(u64, u64)>) {
        // SeqCst, as in `asked` and `of`: if the description lies between the write's two looks at
        // the count, they differ. If it lies before both, the times were still the old ones; if
        // after both, so do the reads that it leads to, and they find the new bytes.
        if self.asked.load(Ordering::SeqCst) != asked_before
            && let Some(file) = file()
        {
            self.table.lock().unwrap_or_else(PoisonError::into_inner).files.remove(&file);
        }
    }

    /// The version of the file (dev, ino) that has this stamp. `settled`: a later write is sure to
    /// change the stamp.
    pub(crate) fn of(&self, file: (u64, u64), stamp: Stamp, settled: bool) -> u32 {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        // SeqCst: see `wrote`. Under the lock, so that a `wrote` that sees it finds the entry.
        self.asked.fetch_add(1, Ordering::SeqCst);
        if let Some(known) = table.files.get(&file)
            && known.stamp == stamp
            && known.settled
        {
            return known.version;
        }
        if table.files.len() >= MAX_FILES {
            table.files.clear();
        }
        // 0 means no version. After 2^32 changes numbers come again; a client would have to have
        // kept pages of the same file for all that time.
        table.last = table.last.wrapping_add(1).max(1);
        let known = Known { stamp, version: table.last, settled };
        table.files.insert(file, known);
        known.version
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o4_a_version_lasts_as_long_as_the_stamp_and_only_if_it_is_settled() {
        let versions = Versions::new();
        let stamp = Stamp { size: 1, mtime: (5, 0), ctime: (5, 0) };
        let unsettled = versions.of((1, 1), stamp, false);
        let a = versions.of((1, 1), stamp, true);
        assert_ne!(a, unsettled);
        assert_eq!(versions.of((1, 1), stamp, true), a);
        assert_ne!(versions.of((1, 2), stamp, true), a, "another file");
        for other in [
            Stamp { size: 2, ..stamp },
            Stamp { mtime: (5, 1), ..stamp },
            Stamp { ctime: (6, 0), ..stamp },
        ] {
            assert_ne!(versions.of((1, 1), other, true), a);
        }
        assert_ne!(versions.of((1, 1), stamp, true), a, "it changed in between");
    }

    #[test]
    fn o4_a_version_told_during_a_write_is_not_told_again() {
        let versions = Versions::new();
        let stamp = Stamp { size: 1, mtime: (5, 0), ctime: (5, 0) };
        let told = versions.of((1, 1), stamp, true);
        let before = versions.asked();
        versions.wrote(before, || unreachable!("nobody was told anything meanwhile"));
        assert_eq!(versions.of((1, 1), stamp, true), told);
        versions.wrote(before, || Some((1, 1)));
        assert_ne!(versions.of((1, 1), stamp, true), told);
    }

    #[test]
    fn o4_memory_is_bounded_and_forgetting_never_repeats_a_number() {
        let versions = Versions::new();
        let stamp = Stamp { size: 1, mtime: (5, 0), ctime: (5, 0) };
        let first = versions.of((1, 0), stamp, true);
        for ino in 1..=MAX_FILES as u64 {
            versions.of((1, ino), stamp, true);
        }
        assert!(versions.table.lock().unwrap().files.len() <= MAX_FILES);
        assert_ne!(versions.of((1, 0), stamp, true), first);
    }
}
