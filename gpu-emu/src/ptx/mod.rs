//! The PTX interpreter: runs the very PTX that a GPU would get, on the CPU.
//!
//! ```text
//!   text ──syntax──▶ statements ──lower──▶ Program ──exec──▶ counts, memory, faults
//! ```
//!
//! Each thread has a program counter of its own; lanes that stand at the same instruction run it
//! together, over registers kept as one row of 32 values each. Every access is checked against live
//! allocations before it happens.

mod alu;
mod check;
mod code;
mod counts;
mod error;
mod exec;
mod fault;
mod globals;
mod interpreter;
mod log;
mod lower;
mod memory;
mod module;
mod profile;
mod row;
mod space;
mod special;
mod syntax;
mod work;
mod worker;

pub use counts::Counts;
pub use error::PtxError;
pub use fault::{At, Illegal, PtxFault, Standing};
pub use interpreter::{Interpreter, Options, PtxLaunch};
pub use memory::Allocations;
pub use module::Module;
pub use profile::ProfileLine;
pub(crate) use work::Call;
