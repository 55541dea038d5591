//! A server that multiplies matrices.
//!
//! A request is a side *n* (little endian, 32 bits, 1 to [`SIDE_MAX`]), then two matrices of *n* × *n*
//! values (`f32`, row by row). The answer is their product, or the connection's end.

use crate::server::Server;
use bytemuck::{Pod, Zeroable};
use core::time::Duration;
use gpu_rt::atomic::Ordering;
use gpu_rt::{Block, Group, kernel, thread};
use gpunet::{DeviceSlice, Errno, TcpListener, TcpStream};

/// The longest side.
pub const SIDE_MAX: usize = 512;
/// Values of memory for each block: two matrices, the product, and the head of a request.
pub const SCRATCH: usize = 3 * SIDE_MAX * SIDE_MAX + 16;
/// Counters of [`matrix`]: products, connections that failed.
pub const PRODUCTS: usize = 0;
/// See [`PRODUCTS`].
pub const FAILED: usize = 1;

/// Arguments of [`matrix`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Matrix {
    /// What every server has.
    pub server: Server,
    /// [`SCRATCH`] values for each block.
    pub scratch: DeviceSlice<f32>,
}

/// Each block takes a connection and serves it to its end, all threads together.
#[kernel(max_threads = 256)]
pub fn matrix(args: Matrix) {
    let first = thread::block_idx().x == 0;
    let Ok(listener) = args.server.listen_only(&Block, first) else { return };
    // What has been taken is served to its end even if the kernels are asked to end meanwhile.
    while let Ok((stream, _)) = accept(&listener) {
        if Block.is_leader() {
            args.server.shared().taken.fetch_add(1, Ordering::Relaxed);
        }
        if serve(&args, &stream).is_err() && Block.is_leader() {
            args.server.count(FAILED, 1);
        }
        stream.close(&Block);
    }
}

fn accept(listener: &TcpListener) -> Result<(TcpStream, core::net::SocketAddr), Errno> {
    listener.accept(&Block)
}

/// A peer that stalls keeps its block no longer than this.
const PATIENCE: Duration = Duration::from_secs(10);

fn serve(args: &Matrix, stream: &TcpStream) -> Result<(), Errno> {
    let block = thread::block_idx().x as usize;
    let scratch = args.scratch.slice(block * SCRATCH, SCRATCH);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    loop {
        let head = bytes_of(scratch.slice(SCRATCH - 16, 1));
        match recv_all(stream, head)? {
            0 => return Ok(()),
            4 => {}
            _ => return Err(Errno::EPROTO),
        }
        // SAFETY: the block has just received it, and nobody writes it now.
        let side = unsafe { scratch.slice(SCRATCH - 16, 1).read(0) }.ok_or(Errno::EFAULT)?;
        let side = side.to_bits() as usize;
        if !(1..=SIDE_MAX).contains(&side) {
            return Err(Errno::EPROTO);
        }
        let count = side * side;
        let both = scratch.slice(0, 2 * count);
        if recv_all(stream, bytes_of(both))? != 8 * count {
            return Err(Errno::EPROTO);
        }
        let product = scratch.slice(2 * SIDE_MAX * SIDE_MAX, count);
        multiply(side, both, product);
        stream.send_all(&Block, bytes_of(product))?;
        if Block.is_leader() {
            args.server.count(PRODUCTS, 1);
        }
    }
}

fn bytes_of(values: DeviceSlice<f32>) -> DeviceSlice<u8> {
    DeviceSlice::new(values.addr(), values.len() as u64 * 4)
}

/// Receives until the buffer is full or the peer has ended; how many bytes.
fn recv_all(stream: &TcpStream, buf: DeviceSlice<u8>) -> Result<usize, Errno> {
    let mut done = 0;
    while done < buf.len() {
        match stream.recv(&Block, buf.slice(done, buf.len() - done))? {
            0 => break,
            n => done += n,
        }
    }
    Ok(done)
}

/// Each thread computes rows of the product; every value is summed up in the order of `k`.
fn multiply(side: usize, both: DeviceSlice<f32>, product: DeviceSlice<f32>) {
    // SAFETY: the block received these before, and nobody writes them now.
    let values = unsafe { both.as_slice() };
    let (a, b) = values.split_at(side * side);
    let mut row = Block.rank() as usize;
    while row < side {
        // SAFETY: each row is one thread's.
        let out = unsafe { product.slice(row * side, side).as_mut_slice() };
        out.fill(0.0);
        for (k, factor) in a[row * side..][..side].iter().enumerate() {
            for (sum, value) in out.iter_mut().zip(&b[k * side..][..side]) {
                *sum += factor * value;
            }
        }
        row += Block.size() as usize;
    }
    Block.sync();
}
