use super::*;
use bytemuck::Zeroable;
use gpu_abi::RegionConfig;
use proptest::prelude::*;

const SLOT: u64 = 4096;

fn limits(device_window: usize) -> Limits {
    let config = RegionConfig { slots: 4, slot_size: SLOT as u32, calls: 4, ..Default::default() };
    Limits { layout: RegionLayout::new(config).unwrap(), device_window, read_only: false }
}

fn read(cell: u32, window: u8, buf: u64, len: u32) -> Request {
    Request { op: Op::Read as u8, cell, window, buf, len, ..Request::zeroed() }
}

/// A request with a buffer in slot 1.
fn in_slot(op: Op, flags: u8, len: u32) -> Request {
    Request { op: op as u8, flags, ..read(1, WINDOW_SLOTS, SLOT, len) }
}

fn slot(at: usize, len: usize) -> Buffer {
    Buffer::Slot { slot: 1, at, len }
}

fn refused(errno: Errno) -> Result<Valid, Refusal> {
    Err(Refusal::Answer(errno))
}

#[test]
fn v4_a_buffer_lies_in_the_slot_of_its_cell() {
    let check = |cell, buf, len| limits(0).check(&read(cell, WINDOW_SLOTS, buf, len));
    let inside = |slot, at, len| {
        Ok(Valid::Read { handle: 0, offset: 0, buffer: Buffer::Slot { slot, at, len } })
    };
    assert_eq!(check(1, SLOT, 4096), inside(1, 0, 4096));
    assert_eq!(check(1, SLOT + 4096, 0), inside(1, 4096, 0));
    let fault = refused(Errno::EFAULT);
    assert_eq!(check(1, SLOT + 1, 4096), fault);
    assert_eq!(check(1, SLOT - 1, 1), fault);
    assert_eq!(check(1, 2 * SLOT, 1), fault);
    assert_eq!(check(1, u64::MAX, 1), fault);
    assert_eq!(check(1, SLOT, u32::MAX), fault);
    assert_eq!(check(4, 4 * SLOT, 1), fault, "a call cell has no slot");
    assert_eq!(check(8, 0, 1), Err(Refusal::Drop));
    assert_eq!(check(CELL_NONE, 0, 1), Err(Refusal::Drop));
}

#[test]
fn v5_the_device_window_must_be_granted_and_ends_where_the_grant_ends() {
    let check = |w, buf, len| limits(w).check(&read(5, WINDOW_DEVICE, buf, len));
    let inside =
        |at, len| Ok(Valid::Read { handle: 0, offset: 0, buffer: Buffer::Device { at, len } });
    assert_eq!(check(1 << 30, 5, 4096), inside(5, 4096));
    assert_eq!(check(8192, 4096, 4096), inside(4096, 4096));
    assert_eq!(check(8192, 4097, 4096), refused(Errno::EFAULT));
    assert_eq!(check(8192, u64::MAX, 2), refused(Errno::EFAULT));
    assert_eq!(check(0, 0, 1), refused(Errno::EINVAL));
    assert_eq!(check(1 << 30, 0, MAX_READ + 1), refused(Errno::EINVAL));
}

#[test]
fn v2_everything_that_writes_needs_a_cell() {
    for op in 8..=15 {
        let request = Request { op, cell: CELL_NONE, ..Request::zeroed() };
        assert_eq!(limits(0).check(&request), Err(Refusal::Drop), "{op}");
    }
}

