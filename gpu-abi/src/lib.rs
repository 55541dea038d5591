//! The wire contract between device code and the host daemon.
//!
//! Both sides include this crate and nothing else of each other: what a request and a completion
//! are ([`request`]), where they lie in the shared region ([`layout`], [`region`]), in which order
//! their words are written and read ([`ring`], [`socket`]), and how failures are named ([`Errno`]). The
//! numbered rules stand in `docs/protocol.md`; [`mock`] plays either side in tests and fuzzers.
//!
//! The two sides use different machine instructions for the same words (a GPU needs scoped
//! atomics), so the protocol steps are generic over [`Atomics`], a family of atomic word types.
#![no_std]

pub mod errno;
pub mod layout;
pub mod mock;
pub mod region;
pub mod request;
pub mod ring;
pub mod slice;
pub mod socket;
pub mod words;

pub use errno::Errno;
pub use layout::{RegionConfig, RegionLayout};
pub use region::Region;
pub use request::{Completion, FileInfo, Op, OpenFlags, Request};
pub use slice::DeviceSlice;
pub use words::{Atomics, HostAtomics, Word32, Word64};
