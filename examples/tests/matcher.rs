//! The matcher on devices, beside the host's threads and beside the plainest of all searches.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Once;

use gpu_examples::matcher::app;
use gpu_examples::matcher::generate::Plan;
use gpu_examples::matcher::library::{self, strips};
use gpu_examples::matcher::records::{RecordFile, RecordWriter};
use gpu_examples::matcher::reference;
use gpu_examples::matcher::search::{Match, Task, Warps, search};
use gpu_host::{DeviceChoice, Module, Session};
use gpu_kernels::matcher::{Order, Shape};
use proptest::prelude::*;

const GRAY: Shape = Shape { width: 64, height: 64, channels: 1 };

/// The devices that kernels can run on here; says which cannot.
fn devices() -> Vec<DeviceChoice> {
    let mut devices = vec![DeviceChoice::default()];
    match gpu_kernels::PTX {
        "" => say_once("skipped: ptx: no toolchain could compile the kernels"),
        _ => devices.push("ptx".parse().unwrap()),
    }
    devices
}

/// Prints a line that the test's harness does not keep to itself, the first time.
fn say_once(line: &str) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        let _ = writeln!(std::io::stderr(), "{line}");
    });
}

fn session(device: &DeviceChoice, page: u32, pages: u64) -> Session {
    let module = Module::for_device(device, None, gpu_kernels::PTX).unwrap();
    let builder = Session::builder().device(device.clone()).module(module).device_memory(1 << 30);
    builder.page_size(page).cache_size(pages * u64::from(page)).build().unwrap()
}

/// Every distance computed to its end, in 64 bits; sorted; cut off.
fn naive(databases: &[Vec<Vec<u8>>], queries: &[Vec<u8>], task: &Task) -> Vec<Vec<Match>> {
    let distance = |a: &[u8], b: &[u8]| -> u64 {
        a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2)).sum()
    };
    let of_query = |query: &Vec<u8>| {
        let mut found = Vec::new();
        for (database, records) in databases.iter().enumerate() {
            for (record, pixels) in records.iter().enumerate() {
                let squared = distance(query, pixels);
                if squared <= u64::from(task.limit) {
                    found.push(Match { database, record: record as u64, squared: squared as u32 });
                }
            }
        }
        if task.order == Order::Best {
            // Stable: of equals, the one that comes first stays so.
            found.sort_by_key(|m| m.squared);
        }
        found.truncate(task.keep as usize);
        found
    };
    queries.iter().map(of_query).collect()
}

/// A record for each image, as long as the file's records are.
fn written(dir: &Path, shape: Shape, databases: &[Vec<Vec<u8>>]) -> Vec<RecordFile> {
    let write = |(number, images): (usize, &Vec<Vec<u8>>)| {
        let path = dir.join(format!("{number}.records"));
        let mut writer = RecordWriter::new(&path, shape, None, 0).unwrap();
        for (n, pixels) in images.iter().enumerate() {
            writer.push(n.to_string().as_bytes(), pixels).unwrap();
        }
        writer.finish().unwrap();
        RecordFile::open(&path).unwrap()
    };
    databases.iter().enumerate().map(write).collect()
}

#[derive(Clone, Debug)]
struct Case {
    shape: Shape,
    databases: Vec<Vec<Vec<u8>>>,
    queries: Vec<Vec<u8>>,
    task: Task,
    page: u32,
    warps: Warps,
}

