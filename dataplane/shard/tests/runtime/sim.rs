//! The simulated ring: the same code, a virtual clock, and a disk that forgets.

use forebay_shard::sim::{Faults, Sim, SimConfig, SimDisk, SimError};
use forebay_shard::{ArenaError, Frame, arena, blocking, current, sleep, spawn, timeout};
use forebay_types::{ByteSize, ShardId};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

const SHARD: ShardId = ShardId(0);
const BLOCK: usize = 4096;

fn sim(config: &SimConfig) -> Sim {
    Sim::start(config, SimDisk::new()).unwrap()
}

async fn frame_of(bytes: &[u8]) -> Frame {
    let mut frame = arena().frame(bytes.len()).await.unwrap();
    frame.copy_from_slice(bytes);
    frame
}

/// Writers on two shards that read each other's blocks: much is left to chance in it.
fn program(config: &SimConfig) -> (u64, Duration, Vec<u8>) {
    let mut sim = sim(config);
    let file = sim.disk().create("data").unwrap();
    let peer = sim.handles()[1].clone();
    let order = sim.block_on(SHARD, || async move {
        let order = Rc::new(RefCell::new(Vec::new()));
        for n in 0..16u8 {
            let (file, peer, order) = (file.clone(), peer.clone(), Rc::clone(&order));
            spawn(async move {
                let at = u64::from(n) * BLOCK as u64;
                file.write_at(frame_of(&[n; BLOCK]).await, at).await.0.unwrap();
                let read = move || async move {
                    let (read, frame) = file.read_at(arena().frame(BLOCK).await.unwrap(), at).await;
                    (read.unwrap(), frame[0], current())
                };
                assert_eq!(peer.call(read).await, Ok((BLOCK, n, Some(ShardId(1)))));
                order.borrow_mut().push(n);
            });
        }
        while Rc::strong_count(&order) > 1 {
            sleep(Duration::from_micros(50)).await;
        }
        order.take()
    });
    (sim.trace(), sim.elapsed(), order.unwrap())
}

#[test]
fn a_seed_is_a_run() {
    let once = program(&SimConfig::new(7));
    assert_eq!(once, program(&SimConfig::new(7)));
    let others: Vec<_> = (0..20).map(|seed| program(&SimConfig::new(seed))).collect();
    assert!(others.iter().any(|other| other.0 != once.0 && other.2 != once.2), "another seed, another order");
}

