//! Line search in the manner of grep, on the device.
//!
//! The host compiles patterns to a [`Program`], one contiguous blob without pointers. Device
//! threads take [`Item`]s, each a byte range of one file, and feed the pages of that range to a
//! [`LineSearcher`]:
//!
//! ```text
//!   blob ──► Program ──► Matcher ─┐
//!   pages of the file ──feed()──► LineSearcher ──► Sink (records in the output arena)
//!                                 └─ scratch: the line that a page boundary cuts
//! ```
//!
//! An item owns every line that *starts* in its range and reads on past the range until the last
//! of them is complete. The pages are searched where they lie; only a line that straddles two of
//! them is copied.
//!
//! Much is not inlined, for a GPU's registers: those that functions keep over calls, from the kernel down to a
//! byte's comparison, must not be more than a thread has.

mod arena;
mod chars;
mod dfa;
mod item;
mod kernel;
mod lanes;
mod lines;
mod matcher;
mod needle;
mod program;
mod search;
mod set;
mod shape;
mod words;

pub use arena::{Arena, Bump, ChunkHeader, Record, RecordKind, Sink};
pub use chars::{WORD_INDEX_LEN, WordChars};
pub use dfa::Undecided;
pub use item::{Item, ItemResult, Status, Tally, Task, TaskFlags};
pub use kernel::{GrepArgs, PathRef, grep};
pub use lines::LineSearcher;
pub use matcher::{Eol, Hit, Matcher};
pub use program::{
    Accept, Find, Header, PROGRAM_MAGIC, PROGRAM_VERSION, Program, ProgramError, ProgramFlags,
    Section,
};
pub use search::{Pages, Search};
pub use set::{Probe, SetEntry, SetHeader, block_hash, prefix_hash};
pub use shape::{ByteTest, ShapeHeader};
pub use words::{Phrase, Run, Slot, WordsHeader, hash_run};
