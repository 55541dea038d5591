//! Text that may be PTX: the parser and all that resolves names. Seeds: the PTX in `gpu-emu/tests/ptx`.
//!
//! With cargo-fuzz: `cargo +nightly fuzz run ptx corpus/ptx ../gpu-emu/tests/ptx`. Without it: as
//! `ring.rs` says.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    // An error is an answer.
    let _ = gpu_emu::ptx::Module::parse(text);
});
