//! Several launches, and what workers do between and during them.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use gpu_emu::{Config, Emulator, Fault, Host, LaunchConfig, Progress, Schedule};
use gpu_rt::atomic::{DeviceAtomicU32, Ordering, SystemAtomicU32};
use gpu_rt::{Block, Group, thread};

#[test]
fn launches_run_side_by_side() {
    for config in [
        Config { workers: 1, ..Config::default() },
        Config { workers: 2, ..Config::default() },
        Config::deterministic(Schedule::Random { seed: 3 }),
    ] {
        let emulator = Emulator::new(config);
        let words: Arc<[DeviceAtomicU32; 2]> = Arc::new(bytemuck::Zeroable::zeroed());
        // Each of two launches waits for the other.
        let handles = [0, 1].map(|me| {
            let words = Arc::clone(&words);
            emulator
                .submit_fn("pair", LaunchConfig::new(4, 32), move || {
                    if Block.is_leader() {
                        words[me].fetch_add(1, Ordering::Release);
                    }
                    loop {
                        let come = words[1 - me].load(Ordering::Acquire);
                        if come == 4 {
                            break;
                        }
                        gpu_rt::wait_while_eq(&words[1 - me], come, 1_000_000);
                    }
                })
                .unwrap()
        });
        for handle in handles {
            assert_eq!(handle.wait().unwrap().threads, 128);
        }
    }
}

#[test]
fn blocks_beyond_the_occupancy_follow() {
    for workers in [1, 2] {
        let emulator =
            Emulator::new(Config { workers, resident_threads: 128, ..Config::default() });
        let (resident, most, sum) =
            (AtomicUsize::new(0), AtomicUsize::new(0), DeviceAtomicU32::new(0));
        let kernel = || {
            if Block.is_leader() {
                let now = resident.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
                most.fetch_max(now, std::sync::atomic::Ordering::Relaxed);
            }
            gpu_rt::nanosleep(1000);
            Block.sync();
            sum.fetch_add(1, Ordering::Relaxed);
            Block.sync();
            if Block.is_leader() {
                resident.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
            }
        };
        emulator.run_fn("many", LaunchConfig::new(100, 50), &kernel).unwrap();
        assert_eq!(sum.into_value(), 5000);
        assert!(most.into_inner() <= 2 * workers);
    }
}

/// The value of a word that nobody else sees any more.
trait IntoValue {
    fn into_value(self) -> u32;
}

impl IntoValue for DeviceAtomicU32 {
    fn into_value(self) -> u32 {
        self.load(Ordering::Relaxed)
    }
}

#[test]
fn small_launches_are_spread_over_the_workers() {
    let emulator = Emulator::new(Config { workers: 2, ..Config::default() });
    let blocks: [DeviceAtomicU32; 2] = bytemuck::Zeroable::zeroed();
    let kernel = || {
        if Block.is_leader() {
            blocks[thread::sm_id() as usize].fetch_add(1, Ordering::Relaxed);
        }
        // Until all blocks are there: neither worker can take a third.
        for word in &blocks {
            while gpu_rt::wait_while_eq(word, 0, 1_000_000) < 2 {
                gpu_rt::nanosleep(1000);
            }
        }
    };
    emulator.run_fn("spread", LaunchConfig::new(4, 32), &kernel).unwrap();
    assert_eq!(blocks.map(IntoValue::into_value), [2, 2]);
}

#[test]
fn fibers_are_reused_for_blocks_of_other_shapes() {
    for config in [Config::default(), Config::deterministic(Schedule::RoundRobin)] {
        let emulator = Emulator::new(config);
        for threads in [1, 33, 1024, 7, 64, 500] {
            let sum = DeviceAtomicU32::new(0);
            let kernel = || {
                Block.sync();
                sum.fetch_add(thread::rank(), Ordering::Relaxed);
            };
            emulator.run_fn("shape", LaunchConfig::new(3, threads), &kernel).unwrap();
            assert_eq!(sum.into_value(), 3 * threads * (threads - 1) / 2);
        }
    }
}

