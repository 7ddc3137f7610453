//! What is carried, in which order, and what becomes of it when the UFS does not play along.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod aside;
#[path = "../common/mod.rs"]
mod common;
mod giving_way;
mod meanwhile;
mod order;

use common::{World, name};
use forebay_types::{ExtentId, FileKind, FileTimes, Ino, PersistLog, PersistTask, PersistWork};
use std::time::Duration;

/// A file that was made, written and closed.
async fn write(world: &World, dir: Ino, called: &str, len: u64) -> Ino {
    let ino = match world.names().lookup(dir, &name(called)).await {
        Ok(entry) => entry.attr.ino,
        Err(_) => world.make(dir, called, FileKind::Regular).await.unwrap(),
    };
    world.names().write_opened(ino, Some(ExtentId(ino.0)), None).await.unwrap();
    let times = FileTimes { len, ..FileTimes::default() };
    world.names().write_closed(ino, times, true).await.unwrap();
    ino
}

/// The next task, if one comes soon.
async fn next(world: &World) -> Option<PersistTask> {
    tokio::time::timeout(Duration::from_millis(500), world.names().next()).await.ok()
}

/// The task that is due, however slow the machine.
async fn due(world: &World) -> PersistTask {
    tokio::time::timeout(Duration::from_secs(60), world.names().next()).await.unwrap()
}

fn put_key(task: &PersistTask) -> String {
    match &task.work {
        PersistWork::Put { to, .. } => to.to_string(),
        other => panic!("{other:?} is no put"),
    }
}
