//! Four thousand GPU threads count the lines of a file. Each maps its share of the pages: the bytes
//! are lent by the page cache, not copied.
//!
//!     cargo run --release --example 02_count_lines -- FILE

use clap::Parser;
use gpu_examples::device::OnePath;
use gpu_examples::failure::Failure;
use gpu_host::LaunchConfig;
use gpu_kernels::ladder::{OneFile, count_lines};

fn main() -> Result<(), Failure> {
    let OnePath { path, device } = OnePath::parse();
    let path = path.unwrap_or_else(|| "Cargo.lock".into());

    // Small pages, so that there is one for many threads even in a small file.
    let session = device.session()?.page_size(4096).cache_size(16 << 20).build()?;
    let name = session.alloc_from(path.as_bytes())?;
    let out = session.alloc(3)?;
    let args = OneFile { fs: session.fs(), path: name.slice(), out: out.slice() };
    let report = session.run(&count_lines, LaunchConfig::new(16, 256), args)?;

    let counted = out.to_vec()?;
    println!("{path}: {} lines, {} bytes, {} errors", counted[0], counted[1], counted[2]);
    println!("{} threads, {:?}", report.threads, session.stats()?);
    Ok(())
}
