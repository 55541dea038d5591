//! What would be undefined, or hang, on a GPU is reported here, with threads and places.

use std::time::Duration;

use gpu_emu::{Config, Doing, Emulator, Fault, Guard, LaunchConfig, LaunchError, Schedule};
use gpu_rt::atomic::{DeviceAtomicU32, Ordering};
use gpu_rt::{Block, Dim3, Group, Warp, thread};

/// The failure of `kernel`, in each mode; the emulator must be usable afterwards.
fn failures(config: LaunchConfig, kernel: &(dyn Fn() + Sync), check: impl Fn(&LaunchError)) {
    for config_of_emulator in [
        Config { workers: 2, ..Config::default() },
        Config::deterministic(Schedule::RoundRobin),
        Config::deterministic(Schedule::Random { seed: 5 }),
    ] {
        let emulator = Emulator::new(config_of_emulator);
        for _ in 0..2 {
            let error =
                emulator.run_fn("faulty", config, kernel).expect_err("the kernel is faulty");
            assert!(error.to_string().starts_with("kernel `faulty`: "), "{error}");
            check(&error);
            let ran = DeviceAtomicU32::new(0);
            let count = || _ = ran.fetch_add(1, Ordering::Relaxed);
            emulator.run_fn("sound", LaunchConfig::new(4, 64), &count).unwrap();
            assert_eq!(ran.load(Ordering::Relaxed), 256);
        }
    }
}

#[test]
fn impossible_shapes() {
    let emulator = Emulator::new(Config { resident_threads: 512, ..Config::default() });
    let fault = |config: LaunchConfig| {
        *emulator
            .run_fn("shape", config, &|| unreachable!("never starts"))
            .expect_err("impossible")
            .fault
    };
    assert!(matches!(fault(LaunchConfig::new(0, 32)), Fault::Empty { .. }));
    assert!(matches!(fault(LaunchConfig::new(1, (4, 0, 1))), Fault::Empty { .. }));
    assert!(matches!(
        fault(LaunchConfig::new(1, (32, 33))),
        Fault::BlockTooLarge { threads: 1056 }
    ));
    let does_not_fit = fault(LaunchConfig::new(1, 513));
    assert!(matches!(does_not_fit, Fault::BlockDoesNotFit { threads: 513, resident: 512 }));
    assert!(does_not_fit.to_string().contains("Config::resident_threads"));
    let shared = fault(LaunchConfig::new(1, 1).shared_bytes(1 << 20));
    assert!(matches!(shared, Fault::SharedTooLarge { bytes: 1_048_576 }));
}

#[test]
fn a_panic_with_its_message_and_place() {
    failures(
        LaunchConfig::new(3, 64),
        &|| {
            if (thread::block_idx().x, thread::rank()) == (1, 37) {
                panic!("seven times {}", 6);
            }
            Block.sync();
            Block.sync();
        },
        |error| {
            let Fault::Panicked { lane, message, at } = &*error.fault else { panic!("{error}") };
            assert_eq!((lane.block, lane.thread), (Dim3::new(1, 0, 0), Dim3::new(37, 0, 0)));
            assert_eq!(message, "seven times 6");
            assert!(at.contains("reports.rs:"), "{at}");
        },
    );
}

/// Synchronises when it is dropped, as a guard in device code may.
struct SyncOnDrop;

impl Drop for SyncOnDrop {
    fn drop(&mut self) {
        Block.sync();
        gpu_rt::relax();
        let _ = Warp::converged();
    }
}

#[test]
fn a_panic_through_a_destructor_that_synchronises() {
    failures(
        LaunchConfig::new(1, 33),
        &|| {
            let _guard = SyncOnDrop;
            assert_ne!(thread::rank(), 32, "the last one");
        },
        |error| {
            let Fault::Panicked { message, .. } = &*error.fault else { panic!("{error}") };
            assert!(message.contains("the last one"), "{message}");
        },
    );
}

#[test]
fn a_mask_without_the_caller() {
    failures(LaunchConfig::new(1, 32), &|| gpu_rt::sync_warp(0xffff_fffe), |error| {
        let Fault::NotInMask { lane, number: 0, op: "sync_warp", mask: 0xffff_fffe, at } =
            &*error.fault
        else {
            panic!("{error}")
        };
        assert_eq!(lane.thread, Dim3::ZERO);
        assert!(at.file().ends_with("reports.rs"));
    });
}

