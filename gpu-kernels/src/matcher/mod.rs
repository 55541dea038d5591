//! Images looked for in databases of images, on the device.
//!
//! A database is a record file ([`mod@format`]). Every warp takes the next piece of the databases, has the
//! page cache lend it, and compares each record in it with every query ([`Queries`]). What it finds
//! goes to the query's [`Ranking`], which also tells all other warps what need not be looked at any
//! more:
//!
//! ```text
//!   record files ──pieces──► Compare ──► Ranking of each query ──► host
//!                 queries ──►   ▲                │
//!                               └───── bar ──────┘
//! ```

mod compare;
pub mod format;
mod kernel;
mod ranking;

pub use compare::{Queries, squared};
pub use format::{FormatError, Header, Shape, Strip};
pub use kernel::{CHANGED, Database, MatcherArgs, matcher};
pub use ranking::{Order, Ranking};
