//! The kernel, launched: as host code on the emulated GPU, and as PTX.

use external_kernel::{Args, PTX, count_zeros};
use gpu_host::{DeviceChoice, LaunchConfig, Module, Session};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// Bytes of a page.
const PAGE: u32 = 4096;

/// What a device counts in a file of pages for each warp and a ragged end, and what is in it.
fn counted_on(device: DeviceChoice, file: &str) -> (u64, u64) {
    let bytes: Vec<u8> = (0..PAGE * 10 + 123).map(|i| (i % 251 * (i % 7)) as u8).collect();
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(file);
    std::fs::write(&path, &bytes).unwrap();

    let module = Module::for_device(&device, None, PTX).unwrap();
    let builder = Session::builder().device(device).module(module).device_memory(1 << 30);
    let session = builder.page_size(PAGE).cache_size(1 << 20).build().unwrap();
    let path = session.alloc_from(path.as_os_str().as_bytes()).unwrap();
    let zeros = session.alloc::<u64>(1).unwrap();
    let args = Args { fs: session.fs(), path: path.slice(), zeros: zeros.slice().addr() };
    // Four warps. The limit turns a hang into a failure.
    let shape = LaunchConfig::new(2, 64).timeout(Duration::from_secs(60));
    session.run(&count_zeros, shape, args).unwrap();

    let naive = bytes.iter().filter(|b| **b == 0).count() as u64;
    (zeros.to_vec().unwrap()[0], naive)
}

#[test]
fn it_counts_on_the_emulated_gpu() {
    let (counted, naive) = counted_on(DeviceChoice::default(), "emulated");
    assert_eq!(counted, naive);
}

#[test]
fn it_counts_as_ptx() {
    if PTX.is_empty() {
        // Not by a macro, of which the test's harness would keep what it prints to itself.
        let line = "skipped: it_counts_as_ptx: built without PTX; PTX_REQUIRED=1 says why";
        let _ = writeln!(std::io::stderr(), "{line}");
        return;
    }
    let (counted, naive) = counted_on("ptx".parse().unwrap(), "ptx");
    assert_eq!(counted, naive);
}
