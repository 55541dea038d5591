//! The web server, byte for byte: requests by an ordinary socket, answers compared with the files.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gpu_examples::serve::Running;
use gpu_host::{DeviceBuffer, EmulatedOptions, LaunchConfig, Session};
use gpu_kernels::http::bytes::Bytes;
use gpu_kernels::http::fields::parse_date;
use gpu_kernels::http::{CONN_WORDS, Http, LATE, REQUESTS, http};

const SECOND: u64 = 1_000_000_000;

struct Server {
    session: Session,
    running: Option<Running>,
    addr: SocketAddr,
    _conns: DeviceBuffer<u64>,
}

impl Server {
    fn start(root: &Path, head_ns: u64) -> Server {
        let session = Session::builder()
            .emulated(EmulatedOptions { workers: 1, ..EmulatedOptions::default() })
            .sockets(32)
            .socket_ring(16 << 10)
            .root(root)
            .build()
            .unwrap();
        let conns = session.alloc::<u64>(32 * CONN_WORDS + 8).unwrap();
        let addr = (Ipv4Addr::LOCALHOST, 0).into();
        let shape = LaunchConfig::new(4, 1);
        let running = Running::start(&session, &http, shape, addr, |server| Http {
            server,
            fs: bytemuck::cast(session.fs()),
            conns: conns.slice(),
            head_ns,
            idle_ns: 60 * SECOND,
        })
        .unwrap();
        let addr = running.addr;
        Server { session, running: Some(running), addr, _conns: conns }
    }

