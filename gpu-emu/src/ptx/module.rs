//! A module of kernels.

use std::fmt;
use std::sync::Arc;

use super::PtxError;
use super::code::Program;
use super::lower;

/// A module of kernels, ready to be launched. Its global variables are its own; clones share them.
#[derive(Clone)]
pub struct Module {
    pub(super) program: Arc<Program>,
}

impl Module {
    /// Parses PTX and resolves all names in it.
    ///
    /// # Errors
    /// [`PtxError`] with the line and what is wrong there: whatever the text, nothing worse happens.
    pub fn parse(source: &str) -> Result<Module, PtxError> {
        Ok(Module { program: Arc::new(lower::lower(source)?) })
    }

    /// The names of the kernels, in order.
    pub fn kernels(&self) -> impl Iterator<Item = &str> {
        self.program.kernels.keys().map(String::as_str)
    }

    /// The address, which is the host's, and the size in bytes of a global variable.
    #[must_use]
    pub fn global(&self, name: &str) -> Option<(u64, usize)> {
        let global = self.program.globals.find(name)?;
        Some((global.address, global.bytes as usize))
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module")
            .field("kernels", &self.program.kernels.len())
            .field("instructions", &self.program.code.len())
            .finish_non_exhaustive()
    }
}
