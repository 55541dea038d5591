//! The verification server by ordinary sockets: right answers, whatever else clients send, and stores that
//! are not what they say.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::path::Path;
use std::time::Duration;

use bytemuck::Zeroable;
use gpu_examples::matcher::scene::Random;
use gpu_examples::serve::ServeArgs;
use gpu_examples::verify::app::{Serving, launch};
use gpu_examples::verify::client::{self, ClientError, Until};
use gpu_examples::verify::enrol::{Plan, name};
use gpu_examples::verify::faces::Face;
use gpu_examples::verify::probes::{self, request};
use gpu_examples::verify::reference;
use gpu_examples::verify::store::{FILE, Store};
use gpu_kernels::verify::lbp::{Method, Shape, UNIT};
use gpu_kernels::verify::store::{Entry, Header, hash};
use gpu_kernels::verify::wire::{REQUEST_LEN, Reply, Request, Status, THRESHOLD_OF_SERVER};
use gpu_kernels::verify::{ACCEPTED, DAMAGED, FAILED, REFUSED, UNKNOWN, VERIFIED};
use gpu_rt::Pod;

const SHAPE: Shape = Shape { width: 48, height: 40, columns: 4, rows: 5 };
const SEED: u64 = 11;
const PERSONS: u32 = 40;

/// Small pages, so that references lie across them; few, so that they are evicted.
const PAGES: (u32, u64) = (4096, 256 << 10);

/// Eight warps, on one worker.
fn args(lanes: u32) -> ServeArgs {
    ServeArgs {
        warps: 8,
        lanes: Some(lanes),
        connections: Some(64),
        ring: 4096,
        workers: Some(1),
        device: Default::default(),
    }
}

fn plan(method: Method) -> Plan {
    Plan { shape: SHAPE, method }
}

struct Server {
    serving: Serving,
    dir: tempfile::TempDir,
}

