//! Files that wait while others are being written or made, and what does not wait.

use crate::common::{ROOT_CALLER, World, block_on, name};
use crate::{due, next, put_key, write};
use forebay_types::{Ino, PersistLog, PersistTask, PersistWork, Writers};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

const LARGE: u64 = 64 << 20;
/// The delay of the default policy, and for how long it gives way.
const DELAY: Duration = Duration::from_secs(1);
const YIELD: Duration = Duration::from_secs(30);

/// What is said of who writes: that somebody writes large files, and that there is no room to wait.
#[derive(Default)]
struct Told(AtomicBool, AtomicBool);

impl Writers for Told {
    fn are_busy(&self) -> bool {
        self.0.load(SeqCst)
    }

    fn have_room(&self) -> bool {
        !self.1.load(SeqCst)
    }
}

/// Somebody writes, until the test says otherwise.
fn busy_world() -> (World, Arc<Told>) {
    let world = World::new();
    let told = Arc::new(Told(AtomicBool::new(true), AtomicBool::new(false)));
    let writers: Arc<dyn Writers> = Arc::clone(&told) as Arc<dyn Writers>;
    world.names().give_way_to(Arc::downgrade(&writers));
    (world, told)
}

/// A name that is due is still carried as soon as the clock says, or somebody asks.
async fn is_held_back(world: &World) -> bool {
    next(world).await.is_none()
}

fn is_put_of(task: &PersistTask, called: &str) -> bool {
    put_key(task) == called
}

#[test]
fn a_large_file_waits_until_nobody_writes_and_a_small_one_does_not() {
    let (world, told) = busy_world();
    block_on(async {
        write(&world, Ino::ROOT, "small", 5).await;
        write(&world, Ino::ROOT, "large", LARGE).await;
        world.clock.advance(DELAY);
        assert!(is_put_of(&due(&world).await, "small"));
        assert!(is_held_back(&world).await);
        told.0.store(false, SeqCst);
        assert!(is_put_of(&due(&world).await, "large"));
    });
}

#[test]
fn a_large_file_waits_for_writers_no_longer_than_it_may() {
    let (world, _told) = busy_world();
    block_on(async {
        write(&world, Ino::ROOT, "large", LARGE).await;
        world.clock.advance(DELAY + YIELD - Duration::from_millis(1));
        assert!(is_held_back(&world).await);
        // Written again it is not put off again.
        write(&world, Ino::ROOT, "large", LARGE).await;
        world.clock.advance(Duration::from_millis(1));
        assert!(is_put_of(&due(&world).await, "large"));
    });
}

#[test]
fn a_file_that_was_open_for_long_waits_from_its_close() {
    let (world, _told) = busy_world();
    block_on(async {
        let ino = world.make(Ino::ROOT, "large", forebay_types::FileKind::Regular).await.unwrap();
        let times = forebay_types::FileTimes { len: LARGE, ..Default::default() };
        world.names().write_opened(ino, Some(forebay_types::ExtentId(ino.0)), None).await.unwrap();
        world.expire();
        assert!(is_held_back(&world).await, "it is open for write");
        world.names().write_closed(ino, times, true).await.unwrap();
        world.clock.advance(DELAY);
        assert!(is_held_back(&world).await);
        world.clock.advance(YIELD);
        assert!(is_put_of(&due(&world).await, "large"));
    });
}

#[test]
fn what_is_waited_for_gives_way_to_nobody() {
    for in_a_hurry in [true, false] {
        let (world, _told) = busy_world();
        block_on(async {
            let ino = write(&world, Ino::ROOT, "large", LARGE).await;
            world.clock.advance(DELAY);
            assert!(is_held_back(&world).await);
            let task = async {
                match in_a_hurry {
                    true => assert!(world.names().hurry()),
                    false => drop(world.names().persist_now(ino).await),
                }
                std::future::pending().await
            };
            let task = tokio::select! { task = due(&world) => task, () = task => unreachable!() };
            assert!(is_put_of(&task, "large"));
        });
    }
}

