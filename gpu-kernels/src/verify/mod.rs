//! A server that verifies faces: whether the image that a client sends shows the person it names.
//!
//! The work is that of GPUnet's face verification (Kim et al., OSDI 2014), with histograms of local binary
//! patterns compared by chi-square (Ahonen, Hadid and Pietikäinen, PAMI 2006): the image is cut into a grid
//! of cells, each cell's patterns are counted, and the counts are compared with those of the person's
//! stored reference. Persistent warps do all of it:
//!
//! ```text
//!   socket ring ──request──▶ wire ──image──▶ lbp ──counts──▶ chi-square ──distance──▶ socket ring
//!                              └──identity──▶ store (page cache) ──reference──▲
//! ```
//!
//! A lane takes whole cells, so that its counts are its own and only distances are added up.
//!
//! | module | owns |
//! |---|---|
//! | [`wire`] | requests and replies |
//! | [`store`] | the file of references |
//! | [`lbp`] | local binary patterns, counts of them, the distance |
//! | [`kernel`] | the server |

pub mod kernel;
pub mod lbp;
pub mod store;
pub mod wire;

pub use kernel::{ACCEPTED, DAMAGED, FAILED, REFUSED, UNKNOWN, VERIFIED, Verify, verify};
