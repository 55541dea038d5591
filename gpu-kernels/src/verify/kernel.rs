//! The server: persistent warps, each of which serves whichever connection has a request.
//!
//! A request stays in its socket's ring until it is answered: nothing is kept about a connection, and
//! a slow client holds its own ring and no warp.

use super::lbp::{Counting, Framed, Method, Shape, chi_square};
use super::store::{ENTRY_LEN, Entry, Header, hash, reference_len};
use super::wire::{Parsed, REPLY_LEN, Reply, Status, THRESHOLD_OF_SERVER, parse};
use crate::http::bytes::{Bytes, Span};
use crate::server::{Outcome, Server, Service, is_first_warp};
use bytemuck::{Pod, Zeroable};
use gpu_rt::{Group, Warp, ballot, kernel, shfl_u64, thread, wide};
use gpufs::{DeviceSlice, Errno, File, Fs, OpenOptions};
use gpunet::{Interest, TcpStream};

/// Counters of [`verify`]: requests answered with a distance.
pub const VERIFIED: usize = 0;
/// Counters of [`verify`]: distances within their thresholds.
pub const ACCEPTED: usize = 1;
/// Counters of [`verify`]: identities that are not in the store.
pub const UNKNOWN: usize = 2;
/// Counters of [`verify`]: what was no request for this store.
pub const REFUSED: usize = 3;
/// Counters of [`verify`]: requests that the store could not answer.
pub const DAMAGED: usize = 4;
/// Counters of [`verify`]: connections that failed, or ended amid a request.
pub const FAILED: usize = 5;

/// Arguments of [`verify`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Verify {
    /// What every server has.
    pub server: Server,
    /// The file system that has the store.
    pub fs: u64,
    /// The path of the store.
    pub path: DeviceSlice<u8>,
    /// Zeroed memory, [`scratch_len`] bytes for each warp.
    pub scratch: DeviceSlice<u8>,
    /// Of a warp's memory.
    pub scratch_each: u64,
    /// What is accepted by clients that name no threshold of their own.
    pub threshold: u64,
}

/// Bytes of memory that a warp needs for a store: the image with its frame, a reference, an entry of the
/// index. `None` if there can be no such images.
#[must_use]
pub fn scratch_len(shape: Shape, method: Method) -> Option<usize> {
    let reference = reference_len(shape, method)?;
    Some(shape.framed_len().next_multiple_of(64) + reference.next_multiple_of(64) + ENTRY_LEN)
}

/// Verifies faces, until the host asks kernels to end. Launched with blocks of one warp.
#[kernel(max_threads = 256)]
pub fn verify(args: Verify) {
    let warp = Warp::all();
    let Ok(serving) = args.server.start(&warp, is_first_warp()) else { return };
    let each = args.scratch_each as usize;
    let scratch = args.scratch.slice(thread::block_idx().x as usize * each, each);
    let faces = Faces { args: &args, warp, store: Store::open(&args, &warp, scratch) };
    serving.run(&warp, args.server.shared(), &faces);
    if let Ok(store) = faces.store {
        store.file.close(&warp).ok();
    }
}

/// A store, as one warp has it.
struct Store {
    file: File,
    header: Header,
    method: Method,
    /// The image. Nobody writes its frame, which the host has zeroed.
    framed: DeviceSlice<u8>,
    /// The counts of a reference.
    reference: DeviceSlice<u8>,
    entry: DeviceSlice<u8>,
}

/// Reads all of `place`.
fn read(warp: &Warp, file: &File, place: DeviceSlice<u8>, at: u64) -> Result<(), Status> {
    // What was read there before is not looked at any more.
    warp.sync();
    match file.read_at(warp, place, at) {
        Ok(n) if n == place.len() => Ok(()),
        Ok(_) => Err(Status::StoreDamaged),
        Err(_) => Err(Status::StoreUnavailable),
    }
}

impl Store {
    // Not inlined, as the others that say so: on a GPU what a function reads with, and what it has to know for that,
    // shares the registers with all of its callers.
    #[inline(never)]
    fn open(args: &Verify, warp: &Warp, scratch: DeviceSlice<u8>) -> Result<Store, Status> {
        let fs: Fs = bytemuck::cast(args.fs);
        // SAFETY: the host wrote the path before the launch and leaves it alone until its end.
        let path = unsafe { args.path.as_slice() };
        // References are read here and there.
        let options = OpenOptions::new().read_ahead(false);
        let file = fs.open(warp, path, options).map_err(|_| Status::StoreUnavailable)?;
        let store = Store::checked(warp, file, scratch);
        if store.is_err() {
            file.close(warp).ok();
        }
        store
    }

