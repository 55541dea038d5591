//! Which device a session has.

use crate::device::Device;
use crate::emulated::{Emulated, EmulatedOptions};
use crate::{HostError, Module};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Which device runs a session's kernels.
///
/// As text, on command lines: `emulated`.
#[derive(Clone)]
#[non_exhaustive]
pub enum DeviceChoice {
    /// The emulated GPU: kernels are host code.
    Emulated(EmulatedOptions),
}

impl Default for DeviceChoice {
    fn default() -> Self {
        DeviceChoice::Emulated(EmulatedOptions::default())
    }
}

/// Text that names no device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no device '{0}': there is `emulated`")]
pub struct ParseDeviceError(String);

impl FromStr for DeviceChoice {
    type Err = ParseDeviceError;

    fn from_str(text: &str) -> Result<Self, ParseDeviceError> {
        match text {
            "emulated" => Ok(DeviceChoice::default()),
            _ => Err(ParseDeviceError(text.to_owned())),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChoice::Emulated(_) => f.write_str("emulated"),
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
        }
    }

    /// The device, with `memory` bytes of memory at most.
    pub(crate) fn open(
        self,
        memory: usize,
        _module: Option<Module>,
    ) -> Result<Arc<dyn Device>, HostError> {
        match self {
            DeviceChoice::Emulated(options) => Ok(Arc::new(Emulated::new(options, memory)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_names() {
        for name in [DeviceChoice::default().to_string()] {
            assert_eq!(name.parse::<DeviceChoice>().unwrap().to_string(), name);
        }
        let error = "abacus".parse::<DeviceChoice>().unwrap_err().to_string();
        assert!(error.contains("'abacus'") && error.contains("`emulated`"), "{error}");
    }
}