#[test]
fn a_failed_launch_leaves_others_alone() {
    let emulator = Emulator::new(Config { workers: 2, ..Config::default() });
    let go = Arc::new(DeviceAtomicU32::new(0));
    let patient = {
        let go = Arc::clone(&go);
        emulator.submit_fn("patient", LaunchConfig::new(4, 64), move || {
            while gpu_rt::wait_while_eq(&*go, 0, 1_000_000) == 0 {}
            Block.sync();
        })
    }
    .unwrap();
    for _ in 0..3 {
        let faulty = emulator
            .submit_fn("faulty", LaunchConfig::new(8, 64), || assert!(thread::rank() != 63))
            .unwrap();
        assert!(matches!(*faulty.wait().expect_err("faulty").fault, Fault::Panicked { .. }));
    }
    assert!(!patient.is_finished());
    go.store(1, Ordering::Release);
    patient.wait().unwrap();
}

#[test]
fn a_launch_that_never_finds_room_is_out_of_time_too() {
    let config = Config { workers: 1, resident_threads: 64, ..Config::default() };
    let emulator = Emulator::new(config);
    let go = Arc::new(DeviceAtomicU32::new(0));
    let first = {
        let go = Arc::clone(&go);
        emulator.submit_fn("first", LaunchConfig::new(1, 64), move || {
            while gpu_rt::wait_while_eq(&*go, 0, 1_000_000) == 0 {}
        })
    }
    .unwrap();
    let config = LaunchConfig::new(1, 1).timeout(Duration::from_millis(10));
    let second = emulator.submit_fn("second", config, || {}).unwrap();
    assert!(matches!(*second.wait().expect_err("no room").fault, Fault::Timeout { .. }));
    go.store(1, Ordering::Release);
    first.wait().unwrap();
}

#[test]
fn dropping_the_emulator_ends_what_is_under_way() {
    for config in [Config::default(), Config::deterministic(Schedule::RoundRobin)] {
        let emulator = Emulator::new(config);
        let handles = [0, 1].map(|_| {
            emulator
                .submit_fn("endless", LaunchConfig::new(100, 1024), || {
                    loop {
                        gpu_rt::nanosleep(1000);
                    }
                })
                .unwrap()
        });
        drop(emulator);
        for handle in handles {
            assert!(matches!(*handle.wait().expect_err("endless").fault, Fault::ShutDown));
        }
    }
}

#[test]
fn host_threads_wake_waiting_threads() {
    let emulator = Emulator::new(Config { workers: 2, ..Config::default() });
    let word = Arc::new(SystemAtomicU32::new(0));
    let waiting = {
        let word = Arc::clone(&word);
        emulator.submit_fn("wait", LaunchConfig::new(4, 256), move || {
            while gpu_rt::wait_while_eq(&*word, 0, u64::MAX) == 0 {}
        })
    }
    .unwrap();
    let waker = emulator.waker();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(5));
        // Release: pairs with the Acquire load of the wait.
        word.store(1, Ordering::Release);
        waker.wake();
    });
    waiting.wait().unwrap();
}

/// Answers each request by its successor, a few polls later.
struct Server {
    request: SystemAtomicU32,
    answer: SystemAtomicU32,
    polls: AtomicUsize,
    parks: AtomicUsize,
    thinks: u32,
    left: SystemAtomicU32,
}

impl Host for Server {
    fn poll(&self, _worker: usize) -> Progress {
        assert!(!gpu_rt::host::in_lane());
        self.polls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (request, answer) =
            (self.request.load(Ordering::Acquire), self.answer.load(Ordering::Relaxed));
        if request == answer {
            return Progress::Idle;
        }
        match self.left.load(Ordering::Relaxed) {
            0 => {
                self.left.store(self.thinks, Ordering::Relaxed);
                // Release: pairs with the Acquire load of the wait.
                self.answer.store(request, Ordering::Release);
                Progress::Worked
            }
            left => {
                self.left.store(left - 1, Ordering::Relaxed);
                Progress::Pending
            }
        }
    }

