//! fio's command lines and answers.

use crate::Result;
use crate::tool::{self, FIO};
use std::path::Path;

/// Work for fio: io_uring, buffered, over a file that the page cache holds.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    /// `read` or `randread`.
    pub(crate) pattern: &'static str,
    /// Bytes of one read.
    pub(crate) block: u32,
    /// Reads under way.
    pub(crate) depth: u32,
    /// The file.
    pub(crate) file: &'a Path,
    /// How much to read: the file's length.
    pub(crate) bytes: u64,
    /// Processes, each of which reads its share of the file.
    pub(crate) jobs: u64,
}

impl Job<'_> {
    /// Without `--invalidate=0` fio would drop the file from the page cache first. Without
    /// `--norandommap` it would keep account of the blocks that it has read.
    pub(crate) fn args(&self) -> Vec<String> {
        let Job { pattern, block, depth, file, bytes, jobs } = self;
        let share = bytes / jobs;
        let mut args = vec![
            "--name=peer".into(),
            format!("--filename={}", file.display()),
            format!("--rw={pattern}"),
            format!("--bs={block}"),
            format!("--size={share}"),
            "--ioengine=io_uring".into(),
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
        if *pattern == "randread" {
            args.push("--norandommap".into());
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
        let (bytes, rate) = answer(&ran.out)?;
        if bytes != self.bytes {
            return Err(
                format!("fio read {bytes} bytes, not {}: {}", self.bytes, self.shown()).into()
            );
        }
        Ok(rate)
    }
}

/// Bytes read and bytes per second.
fn answer(json: &[u8]) -> Result<(u64, f64)> {
    // Notes come before the object.
    let start = json.iter().position(|b| *b == b'{').ok_or("fio printed no JSON")?;
    let value: serde_json::Value = serde_json::from_slice(&json[start..])?;
    let job = &value["jobs"][0];
    let error = job["error"].as_i64().ok_or("fio's answer names no job")?;
    if error != 0 {
        return Err(format!("fio's job failed with errno {error}").into());
    }
    let read = &job["read"];
    let get = |key: &str| read[key].as_f64().ok_or(format!("fio's answer has no {key}"));
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
             "read": {"io_bytes": 1000000, "bw_bytes": 1, "iops": 7.5, "runtime": 10}}]}"#;
        assert_eq!(answer(json).unwrap(), (1_000_000, 100_000_000.0));
        let failed = answer(br#"{"jobs": [{"error": 5, "read": {}}]}"#);
        assert!(failed.unwrap_err().to_string().contains("errno 5"));
        assert!(answer(b"{}").is_err());
        assert!(answer(b"nothing").is_err());
    }

    #[test]
    fn the_page_cache_stays_warm() {
        let path = Path::new("/x");
        let job =
            Job { pattern: "randread", block: 4096, depth: 64, file: path, bytes: 8192, jobs: 1 };
        let line = job.shown();
        for part in ["--invalidate=0", "--direct=0", "--iodepth=64", "--norandommap"] {
            assert!(line.contains(part), "{line}");
        }
        let two = Job { jobs: 2, ..job }.shown();
        assert!(two.contains("--size=4096") && two.contains("--offset_increment=4096"), "{two}");
        assert!(!Job { pattern: "read", ..job }.shown().contains("--norandommap"));
    }
}