impl Server {
    /// Serves generated faces, of a store that `change` has changed since.
    fn start(method: Method, lanes: u32, change: impl FnOnce(&Path)) -> Server {
        let dir = tempfile::tempdir().unwrap();
        plan(method).generate(dir.path(), PERSONS.into(), SEED).unwrap();
        change(&dir.path().join(FILE));
        let addr = (Ipv4Addr::LOCALHOST, 0).into();
        let serving = launch(&args(lanes), PAGES, addr, dir.path(), (SHAPE, method), 0.5);
        Server { serving: serving.map_err(|e| format!("{e:?}")).unwrap(), dir }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.serving.running.addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// Sends bytes, ends sending, and returns the replies.
    fn ask(&self, bytes: &[u8]) -> Vec<Reply> {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        assert_eq!(all.len() % size_of::<Reply>(), 0, "{all:?}");
        all.chunks_exact(size_of::<Reply>()).map(bytemuck::pod_read_unaligned).collect()
    }

    fn status(&self, bytes: &[u8]) -> Vec<Status> {
        let replies = self.ask(bytes);
        replies.iter().map(|reply| Status::from_raw(reply.status).unwrap()).collect()
    }

    /// What the server says of a face that is in the store.
    fn is_well(&self) {
        let reply = self.ask(&request(b"face-0000003", SHAPE, THRESHOLD_OF_SERVER, &face(3, 0)));
        assert_eq!(reply, [Reply::verified(0, 0, SHAPE.pixels() as u64 * UNIT / 2)]);
    }

    fn end(self) -> [u64; 8] {
        self.serving.session.ask_to_end();
        self.serving.running.wait().unwrap().1
    }
}

fn face(person: u64, picture: u64) -> Vec<u8> {
    Face::new(SEED, person).picture(picture, SHAPE.width, SHAPE.height)
}

fn store(server: &Server) -> Store {
    Store::open(server.dir.path()).unwrap()
}

#[test]
fn answers_are_those_of_plain_code() {
    for (method, lanes) in [(Method::NriUniform, 1), (Method::Uniform, 7), (Method::Default, 32)] {
        let server = Server::start(method, lanes, |_| ());
        let probes = probes::make(&store(&server), None, 48, None, 5).unwrap();
        let addr = server.serving.running.addr;
        let run = client::run(addr, &probes, 8, Until::Requests(96)).unwrap();
        assert_eq!((run.replies, run.genuine.made, run.unknown), (96, 48, 6));
        let accepted = run.genuine.accepted + run.impostors.accepted;
        let counts = server.end();
        assert_eq!((counts[VERIFIED], counts[UNKNOWN]), (90, 6));
        assert_eq!((counts[ACCEPTED], counts[FAILED]), (accepted, 0));
    }
}

/// A port that was free a moment ago: where several warps listened, all but one would fail.
#[test]
fn one_warp_listens() {
    let dir = tempfile::tempdir().unwrap();
    plan(Method::Uniform).generate(dir.path(), 1, SEED).unwrap();
    for _ in 0..3 {
        let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = free.local_addr().unwrap();
        drop(free);
        let serving = launch(&args(1), PAGES, addr, dir.path(), (SHAPE, Method::Uniform), 0.5);
        let serving = serving.map_err(|e| format!("{e:?}")).unwrap();
        assert_eq!(serving.running.addr, addr);
        serving.session.ask_to_end();
        serving.running.wait().unwrap();
    }
}

#[test]
fn a_reply_has_distance_verdict_and_tag() {
    let server = Server::start(Method::NriUniform, 1, |_| ());
    // Random pixels, all equal, and a face.
    let mut random = Random::new(1, 1);
    let noise: Vec<u8> = (0..SHAPE.pixels()).map(|_| random.below(256) as u8).collect();
    for pixels in [noise, vec![77; SHAPE.pixels()], face(9, 4)] {
        let stored = store(&server).reference(7).unwrap();
        let counts = reference::counts(&pixels, SHAPE, Method::NriUniform);
        let distance = reference::distance(&counts, &stored);
        let usual = SHAPE.pixels() as u64 * UNIT / 2;
        for (threshold, counted) in
            [(distance, distance), (distance - 1, distance - 1), (THRESHOLD_OF_SERVER, usual)]
        {
            let mut bytes = request(name(7).as_bytes(), SHAPE, threshold, &pixels);
            bytes[12..16].copy_from_slice(&0xabcd_ef01u32.to_le_bytes());
            let expected = Reply::verified(0xabcd_ef01, distance, counted);
            assert_eq!(expected.accepted, u16::from(distance <= counted));
            assert_eq!(server.ask(&bytes), [expected]);
        }
    }
    server.end();
}

#[test]
fn a_wrong_reply_is_noticed() {
    let server = Server::start(Method::NriUniform, 1, |_| ());
    // Of a store whose faces are others.
    let other = tempfile::tempdir().unwrap();
    plan(Method::NriUniform).generate(other.path(), PERSONS.into(), SEED + 1).unwrap();
    let probes = probes::make(&Store::open(other.path()).unwrap(), None, 4, None, 5).unwrap();
    let outcome = client::run(server.serving.running.addr, &probes, 1, Until::Requests(4));
    assert!(matches!(outcome, Err(ClientError::Wrong { .. })), "{outcome:?}");
    server.end();
}

#[test]
fn requests_may_follow_each_other_at_once() {
    let server = Server::start(Method::Uniform, 1, |_| ());
    let mut all = Vec::new();
    for person in 0..20 {
        let id = if person % 5 == 4 { "nobody".into() } else { name(person) };
        all.extend(request(id.as_bytes(), SHAPE, 0, &face(person, 0)));
    }
    for (person, reply) in server.ask(&all).iter().enumerate() {
        let expected = match person % 5 {
            4 => Reply::without(Status::UnknownIdentity, 0),
            _ => Reply::verified(0, 0, 0),
        };
        assert_eq!(*reply, expected, "{person}");
    }
    assert_eq!(server.end()[VERIFIED], 16);
}

/// Changes a field of a good request.
fn changed(change: impl FnOnce(&mut Request)) -> Vec<u8> {
    let mut bytes = request(b"face-0000003", SHAPE, THRESHOLD_OF_SERVER, &face(3, 0));
    let mut head: Request = bytemuck::pod_read_unaligned(&bytes[..REQUEST_LEN]);
    change(&mut head);
    bytes[..REQUEST_LEN].copy_from_slice(bytemuck::bytes_of(&head));
    bytes
}

#[test]
fn what_is_no_request_is_refused() {
    let server = Server::start(Method::NriUniform, 1, |_| ());
    use Status::{BadRequest, UnknownIdentity, WrongSize};
    for (bytes, status) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), BadRequest),
        (b"V".repeat(3000), BadRequest),
        (changed(|head| head.version = 2), BadRequest),
        (changed(|head| head.id_len = 0), BadRequest),
        (changed(|head| head.id_len = 57), BadRequest),
        (changed(|head| head.id_len = u16::MAX), BadRequest),
        (changed(|head| head.reserved = 1), BadRequest),
        (changed(|head| head.width = 0), WrongSize),
        (changed(|head| (head.width, head.height) = (40, 48)), WrongSize),
        (changed(|head| (head.width, head.height) = (u16::MAX, u16::MAX)), WrongSize),
        (changed(|head| head.id_len = 11), UnknownIdentity),
    ] {
        // The identity that is too short leaves a byte that no request begins with.
        let expected =
            if status == UnknownIdentity { vec![status, BadRequest] } else { vec![status] };
        assert_eq!(server.status(&bytes), expected);
        server.is_well();
    }
    // What is refused by its beginning is not waited for.
    let mut stream = server.connect();
    stream.write_all(&changed(|head| head.height = 60_000)[..REQUEST_LEN]).unwrap();
    let mut reply = Reply::zeroed();
    stream.read_exact(bytemuck::bytes_of_mut(&mut reply)).unwrap();
    assert_eq!(reply, Reply::without(WrongSize, 0));
    assert_eq!(server.end()[REFUSED], 12);
}

