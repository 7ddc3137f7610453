//! The parts of a running node, put together from the bottom up and taken apart from the top down.
//!
//! **Owns** the handles of all parts and nothing else; [`crate::daemon`] owns the order of what comes before and
//! after. A part that fails to start takes the ones below it down with it, in the order of their drops: the shards
//! last, since everything above them still runs on them.

mod below;
mod mounted;

pub(crate) use mounted::spec_of;

use crate::admin;
use crate::asked::AskedFile;
use crate::audit::AuditLog;
use crate::cachedir::CacheDir;
use crate::config::Config;
use crate::failure::{Failure, Outcome};
use crate::keeper::{Keeper, KeeperParts};
use crate::left_behind;
use crate::logging::LogSwitch;
use crate::memory::{Account, Counted};
use crate::metrics;
use crate::mounts::{self, Mounts, Reached};
use crate::plan::Plan;
use crate::settings::{Hearers, Settings};
use crate::takeover::handover::{DRAINED_WITHIN, Handover};
use crate::takeover::{Taken, Takeover};
use crate::tiers::TierDirs;
use below::{data_path, open_names, open_store, ready_persister, shards_config};
use forebay_client::Client;
use forebay_fuse::{FuseMount, Inherited};
use forebay_namespace::Namespace;
use forebay_shard::{ShardHandle, Shards};
use forebay_store::Store;
use forebay_types::MountId;
use forebay_vfs::{Vfs, VfsConfig};
use forebay_worker::{Persister, UfsTable, Worker};
use mounted::{Background, keep_mount, may_pass_through, mount, roll_for};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// The tier that `cache.size` speaks of: where it may be set, the only one.
pub(crate) const CACHE_TIER: usize = 0;
/// How long the shards may take to end what they are doing.
const SHARDS_STOP: Duration = Duration::from_secs(10);
/// How long uploads that are under way may take to end; what does not is carried by the next start.
const PERSIST_STOP: Duration = Duration::from_secs(10);

/// A node that serves its mount.
pub(crate) struct Parts {
    /// Where the kernel shows the tree.
    pub(crate) mount: Arc<FuseMount>,
    /// Whether the kernel reads cache files itself.
    pub(crate) passthrough: bool,
    vfs: Arc<Vfs>,
    names: Arc<Namespace>,
    worker: Arc<Worker>,
    client: Arc<Client>,
    store: Arc<Store>,
    persister: Arc<Persister>,
    ufs: UfsTable,
    asked: Arc<AskedFile>,
    audit: Arc<AuditLog>,
    memory: Arc<Account>,
    keeper: Arc<Keeper>,
    keeps: JoinHandle<()>,
    draws: JoinHandle<()>,
    takeover: Takeover,
    shards: Shards,
}

impl Parts {
    /// Starts everything; when it returns, the mount can be used.
    ///
    /// # Errors
    /// The first part that did not start; nothing is left running or mounted.
    pub(crate) async fn start(
        config: &Config,
        plan: &Plan,
        (cache, tiers): (&CacheDir, &TierDirs),
        (asked, mut reached): (Arc<AskedFile>, Vec<Reached>),
        taken: Option<Taken>,
    ) -> Outcome<Self> {
        let (inherited, line) = taken.map(|taken| (taken.inherited, taken.line)).unzip();
        let roll = roll_for(plan, inherited.as_ref());
        let shards = Shards::start(&shards_config(plan)).map_err(Failure::new)?;
        let (store, went_down) = open_store(plan, tiers)?;
        let (worker, client, ufs) = data_path(plan, &store);
        let root = reached.remove(0);
        ufs.insert(MountId::ROOT, root.store);
        let former = inherited.as_ref().map(Inherited::records).unwrap_or_default();
        let (names, recovery) = open_names(plan, cache, &worker, (roll.as_ref(), former))?;
        mounts::settle(&names, &ufs, reached).await?;
        mounts::set_read_policies(&names, &client);
        let passthrough = plan.passthrough && may_pass_through(&tiers.written_to());
        let of_vfs = VfsConfig { passthrough, ..VfsConfig::default() };
        let vfs = Vfs::new(Arc::clone(&names), Arc::clone(&client), of_vfs);
        let persister = ready_persister(plan, &shards, &worker, &names);
        left_behind::settle_begun(&persister).await?;
        let open = inherited.as_ref().map(Inherited::open_inodes).unwrap_or_default();
        left_behind::settle(&shards, (&store, went_down), &names, &vfs, (recovery, &open)).await?;
        // What was open is open again before anything is carried or evicted.
        let taken_over = inherited.is_some();
        let mut background =
            Background { shards: &shards, store: &store, ready: Some(persister), begun: None };
        let mount = mount(plan, &vfs, &mut background, (inherited, roll))?;
        let persister = background.begun.expect("a mount begins what runs behind it")?;
        let takeover = keep_mount(config, plan, &mount, line, taken_over);
        let audit = Arc::new(AuditLog::default());
        mount.watch(Arc::clone(&audit) as _);
        let keeper = Keeper::new(
            KeeperParts {
                mount: Arc::clone(&mount),
                vfs: Arc::clone(&vfs),
                names: Arc::clone(&names),
                client: Arc::clone(&client),
                worker: Arc::clone(&worker),
                shard: shards.handles()[0].clone(),
                asked: Arc::clone(&asked),
            },
            config.keeper.every.0,
        );
        let keeps = tokio::spawn(Arc::clone(&keeper).run());
        let draws = tokio::spawn(Namespace::keep_images(Arc::downgrade(&names)));
        let counted = Counted {
            mount: Arc::clone(&mount),
            worker: Arc::clone(&worker),
            store: Arc::clone(&store),
            names: Arc::clone(&names),
            persister: Arc::downgrade(&persister),
        };
        Ok(Self {
            memory: Account::begin(&plan.memory, counted),
            passthrough: passthrough && mount.has_passthrough(),
            mount,
            vfs,
            names,
            worker,
            client,
            store,
            persister,
            ufs,
            asked,
            audit,
            keeper,
            keeps,
            draws,
            takeover,
            shards,
        })
    }

