//! Faces verified by a kernel that receives images, compares them with stored references, and answers.
//!
//!     cargo run --release --example verify -- --generate /tmp/faces
//!     cargo run --release --example verify -- --listen 127.0.0.1:7002 --store /tmp/faces
//!     cargo run --release --example verify -- --connect 127.0.0.1:7002 --store /tmp/faces
//!
//! The first line that the server prints is its address.

use std::process::ExitCode;

use clap::Parser;
use gpu_examples::verify::{app, cli::Cli};

fn main() -> ExitCode {
    app::run(&Cli::parse()).unwrap_or_else(|failure| {
        eprintln!("verify: {failure:?}");
        ExitCode::from(2)
    })
}
