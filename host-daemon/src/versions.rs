//! Numbers for versions of a file's content (clause O4).
//!
//! Two equal numbers mean equal content, as far as size, mtime and ctime can tell. A file whose
//! times lie in the present tick of the kernel's clock could be written again without its times
//! changing; such a version is never given out twice. Forgetting is always safe: it costs
//! the client its cached pages of the file.

use std::collections::HashMap;
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
}

struct Table {
    files: HashMap<(u64, u64), Known>,
    last: u32,
}

impl Versions {
    pub(crate) fn new() -> Versions {
        Versions { table: Mutex::new(Table { files: HashMap::new(), last: 0 }) }
    }

    /// The version of the file (dev, ino) that has this stamp. `settled`: a later write is sure to
    /// change the stamp.
    pub(crate) fn of(&self, file: (u64, u64), stamp: Stamp, settled: bool) -> u32 {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
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
