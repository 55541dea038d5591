//! The host's side of face verification: stores made, a server launched, a client that checks it.
//!
//! | module | owns |
//! |---|---|
//! | [`cli`], [`app`] | the command line, and what it comes to |
//! | [`faces`] | synthetic faces |
//! | [`store`] | the file of references, written and read |
//! | [`enrol`] | stores of synthetic faces, and of image files |
//! | [`reference`](mod@reference) | the same distances by plain code |
//! | [`probes`] | requests whose replies are known |
//! | [`client`] | the load generator |
//! | [`report`] | what it measured, as text, JSON and drawing |

pub mod app;
pub mod cli;
pub mod client;
pub mod enrol;
pub mod faces;
pub mod probes;
pub mod reference;
pub mod report;
pub mod store;
