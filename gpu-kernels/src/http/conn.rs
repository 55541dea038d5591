//! What is kept about a connection, and how it is served.
//!
//! ```text
//!            taken                event: owner 0 → 1
//!   (none) ────────▶ waits ────────────────────────▶ is served ──▶ closed (owner stays 1)
//!                      ▲                                 │
//!                      └──────── owner 1 → 0, watched ───┘
//!                      │ deadline over, owner 0 → 1 ──▶ 408 if a head had begun, closed
//! ```
//!
//! Whoever makes `owner` 1 has the rest of the record to itself.

use super::bytes::Bytes;
use super::fields::{self, Range};
use super::head::{self, Head, Method, Parsed};
use super::reply::{Reply, reason};
use super::target::{self, Path};
use super::{BYTES, Http, LATE, REFUSED, REQUESTS};
use crate::server::{Outcome, Service};
use core::mem::MaybeUninit;
use gpu_rt::atomic::{DeviceAtomicU32, DeviceAtomicU64, Ordering};
use gpu_rt::{Group, Warp};
use gpufs::{DeviceSlice, Errno, File, FileInfo, Fs, OpenOptions};
use gpunet::{Interest, SendView, Socket, TcpStream};

/// What is kept about a connection. Zeroed: there is none.
#[repr(C, align(64))]
struct Conn {
    owner: DeviceAtomicU32,
    /// Whether a head has begun, of which the rest is awaited.
    begun: u32,
    /// When the connection is to be closed; 0: never.
    deadline: DeviceAtomicU64,
    socket: Socket,
    /// The rest of an answer: bytes of a file.
    left: u64,
    offset: u64,
    keep_alive: u64,
    file: MaybeUninit<File>,
}

/// Words of memory for a connection.
pub const CONN_WORDS: usize = size_of::<Conn>() / 8;

/// The service.
pub(super) struct Files<'a> {
    pub(super) args: &'a Http,
    pub(super) fs: Fs,
    pub(super) warp: Warp,
}

/// What became of an attempt to go on.
enum Step {
    /// Go on.
    Done,
    /// There is no room.
    Wait(Interest),
    /// The connection is of no more use.
    Failed,
}

/// A body that follows a head.
enum Body {
    None,
    /// So many bytes of a file, from there on.
    File(File, u64, u64),
    /// The status, in words.
    Words,
}

impl Service<Warp> for Files<'_> {
    // None of these is inlined into the loop over all events: a GPU would keep what they find out across that.
    #[inline(never)]
    fn accepted(&self, stream: &TcpStream) {
        if self.warp.is_leader() {
            let conn = self.conn(stream);
            let deadline = gpu_rt::clock() + self.args.idle_ns;
            // SAFETY: nobody serves it yet, so that the record is ours.
            unsafe {
                (*conn).begun = 0;
                (*conn).left = 0;
                (*conn).socket = stream.socket();
                (*conn).deadline.store(deadline, Ordering::Relaxed);
                // Release: pairs with the acquire in `own`.
                (*conn).owner.store(0, Ordering::Release);
            }
        }
        self.warp.sync();
    }

    #[inline(never)]
    fn ready(&self, stream: &TcpStream) -> Outcome {
        if !self.own(self.conn(stream)) {
            return Outcome::Left;
        }
        let interest = loop {
            match self.go_on(stream) {
                Step::Done => {}
                Step::Wait(interest) => break interest,
                Step::Failed => {
                    self.drop_file(stream);
                    return Outcome::Done;
                }
            }
        };
        self.give_back(stream);
        Outcome::More(interest)
    }

    /// Closes connections that have taken too long; sees whether somebody has set the clock.
    #[inline(never)]
    fn sweep(&self) {
        self.look_at_the_clock();
        let now = gpu_rt::clock();
        for index in 0..self.args.server.net.sockets() as usize {
            let conn = self.at(index);
            // SAFETY: a record of the array; its words are atomic.
            let deadline = unsafe { (*conn).deadline.load(Ordering::Relaxed) };
            let deadline = self.warp.broadcast(deadline);
            if deadline == 0 || deadline > now || !self.own(conn) {
                continue;
            }
            // SAFETY: ours now.
            let (again, socket, begun) = unsafe {
                ((*conn).deadline.load(Ordering::Relaxed), (*conn).socket, (*conn).begun)
            };
            let stream = TcpStream::from(socket);
            // It may have been served in between.
            if again == 0 || again > now {
                self.give_back(&stream);
                continue;
            }
            if begun != 0 {
                self.answer(&stream, 408, Method::Get, false, &[], Body::Words);
            }
            self.drop_file(&stream);
            self.count(LATE, 1);
            stream.close(&self.warp);
        }
    }
}

