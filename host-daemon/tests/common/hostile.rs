//! A peer that does whatever bytes tell it: the entry point of the fuzzer and of the property tests.
//!
//! The bytes are a program. Most of it posts requests, from well-formed to arbitrary; the rest
//! scribbles over any word of the region. After each step the daemon is polled. What must hold
//! whatever the program is:
//!
//! - nothing panics, every poll returns;
//! - nothing outside the region's slots and cells, the granted window and the host's words is
//!   written: the daemon sees a device window with guard bytes on both sides;
//! - no file outside the granted root is touched. Half of the programs may write, each in a root of
//!   its own in the directory for temporary files, so that no program can harm the machine; the
//!   others have a grant for reading only, and a root that all of them share;
//! - a well-formed request on a shard that the program leaves alone is answered, and rightly where
//!   the program cannot change the file.

use bytemuck::Zeroable;
use gpu_abi::mock::MockDevice;
use gpu_abi::request::{Run, WINDOW_DEVICE};
use gpu_abi::{Errno, Op, OpenFlags, Request};
use host_daemon::{Daemon, DeviceWindow, EngineChoice, Grant, Options, RegionConfig, RegionMemory};
use std::fs;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

const CONFIG: RegionConfig = RegionConfig {
    shards: 2,
    ring_entries: 8,
    slots: 4,
    slot_size: 4096,
    calls: 4,
    device_window: WINDOW as u64,
    ..RegionConfig::DEFAULT
};
const WINDOW: usize = 8192;
const GUARD: usize = 4096;
const CONTENT: &[u8] = b"the daemon serves this file whatever the neighbours do";
/// Cells of the well-formed requests; the program's requests are kept off them.
const HONEST_SLOT: u32 = 3;
const HONEST_CALL: u32 = 7;

const SECRET: &[u8] = b"outside the root";

/// A root with something in it, and something beside it.
struct Scene(tempfile::TempDir);

impl Scene {
    fn new() -> Scene {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        fs::create_dir_all(root.join("d")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(root.join("f"), CONTENT).unwrap();
        fs::write(outside.join("secret"), SECRET).unwrap();
        std::os::unix::fs::symlink("../outside/secret", root.join("l")).unwrap();
        std::os::unix::fs::symlink(&outside, root.join("o")).unwrap();
        Scene(dir)
    }

    fn root(&self) -> &Path {
        self.0.path()
    }

    fn check(&self) {
        let names = |path: &Path| {
            let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name());
            let mut names: Vec<_> = entries.collect();
            names.sort();
            names
        };
        assert_eq!(names(self.0.path()), ["outside", "root"]);
        assert_eq!(names(&self.0.path().join("outside")), ["secret"]);
        assert_eq!(fs::read(self.0.path().join("outside/secret")).unwrap(), SECRET);
    }
}

struct World {
    daemons: Vec<Daemon>,
    /// For those who only read. Its destructor never runs.
    shared: Scene,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let options = |engine, nowait_first| Options {
            engine,
            nowait_first,
            ring_workers: 2,
            in_flight: 4,
            ..Options::default()
        };
        let daemons = [
            options(EngineChoice::Pread, true),
            options(EngineChoice::IoUring, true),
            options(EngineChoice::IoUring, false),
            options(EngineChoice::PreadPool(1), false),
        ];
        let daemons = daemons.into_iter().filter_map(|o| Daemon::new(o).ok()).collect();
        World { daemons, shared: Scene::new() }
    })
}

/// The program's bytes, zeros after their end.
struct Program<'a>(&'a [u8]);

