//! Images found in databases of images by GPU threads: everything but the command line's last word.
//!
//! | module | owns |
//! |---|---|
//! | [`cli`], [`app`] | the command line, and what it comes to |
//! | [`library`] | paths: record files, images, directories of either |
//! | [`records`] | record files, written and read |
//! | [`images`] | image files, decoded and brought to one shape |
//! | [`mod@search`] | a search on a device |
//! | [`mod@reference`] | the same by the host's threads |
//! | [`output`], [`mod@page`] | what was found, as text and as a page |
//! | [`generate`], [`scene`] | synthetic images |

pub mod app;
pub mod cli;
pub mod generate;
pub mod images;
pub mod library;
pub mod output;
pub mod page;
pub mod records;
pub mod reference;
pub mod scene;
pub mod search;
