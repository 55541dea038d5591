//! A server of several groups that share an event queue, as servers do.

use super::{NetOp, REGISTERS, Script};
use bytemuck::{Pod, Zeroable};
use core::time::Duration;
use gpu_rt::atomic::{DeviceAtomicU64, Ordering};
use gpu_rt::{Group, thread};
use gpunet::{DeviceSlice, Errno, Interest, Poll, Socket, TcpListener, TcpStream};

/// What the groups share, in the script's bytes.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Serving {
    listener: Socket,
    poll: Poll,
}

const WORDS: usize = size_of::<Serving>() / 8;

impl<G: Group> Script<'_, G> {
    fn words(&self, op: &NetOp) -> &[DeviceAtomicU64; WORDS + 1] {
        let place = self.job.bytes.slice(op.at as usize, (WORDS + 1) * 8);
        assert!(place.len() == (WORDS + 1) * 8, "no place for what is shared");
        // SAFETY: in range, aligned by the host, and used as atomic words by every thread.
        unsafe { &*place.as_ptr().cast() }
    }

    /// Block 0 listens at `addr` and watches that; the others wait until it has.
    pub(super) fn serve_start(&mut self, op: &NetOp) -> Result<u64, Errno> {
        let (group, net, words) = (self.group, &self.job.net, self.words(op));
        if thread::block_idx().x == 0 {
            let listener = TcpListener::bind(group, net, op.addr)?;
            let poll = Poll::new(group, net)?;
            poll.add(group, &listener, Interest::Readable)?;
            let serving = Serving { listener: listener.socket(), poll };
            if group.is_leader() {
                let values: [u64; WORDS] = bytemuck::cast(serving);
                for (word, value) in words[1..].iter().zip(values) {
                    word.store(value, Ordering::Relaxed);
                }
                // Release: pairs with the acquire below.
                words[0].store(1, Ordering::Release);
            }
        }
        // Acquire: pairs with the release above.
        while group.broadcast(words[0].load(Ordering::Acquire)) == 0 {
            gpu_rt::relax();
        }
        let mut values = [0; WORDS];
        for (word, value) in words[1..].iter().zip(&mut values) {
            *value = word.load(Ordering::Relaxed);
        }
        let Serving { listener, poll } = bytemuck::cast(values);
        self.sockets[op.s as usize % REGISTERS] = listener;
        self.poll = Some(poll);
        Ok(0)
    }

    /// Takes connections and sends back what arrives, until kernels are asked to end; how many ends of
    /// connections it has seen. Each wait ends after `arg` milliseconds, if that is not 0, and is begun anew.
    pub(super) fn serve(&mut self, op: &NetOp) -> Result<u64, Errno> {
        let (group, poll) = (self.group, self.poll()?);
        let listener = TcpListener::from(self.sockets[op.s as usize % REGISTERS]);
        let mut closed = 0;
        loop {
            let event = match op.arg {
                0 => poll.wait(group),
                ms => poll.wait_timeout(group, Duration::from_millis(ms)),
            };
            match event {
                Ok(socket) if socket == listener.socket() => self.take_all(&listener, &poll)?,
                Ok(socket) => closed += u64::from(self.serve_one(&socket.into(), &poll)),
                Err(Errno::EAGAIN) => {}
                Err(Errno::ECANCELED) => return Ok(closed),
                Err(e) => return Err(e),
            }
        }
    }

    fn take_all(&self, listener: &TcpListener, poll: &Poll) -> Result<(), Errno> {
        loop {
            while let Ok((stream, _)) = listener.try_accept(self.group) {
                poll.add(self.group, &stream, Interest::Readable)?;
            }
            if !poll.watch(self.group, listener, Interest::Readable)? {
                return Ok(());
            }
        }
    }

    /// Whether it has closed the connection.
    fn serve_one(&self, stream: &TcpStream, poll: &Poll) -> bool {
        loop {
            match self.send_back(stream) {
                Ok(true) => {}
                Err(Errno::EAGAIN) => {
                    if !matches!(poll.watch(self.group, stream, Interest::Readable), Ok(true)) {
                        return false;
                    }
                }
                // Somebody else was told of it, too, and has closed it.
                Err(Errno::EBADF) => return false,
                Ok(false) | Err(_) => {
                    stream.close(self.group);
                    return true;
                }
            }
        }
    }

    /// False at the end.
    fn send_back(&self, stream: &TcpStream) -> Result<bool, Errno> {
        let view = stream.try_recv_view(self.group)?;
        let n = view.len();
        for part in view.slices() {
            let part = DeviceSlice::<u8>::new(part.as_ptr() as u64, part.len() as u64);
            stream.send_all(self.group, part)?;
        }
        view.consume(n);
        Ok(n > 0)
    }
}
