//! Scripts of socket operations on a session, with ordinary sockets at the other end.

use crate::Policy;
use crate::device::net::{NetJob, NetOp, conformance_net};
use crate::device::ops::{GROUP_BLOCK, GROUP_THREAD, GROUP_WARP};
use crate::host::Bench;
use gpu_host::{DeviceBuffer, Launch, LaunchConfig};
use gpunet::{Errno, NetAddr};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Who acts together.
pub const GROUPS: [u32; 3] = [GROUP_THREAD, GROUP_WARP, GROUP_BLOCK];

/// What turns a wait for a script into a failure.
const HANG: Duration = Duration::from_secs(60);

/// An operation on register `s`.
pub fn op(what: u32, s: u32) -> NetOp {
    NetOp { what, s, ..bytemuck::Zeroable::zeroed() }
}

/// What is told of an operation that failed.
pub fn failed(e: Errno) -> i64 {
    -i64::from(e.raw())
}

/// More about an operation.
pub trait With: Sized {
    /// With `arg`.
    fn arg(self, arg: u64) -> Self;
    /// With so many bytes from there on.
    fn bytes(self, at: u64, len: u32) -> Self;
    /// With an address.
    fn addr(self, addr: SocketAddr) -> Self;
    /// With another register.
    fn from(self, t: u32) -> Self;
}

impl With for NetOp {
    fn arg(self, arg: u64) -> Self {
        NetOp { arg, ..self }
    }
    fn bytes(self, at: u64, len: u32) -> Self {
        NetOp { at, len, ..self }
    }
    fn addr(self, addr: SocketAddr) -> Self {
        NetOp { addr: NetAddr::from(addr), ..self }
    }
    fn from(self, t: u32) -> Self {
        NetOp { t, ..self }
    }
}

/// A script that runs.
pub struct Script {
    launch: Option<Launch>,
    ops: usize,
    results: DeviceBuffer<i64>,
    bytes: DeviceBuffer<u8>,
    _list: DeviceBuffer<NetOp>,
}

/// Starts a script by the first group of a kind in each of `blocks` blocks.
///
/// # Panics
/// If it cannot be launched.
#[track_caller]
pub fn start<P: Policy>(
    bench: &Bench<P>,
    (blocks, threads): (u32, u32),
    group: u32,
    bytes: &[u8],
    ops: &[NetOp],
) -> Script {
    let session = &bench.session;
    let list = session.alloc_from(ops).expect("memory for operations");
    let results = session.alloc::<i64>(ops.len() * blocks as usize).expect("memory for results");
    let bytes = session.alloc_from(bytes).expect("memory for bytes");
    let job = NetJob {
        net: session.net(),
        ops: list.slice(),
        results: results.slice(),
        bytes: bytes.slice(),
        group,
        reserved: 0,
    };
    let shape = LaunchConfig::new(blocks, threads);
    let launch = session.launch(&conformance_net, shape, job).unwrap_or_else(|e| panic!("{e}"));
    Script { launch: Some(launch), ops: ops.len(), results, bytes, _list: list }
}

impl Script {
    /// What operation `i` came to, as soon as it has.
    ///
    /// # Panics
    /// If it failed, or does not end.
    #[track_caller]
    pub fn value(&self, i: usize) -> u64 {
        let result = self.outcome(i);
        assert!(result > 0, "operation {i}: {result}");
        result as u64 - 1
    }

    /// The same, of one that may fail.
    ///
    /// # Panics
    /// If it does not end.
    #[track_caller]
    pub fn outcome(&self, i: usize) -> i64 {
        let until = Instant::now() + HANG;
        let mut word = [0];
        loop {
            self.results.copy_to(i, &mut word).unwrap_or_else(|e| panic!("{e}"));
            if word[0] != 0 {
                return word[0];
            }
            assert!(Instant::now() < until, "operation {i} does not end");
            assert!(
                !self.launch.as_ref().is_some_and(Launch::is_finished) || {
                    self.results.copy_to(i, &mut word).is_ok() && word[0] != 0
                },
                "the launch has ended without operation {i}"
            );
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// The address that an operation left in the script's bytes.
    ///
    /// # Panics
    /// If it is none.
    #[track_caller]
    pub fn addr(&self, i: usize, at: usize) -> SocketAddr {
        self.value(i);
        let mut bytes = [0u8; size_of::<NetAddr>()];
        self.bytes.copy_to(at, &mut bytes).unwrap_or_else(|e| panic!("{e}"));
        let addr: NetAddr = bytemuck::pod_read_unaligned(&bytes);
        addr.to_std().expect("an address")
    }

    /// Waits for its end: results, and bytes.
    ///
    /// # Panics
    /// If the launch fails.
    #[track_caller]
    pub fn finish(mut self) -> (Vec<i64>, Vec<u8>) {
        if let Some(launch) = self.launch.take() {
            launch.wait().unwrap_or_else(|e| panic!("{e}"));
        }
        let (results, bytes) = (self.results.to_vec(), self.bytes.to_vec());
        let (results, bytes) = (results.expect("results"), bytes.expect("bytes"));
        assert_eq!(results.len() % self.ops, 0);
        (results, bytes)
    }

    /// Waits for its end: values, of operations that all have one, and bytes.
    ///
    /// # Panics
    /// If the launch or an operation failed.
    #[track_caller]
    pub fn values(self) -> (Vec<u64>, Vec<u8>) {
        let (results, bytes) = self.finish();
        let value = |(i, result): (usize, &i64)| {
            assert!(*result > 0, "operation {i}: {result} in {results:?}");
            *result as u64 - 1
        };
        (results.iter().enumerate().map(value).collect(), bytes)
    }
}
