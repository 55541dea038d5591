//! A server in a kernel that multiplies matrices, and a client that checks its products.
//!
//!     cargo run --release --example matrix -- --listen 127.0.0.1:7001
//!     cargo run --release --example matrix -- --connect 127.0.0.1:7001 --side 256
//!
//! The first line that the server prints is its address.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use clap::Parser;
use gpu_examples::failure::Failure;
use gpu_examples::serve::{Running, ServeArgs};
use gpu_host::LaunchConfig;
use gpu_kernels::matrix::{FAILED, Matrix, PRODUCTS, SCRATCH, SIDE_MAX, matrix};

/// A server in a GPU kernel that multiplies matrices of 32-bit floats, and its client.
///
/// With --listen, each block of threads takes a connection and serves it to its end. With --connect,
/// random matrices are sent, and each product is compared with one computed here, value by value.
#[derive(Debug, Parser)]
#[command(name = "matrix")]
struct Cli {
    /// Serve at this address; port 0 picks a free one
    #[arg(
        long,
        value_name = "ADDR",
        required_unless_present = "connect",
        conflicts_with = "connect"
    )]
    listen: Option<SocketAddr>,
    /// Send matrices to the server at this address
    #[arg(long, value_name = "ADDR")]
    connect: Option<SocketAddr>,
    #[command(flatten)]
    serve: ServeArgs,
    /// Rows and columns of the matrices
    #[arg(long, default_value_t = 128, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=SIDE_MAX as i64), help_heading = "Client")]
    side: u32,
    /// How many products to ask for
    #[arg(long, default_value_t = 20, value_name = "N", help_heading = "Client")]
    products: u32,
}

fn main() -> Result<(), Failure> {
    let cli = Cli::parse();
    match (cli.listen, cli.connect) {
        (Some(addr), _) => serve(&cli, addr),
        (None, Some(addr)) => ask(&cli, addr),
        (None, None) => Err("say --listen ADDR or --connect ADDR".into()),
    }
}

fn serve(cli: &Cli, addr: SocketAddr) -> Result<(), Failure> {
    let session = cli.serve.session()?.build()?;
    let blocks = cli.serve.warps.max(1);
    let scratch = session.alloc::<f32>(blocks as usize * SCRATCH)?;
    let shape = LaunchConfig::new(blocks, cli.serve.lanes());
    let running = Running::start(&session, &matrix, shape, addr, |server| Matrix {
        server,
        scratch: scratch.slice(),
    })?;
    let (taken, counts) = running.until_interrupted(session.ender())?;
    println!(
        "{taken} connections taken; {} products, {} connections failed",
        counts[PRODUCTS], counts[FAILED]
    );
    Ok(())
}

fn ask(cli: &Cli, addr: SocketAddr) -> Result<(), Failure> {
    let side = cli.side as usize;
    let mut stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    let mut seed = 1u64;
    let mut random = || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let mut spent = Duration::ZERO;
    for number in 0..cli.products {
        let values: Vec<f32> = (0..2 * side * side).map(|_| random()).collect();
        let start = Instant::now();
        stream.write_all(&cli.side.to_le_bytes())?;
        stream.write_all(bytemuck::cast_slice(&values))?;
        let mut product = vec![0f32; side * side];
        stream.read_exact(bytemuck::cast_slice_mut(&mut product))?;
        spent += start.elapsed();
        let (a, b) = values.split_at(side * side);
        for row in 0..side {
            for column in 0..side {
                // With twice the digits: what a sum in any order may differ from.
                let exact: f64 = (0..side)
                    .map(|k| f64::from(a[row * side + k]) * f64::from(b[k * side + column]))
                    .sum();
                let error = (f64::from(product[row * side + column]) - exact).abs();
                if error > 1e-6 * side as f64 {
                    return Err(format!(
                        "product {number}: row {row}, column {column} is off by {error}"
                    )
                    .into());
                }
            }
        }
    }
    let each = spent / cli.products.max(1);
    println!(
        "{} products of {side} × {side}, all right; {:.3} ms each, {:.2} GFLOP/s",
        cli.products,
        each.as_secs_f64() * 1e3,
        2.0 * (side as f64).powi(3) / each.as_secs_f64() / 1e9
    );
    Ok(())
}