#[test]
fn v3_each_operation_has_flags_of_its_own() {
    for op in (1..=15).filter_map(Op::from_raw) {
        let known: u8 = match op {
            Op::Open => 63,
            Op::ReadFile => 7,
            Op::Sync | Op::Rename => 1,
            Op::Unlink => 2,
            _ => 0,
        };
        for bit in (0..8).map(|bit| 1 << bit).filter(|bit| known & bit == 0) {
            // A flag more than what would be valid.
            let flags = if known & 1 != 0 { 1 | bit } else { bit };
            let request = in_slot(op, flags, 0);
            assert_eq!(limits(0).check(&request), refused(Errno::EINVAL), "{op:?} {flags}");
        }
        if !matches!(op, Op::ReadFile | Op::Rename) {
            let request = Request { path_len: 1, ..in_slot(op, known & 1, 24) };
            assert_eq!(limits(0).check(&request), refused(Errno::EINVAL), "{op:?}");
        }
    }
}

#[test]
fn o2_flags_that_do_not_go_together_are_refused() {
    const READ: u8 = OpenFlags::READ.0;
    const WRITE: u8 = OpenFlags::WRITE.0;
    const CREATE: u8 = OpenFlags::CREATE.0;
    const EXCLUSIVE: u8 = OpenFlags::EXCLUSIVE.0;
    const DIRECTORY: u8 = OpenFlags::DIRECTORY.0;
    let check = |flags| limits(0).check(&in_slot(Op::Open, flags, 3));
    for flags in [READ, WRITE, READ | WRITE, WRITE | CREATE, READ | WRITE | CREATE | EXCLUSIVE] {
        assert_eq!(
            check(flags),
            Ok(Valid::Open { path: slot(0, 3), flags: OpenFlags(flags) }),
            "{flags}"
        );
    }
    for flags in [
        0,
        DIRECTORY,
        CREATE,
        READ | CREATE,
        WRITE | EXCLUSIVE,
        READ | EXCLUSIVE,
        WRITE | CREATE | DIRECTORY,
    ] {
        assert_eq!(check(flags), refused(Errno::EINVAL), "{flags}");
    }
    let read_file = Request { path_len: 3, ..in_slot(Op::ReadFile, READ | WRITE, 10) };
    assert_eq!(limits(0).check(&read_file), refused(Errno::EINVAL));
}

#[test]
fn o9_o11_v4_v5_v7_a_write_is_judged_as_a_read() {
    for op in [Op::Write, Op::Append] {
        let check = |cell, window, buf, len| {
            let request = Request { op: op as u8, ..read(cell, window, buf, len) };
            match limits(8192).check(&request) {
                Ok(Valid::Write { buffer, .. } | Valid::Append { buffer, .. }) => Ok(buffer),
                Ok(other) => panic!("{other:?}"),
                Err(refusal) => Err(refusal),
            }
        };
        assert_eq!(check(1, WINDOW_SLOTS, SLOT + 6, 4090), Ok(slot(6, 4090)));
        assert_eq!(check(5, WINDOW_DEVICE, 8, 8184), Ok(Buffer::Device { at: 8, len: 8184 }));
        assert_eq!(check(1, WINDOW_SLOTS, SLOT + 7, 4090), Err(Errno::EFAULT.into()));
        assert_eq!(check(5, WINDOW_DEVICE, 9, 8184), Err(Errno::EFAULT.into()));
        assert_eq!(check(5, WINDOW_SLOTS, 0, 1), Err(Errno::EFAULT.into()));
        assert_eq!(check(1, 2, 0, 1), Err(Errno::EINVAL.into()));
    }
    let at = |offset| limits(0).check(&Request { offset, ..in_slot(Op::Write, 0, 10) });
    assert!(at(i64::MAX as u64 - 10).is_ok());
    assert_eq!(at(i64::MAX as u64 - 9), refused(Errno::EINVAL));
    // What is at the end nobody knows beforehand: the field means nothing.
    assert!(limits(0).check(&Request { offset: u64::MAX, ..in_slot(Op::Append, 0, 10) }).is_ok());
}

