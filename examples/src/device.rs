//! Command-line options that choose a device.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use gpu_host::{Counts, DeviceChoice, HostError, Module, Session, SessionBuilder, Stats};

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

/// A number of bytes with an optional suffix: `64K`, `1M`, `2G`.
///
/// # Errors
/// A message.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 20),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| format!("'{text}' is not a size"))?;
    number.checked_shl(shift).filter(|n| n >> shift == number).ok_or("too large".into())
}

/// Writes what each kernel cost, where the device counts that: its name, and a line for each group of numbers.
///
/// # Errors
/// If `out` does not take them.
pub fn write_counts(kernels: &BTreeMap<String, Counts>, out: &mut dyn Write) -> io::Result<()> {
    for (kernel, counts) in kernels {
        writeln!(out, "kernel        {kernel}\n{counts}")?;
    }
    Ok(())
}

/// Writes what a page cache counted, in two lines.
///
/// # Errors
/// If `out` does not take them.
pub fn write_stats(stats: &Stats, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "pages: {} hits, {} misses, {} evictions, {} bytes fetched",
        stats.hits, stats.misses, stats.evictions, stats.bytes_fetched
    )?;
    writeln!(out, "requests: {} ({} opens)", stats.requests, stats.opens)
}
