//! Kernels that fail.

use super::{GROUP_THREAD, PAGE, ranges};
use crate::Policy;
use crate::device::ops::READ;
use crate::device::storms::PROGRAM_OPEN_SAME;
use crate::host::{Backend, Tree};
use gpu_host::HostError;

/// A panic says which thread, where and why, and other sessions go on.
pub fn a_panic_names_its_thread_its_place_and_its_message<P: Policy>(backend: &Backend) {
    let (Some(bench), Some(other)) = (backend.session::<P>(|b| b), backend.session::<P>(|b| b))
    else {
        return;
    };
    let tree = Tree::new();
    let paths = [tree.file("a", 1, PAGE)];
    // No place for any result.
    let outcome = bench.launch((1, 1), &paths, &[], 0, 1, |job| job.program = PROGRAM_OPEN_SAME);
    let Err(HostError::Launch(error)) = outcome else { panic!("{outcome:?}") };
    let message = error.to_string();
    for part in
        ["block (0, 0, 0), thread (0, 0, 0) panicked at", "lib.rs:", "too few places for results"]
    {
        assert!(message.contains(part), "{part} in {message}");
    }
    let (_, bytes) = other.ops((1, 1), GROUP_THREAD, &paths, &ranges(READ, &[(0, PAGE)]));
    assert_eq!(bytes, std::fs::read(&paths[0]).unwrap());
}
