//! Command-line options that choose a device.

use std::path::PathBuf;

use gpu_host::{DeviceChoice, HostError, Module, Session, SessionBuilder};

/// Which device runs the kernels, and where it has them from.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct DeviceArgs {
    /// Which device runs the kernels: emulated, ptx, ptx:check, ptx:profile, cuda, or cuda:N
    #[arg(long, default_value = "emulated", help_heading = "Device")]
    pub device: DeviceChoice,
    /// A file with the kernels as PTX, instead of those that this program was built with
    #[arg(long, value_name = "FILE", help_heading = "Device")]
    pub module: Option<PathBuf>,
}

impl DeviceArgs {
    /// A session on that device, with the kernels of `gpu-kernels`.
    ///
    /// # Errors
    /// [`HostError::Module`] if the device needs PTX and there is none.
    pub fn session(&self) -> Result<SessionBuilder, HostError> {
        let module = Module::for_device(&self.device, self.module.as_deref(), gpu_kernels::PTX)?;
        Ok(Session::builder().device(self.device.clone()).module(module))
    }
}

/// What the small examples take.
#[derive(Debug, clap::Parser)]
pub struct OnePath {
    /// What to read
    pub path: Option<String>,
    /// On which device.
    #[command(flatten)]
    pub device: DeviceArgs,
}
