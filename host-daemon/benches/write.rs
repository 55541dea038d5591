//! What a write costs: the bare system calls, and through `poll`, at once and by way of the engines.
//!
//! `cargo bench -p host-daemon --bench write -- [directory]...`; without one, the directory for
//! temporary files and `/dev/shm`. Every figure is the median of several rounds, in microseconds per
//! request; the rounds of all contenders alternate. What has been written is compared at the end.

use bytemuck::Zeroable;
use gpu_abi::mock::MockDevice;
use gpu_abi::{HostAtomics, Op, OpenFlags, Region, Request};
use host_daemon::{Client, Daemon, EngineChoice, Grant, Options, RegionConfig, RegionMemory};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const FILE: usize = 64 << 20;
const SLOTS: u32 = 16;
const SLOT: usize = 1 << 20;
const ROUNDS: usize = 7;

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
        let config =
            RegionConfig { shards: 1, slots: SLOTS, slot_size: SLOT as u32, ..Default::default() };
        let memory = Arc::new(RegionMemory::new(config).ok()?);
        let client = daemon.attach(memory, Grant::default()).ok()?;
        let region = client.region();
        let mut rig =
            Rig { name, client, device: MockDevice::new(region, 0), region, handle: 0, tag: 0 };
        let path = path.to_str()?.as_bytes();
        rig.fill(path);
        rig.tag += 1;
        rig.device.post(&Request {
            op: Op::Open as u8,
            flags: OpenFlags::WRITE.0,
            len: path.len() as u32,
            tag: rig.tag,
            ..Request::zeroed()
        });
        rig.client.poll(0);
        rig.handle = rig.device.poll(0, rig.tag)?.result().ok()? as u32;
        rig.fill(&vec![0xAB; SLOT]);
        Some(rig)
    }

    fn fill(&self, bytes: &[u8]) {
        for slot in (0..SLOTS).filter_map(|slot| self.region.slot(slot)) {
            // SAFETY: shorter than a slot, which nobody else uses.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), slot, bytes.len()) };
        }
    }

    /// Posts batches of writes and polls until all are answered.
    fn run(&mut self, len: usize, count: usize, seed: &mut u64) {
        let mut left = count;
        while left > 0 {
            let batch = left.min(SLOTS as usize);
            self.tag += 1;
            for cell in 0..batch as u32 {
                assert!(self.device.post(&Request {
                    op: Op::Write as u8,
                    cell,
                    handle: self.handle,
                    offset: place(seed, len),
                    buf: u64::from(cell) * SLOT as u64,
                    len: len as u32,
                    tag: self.tag,
                    ..Request::zeroed()
                }));
            }
            for cell in 0..batch as u32 {
                loop {
                    if let Some(answer) = self.device.poll(cell, self.tag) {
                        assert_eq!(answer.result(), Ok(len as u64), "{}", self.name);
                        break;
                    }
                    if self.client.poll(0) == host_daemon::Progress::Pending {
                        self.client.park(0, Duration::from_millis(10));
                    }
                }
            }
            left -= batch;
        }
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
    start.elapsed().as_nanos() as f64 / count as f64 / 1000.0
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn measure(dir: &Path) {
    let dir = tempfile::tempdir_in(dir).expect("a temporary directory");
    let path = dir.path().join("file");
    std::fs::write(&path, vec![0; FILE]).expect("a file of 64 MiB");
    let file = File::options().read(true).write(true).open(&path).expect("the file just written");
    let uring = Options { engine: EngineChoice::IoUring, ..Options::default() };
    let pool = Options { engine: EngineChoice::PreadPool(2), ..Options::default() };
    let mut rigs: Vec<Rig> = [
        ("at once", uring.clone()),
        ("by io_uring", Options { nowait_first: false, ..uring }),
        ("by the pool", Options { nowait_first: false, ..pool }),
    ]
    .into_iter()
    .filter_map(|(name, options)| Rig::new(name, options, &path))
    .collect();
    let bytes = vec![0xCD; SLOT];
    let bare = |len: usize, count: usize, flags: i32, seed: &mut u64| {
        let mut refused = 0;
        for _ in 0..count {
            let iovec = libc::iovec { iov_base: bytes.as_ptr() as *mut _, iov_len: len };
            let at = place(seed, len) as i64;
            // SAFETY: `bytes` has at least `len` bytes.
            let n = unsafe { libc::pwritev2(file.as_raw_fd(), &raw const iovec, 1, at, flags) };
            refused += usize::from(n != len as isize);
        }
        refused
    };
    println!("{}", dir.path().display());
    for (len, count) in [(64, 20_000), (4096, 10_000), (65_536, 1000), (SLOT, 100)] {
        let mut plain = vec![];
        let mut nowait = vec![];
        let mut refused = 0;
        let mut times = vec![vec![]; rigs.len()];
        for round in 0..ROUNDS as u64 {
            plain.push(timed(count, || {
                assert_eq!(bare(len, count, 0, &mut round.clone()), 0);
            }));
            nowait.push(timed(count, || {
                refused += bare(len, count, libc::RWF_NOWAIT, &mut round.clone());
            }));
            for (rig, times) in rigs.iter_mut().zip(&mut times) {
                times.push(timed(count, || rig.run(len, count, &mut round.clone())));
            }
            // What is dirty goes to storage between the rounds, and is no part of them.
            file.sync_all().expect("storage");
        }
        let (plain, nowait) = (median(plain), median(nowait));
        println!("{len:>8} B  {plain:>8.2} µs  bare pwritev2");
        println!(
            "{len:>8} B  {nowait:>8.2} µs  bare RWF_NOWAIT, {:.0} % refused",
            100.0 * refused as f64 / (count * ROUNDS) as f64
        );
        for (rig, times) in rigs.iter().zip(times) {
            println!("{len:>8} B  {:>8.2} µs  {}", median(times), rig.name);
        }
        let mut got = [0];
        let mut seed = ROUNDS as u64 - 1;
        std::os::unix::fs::FileExt::read_at(&file, &mut got, place(&mut seed, len))
            .expect("a byte");
        assert_eq!(got, [0xAB], "the rigs wrote last");
    }
}

fn main() {
    let mut any = false;
    for dir in std::env::args().skip(1).filter(|arg| !arg.starts_with('-')) {
        measure(Path::new(&dir));
        any = true;
    }
    if !any {
        measure(&std::env::temp_dir());
        if Path::new("/dev/shm").is_dir() {
            measure(Path::new("/dev/shm"));
        }
    }
}
