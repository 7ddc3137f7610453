//! What each request does with the parts.

mod check;
mod files;

use super::{Event, Progress, Request};
use crate::asked::AskedFile;
use crate::audit::AuditLog;
use crate::failure::{Failure, Outcome};
use crate::keeper::Keeper;
use crate::memory::Account;
use crate::mounts::Mounts;
use crate::settings::Settings;
use crate::takeover::Takeover;
use crate::takeover::handover::Handover;
use forebay_client::Client;
use forebay_fuse::FuseMount;
use forebay_namespace::Namespace;
use forebay_shard::ShardHandle;
use forebay_store::Store;
use forebay_types::{FsError, FsErrorKind, FsResult, NodeId, UfsMeta};
use forebay_vfs::Vfs;
use serde_json::{Value, json};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Sender;

/// How often a client hears how far a request has come.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// The parts that requests concern.
pub(crate) struct Service {
    pub(crate) mount: Arc<FuseMount>,
    pub(crate) vfs: Arc<Vfs>,
    pub(crate) names: Arc<Namespace>,
    pub(crate) client: Arc<Client>,
    pub(crate) store: Arc<Store>,
    pub(crate) ufs: Arc<dyn UfsMeta>,
    pub(crate) asked: Arc<AskedFile>,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) audit: Arc<AuditLog>,
    pub(crate) memory: Arc<Account>,
    pub(crate) mounts: Arc<Mounts>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) shard: ShardHandle,
    pub(crate) node: NodeId,
    pub(crate) source: String,
    pub(crate) handover: Arc<Handover>,
    /// Whether another process could go on with the mount, or why not.
    pub(crate) takeover: Takeover,
}

impl Service {
    /// Does what is asked; a long request says how far it is.
    ///
    /// # Errors
    /// The cause, and the remedy if there is one.
    pub(super) async fn serve(&self, request: Request, says: Sender<Event>) -> Outcome<Value> {
        match request {
            Request::Info => Ok(self.info()),
            Request::Stat { path } => Ok(self.stat(path).await?),
            Request::Load { path } => Ok(self.load(path, says).await?),
            Request::Free { path } => Ok(self.free(path).await?),
            Request::Persist { path, wait } => Ok(self.persist(path, wait, says).await?),
            Request::Pin { path } => self.pin(path, says).await,
            Request::Unpin { path } => self.unpin(path, says).await,
            Request::Check { path } => Ok(self.check(path, says).await?),
            Request::MountAdd { mount } => {
                let added = self.mounts.add(*mount).await?;
                self.keeper.poke();
                Ok(added)
            }
            Request::MountRemove { at } => self.mounts.remove(&at).await,
            Request::MountList => self.mounts.list().await,
            Request::MountSet { path, changes } => {
                let set = self.mounts.set(&path, &changes).await?;
                self.keeper.poke();
                Ok(set)
            }
            Request::ConfigGet { key } => self.settings.get(&key),
            Request::ConfigSet { key, value } => self.settings.set(&key, &value).await,
            Request::ConfigList => Ok(self.settings.list()),
            Request::Upgrade { binary } => {
                let handover = Arc::clone(&self.handover);
                let begun = tokio::task::spawn_blocking(move || handover.begin(binary)).await;
                begun.unwrap_or_else(|error| Err(Failure::new(format!("the upgrade panicked: {error}"))))
            }
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
            "passthrough": self.vfs.permits_passthrough() && self.mount.has_passthrough(),
            "channel": self.mount.channel().kind.name(),
            "channel_why": self.mount.channel().why,
            "open_files": opens.open_now,
            "opens_passthrough": opens.passthrough,
            "opens_cached": opens.cached,
            "mounts": mounts,
            "tiers": tiers,
            "promotions": self.store.counters().promotions(),
            "demotions": self.store.counters().demotions(),
            "takeover": self.takeover.word(),
            "taken_over": self.takeover.taken_over,
            "began": self.takeover.began,
            "upgrade_failed": self.handover.failed(),
            "pins": self.asked.now().pins,
            "memory": self.memory.report(),
        })
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

impl From<FsError> for Failure {
    fn from(error: FsError) -> Self {
        Self::new(error)
    }
}

fn tier_info(tier: &forebay_store::TierUsage) -> Value {
    json!({
        "name": tier.name,
        "kind": tier.kind,
        "used": tier.used,
        "quota": tier.quota,
        "reserved": tier.reserved,
        "only_here": tier.authored,
        "extents": tier.extents,
    })
}

/// Waits for the work and says meanwhile how far it is. A client that does not listen misses some figures.
async fn tell<T>(
    work: impl Future<Output = FsResult<T>>,
    so_far: impl Fn() -> Progress,
    says: &Sender<Event>,
) -> FsResult<T> {
    tokio::pin!(work);
    let mut ticks = tokio::time::interval(PROGRESS_EVERY);
    loop {
        tokio::select! {
            biased;
            outcome = &mut work => return outcome,
            _ = ticks.tick() => drop(says.try_send(Event::Progress(so_far()))),
        }
    }
}
