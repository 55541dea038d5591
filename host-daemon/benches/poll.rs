//! What a request costs through `poll`, beside the bare system call, in one run.
//!
//! `cargo bench -p host-daemon`. Every figure is the best of several rounds, in nanoseconds per
//! request; the rounds of all contenders alternate, so that a noisy neighbour hits them alike.
//! The bytes read are compared with the file's.

use bytemuck::Zeroable;
use gpu_abi::mock::MockDevice;
use gpu_abi::{HostAtomics, Op, OpenFlags, Region, Request};
use host_daemon::{Client, Daemon, EngineChoice, Grant, Options, RegionConfig, RegionMemory};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

const FILE: usize = 16 << 20;
const SLOTS: u32 = 16;
const ROUNDS: usize = 9;

struct Rig {
    name: &'static str,
    client: Client,
    device: MockDevice,
    region: Region<HostAtomics>,
    handle: u32,
    tag: u32,
}

impl Rig {
    fn new(name: &'static str, options: Options, path: &Path) -> Option<Rig> {
        let daemon = Daemon::new(Options { ring_workers: 1, ..options }).ok()?;
        let config = RegionConfig { shards: 1, slots: SLOTS, ..Default::default() };
        let memory = Arc::new(RegionMemory::new(config).ok()?);
        let client = daemon.attach(memory, Grant::default()).ok()?;
        let region = client.region();
        let device = MockDevice::new(region, 0);
        let mut rig = Rig { name, client, device, region, handle: 0, tag: 0 };
        let path = path.to_str()?.as_bytes();
        // SAFETY: the path is shorter than a slot, which nobody else uses.
        unsafe { std::ptr::copy_nonoverlapping(path.as_ptr(), region.slot(0)?, path.len()) };
        rig.tag += 1;
        let open = Request {
            op: Op::Open as u8,
            flags: OpenFlags::READ.0,
            len: path.len() as u32,
            tag: rig.tag,
            ..Request::zeroed()
        };
        rig.device.post(&open);
        rig.client.poll(0);
        rig.handle = rig.device.poll(0, rig.tag)?.result().ok()? as u32;
        Some(rig)
    }

    /// Posts `batch` requests and polls until all are answered, `count` times over all.
    fn run(&mut self, op: Op, len: usize, count: usize, seed: &mut u64) {
        let mut left = count;
        while left > 0 {
            let batch = left.min(SLOTS as usize);
            self.tag += 1;
            for cell in 0..batch as u32 {
                let posted = self.device.post(&Request {
                    op: op as u8,
                    cell,
                    handle: self.handle,
                    offset: if op == Op::Read { place(seed, len) } else { 0 },
                    buf: u64::from(cell) << 16,
                    len: if op == Op::Read { len as u32 } else { 0 },
                    tag: self.tag,
                    ..Request::zeroed()
                });
                assert!(posted);
            }
            for cell in 0..batch as u32 {
                loop {
                    if let Some(answer) = self.device.poll(cell, self.tag) {
                        assert_eq!(answer.errno, 0);
                        break;
                    }
                    self.client.poll(0);
                }
            }
            left -= batch;
        }
    }

    fn check(&mut self, content: &[u8], len: usize) {
        let mut seed = 7;
        let offset = place(&mut seed.clone(), len) as usize;
        self.run(Op::Read, len, 1, &mut seed);
        let slot = self.region.slot(0).expect("slot 0");
        // SAFETY: within the slot; the read has ended.
        let got = unsafe { std::slice::from_raw_parts(slot, len) };
        assert!(got == &content[offset..offset + len], "{}", self.name);
    }
}

/// The next random, aligned place in the file.
fn place(seed: &mut u64, len: usize) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % (FILE / len) as u64 * len as u64
}

fn timed(count: usize, f: impl FnOnce()) -> f64 {
    let start = Instant::now();
    f();
    start.elapsed().as_nanos() as f64 / count as f64
}

fn main() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("file");
    let content: Vec<u8> = (0..FILE).map(|i| (i ^ i >> 8 ^ i >> 16) as u8).collect();
    std::fs::write(&path, &content).expect("a file of 16 MiB");
    let file = File::open(&path).expect("the file just written");
    let pread = Options { engine: EngineChoice::Pread, ..Options::default() };
    let uring = Options { engine: EngineChoice::IoUring, ..Options::default() };
    let ring_only = Options { nowait_first: false, ..uring.clone() };
    let registered = Options { register_buffers: true, ..ring_only.clone() };
    let mut rigs: Vec<Rig> = [
        ("pread", pread),
        ("io_uring, nowait first", uring),
        ("io_uring for all", ring_only),
        ("io_uring, registered", registered),
    ]
    .into_iter()
    .filter_map(|(name, options)| Rig::new(name, options, &path))
    .collect();

    // The bare calls write where the daemon writes: to slots of a region.
    let config = RegionConfig { shards: 1, slots: SLOTS, ..Default::default() };
    let memory = RegionMemory::new(config).expect("a region");
    let slot = |i: usize| memory.region().slot(i as u32 % SLOTS).expect("a slot");
    let bare = |len: usize, count: usize, nowait: bool, seed: &mut u64| {
        for i in 0..count {
            let iovec = libc::iovec { iov_base: slot(i).cast(), iov_len: len };
            let (fd, at) = (file.as_raw_fd(), place(seed, len) as i64);
            // SAFETY: a slot holds 64 KiB.
            let n = unsafe {
                if nowait {
                    libc::preadv2(fd, &raw const iovec, 1, at, libc::RWF_NOWAIT)
                } else {
                    libc::pread(fd, iovec.iov_base, len, at)
                }
            };
            assert_eq!(n, len as isize);
        }
    };
    let mut byte = [0];
    file.read_exact_at(&mut byte, 0).expect("a byte");

    println!("{:28} {:>10}", "ns per request", "best");
    let mut best = vec![f64::MAX; rigs.len()];
    let count = 200_000;
    for _ in 0..ROUNDS {
        for (rig, best) in rigs.iter_mut().zip(&mut best) {
            *best = best.min(timed(count, || rig.run(Op::Nop, 0, count, &mut 1)));
        }
    }
    for (rig, best) in rigs.iter().zip(&best) {
        println!("{:28} {best:>10.1}", format!("nop, {}", rig.name));
    }
    for (len, count) in [(4096, 50_000), (65_536, 8_000)] {
        for rig in &mut rigs {
            rig.check(&content, len);
        }
        let mut plain = f64::MAX;
        let mut nowait = f64::MAX;
        let mut best = vec![f64::MAX; rigs.len()];
        for round in 0..ROUNDS as u64 {
            plain = plain.min(timed(count, || bare(len, count, false, &mut round.clone())));
            nowait = nowait.min(timed(count, || bare(len, count, true, &mut round.clone())));
            for (rig, best) in rigs.iter_mut().zip(&mut best) {
                let ns = timed(count, || rig.run(Op::Read, len, count, &mut round.clone()));
                *best = best.min(ns);
            }
        }
        println!("{:28} {plain:>10.1}", format!("{len} B, bare pread"));
        println!("{:28} {nowait:>10.1}", format!("{len} B, bare RWF_NOWAIT"));
        for (rig, best) in rigs.iter().zip(&best) {
            println!(
                "{:28} {best:>10.1}  {:+.1} over pread",
                format!("{len} B, {}", rig.name),
                best - plain
            );
        }
    }
}