#[test]
fn a_mask_with_lanes_that_do_not_exist() {
    failures(LaunchConfig::new(1, 8), &|| _ = gpu_rt::ballot(u32::MAX, true), |error| {
        assert!(
            matches!(*error.fault, Fault::ExitedInMask { gone: 0xffff_ff00, op: "ballot", .. }),
            "{error}"
        );
    });
}

#[test]
fn a_mask_with_lanes_that_exit() {
    failures(
        LaunchConfig::new(1, 32),
        &|| {
            if thread::rank() != 3 {
                Warp::all().sync();
            }
        },
        |error| {
            assert!(matches!(*error.fault, Fault::ExitedInMask { gone: 8, .. }), "{error}");
        },
    );
}

#[test]
fn masks_that_differ() {
    failures(
        LaunchConfig::new(1, 32),
        &|| gpu_rt::sync_warp(if thread::rank() == 9 { 0x3ff } else { u32::MAX }),
        |error| {
            let Fault::Mismatch { mask, other_mask, .. } = *error.fault else { panic!("{error}") };
            assert_eq!(mask.min(other_mask), 0x3ff, "{error}");
            assert_eq!(mask.max(other_mask), u32::MAX, "{error}");
        },
    );
}

#[test]
fn functions_that_differ() {
    failures(
        LaunchConfig::new(1, 32),
        &|| {
            if thread::rank() < 16 {
                gpu_rt::sync_warp(u32::MAX);
            } else {
                let _ = gpu_rt::match_any(u32::MAX, 1);
            }
        },
        |error| {
            assert!(matches!(*error.fault, Fault::Mismatch { .. }), "{error}");
            let text = error.to_string();
            assert!(text.contains("sync_warp") && text.contains("match_any"), "{text}");
        },
    );
}

#[test]
fn masks_that_overlap_in_turn_are_fine() {
    let emulator = Emulator::new(Config::default());
    let kernel = || {
        let lane = thread::lane_id();
        // Lanes 0 and 2 wait for each other while 0 is still to meet 1.
        if lane == 1 {
            gpu_rt::nanosleep(1000);
        }
        if lane < 2 {
            gpu_rt::sync_warp(0b011);
        }
        if lane != 1 {
            gpu_rt::sync_warp(0b101);
        }
    };
    emulator.run_fn("chain", LaunchConfig::new(1, 3), &kernel).unwrap();
}

#[test]
fn a_shuffle_from_outside_the_mask() {
    failures(LaunchConfig::new(1, 32), &|| _ = gpu_rt::shfl(u32::MAX, 1, 32), |error| {
        assert!(matches!(*error.fault, Fault::SourceNotInMask { source_lane: 32, .. }), "{error}");
    });
}

#[test]
#[allow(clippy::if_same_then_else, reason = "it is not the same place")]
fn barriers_that_diverge() {
    failures(
        LaunchConfig::new(1, 64),
        &|| {
            if thread::rank() < 32 {
                gpu_rt::sync_threads();
            } else {
                gpu_rt::sync_threads();
            }
        },
        |error| {
            let Fault::DivergentBarrier { lane, at, other, other_at } = &*error.fault else {
                panic!("{error}")
            };
            assert_ne!(lane, other);
            assert_ne!(at.line(), other_at.line());
        },
    );
}

#[test]
fn a_deadlock_names_who_waits_where() {
    failures(
        LaunchConfig::new(2, 64),
        &|| {
            // Lane 5 never comes to the barrier: it waits for lane 6, which is at the barrier.
            if thread::rank() == 5 && thread::block_idx().x == 1 {
                gpu_rt::sync_warp(0b110_0000);
            }
            gpu_rt::sync_threads();
        },
        |error| {
            let Fault::Deadlock { roll } = &*error.fault else { panic!("{error}") };
            assert_eq!(roll.0.len(), 64);
            for entry in &roll.0 {
                let expected = if entry.lane.thread.x == 5 {
                    Doing::Warp { op: "sync_warp", mask: 0b110_0000 }
                } else {
                    Doing::Barrier
                };
                assert_eq!(entry.doing, expected);
                assert!(entry.at.is_some_and(|at| at.file().ends_with("reports.rs")));
            }
            let text = error.to_string();
            assert!(
                text.contains("thread (6, 0, 0) and 57 more: at a barrier of the block"),
                "{text}"
            );
        },
    );
}

