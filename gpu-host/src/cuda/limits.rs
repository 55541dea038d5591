//! What a launch must not exceed: asked before, since the driver's answer to all of it is "invalid
//! value".

use super::driver::Properties;
use super::error::CudaError;
use crate::HostError;
use gpu_emu::{Fault, LaunchConfig, LaunchError};
use gpu_rt::Dim3;

/// What a kernel allows, as the driver's compiler left it.
#[derive(Clone, Copy, Debug)]
pub(super) struct KernelLimits {
    /// Threads of a block: fewer than the device's where threads need many registers.
    pub(super) threads: u32,
    /// Shared memory that it takes itself, in bytes.
    pub(super) shared_bytes: u32,
}

/// Whether a launch of this shape is possible.
pub(super) fn check(
    kernel: &str,
    shape: &LaunchConfig,
    device: &Properties,
    limits: KernelLimits,
) -> Result<(), HostError> {
    let LaunchConfig { grid, block, shared_bytes, .. } = *shape;
    if grid.count() == 0 || block.count() == 0 {
        let fault = Fault::Empty { grid, block }.into();
        return Err(LaunchError { kernel: kernel.into(), fault, replay: None }.into());
    }
    let extents = |extent: Dim3| [extent.x, extent.y, extent.z].map(u64::from);
    let dims = |what: [&'static str; 3], wanted: Dim3, most: [u32; 3], remedy: &'static str| {
        let each = what.into_iter().zip(extents(wanted)).zip(most.map(u64::from));
        each.map(move |((what, wanted), most)| (what, wanted, most, remedy)).collect::<Vec<_>>()
    };
    let mut all = vec![(
        "threads of a block",
        block.count(),
        u64::from(limits.threads),
        "use more and smaller blocks, or build the module for larger ones (ptx-build --max-threads)",
    )];
    all.extend(dims(
        ["blocks in x", "blocks in y", "blocks in z"],
        grid,
        device.grid,
        "use larger blocks, or let each do more",
    ));
    all.extend(dims(
        ["threads in x", "threads in y", "threads in z"],
        block,
        device.block,
        "use another shape of block",
    ));
    all.push((
        "bytes of shared memory",
        (shared_bytes as u64).saturating_add(limits.shared_bytes.into()),
        device.shared_bytes.into(),
        "keep less per block, or in device memory",
    ));
    match all.into_iter().find(|(_, wanted, limit, _)| wanted > limit) {
        None => Ok(()),
        Some((what, wanted, limit, remedy)) => {
            let (kernel, device) = (kernel.to_owned(), device.name.clone());
            Err(CudaError::Limit { kernel, device, what, wanted, limit, remedy }.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_named() {
        let device = Properties {
            device: 0,
            name: "a device".into(),
            multiprocessors: 1,
            grid: [1 << 30, 65535, 65535],
            block: [1024, 1024, 64],
            shared_bytes: 100_000,
        };
        let limits = KernelLimits { threads: 512, shared_bytes: 1024 };
        let check = |grid: (u32, u32, u32), block: (u32, u32, u32), shared| {
            let shape = LaunchConfig::new(grid, block).shared_bytes(shared);
            check("k", &shape, &device, limits).map_err(|e| e.to_string())
        };
        assert_eq!(check((1 << 30, 65535, 1), (512, 1, 1), 98_976), Ok(()));
        for (grid, block, shared, what) in [
            ((1, 1, 1), (513, 1, 1), 0, "513 threads of a block exceed the 512"),
            ((1, 1, 1), (1, 1, 65), 0, "65 threads in z exceed the 64"),
            ((1, 65536, 1), (1, 1, 1), 0, "65536 blocks in y exceed the 65535"),
            ((1, 1, 1), (1, 1, 1), 98_977, "100001 bytes of shared memory exceed the 100000"),
            ((0, 1, 1), (1, 1, 1), 0, "is empty"),
        ] {
            let message = check(grid, block, shared).unwrap_err();
            assert!(message.contains(what), "{message}");
        }
    }
}
