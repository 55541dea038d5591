//! Text that may be PTX, as a session looks through it: its kernels, and what they take. Seeds as for `ptx`.
#![no_main]

use gpu_host::{Module, ModuleError};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(module) = Module::new(text) else { return };
    for kernel in module.kernels() {
        let _ = module.only(kernel);
        // What it takes is nothing, a size, or refused whatever is given.
        match module.check(kernel, 0) {
            Ok(()) => assert!(module.check(kernel, 1).is_err()),
            Err(ModuleError::Arguments { takes, given: 0, .. }) => {
                assert!(takes > 0);
                module.check(kernel, takes).unwrap();
            }
            Err(ModuleError::Parameters { count, .. }) => assert!(count > 1),
            Err(ModuleError::Parameter { parameter, .. }) => assert!(!parameter.is_empty()),
            Err(error) => panic!("{error}"),
        }
    }
});
