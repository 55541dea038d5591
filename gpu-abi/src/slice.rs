//! How a host names device memory in a kernel's arguments.

use bytemuck::{Pod, Zeroable};
use core::marker::PhantomData;

/// `len` values of `T` at a device address: what a host puts into a kernel's arguments.
///
/// It is a plain number pair, so it can be copied anywhere; turning it into a Rust slice is where
/// the promise about the memory behind it is made.
#[repr(C)]
pub struct DeviceSlice<T> {
    addr: u64,
    len: u64,
    of: PhantomData<fn() -> T>,
}

impl<T> Clone for DeviceSlice<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for DeviceSlice<T> {}

// SAFETY: two integers and a zero-sized marker; all-zero is the empty slice.
unsafe impl<T> Zeroable for DeviceSlice<T> {}
// SAFETY: two integers and a zero-sized marker: no padding, every bit pattern is a value.
unsafe impl<T: 'static> Pod for DeviceSlice<T> {}

impl<T> core::fmt::Debug for DeviceSlice<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "DeviceSlice({:#x}, {})", self.addr, self.len)
    }
}

impl<T> DeviceSlice<T> {
    /// `len` values at the device address `addr`.
    pub const fn new(addr: u64, len: u64) -> Self {
        DeviceSlice { addr, len, of: PhantomData }
    }

    /// The device address.
    pub const fn addr(&self) -> u64 {
        self.addr
    }

    /// The number of values.
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first value's address on the device that the memory belongs to.
    pub const fn as_ptr(&self) -> *mut T {
        self.addr as usize as *mut T
    }

    /// The values from `start` on, at most `len` of them, cut to what is there.
    pub const fn slice(&self, start: usize, len: usize) -> DeviceSlice<T> {
        let start = if start < self.len() { start } else { self.len() };
        let rest = self.len() - start;
        let len = if len < rest { len } else { rest };
        DeviceSlice::new(self.addr + (start * size_of::<T>()) as u64, len as u64)
    }

    /// The memory as a shared slice.
    ///
    /// # Safety
    /// Called on the device that the memory belongs to, while it is allocated, holds valid values
    /// of `T`, and nobody writes it (values with interior mutability excepted) for `'a`.
    pub const unsafe fn as_slice<'a>(&self) -> &'a [T] {
        if self.is_empty() {
            return &[];
        }
        // SAFETY: the caller's promise.
        unsafe { core::slice::from_raw_parts(self.as_ptr(), self.len()) }
    }

    /// The memory as an exclusive slice.
    ///
    /// # Safety
    /// As [`DeviceSlice::as_slice`], and nobody else reads or writes it for `'a`.
    pub const unsafe fn as_mut_slice<'a>(&self) -> &'a mut [T] {
        if self.is_empty() {
            return &mut [];
        }
        // SAFETY: the caller's promise.
        unsafe { core::slice::from_raw_parts_mut(self.as_ptr(), self.len()) }
    }
}

impl<T: Pod> DeviceSlice<T> {
    /// The value at `index`, if it is within.
    ///
    /// # Safety
    /// As [`DeviceSlice::as_slice`], for that value.
    pub unsafe fn read(&self, index: usize) -> Option<T> {
        // SAFETY: in range; the caller's promise.
        (index < self.len()).then(|| unsafe { self.as_ptr().add(index).read() })
    }
}