#[test]
fn a_request_that_ends_too_early_ends_its_connection_only() {
    let server = Server::start(Method::NriUniform, 1, |_| ());
    let whole = request(b"face-0000003", SHAPE, 0, &face(3, 0));
    let cuts = [1, 3, 4, REQUEST_LEN - 1, REQUEST_LEN, REQUEST_LEN + 5, whole.len() - 1];
    for cut in cuts {
        assert_eq!(server.ask(&whole[..cut]), [], "{cut}");
        // After a whole one.
        assert_eq!(server.status(&[&whole, &whole[..cut]].concat()), [Status::Ok], "{cut}");
    }
    server.is_well();
    assert_eq!(server.end()[FAILED], 2 * cuts.len() as u64);
}

#[test]
fn slow_clients_are_waited_for_and_hold_nobody_up() {
    let server = Server::start(Method::NriUniform, 1, |_| ());
    let whole = request(b"face-0000003", SHAPE, 0, &face(3, 0));
    // More of them than there are warps.
    let mut slow: Vec<TcpStream> = (0..12).map(|_| server.connect()).collect();
    let mut sent = 0;
    for step in [1, 10, 21, 3, 500, 700] {
        for stream in &mut slow {
            stream.write_all(&whole[sent..sent + step]).unwrap();
        }
        sent += step;
        server.is_well();
    }
    for mut stream in slow {
        stream.write_all(&whole[sent..]).unwrap();
        let mut reply = Reply::zeroed();
        stream.read_exact(bytemuck::bytes_of_mut(&mut reply)).unwrap();
        assert_eq!(reply, Reply::verified(0, 0, 0));
    }
    server.end();
}

#[test]
fn a_client_that_reads_nothing_holds_nobody_up() {
    let server = Server::start(Method::NriUniform, 1, |_| ());
    let whole = request(b"nobody", SHAPE, 0, &face(3, 0));
    let mut deaf = server.connect();
    deaf.set_nonblocking(true).unwrap();
    // Until it has stopped taking any more, or for long enough.
    let (mut sent, mut refused) = (0, 0);
    while sent < 400 * whole.len() && refused < 200 {
        match deaf.write(&whole[sent % whole.len()..]) {
            Ok(n) => sent += n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                refused += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(e) => panic!("{e}"),
        }
    }
    server.is_well();
    // It may still change its mind.
    deaf.set_nonblocking(false).unwrap();
    deaf.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    for _ in 0..sent / whole.len() {
        let mut reply = Reply::zeroed();
        deaf.read_exact(bytemuck::bytes_of_mut(&mut reply)).unwrap();
        assert_eq!(reply, Reply::without(Status::UnknownIdentity, 0));
    }
    server.end();
}

#[test]
fn many_connections_are_served() {
    let server = Server::start(Method::Uniform, 1, |_| ());
    let probes = probes::make(&store(&server), None, 32, Some(0), 5).unwrap();
    let addr = server.serving.running.addr;
    // As many as there are sockets, again and again.
    for _ in 0..3 {
        let run = client::run(addr, &probes, 60, Until::Requests(240)).unwrap();
        assert_eq!(run.replies, 240);
    }
    assert_eq!(server.end()[FAILED], 0);
}

/// A store, changed in one place.
fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(bytes, at).unwrap();
}

fn read<T: Pod>(path: &Path, at: u64) -> T {
    use std::os::unix::fs::FileExt;
    let mut value = T::zeroed();
    let bytes = bytemuck::bytes_of_mut(&mut value);
    std::fs::File::open(path).unwrap().read_exact_at(bytes, at).unwrap();
    value
}

