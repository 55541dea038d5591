//! A process that is killed while its kernels write: what `sync` or `close` had acknowledged is in the file.

use conformance::HashClock;
use conformance::device::ops::GROUP_THREAD;
use conformance::device::pattern;
use conformance::device::script::{CLOSE, CREATE, FLUSH, KEEP, Line, OPEN, SYNC, WRITE, WRITES};
use conformance::host::{Bench, Tree, emulated};
use gpu_host::Session;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Tells the program that it is the one to be killed: where to write.
const VARIABLE: &str = "CONFORMANCE_CRASH";
/// Bytes of a record: more than a page, and no multiple of one.
const RECORD: u64 = 5000;
/// Records of each launch.
const BATCH: u64 = 5;

fn line(what: u32) -> Line {
    Line { what, ..bytemuck::Zeroable::zeroed() }
}

/// Writes records until it is killed, in a cache of few pages; says how many are acknowledged.
fn write_until_killed(path: PathBuf) {
    let session = Session::builder()
        .emulated(emulated())
        .device_memory(64 << 20)
        .page_size(4096)
        .cache_size(9 * 4096)
        .build_with()
        .unwrap_or_else(|e| panic!("{e}"));
    let bench = Bench::<HashClock> { session };
    let paths = [path];
    for batch in 0.. {
        let mut lines = vec![Line { flags: WRITES | CREATE, ..line(OPEN) }];
        for record in batch * BATCH..(batch + 1) * BATCH {
            // Backwards and forwards, so that pages are dirty in parts when they are evicted.
            let record = batch * BATCH + (record * 3) % BATCH;
            let offset = record * RECORD;
            lines.push(Line { offset, len: RECORD, seed: record, ..line(WRITE) });
        }
        // Acknowledged in one way or another; the file may stay open to the next launch.
        match batch % 3 {
            0 => lines.push(line(SYNC)),
            1 => {
                // The last close is what writes: those of the launches that left the file open come before it.
                let opens = if batch == 1 { 2 } else { 3 };
                lines.extend((0..opens).map(|_| Line { flags: KEEP, ..line(CLOSE) }));
            }
            _ => lines.push(line(FLUSH)),
        }
        for (i, line) in (0..).zip(&mut lines) {
            line.at = i * RECORD.next_multiple_of(8);
        }
        let (results, _) = bench.script((1, 1), GROUP_THREAD, &paths, &lines);
        assert!(results.iter().all(|result| *result as i64 >= 0), "{results:?}");
        println!("acknowledged {}", (batch + 1) * BATCH);
        std::io::stdout().flush().expect("somebody reads");
    }
}

/// How many of the first records are whole in the file.
fn whole_records(path: &Path) -> u64 {
    let bytes = std::fs::read(path).unwrap_or_default();
    let is_whole = |(record, bytes): &(u64, &[u8])| {
        (0..).zip(*bytes).all(|(at, byte)| *byte == pattern(*record, at))
    };
    (0..).zip(bytes.chunks_exact(RECORD as usize)).take_while(is_whole).count() as u64
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    if let Some(path) = std::env::var_os(VARIABLE) {
        return write_until_killed(path.into());
    }
    for round in 0..10u64 {
        let tree = Tree::new();
        let path = tree.path("file");
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["what_was_acknowledged_survives_a_kill", "--exact", "--nocapture"])
            .env(VARIABLE, &path)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it can be started again");
        let mut acknowledged = 0;
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut lines = output.lines();
        // After a few acknowledgements, somewhere in the midst of what comes next.
        while acknowledged < (1 + round % 4) * BATCH {
            let line = lines.next().expect("it writes until it is killed").expect("text");
            if let Some((_, n)) = line.split_once("acknowledged ") {
                acknowledged = n.trim().parse().expect("a number");
            }
        }
        std::thread::sleep(std::time::Duration::from_micros(round * round * 150));
        child.kill().expect("it runs");
        child.wait().expect("it has ended");
        // What it had said by then counts, too.
        for line in lines.map_while(Result::ok) {
            if let Some((_, n)) = line.split_once("acknowledged ") {
                acknowledged = n.trim().parse().expect("a number");
            }
        }
        let whole = whole_records(&path);
        assert!(whole >= acknowledged, "{whole} of {acknowledged} acknowledged records");
    }
}
