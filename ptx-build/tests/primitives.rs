//! The primitives of `gpu-rt` become the instructions that they have to be. Skipped, with a line
//! that says so, where no toolchain can compile for the GPU; `PTX_REQUIRED=1` makes that a failure.

use std::io::Write as _;
use std::path::Path;

use ptx_build::{Build, Error, check, ptxas, required};

/// What `outcome` holds, unless a tool is missing and may be.
fn unless_missing<T>(outcome: Result<T, Error>) -> Option<T> {
    match outcome {
        Ok(value) => Some(value),
        Err(e) if e.is_missing_tool() && !required() => {
            // Not by a macro: what those print is shown of tests that fail.
            let _ = writeln!(std::io::stderr(), "skipped: {e}");
            None
        }
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn primitives_carry_scope_and_order() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let build = Build::new(here.join("primitives")).target_dir(scratch.join("primitives"));
    let Some(module) = unless_missing(build.run()) else { return };

    check::module(&module.ptx).unwrap();
    let golden = std::fs::read_to_string(here.join("primitives/golden.txt")).unwrap();
    check::same_synchronisation(&golden, &check::synchronisation(&module.ptx)).unwrap();
    assert!(module.sources.iter().any(|s| s.ends_with("gpu-rt/src/nvptx/atomic.rs")));

    let file = scratch.join("primitives.ptx");
    std::fs::write(&file, &module.ptx).unwrap();
    for arch in ptxas::ARCHITECTURES {
        let Some(ptxas) = unless_missing(ptxas::for_architecture(arch)) else { continue };
        let usages = ptxas::assemble(&ptxas, &file, arch).unwrap();
        let entries = ptx_build::ptx::functions(&module.ptx).into_iter().filter(|f| f.is_entry);
        assert_eq!(usages.len(), entries.count());
        for usage in usages {
            assert!(usage.spills == 0, "a primitive alone has registers enough: {usage:?}");
        }
    }
}
