//! How fast the driver copies between pinned host memory and a device: what reading through the page
//! cache is compared with.

use super::calls;
use super::driver::{self, Context, check};
use super::error::CudaError;
use crate::HostError;
use std::ptr::null_mut;

/// Copies `bytes` from pinned memory to device `ordinal`, `times` times after one that is not counted;
/// bytes per second of each, as the device's own clock has it.
///
/// # Errors
/// [`HostError::Cuda`].
pub fn pinned_to_device(ordinal: u32, bytes: usize, times: usize) -> Result<Vec<f64>, HostError> {
    let context = Context::new(driver::device(ordinal)?.device)?;
    let _current = context.enter()?;
    // SAFETY: the context is ours alone.
    Ok(unsafe { measure(bytes, times)? })
}

/// The copies, in the current context, in which everything stays that they need.
///
/// # Safety
/// The context is nobody else's.
unsafe fn measure(bytes: usize, times: usize) -> Result<Vec<f64>, CudaError> {
    let (mut host, mut device) = (null_mut(), 0);
    let (mut start, mut end) = (null_mut(), null_mut());
    let mut rates = Vec::with_capacity(times);
    // SAFETY: places for results outlive their calls; both memories have as many bytes, and live until
    // the context ends, after the last copy.
    unsafe {
        let stream = driver::stream()?;
        check("pin memory", calls::cuMemHostAlloc(&raw mut host, bytes, 0))?;
        // Memory that was never touched is one page of zeros to some machines.
        host.cast::<u8>().write_bytes(0x5a, bytes);
        check("allocate device memory", calls::cuMemAlloc_v2(&raw mut device, bytes))?;
        check("make an event", calls::cuEventCreate(&raw mut start, 0))?;
        check("make an event", calls::cuEventCreate(&raw mut end, 0))?;
        for round in 0..=times {
            let mut milliseconds = 0.0;
            check("record an event", calls::cuEventRecord(start, stream))?;
            check("copy", calls::cuMemcpyHtoDAsync_v2(device, host, bytes, stream))?;
            check("record an event", calls::cuEventRecord(end, stream))?;
            check("copy", calls::cuStreamSynchronize(stream))?;
            check("time a copy", calls::cuEventElapsedTime(&raw mut milliseconds, start, end))?;
            if round > 0 {
                rates.push(bytes as f64 / (f64::from(milliseconds) / 1e3));
            }
        }
    }
    Ok(rates)
}
