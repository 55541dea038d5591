//! One end of a connection each: what bytes between kernels cost.

use bytemuck::{Pod, Zeroable};
use gpu_rt::atomic::{DeviceAtomicU64, Ordering};
use gpu_rt::{Group, Warp, kernel, thread};
use gpunet::{DeviceSlice, Errno, Net, NetAddr, TcpListener, TcpStream};

/// Arguments of [`wire_send`] and [`wire_recv`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Wire {
    /// The network.
    pub net: Net,
    /// Where to listen, or to connect to.
    pub addr: NetAddr,
    /// What is sent with each call, or received into.
    pub buffer: DeviceSlice<u8>,
    /// Bytes to be sent in all.
    pub total: u64,
    /// Results: 0 while it runs, then 1, or an error number + 2; bytes moved, and their sum; then, of
    /// [`wire_recv`], a word that is 1 when it listens, and four of the address.
    pub out: DeviceSlice<u64>,
}

impl Wire {
    fn out(&self, index: usize) -> &DeviceAtomicU64 {
        assert!(index < self.out.len(), "the host gave too few places for results");
        // SAFETY: in range, zeroed by the host, and used as an atomic word.
        unsafe { &*self.out.as_ptr().add(index).cast::<DeviceAtomicU64>() }
    }

    fn end(&self, warp: &Warp, outcome: Result<(u64, u64), Errno>) {
        if warp.is_leader() {
            let state = match outcome {
                Ok((bytes, sum)) => {
                    self.out(1).store(bytes, Ordering::Relaxed);
                    self.out(2).store(sum, Ordering::Relaxed);
                    1
                }
                Err(e) => u64::from(e.raw()) + 2,
            };
            // Release: the host looks on.
            self.out(0).store(state, Ordering::Release);
        }
    }
}

/// A warp connects, sends its buffer again and again, and waits until the other end has had it all.
#[kernel(max_threads = 256)]
pub fn wire_send(args: Wire) {
    if thread::block_idx().x == 0 && thread::warp_id() == 0 {
        let warp = Warp::all();
        args.end(&warp, send(&args, &warp));
    }
}

fn send(args: &Wire, warp: &Warp) -> Result<(u64, u64), Errno> {
    let stream = TcpStream::connect(warp, &args.net, args.addr)?;
    let mut sent = 0;
    while sent < args.total {
        let n = (args.total - sent).min(args.buffer.len() as u64) as usize;
        stream.send_all(warp, args.buffer.slice(0, n))?;
        sent += n as u64;
    }
    stream.shutdown(warp, gpunet::Shutdown::Write)?;
    // The other end closes when it has everything.
    let mut last = [0u8; 1];
    while stream.recv(warp, &mut last[..])? > 0 {}
    stream.close(warp);
    Ok((sent, 0))
}

/// A warp listens, takes one connection, and receives until its end.
#[kernel(max_threads = 256)]
pub fn wire_recv(args: Wire) {
    if thread::block_idx().x == 0 && thread::warp_id() == 0 {
        let warp = Warp::all();
        args.end(&warp, recv(&args, &warp));
    }
}

fn recv(args: &Wire, warp: &Warp) -> Result<(u64, u64), Errno> {
    let listener = TcpListener::bind(warp, &args.net, args.addr)?;
    if warp.is_leader() {
        let words: [u64; 4] = bytemuck::cast(listener.local()?);
        for (i, word) in words.into_iter().enumerate() {
            args.out(4 + i).store(word, Ordering::Relaxed);
        }
        // Release: the host looks on.
        args.out(3).store(1, Ordering::Release);
    }
    let (stream, _) = listener.accept(warp)?;
    let (mut received, mut sum) = (0u64, 0u64);
    loop {
        let n = stream.recv(warp, args.buffer)?;
        if n == 0 {
            break;
        }
        received += n as u64;
        if warp.is_leader() {
            // SAFETY: the group has just received so many bytes there; nobody writes them now.
            let bytes = unsafe { args.buffer.slice(0, n).as_slice() };
            // One byte of each call: the bytes are there, and nobody measures the adding up.
            sum = sum.wrapping_add(u64::from(bytes[n - 1]));
        }
    }
    stream.close(warp);
    listener.close(warp);
    Ok((received, sum))
}
