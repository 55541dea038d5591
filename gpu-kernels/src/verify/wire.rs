//! Requests and replies.
//!
//! ```text
//!   request   0  magic "VRFY"            reply   0  magic "VRFY"
//!             4  version (16 bits): 1            4  status (16 bits)
//!             6  bytes of the identity (16)      6  accepted (16): 1 if within the threshold
//!             8  width (16)                      8  tag of the request
//!            10  height (16)                    12  zero (32)
//!            12  tag (32): comes back           16  distance (64)
//!            16  threshold (64)                 24  the threshold that counted (64)
//!            24  zero (64)                      32
//!            32  identity, 1 to 56 bytes
//!             …  pixels, a byte each, row by row
//! ```
//!
//! Numbers are little-endian. A connection carries any number of requests, each of which has one reply, in
//! their order; a client may send the next before the reply to the last. Distances and
//! thresholds are in the units of [`chi_square`](super::lbp::chi_square), for the whole image; a threshold of all ones stands
//! for the server's. After [`Status::BadRequest`], [`Status::WrongSize`] and, if the server has no
//! store at all, [`Status::StoreDamaged`] or [`Status::StoreUnavailable`], the server closes the connection: it does not
//! know where the next request would begin.

use super::lbp::Shape;
use crate::http::bytes::{Bytes, Span};
use bytemuck::{Pod, Zeroable};

/// The first bytes of requests and replies.
pub const MAGIC: [u8; 4] = *b"VRFY";
/// The version that is described here.
pub const VERSION: u16 = 1;
/// The most bytes of an identity.
pub const ID_MAX: usize = 56;
/// The threshold that stands for the server's.
pub const THRESHOLD_OF_SERVER: u64 = u64::MAX;

/// The beginning of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Request {
    /// [`MAGIC`].
    pub magic: [u8; 4],
    /// [`VERSION`].
    pub version: u16,
    /// Bytes of the identity.
    pub id_len: u16,
    /// Pixels in a row.
    pub width: u16,
    /// Rows.
    pub height: u16,
    /// Comes back with the reply.
    pub tag: u32,
    /// The greatest distance to accept, or [`THRESHOLD_OF_SERVER`].
    pub threshold: u64,
    /// Zero.
    pub reserved: u64,
}

/// Bytes before the identity.
pub const REQUEST_LEN: usize = size_of::<Request>();

/// A reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Reply {
    /// [`MAGIC`].
    pub magic: [u8; 4],
    /// A [`Status`].
    pub status: u16,
    /// Whether the distance is at most the threshold.
    pub accepted: u16,
    /// That of the request; zero if it had none.
    pub tag: u32,
    /// Zero.
    pub reserved: u32,
    /// The distance; zero unless the status is [`Status::Ok`].
    pub distance: u64,
    /// The threshold that counted; zero unless the status is [`Status::Ok`].
    pub threshold: u64,
}

/// Bytes of a reply.
pub const REPLY_LEN: usize = size_of::<Reply>();

impl Reply {
    /// A distance, and whether it is accepted.
    #[must_use]
    pub fn verified(tag: u32, distance: u64, threshold: u64) -> Reply {
        let accepted = u16::from(distance <= threshold);
        Reply { accepted, distance, threshold, ..Reply::without(Status::Ok, tag) }
    }

    /// A status without a distance.
    #[must_use]
    pub fn without(status: Status, tag: u32) -> Reply {
        Reply { magic: MAGIC, status: status as u16, tag, ..Reply::zeroed() }
    }
}

/// What a reply says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Status {
    /// The distance is there.
    Ok = 0,
    /// The store has no such identity.
    UnknownIdentity = 1,
    /// That was no request: another magic or version, an identity of no or too many bytes, or a
    /// reserved field in use.
    BadRequest = 2,
    /// The store's images have other sides, or the server's rings have no room for such a request.
    WrongSize = 3,
    /// The store is not what its header says.
    StoreDamaged = 4,
    /// The store cannot be read.
    StoreUnavailable = 5,
}

impl Status {
    /// The status with this number.
    #[must_use]
    pub fn from_raw(raw: u16) -> Option<Status> {
        use Status::*;
        let all = [Ok, UnknownIdentity, BadRequest, WrongSize, StoreDamaged, StoreUnavailable];
        all.into_iter().find(|status| *status as u16 == raw)
    }
}

/// What some bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The beginning of a request.
    More,
    /// No request that can be served. What follows is not known.
    Refused(Reply),
    /// A request.
    Request {
        /// How it begins.
        head: Request,
        /// Where the identity lies.
        id: Span,
        /// Where the pixels begin; they are as many as the shape has.
        pixels: usize,
        /// Bytes of it all.
        len: usize,
    },
}

/// Looks for a request of an image of this shape; at most `most` bytes long.
///
/// Not inlined: on a GPU its many results, each of which has to be somewhere at each of its ends, would be its
/// caller's, and spilled there.
#[must_use]
#[inline(never)]
pub fn parse(bytes: &Bytes<'_>, shape: Shape, most: usize) -> Parsed {
    // What is no request is told so before it has become as long as one.
    if bytes.iter().zip(MAGIC).any(|(a, b)| a != b) {
        return Parsed::Refused(Reply::without(Status::BadRequest, 0));
    }
    if bytes.len() < REQUEST_LEN {
        return Parsed::More;
    }
    let mut head = [0; REQUEST_LEN];
    for (byte, value) in head.iter_mut().zip(bytes.iter()) {
        *byte = value;
    }
    let head: Request = bytemuck::cast(head);
    let refuse = |status| Parsed::Refused(Reply::without(status, head.tag));
    let id = Span { at: REQUEST_LEN, len: head.id_len.into() };
    if head.version != VERSION || head.reserved != 0 || !(1..=ID_MAX).contains(&id.len) {
        return refuse(Status::BadRequest);
    }
    if (u32::from(head.width), u32::from(head.height)) != (shape.width, shape.height) {
        return refuse(Status::WrongSize);
    }
    let pixels = id.at + id.len;
    let len = pixels + shape.pixels();
    if len > most {
        return refuse(Status::WrongSize);
    }
    if bytes.len() < len { Parsed::More } else { Parsed::Request { head, id, pixels, len } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_those_drawn_above() {
        use core::mem::offset_of;
        assert_eq!((REQUEST_LEN, REPLY_LEN), (32, 32));
        assert_eq!(offset_of!(Request, tag), 12);
        assert_eq!(offset_of!(Request, threshold), 16);
        assert_eq!(offset_of!(Reply, distance), 16);
    }
}
