//! Requests about files: what is known of them, and bringing, dropping, keeping and carrying their bytes.

use super::{Service, tell};
use crate::admin::{Event, Progress};
use crate::asked::is_within;
use crate::failure::{Failure, Outcome};
use crate::keeper::Keeper;
use crate::walk;
use forebay_client::Progress as FetchProgress;
use forebay_namespace::{BarrierReport, DirtyStats, FileState, Namespace};
use forebay_types::{FileKind, FsError, FsErrorKind, FsResult, Ino};
use forebay_vfs::Vfs;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Sender;

/// So many failures are named; a message with more helps nobody.
const FAILURES_NAMED: usize = 5;
/// How long closes that are under way are waited for, and how often they are looked at.
const CLOSE_TOLD_WITHIN: Duration = Duration::from_secs(10);
const CLOSE_LOOK: Duration = Duration::from_millis(5);

impl Service {
    pub(super) async fn stat(&self, path: Vec<u8>) -> FsResult<Value> {
        let (vfs, names, client) = (Arc::clone(&self.vfs), Arc::clone(&self.names), Arc::clone(&self.client));
        let (asked, keeper) = (Arc::clone(&self.asked), Arc::clone(&self.keeper));
        let stat = move || async move {
            let found = walk::find(&vfs, &path).await?;
            let attr = vfs.getattr(found.ino).await?.attr;
            let state = names.state(found.ino).await?;
            let mut value = json!({
                "path": format!("/{}", path.escape_ascii()),
                "inode": attr.ino.0,
                "kind": attr.kind,
                "size": attr.size,
                "state": state.to_string(),
            });
            if let FileState::Unpersistable(why) = &state {
                value["why"] = why.as_str().into();
            }
            if attr.kind == FileKind::Regular {
                let content = names.content(found.ino).await?;
                value["cached_bytes"] = client.resident_bytes(&content).await?.into();
                value["ufs_key"] = content.ufs.as_ref().map(|(key, _)| key.to_string()).into();
                value["held"] = keeper.is_held(&content).into();
            }
            value["pinned"] = (asked.is_pinned(&path) || names.policy(found.ino).await?.pin).into();
            Ok(value)
        };
        self.on_shard(stat).await
    }

    pub(super) async fn load(&self, path: Vec<u8>, says: Sender<Event>) -> FsResult<Value> {
        self.bring(path, None, says).await
    }

    /// Brings all bytes at and below a path here, and has the keeper keep them.
    async fn bring(
        &self,
        path: Vec<u8>,
        keeper: Option<Arc<Keeper>>,
        says: Sender<Event>,
    ) -> FsResult<Value> {
        let tally = Arc::new(Tally::default());
        let (vfs, names, client) = (Arc::clone(&self.vfs), Arc::clone(&self.names), Arc::clone(&self.client));
        let counted = Arc::clone(&tally);
        let load = move || async move {
            let load_one = |found: walk::Looked<'_>| {
                let (names, client, tally, keeper) = (&names, &client, &counted, &keeper);
                async move {
                    tally.files_total.fetch_add(1, Relaxed);
                    let content = names.content(found.ino).await?;
                    client.complete_counting(&content, &tally.bytes).await?;
                    if let Some(keeper) = keeper {
                        keeper.hold(&content);
                    }
                    tally.files.fetch_add(1, Relaxed);
                    Ok(())
                }
            };
            walk::each_file(&vfs, &path, load_one).await
        };
        tell(self.on_shard(load), || tally.progress(), &says).await?;
        let told = tally.progress();
        Ok(json!({ "files": told.files, "bytes": told.bytes, "fetched_bytes": tally.bytes.fetched() }))
    }

    pub(super) async fn free(&self, path: Vec<u8>) -> FsResult<Value> {
        let (vfs, names, client) = (Arc::clone(&self.vfs), Arc::clone(&self.names), Arc::clone(&self.client));
        let free = move || async move {
            let (freed, kept) = (AtomicU64::new(0), AtomicU64::new(0));
            let free_one = |found: walk::Looked<'_>| {
                let (names, client, freed, kept) = (&names, &client, &freed, &kept);
                async move {
                    let content = names.content(found.ino).await?;
                    match client.evict(&content).await {
                        Ok(bytes) => freed.fetch_add(bytes, Relaxed),
                        Err(error) if error.kind() == FsErrorKind::Busy => kept.fetch_add(1, Relaxed),
                        Err(error) => return Err(error),
                    };
                    Ok(())
                }
            };
            walk::each_file(&vfs, &path, free_one).await?;
            Ok(json!({ "freed_bytes": freed.into_inner(), "files_in_use": kept.into_inner() }))
        };
        self.on_shard(free).await
    }

    pub(super) async fn persist(&self, path: Vec<u8>, wait: bool, says: Sender<Event>) -> FsResult<Value> {
        let (vfs, of) = (Arc::clone(&self.vfs), path.clone());
        let top =
            self.on_shard(
                move || async move { walk::find(&vfs, &of).await.map(|found| (found.ino, found.kind)) },
            );
        let (ino, kind) = top.await?;
        let (vfs, names) = (Arc::clone(&self.vfs), Arc::clone(&self.names));
        let before = names.dirty_stats();
        let carried = tokio::spawn(async move { carry(&vfs, &names, ino, kind).await });
        if !wait {
            return Ok(json!({ "dirty_names": before.names, "dirty_bytes": before.bytes }));
        }
        let so_far = || left_of(before, self.names.dirty_stats());
        let ended = async { carried.await.unwrap_or_else(|error| Err(FsError::new(FsErrorKind::Io, error))) };
        let report = tell(ended, so_far, &says).await?;
        refuse_failures(&report)?;
        Ok(json!({ "open_for_write": report.open_for_write, "left_dirty": self.names.dirty_stats().names }))
    }

    /// Writes a pin down and does at once what it asks for. A pin that cannot be kept is taken back.
    pub(super) async fn pin(&self, path: Vec<u8>, says: Sender<Event>) -> Outcome<Value> {
        let pin = pin_of(&path)?;
        let known = self.asked.now().pins.contains(&pin);
        let (vfs, there) = (Arc::clone(&self.vfs), path.clone());
        self.on_shard(move || async move { walk::find(&vfs, &there).await.map(|_| ()) }).await?;
        let added = pin.clone();
        self.change_pins(move |pins| pins.insert(added)).await?;
        let brought = self.bring(path, Some(Arc::clone(&self.keeper)), says).await;
        if brought.is_err() && !known {
            self.change_pins(move |pins| pins.remove(&pin)).await?;
            self.keeper.poke();
        }
        let not_brought = |error| {
            Failure::new(format!("it is not pinned, for not all of it could be brought here: {error}"))
                .remedy("make room (forebay fs free, forebay config set cache.size), or pin less of it")
        };
        brought.map_err(not_brought)
    }

    pub(super) async fn unpin(&self, path: Vec<u8>, says: Sender<Event>) -> Outcome<Value> {
        let pin = pin_of(&path)?;
        let pins = self.asked.now().pins;
        if !pins.contains(&pin) {
            let above = pins.iter().find(|above| is_within(&path, above.as_bytes()));
            let cause = format!("/{pin} is not pinned itself");
            return Err(match above {
                Some(above) => {
                    Failure::new(cause).remedy(format!("it is kept by the pin of /{above}: unpin that"))
                }
                None => Failure::new(cause)
                    .remedy("`forebay mount list` shows the pins, and policies with pin = true"),
            });
        }
        self.change_pins(move |pins| pins.remove(&pin)).await?;
        // The guards go with a round that no longer finds the pin.
        tell(self.keeper.round(), Progress::default, &says).await?;
        Ok(json!({ "pins": self.asked.now().pins }))
    }

    async fn change_pins(
        &self,
        change: impl FnOnce(&mut BTreeSet<String>) -> bool + Send + 'static,
    ) -> Outcome<()> {
        let asked = Arc::clone(&self.asked);
        let change = move || {
            asked.change(|asked| {
                change(&mut asked.pins);
            })
        };
        let changed = tokio::task::spawn_blocking(change).await;
        changed.unwrap_or_else(|error| Err(Failure::new(format!("writing the pin down panicked: {error}"))))
    }
}

