//! A failure under a seeded schedule can be seen again, from what was printed.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

use gpu_emu::{
    Config, Emulator, LaunchConfig, LaunchError, LaunchReport, Schedule, VARIABLE, explore,
};
use gpu_rt::atomic::{DeviceAtomicU32, Ordering};
use gpu_rt::thread;

/// Counts with a load and a store instead of one addition, and checks nothing but the sum: loses
/// updates when another thread runs between the two.
fn count_racily(emulator: &Emulator) -> (u32, LaunchReport) {
    let counter = DeviceAtomicU32::new(0);
    let kernel = || {
        // Far apart, so that most schedules lose nothing.
        gpu_rt::nanosleep(thread::rank() * 1_000);
        let seen = counter.load(Ordering::Relaxed);
        counter.store(seen + 1, Ordering::Relaxed);
    };
    let report = emulator.run_fn("racy", LaunchConfig::new(1, 4), &kernel).unwrap();
    (counter.load(Ordering::Relaxed), report)
}

/// The same, with the kernel itself noticing.
fn fail_racily(schedule: Schedule) -> Result<LaunchReport, LaunchError> {
    let emulator = Emulator::new(Config::deterministic(schedule));
    let (counter, done) = (DeviceAtomicU32::new(0), DeviceAtomicU32::new(0));
    let kernel = || {
        let seen = counter.load(Ordering::Relaxed);
        counter.store(seen + 1, Ordering::Relaxed);
        if done.fetch_add(1, Ordering::Relaxed) == 1 {
            assert_eq!(counter.load(Ordering::Relaxed), 2, "an update was lost");
        }
    };
    emulator.run_fn("racy", LaunchConfig::new(1, 2), &kernel)
}

#[test]
fn the_schedule_in_an_error_brings_the_same_error_and_trace() {
    for template in [Schedule::Random { seed: 0 }, Schedule::Pct { depth: 2, seed: 0 }] {
        let outcomes: Vec<_> = (0..50).map(|seed| fail_racily(template.with_seed(seed))).collect();
        assert!(outcomes.iter().any(Result::is_ok), "{template} never succeeds");
        let failed: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
        let first = failed.first().expect("some seed loses an update");
        let replay = first.replay.as_ref().expect("deterministic");

        // From the text that was printed, as a user would.
        let text = first.to_string();
        let command = text.split("replay: ").nth(1).unwrap();
        let name = command.strip_prefix("GPU_EMU_SCHEDULE=").unwrap().split(' ').next().unwrap();
        assert!(
            command
                .ends_with("the_schedule_in_an_error_brings_the_same_error_and_trace -- --exact")
        );
        let again = fail_racily(name.parse().unwrap()).expect_err("fails again");
        assert_eq!(again.to_string(), text);
        assert_eq!(again.replay.as_ref(), Some(replay));

        let traces: std::collections::BTreeSet<_> =
            failed.iter().map(|error| error.replay.as_ref().unwrap().trace).collect();
        // PCT has only a handful of schedules of two threads.
        let pct = matches!(template, Schedule::Pct { .. });
        assert!(pct || traces.len() > 1, "all seeds lead to one schedule");
    }
}

#[test]
fn a_launch_does_not_depend_on_those_before_it() {
    let emulator = Emulator::new(Config::deterministic(Schedule::Random { seed: 9 }));
    let traces = [(); 5].map(|()| count_racily(&emulator).1.trace);
    assert!(traces[0].is_some());
    assert!(traces.iter().all(|trace| *trace == traces[0]), "{traces:?}");
}

/// Fails under some schedules: run by the test below in a process of its own.
#[test]
fn victim() {
    if std::env::var_os("GPU_EMU_TEST_VICTIM").is_some() {
        let config = Config::deterministic(Schedule::Pct { depth: 2, seed: 0 });
        explore(&config, 0..200, |emulator| {
            let (count, report) = count_racily(emulator);
            let trace = report.trace.unwrap();
            assert_eq!(count, 4, "lost under trace {trace:016x}");
        });
    }
}

#[test]
fn the_printed_command_replays_a_failure() {
    let run = |schedule: Option<&str>, filter: &[&str]| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(filter).env("GPU_EMU_TEST_VICTIM", "1");
        match schedule {
            Some(schedule) => command.env(VARIABLE, schedule),
            None => command.env_remove(VARIABLE),
        };
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let (success, text) = run(None, &["victim", "--exact"]);
    assert!(!success, "{text}");
    // GPU_EMU_SCHEDULE=pct:2:N cargo test victim -- --exact
    let command = text.split("replay: ").nth(1).expect("prints a command").lines().next().unwrap();
    let words: Vec<_> = command.split(' ').collect();
    let [assignment, "cargo", "test", "victim", "--", "--exact"] = words[..] else {
        panic!("{command}")
    };
    let schedule = assignment.strip_prefix("GPU_EMU_SCHEDULE=").unwrap();
    assert!(schedule.starts_with("pct:2:"), "{schedule}");
    let trace =
        |text: &str| text.split("lost under trace ").nth(1).map(|rest| rest[..16].to_owned());
    let (success, again) = run(Some(schedule), &["victim", "--exact"]);
    assert!(!success);
    assert!(trace(&text).is_some());
    assert_eq!(trace(&again), trace(&text));
    // Round-robin loses nothing here, and runs alone.
    let (success, other) = run(Some("rr"), &["victim", "--exact"]);
    assert!(success, "{other}");
}

#[test]
fn explore_runs_every_seed_and_names_the_one_that_fails() {
    let seen = RefCell::new(Vec::new());
    explore(&Config::default(), 3..8, |emulator| seen.borrow_mut().push(emulator.config().mode));
    if std::env::var_os(VARIABLE).is_some() {
        return;
    }
    assert_eq!(seen.borrow().len(), 5);
    let result = catch_unwind(AssertUnwindSafe(|| {
        explore(&Config::deterministic(Schedule::Random { seed: 0 }), 3..8, |emulator| {
            let seed = Schedule::Random { seed: 6 };
            assert_ne!(emulator.config().mode, gpu_emu::Mode::Deterministic(seed), "six");
        });
    }));
    let message = *result.expect_err("seed 6 fails").downcast::<String>().unwrap();
    assert!(
        message.contains("GPU_EMU_SCHEDULE=random:6 cargo test explore_runs_every"),
        "{message}"
    );
}