/// Images of few different bytes, so that distances repeat; many of them the same.
fn images(shape: Shape, count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Vec<u8>>> {
    let len = shape.pixel_bytes().unwrap() as usize;
    let image = (0u8..4, 0u8..3, 0..len).prop_map(move |(ground, dot, at)| {
        let mut pixels = vec![ground * 80; len];
        pixels[at] = pixels[at].wrapping_add(dot);
        pixels[len - 1] = ground;
        pixels
    });
    prop::collection::vec(image, count)
}

fn cases() -> impl Strategy<Value = Case> {
    let shape = prop::sample::select(vec![
        GRAY,
        Shape { width: 5, height: 3, channels: 3 },
        Shape { width: 100, height: 50, channels: 1 },
        // Longer than a page, and longer than a view can be.
        Shape { width: 128, height: 128, channels: 3 },
    ]);
    let task = (0u32..3, 1u32..5, any::<bool>()).prop_map(|(limit, keep, best)| Task {
        limit: [0, 4, u32::MAX][limit as usize],
        keep,
        order: if best { Order::Best } else { Order::First },
    });
    let page = prop::sample::select(vec![4096, 65536]);
    let warps = (1..5u32, prop::sample::select(vec![1, 7, 32]));
    (shape, task, page, warps).prop_flat_map(|(shape, task, page, (count, lanes))| {
        let databases = prop::collection::vec(images(shape, 0..40), 1..4);
        (databases, images(shape, 1..9)).prop_map(move |(databases, queries)| Case {
            shape,
            databases,
            queries,
            task,
            page,
            warps: Warps { count, lanes },
        })
    })
}

fn check(case: &Case, device: &DeviceChoice) {
    let dir = tempfile::tempdir().unwrap();
    let files = written(dir.path(), case.shape, &case.databases);
    let stride = files[0].header.stride as usize;
    let mut padded = case.queries.clone();
    padded.iter_mut().for_each(|q| q.resize(stride, 0));
    let (count, expected) = (padded.len(), naive(&case.databases, &case.queries, &case.task));
    let queries = strips(&padded);
    let by_threads = reference::search(&files, &queries, count, &case.task, 3).unwrap();
    assert_eq!(by_threads, expected, "by the host's threads");
    let session = session(device, case.page, 8);
    let found = search(&session, &files, &queries, count, &case.task, case.warps).unwrap();
    assert_eq!(found.matches, expected, "by {device}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_sizes_the_same_is_found(case in cases()) {
        check(&case, &DeviceChoice::default());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]

    #[test]
    fn every_device_finds_the_same(case in cases()) {
        for device in devices() {
            check(&case, &device);
        }
    }
}

#[test]
fn of_equals_the_first_is_found_by_however_many_warps() {
    let same = vec![vec![9u8; 4096]; 200];
    let task = |order, keep| Task { limit: 10, order, keep };
    for device in devices() {
        for order in [Order::Best, Order::First] {
            let case = Case {
                shape: GRAY,
                databases: vec![vec![], same.clone(), same.clone()],
                queries: vec![vec![9; 4096], vec![10; 4096]],
                task: task(order, 3),
                page: 4096,
                warps: Warps { count: 8, lanes: 4 },
            };
            check(&case, &device);
        }
    }
}

/// The bytes that were fetched tell that a search for the first match has ended early.
#[test]
fn the_first_match_ends_the_search() {
    let dir = tempfile::tempdir().unwrap();
    let files = written(dir.path(), GRAY, &[vec![vec![5; 4096]; 4000]]);
    let session = session(&DeviceChoice::default(), 4096, 16);
    let query = strips(&[vec![5; 4096]]);
    let warps = Warps { count: 4, lanes: 1 };
    let fetched = |order| {
        let before = session.stats().unwrap().bytes_fetched;
        let task = Task { limit: 0, order, keep: 1 };
        let found = search(&session, &files, &query, 1, &task, warps).unwrap();
        assert_eq!(found.matches, [[Match { database: 0, record: 0, squared: 0 }]]);
        session.stats().unwrap().bytes_fetched - before
    };
    // Nothing can be better than the very first record, which ends the search for the best as well.
    assert!(fetched(Order::First) < 1 << 20);
    assert!(fetched(Order::Best) < 1 << 20);
}

/// Runs the program; status, output, messages.
fn matcher(arguments: &[&str]) -> (u8, String, String) {
    let all = ["matcher"].iter().chain(arguments).map(std::ffi::OsString::from);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = app::run(all, false, &mut out, &mut err);
    (status, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

fn text(path: PathBuf) -> String {
    path.into_os_string().into_string().unwrap()
}

fn plan(images: u64, pictures: bool) -> Plan {
    Plan { images, databases: 2, queries: 8, seed: 7, shape: GRAY, pictures }
}

#[test]
fn what_was_planted_is_found() {
    let dir = tempfile::tempdir().unwrap();
    plan(300, false).make(dir.path()).unwrap();
    let [queries, databases] = ["queries", "databases"].map(|d| text(dir.path().join(d)));
    let page = text(dir.path().join("page.html"));
    let (status, out, err) = matcher(&[
        "--queries",
        &queries,
        "--databases",
        &databases,
        "--threshold",
        "500",
        "--html",
        &page,
    ]);
    assert_eq!((status, err.as_str()), (0, ""));
    let lines: Vec<Vec<&str>> = out.lines().map(|line| line.split('\t').collect()).collect();
    for (query, exact) in [("00", true), ("01", false), ("02", true), ("04", true), ("05", false)] {
        let line = lines.iter().find(|l| l[0] == format!("query-{query}.png")).unwrap();
        assert_eq!(line[1] == "0.000", exact, "{line:?}");
        assert_eq!(line.len(), 4);
    }
    let page = std::fs::read_to_string(page).unwrap();
    assert_eq!(page.matches("<section>").count(), 8);
    assert_eq!(page.matches("data:image/png").count(), 8 + lines.len());

    let (status, out, _) = matcher(&[
        "--queries",
        &queries,
        "--databases",
        &databases,
        "--threshold",
        "500",
        "--json",
        "--first",
        "--lanes",
        "3",
        "--page-size",
        "4K",
        "--cache-size",
        "16K",
        "--grid",
        "2",
    ]);
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((status, value["queries"].as_array().unwrap().len()), (0, 8));
    assert_eq!(value["queries"][0]["matches"][0]["squared"], 0);

    let other = text(dir.path().join("queries/query-03.png"));
    let (status, out, err) =
        matcher(&["--queries", &other, "--databases", &databases, "--threshold", "10"]);
    assert_eq!((status, out.as_str(), err.as_str()), (1, "", ""));
}

#[test]
fn images_are_packed_and_those_that_are_none_are_told_of() {
    let dir = tempfile::tempdir().unwrap();
    plan(10, true).make(dir.path()).unwrap();
    let [queries, database] = ["queries", "databases/database-0"].map(|d| text(dir.path().join(d)));
    std::fs::write(dir.path().join("databases/database-0/broken.png"), b"no image").unwrap();
    let packed = text(dir.path().join("packed.records"));
    let (status, out, err) = matcher(&["--pack", &packed, "--databases", &database]);
    assert_eq!((status, out), (2, format!("{packed}: 10 records of 64x64x1\n")));
    assert!(err.contains("broken.png") && err.contains("remove it"), "{err}");

    // The file is good for all that.
    let search = |databases: &str, more: &[&str]| {
        let all = ["--queries", &queries, "--databases", databases, "--threshold", "100"];
        matcher(&[&all[..], more].concat())
    };
    let (status, out, err) = search(&packed, &[]);
    assert_eq!((status, err.as_str()), (0, ""));
    assert!(out.starts_with("query-00.png\t0.000\t"), "{out}");

    let other = text(dir.path().join("other.records"));
    std::fs::remove_file(dir.path().join("databases/database-0/broken.png")).unwrap();
    let (status, ..) =
        matcher(&["--pack", &other, "--databases", &database, "--size", "32x16", "--color"]);
    assert_eq!(status, 0);
    let (status, out, err) = search(&packed, &["--size", "32x32"]);
    assert_eq!((status, out.as_str()), (2, ""));
    assert!(err.contains("packed.records") && err.contains("--size 32x32"), "{err}");
    assert_eq!(search(&other, &[]).0, 0, "queries take on the shape of the databases");
}

#[test]
fn errors_name_the_file() {
    let dir = tempfile::tempdir().unwrap();
    plan(10, false).make(dir.path()).unwrap();
    let path = |name: &str| text(dir.path().join(name));
    std::fs::create_dir(path("empty")).unwrap();
    std::fs::write(
        path("cut.records"),
        &std::fs::read(path("databases/database-1.records")).unwrap()[..9000],
    )
    .unwrap();
    std::fs::write(path("text.records"), b"text").unwrap();
    let (queries, databases) = (path("queries"), path("databases"));
    let cases = [
        (&path("nowhere"), &databases, "nowhere: No such file"),
        (&queries, &path("nowhere"), "nowhere: No such file"),
        (&path("empty"), &databases, "empty: neither images"),
        (&queries, &path("empty"), "empty: neither images"),
        (&queries, &path("cut.records"), "cut.records: 9000 bytes, where 10 records"),
        (&queries, &path("text.records"), "text.records: not a record file"),
    ];
    for (queries, databases, message) in cases {
        let (status, out, err) =
            matcher(&["--queries", queries, "--databases", databases, "--threshold", "1"]);
        assert_eq!((status, out.as_str()), (2, ""));
        assert!(err.starts_with("matcher: ") && err.contains(message), "{err}");
    }
    let (status, _, err) =
        matcher(&["--queries", &queries, "--databases", &databases, "--threshold", "-1"]);
    assert!(status == 2 && err.contains("threshold"), "{err}");
}

/// A file that is replaced or cut off after the host has looked at it is not searched for what it was.
#[test]
fn a_file_that_changes_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let images = vec![vec![5; 4096]; 40];
    let task = Task { limit: 0, order: Order::Best, keep: 1 };
    let warps = Warps { count: 2, lanes: 1 };
    let query = strips(&[vec![6; 4096]]);
    for change in 0..3 {
        let files = written(dir.path(), GRAY, std::slice::from_ref(&images));
        let path = &files[0].path;
        match change {
            0 => std::fs::write(path, std::fs::read(path).unwrap().split_at(50_000).0).unwrap(),
            1 => drop(written(dir.path(), GRAY, &[images[1..].to_vec()])),
            _ => std::fs::remove_file(path).unwrap(),
        }
        let session = session(&DeviceChoice::default(), 4096, 8);
        let error = search(&session, &files, &query, 1, &task, warps).err().unwrap().to_string();
        assert!(error.contains("0.records: "), "{error}");
        assert!(
            error.contains(if change == 2 { "No such file" } else { "has changed" }),
            "{error}"
        );
    }
}

#[test]
fn packed_images_are_kept_until_they_change() {
    let dir = tempfile::tempdir().unwrap();
    plan(5, true).make(dir.path()).unwrap();
    let images = dir.path().join("databases/database-0");
    let open = || library::databases(std::slice::from_ref(&images), GRAY).unwrap().files.remove(0);
    let made = |file: &RecordFile| std::fs::metadata(&file.path).unwrap().modified().unwrap();
    let first = open();
    let second = open();
    assert_eq!((&first.path, made(&first)), (&second.path, made(&second)));
    std::fs::remove_file(images.join("image-0000003.png")).unwrap();
    let third = open();
    assert_eq!((third.path.clone(), third.header.count), (first.path, 4));
    std::fs::remove_file(third.path).unwrap();
}
