//! Devices, sessions and typed launches.
