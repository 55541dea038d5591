//! Pairs of policies, each with the kernel that was compiled for it.

use crate::device::{
    Job, conformance_hash_clock, conformance_hash_fifo, conformance_radix_clock,
    conformance_radix_fifo,
};
use gpu_rt::Kernel;
use gpufs::{Clock, Eviction, Fifo, HashIndex, PageIndex, RadixIndex};

/// A pair of policies, and the kernel that was compiled for it.
pub trait Policy: 'static {
    /// Where pages are looked up.
    type Index: PageIndex;
    /// Which go.
    type Eviction: Eviction;
    /// Runs a [`Job`].
    fn kernel() -> &'static Kernel<Job>;
}

macro_rules! policies {
    ($($(#[$doc:meta])* $name:ident, $kernel:ident: $index:ty, $eviction:ty;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl Policy for $name {
            type Index = $index;
            type Eviction = $eviction;
            fn kernel() -> &'static Kernel<Job> {
                &$kernel
            }
        }
    )*};
}

policies! {
    /// The default: hash index, clock eviction.
    HashClock, conformance_hash_clock: HashIndex, Clock;
    /// Hash index, first in first out.
    HashFifo, conformance_hash_fifo: HashIndex, Fifo;
    /// Radix trees, clock eviction.
    RadixClock, conformance_radix_clock: RadixIndex, Clock;
    /// Radix trees, first in first out.
    RadixFifo, conformance_radix_fifo: RadixIndex, Fifo;
}