#[test]
fn o10_the_table_lies_in_the_slot_and_has_whole_records() {
    let check = |window, cell, buf, len| {
        let op = Op::WriteRuns as u8;
        limits(8192).check(&Request { op, ..read(cell, window, buf, len) })
    };
    let table = |at, len| Ok(Valid::WriteRuns { handle: 0, table: slot(at, len) });
    for window in [WINDOW_SLOTS, WINDOW_DEVICE] {
        assert_eq!(check(window, 1, SLOT, 24), table(0, 24));
        assert_eq!(check(window, 1, SLOT, 0), table(0, 0), "no runs are no mistake");
        assert_eq!(check(window, 1, SLOT + 1, 4080), table(1, 4080));
        assert_eq!(check(window, 1, SLOT + 17, 4080), refused(Errno::EFAULT));
        assert_eq!(check(window, 1, 0, 24), refused(Errno::EFAULT), "another's slot");
        assert_eq!(check(window, 4, 4 * SLOT, 24), refused(Errno::EFAULT), "a call cell");
        for len in [1, 23, 25, 257 * 24] {
            assert_eq!(check(window, 1, SLOT, len), refused(Errno::EINVAL), "{len}");
        }
    }
    assert_eq!(check(2, 1, SLOT, 0), refused(Errno::EINVAL));
    let op = Op::WriteRuns as u8;
    let not_granted = Request { op, ..read(1, WINDOW_DEVICE, SLOT, 0) };
    assert_eq!(limits(0).check(&not_granted), refused(Errno::EINVAL));
}

#[test]
fn o10_each_run_is_judged_as_a_write_and_all_have_a_bound_together() {
    let check = |window, run: Run| {
        let r = in_slot(Op::WriteRuns, 0, 24);
        limits(5 << 20).check_run(&Request { window, ..r }, &run, &mut 0)
    };
    let run = |offset, buf, len| Run { offset, buf, len, reserved: 0 };
    assert_eq!(check(WINDOW_SLOTS, run(5, SLOT + 9, 8)), Ok(slot(9, 8)));
    assert_eq!(check(WINDOW_DEVICE, run(5, 9, 8)), Ok(Buffer::Device { at: 9, len: 8 }));
    assert_eq!(check(WINDOW_SLOTS, run(5, SLOT, 0)), Err(Errno::EINVAL));
    assert_eq!(check(WINDOW_SLOTS, run(5, SLOT, 4097)), Err(Errno::EFAULT));
    assert_eq!(check(WINDOW_SLOTS, run(5, 0, 8)), Err(Errno::EFAULT));
    assert_eq!(check(WINDOW_DEVICE, run(5, 5 << 20, 1)), Err(Errno::EFAULT));
    assert_eq!(check(WINDOW_DEVICE, run(5, 0, MAX_READ + 1)), Err(Errno::EINVAL));
    let last = i64::MAX as u64 - 8;
    assert!(check(WINDOW_SLOTS, run(last, SLOT, 8)).is_ok());
    assert_eq!(check(WINDOW_SLOTS, run(last + 1, SLOT, 8)), Err(Errno::EINVAL));
    let odd = Run { reserved: 1, ..run(5, SLOT, 8) };
    assert_eq!(check(WINDOW_SLOTS, odd), Err(Errno::EINVAL));

    let r = Request { window: WINDOW_DEVICE, ..in_slot(Op::WriteRuns, 0, 72) };
    let (limits, mut total) = (limits(5 << 20), 0);
    for _ in 0..2 {
        assert!(limits.check_run(&r, &run(0, 0, MAX_READ), &mut total).is_ok());
    }
    assert_eq!(limits.check_run(&r, &run(0, 0, 1), &mut total), Err(Errno::EINVAL));
}

#[test]
fn o12_o13_v7_what_needs_no_buffer_has_none() {
    let call = |op: Op| Request { op: op as u8, cell: 5, handle: 9, ..Request::zeroed() };
    let check = |r: Request| limits(0).check(&r);
    let sync = call(Op::Sync);
    assert_eq!(check(sync), Ok(Valid::Sync { handle: 9, data_only: false }));
    let data = Request { flags: SYNC_DATA, ..sync };
    assert_eq!(check(data), Ok(Valid::Sync { handle: 9, data_only: true }));
    let to = |offset| check(Request { offset, ..call(Op::Truncate) });
    let most = i64::MAX as u64;
    assert_eq!(to(most), Ok(Valid::Truncate { handle: 9, size: most }));
    assert_eq!(to(most + 1), refused(Errno::EINVAL));
}