    fn checked(warp: &Warp, file: File, scratch: DeviceSlice<u8>) -> Result<Store, Status> {
        let place = scratch.slice(0, size_of::<Header>());
        read(warp, &file, place, 0)?;
        // SAFETY: this warp's alone, which has filled it and does not write it before it meets again.
        let header: Header = bytemuck::pod_read_unaligned(unsafe { place.as_slice() });
        let method = header.check(file.size()).map_err(|_| Status::StoreDamaged)?;
        warp.sync();
        // What it was read into is the frame of an image.
        if warp.is_leader() {
            // SAFETY: this warp's alone, of which nobody else looks before the next meeting.
            unsafe { place.as_mut_slice() }.fill(0);
        }
        let shape = header.shape;
        // The host made room for the store that it has seen. This may be another.
        let (Some(len), Some(reference)) =
            (scratch_len(shape, method), reference_len(shape, method))
        else {
            return Err(Status::StoreDamaged);
        };
        if len > scratch.len() {
            return Err(Status::StoreDamaged);
        }
        let behind = shape.framed_len().next_multiple_of(64);
        Ok(Store {
            file,
            header,
            method,
            framed: scratch.slice(0, shape.framed_len()),
            reference: scratch.slice(behind, reference),
            entry: scratch.slice(behind + reference.next_multiple_of(64), ENTRY_LEN),
        })
    }

    /// The number of an identity's reference.
    #[inline(never)]
    fn find(&self, warp: &Warp, id: &Bytes<'_>) -> Result<u32, Status> {
        let hash = hash(id.iter());
        for probe in 0..self.header.probes {
            read(warp, &self.file, self.entry, self.header.entry_at(hash, probe))?;
            if let Some(record) = self.look(id)? {
                return Ok(record);
            }
        }
        Err(Status::UnknownIdentity)
    }

    /// The number of an identity's reference, if it is this entry that says so.
    #[inline(never)]
    fn look(&self, id: &Bytes<'_>) -> Result<Option<u32>, Status> {
        // SAFETY: this warp's alone, which has filled it and does not write it before it meets again.
        let entry: Entry = bytemuck::pod_read_unaligned(unsafe { self.entry.as_slice() });
        match entry.id() {
            None => Err(Status::StoreDamaged),
            Some([]) => Err(Status::UnknownIdentity),
            Some(found) if id.iter().eq(found.iter().copied()) => {
                let is_there = entry.record < self.header.count;
                if is_there { Ok(Some(entry.record)) } else { Err(Status::StoreDamaged) }
            }
            Some(_) => Ok(None),
        }
    }

    /// The distance of an image from an identity's reference.
    #[inline(never)]
    fn distance(&self, warp: &Warp, pixels: &Bytes<'_>, id: &Bytes<'_>) -> Result<u64, Status> {
        let record = self.find(warp, id)?;
        self.take(warp, pixels);
        read(warp, &self.file, self.reference, self.header.reference_at(record))?;
        self.compare(warp)
    }

    /// The distance of the image from the reference, both of which are here.
    #[inline(never)]
    fn compare(&self, warp: &Warp) -> Result<u64, Status> {
        let shape = self.header.shape;
        // SAFETY: this warp's alone, which has filled both, met in `read` since, and does not write them
        // before it meets again, in the next `read`.
        let (framed, reference) = unsafe { (self.framed.as_slice(), self.reference.as_slice()) };
        let image = Framed::new(framed, shape).ok_or(Status::StoreDamaged)?;
        let reference: &[u16] =
            bytemuck::try_cast_slice(reference).map_err(|_| Status::StoreDamaged)?;
        let (bins, whole) = (self.method.bins(), shape.cell_pixels() as u64);
        let (mut sum, mut fits) = (0, true);
        wide(Counting {
            image,
            method: self.method,
            first: warp.rank() as usize,
            step: warp.size() as usize,
            each: |cell: usize, counts: &[u16]| {
                let reference = &reference[cell * bins..][..bins];
                // Each pixel of a cell has been counted once.
                fits &= reference.iter().map(|n| u64::from(*n)).sum::<u64>() == whole;
                sum += chi_square(counts, reference);
            },
        });
        if ballot(warp.mask(), !fits) != 0 {
            return Err(Status::StoreDamaged);
        }
        // The lanes of `Warp::all` have the lowest numbers.
        Ok((0..warp.size()).map(|lane| shfl_u64(warp.mask(), sum, lane)).sum())
    }

