//! A block of GPU threads opens a file, reads its beginning and says what it found.
//!
//!     cargo run --release --example 01_hello_file -- README.md

use clap::Parser;
use gpu_examples::device::OnePath;
use gpu_examples::failure::Failure;
use gpu_host::LaunchConfig;
use gpu_kernels::ladder::{OneFile, hello_file};

fn main() -> Result<(), Failure> {
    let OnePath { path, device } = OnePath::parse();
    let path = path.unwrap_or_else(|| "README.md".into());

    let session = device.session()?.build()?;
    let path = session.alloc_from(path.as_bytes())?;
    let out = session.alloc(1)?;
    let args = OneFile { fs: session.fs(), path: path.slice(), out: out.slice() };
    // Two blocks of 128 threads: each block posts one request to open, and one of them one to read.
    session.run(&hello_file, LaunchConfig::new(2, 128), args)?;
    println!("{:?}", session.stats()?);
    Ok(())
}
