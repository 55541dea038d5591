//! Files for GPU kernels: the device file API and its page cache.
