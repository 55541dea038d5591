//! What the emulator's mechanisms cost, per thread. `cargo bench -p gpu-emu`

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use gpu_emu::{Config, Emulator, Host, LaunchConfig, Progress};
use gpu_rt::atomic::{DeviceAtomicU32, Ordering, SystemAtomicU32};
use gpu_rt::{Block, Group, Warp, thread};

/// A word that shares its cache line with no other.
#[repr(align(64))]
struct Cell(SystemAtomicU32);

/// A host that increments some cells at each poll.
struct Answerer {
    cells: Arc<[Cell]>,
    next: AtomicUsize,
    batch: usize,
}

impl Host for Answerer {
    fn poll(&self, _worker: usize) -> Progress {
        for _ in 0..self.batch {
            let next = self.next.fetch_add(1, Ordering::Relaxed) % self.cells.len();
            let Cell(word) = &self.cells[next];
            // Release: pairs with the Acquire load of the wait.
            word.store(word.load(Ordering::Relaxed) + 1, Ordering::Release);
        }
        Progress::Worked
    }
}

/// Runs `kernel` a few times; the shortest time and the switches of one run.
fn best(config: Config, launch: LaunchConfig, kernel: &(dyn Fn() + Sync)) -> (Duration, u64) {
    let emulator = Emulator::new(config);
    (0..7)
        .map(|_| {
            let start = Instant::now();
            let report = emulator.run_fn("bench", launch, kernel).expect("the kernel runs");
            (start.elapsed(), report.switches)
        })
        .min()
        .expect("ran more than once")
}

fn one_worker(resident_threads: u32) -> Config {
    Config { workers: 1, resident_threads, ..Config::default() }
}

