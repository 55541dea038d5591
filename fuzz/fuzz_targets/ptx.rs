//! Text that may be PTX: the parser and all that resolves names; and what is PTX is launched, as
//! `gpu-emu/tests/ptx_hostile.rs` does. Seeds: the PTX in `gpu-emu/tests/ptx`.
//!
//! With cargo-fuzz: `cargo +nightly fuzz run ptx corpus/ptx ../gpu-emu/tests/ptx`. Without it: as
//! `ring.rs` says.
#![no_main]

#[path = "../../gpu-emu/tests/ptx_common/mod.rs"]
mod ptx_common;

// An error is an answer. The limit is short: what does not end has been run for a while.
libfuzzer_sys::fuzz_target!(|text: &str| {
    ptx_common::hostile::launch(text, text.len() % 2 == 1, std::time::Duration::from_millis(10));
});
