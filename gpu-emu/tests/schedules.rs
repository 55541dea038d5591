//! Names of schedules, and what each kind is good for.

use gpu_emu::{Config, Emulator, Fault, LaunchConfig, Schedule};
use gpu_rt::atomic::{DeviceAtomicU32, Ordering};
use gpu_rt::{Block, Group, Warp, thread};

#[test]
fn names_are_parsed_as_they_are_displayed() {
    for schedule in [
        Schedule::RoundRobin,
        Schedule::Random { seed: u64::MAX },
        Schedule::Pct { depth: 3, seed: 0 },
    ] {
        assert_eq!(schedule.to_string().parse(), Ok(schedule));
    }
    for text in
        ["", "rr:1", "random", "random:x", "random:-1", "pct:1", "pct:0:1", "pct:1:2:3", "fast"]
    {
        let error = text.parse::<Schedule>().expect_err(text);
        assert!(error.to_string().contains("write rr, random:SEED or pct:DEPTH:SEED"));
    }
}

/// Deadlocks if thread 0 of either block takes its first lock, and then the other does before
/// either takes its second.
fn take_locks_in_opposite_order(emulator: &Emulator) -> Result<(), Fault> {
    let locks: [DeviceAtomicU32; 2] = bytemuck::Zeroable::zeroed();
    let lock = |word: &DeviceAtomicU32| {
        // Acquire: pairs with the Release that frees the lock.
        while word.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            gpu_rt::wait_while_eq(word, 1, u64::MAX);
        }
    };
    let kernel = || {
        let block = thread::block_idx().x as usize;
        for word in [&locks[block], &locks[1 - block]] {
            lock(word);
        }
        for word in &locks {
            word.store(0, Ordering::Release);
        }
        Block.sync();
    };
    emulator
        .run_fn("philosophers", LaunchConfig::new(2, 1), &kernel)
        .map(drop)
        .map_err(|error| *error.fault)
}

#[test]
fn schedules_find_a_deadlock_and_name_the_words() {
    for template in [Schedule::Random { seed: 0 }, Schedule::Pct { depth: 2, seed: 0 }] {
        let found = (0..200).find_map(|seed| {
            let emulator = Emulator::new(Config::deterministic(template.with_seed(seed)));
            take_locks_in_opposite_order(&emulator).err()
        });
        let Some(Fault::Deadlock { roll }) = found else { panic!("{template} found {found:?}") };
        let text = roll.to_string();
        assert!(
            text.contains("waiting for the word at") && text.contains("schedules.rs:"),
            "{text}"
        );
    }
}

#[test]
fn virtual_time_jumps_when_everyone_waits() {
    let hour = 3_600_000_000_000;
    let emulator = Emulator::new(Config::deterministic(Schedule::RoundRobin));
    let kernel = || {
        let (word, start) = (DeviceAtomicU32::new(0), gpu_rt::clock());
        gpu_rt::wait_while_eq(&word, 0, hour * u64::from(1 + thread::rank()));
        assert!(gpu_rt::clock() - start >= hour);
    };
    emulator.run_fn("patient", LaunchConfig::new(1, 32), &kernel).unwrap();
}

/// A lane that holds what the others of its warp spin for asks who is there: under no schedule may it
/// wait for all of them to stop spinning.
#[test]
fn converging_does_not_wait_for_those_who_spin() {
    for schedule in
        [Schedule::RoundRobin, Schedule::Random { seed: 5 }, Schedule::Pct { depth: 3, seed: 5 }]
    {
        let config = Config { max_steps: 1_000_000, ..Config::deterministic(schedule) };
        let emulator = Emulator::new(config);
        let (taken, done) = (DeviceAtomicU32::new(0), DeviceAtomicU32::new(0));
        let kernel = || {
            // Acquire: pairs with the Release below.
            while taken.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
                // Some of them are in the midst of it at any time.
                for _ in 0..thread::lane_id() % 7 {
                    let _ = taken.load(Ordering::Relaxed);
                }
                gpu_rt::relax();
            }
            let group = Warp::converged();
            assert!(group.mask() >> thread::lane_id() & 1 == 1);
            done.fetch_add(1, Ordering::Relaxed);
            taken.store(0, Ordering::Release);
        };
        emulator.run_fn("hold_and_converge", LaunchConfig::new(2, 64), &kernel).unwrap();
        assert_eq!(done.load(Ordering::Relaxed), 128);
    }
}
