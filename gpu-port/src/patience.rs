//! Waiting for the host, as long as it lives.

use gpu_abi::layout::{Header, state};
use gpu_abi::{Errno, Word32};
use gpu_rt::atomic::SystemAtomics;

/// How long a wait goes on before it looks whether the host lives.
pub const SLICE_NS: u64 = 250_000_000;
/// A host whose heartbeat stands still for so many slices is taken for dead (clause H2).
const DEAD_AFTER_SLICES: u32 = 12;

/// Decides when a wait has become hopeless.
#[derive(Default)]
pub struct Patience {
    heartbeat: u32,
    slices: u32,
    until: u64,
}

impl Patience {
    /// For a wait that begins now.
    #[must_use]
    pub fn new() -> Patience {
        Patience { heartbeat: 0, slices: 0, until: 0 }
    }

    /// Called once per [`SLICE_NS`] of waiting: `EIO` if the host has left or is silent for long.
    ///
    /// # Errors
    /// `EIO`.
    pub fn slice_over(&mut self, region: &Header<SystemAtomics>) -> Result<(), Errno> {
        let host = &region.host;
        if host.state.load_relaxed() != state::RUNNING {
            return Err(Errno::EIO);
        }
        let heartbeat = host.heartbeat.load_relaxed();
        if heartbeat != self.heartbeat || self.slices == 0 {
            self.heartbeat = heartbeat;
            self.slices = 1;
            return Ok(());
        }
        self.slices += 1;
        if self.slices > DEAD_AFTER_SLICES { Err(Errno::EIO) } else { Ok(()) }
    }

    /// Yields once in a spinning wait.
    ///
    /// # Errors
    /// `EIO` if the host is gone.
    pub fn spin(&mut self, region: &Header<SystemAtomics>) -> Result<(), Errno> {
        let now = gpu_rt::clock();
        if self.until == 0 {
            self.until = now + SLICE_NS;
        } else if now > self.until {
            self.until = now + SLICE_NS;
            self.slice_over(region)?;
        }
        gpu_rt::relax();
        Ok(())
    }

    /// Waits until the word differs from `value`, for at most a slice.
    ///
    /// # Errors
    /// `EIO` if the host is gone.
    pub fn wait(
        &mut self,
        region: &Header<SystemAtomics>,
        word: &impl gpu_rt::WaitWord,
        value: u32,
    ) -> Result<(), Errno> {
        self.watch(region, word, value).map(drop)
    }

    /// As [`Patience::wait`]; what the word is then, by an acquire load.
    ///
    /// # Errors
    /// `EIO` if the host is gone.
    pub fn watch(
        &mut self,
        region: &Header<SystemAtomics>,
        word: &impl gpu_rt::WaitWord,
        value: u32,
    ) -> Result<u32, Errno> {
        let seen = gpu_rt::wait_while_eq(word, value, SLICE_NS);
        if seen == value {
            self.slice_over(region)?;
        }
        Ok(seen)
    }
}