impl Program<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }
    fn word(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }
    /// A number that is often near a limit.
    fn number(&mut self) -> u64 {
        match self.byte() {
            b if b < 128 => u64::from(b) * 64,
            b if b < 160 => u64::from(b - 128) * 4096,
            b if b < 170 => u64::MAX - u64::from(b - 160),
            b if b < 180 => i64::MAX as u64 - u64::from(b - 170) * 4096,
            b if b < 190 => u64::from(u32::MAX) - u64::from(b - 180),
            _ => self.word(),
        }
    }
    /// Anything from a valid request to 64 arbitrary bytes. `handles` are some that are open.
    fn request(&mut self, handles: &[u32]) -> Request {
        let shape = self.byte();
        if shape & 0x80 != 0 {
            let words: [u64; 8] = std::array::from_fn(|_| self.word());
            return bytemuck::cast(words);
        }
        let shape = if self.byte() & 1 != 0 { shape & 1 } else { shape };
        let handle = if shape & 0x40 != 0 {
            self.number() as u32
        } else {
            handles[self.byte() as usize % handles.len()]
        };
        let op = self.byte() % 17;
        let flags = if shape & 1 != 0 { self.byte() & 63 } else { self.byte() & 1 };
        let cell = if shape & 4 != 0 { self.number() as u32 } else { u32::from(self.byte() % 7) };
        let near = u64::from(cell).wrapping_mul(4096) + u64::from(self.byte());
        Request {
            op,
            flags,
            window: if shape & 2 != 0 { self.byte() % 3 } else { 0 },
            cell,
            handle,
            offset: self.number(),
            buf: if shape & 8 != 0 { self.number() } else { near },
            len: if shape & 0x20 != 0 { self.number() as u32 } else { self.byte().into() },
            tag: self.byte().into(),
            path_len: if shape & 0x10 != 0 { u32::from(self.byte() % 4) } else { 0 },
            reserved0: if shape & 0x38 == 0x38 { 1 } else { 0 },
            ..Request::zeroed()
        }
    }
    /// A table of runs for a slot, from valid to arbitrary, with a request for it.
    fn table(&mut self, slot: u32, handles: &[u32]) -> (Vec<Run>, Request) {
        let (shape, count) = (self.byte(), self.byte() % 9);
        // Half of them break no rule.
        let shape = if shape & 0x80 != 0 { 0 } else { shape };
        let base = u64::from(slot) * 4096;
        let runs = (0..count).map(|_| Run {
            offset: if shape & 4 != 0 { self.number() } else { u64::from(self.byte()) * 50 },
            buf: if shape & 1 != 0 { self.number() } else { base + u64::from(self.byte()) * 8 },
            len: if shape & 2 != 0 { self.number() as u32 } else { u32::from(self.byte() | 1) },
            reserved: if shape & 0x1c == 0x1c { 1 } else { 0 },
        });
        let runs: Vec<Run> = runs.collect();
        let handle = handles[self.byte() as usize % handles.len()];
        let request = Request {
            op: Op::WriteRuns as u8,
            cell: slot,
            handle,
            buf: base,
            len: size_of_val(&runs[..]) as u32,
            tag: self.byte().into(),
            ..Request::zeroed()
        };
        (runs, request)
    }
}

