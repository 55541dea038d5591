//! Special registers that stay the same as long as a warp lives: a row for each.

use gpu_rt::Dim3;

use super::row::{LANES, Row};

/// Which row is which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Special {
    TidX,
    TidY,
    TidZ,
    NtidX,
    NtidY,
    NtidZ,
    CtaidX,
    CtaidY,
    CtaidZ,
    NctaidX,
    NctaidY,
    NctaidZ,
    LaneId,
    WarpId,
    NwarpId,
    SmId,
    NsmId,
    GridId,
    LaneMaskEq,
    LaneMaskLe,
    LaneMaskLt,
    LaneMaskGe,
    LaneMaskGt,
    DynamicSharedBytes,
    TotalSharedBytes,
    Zero,
    /// Where the lane's local memory begins among generic addresses.
    LocalWindow,
}

/// How many there are.
const COUNT: usize = Special::LocalWindow as usize + 1;

impl Special {
    /// By its name in PTX.
    pub(super) fn named(name: &str) -> Option<Special> {
        Some(match name {
            "%tid.x" => Special::TidX,
            "%tid.y" => Special::TidY,
            "%tid.z" => Special::TidZ,
            "%ntid.x" => Special::NtidX,
            "%ntid.y" => Special::NtidY,
            "%ntid.z" => Special::NtidZ,
            "%ctaid.x" => Special::CtaidX,
            "%ctaid.y" => Special::CtaidY,
            "%ctaid.z" => Special::CtaidZ,
            "%nctaid.x" => Special::NctaidX,
            "%nctaid.y" => Special::NctaidY,
            "%nctaid.z" => Special::NctaidZ,
            "%laneid" => Special::LaneId,
            "%warpid" => Special::WarpId,
            "%nwarpid" => Special::NwarpId,
            "%smid" => Special::SmId,
            "%nsmid" => Special::NsmId,
            "%gridid" => Special::GridId,
            "%lanemask_eq" => Special::LaneMaskEq,
            "%lanemask_le" => Special::LaneMaskLe,
            "%lanemask_lt" => Special::LaneMaskLt,
            "%lanemask_ge" => Special::LaneMaskGe,
            "%lanemask_gt" => Special::LaneMaskGt,
            "%dynamic_smem_size" => Special::DynamicSharedBytes,
            "%total_smem_size" => Special::TotalSharedBytes,
            "%tid.w" | "%ctaid.w" => Special::Zero,
            _ => return None,
        })
    }
}

/// Where a warp is.
pub(super) struct Place {
    pub(super) grid: Dim3,
    pub(super) block: Dim3,
    /// The block's position in the grid.
    pub(super) at: Dim3,
    /// The number of the warp's first thread in the block.
    pub(super) first: u32,
    pub(super) worker: u32,
    pub(super) workers: u32,
    pub(super) dynamic_shared: u32,
    pub(super) total_shared: u32,
}

/// The position of a block's thread number `rank`.
pub(super) fn position(block: Dim3, rank: u32) -> Dim3 {
    Dim3::new(rank % block.x, rank / block.x % block.y, rank / (block.x * block.y))
}

/// The rows of a warp.
pub(super) fn rows(place: &Place) -> Vec<Row> {
    let mut rows = vec![Row::ZERO; COUNT];
    let mut set = |special: Special, value: &dyn Fn(u32) -> u64| {
        for lane in 0..LANES as u32 {
            rows[special as usize].0[lane as usize] = value(lane);
        }
    };
    let thread = |lane| position(place.block, place.first + lane);
    set(Special::TidX, &|lane| thread(lane).x.into());
    set(Special::TidY, &|lane| thread(lane).y.into());
    set(Special::TidZ, &|lane| thread(lane).z.into());
    set(Special::LaneId, &|lane| lane.into());
    set(Special::LaneMaskEq, &|lane| 1 << lane);
    set(Special::LaneMaskLe, &|lane| (2 << lane) - 1);
    set(Special::LaneMaskLt, &|lane| (1 << lane) - 1);
    set(Special::LaneMaskGe, &|lane| u64::from(u32::MAX << lane));
    set(Special::LaneMaskGt, &|lane| u64::from(u32::MAX << lane) & !(1 << lane));
    set(Special::LocalWindow, &|lane| super::space::local_window(place.first + lane));
    let same = [
        (Special::NtidX, place.block.x),
        (Special::NtidY, place.block.y),
        (Special::NtidZ, place.block.z),
        (Special::CtaidX, place.at.x),
        (Special::CtaidY, place.at.y),
        (Special::CtaidZ, place.at.z),
        (Special::NctaidX, place.grid.x),
        (Special::NctaidY, place.grid.y),
        (Special::NctaidZ, place.grid.z),
        (Special::WarpId, place.first / LANES as u32),
        (Special::NwarpId, (place.block.count() as u32).div_ceil(LANES as u32)),
        (Special::SmId, place.worker),
        (Special::NsmId, place.workers),
        (Special::DynamicSharedBytes, place.dynamic_shared),
        (Special::TotalSharedBytes, place.total_shared),
    ];
    for (special, value) in same {
        set(special, &|_| value.into());
    }
    rows
}
