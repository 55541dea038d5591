//! Sockets for GPU kernels.
//!
//! A kernel receives a [`Net`] in its arguments and uses it as it would use `std::net`; every call
//! takes a [`Group`](gpu_rt::Group) first, which says how many threads make it together:
//!
//! ```
//! use gpu_rt::Warp;
//! use gpunet::{Errno, Net, NetAddr, TcpListener};
//! fn greet_one(net: Net, addr: NetAddr) -> Result<(), Errno> {
//!     let warp = Warp::all();
//!     let listener = TcpListener::bind(&warp, &net, addr)?;  // a request to the host
//!     let (stream, _) = listener.accept(&warp)?;             // none: accepted in advance
//!     stream.send_all(&warp, &b"hello\n"[..])?;              // none, or one to wake the host
//!     stream.close(&warp);
//!     Ok(())
//! }
//! ```
//!
//! Bytes move through two rings of each socket in memory that device and host share. Sending and
//! receiving ask nothing of the host; it is told only if it sleeps on that socket. Sockets are plain
//! values: any thread that has one may use it, with a group of any kind. Several may receive from one
//! socket, each gets other bytes; likewise to send.
//!
//! | module | owns |
//! |---|---|
//! | [`net`](mod@net) | the handle that kernels hold, and what all sockets share |
//! | [`tcp`], [`udp`], [`unix`], [`unix_datagram`] | the sockets |
//! | [`addr`] | what Unix sockets are called |
//! | [`options`] | options, before binding and after |
//! | `datagram` | datagrams in the rings |
//! | [`view`] | bytes lent in place |
//! | [`poll`] | waiting for many sockets |
//! | [`pending`] | calls that are begun now and finished later |
//! | [`layout`] | what the host writes into device memory: a header; zeroed memory is a valid initial state for all the rest |
//! | `ring` | one socket's rings, as the device uses them |
//! | `open` | requests |
#![no_std]
#![deny(unsafe_op_in_unsafe_fn)]

pub mod addr;
mod buf;
mod datagram;
pub mod layout;
#[cfg(all(test, loom))]
mod models;
pub mod net;
mod open;
pub mod options;
pub mod pending;
pub mod poll;
mod ring;
mod socket;
pub mod tcp;
pub mod udp;
pub mod unix;
pub mod unix_datagram;
pub mod view;

pub use addr::UnixAddr;
pub use buf::{Buf, BufMut};
pub use gpu_abi::Errno;
pub use gpu_abi::slice::DeviceSlice;
pub use gpu_abi::socket::NetAddr;
pub use layout::{NetHeader, NetLayout};
pub use net::Net;
pub use options::BindOptions;
pub use pending::{Pending, PendingLookup, PendingRecv, PendingSend};
pub use poll::{Interest, Poll};
pub use socket::{Shutdown, Socket};
pub use tcp::{TcpListener, TcpStream};
pub use udp::UdpSocket;
pub use unix::{UnixListener, UnixStream};
pub use unix_datagram::UnixDatagram;
pub use view::{RecvView, SendView};
