//! A GPU thread begins a read, works on something else meanwhile, and takes the bytes when it needs
//! them.
//!
//!     cargo run --release --example 04_async_read -- FILE

use clap::Parser;
use gpu_examples::device::OnePath;
use gpu_examples::failure::Failure;
use gpu_host::LaunchConfig;
use gpu_kernels::ladder::{OneFile, read_while_working};

fn main() -> Result<(), Failure> {
    let OnePath { path, device } = OnePath::parse();
    let path = path.unwrap_or_else(|| "Cargo.lock".into());

    let session = device.session()?.page_size(4096).build()?;
    let name = session.alloc_from(path.as_bytes())?;
    let out = session.alloc(2)?;
    let args = OneFile { fs: session.fs(), path: name.slice(), out: out.slice() };
    session.run(&read_while_working, LaunchConfig::new(1, 1), args)?;

    let [sum, arrived] = out.to_vec()?[..] else { unreachable!("two values were asked for") };
    println!("bytes add up to {sum}; the second part had arrived in time: {}", arrived == 1);
    println!("{:?}", session.stats()?);
    Ok(())
}