    fn park(&self, _worker: usize, timeout: Duration) {
        self.parks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        std::thread::park_timeout(timeout);
    }
}

#[test]
fn workers_drive_the_host_when_all_threads_wait_or_spin() {
    for spin in [false, true] {
        for base in [
            Config { workers: 1, ..Config::default() },
            Config::deterministic(Schedule::RoundRobin),
            Config::deterministic(Schedule::Random { seed: 1 }),
            Config::deterministic(Schedule::Pct { depth: 3, seed: 1 }),
        ] {
            let server = Arc::new(Server {
                request: SystemAtomicU32::new(0),
                answer: SystemAtomicU32::new(0),
                polls: AtomicUsize::new(0),
                parks: AtomicUsize::new(0),
                thinks: 20,
                left: SystemAtomicU32::new(20),
            });
            let emulator = Emulator::new(Config { host: Arc::clone(&server) as _, ..base });
            let kernel = || {
                for round in 1..=5 {
                    if Block.is_leader() {
                        server.request.store(round, Ordering::Release);
                        while server.answer.load(Ordering::Acquire) != round {
                            if spin {
                                gpu_rt::relax();
                            } else {
                                gpu_rt::wait_while_eq(&server.answer, round - 1, u64::MAX);
                            }
                        }
                    }
                    Block.sync();
                }
            };
            emulator.run_fn("ask", LaunchConfig::new(1, 64), &kernel).unwrap();
            assert!(server.polls.load(std::sync::atomic::Ordering::Relaxed) >= 5 * 21);
            if !spin {
                assert!(server.parks.load(std::sync::atomic::Ordering::Relaxed) > 0);
            }
        }
    }
}

/// Panics once.
struct Clumsy(AtomicUsize);

impl Host for Clumsy {
    fn poll(&self, _worker: usize) -> Progress {
        let polls = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        assert_ne!(polls, 50, "dropped something");
        Progress::Worked
    }
}

#[test]
fn a_host_that_panics_fails_the_launch() {
    for base in [Config::default(), Config::deterministic(Schedule::RoundRobin)] {
        let host = Arc::new(Clumsy(AtomicUsize::new(0)));
        let emulator = Emulator::new(Config { workers: 1, host, ..base });
        let forever = || loop {
            gpu_rt::nanosleep(1000);
        };
        // The panic may hit a worker without blocks.
        let config = LaunchConfig::new(1, 32).timeout(Duration::from_millis(50));
        let error = emulator.run_fn("served", config, &forever).expect_err("endless");
        match &*error.fault {
            Fault::Host(message) => assert!(message.contains("dropped something")),
            fault => assert!(matches!(fault, Fault::Timeout { .. }), "{fault}"),
        }
        emulator.run_fn("sound", LaunchConfig::new(4, 64), &|| Block.sync()).unwrap();
    }
}

/// The CPU time that this thread's process has used.
fn cpu_time() -> Duration {
    // SAFETY: all zeroes is a valid `timespec`, and the call fills it.
    let time = unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time);
        time
    };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[test]
fn workers_sleep_when_all_threads_wait() {
    // In a process of its own, so that the other tests' time does not count.
    const ALONE: &str = "GPU_EMU_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "workers_sleep_when_all_threads_wait"])
            .env(ALONE, "1")
            .status()
            .unwrap();
        return assert!(status.success());
    }
    let emulator = Emulator::new(Config { workers: 2, ..Config::default() });
    let word = DeviceAtomicU32::new(0);
    let kernel =
        || while gpu_rt::wait_while_eq(&word, 0, 300_000_000) == 0 && word.as_ptr().is_null() {};
    let before = cpu_time();
    emulator.run_fn("wait", LaunchConfig::new(8, 256), &kernel).unwrap();
    let used = cpu_time() - before;
    assert!(used < Duration::from_millis(100), "0.3 s of two sleeping workers took {used:?}");
}
