//! A directory in which names change all the time.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::{World, block_on, name, refused};
use forebay_types::{FileKind, FsErrorKind};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

#[test]
fn a_name_that_stays_is_found_however_often_its_neighbours_change() {
    let world = World::new();
    world.put_ufs("d/here", b"12345");
    world.ufs.stat_takes.store(3, SeqCst);
    let done = AtomicBool::new(false);
    let dir = block_on(async { world.walk("d").await.unwrap().attr.ino });
    std::thread::scope(|scope| {
        scope.spawn(|| {
            block_on(async {
                for n in 0.. {
                    if done.load(SeqCst) {
                        return;
                    }
                    world.make(dir, &format!("n{n}"), FileKind::Regular).await.unwrap();
                }
            })
        });
        let looked = block_on(async {
            for _ in 0..20 {
                world.names().invalidate(forebay_types::MountId::ROOT, &forebay_types::UfsKey::root());
                world.walk("d/here").await?;
                assert_eq!(refused(world.names().lookup(dir, &name("gone")).await), FsErrorKind::NotFound);
            }
            forebay_types::FsResult::Ok(())
        });
        done.store(true, SeqCst);
        looked.unwrap();
    });
}