#[test]
fn o14_o15_o16_v6_names_lie_in_the_slot() {
    for op in [Op::Unlink, Op::MakeDir] {
        let path = |r: Request| match limits(8192).check(&r) {
            Ok(Valid::Unlink { path, .. } | Valid::MakeDir { path }) => Ok(path),
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => Err(refusal),
        };
        assert_eq!(path(in_slot(op, 0, 7)), Ok(slot(0, 7)));
        assert_eq!(path(in_slot(op, 0, 0)), Err(Errno::ENOENT.into()));
        assert_eq!(path(in_slot(op, 0, 4096)), Err(Errno::ENAMETOOLONG.into()));
        let device = Request { window: WINDOW_DEVICE, ..in_slot(op, 0, 7) };
        assert_eq!(path(device), Err(Errno::EINVAL.into()));
        let outside = Request { buf: SLOT + 4090, ..in_slot(op, 0, 7) };
        assert_eq!(path(outside), Err(Errno::EFAULT.into()));
    }
    let check = |path_len, len, flags| {
        limits(8192).check(&Request { path_len, ..in_slot(Op::Rename, flags, len) })
    };
    let both =
        |old, new, replace| Ok(Valid::Rename { old: slot(0, old), new: slot(old, new), replace });
    assert_eq!(check(3, 8, 0), both(3, 5, true));
    assert_eq!(check(3, 8, RENAME_NO_REPLACE), both(3, 5, false));
    assert_eq!(check(4095, 4096, 0), both(4095, 1, true));
    assert_eq!(check(9, 8, 0), refused(Errno::EINVAL), "a path longer than both");
    assert_eq!(check(0, 8, 0), refused(Errno::ENOENT));
    assert_eq!(check(8, 8, 0), refused(Errno::ENOENT));
    assert_eq!(check(4096, 4097, 0), refused(Errno::ENAMETOOLONG));
    assert_eq!(check(2, 4097, 0), refused(Errno::EFAULT), "behind the slot");
    assert_eq!(check(u32::MAX, u32::MAX, 0), refused(Errno::ENAMETOOLONG));
}

#[test]
fn v13_reading_only_admits_nothing_that_writes() {
    let limits = Limits { read_only: true, ..limits(0) };
    let flags = |op| match op {
        Op::Open | Op::ReadFile => OpenFlags::READ.0,
        _ => 0,
    };
    for op in (1..=15).filter_map(Op::from_raw) {
        let path_len = if matches!(op, Op::Rename | Op::ReadFile) { 3 } else { 0 };
        let verdict = limits.check(&Request { path_len, ..in_slot(op, flags(op), 24) });
        if (op as u8) < Op::Write as u8 || op == Op::Sync {
            assert!(verdict.is_ok(), "{op:?}");
        } else {
            assert_eq!(verdict, refused(Errno::EROFS), "{op:?}");
        }
    }
    for flags in [OpenFlags::WRITE, OpenFlags::WRITE.with(OpenFlags::CREATE)] {
        let open = in_slot(Op::Open, OpenFlags::READ.with(flags).0, 3);
        assert_eq!(limits.check(&open), refused(Errno::EROFS));
    }
}

