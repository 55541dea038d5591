//! The programs a newcomer runs first, and the host code they share.

pub mod device;
pub mod failure;
pub mod grep;
pub mod load;
pub mod matcher;
pub mod serve;
pub mod svg;
pub mod verify;