/// Runs a program against a fresh client.
pub fn run(bytes: &[u8]) {
    let world = world();
    let mut program = Program(bytes);
    let choice = program.byte();
    let daemon = &world.daemons[choice as usize % world.daemons.len()];
    let writes = choice & 0x80 != 0;
    let own = writes.then(Scene::new);
    let scene = own.as_ref().unwrap_or(&world.shared);
    let memory = Arc::new(RegionMemory::new(CONFIG).unwrap());
    let region = memory.region();
    let mut window = vec![0xA5u8; WINDOW + 2 * GUARD];
    let base = NonNull::new(window.as_mut_ptr()).unwrap();
    // SAFETY: the vector outlives the client, and is looked at only after it is gone.
    let granted = unsafe { DeviceWindow::new(base.add(GUARD), WINDOW) };
    let grant = Grant {
        root: Some(scene.root().join("root")),
        max_open: 5,
        device_window: Some(granted),
        read_only: !writes,
        ..Grant::default()
    };
    let client = daemon.attach(memory.clone(), grant).unwrap();
    let mut hostile = MockDevice::new(region, 0);
    let mut honest = MockDevice::new(region, 1);
    let mut tag = 1000;

    let mut ask = |request: Request| {
        tag += 1;
        assert!(honest.post(&Request { tag, ..request }));
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until {
            if let Some(answer) = honest.poll(request.cell, tag) {
                return answer;
            }
            client.poll(1);
            // What the program has asked for may keep storage busy for a while.
            client.park(1, Duration::from_micros(50));
        }
        panic!("a well-formed request gets no answer: {request:?}");
    };
    let slot = region.slot(HONEST_SLOT).unwrap();
    let honest_buf = u64::from(HONEST_SLOT) * 4096;
    // SAFETY: within the slot, which the program's requests cannot name as they lack its cell.
    unsafe { slot.copy_from_nonoverlapping(b"../../f".as_ptr(), 7) };
    let open = Request {
        op: Op::Open as u8,
        flags: OpenFlags::READ.0,
        cell: HONEST_SLOT,
        buf: honest_buf,
        len: 7,
        ..Request::zeroed()
    };
    let handle = ask(open).result().expect("the root is its own parent") as u32;
    let mut handles = vec![handle];
    if writes {
        let flags = OpenFlags::READ.with(OpenFlags::WRITE).0;
        handles.push(ask(Request { flags, ..open }).result().expect("it may write") as u32);
    }

    while !program.0.is_empty() {
        match program.byte() {
            // Scribble over a word: of the header's changing lines, of shard 0, of its cells, or of
            // its slots. What belongs to the honest device stays.
            b if b < 24 => {
                let layout = region.layout();
                let (from, len) = match b % 4 {
                    0 => (128, 128),
                    1 => (4096, layout.shard_stride),
                    2 => (layout.cells, HONEST_SLOT as usize * 64),
                    _ => (layout.slots, HONEST_SLOT as usize * 4096),
                };
                let at = from + (program.word() as usize % len) / 4 * 4;
                let value = program.number() as u32;
                // SAFETY: an aligned word within the region.
                let word = unsafe {
                    std::sync::atomic::AtomicU32::from_ptr(region.base().as_ptr().add(at).cast())
                };
                word.store(value, std::sync::atomic::Ordering::Relaxed);
            }
            // A path into one of its slots.
            b if b < 40 => {
                let path: &[u8] = match b % 16 {
                    0 => b"f",
                    1 => b"/f",
                    2 => b"../../../../etc/passwd",
                    3 => b"l",
                    4 => b"d/../../f",
                    5 => b"d",
                    6 => b"/proc/self/fd/0",
                    7 => b"f\0x",
                    8 => b"new",
                    9 => b"d/new/",
                    10 => b"/",
                    11 => b"..",
                    12 => b"o/secret",
                    13 => b"../outside/new",
                    // Two for a rename, if it says so.
                    14 => b"fd/g",
                    _ => b"d../../outside/d",
                };
                let at = region.slot(u32::from(program.byte()) % HONEST_SLOT).unwrap();
                // SAFETY: within the slot; the daemon reads it with atomic loads.
                unsafe { at.copy_from_nonoverlapping(path.as_ptr(), path.len()) };
            }
            b if b < 56 => {
                let answer = ask(Request {
                    op: Op::Read as u8,
                    cell: HONEST_SLOT,
                    handle,
                    buf: honest_buf,
                    len: 4096,
                    ..Request::zeroed()
                });
                // The program may have closed the handle: they share a client.
                if writes && answer.result() != Err(Errno::EBADF) {
                    assert!(answer.result().is_ok_and(|n| n <= 4096), "{answer:?}");
                } else if !writes && answer.result() != Err(Errno::EBADF) {
                    assert_eq!(answer.result(), Ok(CONTENT.len() as u64));
                    // SAFETY: the read has ended.
                    let got = unsafe { std::slice::from_raw_parts(slot, CONTENT.len()) };
                    assert_eq!(got, CONTENT);
                }
            }
            b => {
                let mut request = if b < 90 {
                    let slot = u32::from(program.byte()) % HONEST_SLOT;
                    let (runs, request) = program.table(slot, &handles);
                    let bytes: &[u8] = bytemuck::cast_slice(&runs);
                    let at = region.slot(slot).unwrap();
                    // SAFETY: shorter than the slot; the daemon reads it with atomic loads.
                    unsafe { at.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
                    request
                } else {
                    program.request(&handles)
                };
                if [HONEST_SLOT, HONEST_CALL].contains(&request.cell) {
                    request.cell = 0;
                }
                if b & 1 == 0 {
                    request.window = WINDOW_DEVICE;
                }
                hostile.post(&request);
                client.poll(usize::from(b >> 1 & 1));
                // What it opens it can use.
                if request.op == Op::Open as u8
                    && let Some(answer) = hostile.poll(request.cell, request.tag)
                    && let Ok(handle) = answer.result()
                {
                    handles.push(handle as u32);
                }
            }
        }
    }
    let nop = Request { op: Op::Nop as u8, cell: HONEST_CALL, ..Request::zeroed() };
    assert_eq!(ask(nop).result(), Ok(0));
    assert!(client.open_files() <= 5);
    drop(client);
    assert!(window[..GUARD].iter().all(|b| *b == 0xA5), "written before the window");
    assert!(window[GUARD + WINDOW..].iter().all(|b| *b == 0xA5), "written behind the window");
    scene.check();
}
