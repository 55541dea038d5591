//! What the servers' programs have in common: to launch, to say where it listens, to end on Ctrl-C.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use gpu_host::{
    DeviceChoice, EmulatedOptions, Ender, HostError, Launch, LaunchConfig, NetAddr, Session,
    SessionBuilder,
};
use gpu_kernels::server::{SHARED_WORDS, Server};
use gpu_rt::Kernel;

use crate::device::DeviceArgs;
use crate::failure::Failure;

/// Command-line options of every server.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeArgs {
    /// Warps that serve, each one connection at a time
    #[arg(long, default_value_t = 8, value_name = "N", help_heading = "Server")]
    pub warps: u32,
    /// Threads of a warp. One suits the emulated GPU, where the threads of a warp share a processor
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=32), help_heading = "Server")]
    pub lanes: Option<u32>,
    /// Connections at once, waiting ones included; others wait in the system's queue [default: 4096]
    #[arg(long, value_name = "N", help_heading = "Server")]
    pub connections: Option<u32>,
    /// Bytes of each of a connection's two rings: a power of two, 4096 to 4194304
    #[arg(long, default_value_t = 65536, value_name = "BYTES", help_heading = "Server")]
    pub ring: u32,
    /// Processors that the emulated GPU uses
    #[arg(long, value_name = "N", help_heading = "Server")]
    pub workers: Option<usize>,
    /// On which device.
    #[command(flatten)]
    pub device: DeviceArgs,
}

impl ServeArgs {
    /// A session with sockets.
    ///
    /// # Errors
    /// If the device needs PTX and there is none.
    pub fn session(&self) -> Result<SessionBuilder, HostError> {
        let mut args = self.device.clone();
        if let (Some(workers), DeviceChoice::Emulated(options)) = (self.workers, &args.device) {
            args.device = DeviceChoice::Emulated(EmulatedOptions {
                workers: workers.max(1),
                ..options.clone()
            });
        }
        let connections = self.connections.unwrap_or(4096);
        Ok(args.session()?.sockets(connections.saturating_add(1)).socket_ring(self.ring))
    }

    /// Threads of a warp on the chosen device.
    #[must_use]
    pub fn lanes(&self) -> u32 {
        let usual = match self.device.device {
            DeviceChoice::Emulated(_) => 1,
            _ => 32,
        };
        self.lanes.unwrap_or(usual)
    }

    /// The launch: a warp to a block.
    #[must_use]
    pub fn shape(&self) -> LaunchConfig {
        LaunchConfig::new(self.warps.max(1), self.lanes())
    }
}

/// Lets this process have as many descriptors as it may: a connection takes one.
pub fn raise_descriptor_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct lives; a failure changes nothing.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// A server that runs.
pub struct Running {
    /// Where it listens.
    pub addr: SocketAddr,
    launch: Launch,
    shared: gpu_host::DeviceBuffer<u64>,
}

impl Running {
    /// Launches a server's kernel and waits until it listens. `arguments` makes them of what all servers
    /// have.
    ///
    /// # Errors
    /// If it cannot listen, or the launch fails.
    pub fn start<A: bytemuck::Pod + Send + Sync>(
        session: &Session,
        kernel: &Kernel<A>,
        shape: LaunchConfig,
        addr: SocketAddr,
        arguments: impl FnOnce(Server) -> A,
    ) -> Result<Running, Failure> {
        raise_descriptor_limit();
        let shared = session.alloc::<u64>(SHARED_WORDS)?;
        let server = Server {
            net: session.net(),
            addr: NetAddr::from(addr),
            shared: shared.slice(),
            backlog: 512,
            reserved: 0,
        };
        let launch = session.launch(kernel, shape, arguments(server))?;
        let mut words = [0u64; SHARED_WORDS];
        loop {
            shared.copy_to(0, &mut words)?;
            match words[0] as u32 {
                0 if launch.is_finished() => {
                    launch.wait()?;
                    return Err("the server has ended before it listened".into());
                }
                0 => std::thread::sleep(Duration::from_micros(200)),
                1 => break,
                e => {
                    let error = std::io::Error::from_raw_os_error((e - 2) as i32);
                    return Err(format!("cannot listen at {addr}: {error}").into());
                }
            }
        }
        // The state is written last; what was copied beside it may be older.
        shared.copy_to(0, &mut words)?;
        let bound: NetAddr = bytemuck::cast([words[5], words[6], words[7], words[8]]);
        let addr = bound.to_std().ok_or("the server listens at no address")?;
        Ok(Running { addr, launch, shared })
    }

    /// Says on standard output where it listens, has Ctrl-C end the server, and waits for its end; the
    /// connections it took, and what it counted.
    ///
    /// # Errors
    /// If the launch fails.
    pub fn until_interrupted(self, ender: Ender) -> Result<(u64, [u64; 8]), Failure> {
        println!("{}", self.addr);
        std::io::stdout().flush()?;
        on_interrupt(ender)?;
        self.wait()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If the launch fails.
    pub fn wait(self) -> Result<(u64, [u64; 8]), Failure> {
        self.launch.wait()?;
        let words = self.shared.to_vec()?;
        let mut counts = [0; 8];
        counts.copy_from_slice(&words[SHARED_WORDS - 8..]);
        Ok((words[0] >> 32, counts))
    }
}

/// Has SIGINT and SIGTERM end a session's kernels; a second one ends the process.
fn on_interrupt(ender: Ender) -> Result<(), Failure> {
    use std::sync::atomic::{AtomicI32, Ordering};
    static PIPE: AtomicI32 = AtomicI32::new(-1);

    extern "C" fn handler(signal: i32) {
        // SAFETY: write and signal may be called in a handler.
        unsafe {
            libc::write(PIPE.load(Ordering::Relaxed), b"!".as_ptr().cast(), 1);
            libc::signal(signal, libc::SIG_DFL);
        }
    }

    let (reader, writer) = rustix::pipe::pipe()?;
    PIPE.store(std::os::fd::IntoRawFd::into_raw_fd(writer), Ordering::Relaxed);
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let handler: extern "C" fn(i32) = handler;
        // SAFETY: the handler calls only what handlers may.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
    std::thread::spawn(move || {
        let mut byte = [0u8];
        while rustix::io::read(&reader, &mut byte) == Err(rustix::io::Errno::INTR) {}
        ender.end();
    });
    Ok(())
}
