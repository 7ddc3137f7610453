//! Opening: what the last process left is brought in order before anything else.
//!
//! The log is replayed straight into the engine, record by record from the first that the engine does not
//! have, and only then taken away. What is interrupted halfway is done again at the next start.

use crate::config::NamespaceConfig;
use crate::error::NamespaceError;
use crate::images::Images;
use crate::keys;
use crate::listings::Listings;
use crate::log::{Appender, Record, Replayed, clear, replay};
use crate::mounts::{Mount, MountSpec, Mounts};
use crate::names::Names;
use crate::ops::upkeep::mount_root;
use crate::overlay::Overlay;
use crate::persist::queue::Queue;
use crate::record::InodeRecord;
use crate::shared::Shared;
use crate::table::Table;
use crate::txn::{Changes, InoRange, Staged, Txn};
use crate::view::View;
use forebay_meta::{Batch, MetaStore};
use forebay_types::{ContentLocation, ExtentId, FsResult, Ino, MountId, UfsMeta};
use parking_lot::{Mutex, RwLock};
use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;

/// The layout of keys and records. Any other is refused.
const FORMAT: u64 = 1;
/// The first number that is handed out: 1 is the root, and the rest below is kept for later.
const FIRST_INO: u64 = 1024;
/// How many bytes of the log go to the engine in one transaction.
const REPLAY_BYTES_MAX: usize = 8 << 20;

/// What the last process left behind.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Inodes without a name whose bytes only an open handle kept. Each is to be given to
    /// [`crate::Namespace::release_orphan`] after its bytes.
    pub orphans: Vec<(Ino, Option<ExtentId>)>,
    /// Inodes that were open for write: their extent files know more than their records. Each is to be given
    /// to [`crate::Namespace::write_closed`].
    pub write_open: Vec<ContentLocation>,
    /// Mutations that the log had and the engine did not.
    pub replayed: u64,
    /// Bytes at the log's end that were no whole record: cut off.
    pub torn_bytes: u64,
}

/// An open name space before its threads.
pub(crate) struct Opened {
    pub(crate) shared: Shared,
    pub(crate) log: Appender,
    pub(crate) lock: File,
    pub(crate) inos: InoRange,
    pub(crate) next_seq: u64,
    pub(crate) recovery: Recovery,
}

pub(crate) fn open(
    config: &NamespaceConfig,
    engine: Arc<dyn MetaStore>,
    ufs: Arc<dyn UfsMeta>,
) -> Result<Opened, NamespaceError> {
    let dir = &config.dir;
    let storage = |attempt| move |source| NamespaceError::Storage { attempt, dir: dir.clone(), source };
    std::fs::create_dir_all(dir).map_err(storage("make the directory"))?;
    let lock = lock(dir)?;
    check_format(&*engine)?;
    let committed = counter(&*engine, keys::COMMITTED)?.unwrap_or(0);
    let replayed = replay_into(&*engine, dir, committed)?;
    clear(dir).map_err(storage("take the old log away"))?;
    let next_seq = replayed.last_seq + 1;
    let log = Appender::create(dir, next_seq, config.log_segment_max).map_err(storage("begin a log"))?;
    let shared = Shared {
        images: Images::new(config.inodes_max),
        table: Table::new(config.inodes_max, replayed.last_seq, any_stored_derived(&*engine)?)
            .with_memo(config.memo.clone()),
        view: View { overlay: Overlay::default(), engine },
        names: Names::new(config.names_max),
        mounts: Mounts::default(),
        listings: Listings::default(),
        queue: Queue::default(),
        ufs,
        begun: RwLock::default(),
        published: Mutex::default(),
        clock: Arc::clone(&config.clock),
        owner: config.owner,
        node: config.node.clone(),
    };
    load_mounts(&shared)?;
    set_root_mount(&shared, &config.root)?;
    for mount in shared.mounts.all() {
        let record =
            shared.view.inode(mount.root)?.ok_or_else(|| crate::record::corrupt("a mount has no root"))?;
        shared.table.hold(&shared.table.load(mount.root, record));
    }
    recall(&shared, &config.former)?;
    load_queue(&shared)?;
    crate::persist::load_begun(&shared)?;
    let next = counter(&*shared.view.engine, keys::NEXT_INO)?.unwrap_or(FIRST_INO);
    let mut recovery = left_behind(&shared)?;
    recovery.replayed = replayed.last_seq - committed;
    recovery.torn_bytes = replayed.bytes_cut;
    let inos = InoRange { next, end: next };
    Ok(Opened { shared, log, lock, inos, next_seq, recovery })
}

fn lock(dir: &Path) -> Result<File, NamespaceError> {
    let storage = |source| NamespaceError::Storage { attempt: "lock the log", dir: dir.into(), source };
    let file = File::options().create(true).write(true).truncate(false).open(dir.join("log.lock"));
    let file = file.map_err(storage)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(NamespaceError::InUse(dir.into())),
        Err(TryLockError::Error(source)) => Err(storage(source)),
    }
}

fn check_format(engine: &dyn MetaStore) -> Result<(), NamespaceError> {
    match counter(engine, keys::FORMAT)? {
        Some(FORMAT) => Ok(()),
        Some(found) => Err(NamespaceError::Format { found, known: FORMAT }),
        None => {
            let mut batch = Batch::new();
            batch.put(keys::FORMAT, FORMAT.to_be_bytes());
            Ok(engine.commit(&batch)?)
        }
    }
}

fn counter(engine: &dyn MetaStore, key: &[u8]) -> Result<Option<u64>, NamespaceError> {
    let Some(bytes) = engine.get(key)? else { return Ok(None) };
    let number = bytes[..].try_into().map_err(crate::record::corrupt)?;
    Ok(Some(u64::from_be_bytes(number)))
}