/// Makes more files at once than who makes a few now and then.
async fn make_many(world: &World, called: &str) {
    for n in 0..60 {
        write(world, Ino::ROOT, &format!("{called}{n:02}"), 5).await;
    }
}

#[test]
fn small_files_wait_while_many_are_made_and_no_longer() {
    let (world, _told) = busy_world();
    block_on(async {
        make_many(&world, "first").await;
        world.clock.advance(DELAY);
        make_many(&world, "second").await;
        assert!(is_held_back(&world).await);
        world.clock.advance(Duration::from_millis(600));
        assert!(is_put_of(&due(&world).await, "first00"));
    });
}

#[test]
fn small_files_wait_no_longer_than_they_may() {
    let (world, _told) = busy_world();
    block_on(async {
        make_many(&world, "first").await;
        world.clock.advance(DELAY + YIELD);
        make_many(&world, "second").await;
        for n in 0..60 {
            assert!(is_put_of(&due(&world).await, &format!("first{n:02}")));
        }
        world.clock.advance(DELAY);
        make_many(&world, "third").await;
        assert!(is_held_back(&world).await);
    });
}

#[test]
fn small_files_wait_for_nobody_where_room_is_short() {
    let (world, told) = busy_world();
    block_on(async {
        make_many(&world, "first").await;
        world.clock.advance(DELAY);
        make_many(&world, "second").await;
        told.1.store(true, SeqCst);
        assert!(is_put_of(&due(&world).await, "first00"));
    });
}

/// Takes many files away that others have put there.
async fn remove_many(world: &World, called: &str) {
    for n in 0..60 {
        let called = format!("{called}{n:02}");
        world.walk(&called).await.unwrap();
        let gone = world.names().unlink(&ROOT_CALLER, Ino::ROOT, &name(&called)).await.unwrap();
        world.names().release_orphan(gone.ino).await.unwrap();
    }
}

#[test]
fn removals_wait_while_many_names_are_removed_and_no_longer() {
    let (world, _told) = busy_world();
    for (called, n) in ["first", "second"].iter().flat_map(|called| (0..60).map(move |n| (called, n))) {
        world.put_ufs(&format!("{called}{n:02}"), b"bytes");
    }
    block_on(async {
        remove_many(&world, "first").await;
        world.clock.advance(DELAY);
        remove_many(&world, "second").await;
        assert!(is_held_back(&world).await);
        world.clock.advance(Duration::from_millis(600));
        let PersistWork::Remove { key, .. } = due(&world).await.work else { panic!("a removal") };
        assert_eq!(key.to_string(), "first00");
    });
}

/// Nobody below waits for longer than it gives way itself.
#[test]
fn a_directory_that_is_waited_for_gives_way_no_more() {
    let (world, told) = busy_world();
    told.0.store(false, SeqCst);
    block_on(async {
        let dir = world.make(Ino::ROOT, "dir", forebay_types::FileKind::Directory).await.unwrap();
        write(&world, dir, "large", LARGE).await;
        make_many(&world, "first").await;
        world.clock.advance(DELAY);
        make_many(&world, "second").await;
        let PersistWork::MakeDir { key, .. } = due(&world).await.work else { panic!("the directory") };
        assert_eq!(key.to_string(), "dir");
    });
}

/// A file is one name, however often it is queued while it waits.
#[test]
fn what_waits_already_is_no_rush() {
    let (world, _told) = busy_world();
    block_on(async {
        for _ in 0..60 {
            write(&world, Ino::ROOT, "file", 5).await;
        }
        world.clock.advance(DELAY);
        for _ in 0..60 {
            write(&world, Ino::ROOT, "other", 5).await;
        }
        assert!(is_put_of(&due(&world).await, "file"));
    });
}
