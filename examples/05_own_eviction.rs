//! An application brings its own eviction policy: `Settle`, in `gpu-kernels/src/own_eviction.rs`. GPU threads
//! use a few pages again and again, and between that scan many others once. Clock lets the scans drive the few
//! pages out; `Settle` does not.
//!
//!     cargo run --release --example 05_own_eviction

use clap::Parser;
use gpu_examples::device::DeviceArgs;
use gpu_examples::failure::Failure;
use gpu_host::{LaunchConfig, SessionBuilder};
use gpu_kernels::own_eviction::{Settle, Trace, trace_clock, trace_settle};
use gpu_rt::Kernel;
use gpufs::{Clock, DeviceSlice, Eviction, HashIndex, Stats};
use std::io::Write;

const PAGE: u32 = 4096;
/// Pages that the cache holds.
const CACHE: u64 = 64;
/// 32 pages, four times in each round; and a scan of 160 others.
const TRACE: Trace = Trace {
    fs: 0,
    path: DeviceSlice::new(0, 0),
    out: DeviceSlice::new(0, 0),
    hot: 32,
    times: 4,
    scan: 160,
    rounds: 10,
};

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    device: DeviceArgs,
}

fn main() -> Result<(), Failure> {
    let options = Options::parse();
    println!(
        "{CACHE} pages in the cache; {} are used often, scans go over {}",
        TRACE.hot, TRACE.scan
    );
    show("clock ", &run::<Clock>(options.device.session()?, &trace_clock)?);
    show("settle", &run::<Settle>(options.device.session()?, &trace_settle)?);
    Ok(())
}

fn show(name: &str, stats: &Stats) {
    println!("{name}: {:.1} % of look-ups hit; {stats:?}", 100.0 * hit_rate(stats));
}

fn hit_rate(stats: &Stats) -> f64 {
    stats.hits as f64 / (stats.hits + stats.misses) as f64
}

/// Mounts with policy `E`, and runs the kernel that was compiled for it.
fn run<E: Eviction>(builder: SessionBuilder, kernel: &Kernel<Trace>) -> Result<Stats, Failure> {
    let mut file = tempfile::NamedTempFile::new()?;
    let pages = TRACE.hot + TRACE.rounds * TRACE.scan;
    file.write_all(&vec![1; (pages * u64::from(PAGE)) as usize])?;

    let builder = builder.page_size(PAGE).cache_size(CACHE * u64::from(PAGE));
    let session = builder.build_with::<HashIndex, E>()?;
    let path = session.alloc_from(file.path().as_os_str().as_encoded_bytes())?;
    let out = session.alloc(2)?;
    let fs = bytemuck::cast(session.fs());
    let args = Trace { fs, path: path.slice(), out: out.slice(), ..TRACE };
    session.run(kernel, LaunchConfig::new(1, 32), args)?;

    let looks = TRACE.rounds * (TRACE.hot * TRACE.times + TRACE.scan);
    match out.to_vec()?[..] {
        [sum, 0] if sum == looks => Ok(session.stats()?),
        [sum, errors] => Err(format!("{errors} errors; {sum} pages seen, not {looks}").into()),
        _ => unreachable!("two values were asked for"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpu_host::Session;

    #[test]
    fn its_own_policy_beats_clock_on_its_trace() {
        let clock = run::<Clock>(Session::builder(), &trace_clock).unwrap();
        let settle = run::<Settle>(Session::builder(), &trace_settle).unwrap();
        // Each sees the same look-ups.
        assert_eq!(clock.hits + clock.misses, settle.hits + settle.misses);
        assert!(hit_rate(&settle) > hit_rate(&clock) + 0.05, "{settle:?} {clock:?}");
        // All but the first few rounds find every page of those that are used often.
        let all = TRACE.rounds * TRACE.hot * TRACE.times;
        assert!(settle.hits >= all - 3 * TRACE.hot, "{settle:?}");
    }

    /// When what is used often changes, the new pages settle and the old ones go.
    #[test]
    fn what_was_used_once_upon_a_time_goes() {
        let state = gpufs::evict::PolicyState::default();
        let frames: Vec<_> = (0..8).map(|_| gpufs::frame::Frame::new()).collect();
        let round = |used: std::ops::Range<usize>| -> Vec<u32> {
            let gone = (0..8).filter_map(|_| Settle::propose(&state, &frames)).collect();
            frames[used].iter().for_each(|frame| Settle::used(&state, frame));
            gone
        };
        frames.iter().for_each(|frame| Settle::filled(&state, frame));
        frames[..6].iter().for_each(|frame| Settle::used(&state, frame));
        // Six settle and stay, used or not; the other two go around.
        assert_eq!(round(0..0), [6, 7]);
        assert_eq!(round(6..8), [6, 7]);
        // Two more settle. That is more than three quarters, so that the oldest do not stay for ever.
        let gone: Vec<_> = (0..3).flat_map(|_| round(6..8)).collect();
        assert!(gone.iter().any(|at| *at < 6) && gone.iter().all(|at| *at < 6), "{gone:?}");
    }
}
