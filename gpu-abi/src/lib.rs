//! The wire contract between device code and the host daemon.
