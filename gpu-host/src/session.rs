//! Sessions: a device, a region, a daemon that serves it and a mounted page cache, wired up.

use crate::buffer::DeviceBuffer;
use crate::device::{Device, KernelCall, Launch};
use crate::emulated::EmulatedOptions;
use crate::service::{Served, Service};
use crate::{DeviceChoice, HostError, Module};
use bytemuck::Pod;
use gpu_abi::{RegionConfig, RegionLayout};
use gpu_emu::{Fault, LaunchConfig, LaunchError, LaunchReport};
use gpu_rt::Kernel;
use gpufs::{
    Clock, Eviction, Fs, HashIndex, MountConfig, MountLayout, PageIndex, Stats,
    stats::{STATS_LINES, STATS_WORDS},
};
use gpunet::{Net, NetLayout};
use host_daemon::{
    Daemon, DeviceWindow, EngineChoice, Faults, Grant, NetGrant, Options, RegionMemory,
};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::Arc;

/// Who serves the rings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DaemonMode {
    /// The workers of an emulated device, when their threads wait: no other thread is woken. A GPU
    /// has none.
    #[default]
    Inline,
    /// This many threads of the daemon's own.
    Threads(usize),
}

/// What a session is made of. Every setting has a default that suits a small machine.
#[derive(Clone)]
#[must_use]
pub struct SessionBuilder {
    device: DeviceChoice,
    module: Option<Module>,
    preload: Vec<String>,
    mount: MountConfig,
    direct: bool,
    device_memory: usize,
    slots: Option<u32>,
    calls: u32,
    ring_entries: u32,
    engine: EngineChoice,
    daemon: Option<DaemonMode>,
    root: Option<PathBuf>,
    read_only: bool,
    faults: Option<Arc<Faults>>,
    sockets: u32,
    socket_ring: u32,
    pollers: u32,
    network: NetGrant,
    beside: Option<Arc<Daemon>>,
}

impl Default for SessionBuilder {
    fn default() -> Self {
        SessionBuilder {
            device: DeviceChoice::default(),
            module: None,
            preload: Vec::new(),
            mount: MountConfig::default(),
            direct: true,
            device_memory: 16 << 30,
            slots: None,
            calls: 8192,
            ring_entries: 8192,
            engine: EngineChoice::Auto,
            daemon: None,
            root: None,
            read_only: false,
            faults: None,
            sockets: 0,
            socket_ring: 64 << 10,
            pollers: 64,
            network: NetGrant::default(),
            beside: None,
        }
    }
}

impl SessionBuilder {
    /// What runs the kernels. Default: the emulated GPU.
    pub fn device(mut self, choice: DeviceChoice) -> Self {
        self.device = choice;
        self
    }

    /// How the GPU is emulated: the same as [`SessionBuilder::device`] with
    /// [`DeviceChoice::Emulated`].
    pub fn emulated(self, options: EmulatedOptions) -> Self {
        self.device(DeviceChoice::Emulated(options))
    }

    /// The kernels as PTX, for devices that run that.
    pub fn module(mut self, module: impl Into<Option<Module>>) -> Self {
        self.module = module.into();
        self
    }

