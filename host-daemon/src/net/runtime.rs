//! What runs the tasks of all clients' sockets.

use crate::DaemonError;
use std::future::Future;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::runtime::{Builder, Handle};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// A tokio runtime with a thread of its own, or several.
pub(crate) struct Runtime {
    handle: Handle,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl Runtime {
    pub(crate) fn new(threads: usize) -> Result<Runtime, DaemonError> {
        let mut builder =
            if threads > 1 { Builder::new_multi_thread() } else { Builder::new_current_thread() };
        if threads > 1 {
            // The thread below only waits for the end then.
            builder.worker_threads(threads);
        }
        // Looks at the descriptors after so many tasks: few enough that those that have just become
        // ready are served while the bytes of the others are on their way.
        let spawn = |source| DaemonError::Spawn { source };
        let runtime = builder.enable_all().thread_name("gpu-hostd-net").build().map_err(spawn)?;
        let (handle, stop) = (runtime.handle().clone(), Arc::new(Notify::new()));
        let ours = stop.clone();
        let thread = std::thread::Builder::new()
            .name("gpu-hostd-net".into())
            .spawn(move || runtime.block_on(ours.notified()))
            .map_err(spawn)?;
        Ok(Runtime { handle, stop, thread: Some(thread) })
    }

    /// Begins a task.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.handle.spawn(task).abort_handle()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take()
            // A task of its own may be the last to go: it cannot wait for itself.
            && Handle::try_current().is_err()
        {
            let _ = thread.join();
        }
    }
}
