//! `ptx-build`: compiles kernel crates, checks the PTX, says what the machine lacks.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, Parser, Subcommand};
use ptx_build::check::{self, Bounds};
use ptx_build::toolchain::Toolchain;
use ptx_build::{Build, Error, Module, ptxas, required};

/// Compiles crates of GPU kernels to PTX, and checks the PTX.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compiles a kernel crate.
    Build(BuildArgs),
    /// Compiles a kernel crate, assembles it for each architecture, and checks what came out.
    Check(CheckArgs),
    /// Says which toolchains and assemblers are here, and what is missing.
    Doctor,
}

#[derive(Args)]
struct BuildArgs {
    /// The folder of the kernel crate.
    #[arg(default_value = "gpu-kernels")]
    dir: PathBuf,
    /// Where to write the PTX; to build, beside the other build products unless given.
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// The largest block that the kernels will be launched with.
    #[arg(long, default_value_t = 1024)]
    max_threads: u32,
    /// Name the source line of each instruction.
    #[arg(long)]
    line_info: bool,
}

#[derive(Args)]
struct CheckArgs {
    #[command(flatten)]
    build: BuildArgs,
    /// Kernels to assemble; all unless given. Those that are not assembled are not held to bounds.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    kernel: Vec<String>,
    /// Architectures to assemble for.
    #[arg(long, value_delimiter = ',', default_values_t = ptxas::ARCHITECTURES)]
    arch: Vec<u32>,
    /// Fail if a kernel needs more than this file says.
    #[arg(long)]
    bounds: Option<PathBuf>,
    /// Fail if a kernel synchronises otherwise than this file says.
    #[arg(long)]
    golden: Option<PathBuf>,
    /// Write what was found into those files instead.
    #[arg(long)]
    bless: bool,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Build(args) => build(&args),
        Command::Check(args) => run_checks(&args),
        Command::Doctor => return doctor(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) if e.is_missing_tool() && !required() => {
            println!("skipped: {e}\n(PTX_REQUIRED=1 makes this an error)");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn build(args: &BuildArgs) -> Result<(), Error> {
    let module = compile(args)?;
    let name = args.dir.file_name().unwrap_or("kernels".as_ref());
    let beside = || target().join(name).with_extension("ptx");
    let output = args.output.clone().unwrap_or_else(beside);
    write(&output, &module.ptx)?;
    println!("{}", output.display());
    Ok(())
}

/// Where the PTX of all kernel crates is built.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from).join("ptx")
}

fn compile(args: &BuildArgs) -> Result<Module, Error> {
    let toolchain = Toolchain::find()?;
    println!("compiler: {} ({})", toolchain.version, toolchain.rustc.display());
    let start = Instant::now();
    let module = Build::new(&args.dir)
        .target_dir(target())
        .max_threads(args.max_threads)
        .line_info(args.line_info)
        .run_with(toolchain)?;
    println!("{} bytes of PTX, {} s", module.ptx.len(), start.elapsed().as_secs());
    Ok(module)
}

fn run_checks(args: &CheckArgs) -> Result<(), Error> {
    let module = compile(&args.build)?;
    if let Some(output) = &args.build.output {
        write(output, &module.ptx)?;
    }
    check::module(&module.ptx)?;
    println!("no symbol is undefined; every atomic operation has order and scope");
    if let Some(golden) = &args.golden {
        let found = check::synchronisation(&module.ptx);
        if args.bless {
            write(golden, &found)?;
        } else {
            check::same_synchronisation(&read(golden)?, &found)?;
        }
        println!("each kernel synchronises as {} says", golden.display());
    }
    let known = match &args.bounds {
        Some(path) if !args.bless || path.exists() => Some(Bounds::parse(&read(path)?)?),
        _ => None,
    };
    let mut blessed = known.clone().unwrap_or_default();
    let mut findings = Vec::new();
    // Of our own: another check may be at work on the same crate.
    let dir = tempfile::tempdir().map_err(|source| Error::Io {
        doing: "make a folder in",
        path: std::env::temp_dir(),
        source,
    })?;
    let parts = module.split(&args.kernel, dir.path())?;
    for &arch in &args.arch {
        let ptxas = match ptxas::for_architecture(arch) {
            Err(e) if !required() => {
                println!("sm_{arch}: skipped: {e}");
                continue;
            }
            other => other?,
        };
        let start = Instant::now();
        let usages = ptxas::assemble_all(&ptxas, &parts, arch)?;
        println!("sm_{arch}: assembles, {} s ({})", start.elapsed().as_secs(), ptxas.display());
        let line = |kernel: &str, columns: [&dyn Display; 4]| {
            let [registers, stack, spills, pointers] = columns;
            println!("  {kernel:<28} {registers:>9} {stack:>7} {spills:>7} {pointers:>9}");
        };
        line("kernel", [&"registers", &"stack", &"spills", &"+pointers"]);
        for u in &usages {
            line(&u.kernel, [&u.registers, &u.stack, &u.spills, &u.pointers]);
        }
        findings.extend(check::too_deep(arch, &usages));
        if let (Some(known), false) = (&known, args.bless) {
            findings.extend(known.exceeded(arch, &usages));
        }
        blessed.record(arch, &usages, args.kernel.is_empty());
    }
    if let (Some(path), true) = (&args.bounds, args.bless) {
        write(path, &blessed.to_text())?;
    }
    if findings.is_empty() { Ok(()) } else { Err(Error::Findings(findings)) }
}

fn doctor() -> ExitCode {
    println!("compilers:");
    for candidate in Toolchain::candidates() {
        println!("  {candidate}");
    }
    let mut complete = true;
    match Toolchain::find() {
        Ok(toolchain) => println!("=> {}", toolchain.rustc.display()),
        Err(e) => {
            complete = false;
            println!("=> {e}");
        }
    }
    println!("assemblers (needed for checks only):");
    for arch in ptxas::ARCHITECTURES {
        match ptxas::for_architecture(arch) {
            Ok(ptxas) => println!("  sm_{arch}: {}", ptxas.display()),
            Err(e) => {
                complete = false;
                println!("  sm_{arch}: {e}");
            }
        }
    }
    if complete || !required() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Io {
        doing: "read",
        path: path.to_owned(),
        source,
    })
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(path, text).map_err(|source| Error::Io {
        doing: "write",
        path: path.to_owned(),
        source,
    })
}