    /// Has these kernels compiled when the session is built, where the device compiles kernels. Others are
    /// compiled when they are first launched, which takes seconds and waits for kernels that run: those of this session,
    /// and by a driver's choice those of others.
    pub fn preload<'a>(mut self, kernels: impl IntoIterator<Item = &'a str>) -> Self {
        self.preload.extend(kernels.into_iter().map(str::to_owned));
        self
    }

    /// Bytes of a page: a power of two, 4 KiB to 2 MiB. Default 64 KiB.
    pub fn page_size(mut self, bytes: u32) -> Self {
        self.mount.page_size = bytes;
        self
    }

    /// Bytes of the page cache. Default 64 MiB.
    pub fn cache_size(mut self, bytes: u64) -> Self {
        self.mount.cache_size = bytes;
        self
    }

    /// Files that can be open at once. Default 4,096.
    pub fn open_files(mut self, count: u32) -> Self {
        self.mount.open_files = count;
        self
    }

    /// Whether the daemon writes pages straight into device memory where it can address that
    /// (default), or always through transfer slots, as a discrete GPU needs it.
    pub fn direct(mut self, direct: bool) -> Self {
        self.direct = direct;
        self
    }

    /// Bytes of device memory that the session may use. An emulated device's is address space, of
    /// which only what is touched becomes memory; a GPU's is taken as it is needed. Default 16 GiB.
    pub fn device_memory(mut self, bytes: usize) -> Self {
        self.device_memory = bytes;
        self
    }

    /// Transfer slots, each of a page, or of 8 KiB where pages go straight to device memory. Default:
    /// 16 MiB of them, at least 64.
    pub fn slots(mut self, count: u32) -> Self {
        self.slots = Some(count);
        self
    }

    /// Completion cells for requests without data: how many of these can be under way. Default 8,192.
    pub fn calls(mut self, count: u32) -> Self {
        self.calls = count;
        self
    }

    /// Entries of each submission ring, a power of two. Default 8,192.
    pub fn ring_entries(mut self, count: u32) -> Self {
        self.ring_entries = count;
        self
    }

    /// What carries out reads that have to wait for a disk.
    pub fn engine(mut self, engine: EngineChoice) -> Self {
        self.engine = engine;
        self
    }

    /// Who serves the rings. Default: the device's workers, if it has any; else up to four threads.
    pub fn daemon(mut self, mode: DaemonMode) -> Self {
        self.daemon = Some(mode);
        self
    }

    /// Paths resolve inside this directory, with no way out; without it, as for this process.
    pub fn root(mut self, root: impl Into<PathBuf>) -> Self {
        self.root = Some(root.into());
        self
    }

    /// Whether kernels may only read: to write, make, rename or remove anything is `EROFS` then.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// For tests: system calls of the daemon's that fail on purpose.
    pub fn faults(mut self, faults: Arc<Faults>) -> Self {
        self.faults = Some(faults);
        self
    }

    /// Sockets that kernels can have at once, connections that wait to be accepted included: up to
    /// 65,536. Default none, which costs nothing.
    pub fn sockets(mut self, count: u32) -> Self {
        self.sockets = count;
        self
    }

    /// Bytes of each of a socket's two rings: what can be under way in one direction. A power of two, 4
    /// KiB to 4 MiB. Default 64 KiB, of which only what is touched becomes memory; for a GPU's sessions the driver
    /// pins all of it, 128 KiB for each socket.
    pub fn socket_ring(mut self, bytes: u32) -> Self {
        self.socket_ring = bytes;
        self
    }

    /// Event queues ([`gpunet::Poll`]) that there can be at once: up to 1,024. Default 64.
    pub fn pollers(mut self, count: u32) -> Self {
        self.pollers = count;
        self
    }

    /// What kernels may do in the network. Default: what this process may.
    pub fn network(mut self, grant: NetGrant) -> Self {
        self.network = grant;
        self
    }

    /// Served by the daemon that serves another session: connections between kernels of the two go from
    /// ring to ring. The daemon's engine and its contexts for workers are the other session's.
    pub fn beside<I: PageIndex, E: Eviction>(mut self, other: &Session<I, E>) -> Self {
        self.beside = Some(other.daemon.clone());
        self
    }

    /// A session with the default policies: hash index, clock eviction.
    ///
    /// # Errors
    /// [`HostError`] says what is missing or out of range, and the remedy.
    pub fn build(self) -> Result<Session, HostError> {
        self.build_with()
    }

    /// A session whose page cache has index `I` and eviction policy `E`.
    ///
    /// # Errors
    /// As [`SessionBuilder::build`].
    pub fn build_with<I: PageIndex, E: Eviction>(self) -> Result<Session<I, E>, HostError> {
        let device = self.device.open(self.device_memory, self.module, &self.preload)?;
        let workers = device.host_workers();
        let daemon_mode = match self.daemon {
            None if workers > 0 => DaemonMode::Inline,
            None => DaemonMode::Threads(default_threads()),
            Some(DaemonMode::Inline) if workers == 0 => {
                return Err(HostError::NobodyServes { device: device.name() });
            }
            Some(mode) => mode,
        };
        let window = device.window().filter(|_| self.direct);

        let page_size = self.mount.page_size;
        let bad_cache =
            |errno| HostError::Cache { page_size, cache_size: self.mount.cache_size, errno };
        // Where pages go straight to their frames, slots carry paths and directory entries only.
        let slot_size = match window {
            Some(_) => 8192,
            None => page_size.clamp(8192, 2 << 20).next_power_of_two(),
        };
        let region_config = RegionConfig {
            shards: device.shards(),
            ring_entries: self.ring_entries,
            slots: self.slots.unwrap_or(((16 << 20) / slot_size).max(64)),
            slot_size,
            calls: self.calls,
            device_window: window.as_ref().map_or(0, |w| w.len as u64),
            sockets: self.sockets,
            socket_ring: if self.sockets == 0 { 0 } else { self.socket_ring },
            pollers: if self.sockets == 0 { 0 } else { self.pollers },
        };
        let bad_sockets = |_| HostError::Sockets {
            sockets: self.sockets,
            ring: self.socket_ring,
            pollers: self.pollers,
        };
        // Looked at before anything is set up for it.
        let no_sockets = RegionConfig { sockets: 0, socket_ring: 0, pollers: 0, ..region_config };
        RegionLayout::new(no_sockets).map_err(bad_cache)?;
        let layout = RegionLayout::new(region_config).map_err(bad_sockets)?;
        let mount = MountConfig { direct: window.is_some(), ..self.mount };
        let mount_layout = MountLayout::new::<I>(&mount, &layout).map_err(bad_cache)?;

        let region =
            RegionMemory::new(region_config).map_err(|source| HostError::Region { source })?;
        let region = Arc::new(region);
        let options = Options {
            engine: match self.engine {
                // A schedule replays only if answers come in an order that follows from it.
                EngineChoice::Auto if device.is_deterministic() => EngineChoice::Pread,
                engine => engine,
            },
            // Many at a time: the emulator looks through all its waiting threads after each batch.
            batch: 256,
            ring_workers: match daemon_mode {
                DaemonMode::Inline => workers,
                DaemonMode::Threads(n) => n.max(1),
            },
            faults: self.faults,
            ..Options::default()
        };
        let daemon = match self.beside {
            Some(daemon) => daemon,
            None => Arc::new(Daemon::new(options)?),
        };
        // SAFETY: the memory outlives the client: `Served` drops the client first.
        let device_window = window.as_ref().map(|w| unsafe { DeviceWindow::new(w.base, w.len) });
        let grant = Grant {
            root: self.root,
            max_open: mount.open_files.max(4096),
            device_window,
            read_only: self.read_only,
            net: self.network,
        };
        let client = daemon.attach(region.clone(), grant)?;
        if let DaemonMode::Threads(n) = daemon_mode {
            client.spawn(n.max(1))?;
        }

        let base = device.alloc(mount_layout.total(), 2 << 20)?;
        let region_addr = device.map_region(region.clone())?;
        let window_base = window.as_ref().map_or(0, |w| w.base.as_ptr() as u64);
        let header = mount_layout.header(base, region_addr, window_base);
        // SAFETY: just allocated, and no kernel runs yet.
        unsafe { device.write(base, bytemuck::bytes_of(&header))? };
        let net = if self.sockets == 0 {
            None
        } else {
            let net = NetLayout::new(&layout);
            let at = device.alloc(net.total(), 64)?;
            let header = net.header(at, header.port(&layout));
            // SAFETY: as above.
            unsafe { device.write(at, bytemuck::bytes_of(&header))? };
            Some(at)
        };

        let served = Arc::new(Served { client, region, window });
        device.start(Service::new(served.clone(), daemon_mode));
        let layout = mount_layout;
        Ok(Session { device, served, daemon, mount: base, net, layout, policies: PhantomData })
    }
}