/// Every buffer of a valid request.
fn buffers(valid: &Valid) -> Vec<Buffer> {
    match *valid {
        Valid::Read { buffer, .. }
        | Valid::ReadDir { buffer, .. }
        | Valid::Write { buffer, .. }
        | Valid::Append { buffer, .. } => vec![buffer],
        Valid::Open { path, .. }
        | Valid::Stat { subject: Subject::Path(path) }
        | Valid::Unlink { path, .. }
        | Valid::MakeDir { path } => vec![path],
        Valid::WriteRuns { table, .. } => vec![table],
        Valid::ReadFile { path, buffer, .. } => vec![path, buffer],
        Valid::Rename { old, new, .. } => vec![old, new],
        Valid::Nop
        | Valid::Time
        | Valid::Close { .. }
        | Valid::Stat { subject: Subject::Handle(_) }
        | Valid::Sync { .. }
        | Valid::Truncate { .. } => vec![],
    }
}

/// Where a buffer lies within its window, if it lies inside the allocation.
fn inside(buffer: Buffer, r: &Request) -> Option<u64> {
    match buffer {
        Buffer::Slot { slot, at, len } => {
            let within = slot == r.cell && slot < 4 && at + len <= SLOT as usize;
            within.then_some(u64::from(slot) * SLOT + at as u64)
        }
        Buffer::Device { at, len } => (at + len <= 3 * SLOT as usize).then_some(at as u64),
    }
}

proptest! {
    #[test]
    fn v1_no_valid_request_reaches_outside_the_allocation(
        words: [u64; 8], runs: [[u64; 3]; 4], shape in 0u8..16, read_only: bool,
    ) {
        let mut r: Request = bytemuck::cast(words);
        // Steer most of them past the first checks.
        if shape & 1 != 0 { r.reserved0 = 0; r.reserved = [0; 5]; r.flags &= 63; }
        if shape & 2 != 0 { r.op %= 17; r.path_len %= 8192; r.cell %= 10; r.window %= 3; }
        if shape & 4 != 0 { r.buf %= 5 * SLOT; r.len %= 2 * SLOT as u32; }
        if shape & 8 != 0 { r.flags &= 1; r.path_len = 0; r.len -= r.len % 24; }
        let limits = Limits { read_only, ..limits(3 * SLOT as usize) };
        let Ok(valid) = limits.check(&r) else { return Ok(()) };
        if let Valid::Read { offset, .. }
            | Valid::Write { offset, .. }
            | Valid::Truncate { size: offset, .. } = valid
        {
            prop_assert!(offset == r.offset && offset <= i64::MAX as u64);
        }
        for (i, buffer) in buffers(&valid).into_iter().enumerate() {
            let at = inside(buffer, &r);
            prop_assert!(at.is_some(), "{:?}", buffer);
            let named = match valid {
                Valid::ReadFile { .. } if i == 0 => u64::from(r.cell) * SLOT,
                Valid::Rename { .. } if i == 1 => r.buf + u64::from(r.path_len),
                _ => r.buf,
            };
            prop_assert_eq!(at, Some(named));
        }
        if let Valid::ReadFile { path, .. } | Valid::Rename { old: path, .. } = valid {
            let Buffer::Slot { len, .. } = path else { unreachable!() };
            prop_assert!(len == r.path_len as usize && (1..=PATH_MAX).contains(&len));
        }
        if let Valid::WriteRuns { table, .. } = valid {
            let Buffer::Slot { len, .. } = table else { unreachable!() };
            prop_assert!(len.is_multiple_of(24) && len <= 256 * 24);
            let mut total = 0;
            for words in runs {
                let mut run: Run = bytemuck::cast(words);
                if shape & 1 != 0 { run.reserved = 0; run.buf %= 5 * SLOT; }
                if shape & 4 != 0 { run.len %= 2 * SLOT as u32; run.offset >>= 1; }
                if let Ok(buffer) = limits.check_run(&r, &run, &mut total) {
                    prop_assert_eq!(inside(buffer, &r), Some(run.buf));
                    prop_assert!(run.len > 0 && total <= RUNS_BYTES_MAX);
                    prop_assert!(run.offset + u64::from(run.len) <= i64::MAX as u64);
                }
            }
        }
    }
}
