//! Device memory that a host program owns.

use crate::HostError;
use crate::device::Device;
use bytemuck::Pod;
use gpufs::DeviceSlice;
use std::marker::PhantomData;
use std::sync::Arc;

/// `len` values of `T` in device memory, freed when dropped.
///
/// The host copies in and out between launches; a launch that uses the buffer must have ended before
/// it is copied from or dropped.
pub struct DeviceBuffer<T> {
    device: Arc<dyn Device>,
    addr: u64,
    len: usize,
    of: PhantomData<T>,
}

impl<T: Pod> DeviceBuffer<T> {
    pub(crate) fn new(device: Arc<dyn Device>, len: usize) -> Result<Self, HostError> {
        let size = size_of::<T>();
        let bytes = len.checked_mul(size).ok_or(HostError::TooLarge { len, size })?;
        let addr = device.alloc(bytes, align_of::<T>())?;
        Ok(DeviceBuffer { device, addr, len, of: PhantomData })
    }

    /// What goes into a kernel's arguments.
    pub fn slice(&self) -> DeviceSlice<T> {
        DeviceSlice::new(self.addr, self.len as u64)
    }

    /// Values in the buffer.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn check(&self, start: usize, len: usize) -> Result<u64, HostError> {
        if start > self.len || len > self.len - start {
            return Err(HostError::OutOfBuffer { start, len, size: self.len });
        }
        Ok(self.addr + (start * size_of::<T>()) as u64)
    }

    /// Copies `values` to the buffer, from its value `start` on.
    ///
    /// # Errors
    /// [`HostError::OutOfBuffer`].
    pub fn copy_from(&self, start: usize, values: &[T]) -> Result<(), HostError> {
        let addr = self.check(start, values.len())?;
        // SAFETY: within this buffer; the documentation forbids it while a launch uses it.
        unsafe { self.device.write(addr, bytemuck::cast_slice(values)) }
    }

    /// Copies from the buffer's value `start` on.
    ///
    /// # Errors
    /// [`HostError::OutOfBuffer`].
    pub fn copy_to(&self, start: usize, values: &mut [T]) -> Result<(), HostError> {
        let addr = self.check(start, values.len())?;
        // SAFETY: within this buffer; the documentation forbids it while a launch uses it.
        unsafe { self.device.read(addr, bytemuck::cast_slice_mut(values)) }
    }

    /// The values where they lie, if the host can address device memory.
    ///
    /// # Safety
    /// No launch writes to the buffer while the slice is used.
    pub unsafe fn in_place(&self) -> Option<&[T]> {
        let window = self.device.window()?;
        debug_assert!(self.addr >= window.base.as_ptr() as u64);
        // SAFETY: device memory that the host addresses alike, aligned for `T` and allocated as long
        // as the buffer lives; the caller vouches that nobody writes it.
        Some(unsafe { std::slice::from_raw_parts(self.addr as usize as *const T, self.len) })
    }

    /// All values.
    ///
    /// # Errors
    /// If the device fails.
    pub fn to_vec(&self) -> Result<Vec<T>, HostError> {
        let mut values = vec![T::zeroed(); self.len];
        self.copy_to(0, &mut values)?;
        Ok(values)
    }
}

impl<T> Drop for DeviceBuffer<T> {
    fn drop(&mut self) {
        // SAFETY: our own allocation; its owner gives it up, and vouches that no launch uses it.
        unsafe { self.device.free(self.addr, self.len * size_of::<T>()) };
    }
}
