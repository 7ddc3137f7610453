//! Tasks, timers, mailboxes, panics and the stop, on real rings.

use crate::common::{small, start};
use forebay_shard::{
    BlockingError, CallError, Elapsed, ShardsConfig, SpawnError, StartError, arena, blocking, current, sleep,
    sleep_until, spawn, stop_requested, timeout, yield_now,
};
use forebay_types::{ByteSize, ShardId};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(50);

#[test]
fn a_call_runs_on_its_shard_and_brings_the_result_back() {
    let shards = start(&small(2));
    for handle in shards.handles() {
        let id = handle.id();
        assert_eq!(handle.block_on(|| async { current() }), Ok(Some(id)));
    }
    assert_eq!(current(), None);
}

#[test]
fn futures_may_hold_what_belongs_to_one_thread() {
    let shards = start(&small(1));
    let sum = shards.handles()[0].block_on(|| async {
        let shared = Rc::new(RefCell::new(0));
        for n in 1..=100 {
            let mine = Rc::clone(&shared);
            spawn(async move {
                yield_now().await;
                *mine.borrow_mut() += n;
            });
        }
        while Rc::strong_count(&shared) > 1 {
            yield_now().await;
        }
        *shared.borrow()
    });
    assert_eq!(sum, Ok(5050));
}

#[test]
fn what_one_thread_sends_begins_in_order() {
    let shards = start(&small(2));
    let target = shards.handles().last().unwrap().clone();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (done, is_done) = mpsc::channel();
    for n in 0..1000 {
        let (seen, done) = (Arc::clone(&seen), done.clone());
        let task = move || async move {
            seen.lock().unwrap().push(n);
            if n == 999 {
                done.send(()).unwrap();
            }
        };
        target.try_spawn(task).unwrap();
    }
    is_done.recv_timeout(LONG).unwrap();
    assert!(seen.lock().unwrap().iter().copied().eq(0..1000));
}

#[test]
fn tasks_woken_from_outside_run_in_the_order_of_their_wakes() {
    let shards = start(&small(1));
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..100).map(|_| tokio::sync::oneshot::channel::<()>()).unzip();
    let order = shards.handles()[0].block_on(move || async move {
        let order = Rc::new(RefCell::new(Vec::new()));
        for (n, receiver) in receivers.into_iter().enumerate() {
            let order = Rc::clone(&order);
            spawn(async move {
                receiver.await.unwrap();
                order.borrow_mut().push(n);
            });
        }
        yield_now().await;
        // While this task holds the shard, all wakes gather in the list.
        let wake = move || senders.into_iter().for_each(|sender| sender.send(()).unwrap());
        std::thread::spawn(wake).join().unwrap();
        while Rc::strong_count(&order) > 1 {
            yield_now().await;
        }
        order.take()
    });
    assert!(order.unwrap().into_iter().eq(0..100));
}

#[test]
fn shards_wake_each_other_when_they_sleep() {
    let shards = start(&small(2));
    if shards.handles().len() < 2 {
        return;
    }
    let (a, b) = (shards.handles()[0].clone(), shards.handles()[1].clone());
    let rounds = a.block_on(move || async move {
        for n in 0..2000u32 {
            assert_eq!(b.call(move || async move { n + 1 }).await, Ok(n + 1));
        }
        current()
    });
    assert_eq!(rounds, Ok(Some(ShardId(0))));
    let counted = shards.counters();
    assert!(counted.iter().all(|c| c.sleeps > 0), "idle shards sleep: {counted:?}");
}

#[test]
fn calls_from_many_threads_all_arrive() {
    let shards = start(&small(2));
    let total = Arc::new(AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            for handle in shards.handles() {
                let total = Arc::clone(&total);
                scope.spawn(move || {
                    for _ in 0..500 {
                        let total = Arc::clone(&total);
                        let call = handle.block_on(move || async move {
                            yield_now().await;
                            total.fetch_add(1, SeqCst);
                        });
                        assert_eq!(call, Ok(()));
                    }
                });
            }
        }
    });
    assert_eq!(total.load(SeqCst), 4 * 500 * shards.handles().len());
}

