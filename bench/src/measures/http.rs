//! Static files over HTTP: a server in a kernel beside nginx.

use super::Measure;
use super::net::{Ours, localhost};
use crate::Result;
use crate::row::{Aim, Better, Row};
use crate::scale::Scale;
use crate::stats::{Side, in_turns};
use crate::tool::{self, NGINX, WRK};
use gpu_examples::serve::Running;
use gpu_host::{DeviceBuffer, LaunchConfig, Session};
use gpu_kernels::http::{CONN_WORDS, Http, http};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Requests a second.
pub(crate) const HTTP: Measure = Measure {
    name: "http",
    what: "the example `http` beside nginx, a worker per core, both with their logs off; wrk asks",
    commands: |_| vec![tool::shown(Path::new("wrk"), &wrk_args("http://ADDR/FILE", 1.0))],
    run: rows,
};

/// The files, by name and length.
const FILES: [(&str, usize); 2] = [("1k", 1 << 10), ("100k", 100 << 10)];
const CONNECTIONS: &str = "256";

fn wrk_args(url: &str, seconds: f64) -> Vec<String> {
    let seconds = format!("{}s", seconds.ceil());
    // An answer that comes late is one that came.
    ["-c", CONNECTIONS, "-t", "1", "-d", &seconds, "--timeout", "20s", url]
        .map(str::to_owned)
        .to_vec()
}

/// The kernel, eight warps of one thread on all cores, and what it keeps of connections.
fn start(root: &Path) -> Result<(DeviceBuffer<u64>, Ours)> {
    let session = Session::builder().sockets(512).root(root).build()?;
    let conns = session.alloc::<u64>(session.net().sockets() as usize * CONN_WORDS)?;
    let second = 1_000_000_000;
    let shape = LaunchConfig::new(8, 1);
    let running = Running::start(&session, &http, shape, localhost(), |server| Http {
        server,
        fs: bytemuck::cast(session.fs()),
        conns: conns.slice(),
        head_ns: 10 * second,
        idle_ns: 30 * second,
    })
    .map_err(|e| format!("{e:?}"))?;
    Ok((conns, Ours::of(session, running)))
}

/// nginx, with what its documentation advises for static files.
struct Nginx {
    process: Child,
    addr: SocketAddr,
}

impl Nginx {
    fn start(root: &Path, dir: &Path) -> Result<Nginx> {
        let program = NGINX.find()?;
        // A port that was free just now.
        let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let place = dir.display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|what| format!("{what}_temp_path {place}/{what};\n"))
            .collect();
        // Its workers would be somebody else, who may not come here.
        let user = if fs::metadata(dir)?.uid() == 0 { "user root;" } else { "" };
        let config = format!(
            "{user} daemon off; worker_processes auto; pid {place}/pid; error_log {place}/error;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000;\n\
             open_file_cache max=100; {temporary}\
             server {{ listen {addr}; root {}; }} }}\n",
            root.display()
        );
        let file = dir.join("nginx.conf");
        fs::write(&file, config)?;
        let process = Command::new(program)
            .args(["-p".as_ref(), dir.as_os_str(), "-c".as_ref(), file.as_os_str()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let nginx = Nginx { process, addr };
        let start = Instant::now();
        while TcpStream::connect(addr).is_err() {
            if start.elapsed() > Duration::from_secs(5) {
                let why = fs::read_to_string(dir.join("error")).unwrap_or_default();
                return Err(format!("nginx does not listen: {why}").into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(nginx)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers end with it, if it is told to end and not killed.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}

/// Whether a server answers with these bytes.
fn check(addr: SocketAddr, name: &str, bytes: &[u8]) -> Result<()> {
    let mut stream = TcpStream::connect(addr)?;
    write!(stream, "GET /{name} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    if answer.starts_with(b"HTTP/1.1 200 OK\r\n") && answer.ends_with(bytes) {
        return Ok(());
    }
    Err(format!("{addr} answers otherwise than with {name}").into())
}

/// Requests a second, in thousands.
fn rate(addr: SocketAddr, name: &str, seconds: f64) -> Result<f64> {
    let args = wrk_args(&format!("http://{addr}/{name}"), seconds);
    let ran = tool::run(&WRK.find()?, &args, Path::new("/"), &[0])?;
    let said = String::from_utf8_lossy(&ran.out);
    let after = |what: &str| said.split_once(what).map(|(_, rest)| rest.trim_start());
    if after("Socket errors:").or(after("Non-2xx")).is_some() {
        return Err(format!("not every request was answered:\n{said}").into());
    }
    let rate = after("Requests/sec:").and_then(|rest| rest.split_whitespace().next());
    let rate: f64 = rate.and_then(|rate| rate.parse().ok()).ok_or("wrk tells no rate")?;
    Ok(rate / 1e3)
}

fn rows(scale: &Scale) -> Result<Vec<Row>> {
    WRK.find()?;
    let seconds = (scale.requests as f64 / 5e5).clamp(1.0, 2.0);
    let dir = scale.dir.join("http");
    let root = dir.join("root");
    fs::create_dir_all(&root)?;
    let (dir, root) = (dir.canonicalize()?, root.canonicalize()?);
    let mut contents = Vec::new();
    for (name, len) in FILES {
        let bytes: Vec<u8> = (0..len).map(|at| (at * 31 + at / 251) as u8).collect();
        fs::write(root.join(name), &bytes)?;
        contents.push(bytes);
    }
    let nginx = Nginx::start(&root, &dir)?;
    // What is declared last is dropped first: the kernel ends before its memory goes.
    let (_conns, ours) = start(&root)?;
    let mut rows = Vec::new();
    for ((name, _), bytes) in FILES.into_iter().zip(&contents) {
        check(nginx.addr, name, bytes)?;
        check(ours.addr, name, bytes)?;
        let side = |addr| -> Side<'_> { Box::new(move || rate(addr, name, seconds)) };
        let [own, theirs] = in_turns(scale.rounds, [side(ours.addr), side(nginx.addr)])?;
        rows.push(
            Row::new(format!("http/{name}"), "k/s", Better::More, own)
                .peer("nginx, a worker per core", theirs)
                .aim(Aim::Ratio(0.5))
                .note(format!(
                    "{CONNECTIONS} connections of wrk, which takes its share of the same cores"
                )),
        );
    }
    Ok(rows)
}