fn main() {
    const ROUNDS: u32 = 2000;
    let row = |what: &str, per: &str, (time, _): (Duration, u64), count: u64| {
        println!("{what:<48} {:>9.1} ns {per}", time.as_nanos() as f64 / count as f64);
    };

    for threads in [1, 32, 1024] {
        let spin = || (0..ROUNDS).for_each(|_| gpu_rt::relax());
        let result = best(one_worker(2048), LaunchConfig::new(1, threads), &spin);
        row(&format!("relax, {threads} threads"), "a switch", result, result.1);
    }
    let spin = || (0..200).for_each(|_| gpu_rt::relax());
    let result = best(one_worker(4096), LaunchConfig::new(16, 256), &spin);
    row("relax, 4,096 threads", "a switch", result, result.1);

    let sync = || (0..ROUNDS).for_each(|_| Warp::all().sync());
    let result = best(one_worker(2048), LaunchConfig::new(1, 256), &sync);
    row("sync of a warp, 256 threads", "a thread", result, 256 * u64::from(ROUNDS));
    let sync = || (0..ROUNDS).for_each(|_| _ = Warp::converged());
    let result = best(one_worker(2048), LaunchConfig::new(1, 256), &sync);
    row("converged, 256 threads", "a thread", result, 256 * u64::from(ROUNDS));
    let vote = || (0..ROUNDS).for_each(|round| _ = gpu_rt::ballot(u32::MAX, round % 2 == 0));
    let result = best(one_worker(2048), LaunchConfig::new(1, 256), &vote);
    row("ballot, 256 threads", "a thread", result, 256 * u64::from(ROUNDS));
    let sync = || (0..ROUNDS).for_each(|_| Block.sync());
    let result = best(one_worker(2048), LaunchConfig::new(1, 256), &sync);
    row("sync of a block, 256 threads", "a thread", result, 256 * u64::from(ROUNDS));
    let sync = || (0..ROUNDS).for_each(|round| _ = Block.broadcast(u64::from(round)));
    let result = best(one_worker(2048), LaunchConfig::new(1, 256), &sync);
    row("broadcast in a block, 256 threads", "a thread", result, 256 * u64::from(ROUNDS));

    // Everyone waits for a word that the last to come changes: a cycle is a wait, a look and a
    // wake-up for each.
    for threads in [256_u32, 4096] {
        const CYCLES: u32 = 100;
        let (word, come) = (DeviceAtomicU32::new(0), DeviceAtomicU32::new(0));
        let wait = || {
            for cycle in word.load(Ordering::Relaxed).. {
                if cycle % (CYCLES + 1) == CYCLES {
                    break;
                }
                if come.fetch_add(1, Ordering::Relaxed) + 1 == threads {
                    come.store(0, Ordering::Relaxed);
                    word.store(cycle + 1, Ordering::Release);
                }
                while gpu_rt::wait_while_eq(&word, cycle, u64::MAX) == cycle {}
            }
            if thread::index() == 0 {
                word.store(0, Ordering::Relaxed);
            }
        };
        let result = best(one_worker(4096), LaunchConfig::new(threads / 256, 256), &wait);
        let count = u64::from(CYCLES * threads);
        row(&format!("wait for a word, {threads} threads"), "a thread", result, count);
    }

    // Everyone waits for a word of their own, and the host changes some of them at a time.
    for batch in [1, 64] {
        const THREADS: u64 = 4096;
        const WAITS: u32 = 10;
        let cells: Arc<[Cell]> = (0..THREADS).map(|_| Cell(SystemAtomicU32::new(0))).collect();
        let host = Answerer { cells: Arc::clone(&cells), next: AtomicUsize::new(0), batch };
        let config = Config { host: Arc::new(host), ..one_worker(4096) };
        let wait = || {
            let Cell(word) = &cells[thread::index() as usize];
            let first = word.load(Ordering::Relaxed);
            for value in first..first + WAITS {
                while gpu_rt::wait_while_eq(word, value, u64::MAX) == value {}
            }
        };
        let result = best(config, LaunchConfig::new(16, 256), &wait);
        let what = format!("answers from the host, {batch} at a time");
        row(&what, "an answer", result, u64::from(WAITS) * THREADS);
    }

    let nothing = || {};
    let result = best(Config::default(), LaunchConfig::new(256, 256), &nothing);
    row("launch of 65,536 threads that do nothing", "a thread", result, 65_536);
    println!("{:<48} {:>9.2} ms", "  in all", result.0.as_secs_f64() * 1e3);
    let emulator = Emulator::new(Config::default());
    let start = Instant::now();
    emulator.run_fn("bench", LaunchConfig::new(256, 256), &nothing).expect("the kernel runs");
    println!(
        "{:<48} {:>9.2} ms",
        "  in all, stacks never used before",
        start.elapsed().as_secs_f64() * 1e3
    );

    // A page copied within a warp: by its leader, as gpu_rt does it here, or each lane its share.
    const PAGE: usize = 4096;
    let copies = LaunchConfig::new(1, 32).shared_bytes(2 * PAGE);
    let by_leader = || {
        let page = gpu_rt::shared::dynamic();
        for _ in 0..ROUNDS {
            // SAFETY: the two halves of the shared memory; the warp synchronises after each copy.
            unsafe { gpu_rt::mem::copy(&Warp::all(), page.add(PAGE), page, PAGE) };
            Warp::all().sync();
        }
    };
    let result = best(one_worker(2048), copies, &by_leader);
    row("copy of a page by the leader, and sync", "a page", result, u64::from(ROUNDS));
    let by_shares = || {
        let (page, share) = (gpu_rt::shared::dynamic(), PAGE / 32);
        for _ in 0..ROUNDS {
            let at = thread::lane_id() as usize * share;
            // SAFETY: as above.
            unsafe { std::ptr::copy_nonoverlapping(page.add(at), page.add(PAGE + at), share) };
            Warp::all().sync();
        }
    };
    let result = best(one_worker(2048), copies, &by_shares);
    row("copy of a page by all lanes, and sync", "a page", result, u64::from(ROUNDS));

    let word = DeviceAtomicU32::new(0);
    let count = || (0..1000).for_each(|_| _ = word.fetch_add(1, Ordering::Relaxed));
    let result = best(one_worker(2048), LaunchConfig::new(1, 32), &count);
    row("fetch_add", "each", result, 32_000);
}