/// Threads of the daemon where the device cannot lend any: more than a few find nothing to do.
fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(4)
}

/// A device with a mounted page cache, ready for launches. Dropping it waits for launches under way.
pub struct Session<I: PageIndex = HashIndex, E: Eviction = Clock> {
    // Before what serves it: its workers end first.
    device: Arc<dyn Device>,
    served: Arc<Served>,
    daemon: Arc<Daemon>,
    mount: u64,
    /// Where the sockets' header is.
    net: Option<u64>,
    layout: MountLayout,
    policies: PhantomData<fn() -> (I, E)>,
}

/// Asks the kernels of a session to end: see [`Session::ask_to_end`].
#[derive(Clone)]
pub struct Ender {
    served: Arc<Served>,
}

impl Ender {
    /// Asks them.
    pub fn end(&self) {
        self.served.ask_to_end();
    }
}

impl Session {
    /// Settings to begin from.
    pub fn builder() -> SessionBuilder {
        SessionBuilder::default()
    }
}

impl<I: PageIndex, E: Eviction> Session<I, E> {
    /// The mount, for kernels' arguments.
    pub fn fs(&self) -> Fs<I, E> {
        // SAFETY: the header was written for this `I`; mount and region live with the session, whose
        // device ends all launches before they go.
        unsafe { Fs::from_addr(self.mount) }
    }

