//! What is below the mount: shards, store, data path, name space and persisting, each made from the plan.

use crate::bounds;
use crate::cachedir::CacheDir;
use crate::failure::{Failure, Outcome};
use crate::fdlimit;
use crate::left_behind;
use crate::memory::Part;
use crate::mounts;
use crate::plan::Plan;
use crate::tiers::TierDirs;
use forebay_client::{Client, ClientConfig};
use forebay_fuse::Roll;
use forebay_meta::{LmdbOptions, LmdbStore};
use forebay_namespace::{CHANGE_COPIES, INODE_WEIGHT, NAME_WEIGHT, Namespace, NamespaceConfig, Recovery};
use forebay_net::InProcess;
use forebay_shard::{Shards, ShardsConfig};
use forebay_store::{Store, StoreConfig};
use forebay_types::{ByteSize, Ino, PersistLog, UfsMeta};
use forebay_worker::{PersistConfig, ReadyPersister, UfsTable, Worker, WorkerConfig};
use std::sync::Arc;

/// The share of the I/O memory that fetched bytes may take; the rest is for requests.
const FETCH_SHARE: u64 = 2;
/// The fewest ranged reads at one time, however little memory there is for them.
const GETS_MIN: usize = 2;
/// What part of the permitted open files may be empty extents, and extents that nobody uses.
const BLANKS_SHARE: usize = 8;
const IDLE_FILES_SHARE: usize = 4;

/// Inodes that another process knew, as it left them.
pub(super) type Records = Vec<(Ino, Box<[u8]>)>;

/// The folder of the cache that holds the engine of the metadata, and the one of its log.
const META: &str = "meta";
const LOG: &str = "log";

pub(super) fn shards_config(plan: &Plan) -> ShardsConfig {
    ShardsConfig {
        cores: plan.cores.clone(),
        arena: plan.memory.limit(Part::Arena),
        ..ShardsConfig::default()
    }
}

/// The store, and whether the machine went down under it.
pub(super) fn open_store(plan: &Plan, tiers: &TierDirs) -> Outcome<(Arc<Store>, bool)> {
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

pub(super) fn data_path(plan: &Plan, store: &Arc<Store>) -> (Arc<Worker>, Arc<Client>, UfsTable) {
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

pub(super) fn open_names(
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

/// What carries to the under file systems what is dirty, once it is started.
pub(super) fn ready_persister(
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