#[test]
fn idle_shards_use_no_cpu() {
    let shards = start(&small(2));
    shards.handles()[0].block_on(|| async {}).unwrap();
    std::thread::sleep(SHORT);
    let before = shards.counters();
    std::thread::sleep(Duration::from_millis(300));
    let after = shards.counters();
    for (b, a) in before.iter().zip(&after) {
        assert!(a.enters - b.enters <= 2, "an idle shard entered its ring: {b:?} {a:?}");
    }
}

#[test]
fn timers_fire_in_order_and_not_early() {
    let shards = start(&small(1));
    let order = shards.handles()[0].block_on(|| async {
        let order = Rc::new(RefCell::new(Vec::new()));
        let begun = Instant::now();
        for ms in [60u64, 20, 40, 20] {
            let order = Rc::clone(&order);
            // However late the task has its first turn.
            let due = sleep_until(begun + Duration::from_millis(ms));
            spawn(async move {
                due.await;
                assert!(begun.elapsed() >= Duration::from_millis(ms), "a timer fired early");
                order.borrow_mut().push(ms);
            });
        }
        while Rc::strong_count(&order) > 1 {
            sleep(Duration::from_millis(5)).await;
        }
        order.take()
    });
    assert_eq!(order, Ok(vec![20, 20, 40, 60]));
}

#[test]
fn a_timeout_ends_a_wait_on_a_shard_and_off_it() {
    let shards = start(&small(1));
    let on = || async { timeout(SHORT, std::future::pending::<()>()).await };
    assert_eq!(shards.handles()[0].block_on(on), Ok(Err(Elapsed)));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let begun = Instant::now();
    assert_eq!(runtime.block_on(timeout(SHORT, std::future::pending::<()>())), Err(Elapsed));
    assert!(begun.elapsed() >= SHORT && begun.elapsed() < LONG);
    assert_eq!(runtime.block_on(timeout(LONG, async { 7 })), Ok(7));
}

#[test]
fn a_timeout_counts_from_its_first_wait_and_not_from_the_start_of_a_long_poll() {
    let shards = start(&small(1));
    let ran = shards.handles()[0].block_on(|| async {
        let made = timeout(SHORT, sleep(SHORT / 2));
        std::thread::sleep(SHORT * 2);
        let first = made.await;
        std::thread::sleep(SHORT * 2);
        (first, timeout(SHORT, sleep(SHORT / 2)).await)
    });
    assert_eq!(ran, Ok((Ok(()), Ok(()))));
}

#[test]
fn a_full_mailbox_hands_the_closure_back() {
    let shards = start(&ShardsConfig { mailbox_len: 4, ..small(1) });
    let shard = &shards.handles()[0];
    let (release, held) = mpsc::channel::<()>();
    let (busy, is_busy) = mpsc::channel();
    let hold = move || async move {
        busy.send(()).unwrap();
        held.recv_timeout(LONG).unwrap();
    };
    shard.try_spawn(hold).unwrap();
    is_busy.recv_timeout(LONG).unwrap();
    let mut refused = 0;
    for n in 0..10 {
        match shard.try_spawn(move || async move { assert!(n < 10) }) {
            Ok(()) => {}
            Err(SpawnError::Full(_)) => refused += 1,
            Err(SpawnError::Stopped(_)) => panic!("it runs"),
        }
    }
    release.send(()).unwrap();
    assert!((5..=7).contains(&refused), "a mailbox of 4 refused {refused} of 10");
    assert_eq!(shard.counters().mailbox_full, refused);
    // It takes messages again as soon as it took the old ones in.
    while shard.block_on(|| async {}) == Err(CallError::Full) {
        std::thread::yield_now();
    }
}