    /// Copies an image out of the ring, into its frame: neighbouring lanes copy neighbouring pixels.
    #[inline(never)]
    fn take(&self, warp: &Warp, pixels: &Bytes<'_>) {
        let shape = self.header.shape;
        let width = shape.width as usize;
        let mut at = warp.rank() as usize;
        for row in 0..shape.height as usize {
            // SAFETY: a row of this warp's memory, of which each lane writes bytes of its own; nobody reads
            // it before the warp has met.
            let line = unsafe { self.framed.slice(shape.framed_row(row), width).as_mut_slice() };
            while at < width {
                line[at] = pixels.get(row * width + at).unwrap_or(0);
                at += warp.size() as usize;
            }
            at -= width;
        }
    }
}

/// The service.
struct Faces<'a> {
    args: &'a Verify,
    warp: Warp,
    store: Result<Store, Status>,
}

/// What came of a look at a connection.
enum Step {
    /// There may be another request.
    Again,
    Wait(Interest),
    Close,
}

impl Service<Warp> for Faces<'_> {
    fn ready(&self, stream: &TcpStream) -> Outcome {
        loop {
            match self.serve(stream) {
                Step::Again => {}
                Step::Wait(interest) => return Outcome::More(interest),
                Step::Close => return Outcome::Done,
            }
        }
    }
}

impl Faces<'_> {
    fn count(&self, which: usize) {
        if self.warp.is_leader() {
            self.args.server.count(which, 1);
        }
    }

    fn fail(&self) -> Step {
        self.count(FAILED);
        Step::Close
    }

    /// Answers one request, if there is a whole one and room for the reply.
    ///
    /// Not inlined: what it finds out anew for each request would be worked out before the loop over all of them, and
    /// kept, for which a GPU has no registers.
    #[inline(never)]
    fn serve(&self, stream: &TcpStream) -> Step {
        let view = match stream.try_recv_view(&self.warp) {
            Ok(view) if view.is_empty() => return Step::Close,
            Ok(view) => view,
            Err(Errno::EAGAIN) => return Step::Wait(Interest::Readable),
            Err(_) => return self.fail(),
        };
        let bytes = Bytes::new(view.slices());
        let (shape, most) = match &self.store {
            Ok(store) => (store.header.shape, self.args.server.net.ring_size()),
            Err(_) => (Shape::zeroed(), usize::MAX),
        };
        let parsed = match (parse(&bytes, shape, most), &self.store) {
            // Of what size its images are is not known.
            (Parsed::Refused(reply), Err(status)) if reply.status == Status::WrongSize as u16 => {
                Parsed::Refused(Reply::without(*status, reply.tag))
            }
            (parsed, _) => parsed,
        };
        if parsed == Parsed::More {
            if view.is_last() {
                return self.fail();
            }
            return Step::Wait(Interest::Beyond(view.len() as u32));
        }
        let room = match stream.try_send_view(&self.warp, REPLY_LEN) {
            Ok(room) => room,
            Err(Errno::EAGAIN) => return Step::Wait(Interest::Room(REPLY_LEN as u32)),
            Err(_) => return self.fail(),
        };
        let (reply, taken) = match (parsed, &self.store) {
            (Parsed::Request { head, id, pixels, len }, Ok(store)) => {
                let image = bytes.span(Span { at: pixels, len: len - pixels });
                let reply = match store.distance(&self.warp, &image, &bytes.span(id)) {
                    Ok(distance) => {
                        let threshold = match head.threshold {
                            THRESHOLD_OF_SERVER => self.args.threshold,
                            threshold => threshold,
                        };
                        Reply::verified(head.tag, distance, threshold)
                    }
                    Err(status) => Reply::without(status, head.tag),
                };
                (reply, Some(len))
            }
            (Parsed::Refused(reply), _) => (reply, None),
            // A request is none without a store.
            _ => (Reply::without(Status::BadRequest, 0), None),
        };
        self.count(match Status::from_raw(reply.status) {
            Some(Status::Ok) => VERIFIED,
            Some(Status::UnknownIdentity) => UNKNOWN,
            Some(Status::StoreDamaged | Status::StoreUnavailable) => DAMAGED,
            _ => REFUSED,
        });
        if reply.accepted != 0 {
            self.count(ACCEPTED);
        }
        room.put(bytemuck::bytes_of(&reply));
        room.commit(REPLY_LEN);
        // All of what is refused, so that closing the connection does not reset it before the reply is there.
        let all = view.len();
        view.consume(taken.unwrap_or(all));
        if taken.is_some() { Step::Again } else { Step::Close }
    }
}
