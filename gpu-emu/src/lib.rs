//! The emulated GPU: fibers, warps, blocks, schedulers, replay.
