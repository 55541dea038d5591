//! grep, searched by GPU threads: everything but the command line's last word.

mod blob;
mod bracket;
mod charset;
pub mod compile;
pub mod locale;
pub mod referee;
mod required;
pub mod syntax;