/// Carries what was dirty when it was asked, and what had been closed by then: the kernel tells of a close a moment
/// after it returned to whoever closed.
async fn carry(vfs: &Vfs, names: &Namespace, ino: Ino, kind: FileKind) -> FsResult<BarrierReport> {
    let until = Instant::now() + CLOSE_TOLD_WITHIN;
    let mut closing = vfs.closing();
    while !closing.is_empty() && Instant::now() < until {
        tokio::time::sleep(CLOSE_LOOK).await;
        closing.retain(|ino| vfs.is_closing(*ino));
    }
    match kind {
        FileKind::Directory if ino == Ino::ROOT => names.persist_barrier(None).await,
        FileKind::Directory => names.persist_barrier(Some(ino)).await,
        _ => names.persist_now(ino).await.map(|()| BarrierReport::default()),
    }
}

/// A pin is written down as text.
fn pin_of(path: &[u8]) -> Outcome<String> {
    String::from_utf8(path.to_vec()).map_err(|_| {
        Failure::new(format!("the path {} is not UTF-8", path.escape_ascii()))
            .remedy("pin a directory above it whose name is")
    })
}

/// How far a walk has come.
#[derive(Debug, Default)]
struct Tally {
    files: AtomicU64,
    files_total: AtomicU64,
    bytes: FetchProgress,
}

impl Tally {
    fn progress(&self) -> Progress {
        Progress {
            files: self.files.load(Relaxed),
            files_total: self.files_total.load(Relaxed),
            bytes: self.bytes.done(),
            bytes_total: self.bytes.total(),
        }
    }
}

/// What was dirty before, and how much of that is done. New changes hide some of what was done.
fn left_of(before: DirtyStats, now: DirtyStats) -> Progress {
    Progress {
        files: before.names.saturating_sub(now.names) as u64,
        files_total: before.names as u64,
        bytes: before.bytes.saturating_sub(now.bytes),
        bytes_total: before.bytes,
    }
}

/// A barrier that left something behind has failed.
fn refuse_failures(report: &BarrierReport) -> FsResult<()> {
    let named = report.failed.iter().take(FAILURES_NAMED).map(|(name, why)| format!("{name}: {why}"));
    match report.failed.len() {
        0 => Ok(()),
        count => {
            let named = named.collect::<Vec<_>>().join("; ");
            let story = format!("{count} names were not carried and are tried again: {named}");
            Err(FsError::new(FsErrorKind::Unavailable, story))
        }
    }
}