/// Where an identity's entry lies, and what it is.
fn entry(path: &Path, id: &str) -> (u64, Entry) {
    let header: Header = read(path, 0);
    let places = (0..header.probes).map(|probe| header.entry_at(hash(id.bytes()), probe));
    let mut entries = places.map(|at| (at, read::<Entry>(path, at)));
    entries.find(|(_, entry)| entry.id() == Some(id.as_bytes())).unwrap()
}

#[test]
fn damaged_entries_and_references_are_told_of() {
    let ask = |person: u64| request(name(person).as_bytes(), SHAPE, 0, &face(person, 0));
    let server = Server::start(Method::NriUniform, 3, |path| {
        let header: Header = read(path, 0);
        for (person, damage) in [
            (4, |entry| Entry { record: PERSONS, ..entry }),
            (5, |entry| Entry { record: u32::MAX, ..entry }),
            (6, |entry| Entry { len: 57, ..entry }),
            (7, |entry| Entry { len: u32::MAX, ..entry }),
        ] as [(u64, fn(Entry) -> Entry); 4]
        {
            let (at, entry) = entry(path, &name(person));
            overwrite(path, at, bytemuck::bytes_of(&damage(entry)));
        }
        // A count too many, in the last cell.
        overwrite(path, header.reference_at(8) + 20 * 59 * 2 - 2, &[1, 0]);
        overwrite(path, header.reference_at(9), &[0xff; 64]);
    });
    for person in 4..=9 {
        assert_eq!(server.status(&ask(person)), [Status::StoreDamaged], "{person}");
        server.is_well();
    }
    let counts = server.end();
    assert_eq!((counts[DAMAGED], counts[VERIFIED]), (6, 6));
}

#[test]
fn an_index_without_end_ends() {
    let server = Server::start(Method::NriUniform, 1, |path| {
        // Every entry is taken, by somebody else.
        let mut header: Header = read(path, 0);
        header.probes = header.slots;
        overwrite(path, 0, bytemuck::bytes_of(&header));
        let other = Entry::new(b"somebody else", 0).unwrap();
        for slot in 0..header.slots {
            overwrite(path, header.entry_at(slot.into(), 0), bytemuck::bytes_of(&other));
        }
    });
    let asked = request(b"face-0000003", SHAPE, 0, &face(3, 0));
    assert_eq!(server.status(&asked), [Status::UnknownIdentity]);
    server.end();
}

/// What happens to a store's file.
type Damage = fn(&Path);

#[test]
fn stores_that_are_none_are_told_of() {
    let asked = request(b"face-0000003", SHAPE, 0, &face(3, 0));
    let larger = Shape { width: 480, height: 400, ..SHAPE };
    let damages: [(Damage, Status); 6] = [
        (|path| std::fs::remove_file(path).unwrap(), Status::StoreUnavailable),
        (|path| std::fs::write(path, b"").unwrap(), Status::StoreDamaged),
        (|path| std::fs::write(path, vec![0xff; 100_000]).unwrap(), Status::StoreDamaged),
        (|path| overwrite(path, 8, &[9]), Status::StoreDamaged),
        (
            |path| {
                let len = path.metadata().unwrap().len();
                std::fs::File::options().write(true).open(path).unwrap().set_len(len - 1).unwrap();
            },
            Status::StoreDamaged,
        ),
        (
            // A good one, for which the host has made no room.
            |path| {
                let plan = Plan {
                    shape: Shape { width: 240, height: 200, ..SHAPE },
                    method: Method::Default,
                };
                plan.generate(path.parent().unwrap(), 2, SEED).unwrap();
            },
            Status::StoreDamaged,
        ),
    ];
    for (damage, status) in damages {
        let server = Server::start(Method::NriUniform, 2, damage);
        assert_eq!(server.status(&asked), [status]);
        assert_eq!(server.status(&request(b"x", larger, 0, &[])), [status]);
        assert_eq!(server.status(b"garbage"), [Status::BadRequest]);
        assert_eq!(server.end()[DAMAGED], 2);
    }
}

#[test]
fn a_store_that_is_cut_while_it_serves_is_told_of() {
    let server = Server::start(Method::Default, 1, |_| ());
    server.is_well();
    let path = server.dir.path().join(FILE);
    let header: Header = read(&path, 0);
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len(header.reference_at(20)).unwrap();
    // Nobody has asked for this one before.
    let asked = request(name(30).as_bytes(), SHAPE, 0, &face(30, 0));
    let status = server.status(&asked);
    assert!(matches!(status[..], [Status::StoreDamaged | Status::StoreUnavailable]), "{status:?}");
    server.is_well();
    server.end();
}
