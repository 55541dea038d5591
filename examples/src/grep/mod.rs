//! grep, searched by GPU threads: everything but the command line's last word.

pub mod app;
pub mod backend;
mod binary;
mod blob;
mod bracket;
mod charset;
pub mod cli;
pub mod compile;
mod listing;
pub mod locale;
mod records;
pub mod referee;
mod required;
mod resolve;
pub mod run;
pub mod settings;
mod shape;
mod sheet;
pub mod syntax;
mod utf8;
pub mod walk;

pub use resolve::Entry;
