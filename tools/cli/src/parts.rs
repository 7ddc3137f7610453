//! The parts of a running node, put together from the bottom up and taken apart from the top down.
//!
//! **Owns** the handles of all parts and nothing else; [`crate::daemon`] owns the order of what comes before and
//! after. A part that fails to start takes the ones below it down with it, in the order of their drops: the shards
//! last, since everything above them still runs on them.

use crate::admin;
use crate::asked::AskedFile;
use crate::audit::AuditLog;
use crate::bounds;
use crate::cachedir::CacheDir;
use crate::config::Config;
use crate::failure::{Failure, Outcome};
use crate::fdlimit;
use crate::keeper::{Keeper, KeeperParts};
use crate::left_behind;
use crate::logging::LogSwitch;
use crate::memory::{Account, Counted, Part};
use crate::metrics;
use crate::mounts::{self, Mounts, Reached};
use crate::plan::Plan;
use crate::settings::{Hearers, Settings};
use crate::takeover::handover::{DRAINED_WITHIN, Handover};
use crate::takeover::{self, Custody, Line, Taken, Takeover, Terms};
use crate::tiers::TierDirs;
use forebay_client::{Client, ClientConfig};
use forebay_fuse::{
    ChannelKind, FuseMount, Inherited, MountSpec as FuseSpec, Roll, probe_channel, probe_passthrough,
};
use forebay_meta::{LmdbOptions, LmdbStore};
use forebay_namespace::{CHANGE_COPIES, INODE_WEIGHT, NAME_WEIGHT, Namespace, NamespaceConfig, Recovery};
use forebay_net::InProcess;
use forebay_shard::{ShardHandle, Shards, ShardsConfig};
use forebay_store::{Store, StoreConfig};
use forebay_types::{ByteSize, Ino, MountId, PersistLog, UfsMeta};
use forebay_vfs::{Vfs, VfsConfig};
use forebay_worker::{PersistConfig, Persister, ReadyPersister, UfsTable, Worker, WorkerConfig};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// The tier that `cache.size` speaks of: where it may be set, the only one.
pub(crate) const CACHE_TIER: usize = 0;
/// The share of the I/O memory that fetched bytes may take; the rest is for requests.
const FETCH_SHARE: u64 = 2;
/// The fewest ranged reads at one time, however little memory there is for them.
const GETS_MIN: usize = 2;
/// What part of the permitted open files may be empty extents, and extents that nobody uses.
const BLANKS_SHARE: usize = 8;
const IDLE_FILES_SHARE: usize = 4;
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
    takeover: Takeover,
    shards: Shards,
}

/// Inodes that another process knew, as it left them.
type Records = Vec<(Ino, Box<[u8]>)>;

/// The folder of the cache that holds the engine of the metadata, and the one of its log.
const META: &str = "meta";
const LOG: &str = "log";

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
                store: Arc::clone(&store),
                shard: shards.handles()[0].clone(),
                asked: Arc::clone(&asked),
            },
            config.keeper.every.0,
        );
        let keeps = tokio::spawn(Arc::clone(&keeper).run());
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
        let handover = Handover::new(Arc::clone(&self.mount), Arc::clone(&self.names), config);
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
            mount, vfs, names, worker, client, store, persister, keeper, keeps, memory, shards, ..
        } = self;
        keeps.abort();
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

fn shards_config(plan: &Plan) -> ShardsConfig {
    ShardsConfig {
        cores: plan.cores.clone(),
        arena: plan.memory.limit(Part::Arena),
        ..ShardsConfig::default()
    }
}

/// The store, and whether the machine went down under it.
fn open_store(plan: &Plan, tiers: &TierDirs) -> Outcome<(Arc<Store>, bool)> {
    let defaults = StoreConfig::new(plan.node.clone(), tiers.tiers());
    let descriptors = usize::try_from(fdlimit::raise()).unwrap_or(usize::MAX);
    let config = StoreConfig {
        page_size: plan.page_size,
        eviction: plan.cache.eviction,
        high_watermark: plan.cache.high_watermark,
        low_watermark: plan.cache.low_watermark,
        pack_max: plan.cache.pack_max,
        scrub_rate: plan.cache.scrub_rate,
        blanks_max: defaults.blanks_max.min(descriptors / BLANKS_SHARE),
        open_files_max: defaults.open_files_max.min(descriptors / IDLE_FILES_SHARE),
        ..defaults
    };
    let (store, report) = Store::open(config).map_err(Failure::new)?;
    tiers.settle(&store)?;
    tracing::info!(clean = report.clean, authored = report.authored, "the store is open");
    Ok((store, left_behind::machine_went_down(&report)))
}

fn data_path(plan: &Plan, store: &Arc<Store>) -> (Arc<Worker>, Arc<Client>, UfsTable) {
    let ufs = UfsTable::default();
    let defaults = WorkerConfig::default();
    let gets = plan.memory.limit(Part::Transfers).as_u64() / defaults.get_len.as_u64();
    let config = WorkerConfig {
        fetch_memory: ByteSize::bytes(plan.memory.limit(Part::Arena).as_u64() / FETCH_SHARE),
        gets: usize::try_from(gets).unwrap_or(usize::MAX).clamp(GETS_MIN, defaults.gets),
        reserve: bounds::reserve(plan.cache.reserve, store.written_to().quota),
        full_mark: plan.cache.full_mark,
        dirty_mark: plan.cache.dirty_mark,
        ..defaults
    };
    let worker = Worker::new(config, Arc::clone(store), ufs.clone(), tokio::runtime::Handle::current());
    let client = Client::new(ClientConfig::default(), Arc::new(InProcess::new(Arc::clone(&worker))));
    (worker, client, ufs)
}

