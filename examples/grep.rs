//! grep: every file is opened, read and searched by a thread of the (emulated) GPU.
//!
//!     cargo run --release --example grep -- -rn 'unsafe fn' .

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use gpu_examples::grep::app::grep;
use gpu_examples::grep::locale::Locale;

fn main() -> ExitCode {
    // A reader of our output that has seen enough ends us, as it does other filters.
    // SAFETY: before any other thread; the default action is always valid.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let mut out = BufWriter::with_capacity(64 << 10, io::stdout());
    let locale = Locale::from_environment();
    let status = grep(std::env::args_os(), &locale, &mut out, &mut io::stderr());
    match out.flush() {
        Ok(()) => ExitCode::from(status),
        Err(e) => {
            eprintln!("grep: write error: {e}");
            ExitCode::from(2)
        }
    }
}
