//! How much of everything, and where files go.

use std::path::PathBuf;

/// The sizes of a run.
#[derive(Clone, Debug)]
pub(crate) struct Scale {
    /// Rounds that count.
    pub(crate) rounds: usize,
    /// Bytes of the file that reads are measured on: a power of two.
    pub(crate) file: u64,
    /// Bytes of text to search, at least.
    pub(crate) corpus: u64,
    /// One file of so many is in the sample for what takes long.
    pub(crate) sample: u64,
    /// Words in the dictionary.
    pub(crate) words: usize,
    /// Images in the databases that are looked through.
    pub(crate) images: u64,
    /// Requests of one round of a rate.
    pub(crate) requests: u64,
    /// The most threads.
    pub(crate) threads: u32,
    /// Where files go.
    pub(crate) dir: PathBuf,
}

impl Scale {
    /// What the README quotes.
    pub(crate) fn full() -> Scale {
        Scale {
            rounds: 7,
            file: 1 << 30,
            corpus: 520_000_000,
            sample: 64,
            words: 58_000,
            images: 1 << 19,
            requests: 1 << 20,
            threads: 65_536,
            dir: dir().join("full"),
        }
    }

    /// To see whether something has become better or worse.
    pub(crate) fn quick() -> Scale {
        Scale {
            rounds: 3,
            file: 256 << 20,
            corpus: 60_000_000,
            sample: 64,
            words: 58_000,
            images: 1 << 15,
            requests: 1 << 18,
            threads: 65_536,
            dir: dir().join("quick"),
        }
    }

    /// To see whether the answers are right.
    #[cfg(test)]
    pub(crate) fn tiny(dir: &std::path::Path) -> Scale {
        Scale {
            rounds: 1,
            file: 1 << 20,
            corpus: 100_000,
            sample: 4,
            words: 50,
            images: 2048,
            requests: 4096,
            threads: 1024,
            dir: dir.to_owned(),
        }
    }
}

fn dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("BENCH_DIR") {
        return dir.into();
    }
    // target/release/bench → target/bench-data
    let exe = std::env::current_exe().unwrap_or_default();
    exe.ancestors().nth(2).map_or_else(std::env::temp_dir, |dir| dir.join("bench-data"))
}
