//! What threads see of themselves and of each other, under every scheduler.

use std::collections::BTreeSet;
use std::sync::Mutex;

use gpu_emu::{Config, Emulator, LaunchConfig, Schedule};
use gpu_rt::atomic::{DeviceAtomicU32, DeviceAtomicU64, Ordering, SystemAtomicU32};
use gpu_rt::{Block, Dim3, Group, Pod, Thread, Warp, Zeroable, kernel, shared, thread};

/// Calls `test` with an emulator of each kind.
fn everywhere(test: impl Fn(&Emulator)) {
    for workers in [1, 3] {
        test(&Emulator::new(Config { workers, ..Config::default() }));
    }
    test(&Emulator::new(Config::deterministic(Schedule::RoundRobin)));
    for seed in 0..8 {
        test(&Emulator::new(Config::deterministic(Schedule::Random { seed })));
        test(&Emulator::new(Config::deterministic(Schedule::Pct { depth: 3, seed })));
    }
}

fn run(emulator: &Emulator, config: LaunchConfig, kernel: &(dyn Fn() + Sync)) {
    emulator.run_fn("test", config, kernel).unwrap();
}

#[test]
fn every_thread_of_the_grid_runs_once_and_knows_who_it_is() {
    everywhere(|emulator| {
        let seen = Mutex::new(BTreeSet::new());
        let config = LaunchConfig::new((3, 2), (5, 3, 3));
        run(emulator, config, &|| {
            assert_eq!(thread::grid_dim(), Dim3::new(3, 2, 1));
            assert_eq!(thread::block_dim(), Dim3::new(5, 3, 3));
            let idx = thread::thread_idx();
            assert_eq!(thread::rank(), (idx.z * 3 + idx.y) * 5 + idx.x);
            assert_eq!(thread::lane_id(), thread::rank() % 32);
            assert_eq!(thread::warp_id(), thread::rank() / 32);
            let block = thread::block_idx().y * 3 + thread::block_idx().x;
            assert_eq!(thread::index(), u64::from(block * 45 + thread::rank()));
            assert!((thread::sm_id() as usize) < emulator.config().workers);
            assert!(seen.lock().unwrap().insert(thread::index()), "ran twice");
        });
        assert_eq!(seen.into_inner().unwrap(), (0..6 * 45).collect());
    });
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Args {
    sum: u64,
    factor: u64,
}

/// Adds a multiple of each thread's number.
#[kernel]
fn weigh(args: Args) {
    // SAFETY: the test passes the address of a live word.
    let sum = unsafe { DeviceAtomicU64::from_ptr(args.sum as *mut u64) };
    sum.fetch_add(args.factor * thread::index(), Ordering::Relaxed);
}

#[test]
fn a_kernel_gets_its_argument() {
    everywhere(|emulator| {
        let sum = DeviceAtomicU64::new(0);
        let args = Args { sum: sum.as_ptr() as u64, factor: 3 };
        emulator.run(&weigh, args, LaunchConfig::new(2, 64)).unwrap();
        assert_eq!(sum.load(Ordering::Relaxed), 3 * 127 * 64);
    });
}

#[test]
fn votes_shuffles_and_matches() {
    everywhere(|emulator| {
        run(emulator, LaunchConfig::new(2, 64), &|| {
            let lane = thread::lane_id();
            for round in 0..3 {
                assert_eq!(
                    gpu_rt::ballot(u32::MAX, lane % 3 == round),
                    (0x4924_9249_u64 << round) as u32
                );
                let neighbour = (lane + 1) % 32;
                assert_eq!(gpu_rt::shfl(u32::MAX, lane * 10, neighbour), neighbour * 10);
                let wide = u64::from(lane) << 40;
                assert_eq!(gpu_rt::shfl_u64(u32::MAX, wide, 31 - lane), u64::from(31 - lane) << 40);
                let same = gpu_rt::match_any(u32::MAX, u64::from(lane / 8));
                assert_eq!(same, 0xff << (lane / 8 * 8));
            }
            // Halves of a warp meet apart, at the same time.
            let half = if lane < 16 { 0x0000_ffff } else { 0xffff_0000 };
            assert_eq!(gpu_rt::ballot(half, lane & 15 == 0), half & 0x0001_0001);
            gpu_rt::sync_warp(half);
            assert_eq!(gpu_rt::shfl(1 << lane, lane, lane), lane);
        });
    });
}

#[test]
fn a_warp_barrier_orders_memory() {
    everywhere(|emulator| {
        let slots: [DeviceAtomicU32; 64] = Zeroable::zeroed();
        run(emulator, LaunchConfig::new(1, 64), &|| {
            let rank = thread::rank();
            slots[rank as usize].store(rank + 1, Ordering::Relaxed);
            Warp::all().sync();
            let other = rank ^ 31;
            assert_eq!(slots[other as usize].load(Ordering::Relaxed), other + 1);
        });
    });
}

#[test]
fn a_block_barrier_waits_for_all_who_have_not_exited() {
    everywhere(|emulator| {
        let come = DeviceAtomicU32::new(0);
        run(emulator, LaunchConfig::new(1, 100), &|| {
            if thread::rank() % 10 == 9 {
                return;
            }
            for round in 1..=5 {
                come.fetch_add(1, Ordering::Relaxed);
                Block.sync();
                assert_eq!(come.load(Ordering::Relaxed), round * 90);
                Block.sync();
            }
        });
    });
}

#[test]
fn a_leaders_value_reaches_all() {
    everywhere(|emulator| {
        run(emulator, LaunchConfig::new(2, 96), &|| {
            let index = thread::index();
            for round in 0..4 {
                let from = u64::from(thread::block_idx().x) * 96;
                assert_eq!(Block.broadcast([index + round; 8]), [from + round; 8]);
                let first = index - u64::from(thread::lane_id());
                assert_eq!(Warp::all().broadcast([index, round]), [first, round]);
                let odd = Warp::from_mask(if index % 2 == 1 { 0xaaaa_aaaa } else { 0x5555_5555 });
                assert_eq!(odd.broadcast(index), first + index % 2);
                assert_eq!(odd.rank(), thread::lane_id() / 2);
                assert_eq!(Thread.broadcast(index), index);
            }
        });
    });
}

#[test]
fn a_warp_of_the_last_lanes_is_smaller() {
    everywhere(|emulator| {
        run(emulator, LaunchConfig::new(1, 40), &|| {
            let size = if thread::warp_id() == 0 { 32 } else { 8 };
            assert_eq!(Warp::all().size(), size);
            Warp::all().sync();
            assert_eq!((Warp::single().size(), Warp::single().rank()), (1, 0));
        });
    });
}

#[test]
#[allow(clippy::if_same_then_else, reason = "it is not the same place")]
fn converged_groups_partition_those_who_ask_at_one_place() {
    everywhere(|emulator| {
        let come = DeviceAtomicU32::new(0);
        run(emulator, LaunchConfig::new(1, 64), &|| {
            // Some never ask, some ask elsewhere.
            let lane = thread::lane_id();
            if lane % 4 == 3 {
                return;
            }
            let even = lane & 1 == 0;
            let group = if even { Warp::converged() } else { Warp::converged() };
            assert_ne!(group.mask() & 1 << lane, 0);
            assert_eq!(group.mask() & if even { 0xaaaa_aaaa } else { 0x5555_5555 }, 0);
            assert_eq!(gpu_rt::ballot(group.mask(), true), group.mask());
            come.fetch_add(
                group.broadcast(if group.is_leader() { 1 } else { 100 }),
                Ordering::Relaxed,
            );
        });
        assert_eq!(come.load(Ordering::Relaxed), 48);
    });
}

#[test]
fn fast_mode_forms_the_largest_groups() {
    let emulator = Emulator::new(Config { workers: 1, ..Config::default() });
    let word = DeviceAtomicU32::new(0);
    run(&emulator, LaunchConfig::new(1, 32), &|| {
        assert_eq!(gpu_rt::active_mask(), u32::MAX);
        let lane = thread::lane_id();
        if lane < 8 {
            // Blocked elsewhere, until the others have formed their groups.
            while gpu_rt::wait_while_eq(&word, 0, u64::MAX) == 0 {}
        } else if lane < 16 {
            while word.load(Ordering::Relaxed) == 0 {
                gpu_rt::relax();
            }
        } else {
            assert_eq!(gpu_rt::active_mask(), 0xffff_0000);
            word.store(1, Ordering::Relaxed);
        }
        gpu_rt::sync_warp(u32::MAX);
        assert_eq!(gpu_rt::active_mask(), u32::MAX);
    });
}

#[test]
fn random_schedules_also_form_smaller_groups() {
    let smaller = DeviceAtomicU32::new(0);
    for seed in 0..10 {
        let emulator = Emulator::new(Config::deterministic(Schedule::Random { seed }));
        run(&emulator, LaunchConfig::new(1, 32), &|| {
            if gpu_rt::active_mask() != u32::MAX {
                smaller.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    assert_ne!(smaller.load(Ordering::Relaxed), 0);
}

#[test]
fn words_wake_those_who_wait_across_blocks_and_workers() {
    everywhere(|emulator| {
        let (turn, done) = (DeviceAtomicU32::new(0), SystemAtomicU32::new(0));
        run(emulator, LaunchConfig::new(6, 32), &|| {
            // Each warp waits for its turn; the first lanes wait by themselves, the others spin.
            let block = thread::block_idx().x;
            loop {
                let now = turn.load(Ordering::Acquire);
                if now == block {
                    break;
                }
                if thread::lane_id() == 0 {
                    gpu_rt::wait_while_eq(&turn, now, u64::MAX);
                } else {
                    gpu_rt::relax();
                }
            }
            Block.sync();
            if thread::rank() == 0 {
                turn.store(block + 1, Ordering::Release);
                if block == 5 {
                    done.store(1, Ordering::Release);
                }
            }
        });
        assert_eq!(done.load(Ordering::Acquire), 1);
    });
}

#[test]
fn waits_end_in_time() {
    everywhere(|emulator| {
        run(emulator, LaunchConfig::new(1, 64), &|| {
            let word = DeviceAtomicU32::new(7);
            let start = gpu_rt::clock();
            assert_eq!(gpu_rt::wait_while_eq(&word, 7, 100_000), 7);
            assert!(gpu_rt::clock() >= start + 100_000);
            assert_eq!(gpu_rt::wait_while_eq(&word, 8, u64::MAX), 7);
            assert_eq!(gpu_rt::wait_while_eq(&word, 7, 0), 7);
            let start = gpu_rt::clock();
            gpu_rt::nanosleep(50_000);
            assert!(gpu_rt::clock() >= start + 50_000);
        });
    });
}

#[test]
fn shared_memory_belongs_to_the_block_and_starts_zeroed() {
    everywhere(|emulator| {
        run(emulator, LaunchConfig::new(5, 64).shared_bytes(4 * 64 + 2), &|| {
            assert_eq!(shared::dynamic_len(), 258);
            assert_eq!(shared::dynamic().addr() % 16, 0);
            let mine = |rank: u32| {
                // SAFETY: a word of the block's shared memory, which is zeroed, aligned and large
                // enough.
                unsafe {
                    DeviceAtomicU32::from_ptr(shared::dynamic().cast::<u32>().add(rank as usize))
                }
            };
            let rank = thread::rank();
            assert_eq!(mine(rank).load(Ordering::Relaxed), 0);
            let value = thread::block_idx().x * 1000 + rank;
            mine(rank).store(value, Ordering::Relaxed);
            Block.sync();
            assert_eq!(mine(63 - rank).load(Ordering::Relaxed), value - rank + 63 - rank);
        });
    });
}

#[test]
fn a_group_copies_and_fills_together() {
    everywhere(|emulator| {
        run(emulator, LaunchConfig::new(1, 64).shared_bytes(2000), &|| {
            let memory = shared::dynamic();
            // SAFETY: the first and the second half of the block's shared memory; the block
            // synchronises between the steps.
            unsafe {
                gpu_rt::mem::fill(&Block, memory, 0x5a, 1000);
                Block.sync();
                gpu_rt::mem::copy(&Block, memory.add(1000), memory, 1000);
                Block.sync();
                assert_eq!(memory.add(1000 + 15 * thread::rank() as usize).read(), 0x5a);
            }
        });
    });
}

#[test]
fn messages_reach_the_log() {
    let lines = std::sync::Arc::new(Mutex::new(Vec::new()));
    let log = {
        let lines = std::sync::Arc::clone(&lines);
        move |kernel: &str, lane: gpu_emu::LaneId, message: &str| {
            lines.lock().unwrap().push(format!("{kernel} {lane} {message}"));
        }
    };
    let emulator =
        Emulator::new(Config { log: Some(std::sync::Arc::new(log)), ..Config::default() });
    run(&emulator, LaunchConfig::new(1, 2), &|| gpu_rt::log!("rank {}", thread::rank()));
    let text = lines.lock().unwrap().join("\n");
    assert_eq!(
        text,
        "test block (0, 0, 0), thread (0, 0, 0) rank 0\ntest block (0, 0, 0), thread (1, 0, 0) rank 1"
    );
}