    /// What a change of the settings is told to.
    pub(crate) fn hearers(&self, log: LogSwitch) -> Hearers {
        Hearers {
            log,
            keeper: Arc::clone(&self.keeper),
            audit: Arc::clone(&self.audit),
            store: Arc::clone(&self.store),
            sources: self.sources(),
        }
    }

    fn mounts(&self, plan: &Plan) -> Mounts {
        Mounts {
            mount: Arc::clone(&self.mount),
            vfs: Arc::clone(&self.vfs),
            names: Arc::clone(&self.names),
            client: Arc::clone(&self.client),
            ufs: self.ufs.clone(),
            asked: Arc::clone(&self.asked),
            shard: self.first_shard(),
            apart: [
                ("cache directory", plan.cache_dir.clone()),
                ("mount point", self.mount.dir().to_owned()),
            ]
            .into_iter()
            .chain(plan.tiers.iter().map(|tier| ("tier", tier.dir.clone())))
            .collect(),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// What the admin socket needs to answer.
    pub(crate) fn service(&self, config: &Config, plan: &Plan, settings: &Arc<Settings>) -> admin::Service {
        let handover = Handover::new(
            (Arc::clone(&self.mount), Arc::clone(&self.names)),
            Arc::downgrade(&self.persister),
            config,
        );
        admin::Service {
            mount: Arc::clone(&self.mount),
            vfs: Arc::clone(&self.vfs),
            names: Arc::clone(&self.names),
            client: Arc::clone(&self.client),
            store: Arc::clone(&self.store),
            ufs: Arc::clone(&self.worker) as _,
            asked: Arc::clone(&self.asked),
            keeper: Arc::clone(&self.keeper),
            audit: Arc::clone(&self.audit),
            memory: Arc::clone(&self.memory),
            mounts: Arc::new(self.mounts(plan)),
            settings: Arc::clone(settings),
            shard: self.first_shard(),
            node: plan.node.clone(),
            source: plan.shown_source().to_owned(),
            handover: Arc::new(handover),
            takeover: self.takeover.clone(),
        }
    }

    /// Where the metrics page takes its numbers from.
    pub(crate) fn sources(&self) -> metrics::Sources {
        metrics::Sources {
            mount: Arc::clone(&self.mount),
            vfs: Arc::clone(&self.vfs),
            worker: Arc::clone(&self.worker),
            store: Arc::clone(&self.store),
            names: Arc::clone(&self.names),
            persister: Arc::downgrade(&self.persister),
            shards: self.shards.handles().to_vec(),
            ufs: self.ufs.clone(),
            keeper: Arc::clone(&self.keeper),
            audit: Arc::clone(&self.audit),
            memory: Arc::clone(&self.memory),
        }
    }

    fn first_shard(&self) -> ShardHandle {
        self.shards.handles()[0].clone()
    }

    /// Stops in order: the mount, the metadata, the shards, the store. Files open for writing get `grace` to be
    /// closed; what is not closed by then keeps the mount, and the stop fails with the names of those who hold it.
    ///
    /// # Errors
    /// Who is in the way, or what could not be made durable. Nothing acknowledged is lost: the next start does what
    /// this stop could not.
    pub(crate) async fn stop(self, grace: Duration) -> Outcome<()> {
        self.keeper.stop();
        let mount = Arc::clone(&self.mount);
        let unmounted = blocking(move || mount.unmount(grace).map_err(Failure::new)).await;
        let Self {
            mount,
            vfs,
            names,
            worker,
            client,
            store,
            persister,
            keeper,
            keeps,
            draws,
            memory,
            shards,
            ..
        } = self;
        keeps.abort();
        draws.abort();
        drop((keeper, memory));
        // The metrics page, the only other one who knows the engine, holds on to it for one look at a time.
        if let Some(persister) = Arc::into_inner(persister) {
            let dropped = persister.stop(PERSIST_STOP).await;
            tracing::debug!(dropped, "persisting has stopped; what is left stays in the log");
        }
        let (log, left) = (Arc::clone(&names), unmounted.is_err().then(|| Arc::clone(&mount)));
        let flushed = blocking(move || {
            if let Some(mount) = left {
                let unanswered = mount.hold_back(DRAINED_WITHIN);
                tracing::info!(unanswered, "the mount is left to the next daemon");
            }
            log.flush().map_err(Failure::new)
        });
        let flushed = flushed.await;
        if unmounted.is_err() {
            // The kernel still has files of the tier open: no mark of a clean end. And nothing is taken down: that
            // closes what is open, and the next daemon would be told so.
            std::mem::forget((mount, vfs, names, client, worker, shards, store));
            return unmounted.and(flushed);
        }
        drop((mount, vfs, client, worker, names));
        // Housekeeping, and whoever still fetches, end before the mark that says that everything is synced.
        let closed = blocking(move || {
            let report = shards.stop(SHARDS_STOP);
            tracing::debug!(?report, "the shards have stopped");
            store.close().map_err(Failure::new)
        });
        flushed.and(closed.await)
    }
}

/// Runs what blocks beside the control threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Outcome<T> + Send + 'static) -> Outcome<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(Failure::new(format!("a step of the stop panicked: {error}"))),
    }
}