#[test]
fn time_that_is_out() {
    let word = DeviceAtomicU32::new(0);
    failures(
        LaunchConfig::new(2, 64).timeout(Duration::from_millis(20)),
        &|| match thread::rank() {
            0 => {
                while word.load(Ordering::Relaxed) == 0 {
                    gpu_rt::relax();
                }
            }
            1 => while gpu_rt::wait_while_eq(&word, 0, 1_000_000) == 0 {},
            2 => loop {
                gpu_rt::nanosleep(u32::MAX);
            },
            _ => gpu_rt::sync_threads(),
        },
        |error| {
            let Fault::Timeout { roll, .. } = &*error.fault else { panic!("{error}") };
            assert!(roll.0.len() >= 64, "{error}");
            let text = error.to_string();
            assert!(text.contains("not finished within 20ms"), "{text}");
            assert!(text.contains("at a barrier"), "{text}");
        },
    );
}

#[test]
fn steps_that_are_out() {
    let config =
        Config { max_steps: 10_000, ..Config::deterministic(Schedule::Pct { depth: 2, seed: 1 }) };
    let forever = || loop {
        gpu_rt::relax();
    };
    let error = Emulator::new(config)
        .run_fn("spin", LaunchConfig::new(1, 4), &forever)
        .expect_err("endless");
    assert!(
        matches!(&*error.fault, Fault::Timeout { limit, .. } if limit == "within 10000 steps"),
        "{error}"
    );
    assert_eq!(error.replay.expect("deterministic").steps, 10_000);
}

/// Uses about `kib` kibibytes of stack.
fn recurse(kib: u32) -> u8 {
    let mut frame = [kib as u8; 1024];
    std::hint::black_box(&mut frame);
    if kib == 0 { frame[0] } else { frame[1].wrapping_add(recurse(kib - 1)) }
}

#[test]
fn a_stack_that_overflows_into_the_canary() {
    let config = Config { guard: Guard::Canary, stack_size: 64 << 10, ..Config::default() };
    let emulator = Emulator::new(config);
    let shallow = || _ = std::hint::black_box(recurse(20));
    let deep = || {
        if thread::rank() == 40 {
            // Each call goes a frame deeper, so that one of them ends in the canary page.
            for kib in 20..64 {
                std::hint::black_box(recurse(kib));
                gpu_rt::relax();
            }
        }
    };
    emulator.run_fn("shallow", LaunchConfig::new(2, 64), &shallow).unwrap();
    let error = emulator.run_fn("deep", LaunchConfig::new(1, 64), &deep).expect_err("too deep");
    let Fault::StackOverflow { lane, stack_size: 65_536 } = &*error.fault else {
        panic!("{error}")
    };
    assert_eq!(lane.thread.x, 40);
    emulator.run_fn("shallow", LaunchConfig::new(2, 64), &shallow).unwrap();
}

/// Set in the process that is to die.
const VICTIM: &str = "GPU_EMU_TEST_OVERFLOW";

#[test]
fn a_stack_that_overflows_into_the_guard_page() {
    if std::env::var_os(VICTIM).is_some() {
        let deep = || {
            if thread::rank() == 33 {
                std::hint::black_box(recurse(1000));
            }
        };
        let error =
            Emulator::new(Config::default()).run_fn("deep", LaunchConfig::new(1, 64), &deep);
        // Without guard pages the canaries may or may not see it.
        panic!("gpu-emu: kernel `deep`: thread (33, 0, 0) overflowed its stack: {error:?}");
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_stack_that_overflows_into_the_guard_page", "--nocapture"])
        .env(VICTIM, "1")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("gpu-emu: kernel `deep`: "), "{text}");
    assert!(text.contains("thread (33, 0, 0) overflowed its stack"), "{text}");
}
