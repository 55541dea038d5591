//! Requests, from a claimed completion cell to the answer in it: what files and sockets share of
//! the device's side of the protocol.
//!
//! A mount implements [`Port`] by saying where its parts lie; everything else is provided. The steps
//! follow `docs/protocol.md`; clause ids are given where they are met.
//!
//! | module | owns |
//! |---|---|
//! | [`bitmap`] | pools of numbered things, as bits in device memory |
//! | [`patience`] | when a wait has become hopeless (clause H2) |
//! | [`port`] | cells, tickets, posting, answers |
//! | [`place`] | a port whose parts' addresses stand in a header |
#![no_std]

pub mod bitmap;
pub mod patience;
pub mod place;
pub mod port;

pub use bitmap::Bitmap;
pub use patience::Patience;
pub use place::{Placed, PortHeader};
pub use port::{Pool, Port, Tail, by_leader};
