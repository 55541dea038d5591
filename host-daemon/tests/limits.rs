//! Limits of the whole process: in a test binary, and so a process, of their own.

mod common;

use common::{CONFIG, Rig, available, options};
use gpu_abi::{Errno, OpenFlags};
use host_daemon::{EngineChoice, Grant, Options};
use std::fs;

/// Past `RLIMIT_FSIZE` the kernel sends a signal that ends the process, unless somebody minds it.
#[test]
fn o9_o13_no_client_ends_the_process_by_the_file_size_limit() {
    let limit = libc::rlimit { rlim_cur: 1 << 20, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: a value of our own.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) }, 0);
    for engine in [EngineChoice::Pread, EngineChoice::PreadPool(1), EngineChoice::IoUring] {
        for nowait_first in [true, false] {
            let options = Options { nowait_first, ..options(engine) };
            if !available(&options) {
                continue;
            }
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("file");
            fs::write(&path, b"").unwrap();
            let mut rig = Rig::new(options, CONFIG, Grant::default());
            let name = path.to_str().unwrap().as_bytes();
            let (handle, _) = rig.open_with(name, OpenFlags::WRITE).unwrap();
            assert_eq!(rig.write(handle, 1 << 20, b"x"), Err(Errno::EFBIG));
            assert_eq!(rig.write(handle, (1 << 20) - 2, b"four"), Ok(2));
            assert_eq!(rig.append(handle, b"x"), Err(Errno::EFBIG));
            assert_eq!(rig.truncate(handle, (1 << 20) + 1), Err(Errno::EFBIG));
            assert_eq!(fs::metadata(&path).unwrap().len(), 1 << 20);
        }
    }
}
