//! A client with a mock device at the other end.
#![allow(dead_code, unreachable_pub, reason = "each test file uses what it needs")]

use bytemuck::Zeroable;
use gpu_abi::mock::MockDevice;
use gpu_abi::request::{HANDLE_NONE, Run};
use gpu_abi::{Completion, Errno, FileInfo, HostAtomics, Op, OpenFlags, Region, Request};
use host_daemon::{
    Client, Daemon, EngineChoice, Grant, Options, Progress, RegionConfig, RegionMemory,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Small enough that every limit is near.
pub const CONFIG: RegionConfig = RegionConfig {
    shards: 2,
    ring_entries: 16,
    slots: 8,
    slot_size: 8192,
    calls: 8,
    device_window: 0,
    ..RegionConfig::DEFAULT
};

/// The first of the cells that have no slot.
pub const CALL: u32 = CONFIG.slots;

pub fn options(engine: EngineChoice) -> Options {
    Options { engine, ring_workers: 2, ..Options::default() }
}

/// Whether the engine is to be had here; says so if not. `GPU_HOSTD_REQUIRE_IO_URING` makes that a
/// failure.
pub fn available(options: &Options) -> bool {
    match Daemon::new(options.clone()) {
        Ok(_) => true,
        Err(e) => {
            assert!(std::env::var_os("GPU_HOSTD_REQUIRE_IO_URING").is_none(), "{e}");
            eprintln!("skipped: {e}");
            false
        }
    }
}

pub struct Rig {
    pub client: Option<Client>,
    pub device: MockDevice,
    pub region: Region<HostAtomics>,
    pub memory: Arc<RegionMemory>,
    tag: u32,
    /// Whether waits poll for the client.
    pub driven: bool,
}

impl Rig {
    pub fn new(options: Options, config: RegionConfig, grant: Grant) -> Rig {
        let daemon = Daemon::new(options).unwrap();
        Rig::of(&daemon, config, grant)
    }

    pub fn of(daemon: &Daemon, config: RegionConfig, grant: Grant) -> Rig {
        let memory = Arc::new(RegionMemory::new(config).unwrap());
        let client = daemon.attach(memory.clone(), grant).unwrap();
        let region = client.region();
        let device = MockDevice::new(region, 0);
        Rig { client: Some(client), device, region, memory, tag: 0, driven: true }
    }

    pub fn client(&self) -> &Client {
        self.client.as_ref().unwrap()
    }

    pub fn tag(&mut self) -> u32 {
        self.tag += 1;
        self.tag
    }

    /// Posts with a fresh tag.
    pub fn post(&mut self, request: Request) -> (u32, u32) {
        let tag = self.tag();
        let until = Instant::now() + Duration::from_secs(20);
        while !self.device.post(&Request { tag, ..request }) {
            assert!(Instant::now() < until, "the ring stays full");
            self.turn();
        }
        self.ring();
        (request.cell, tag)
    }

    /// D1.
    pub fn ring(&self) {
        use std::sync::atomic::{Ordering, fence};
        let header = self.region.header();
        fence(Ordering::SeqCst);
        if header.host.parked.load(Ordering::Relaxed) != 0 {
            header.device.doorbell.fetch_add(1, Ordering::Relaxed);
            let word = header.device.doorbell.as_ptr();
            // SAFETY: a word of the region.
            unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAKE, 1) };
        }
    }

    fn turn(&self) {
        match &self.client {
            Some(client) if self.driven => {
                if client.poll(0) == Progress::Pending {
                    client.park(0, Duration::from_millis(100));
                }
            }
            _ => std::thread::yield_now(),
        }
    }

    /// The answer, however long it takes (within reason).
    pub fn wait(&self, (cell, tag): (u32, u32)) -> Completion {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(completion) = self.device.poll(cell, tag) {
                return completion;
            }
            assert!(Instant::now() < until, "cell {cell} gets no answer to {tag}");
            self.turn();
        }
    }

    pub fn call(&mut self, request: Request) -> Completion {
        let posted = self.post(request);
        self.wait(posted)
    }

    /// A buffer at the start of a slot, as requests name it.
    pub fn buf(&self, slot: u32) -> u64 {
        u64::from(slot) * u64::from(self.region.layout().config.slot_size)
    }

    pub fn fill(&self, slot: u32, bytes: &[u8]) {
        let at = self.region.slot(slot).unwrap();
        // SAFETY: callers stay within the slot, which nobody else uses meanwhile.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len()) };
    }

    pub fn bytes(&self, slot: u32, len: usize) -> Vec<u8> {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts(self.region.slot(slot).unwrap(), len) }.to_vec()
    }

    pub fn open_with(&mut self, path: &[u8], flags: OpenFlags) -> Result<(u32, FileInfo), Errno> {
        self.fill(0, path);
        let request = Request {
            op: Op::Open as u8,
            flags: flags.0,
            len: path.len() as u32,
            ..Request::zeroed()
        };
        let completion = self.call(request);
        completion.result().map(|handle| (handle as u32, completion.info()))
    }

    pub fn open(&mut self, path: &str) -> Result<u32, Errno> {
        self.open_with(path.as_bytes(), OpenFlags::READ).map(|(handle, _)| handle)
    }

    pub fn read_request(&self, slot: u32, handle: u32, offset: u64, len: u32) -> Request {
        let buf = self.buf(slot);
        Request { op: Op::Read as u8, cell: slot, handle, offset, buf, len, ..Request::zeroed() }
    }

    pub fn read(&mut self, handle: u32, offset: u64, len: u32) -> Result<Vec<u8>, Errno> {
        let n = self.call(self.read_request(0, handle, offset, len)).result()?;
        Ok(self.bytes(0, n as usize))
    }

    pub fn read_file(&mut self, path: &str, len: u32) -> Result<Vec<u8>, Errno> {
        self.fill(0, path.as_bytes());
        let request = Request {
            op: Op::ReadFile as u8,
            flags: OpenFlags::READ.0,
            path_len: path.len() as u32,
            len,
            ..Request::zeroed()
        };
        let n = self.call(request).result()?;
        Ok(self.bytes(0, n as usize))
    }

    pub fn close(&mut self, handle: u32) -> Result<u64, Errno> {
        let r = Request { op: Op::Close as u8, cell: CALL, handle, ..Request::zeroed() };
        self.call(r).result()
    }

    pub fn stat(&mut self, handle: u32) -> Result<FileInfo, Errno> {
        let r = Request { op: Op::Stat as u8, cell: CALL, handle, ..Request::zeroed() };
        let completion = self.call(r);
        completion.result().map(|_| completion.info())
    }

    pub fn stat_path(&mut self, path: &str) -> Result<FileInfo, Errno> {
        self.fill(0, path.as_bytes());
        let r = Request {
            op: Op::Stat as u8,
            handle: HANDLE_NONE,
            len: path.len() as u32,
            ..Request::zeroed()
        };
        let completion = self.call(r);
        completion.result().map(|_| completion.info())
    }

    /// One piece of a listing: bytes and the next cookie.
    pub fn read_dir(
        &mut self,
        handle: u32,
        cookie: u64,
        len: u32,
    ) -> Result<(Vec<u8>, u64), Errno> {
        let r = Request { op: Op::ReadDir as u8, ..self.read_request(0, handle, cookie, len) };
        let completion = self.call(r);
        let n = completion.result()?;
        Ok((self.bytes(0, n as usize), completion.detail[0]))
    }

    /// What fills slots of this rig: `len` bytes that differ from slot to slot.
    pub fn pattern(slot: u32, len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 7 + i / 256) as u8 ^ slot as u8).collect()
    }

    /// A request with a buffer at the start of a slot.
    pub fn with_buffer(&self, op: Op, slot: u32, handle: u32, len: u32) -> Request {
        Request { op: op as u8, ..self.read_request(slot, handle, 0, len) }
    }

    pub fn write(&mut self, handle: u32, offset: u64, bytes: &[u8]) -> Result<u64, Errno> {
        self.fill(0, bytes);
        let r = self.with_buffer(Op::Write, 0, handle, bytes.len() as u32);
        self.call(Request { offset, ..r }).result()
    }

    /// Writes runs (offset, bytes): the table at the start of slot 0, the bytes behind it.
    pub fn write_runs(&mut self, handle: u32, runs: &[(u64, &[u8])]) -> Result<u64, Errno> {
        let table = runs.len() * size_of::<Run>();
        let (mut records, mut data) = (vec![], vec![]);
        for (offset, bytes) in runs {
            let buf = self.buf(0) + (table + data.len()) as u64;
            let (offset, len) = (*offset, bytes.len() as u32);
            records.extend_from_slice(bytemuck::bytes_of(&Run { offset, buf, len, reserved: 0 }));
            data.extend_from_slice(bytes);
        }
        records.extend(data);
        self.fill(0, &records);
        self.call(self.with_buffer(Op::WriteRuns, 0, handle, table as u32)).result()
    }

    /// How many bytes, and where they went.
    pub fn append(&mut self, handle: u32, bytes: &[u8]) -> Result<(u64, u64), Errno> {
        self.fill(0, bytes);
        let answer = self.call(self.with_buffer(Op::Append, 0, handle, bytes.len() as u32));
        answer.result().map(|n| (n, answer.detail[0]))
    }

    pub fn sync(&mut self, handle: u32, flags: u8) -> Result<u64, Errno> {
        let op = Op::Sync as u8;
        self.call(Request { op, flags, cell: CALL, handle, ..Request::zeroed() }).result()
    }

    pub fn truncate(&mut self, handle: u32, size: u64) -> Result<FileInfo, Errno> {
        let op = Op::Truncate as u8;
        let r = Request { op, cell: CALL, handle, offset: size, ..Request::zeroed() };
        let answer = self.call(r);
        answer.result().map(|_| answer.info())
    }

    /// An operation on a path that answers nothing more.
    pub fn by_name(&mut self, op: Op, path: &str, flags: u8) -> Result<(), Errno> {
        self.fill(0, path.as_bytes());
        let r = Request { flags, ..self.with_buffer(op, 0, 0, path.len() as u32) };
        self.call(r).result().map(|value| assert_eq!(value, 0))
    }

    pub fn unlink(&mut self, path: &str) -> Result<(), Errno> {
        self.by_name(Op::Unlink, path, 0)
    }

    pub fn rmdir(&mut self, path: &str) -> Result<(), Errno> {
        self.by_name(Op::Unlink, path, OpenFlags::DIRECTORY.0)
    }

    pub fn mkdir(&mut self, path: &str) -> Result<(), Errno> {
        self.by_name(Op::MakeDir, path, 0)
    }

    pub fn rename(&mut self, old: &str, new: &str, flags: u8) -> Result<(), Errno> {
        self.fill(0, &[old.as_bytes(), new.as_bytes()].concat());
        let r = self.with_buffer(Op::Rename, 0, 0, (old.len() + new.len()) as u32);
        self.call(Request { flags, path_len: old.len() as u32, ..r }).result().map(|_| ())
    }

    pub fn nop(&mut self, cell: u32) -> (u32, u32) {
        self.post(Request { op: Op::Nop as u8, cell, ..Request::zeroed() })
    }
}