impl Files<'_> {
    fn at(&self, index: usize) -> *mut Conn {
        assert!((index + 1) * CONN_WORDS <= self.args.conns.len(), "too few records");
        self.args.conns.slice(index * CONN_WORDS, CONN_WORDS).as_ptr().cast()
    }

    fn conn(&self, stream: &TcpStream) -> *mut Conn {
        self.at(stream.index() as usize)
    }

    fn count(&self, which: usize, n: u64) {
        if self.warp.is_leader() {
            self.args.server.count(which, n);
        }
    }

    /// Asks the host what time it is. It need not ask again for each answer: the device's clock goes on.
    pub(super) fn look_at_the_clock(&self) {
        let Ok(now) = self.fs.now(&self.warp) else { return };
        let epoch = (now.as_nanos() as u64).saturating_sub(gpu_rt::clock());
        self.args.server.shared().epoch.store(epoch, Ordering::Relaxed);
    }

    /// The head of an answer, as all of them begin.
    fn head(&self, status: u16) -> Reply {
        let mut reply = Reply::new(status);
        let epoch = self.args.server.shared().epoch.load(Ordering::Relaxed);
        if epoch != 0 {
            let now = (epoch + gpu_rt::clock()) / 1_000_000_000;
            reply.text(b"Date: ").text(&fields::date(now)).text(b"\r\n");
        }
        reply
    }

    /// Makes a connection ours, if it is nobody's.
    fn own(&self, conn: *mut Conn) -> bool {
        let mut ours = 0u32;
        if self.warp.is_leader() {
            // SAFETY: a record of the array; the word is atomic.
            let owner = unsafe { &(*conn).owner };
            // Acquire: pairs with the release of whoever had it before.
            let taken = owner.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed);
            ours = u32::from(taken.is_ok());
        }
        self.warp.broadcast(ours) != 0
    }

    fn give_back(&self, stream: &TcpStream) {
        self.warp.sync();
        if self.warp.is_leader() {
            // SAFETY: ours until this store. Release: pairs with the acquire in `own`.
            unsafe { (*self.conn(stream)).owner.store(0, Ordering::Release) };
        }
    }

    /// Changes the record, which is ours, by the leader.
    fn update(&self, stream: &TcpStream, change: impl FnOnce(&mut Conn)) {
        self.warp.sync();
        if self.warp.is_leader() {
            // SAFETY: ours; the other lanes do not look before the next meeting.
            change(unsafe { &mut *self.conn(stream) });
        }
        self.warp.sync();
    }

    fn set_deadline(&self, stream: &TcpStream, ns: u64) {
        self.update(stream, |conn| {
            conn.deadline.store(gpu_rt::clock() + ns, Ordering::Relaxed);
        });
    }

    fn drop_file(&self, stream: &TcpStream) {
        // SAFETY: ours.
        let (left, file) = unsafe { ((*self.conn(stream)).left, (*self.conn(stream)).file) };
        self.update(stream, |conn| {
            conn.left = 0;
            conn.deadline.store(0, Ordering::Relaxed);
        });
        if left > 0 {
            // SAFETY: bytes are left, so that there is a file.
            unsafe { file.assume_init() }.close(&self.warp).ok();
        }
    }

    /// Sends more of an answer, or takes the next request.
    // Nor these, into each other.
    #[inline(never)]
    fn go_on(&self, stream: &TcpStream) -> Step {
        // SAFETY: ours.
        if unsafe { (*self.conn(stream)).left } > 0 {
            return self.send_more(stream);
        }
        let view = match stream.try_recv_view(&self.warp) {
            Ok(view) if view.is_empty() => return Step::Failed,
            Ok(view) => view,
            Err(Errno::EAGAIN) => {
                self.update(stream, |conn| conn.begun = 0);
                self.set_deadline(stream, self.args.idle_ns);
                return Step::Wait(Interest::Readable);
            }
            Err(_) => return Step::Failed,
        };
        let bytes = Bytes::new(view.slices());
        let parsed = match head::parse(&bytes) {
            // It can never become whole.
            Parsed::More if bytes.len() == self.args.server.net.ring_size() => Parsed::Refused(431),
            Parsed::More if view.is_last() => Parsed::Refused(400),
            parsed => parsed,
        };
        match parsed {
            Parsed::More => {
                let seen = view.len() as u32;
                drop(view);
                // SAFETY: ours.
                if unsafe { (*self.conn(stream)).begun } == 0 {
                    self.update(stream, |conn| conn.begun = 1);
                    self.set_deadline(stream, self.args.head_ns);
                }
                Step::Wait(Interest::Beyond(seen))
            }
            Parsed::Refused(status) => {
                let all = view.len();
                let step = self.answer(stream, status, Method::Get, false, &[], Body::Words);
                if matches!(step, Step::Done) {
                    view.consume(all);
                    return Step::Failed;
                }
                step
            }
            Parsed::Head(head) => {
                let step = self.request(stream, &bytes, &head);
                // Without room for the answer's head the request stays where it is.
                if matches!(step, Step::Done) {
                    view.consume(head.len);
                    self.update(stream, |conn| conn.begun = 0);
                    // SAFETY: ours.
                    let conn = unsafe { &*self.conn(stream) };
                    if conn.left == 0 && conn.keep_alive == 0 {
                        return Step::Failed;
                    }
                }
                step
            }
        }
    }

    /// Answers a request, as far as there is room.
    #[inline(never)]
    fn request(&self, stream: &TcpStream, bytes: &Bytes<'_>, head: &Head) -> Step {
        let refuse = |status, path: &[u8]| {
            self.answer(stream, status, head.method, head.keep_alive, path, Body::Words)
        };
        let path = match target::resolve(&bytes.span(head.target)) {
            Ok(path) => path,
            Err(status) => return refuse(status, &[]),
        };
        let opened = match self.open(&path) {
            Ok((file, info)) if info.is_dir() => {
                file.close(&self.warp).ok();
                if !path.is_dir {
                    return refuse(301, path.as_bytes());
                }
                path.join(b"index.html").and_then(|index| match self.open(&index) {
                    // There is a directory, but nothing to show of it.
                    Err(404) => Err(403),
                    opened => opened.map(|(file, info)| (file, info, index)),
                })
            }
            // What is no directory has nothing below it.
            Ok((file, _)) if path.is_dir => {
                file.close(&self.warp).ok();
                Err(404)
            }
            opened => opened.map(|(file, info)| (file, info, path)),
        };
        match opened {
            Ok((file, info, path)) if info.is_file() => {
                self.file(stream, bytes, head, &path, file, &info)
            }
            Ok((file, ..)) => {
                file.close(&self.warp).ok();
                refuse(403, &[])
            }
            Err(status) => refuse(status, &[]),
        }
    }

    fn open(&self, path: &Path) -> Result<(File, FileInfo), u16> {
        let options = OpenOptions::new();
        match self.fs.open(&self.warp, path.as_bytes(), options) {
            Ok(file) => Ok((file, file.stat())),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENAMETOOLONG) => Err(404),
            Err(Errno::EACCES | Errno::EPERM) => Err(403),
            Err(Errno::EMFILE | Errno::ENFILE | Errno::EAGAIN | Errno::EBUSY) => Err(503),
            Err(_) => Err(500),
        }
    }

    fn file(
        &self,
        stream: &TcpStream,
        bytes: &Bytes<'_>,
        head: &Head,
        path: &Path,
        file: File,
        info: &FileInfo,
    ) -> Step {
        let modified = (info.mtime_ns / 1_000_000_000).max(0) as u64;
        let size = file.size();
        let date = |span| fields::parse_date(&bytes.span(span));
        let known = head.if_modified_since.and_then(date);
        // A range of what has changed since is of no use to whoever has the rest.
        let same = head.if_range.is_none_or(|span| date(span) == Some(modified));
        let range = match head.range {
            Some(span) if same => fields::range(&bytes.span(span), size),
            _ => Range::Whole,
        };
        let (status, start, len) = match range {
            _ if known.is_some_and(|known| modified <= known) => (304, 0, 0),
            Range::Whole => (200, 0, size),
            Range::Part { start, len } => (206, start, len),
            Range::Unsatisfiable => (416, 0, 0),
        };
        let mut reply = self.head(status);
        reply.text(b"Last-Modified: ").text(&fields::date(modified)).text(b"\r\n");
        if status != 304 {
            reply.text(b"Accept-Ranges: bytes\r\nContent-Length: ").number(len).text(b"\r\n");
        }
        if status < 300 {
            let kind = fields::content_type(path.as_bytes());
            reply.text(b"Content-Type: ").text(kind).text(b"\r\n");
        }
        match status {
            206 => {
                reply.text(b"Content-Range: bytes ").number(start).text(b"-");
                reply.number(start + len - 1).text(b"/").number(size).text(b"\r\n");
            }
            416 => {
                reply.text(b"Content-Range: bytes */").number(size).text(b"\r\n");
            }
            _ => {}
        }
        let len = if head.method == Method::Head { 0 } else { len };
        self.reply(stream, &mut reply, status, head.keep_alive, Body::File(file, start, len))
    }

    /// An answer without a file.
    fn answer(
        &self,
        stream: &TcpStream,
        status: u16,
        method: Method,
        keep_alive: bool,
        path: &[u8],
        body: Body,
    ) -> Step {
        let mut reply = self.head(status);
        if status == 301 {
            reply.text(b"Location: ").path(path).text(b"/\r\n");
        }
        if status == 405 {
            reply.text(b"Allow: GET, HEAD\r\n");
        }
        reply.text(b"Content-Type: text/plain\r\nContent-Length: ");
        reply.number(reason(status).len() as u64 + 1).text(b"\r\n");
        let body = if method == Method::Head { Body::None } else { body };
        self.reply(stream, &mut reply, status, keep_alive, body)
    }

    /// Sends a head, and as much of a body as there is room for. The file is closed when it is no longer
    /// needed.
    fn reply(
        &self,
        stream: &TcpStream,
        reply: &mut Reply,
        status: u16,
        keep_alive: bool,
        body: Body,
    ) -> Step {
        reply.text(if keep_alive { b"\r\n" } else { b"Connection: close\r\n\r\n" });
        if matches!(body, Body::Words) {
            reply.text(reason(status)).text(b"\n");
        }
        let head = reply.as_bytes();
        let view = match stream.try_send_view(&self.warp, head.len()) {
            Ok(view) => view,
            Err(e) => {
                if let Body::File(file, ..) = body {
                    file.close(&self.warp).ok();
                }
                if e != Errno::EAGAIN {
                    return Step::Failed;
                }
                self.set_deadline(stream, self.args.idle_ns);
                return Step::Wait(Interest::Room(head.len() as u32));
            }
        };
        self.count(REQUESTS, 1);
        if status >= 400 {
            self.count(REFUSED, 1);
        }
        view.put(head);
        self.update(stream, |conn| conn.keep_alive = keep_alive.into());
        match body {
            Body::File(file, offset, len) if len > 0 => {
                self.fill(stream, view, head.len(), file, offset, len)
            }
            Body::File(file, ..) => {
                view.commit(head.len());
                file.close(&self.warp).ok();
                Step::Done
            }
            Body::None | Body::Words => {
                view.commit(head.len());
                Step::Done
            }
        }
    }

    /// Reads bytes of a file into the rest of a view, after `skip` bytes, and sends them; what is left is
    /// noted.
    fn fill(
        &self,
        stream: &TcpStream,
        view: SendView<Warp>,
        skip: usize,
        file: File,
        mut offset: u64,
        mut left: u64,
    ) -> Step {
        let (mut done, mut before) = (skip, skip);
        let mut failed = false;
        for part in view.slices() {
            let part_skip = before.min(part.len());
            before -= part_skip;
            let room = ((part.len() - part_skip) as u64).min(left) as usize;
            if room == 0 || failed {
                continue;
            }
            let place = DeviceSlice::<u8>::new(part.addr() + part_skip as u64, room as u64);
            // A file that has become shorter than the length that was promised.
            match file.read_at(&self.warp, place, offset) {
                Ok(n) if n == room => {}
                _ => failed = true,
            }
            if !failed {
                done += room;
                offset += room as u64;
                left -= room as u64;
            }
        }
        self.count(BYTES, (done - skip) as u64);
        view.commit(done);
        if failed || left == 0 {
            self.update(stream, |conn| conn.left = 0);
            file.close(&self.warp).ok();
            return if failed { Step::Failed } else { Step::Done };
        }
        self.update(stream, |conn| {
            (conn.left, conn.offset) = (left, offset);
            conn.file = MaybeUninit::new(file);
        });
        Step::Done
    }

    /// Sends more of a file.
    #[inline(never)]
    fn send_more(&self, stream: &TcpStream) -> Step {
        // SAFETY: ours.
        let conn = unsafe { &*self.conn(stream) };
        let (left, offset, keep_alive) = (conn.left, conn.offset, conn.keep_alive);
        // SAFETY: bytes are left, so that there is a file.
        let file = unsafe { conn.file.assume_init() };
        // Not for every few bytes that the peer has taken.
        let least = left.min(self.args.server.net.ring_size() as u64 / 4) as u32;
        match stream.try_send_view(&self.warp, least as usize) {
            Ok(view) => {
                let step = self.fill(stream, view, 0, file, offset, left);
                // SAFETY: ours.
                let over = unsafe { (*self.conn(stream)).left } == 0;
                if matches!(step, Step::Done) && over && keep_alive == 0 {
                    return Step::Failed;
                }
                step
            }
            Err(Errno::EAGAIN) => {
                self.set_deadline(stream, self.args.idle_ns);
                Step::Wait(Interest::Room(least))
            }
            Err(_) => Step::Failed,
        }
    }
}
