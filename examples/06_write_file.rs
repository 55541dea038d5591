//! A thousand GPU threads write one file together, each its own line, and one of them makes it durable. The
//! host reads it back.
//!
//!     cargo run --release --example 06_write_file -- FILE

use clap::Parser;
use gpu_examples::device::OnePath;
use gpu_examples::failure::Failure;
use gpu_host::LaunchConfig;
use gpu_kernels::ladder::{OneFile, RECORD, write_file};
use std::io::ErrorKind;

fn main() -> Result<(), Failure> {
    let OnePath { path, device } = OnePath::parse();
    let path = path.unwrap_or_else(|| "written-by-threads.txt".into());
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e.into()),
        _ => {}
    }

    let session = device.session()?.page_size(4096).build()?;
    let name = session.alloc_from(path.as_bytes())?;
    let out = session.alloc(2)?;
    let args = OneFile { fs: session.fs(), path: name.slice(), out: out.slice() };
    let report = session.run(&write_file, LaunchConfig::new(8, 128), args)?;

    let text = std::fs::read_to_string(&path)?;
    let whole = text.len() as u64 == report.threads * RECORD as u64;
    let (written, errors) = (out.to_vec()?[0], out.to_vec()?[1]);
    println!("{written} threads have written, {errors} errors; {path}: {} bytes", text.len());
    for line in [text.lines().next(), text.lines().last()].into_iter().flatten() {
        println!("{}", line.trim_end());
    }
    println!("{:?}", session.stats()?);
    if whole && errors == 0 { Ok(()) } else { Err("lines are missing".into()) }
}