    /// The network, for kernels' arguments.
    ///
    /// # Panics
    /// If the session was built without [`SessionBuilder::sockets`].
    pub fn net(&self) -> Net {
        let at =
            self.net.expect("a session has sockets if its builder's `sockets(n)` asks for some");
        // SAFETY: the header was written for this region and mount, which live with the session.
        unsafe { Net::from_addr(at) }
    }

    /// Asks kernels that serve for ever to end: their `accept`s and `Poll::wait`s say `ECANCELED` within
    /// 50 ms, and [`Net::is_ending`] says so. For the session's whole life.
    pub fn ask_to_end(&self) {
        self.ender().end();
    }

    /// What [`Session::ask_to_end`] does, to be done by another thread: a handler of Ctrl-C, say.
    pub fn ender(&self) -> Ender {
        Ender { served: self.served.clone() }
    }

    /// How the mount is laid out in device memory.
    pub fn layout(&self) -> &MountLayout {
        &self.layout
    }

    /// The device.
    pub fn device(&self) -> &dyn Device {
        &*self.device
    }

    /// `len` zeroed values in device memory.
    ///
    /// # Errors
    /// [`HostError::OutOfDeviceMemory`]; [`HostError::TooLarge`] if no memory could have so many.
    pub fn alloc<T: Pod>(&self, len: usize) -> Result<DeviceBuffer<T>, HostError> {
        DeviceBuffer::new(self.device.clone(), len)
    }

    /// A copy of `values` in device memory.
    ///
    /// # Errors
    /// [`HostError::OutOfDeviceMemory`].
    pub fn alloc_from<T: Pod>(&self, values: &[T]) -> Result<DeviceBuffer<T>, HostError> {
        let buffer = self.alloc(values.len())?;
        buffer.copy_from(0, values)?;
        Ok(buffer)
    }

