//! Which device a session has.

use crate::cuda::{Cuda, CudaOptions};
use crate::device::Device;
use crate::emulated::{Emulated, EmulatedOptions};
use crate::ptx::{Ptx, PtxOptions};
use crate::{HostError, Module, ModuleError};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Which device runs a session's kernels.
///
/// As text, on command lines: `emulated`, `ptx`, `ptx:check` (which looks for races too),
/// `ptx:profile` (which counts by instruction), `cuda`, `cuda:1`.
#[derive(Clone)]
#[non_exhaustive]
pub enum DeviceChoice {
    /// The emulated GPU: kernels are host code.
    Emulated(EmulatedOptions),
    /// The PTX interpreter: kernels are what a GPU would get, run on the CPU, checked and counted.
    Ptx(PtxOptions),
    /// An NVIDIA GPU: kernels are PTX, compiled by the driver.
    Cuda(CudaOptions),
}

impl Default for DeviceChoice {
    fn default() -> Self {
        DeviceChoice::Emulated(EmulatedOptions::default())
    }
}

/// Text that names no device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no device '{0}': there are `emulated`, `ptx`, `ptx:check`, `ptx:profile`, `cuda`, and `cuda:N` for the GPU with that number"
)]
pub struct ParseDeviceError(String);

impl FromStr for DeviceChoice {
    type Err = ParseDeviceError;

    fn from_str(text: &str) -> Result<Self, ParseDeviceError> {
        if text == "ptx:check" {
            return Ok(DeviceChoice::Ptx(PtxOptions { check: true, ..PtxOptions::default() }));
        }
        if text == "ptx:profile" {
            return Ok(DeviceChoice::Ptx(PtxOptions { profile: true, ..PtxOptions::default() }));
        }
        let (name, number) = match text.split_once(':') {
            Some((name, number)) => (name, Some(number.parse::<u32>())),
            None => (text, None),
        };
        match (name, number) {
            ("emulated", None) => Ok(DeviceChoice::default()),
            ("ptx", None) => Ok(DeviceChoice::Ptx(PtxOptions::default())),
            ("cuda", None) => Ok(DeviceChoice::Cuda(CudaOptions::default())),
            ("cuda", Some(Ok(ordinal))) => {
                Ok(DeviceChoice::Cuda(CudaOptions { ordinal, ..CudaOptions::default() }))
            }
            _ => Err(ParseDeviceError(text.to_owned())),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChoice::Emulated(_) => f.write_str("emulated"),
            DeviceChoice::Ptx(PtxOptions { check: true, .. }) => f.write_str("ptx:check"),
            DeviceChoice::Ptx(PtxOptions { profile: true, .. }) => f.write_str("ptx:profile"),
            DeviceChoice::Ptx(_) => f.write_str("ptx"),
            DeviceChoice::Cuda(options) => write!(f, "cuda:{}", options.ordinal),
        }
    }
}

impl fmt::Debug for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl DeviceChoice {
    /// Whether it runs kernels from a module rather than as host code.
    pub fn needs_module(&self) -> bool {
        match self {
            DeviceChoice::Emulated(_) => false,
            DeviceChoice::Ptx(_) | DeviceChoice::Cuda(_) => true,
        }
    }

    /// The device, with `memory` bytes of memory at most; `preload` are the kernels that it has to have
    /// compiled by then, if it compiles any.
    pub(crate) fn open(
        self,
        memory: usize,
        module: Option<Module>,
        preload: &[String],
    ) -> Result<Arc<dyn Device>, HostError> {
        let missing = ModuleError::Missing { device: self.to_string() };
        match self {
            DeviceChoice::Emulated(options) => Ok(Arc::new(Emulated::new(options, memory)?)),
            DeviceChoice::Ptx(options) => {
                Ok(Arc::new(Ptx::new(options, memory, module.ok_or(missing)?)?))
            }
            DeviceChoice::Cuda(options) => {
                Ok(Arc::new(Cuda::new(options, memory, module.ok_or(missing)?, preload)?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_names() {
        for (text, name) in [
            ("emulated", "emulated"),
            ("ptx", "ptx"),
            ("ptx:check", "ptx:check"),
            ("ptx:profile", "ptx:profile"),
            ("cuda", "cuda:0"),
            ("cuda:3", "cuda:3"),
        ] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), name);
        }
        for text in ["abacus", "cuda:", "cuda:x", "cuda:-1", "emulated:1", ""] {
            let error = text.parse::<DeviceChoice>().unwrap_err().to_string();
            assert!(error.contains(&format!("'{text}'")) && error.contains("`cuda:N`"), "{error}");
        }
    }
}
