//! What bytes are sent from and received into.

use gpu_abi::slice::DeviceSlice;

/// Bytes that a group sends: a slice, or a slice of device memory. The leader's counts.
pub trait Buf: sealed::Sealed {
    /// Address and length.
    #[doc(hidden)]
    fn raw(&self) -> (*const u8, usize);
}

/// A place for bytes that a group receives: an exclusive slice, or a slice of device memory. The
/// leader's counts.
pub trait BufMut: sealed::Sealed {
    /// Address and length.
    #[doc(hidden)]
    fn raw(&mut self) -> (*mut u8, usize);
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for &[u8] {}
    impl Sealed for &mut [u8] {}
    impl Sealed for super::DeviceSlice<u8> {}
}

impl Buf for &[u8] {
    fn raw(&self) -> (*const u8, usize) {
        (self.as_ptr(), self.len())
    }
}

impl Buf for DeviceSlice<u8> {
    fn raw(&self) -> (*const u8, usize) {
        (self.as_ptr(), self.len())
    }
}

impl BufMut for &mut [u8] {
    fn raw(&mut self) -> (*mut u8, usize) {
        (self.as_mut_ptr(), self.len())
    }
}

impl BufMut for DeviceSlice<u8> {
    fn raw(&mut self) -> (*mut u8, usize) {
        (self.as_ptr(), self.len())
    }
}
