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
use core::ops::Deref;
use gpu_rt::atomic::{DeviceAtomicU32, DeviceAtomicU64, Ordering};
use gpu_rt::{Group, Warp};
use gpufs::{DeviceSlice, Errno, File, Fs, OpenOptions};
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

/// A connection that is ours: whatever is done for it is told its record, and reads there what it needs. On a GPU what was
/// passed on from call to call would be kept in registers all the way.
#[derive(Clone, Copy)]
struct Ours(*mut Conn);

impl Deref for Ours {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        // SAFETY: a record of the array, and ours; the leader alone changes it, between two meetings.
        unsafe { &*self.0 }
    }
}

impl Ours {
    fn stream(self) -> TcpStream {
        TcpStream::from(self.socket)
    }

    /// The file of which bytes are left, or were.
    ///
    /// # Safety
    /// There is one: it has been noted since the connection was taken.
    unsafe fn file(self) -> File {
        // SAFETY: the caller's promise.
        unsafe { self.file.assume_init() }
    }
}

/// The service.
pub(super) struct Files<'a> {
    pub(super) args: &'a Http,
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
        let Some(conn) = self.own(self.conn(stream)) else { return Outcome::Left };
        let interest = loop {
            match self.go_on(conn) {
                Step::Done => {}
                Step::Wait(interest) => break interest,
                Step::Failed => {
                    self.drop_file(conn);
                    return Outcome::Done;
                }
            }
        };
        self.give_back(conn);
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
            if deadline == 0 || deadline > now {
                continue;
            }
            let Some(conn) = self.own(conn) else { continue };
            // It may have been served in between.
            let again = conn.deadline.load(Ordering::Relaxed);
            if again == 0 || again > now {
                self.give_back(conn);
                continue;
            }
            if conn.begun != 0 {
                self.answer(conn, 408, Method::Get, false, &[], Body::Words);
            }
            self.drop_file(conn);
            self.count(LATE, 1);
            conn.stream().close(&self.warp);
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

    fn fs(&self) -> Fs {
        bytemuck::cast(self.args.fs)
    }

    fn count(&self, which: usize, n: u64) {
        if self.warp.is_leader() {
            self.args.server.count(which, n);
        }
    }

    /// Asks the host what time it is. It need not ask again for each answer: the device's clock goes on.
    pub(super) fn look_at_the_clock(&self) {
        let Ok(now) = self.fs().now(&self.warp) else { return };
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
    fn own(&self, conn: *mut Conn) -> Option<Ours> {
        let mut ours = 0u32;
        if self.warp.is_leader() {
            // SAFETY: a record of the array; the word is atomic.
            let owner = unsafe { &(*conn).owner };
            // Acquire: pairs with the release of whoever had it before.
            let taken = owner.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed);
            ours = u32::from(taken.is_ok());
        }
        (self.warp.broadcast(ours) != 0).then_some(Ours(conn))
    }

    fn give_back(&self, conn: Ours) {
        self.warp.sync();
        if self.warp.is_leader() {
            // Release: pairs with the acquire in `own`.
            conn.owner.store(0, Ordering::Release);
        }
    }

    /// Changes the record by the leader.
    fn update(&self, conn: Ours, change: impl FnOnce(&mut Conn)) {
        self.warp.sync();
        if self.warp.is_leader() {
            // SAFETY: ours; the other lanes do not look before the next meeting.
            change(unsafe { &mut *conn.0 });
        }
        self.warp.sync();
    }

    fn set_deadline(&self, conn: Ours, ns: u64) {
        self.update(conn, |conn| {
            conn.deadline.store(gpu_rt::clock() + ns, Ordering::Relaxed);
        });
    }

    fn drop_file(&self, conn: Ours) {
        let left = conn.left;
        self.update(conn, |conn| {
            conn.left = 0;
            conn.deadline.store(0, Ordering::Relaxed);
        });
        if left > 0 {
            // SAFETY: bytes are left, so that there is a file.
            unsafe { conn.file() }.close(&self.warp).ok();
        }
    }

    /// Sends more of an answer, or takes the next request.
    // Nor these, into each other.
    #[inline(never)]
    fn go_on(&self, conn: Ours) -> Step {
        if conn.left > 0 {
            return self.send_more(conn);
        }
        let view = match conn.stream().try_recv_view(&self.warp) {
            Ok(view) if view.is_empty() => return Step::Failed,
            Ok(view) => view,
            Err(Errno::EAGAIN) => {
                self.update(conn, |conn| conn.begun = 0);
                self.set_deadline(conn, self.args.idle_ns);
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
                if conn.begun == 0 {
                    self.update(conn, |conn| conn.begun = 1);
                    self.set_deadline(conn, self.args.head_ns);
                }
                Step::Wait(Interest::Beyond(seen))
            }
            Parsed::Refused(status) => {
                let all = view.len();
                let step = self.answer(conn, status, Method::Get, false, &[], Body::Words);
                if matches!(step, Step::Done) {
                    view.consume(all);
                    return Step::Failed;
                }
                step
            }
            Parsed::Head(head) => {
                let step = self.request(conn, &bytes, &head);
                // Without room for the answer's head the request stays where it is.
                if matches!(step, Step::Done) {
                    view.consume(head.len);
                    self.update(conn, |conn| conn.begun = 0);
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
    fn request(&self, conn: Ours, bytes: &Bytes<'_>, head: &Head) -> Step {
        let mut path = match target::resolve(&bytes.span(head.target)) {
            Ok(path) => path,
            Err(status) => return self.refuse(conn, status, head, &[]),
        };
        match self.find(&mut path) {
            Ok(file) => self.file(conn, bytes, head, &path, &file),
            Err(status) => self.refuse(conn, status, head, path.as_bytes()),
        }
    }

    fn refuse(&self, conn: Ours, status: u16, head: &Head, path: &[u8]) -> Step {
        self.answer(conn, status, head.method, head.keep_alive, path, Body::Words)
    }

    /// The file of a path, which becomes that of the index if it is a directory's.
    #[inline(never)]
    fn find(&self, path: &mut Path) -> Result<File, u16> {
        let file = self.open(path)?;
        let info = file.stat();
        if info.is_file() && !path.is_dir {
            return Ok(file);
        }
        file.close(&self.warp).ok();
        match (info.is_dir(), path.is_dir) {
            (true, true) => {}
            (true, false) => return Err(301),
            // What is no directory has nothing below it.
            (false, true) => return Err(404),
            (false, false) => return Err(403),
        }
        path.join(b"index.html")?;
        // There is a directory, but nothing to show of it.
        let index = self.open(path).map_err(|status| if status == 404 { 403 } else { status })?;
        if index.stat().is_file() {
            return Ok(index);
        }
        index.close(&self.warp).ok();
        Err(403)
    }

    fn open(&self, path: &Path) -> Result<File, u16> {
        self.fs().open(&self.warp, path.as_bytes(), OpenOptions::new()).map_err(|e| match e {
            Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENAMETOOLONG => 404,
            Errno::EACCES | Errno::EPERM => 403,
            Errno::EMFILE | Errno::ENFILE | Errno::EAGAIN | Errno::EBUSY => 503,
            _ => 500,
        })
    }

    #[inline(never)]
    fn file(&self, conn: Ours, bytes: &Bytes<'_>, head: &Head, path: &Path, file: &File) -> Step {
        let info = file.stat();
        let modified = (info.mtime_ns / 1_000_000_000).max(0) as u64;
        let size = info.size;
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
        self.reply(conn, &mut reply, status, head.keep_alive, Body::File(*file, start, len))
    }

    /// An answer without a file.
    fn answer(
        &self,
        conn: Ours,
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
        self.reply(conn, &mut reply, status, keep_alive, body)
    }

    /// Sends a head, and as much of a body as there is room for. The file is closed when it is no longer
    /// needed.
    #[inline(never)]
    fn reply(
        &self,
        conn: Ours,
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
        let view = match conn.stream().try_send_view(&self.warp, head.len()) {
            Ok(view) => view,
            Err(e) => {
                if let Body::File(file, ..) = body {
                    file.close(&self.warp).ok();
                }
                if e != Errno::EAGAIN {
                    return Step::Failed;
                }
                self.set_deadline(conn, self.args.idle_ns);
                return Step::Wait(Interest::Room(head.len() as u32));
            }
        };
        self.count(REQUESTS, 1);
        if status >= 400 {
            self.count(REFUSED, 1);
        }
        view.put(head);
        self.update(conn, |conn| {
            conn.keep_alive = keep_alive.into();
            if let Body::File(file, offset, len) = body {
                (conn.file, conn.offset, conn.left) = (MaybeUninit::new(file), offset, len);
            }
        });
        if let Body::File(..) = body {
            return self.fill(conn, view, head.len());
        }
        view.commit(head.len());
        Step::Done
    }

    /// Reads the bytes that are left of a file into a view, behind the first `skip`, and sends it; what is left then is
    /// noted.
    #[inline(never)]
    fn fill(&self, conn: Ours, view: SendView<Warp>, skip: usize) -> Step {
        let end = skip + (view.len() - skip).min(conn.left as usize);
        let mut done = skip;
        while done < end {
            let at = conn.offset + (done - skip) as u64;
            // SAFETY: noted by `reply`, for this view or for one before.
            match unsafe { conn.file() }.read_at(&self.warp, room(&view, done, end), at) {
                Ok(n) if n > 0 => done += n,
                // A file that has become shorter than the length that was promised.
                _ => break,
            }
        }
        let sent = (done - skip) as u64;
        self.count(BYTES, sent);
        view.commit(done);
        let failed = done < end;
        let left = if failed { 0 } else { conn.left - sent };
        self.update(conn, |conn| {
            conn.left = left;
            conn.offset += sent;
        });
        if left == 0 {
            // SAFETY: as above.
            unsafe { conn.file() }.close(&self.warp).ok();
        }
        if failed { Step::Failed } else { Step::Done }
    }

    /// Sends more of a file.
    #[inline(never)]
    fn send_more(&self, conn: Ours) -> Step {
        // Not for every few bytes that the peer has taken.
        let least = conn.left.min(self.args.server.net.ring_size() as u64 / 4) as u32;
        match conn.stream().try_send_view(&self.warp, least as usize) {
            Ok(view) => {
                let step = self.fill(conn, view, 0);
                if matches!(step, Step::Done) && conn.left == 0 && conn.keep_alive == 0 {
                    return Step::Failed;
                }
                step
            }
            Err(Errno::EAGAIN) => {
                self.set_deadline(conn, self.args.idle_ns);
                Step::Wait(Interest::Room(least))
            }
            Err(_) => Step::Failed,
        }
    }
}

/// Where the bytes of a view lie from one place to another, as far as they lie side by side.
#[inline(never)]
fn room(view: &SendView<Warp>, from: usize, to: usize) -> DeviceSlice<u8> {
    let [first, second] = view.slices();
    match from.checked_sub(first.len()) {
        None => first.slice(from, to - from),
        Some(from_second) => second.slice(from_second, to - from),
    }
}
