//! A server that sends back what it receives.

use crate::server::{Outcome, Server, Service, is_first_warp};
use gpu_rt::{Warp, kernel};
use gpunet::{DeviceSlice, Errno, Interest, TcpStream};

/// Counters of [`echo`]: connections that have ended, bytes sent back, connections that failed.
pub const ENDED: usize = 0;
/// See [`ENDED`].
pub const BYTES: usize = 1;
/// See [`ENDED`].
pub const FAILED: usize = 2;

/// Each warp serves whichever connection has something to be sent back, for as long as the host lets it.
#[kernel(max_threads = 256)]
pub fn echo(server: Server) {
    let warp = Warp::all();
    let Ok(serving) = server.start(&warp, is_first_warp()) else { return };
    serving.run(&warp, server.shared(), &Echo { server: &server, warp });
}

struct Echo<'a> {
    server: &'a Server,
    warp: Warp,
}

impl Service<Warp> for Echo<'_> {
    fn ready(&self, stream: &TcpStream) -> Outcome {
        echo_back(self.server, &self.warp, stream)
    }
}

/// Sends back what has arrived: from ring to ring, one copy.
fn echo_back(server: &Server, warp: &Warp, stream: &TcpStream) -> Outcome {
    use gpu_rt::Group;
    loop {
        let view = match stream.try_recv_view(warp) {
            Ok(view) if view.is_empty() => {
                if warp.is_leader() {
                    server.count(ENDED, 1);
                }
                return Outcome::Done;
            }
            Ok(view) => view,
            Err(Errno::EAGAIN) => return Outcome::More(Interest::Readable),
            Err(_) => {
                if warp.is_leader() {
                    server.count(FAILED, 1);
                }
                return Outcome::Done;
            }
        };
        let mut sent = 0;
        let mut stopped = None;
        for part in view.slices() {
            let part = DeviceSlice::<u8>::new(part.as_ptr() as u64, part.len() as u64);
            match stream.try_send(warp, part) {
                Ok(n) => {
                    sent += n;
                    if n < part.len() {
                        break;
                    }
                }
                Err(e) => {
                    stopped = Some(e);
                    break;
                }
            }
        }
        view.consume(sent);
        if warp.is_leader() {
            server.count(BYTES, sent as u64);
        }
        match stopped {
            None => {}
            // The peer does not read: its bytes stay where they are.
            Some(Errno::EAGAIN) => return Outcome::More(Interest::Writable),
            Some(_) => {
                if warp.is_leader() {
                    server.count(FAILED, 1);
                }
                return Outcome::Done;
            }
        }
    }
}
