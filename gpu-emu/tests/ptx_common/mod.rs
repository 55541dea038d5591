//! An interpreter with memory, and a frame for small programs.

#![allow(dead_code, reason = "every file of tests uses a part of it")]

pub(crate) mod hostile;

use std::cell::UnsafeCell;

use gpu_emu::Config;
use gpu_emu::ptx::{Interpreter, Module, Options};

/// An interpreter of one worker for a module.
pub(crate) struct Gpu {
    pub(crate) interpreter: Interpreter,
}

impl Gpu {
    pub(crate) fn new(module: Module, options: Options) -> Gpu {
        let config = Config { workers: 1, ..Config::default() };
        Gpu { interpreter: Interpreter::new(config, module, options) }
    }

    /// Memory that kernels may access, all zero, for as long as it lives.
    pub(crate) fn words(&self, count: usize) -> Words<'_> {
        let lines = (0..count.div_ceil(LINE)).map(|_| UnsafeCell::new(Line([0; LINE])));
        let lines: Box<[_]> = lines.collect();
        let address = lines.as_ptr().expose_provenance() as u64;
        // SAFETY: removed before it goes; the tests look at it between launches only.
        unsafe { self.interpreter.memory().add(address, count as u64 * 8) };
        Words { gpu: self, lines, count }
    }
}

const LINE: usize = 32;

/// Words that begin where a sector of memory does.
#[repr(C, align(256))]
struct Line([u64; LINE]);

pub(crate) struct Words<'g> {
    gpu: &'g Gpu,
    lines: Box<[UnsafeCell<Line>]>,
    count: usize,
}

impl Words<'_> {
    pub(crate) fn as_slice(&self) -> &[u64] {
        // SAFETY: no kernel runs while the test looks.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.count) }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(self.as_slice())
    }

    pub(crate) fn get(&self, n: usize) -> u64 {
        self.as_slice()[n]
    }

    pub(crate) fn set(&self, n: usize, value: u64) {
        // SAFETY: as above.
        unsafe { (*self.lines[n / LINE].get()).0[n % LINE] = value };
    }
}

impl Drop for Words<'_> {
    fn drop(&mut self) {
        self.gpu.interpreter.memory().remove(self.lines.as_ptr() as u64);
    }
}

/// Arguments.
pub(crate) fn words(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A kernel `k` around `body`: `%r0` is the thread's number in its block, and what is in `%rd0` at
/// the end goes to the thread's place in the memory whose address is its argument, `%rd9`.
pub(crate) fn kernel(body: &str) -> String {
    kernel_for("sm_70", body)
}

/// The same for another architecture.
pub(crate) fn kernel_for(target: &str, body: &str) -> String {
    format!(
        ".version 7.0\n.target {target}\n.address_size 64\n\
         .shared .align 16 .b8 word[64];\n\
         .visible .entry k(.param .u64 out)\n{{\n\
         .reg .pred %p<8>; .reg .b32 %r<8>; .reg .b64 %rd<10>; .reg .f32 %f<4>; .reg .f64 %fd<4>;\n\
         ld.param.u64 %rd9, [out];\n mov.u32 %r0, %tid.x;\n mul.wide.u32 %rd8, %r0, 8;\n add.s64 %rd8, %rd9, %rd8;\n\
         {body}\n\
         st.global.u64 [%rd8], %rd0;\n mov.u32 %r7, 0;\n ret;\n}}\n"
    )
}