fn any_stored_derived(engine: &dyn MetaStore) -> Result<bool, NamespaceError> {
    let (_, until) = keys::all(keys::INODE);
    Ok(!engine.scan(&keys::inode(Ino(Ino::DERIVED_BIT)), &until, 1)?.is_empty())
}

enum ReplayError {
    Read(std::io::Error),
    Engine(forebay_meta::MetaError),
}

impl From<std::io::Error> for ReplayError {
    fn from(error: std::io::Error) -> Self {
        Self::Read(error)
    }
}

/// Brings to the engine what only the log has.
fn replay_into(engine: &dyn MetaStore, dir: &Path, committed: u64) -> Result<Replayed, NamespaceError> {
    let mut batch = Batch::new();
    let mut bytes = 0;
    let replayed = replay(dir, committed, |Record { seq, changes }| {
        for change in changes {
            bytes += change.key.len() + change.value.as_ref().map_or(0, |value| value.len());
            match change.value {
                Some(value) => batch.put(change.key, value),
                None => batch.delete(change.key),
            };
        }
        if bytes >= REPLAY_BYTES_MAX {
            batch.put(keys::COMMITTED, seq.to_be_bytes());
            engine.commit(&std::mem::take(&mut batch)).map_err(ReplayError::Engine)?;
            bytes = 0;
        }
        Ok(())
    });
    let replayed = replayed.map_err(|error| match error {
        ReplayError::Read(source) => {
            NamespaceError::Storage { attempt: "read the log", dir: dir.into(), source }
        }
        ReplayError::Engine(error) => error.into(),
    })?;
    batch.put(keys::COMMITTED, replayed.last_seq.to_be_bytes());
    engine.commit(&batch)?;
    if replayed.bytes_cut > 0 {
        tracing::warn!(
            bytes = replayed.bytes_cut,
            "the end of the home's log was no whole record and is cut off"
        );
    }
    Ok(replayed)
}

fn load_mounts(shared: &Shared) -> Result<(), NamespaceError> {
    let (from, until) = keys::all(keys::MOUNT);
    for (key, value) in shared.view.engine.scan(&from, &until, usize::MAX)? {
        let id: [u8; 4] = key[1..].try_into().map_err(crate::record::corrupt)?;
        shared.mounts.set(Mount::decode(MountId(u32::from_be_bytes(id)), &value)?);
    }
    Ok(())
}

/// Puts in what the last process told the kernel of, where nothing here says otherwise.
fn recall(shared: &Shared, former: &[(Ino, Box<[u8]>)]) -> FsResult<()> {
    for (ino, bytes) in former {
        let record = InodeRecord::decode(bytes)?;
        if shared.mounts.get(record.mount).is_some() && shared.view.inode(*ino)?.is_none() {
            shared.table.recall(*ino, record);
        }
    }
    Ok(())
}

fn load_queue(shared: &Shared) -> Result<(), NamespaceError> {
    const PAGE_LEN: usize = 4096;
    let (mut from, until) = keys::all(keys::QUEUE);
    loop {
        let page = shared.view.engine.scan(&from, &until, PAGE_LEN)?;
        for (key, value) in &page {
            shared.note_queued(key, Some(value));
        }
        match page.last() {
            Some((last, _)) => from = [&last[..], &[0]].concat().into(),
            None => return Ok(()),
        }
    }
}

/// Makes the root at the first start; later sees to it that it is the same UFS, and takes over the policies.
fn set_root_mount(shared: &Shared, spec: &MountSpec) -> Result<(), NamespaceError> {
    let known = shared.mounts.get(MountId::ROOT);
    if let Some(known) = &known
        && known.spec.source != spec.source
    {
        let (stored, asked) = (known.spec.source.clone(), spec.source.clone());
        return Err(NamespaceError::OtherSource { stored, asked });
    }
    let spec = MountSpec { path: "/".into(), ..spec.clone() };
    let mount = Mount { id: MountId::ROOT, root: Ino::ROOT, spec };
    let mut batch = Batch::new();
    if known.is_none() {
        let record = root_record(shared, &mount.spec);
        batch.put(keys::inode(Ino::ROOT), record.encode());
    }
    batch.put(keys::mount(MountId::ROOT), mount.encode()?);
    shared.view.engine.commit(&batch)?;
    shared.mounts.set(mount);
    Ok(())
}

fn root_record(shared: &Shared, spec: &MountSpec) -> InodeRecord {
    let none = Staged { changes: Changes::default(), inos: InoRange { next: 0, end: 0 } };
    mount_root(&Txn::new(shared, &none, 0), MountId::ROOT, spec, None)
}

fn left_behind(shared: &Shared) -> FsResult<Recovery> {
    let mut recovery = Recovery::default();
    for (ino, record) in marked(shared, keys::ORPHAN)? {
        recovery.orphans.push((ino, record.extent));
    }
    let none = Staged { changes: Changes::default(), inos: InoRange { next: 0, end: 0 } };
    let txn = Txn::new(shared, &none, 0);
    for (ino, record) in marked(shared, keys::WRITE_OPEN)? {
        if record.nlink > 0 {
            recovery.write_open.push(crate::ops::content(&txn, ino, &record)?);
        }
    }
    Ok(recovery)
}

/// The inodes that have a key of the kind `tag`.
fn marked(shared: &Shared, tag: u8) -> FsResult<Vec<(Ino, InodeRecord)>> {
    let (from, until) = keys::all(tag);
    let mut found = Vec::new();
    for (key, _) in shared.view.engine.scan(&from, &until, usize::MAX)? {
        let Some(ino) = keys::number(&key) else { continue };
        if let Some(record) = shared.view.inode(ino)? {
            found.push((ino, record));
        }
    }
    Ok(found)
}
