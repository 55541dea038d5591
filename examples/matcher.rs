//! matcher: images are found in databases of images by the threads of the (emulated) GPU, which open
//! and read the databases themselves.
//!
//!     cargo run --release --example matcher -- --generate /tmp/images
//!     cargo run --release --example matcher -- --queries /tmp/images/queries \
//!         --databases /tmp/images/databases --threshold 1000 --html /tmp/matches.html

use std::io::{self, BufWriter, IsTerminal, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    // A reader of our output that has seen enough ends us, as it does other filters.
    // SAFETY: before any other thread; the default action is always valid.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let terminal = io::stdout().is_terminal();
    let mut out = BufWriter::new(io::stdout());
    let arguments = std::env::args_os();
    let status = gpu_examples::matcher::app::run(arguments, terminal, &mut out, &mut io::stderr());
    match out.flush() {
        Ok(()) => ExitCode::from(status),
        Err(e) => {
            eprintln!("matcher: write error: {e}");
            ExitCode::from(2)
        }
    }
}
