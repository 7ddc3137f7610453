//! What each request does with the parts.

use super::{Progress, Request, walk};
use forebay_client::{Client, Progress as FetchProgress};
use forebay_fuse::FuseMount;
use forebay_namespace::{BarrierReport, DirtyStats, Namespace};
use forebay_shard::ShardHandle;
use forebay_store::Store;
use forebay_types::{FileKind, FsError, FsErrorKind, FsResult, Ino, NodeId};
use forebay_vfs::Vfs;
use serde_json::{Value, json};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::mpsc::Sender;

/// How often a client hears how far a request has come.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// So many failures are named; a message with more helps nobody.
const FAILURES_NAMED: usize = 5;

/// The parts that requests concern.
pub(crate) struct Service {
    pub(crate) mount: Arc<FuseMount>,
    pub(crate) vfs: Arc<Vfs>,
    pub(crate) names: Arc<Namespace>,
    pub(crate) client: Arc<Client>,
    pub(crate) store: Arc<Store>,
    pub(crate) shard: ShardHandle,
    pub(crate) node: NodeId,
    pub(crate) source: String,
}

impl Service {
    /// Does what is asked; a long request says how far it is.
    ///
    /// # Errors
    /// As the parts say.
    pub(super) async fn serve(&self, request: Request, says: Sender<Progress>) -> FsResult<Value> {
        match request {
            Request::Info => Ok(self.info()),
            Request::Stat { path } => self.stat(path).await,
            Request::Load { path } => self.load(path, says).await,
            Request::Free { path } => self.free(path).await,
            Request::Persist { path, wait } => self.persist(path, wait, says).await,
        }
    }

    fn info(&self) -> Value {
        let opens = self.vfs.open_counts();
        let tiers: Vec<_> = self.store.usage().iter().map(tier_info).collect();
        let mounts: Vec<_> =
            self.names.mounts().iter().map(|m| json!({"at": m.spec.path, "ufs": m.spec.source})).collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "node": self.node,
            "pid": std::process::id(),
            "dir": self.mount.dir(),
            "source": self.source,
            "passthrough": self.mount.has_passthrough(),
            "channel": self.mount.channel().kind.name(),
            "channel_why": self.mount.channel().why,
            "open_files": opens.open_now,
            "opens_passthrough": opens.passthrough,
            "opens_cached": opens.cached,
            "mounts": mounts,
            "tiers": tiers,
        })
    }

    async fn stat(&self, path: Vec<u8>) -> FsResult<Value> {
        let (vfs, names, client) = (Arc::clone(&self.vfs), Arc::clone(&self.names), Arc::clone(&self.client));
        let stat = move || async move {
            let found = walk::find(&vfs, &path).await?;
            let attr = vfs.getattr(found.ino).await?.attr;
            let state = names.state(found.ino).await?.to_string();
            let mut value = json!({
                "path": format!("/{}", path.escape_ascii()),
                "inode": attr.ino.0,
                "kind": attr.kind,
                "size": attr.size,
                "state": state,
            });
            if attr.kind == FileKind::Regular {
                let content = names.content(found.ino).await?;
                value["cached_bytes"] = client.resident_bytes(&content).await?.into();
                value["ufs_key"] = content.ufs.map(|(key, _)| key.to_string()).into();
            }
            Ok(value)
        };
        self.on_shard(stat).await
    }

    async fn load(&self, path: Vec<u8>, says: Sender<Progress>) -> FsResult<Value> {
        let tally = Arc::new(Tally::default());
        let (vfs, names, client) = (Arc::clone(&self.vfs), Arc::clone(&self.names), Arc::clone(&self.client));
        let counted = Arc::clone(&tally);
        let load = move || async move {
            let load_one = |found: walk::Looked<'_>| {
                let (names, client, tally) = (&names, &client, &counted);
                async move {
                    tally.files_total.fetch_add(1, Relaxed);
                    let content = names.content(found.ino).await?;
                    client.complete_counting(&content, &tally.bytes).await?;
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

    async fn free(&self, path: Vec<u8>) -> FsResult<Value> {
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

    async fn persist(&self, path: Vec<u8>, wait: bool, says: Sender<Progress>) -> FsResult<Value> {
        let (vfs, of) = (Arc::clone(&self.vfs), path.clone());
        let top =
            self.on_shard(
                move || async move { walk::find(&vfs, &of).await.map(|found| (found.ino, found.kind)) },
            );
        let (ino, kind) = top.await?;
        let names = Arc::clone(&self.names);
        let before = names.dirty_stats();
        let carried = tokio::spawn(async move {
            match kind {
                FileKind::Directory if ino == Ino::ROOT => names.persist_barrier(None).await,
                FileKind::Directory => names.persist_barrier(Some(ino)).await,
                _ => names.persist_now(ino).await.map(|()| BarrierReport::default()),
            }
        });
        if !wait {
            return Ok(json!({ "dirty_names": before.names, "dirty_bytes": before.bytes }));
        }
        let so_far = || left_of(before, self.names.dirty_stats());
        let ended = async { carried.await.unwrap_or_else(|error| Err(FsError::new(FsErrorKind::Io, error))) };
        let report = tell(ended, so_far, &says).await?;
        refuse_failures(&report)?;
        Ok(json!({ "open_for_write": report.open_for_write, "left_dirty": self.names.dirty_stats().names }))
    }

    /// Runs a task where files can be reached, and brings its result back.
    async fn on_shard<F, Fut, T>(&self, task: F) -> FsResult<T>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = FsResult<T>> + 'static,
        T: Send + 'static,
    {
        match self.shard.call(task).await {
            Ok(outcome) => outcome,
            Err(error) => Err(FsError::new(FsErrorKind::Overloaded, error)),
        }
    }
}

fn tier_info(tier: &forebay_store::TierUsage) -> Value {
    json!({ "name": tier.name, "used": tier.used, "quota": tier.quota, "extents": tier.extents })
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

/// Waits for the work and says meanwhile how far it is. A client that does not listen misses some figures.
async fn tell<T>(
    work: impl Future<Output = FsResult<T>>,
    so_far: impl Fn() -> Progress,
    says: &Sender<Progress>,
) -> FsResult<T> {
    tokio::pin!(work);
    let mut ticks = tokio::time::interval(PROGRESS_EVERY);
    loop {
        tokio::select! {
            biased;
            outcome = &mut work => return outcome,
            _ = ticks.tick() => drop(says.try_send(so_far())),
        }
    }
}
