//! A hostile peer at the other end of a region. The same entry point serves the property tests of
//! `host-daemon/tests/hostile.rs`.
//!
//! With cargo-fuzz: `cargo +nightly fuzz run ring`. Without it, from `fuzz/`:
//!
//! ```sh
//! RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
//!   -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
//!   -Zsanitizer=address --cfg fuzzing" \
//!   cargo +nightly run --release --target x86_64-unknown-linux-gnu --bin ring -- corpus/ring
//! ```
#![no_main]

#[path = "../../host-daemon/tests/common/hostile.rs"]
mod hostile;

libfuzzer_sys::fuzz_target!(|program: &[u8]| hostile::run(program));
