//! A server of static files: HTTP/1.1 by gpunet, files by gpufs.
//!
//! | module | owns |
//! |---|---|
//! | [`bytes`] | bytes in two parts, as a ring lends them |
//! | [`head`] | a request's head: strict, bounded |
//! | [`target`] | from a target to a path below the root |
//! | [`fields`] | dates, ranges, content types |
//! | [`reply`] | the head of an answer |
//! | [`conn`] | what is kept about a connection, and how it is served |

pub mod bytes;
pub mod conn;
pub mod fields;
pub mod head;
pub mod reply;
pub mod target;

use crate::server::{Server, is_first_warp};
use bytemuck::{Pod, Zeroable};
use gpu_rt::{Warp, kernel};
use gpunet::DeviceSlice;

pub use conn::CONN_WORDS;

/// Counters of [`http`]: requests answered.
pub const REQUESTS: usize = 0;
/// Counters of [`http`]: answers of status 400 and above.
pub const REFUSED: usize = 1;
/// Counters of [`http`]: bytes of files sent.
pub const BYTES: usize = 2;
/// Counters of [`http`]: connections closed because they took too long.
pub const LATE: usize = 3;

/// Arguments of [`http`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Http {
    /// What every server has.
    pub server: Server,
    /// The files: `/` is the root of what is served.
    pub fs: u64,
    /// [`CONN_WORDS`] zeroed words for each socket.
    pub conns: DeviceSlice<u64>,
    /// How long a request's head may take, in nanoseconds, from its first byte on.
    pub head_ns: u64,
    /// How long a connection may be silent, or its peer take no bytes.
    pub idle_ns: u64,
}

/// Each warp serves whichever connection has a request, or room for more of an answer.
#[kernel(max_threads = 256)]
pub fn http(args: Http) {
    let warp = Warp::all();
    let first = is_first_warp();
    let Ok(serving) = args.server.start(&warp, first) else { return };
    let files = conn::Files { args: &args, warp };
    if first {
        files.look_at_the_clock();
    }
    serving.run(&warp, args.server.shared(), &files);
}