/// Runs each test body over every engine, driven inline and by threads.
#[macro_export]
macro_rules! over_engines {
    ($($name:ident),* $(,)?) => {
        over_engines!(@ pread, $crate::common::options(host_daemon::EngineChoice::Pread), $($name)*);
        over_engines!(@ pread_pool, $crate::common::options(host_daemon::EngineChoice::PreadPool(2)), $($name)*);
        over_engines!(@ io_uring, $crate::common::options(host_daemon::EngineChoice::IoUring), $($name)*);
        over_engines!(@ io_uring_for_all, host_daemon::Options {
            nowait_first: false,
            register_buffers: true,
            ..$crate::common::options(host_daemon::EngineChoice::IoUring)
        }, $($name)*);
        over_engines!(@ pool_for_all, host_daemon::Options {
            nowait_first: false,
            ..$crate::common::options(host_daemon::EngineChoice::PreadPool(2))
        }, $($name)*);
    };
    (@ $engine:ident, $options:expr, $($name:ident)*) => {
        mod $engine {
            mod driven { $(#[test] fn $name() {
                if $crate::common::available(&$options) { super::super::$name($options, false) }
            })* }
            mod spawned { $(#[test] fn $name() {
                if $crate::common::available(&$options) { super::super::$name($options, true) }
            })* }
        }
    };
}
