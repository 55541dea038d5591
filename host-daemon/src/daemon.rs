//! What all clients of a daemon share.

use crate::client::Client;
use crate::engine::ring;
use crate::net::{Listeners, Runtime};
use crate::paths::FileSystems;
use crate::versions::Versions;
use crate::{DaemonError, EngineChoice, EngineKind, Grant, Options, RegionMemory};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Threads that wait where io_uring is not to be had.
const FALLBACK_POOL: usize = 4;

/// Serves regions.
pub struct Daemon {
    shared: Arc<Shared>,
}

/// The part that clients keep alive.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) engine: EngineKind,
    pub(crate) versions: Versions,
    pub(crate) file_systems: FileSystems,
    pub(crate) listeners: Arc<Listeners>,
    /// What runs the sockets of all clients that have any, as long as one of them lives.
    runtime: Mutex<Weak<Runtime>>,
}

impl Shared {
    pub(crate) fn runtime(&self) -> Result<Arc<Runtime>, DaemonError> {
        let mut known = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = known.upgrade() {
            return Ok(runtime);
        }
        let runtime = Arc::new(Runtime::new(self.options.net_threads)?);
        *known = Arc::downgrade(&runtime);
        Ok(runtime)
    }
}

impl Daemon {
    /// A daemon with these options; settles on an engine.
    pub fn new(options: Options) -> Result<Daemon, DaemonError> {
        options.check()?;
        let engine = match options.engine {
            EngineChoice::Auto => match std::env::var("GPU_HOSTD_ENGINE") {
                Ok(name) => from_variable(&name)?,
                Err(_) => ring::probe()
                    .map_or(EngineKind::PreadPool(FALLBACK_POOL), |()| EngineKind::IoUring),
            },
            EngineChoice::IoUring => EngineKind::IoUring,
            EngineChoice::Pread => EngineKind::Pread,
            EngineChoice::PreadPool(n) => EngineKind::PreadPool(n),
        };
        if engine == EngineKind::IoUring {
            ring::probe().map_err(|source| DaemonError::RingUnavailable { source })?;
        }
        let (versions, file_systems) = (Versions::new(), FileSystems::default());
        let (listeners, runtime) = (Arc::default(), Mutex::default());
        let shared = Shared { options, engine, versions, file_systems, listeners, runtime };
        Ok(Daemon { shared: Arc::new(shared) })
    }

    /// The engine it settled on.
    pub fn engine(&self) -> EngineKind {
        self.shared.engine
    }

    /// Begins to serve a region within a grant. Nothing happens until the client is polled or
    /// [`Client::spawn`]ed. Clients outlive the daemon value.
    pub fn attach(&self, region: Arc<RegionMemory>, grant: Grant) -> Result<Client, DaemonError> {
        Client::new(self.shared.clone(), region, grant)
    }
}

fn from_variable(value: &str) -> Result<EngineKind, DaemonError> {
    match value {
        "pread" => Ok(EngineKind::Pread),
        "io_uring" => Ok(EngineKind::IoUring),
        _ => Err(DaemonError::EngineVariable { value: value.into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_names_an_engine_or_says_what_it_may_name() {
        assert_eq!(from_variable("pread").unwrap(), EngineKind::Pread);
        assert_eq!(from_variable("io_uring").unwrap(), EngineKind::IoUring);
        let message = from_variable("aio").unwrap_err().to_string();
        assert!(message.contains("pread or io_uring"), "{message}");
    }

    #[test]
    fn options_outside_their_limits_are_named() {
        let options = Options { batch: 0, ..Options::default() };
        let message = Daemon::new(options).err().unwrap().to_string();
        assert!(message.contains("batch = 0") && message.contains("1 to 256"), "{message}");
    }
}
