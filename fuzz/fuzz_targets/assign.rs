//! Text that may be PTX, to which definite assignment is added. Seeds as for `ptx`.
#![no_main]

use ptx_build::definite::assign;

libfuzzer_sys::fuzz_target!(|text: &str| {
    // Of which one is taken from the end of a line each time.
    let text = text.replace('\r', "");
    let assigned = assign(&text);
    // Nothing but lines is added, and nothing is left to be done.
    assert!(assigned.lines().count() >= text.lines().count());
    assert_eq!(assign(&assigned), assigned);
});