#[test]
fn a_panic_ends_its_task_only() {
    let shards = start(&small(1));
    let shard = &shards.handles()[0];
    let lost = shard.block_on(|| async {
        if current().is_some() {
            panic!("on purpose")
        }
    });
    assert_eq!(lost, Err(CallError::Panicked));
    assert_eq!(shard.block_on(|| async { 1 }), Ok(1));
    assert_eq!(shard.counters().panicked, 1);
}

/// Work for the processor that takes about as long, however often others get it in between.
fn compute(until: Duration) {
    let begun = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let spent = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new((now.tv_sec - begun.tv_sec) as u64, 0) + Duration::from_nanos(now.tv_nsec as u64)
            - Duration::from_nanos(begun.tv_nsec as u64)
    };
    while spent() < until {
        std::hint::spin_loop();
    }
}

#[test]
fn a_task_is_not_blamed_for_the_time_that_others_had_its_core() {
    const STALL: Duration = Duration::from_millis(40);
    let shards = start(&ShardsConfig { stall_after: STALL, ..small(1) });
    let shard = shards.handles()[0].clone();
    let over = Arc::new(AtomicBool::new(false));
    let affinity = {
        let of_shard = shard.block_on(|| async { rustix::thread::sched_getaffinity(None).unwrap() });
        of_shard.unwrap()
    };
    let others: Vec<_> = (0..6)
        .map(|_| {
            let over = Arc::clone(&over);
            std::thread::spawn(move || {
                rustix::thread::sched_setaffinity(None, &affinity).unwrap();
                while !over.load(SeqCst) {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    for _ in 0..10 {
        shard.block_on(|| async { compute(STALL / 2) }).unwrap();
    }
    over.store(true, SeqCst);
    others.into_iter().for_each(|other| other.join().unwrap());
    let counted = shard.counters();
    assert!(counted.starved >= 1, "seven on one core, and each got half of it? {counted:?}");
    assert_eq!(counted.stalls, 0, "{counted:?}");
    shards.stop(Duration::ZERO);
}

#[test]
fn a_task_that_holds_its_shard_is_counted() {
    // Far more than a loaded machine keeps a thread from a core.
    const STALL: Duration = Duration::from_millis(500);
    // The watch looks once a second.
    const HELD: Duration = Duration::from_millis(2800);
    let shards = start(&ShardsConfig { stall_after: STALL, ..small(1) });
    let shard = &shards.handles()[0];
    shard.block_on(|| async { sleep(2 * STALL).await }).unwrap();
    assert_eq!(shard.counters().stalls, 0, "waiting is no stall");
    shard.block_on(|| async { std::thread::sleep(HELD) }).unwrap();
    shard.block_on(|| async {}).unwrap();
    let counted = shard.counters();
    assert!(counted.stalls >= 1 && counted.stalled_nanos >= HELD.as_nanos() as u64, "{counted:?}");
    assert_eq!(counted.stuck, 1, "the watch saw it while it lasted");
}

#[test]
fn blocking_calls_leave_the_shard_free() {
    let shards = start(&small(1));
    let ticks = shards.handles()[0].block_on(|| async {
        let (tick, ticks) = mpsc::channel();
        spawn(async move {
            while tick.send(()).is_ok() {
                sleep(Duration::from_millis(5)).await;
            }
        });
        blocking(move || (0..3).map_while(|_| ticks.recv_timeout(LONG).ok()).count()).await
    });
    assert_eq!(ticks, Ok(Ok(3)), "the shard works while a call blocks");
}

#[test]
fn the_blocking_pool_is_bounded_and_survives_panics() {
    // Longer than a busy machine keeps a thread from a core.
    const WAIT: Duration = Duration::from_secs(2);
    let config = ShardsConfig { blocking_threads: 1, blocking_queue_len: 1, blocking_wait: WAIT, ..small(1) };
    let shards = start(&config);
    let (release, held) = mpsc::channel::<()>();
    let answer = shards.handles()[0].block_on(move || async move {
        spawn(async move { blocking(move || held.recv_timeout(LONG).unwrap()).await.unwrap() });
        spawn(async { blocking(|| {}).await.unwrap() });
        yield_now().await;
        yield_now().await;
        let refused = blocking(|| {}).await;
        release.send(()).unwrap();
        let panicked = blocking(|| {
            if current().is_none() {
                panic!("on purpose")
            }
        })
        .await;
        (refused, panicked, blocking(|| 7).await)
    });
    assert_eq!(answer, Ok((Err(BlockingError::Busy(WAIT)), Err(BlockingError::Panicked), Ok(7))));
}

#[test]
fn a_stop_waits_for_tasks_that_end() {
    let shards = start(&small(2));
    let done = Arc::new(AtomicUsize::new(0));
    for handle in shards.handles() {
        let (done, peers) = (Arc::clone(&done), shards.handles().to_vec());
        let task = move || async move {
            stop_requested().await;
            sleep(SHORT).await;
            // Peers can be reached while they drain.
            for peer in peers {
                peer.call(|| async {}).await.unwrap();
            }
            done.fetch_add(1, SeqCst);
        };
        handle.try_spawn(task).unwrap();
    }
    let count = shards.handles().len();
    let report = shards.stop(LONG);
    assert_eq!((report.tasks_dropped, report.threads_left), (0, 0));
    assert_eq!(done.load(SeqCst), count);
}

#[test]
fn a_stop_drops_what_does_not_end_in_time() {
    struct Dropped(Arc<AtomicUsize>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            assert!(current().is_some(), "a task is dropped on its shard");
            self.0.fetch_add(1, SeqCst);
        }
    }
    let shards = start(&small(1));
    let handle = shards.handles()[0].clone();
    let dropped = Arc::new(AtomicUsize::new(0));
    let mark = Dropped(Arc::clone(&dropped));
    handle
        .try_spawn(move || async move {
            let _mark = mark;
            std::future::pending::<()>().await;
        })
        .unwrap();
    let begun = Instant::now();
    let report = shards.stop(SHORT);
    assert!(begun.elapsed() >= SHORT && begun.elapsed() < LONG);
    assert_eq!((report.tasks_dropped, dropped.load(SeqCst)), (1, 1));
    assert_eq!(handle.block_on(|| async {}), Err(CallError::Stopped));
    assert!(matches!(handle.try_spawn(|| async {}), Err(SpawnError::Stopped(_))));
}

#[test]
fn wakes_after_the_stop_go_nowhere() {
    let shards = start(&small(1));
    let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
    shards.handles()[0].try_spawn(|| async { drop(receiver.await) }).unwrap();
    shards.handles()[0].block_on(|| async {}).unwrap();
    shards.stop(Duration::ZERO);
    assert!(sender.send(()).is_err());
}

#[test]
fn bad_settings_are_named() {
    let no_core = ShardsConfig { cores: vec![100_000], ..small(1) };
    assert!(matches!(forebay_shard::Shards::start(&no_core), Err(StartError::Core { core: 100_000, .. })));
    for bad in [
        ShardsConfig { ring_entries: 100, ..small(1) },
        ShardsConfig { arena: ByteSize::mib(1), ..small(1) },
        ShardsConfig { mailbox_len: 0, ..small(1) },
    ] {
        let error = forebay_shard::Shards::start(&bad).map(drop).unwrap_err().to_string();
        assert!(error.contains("give"), "{error}");
    }
}

#[test]
fn the_futures_for_other_executors_are_send() {
    fn send<T: Send>(_: T) {}
    let shards = start(&small(1));
    let handle = &shards.handles()[0];
    send(handle.call(|| async {
        Rc::new(1);
    }));
    send(blocking(|| 1));
    send(sleep(SHORT));
    let arena = arena();
    send(arena.frame(4096));
}
