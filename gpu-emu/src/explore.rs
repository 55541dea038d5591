//! Many schedules of one test.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::config::{Config, Mode};
use crate::emulator::Emulator;
use crate::error::Replay;
use crate::panics;
use crate::schedule::{Schedule, VARIABLE};

/// Runs `test` under the schedule of `config` with each of `seeds`, on a fresh emulator each time;
/// with the random schedule if `config` names none. Where the environment variable
/// `GPU_EMU_SCHEDULE` is set, under that schedule alone.
///
/// ```
/// use gpu_emu::{Config, LaunchConfig, Schedule, explore};
/// use gpu_rt::atomic::{DeviceAtomicU32, Ordering};
///
/// explore(&Config::deterministic(Schedule::Random { seed: 0 }), 0..10, |emulator| {
///     let counter = DeviceAtomicU32::new(0);
///     let count = || _ = counter.fetch_add(1, Ordering::Relaxed);
///     emulator.run_fn("count", LaunchConfig::new(2, 32), &count).unwrap();
///     assert_eq!(counter.load(Ordering::Relaxed), 64);
/// });
/// ```
///
/// # Panics
/// When `test` does, with the command that replays it.
pub fn explore(config: &Config, seeds: impl IntoIterator<Item = u64>, test: impl Fn(&Emulator)) {
    let run = |schedule: Schedule| {
        let config = Config { mode: Mode::Deterministic(schedule), ..config.clone() };
        let result = catch_unwind(AssertUnwindSafe(|| test(&Emulator::new(config))));
        if let Err(payload) = result {
            let message = panics::message(&*payload);
            let test =
                std::thread::current().name().filter(|&name| name != "main").map(str::to_owned);
            let replay = Replay { schedule, trace: 0, steps: 0, test };
            panic!("{message}\nunder the schedule {schedule}; replay: {replay}");
        }
    };
    match Schedule::from_env() {
        Ok(Some(schedule)) => return run(schedule),
        Ok(None) => {}
        Err(error) => panic!("{VARIABLE}: {error}"),
    }
    match config.mode {
        Mode::Deterministic(Schedule::RoundRobin) => run(Schedule::RoundRobin),
        Mode::Deterministic(schedule) => {
            seeds.into_iter().for_each(|seed| run(schedule.with_seed(seed)));
        }
        Mode::Fast => seeds.into_iter().for_each(|seed| run(Schedule::Random { seed })),
    }
}