#[test]
fn virtual_time_costs_none() {
    let mut sim = sim(&SimConfig::new(1));
    let begun = std::time::Instant::now();
    let late = sim.block_on(SHARD, || async {
        let slow = timeout(Duration::from_secs(3600), sleep(Duration::from_secs(7200))).await;
        (slow.is_err(), blocking(|| 5).await)
    });
    assert_eq!(late, Ok((true, Ok(5))));
    assert_eq!(sim.elapsed(), Duration::from_secs(3600));
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_run_that_cannot_go_on_says_so() {
    let mut stuck = sim(&SimConfig::new(1));
    assert_eq!(stuck.block_on(SHARD, std::future::pending::<()>), Err(SimError::Stuck));
    let panics = || async {
        if current().is_some() {
            panic!("on purpose")
        }
    };
    assert_eq!(stuck.block_on(SHARD, panics), Err(SimError::Lost));
}

#[test]
fn short_transfers_are_continued() {
    for seed in 0..50 {
        let faults = Faults { short: 2, slow: 5, ..Faults::default() };
        let mut sim = sim(&SimConfig { faults, ..SimConfig::new(seed) });
        let file = sim.disk().create("data").unwrap();
        let ran = sim.block_on(SHARD, || async move {
            let bytes: Vec<u8> = (0..300_000).map(|i| (i / 7) as u8).collect();
            assert_eq!(file.write_at(frame_of(&bytes).await, 123).await.0.unwrap(), bytes.len());
            let (read, frame) = file.read_at(arena().frame(400_000).await.unwrap(), 123).await;
            assert_eq!(read.unwrap(), bytes.len());
            assert!(frame[..bytes.len()] == bytes[..]);
        });
        assert_eq!(ran, Ok(()), "seed {seed}");
    }
}

#[test]
fn faults_reach_the_caller_with_the_frame() {
    let faults = Faults { read_error: 3, write_error: 3, no_space: 3, sync_error: 3, ..Faults::default() };
    let mut sim = sim(&SimConfig { faults, ..SimConfig::new(3) });
    let file = sim.disk().create("data").unwrap();
    let seen = sim.block_on(SHARD, || async move {
        let mut seen = Vec::new();
        let mut frame = arena().frame(BLOCK).await.unwrap();
        for _ in 0..50 {
            let (wrote, back) = file.write_at(frame, 0).await;
            let (read, back) = file.read_at(back, 0).await;
            frame = back;
            let errors = [wrote.err(), read.err(), file.sync_data().await.err()];
            seen.extend(errors.into_iter().flatten().filter_map(|e| e.raw_os_error()));
        }
        seen
    });
    let seen = seen.unwrap();
    assert!(seen.contains(&libc::EIO) && seen.contains(&libc::ENOSPC));
    assert_eq!(sim.arena().in_use(), ByteSize::bytes(0));
}

/// Writes a block, syncs it `syncs` times, cuts the power: which syncs said yes, and what is there afterwards.
fn block_after_power_loss(seed: u64, syncs: usize, sync_error: u32) -> (Vec<bool>, Vec<u8>) {
    let faults = Faults { sync_error, ..Faults::default() };
    let mut sim = sim(&SimConfig { faults, ..SimConfig::new(seed) });
    let file = sim.disk().create("data").unwrap();
    let synced = sim.block_on(SHARD, || async move {
        file.write_at(frame_of(&[1; BLOCK]).await, 0).await.0.unwrap();
        let mut synced = Vec::new();
        for _ in 0..syncs {
            synced.push(file.sync_data().await.is_ok());
        }
        synced
    });
    let disk = sim.power_loss();
    let mut after = Sim::start(&SimConfig::new(seed), disk.clone()).unwrap();
    let file = disk.open("data").unwrap();
    let left = after.block_on(SHARD, || async move {
        let (read, frame) = file.read_at(arena().frame(BLOCK).await.unwrap(), 0).await;
        frame[..read.unwrap()].to_vec()
    });
    (synced.unwrap(), left.unwrap())
}

#[test]
fn power_loss_keeps_what_was_synced_and_only_by_luck_the_rest() {
    let whole = vec![1; BLOCK];
    let (mut kept, mut lost, mut torn) = (0, 0, 0);
    for seed in 0..100 {
        assert_eq!(block_after_power_loss(seed, 1, 0), (vec![true], whole.clone()), "synced, seed {seed}");
        match block_after_power_loss(seed, 0, 0).1 {
            bytes if bytes == whole => kept += 1,
            bytes if bytes.is_empty() => lost += 1,
            _ => torn += 1,
        }
    }
    assert!(kept > 0 && lost > 0 && torn > 0, "kept {kept}, lost {lost}, torn {torn}");
}

#[test]
fn a_sync_that_failed_is_not_made_good_by_the_next_one() {
    let mut seen = 0;
    for seed in 0..100 {
        let (synced, left) = block_after_power_loss(seed, 2, 2);
        if synced == [false, true] {
            assert!(left.iter().all(|b| *b == 0), "the kernel has dropped the dirty pages, seed {seed}");
            seen += 1;
        }
    }
    assert!(seen > 5, "only {seen} of 100 runs had a failed sync before a good one");
}

#[test]
fn cancelled_operations_never_lend_their_frame_twice() {
    for seed in 0..100 {
        let mut sim = sim(&SimConfig { arena: ByteSize::mib(16), ..SimConfig::new(seed) });
        let file = sim.disk().create("data").unwrap();
        let ran = sim.block_on(SHARD, || async move {
            file.write_at(frame_of(&[7; BLOCK]).await, 0).await.0.unwrap();
            for _ in 0..50 {
                let frame = arena().frame(BLOCK).await.unwrap();
                drop(timeout(Duration::from_micros(60), file.read_at(frame, 0)).await);
                // Were the cancelled read's frame among these, its completion would overwrite our bytes.
                let mine = frame_of(&[9; BLOCK]).await;
                sleep(Duration::from_micros(250)).await;
                assert!(mine.iter().all(|b| *b == 9));
            }
        });
        assert_eq!(ran, Ok(()), "seed {seed}");
        assert_eq!(sim.arena().in_use(), ByteSize::bytes(0));
    }
}

#[test]
fn waits_for_frames_end_in_virtual_time() {
    let config = SimConfig { frame_wait: Duration::from_secs(600), ..SimConfig::new(1) };
    let mut sim = sim(&config);
    let refused = sim.block_on(SHARD, || async {
        let _all = arena().try_frame(16 << 20).unwrap();
        arena().frame(BLOCK).await.map(drop)
    });
    let waited = Duration::from_secs(600);
    assert_eq!(refused, Ok(Err(ArenaError::Exhausted { len: BLOCK, waited })));
    assert_eq!(sim.elapsed(), waited);
}
