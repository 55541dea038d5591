//! A GPU thread lists a directory.
//!
//!     cargo run --release --example 03_list_dir -- DIR

use clap::Parser;
use gpu_examples::device::OnePath;
use gpu_examples::failure::Failure;
use gpu_host::LaunchConfig;
use gpu_kernels::ladder::{OneFile, list_dir};

fn main() -> Result<(), Failure> {
    let OnePath { path, device } = OnePath::parse();
    let path = path.unwrap_or_else(|| ".".into());

    let session = device.session()?.build()?;
    let name = session.alloc_from(path.as_bytes())?;
    let out = session.alloc(2)?;
    let args = OneFile { fs: session.fs(), path: name.slice(), out: out.slice() };
    session.run(&list_dir, LaunchConfig::new(1, 1), args)?;

    let counted = out.to_vec()?;
    println!("{} entries, {} of them directories", counted[0], counted[1]);
    Ok(())
}