    /// Starts a kernel. Launches that are under way run side by side, as far as the device has room, and nothing
    /// orders them: what needs the results of one is launched when that has been waited for.
    ///
    /// # Errors
    /// [`HostError::Launch`] if the shape is not possible, or its blocks are larger than the kernel's
    /// `max_threads`.
    pub fn launch<A: Pod + Send + Sync>(
        &self,
        kernel: &Kernel<A>,
        shape: LaunchConfig,
        args: A,
    ) -> Result<Launch, HostError> {
        let threads = shape.block.count();
        // Looked at here, so that what is wrong on a GPU is wrong on every device.
        if let Some(most) = kernel.max_threads().filter(|&most| threads > most.into()) {
            let fault = Fault::BlockOverBound { threads, most }.into();
            return Err(LaunchError { kernel: kernel.name().into(), fault, replay: None }.into());
        }
        let entry = kernel.entry();
        let call = KernelCall {
            name: kernel.name(),
            args: bytemuck::bytes_of(&args).to_vec(),
            on_host: Box::new(move || entry(args)),
        };
        Ok(Launch { running: self.device.launch(call, shape)? })
    }

    /// Runs a kernel to its end.
    ///
    /// # Errors
    /// [`HostError::Launch`] with the reason, the thread and the place.
    pub fn run<A: Pod + Send + Sync>(
        &self,
        kernel: &Kernel<A>,
        shape: LaunchConfig,
        args: A,
    ) -> Result<LaunchReport, HostError> {
        self.launch(kernel, shape, args)?.wait()
    }

    /// What the page cache counted so far. Counts of launches under way may be missing.
    ///
    /// # Errors
    /// If the device fails.
    pub fn stats(&self) -> Result<Stats, HostError> {
        let mut lines = [[0u64; STATS_WORDS]; STATS_LINES];
        // SAFETY: the mount's own counters. Kernels may count on: words are read whole or not yet
        // counted.
        unsafe {
            self.device
                .read(self.mount + self.layout.stats(), bytemuck::cast_slice_mut(&mut lines))?
        };
        Ok(Stats::sum_counts(lines.into_iter()))
    }

    /// What the launches so far cost in instructions and memory transactions, where the device
    /// counts them: the PTX interpreter does.
    pub fn counts(&self) -> Option<gpu_emu::ptx::Counts> {
        Some(self.device.counts()?.into_values().sum())
    }

    /// The same for each kernel that was launched, by name; empty where the device counts nothing.
    pub fn counts_by_kernel(&self) -> BTreeMap<String, gpu_emu::ptx::Counts> {
        self.device.counts().unwrap_or_default()
    }

    /// The lines of PTX that the launches so far executed, and how often: of the PTX interpreter with
    /// [`PtxOptions::profile`](crate::PtxOptions::profile), else empty.
    pub fn profile(&self) -> Vec<gpu_emu::ptx::ProfileLine> {
        self.device.profile()
    }

    /// What the daemon counted so far.
    pub fn daemon_stats(&self) -> host_daemon::Stats {
        self.served.client.stats()
    }

    /// How the daemon reads files.
    pub fn engine(&self) -> host_daemon::EngineKind {
        self.daemon.engine()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpu_rt::kernel;

    #[kernel(max_threads = 64)]
    fn small() {}

    #[test]
    fn a_kernel_says_how_large_its_blocks_may_be() {
        let session = Session::builder().build().unwrap();
        session.run(&small, LaunchConfig::new(2, (8, 8)), ()).unwrap();
        let outcome = session.run(&small, LaunchConfig::new(1, (8, 9)), ());
        let Err(HostError::Launch(error)) = outcome else { panic!("{outcome:?}") };
        assert!(matches!(*error.fault, Fault::BlockOverBound { threads: 72, most: 64 }), "{error}");
        assert_eq!(error.kernel, "small");
    }

    #[test]
    fn a_buffer_larger_than_any_memory_is_refused() {
        let session = Session::builder().build().unwrap();
        // 2^61 + 1 values of 8 bytes: 8 bytes, to whoever multiplies without looking.
        let len = (1 << 61) + 1;
        let message = session.alloc::<u64>(len).err().unwrap().to_string();
        assert!(message.contains("2305843009213693953 values of 8 bytes"), "{message}");
        let outcome = session.alloc::<u8>(usize::MAX).map(drop);
        let Err(HostError::OutOfDeviceMemory { wanted: usize::MAX, .. }) = outcome else {
            panic!("{outcome:?}")
        };
    }
}
