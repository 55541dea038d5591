//! fio's command lines and answers.

use crate::Result;
use crate::tool::{self, FIO};
use std::path::Path;

/// Work for fio: buffered, over a file that is there and that the page cache holds.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    /// `read`, `randread`, `write` or `randwrite`.
    pub(crate) pattern: &'static str,
    /// How it asks the kernel.
    pub(crate) engine: &'static str,
    /// Bytes of one read or write.
    pub(crate) block: u32,
    /// Reads or writes under way.
    pub(crate) depth: u32,
    /// The file.
    pub(crate) file: &'a Path,
    /// How much to read or write: the file's length.
    pub(crate) bytes: u64,
    /// Processes, each of which has its share of the file.
    pub(crate) jobs: u64,
    /// Whether it calls fsync(2) in the end, which counts as its time.
    pub(crate) sync: bool,
}

impl Job<'_> {
    /// Without `--invalidate=0` fio would drop the file from the page cache first. Without
    /// `--norandommap` it would keep account of the blocks that it has read; those that are written come
    /// once each, which `lfsr` gives without an account.
    pub(crate) fn args(&self) -> Vec<String> {
        let Job { pattern, engine, block, depth, file, bytes, jobs, sync } = self;
        let share = bytes / jobs;
        let mut args = vec![
            "--name=peer".into(),
            format!("--filename={}", file.display()),
            format!("--rw={pattern}"),
            format!("--bs={block}"),
            format!("--size={share}"),
            format!("--ioengine={engine}"),
            format!("--iodepth={depth}"),
            format!("--numjobs={jobs}"),
            "--direct=0".into(),
            "--invalidate=0".into(),
            "--time_based=0".into(),
            "--output-format=json".into(),
        ];
        if *jobs > 1 {
            args.extend([format!("--offset_increment={share}"), "--group_reporting".into()]);
        }
        match *pattern {
            "randread" => args.push("--norandommap".into()),
            "randwrite" => args.push("--random_generator=lfsr".into()),
            _ => {}
        }
        if pattern.ends_with("write") {
            args.extend(["--overwrite=1".into(), "--fallocate=none".into()]);
        }
        if *sync {
            args.push("--end_fsync=1".into());
        }
        args
    }

    /// The command line.
    pub(crate) fn shown(&self) -> String {
        tool::shown(Path::new("fio"), &self.args())
    }

    /// Runs it: bytes per second.
    pub(crate) fn run(&self) -> Result<f64> {
        let ran = tool::run(&FIO.find()?, &self.args(), Path::new("."), &[0])?;
        let way = if self.pattern.ends_with("write") { "write" } else { "read" };
        let (bytes, rate) = answer(&ran.out, way)?;
        if bytes != self.bytes {
            let (all, command) = (self.bytes, self.shown());
            return Err(format!("fio's bytes were {bytes}, not {all}: {command}").into());
        }
        Ok(rate)
    }
}

/// Bytes that went this way, and bytes per second.
fn answer(json: &[u8], way: &str) -> Result<(u64, f64)> {
    // Notes come before the object.
    let start = json.iter().position(|b| *b == b'{').ok_or("fio printed no JSON")?;
    let value: serde_json::Value = serde_json::from_slice(&json[start..])?;
    let job = &value["jobs"][0];
    let error = job["error"].as_i64().ok_or("fio's answer names no job")?;
    if error != 0 {
        return Err(format!("fio's job failed with errno {error}").into());
    }
    let get = |key: &str| job[way][key].as_f64().ok_or(format!("fio's answer has no {key}"));
    // `bw_bytes` is rounded down to whole KiB per millisecond of run time.
    let (bytes, ms) = (get("io_bytes")?, get("runtime")?);
    if ms < 1.0 {
        return Ok((bytes as u64, get("bw_bytes")?));
    }
    Ok((bytes as u64, bytes / ms * 1000.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_understood() {
        let json = br#"note: something
            {"fio version": "fio-3.33", "jobs": [{"error": 0,
             "read": {"io_bytes": 1000000, "bw_bytes": 1, "iops": 7.5, "runtime": 10},
             "write": {"io_bytes": 0, "bw_bytes": 0, "iops": 0, "runtime": 0}}]}"#;
        assert_eq!(answer(json, "read").unwrap(), (1_000_000, 100_000_000.0));
        assert_eq!(answer(json, "write").unwrap(), (0, 0.0));
        let failed = answer(br#"{"jobs": [{"error": 5, "read": {}}]}"#, "read");
        assert!(failed.unwrap_err().to_string().contains("errno 5"));
        assert!(answer(b"{}", "read").is_err());
        assert!(answer(b"nothing", "read").is_err());
    }

    #[test]
    fn the_page_cache_stays_warm() {
        let path = Path::new("/x");
        let job = Job {
            pattern: "randread",
            engine: "io_uring",
            block: 4096,
            depth: 64,
            file: path,
            bytes: 8192,
            jobs: 1,
            sync: false,
        };
        let line = job.shown();
        for part in ["--invalidate=0", "--direct=0", "--iodepth=64", "--norandommap"] {
            assert!(line.contains(part), "{line}");
        }
        let two = Job { jobs: 2, ..job }.shown();
        assert!(two.contains("--size=4096") && two.contains("--offset_increment=4096"), "{two}");
        assert!(!Job { pattern: "read", ..job }.shown().contains("--norandommap"));
        let write = Job { pattern: "randwrite", sync: true, ..job }.shown();
        for part in ["--overwrite=1", "--fallocate=none", "lfsr", "--end_fsync=1"] {
            assert!(write.contains(part) && !line.contains(part), "{write}");
        }
    }
}