    /// Sends bytes, ends sending, and returns all that comes back.
    fn ask(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    fn get(&self, target: &str, fields: &str) -> (u16, String, Vec<u8>) {
        let request =
            format!("GET {target} HTTP/1.1\r\nHost: x\r\n{fields}Connection: close\r\n\r\n");
        split(&self.ask(request.as_bytes()))
    }

    fn end(mut self) -> [u64; 8] {
        self.session.ask_to_end();
        self.running.take().unwrap().wait().unwrap().1
    }
}

/// Status, head and body of an answer.
fn split(answer: &[u8]) -> (u16, String, Vec<u8>) {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("a head") + 4;
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    (head[9..12].parse().unwrap(), head, answer[end..].to_vec())
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn tree() -> (tempfile::TempDir, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let large: Vec<u8> = (0..300_000u32).map(|i| ((i / 7) ^ i) as u8).collect();
    std::fs::create_dir_all(dir.path().join("root/sub dir/empty")).unwrap();
    let root = dir.path().join("root");
    std::fs::write(root.join("a.txt"), b"hello\n").unwrap();
    std::fs::write(root.join("large"), &large).unwrap();
    std::fs::write(root.join("sub dir/index.html"), b"<p>index").unwrap();
    std::fs::write(root.join("nothing"), b"").unwrap();
    std::fs::write(dir.path().join("secret"), b"secret").unwrap();
    std::os::unix::fs::symlink("../secret", root.join("link")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", root.join("absolute")).unwrap();
    (dir, large)
}

#[test]
fn files_ranges_and_heads() {
    let (dir, large) = tree();
    let server = Server::start(&dir.path().join("root"), 10 * SECOND);
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let before = now();
    let (status, head, body) = server.get("/a.txt", "");
    let date = field(&head, "Date").unwrap().as_bytes();
    let date = parse_date(&Bytes::new([date, b""])).unwrap();
    // The two clocks are not read at once.
    assert!((before - 1..=now()).contains(&date), "{before} {date}");
    assert_eq!((status, &body[..]), (200, &b"hello\n"[..]));
    assert_eq!(field(&head, "Content-Type"), Some("text/plain; charset=utf-8"));
    assert_eq!(server.get("/large", "").2, large);
    assert_eq!(server.get("/sub%20dir/", "").2, b"<p>index");
    assert_eq!(server.get("/nothing", "").0, 200);
    let (status, head, _) = server.get("/sub%20dir", "");
    assert_eq!((status, field(&head, "Location")), (301, Some("/sub%20dir/")));
    assert_eq!(server.get("/sub%20dir/empty/", "").0, 403);
    for missing in ["/no", "/a.txt/", "/a.txt/b", "/sub%20dir/no"] {
        assert_eq!(server.get(missing, "").0, 404, "{missing}");
    }

    let (status, head, body) = server.get("/large", "Range: bytes=1000-200999\r\n");
    assert_eq!((status, &body[..]), (206, &large[1000..201_000]));
    assert_eq!(field(&head, "Content-Range"), Some("bytes 1000-200999/300000"));
    assert_eq!(server.get("/large", "Range: bytes=-5\r\n").2, large[299_995..]);
    assert_eq!(server.get("/large", "Range: bytes=300000-\r\n").0, 416);

    let modified = field(&head, "Last-Modified").unwrap();
    let (status, _, body) = server.get("/large", &format!("If-Modified-Since: {modified}\r\n"));
    assert_eq!((status, body.len()), (304, 0));
    let old = "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    assert_eq!(server.get("/large", old).0, 200);
    let range = format!("Range: bytes=0-0\r\nIf-Range: {modified}\r\n");
    assert_eq!(server.get("/large", &range).0, 206);
    let range = "Range: bytes=0-0\r\nIf-Range: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    assert_eq!(server.get("/large", range).0, 200);

    let answer = server.ask(b"HEAD /large HTTP/1.0\r\n\r\n");
    let (status, head, body) = split(&answer);
    assert_eq!((status, field(&head, "Content-Length"), body.len()), (200, Some("300000"), 0));
    server.end();
}

#[test]
fn nothing_outside_the_root_is_served() {
    let (dir, _) = tree();
    let server = Server::start(&dir.path().join("root"), 10 * SECOND);
    for target in [
        "/../secret",
        "/%2e%2e/secret",
        "/..%2fsecret",
        "/a/../../secret",
        "/sub%20dir/../../secret",
        "/link",
        "/absolute",
        "/....//secret",
        "/%00",
        "/..\\secret",
    ] {
        let (status, _, body) = server.get(target, "");
        assert!(status >= 400, "{target}: {status}");
        assert!(!body.windows(6).any(|w| w == b"secret") && !body.windows(4).any(|w| w == b"root"));
    }
    server.end();
}

#[test]
fn requests_follow_each_other_however_they_are_cut() {
    let (dir, large) = tree();
    let server = Server::start(&dir.path().join("root"), 10 * SECOND);
    let one = "GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n";
    let all = format!("{one}{one}GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n{one}");
    let whole = server.ask(all.as_bytes());
    assert!(whole.ends_with(&large), "what follows a last request is not answered");
    assert_eq!(String::from_utf8_lossy(&whole).matches("HTTP/1.1 200 OK").count(), 3);
    // Byte by byte.
    let mut stream = server.connect();
    stream.set_nodelay(true).unwrap();
    for byte in all.as_bytes().chunks(3) {
        stream.write_all(byte).unwrap();
    }
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    assert!(got == whole);
    // Thirty answers that nobody reads at first: more than the rings hold.
    let large_one = "GET /large HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut stream = server.connect();
    stream.write_all(large_one.repeat(30).as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    // The others are served all the same.
    assert_eq!(server.get("/a.txt", "").0, 200);
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    let head = got.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(got.len(), 30 * (head + large.len()));
    let counts = server.end();
    assert_eq!(counts[REQUESTS], 3 + 3 + 30 + 1);
}

#[test]
fn what_is_no_request_is_refused_and_nothing_is_smuggled() {
    let (dir, _) = tree();
    let server = Server::start(&dir.path().join("root"), 10 * SECOND);
    let inner = "GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n";
    for (outer, status) in [
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 35\r\n\r\n", 405),
        ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 35\r\n\r\n", 413),
        ("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
        (
            "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 35\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n", 400),
        ("GET / HTTP/1.1\nHost: x\n\n", 400),
        ("\0\u{1}\u{2}garbage\r\n\r\n", 400),
    ] {
        let answer = server.ask(format!("{outer}{inner}").as_bytes());
        let text = String::from_utf8_lossy(&answer);
        assert_eq!(split(&answer).0, status, "{outer:?}");
        assert_eq!(text.matches("HTTP/1.1").count(), 1, "{outer:?}: {text}");
    }
    let long = "x".repeat(20_000);
    assert_eq!(split(&server.ask(long.as_bytes())).0, 414);
    let fields = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(2000));
    assert_eq!(split(&server.ask(fields.as_bytes())).0, 431);
    let cut = server.ask(b"GET /a.txt HTTP/1.1\r\nHos");
    assert_eq!(split(&cut).0, 400, "its end will never come");
    assert_eq!(server.get("/a.txt", "").0, 200, "others are unharmed");
    assert_eq!(server.end()[LATE], 0);
}

#[test]
fn a_head_that_takes_too_long_ends_its_connection_only() {
    let (dir, _) = tree();
    let server = Server::start(&dir.path().join("root"), SECOND / 5);
    let mut slow: Vec<TcpStream> = (0..8).map(|_| server.connect()).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /a.txt HTTP/1.1\r\nHos").unwrap();
    }
    assert_eq!(server.get("/a.txt", "").0, 200);
    for stream in &mut slow {
        let mut all = Vec::new();
        match stream.read_to_end(&mut all) {
            Ok(_) => assert_eq!(split(&all).0, 408),
            Err(e) => assert_eq!(e.kind(), ErrorKind::ConnectionReset),
        }
    }
    assert_eq!(server.end()[LATE], 8);
}