fn open_names(
    plan: &Plan,
    cache: &CacheDir,
    worker: &Arc<Worker>,
    (roll, former): (Option<&Arc<Roll>>, Records),
) -> Outcome<(Arc<Namespace>, Recovery)> {
    let engine = LmdbStore::open(&cache.folder(META), &LmdbOptions::default()).map_err(Failure::new)?;
    let entries =
        |part: Part, weight: ByteSize| (plan.memory.limit(part).as_u64() / weight.as_u64()) as usize;
    let config = NamespaceConfig {
        inodes_max: entries(Part::Inodes, INODE_WEIGHT),
        names_max: entries(Part::Names, NAME_WEIGHT),
        commit_bytes_max: entries(Part::Changes, ByteSize::bytes(CHANGE_COPIES)),
        memo: roll.map(|roll| Arc::clone(roll) as _),
        former,
        ..NamespaceConfig::new(cache.folder(LOG), plan.node.clone(), mounts::spec_of(&plan.mounts[0]))
    };
    let ufs: Arc<dyn UfsMeta> = Arc::clone(worker) as _;
    let (names, recovery) = Namespace::open(config, Arc::new(engine), ufs).map_err(Failure::new)?;
    let (orphans, write_open) = (recovery.orphans.len(), recovery.write_open.len());
    tracing::info!(replayed = recovery.replayed, orphans, write_open, "the name space is open");
    Ok((names, recovery))
}

/// Tries the real thing, and says once why not.
fn may_pass_through(tier: &Path) -> bool {
    match probe_passthrough(tier) {
        Ok(()) => true,
        Err(reason) => {
            tracing::warn!(%reason, "files are served through the daemon, not by the kernel itself");
            false
        }
    }
}

/// What carries to the under file systems what is dirty, once it is started.
fn ready_persister(
    plan: &Plan,
    shards: &Shards,
    worker: &Arc<Worker>,
    names: &Arc<Namespace>,
) -> ReadyPersister {
    let log: Arc<dyn PersistLog> = Arc::clone(names) as _;
    let config = PersistConfig {
        tasks_at_once: plan.persist.tasks,
        parts_at_once: plan.persist.parts,
        memory: plan.memory.limit(Part::Persist),
        ..PersistConfig::new(plan.node.clone())
    };
    ReadyPersister::new(config, Arc::clone(worker), log, shards.handles().to_vec())
}

/// What is mounted where.
pub(crate) fn spec_of(plan: &Plan) -> FuseSpec {
    FuseSpec { source: plan.shown_source().to_owned(), dir: plan.dir.clone(), options: plan.fuse.clone() }
}

/// Where what is open is entered for another process, if one could go on with the mount.
fn roll_for(plan: &Plan, inherited: Option<&Inherited>) -> Option<Arc<Roll>> {
    if let Some(inherited) = inherited {
        return Some(inherited.roll());
    }
    let channel = probe_channel(plan.fuse.channel.unwrap_or_default());
    if plan.takeover_timeout.is_zero() || channel.kind != ChannelKind::DevFuse {
        return None;
    }
    Roll::new()
        .inspect_err(|error| tracing::warn!(%error, "no other daemon can take this mount over"))
        .ok()
        .map(Arc::new)
}

/// What runs behind the requests, and before the first of them.
struct Background<'p> {
    shards: &'p Shards,
    store: &'p Arc<Store>,
    ready: Option<ReadyPersister>,
    begun: Option<Outcome<Arc<Persister>>>,
}

impl Background<'_> {
    fn begin(&mut self) {
        let Some(ready) = self.ready.take() else { return };
        let housekeeping = left_behind::begin_housekeeping(self.shards, self.store);
        self.begun = Some(housekeeping.map(|()| Arc::new(ready.start())));
    }
}

fn mount(
    plan: &Plan,
    vfs: &Arc<Vfs>,
    background: &mut Background<'_>,
    (inherited, roll): (Option<Inherited>, Option<Arc<Roll>>),
) -> Outcome<Arc<FuseMount>> {
    let (vfs, spec, shards) = (Arc::clone(vfs), spec_of(plan), background.shards.handles());
    let mount = match inherited {
        Some(inherited) => FuseMount::take_over(vfs, shards, &spec, inherited, || background.begin()),
        None => {
            background.begin();
            FuseMount::start(vfs, shards, &spec, roll)
        }
    };
    mount.map(Arc::new).map_err(Failure::new)
}

/// Has somebody keep the mount. Without one it is served all the same.
fn keep_mount(
    config: &Config,
    plan: &Plan,
    mount: &Arc<FuseMount>,
    line: Option<Line>,
    taken_over: bool,
) -> Takeover {
    let timeout = plan.takeover_timeout;
    let terms = Terms { cache_dir: plan.cache_dir.clone(), timeout, log: config.log.clone() };
    let kept = match timeout.is_zero() {
        true => Err("fuse.takeover_timeout is 0"),
        false => match Custody::begin(mount, terms, line) {
            Ok(true) => Ok(timeout),
            Ok(false) if mount.channel().kind == ChannelKind::DevFuse => {
                Err("this kernel does not send requests again (Linux 6.9)")
            }
            Ok(false) => Err("only the channel dev-fuse can be taken over"),
            Err(error) => {
                tracing::warn!(%error, "no custodian could be started: no other daemon can take this mount over");
                Err("no custodian could be started")
            }
        },
    };
    if let Err(why) = kept {
        tracing::info!(why, "no other daemon can take this mount over");
    }
    Takeover { kept, taken_over, began: takeover::now() }
}
