//! What the home, the readers and every caller share: the state of the partition in memory.

use crate::images::Images;
use crate::keys::Key;
use crate::listings::Listings;
use crate::mounts::{Mount, Mounts};
use crate::names::Names;
use crate::persist::queue::{Queue, Times};
use crate::policy::{Policy, PolicyChange};
use crate::record::{InodeRecord, UfsAt};
use crate::table::Table;
use crate::view::View;
use forebay_types::{
    Clock, FileKind, FsError, FsErrorKind, FsResult, Generation, Ino, InodeState, MountId, NodeId, TimeSpec,
    UfsAttr, UfsMeta,
};
use hashbrown::{HashMap, HashSet};
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::time::Duration;

/// Permission bits of a directory or file whose UFS holds none.
const DIR_MODE_DEFAULT: u16 = 0o755;
const FILE_MODE_DEFAULT: u16 = 0o644;

/// The partition in memory.
pub(crate) struct Shared {
    pub(crate) view: View,
    pub(crate) table: Table,
    pub(crate) names: Names,
    pub(crate) mounts: Mounts,
    pub(crate) listings: Listings,
    pub(crate) images: Images,
    pub(crate) queue: Queue,
    /// What the UFS is like; it is asked for nothing that takes time here.
    pub(crate) ufs: Arc<dyn UfsMeta>,
    /// The keys of all tasks that were begun and have no recorded end, as the log has them. Written by the home alone.
    pub(crate) begun: RwLock<HashSet<Key>>,
    /// The inodes that are carried although they are open for write, and how many wait for that.
    pub(crate) published: Mutex<HashMap<Ino, u32>>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Owner and group of what the UFS gives none.
    pub(crate) owner: (u32, u32),
    /// This node, in the names of conflict copies.
    pub(crate) node: NodeId,
}

/// How many links a directory has, as far as its UFS counts them: some never say more than 1, and others have none.
pub(crate) fn dir_links(ufs: &UfsAttr) -> Option<u32> {
    ufs.links.filter(|links| *links >= 2)
}

/// A time in milliseconds, for ages. Times before 1970 count as 0.
pub(crate) fn millis(time: TimeSpec) -> u64 {
    u64::try_from(time.secs)
        .unwrap_or(0)
        .saturating_mul(1000)
        .saturating_add(u64::from(time.nanos / 1_000_000))
}

impl Shared {
    pub(crate) fn now_ms(&self) -> u64 {
        millis(self.clock.now())
    }

    pub(crate) fn mount(&self, id: MountId) -> FsResult<Arc<Mount>> {
        let gone = || FsError::new(FsErrorKind::Stale, format!("mount {id} was removed"));
        self.mounts.get(id).ok_or_else(gone)
    }

    /// Whether an inode is carried although it is open for write.
    pub(crate) fn is_published(&self, ino: Ino) -> bool {
        self.published.lock().contains_key(&ino)
    }

    /// The record of an inode, from the table or the engine. Blocks for as long as the engine does.
    pub(crate) fn record(&self, ino: Ino) -> FsResult<Arc<InodeRecord>> {
        match self.table.get(ino) {
            Some(inode) => Ok(inode.record()),
            None => self.view.inode(ino)?.map(Arc::new).ok_or_else(|| FsErrorKind::Stale.into()),
        }
    }

    /// The record of an inode that is in memory.
    pub(crate) fn record_in_memory(&self, ino: Ino) -> FsResult<Arc<InodeRecord>> {
        self.table.get(ino).map(|inode| inode.record()).ok_or_else(|| FsErrorKind::Stale.into())
    }

    /// How long what the UFS said is believed, if that is the same on all of a mount.
    pub(crate) fn metadata_ttl_everywhere(&self, mount: MountId) -> Option<Duration> {
        let everywhere = |mount: &Mount| {
            let decides = |change: &PolicyChange| change.metadata_ttl.is_some();
            (!mount.spec.prefixes.values().any(decides)).then_some(mount.spec.policy.metadata_ttl.0)
        };
        self.mounts.peek(mount, everywhere).flatten()
    }

    /// How long what the UFS said about a record, and about the names in it, is believed. Does not block: while a
    /// directory above is not in memory its mount decides.
    pub(crate) fn metadata_ttl(&self, record: &InodeRecord) -> FsResult<Duration> {
        if let Some(ttl) = self.metadata_ttl_everywhere(record.mount) {
            return Ok(ttl);
        }
        let mount = self.mount(record.mount)?;
        let policy = mount.policy_of(record, |ino| self.record_in_memory(ino));
        Ok(policy.map_or(mount.spec.policy.metadata_ttl.0, |policy| policy.metadata_ttl.0))
    }

    pub(crate) fn metadata_ttl_ms(&self, record: &InodeRecord) -> FsResult<u64> {
        Ok(self.metadata_ttl(record)?.as_millis() as u64)
    }

    /// Whether the path of a name decides how long it waits before it is carried.
    pub(crate) fn delays_by_path(&self, mount: MountId) -> bool {
        let decides = |mount: Arc<Mount>| {
            let mut changes = mount.spec.prefixes.values();
            changes.any(|change| change.persist_delay.is_some() || change.persist_yield.is_some())
        };
        self.mounts.get(mount).is_some_and(decides)
    }

    /// When a name that changed `now` may be carried. Blocks for as long as the engine does.
    fn persist_times(&self, mount: MountId, dir: Ino, now_ms: u64) -> Times {
        let by_path = self.delays_by_path(mount);
        let Some(mount) = self.mounts.get(mount) else {
            return Times { due_ms: now_ms, regardless_ms: now_ms };
        };
        let of = |policy: &Policy| (policy.persist_delay.0, policy.persist_yield.0);
        let of_path = |dir: Ino| {
            let dir = self.record(dir)?;
            Ok::<_, FsError>(of(&*mount.policy_of(&dir, |ino| self.record(ino))?))
        };
        let known = if by_path { of_path(dir).ok() } else { None };
        let (delay, give_way) = known.unwrap_or_else(|| of(&mount.spec.policy));
        let due_ms = now_ms + delay.as_millis() as u64;
        Times { due_ms, regardless_ms: due_ms + give_way.as_millis() as u64 }
    }

    /// A name's key in the queue has changed.
    pub(crate) fn note_queued(&self, key: &[u8], value: Option<&[u8]>) {
        let Some(slot) = crate::keys::slot(key) else { return };
        let queued = value.and_then(|bytes| <crate::proto::Queued as prost::Message>::decode(bytes).ok());
        let now = self.now_ms();
        let at_once = Times { due_ms: now, regardless_ms: now };
        let times = |queued: &crate::proto::Queued| self.persist_times(MountId(queued.mount), slot.0, now);
        let times = queued.as_ref().map_or(at_once, times);
        self.queue.note(slot, queued, now, times);
    }

    /// The key of a task that was begun has come, or gone.
    pub(crate) fn note_begun(&self, key: &[u8], present: bool) {
        let mut begun = self.begun.write();
        if present {
            begun.insert(key.into())
        } else {
            begun.remove(key)
        };
    }

    /// The record of something the UFS has and nobody changed here.
    pub(crate) fn clean_record(&self, mount: MountId, at: crate::record::Slot, ufs: &UfsAttr) -> InodeRecord {
        let is_dir = ufs.kind == FileKind::Directory;
        let (uid, gid) = ufs.owner.unwrap_or(self.owner);
        InodeRecord {
            kind: ufs.kind,
            mode: ufs.mode.unwrap_or(if is_dir { DIR_MODE_DEFAULT } else { FILE_MODE_DEFAULT }),
            nlink: if is_dir { dir_links(ufs).unwrap_or(2) } else { 1 },
            uid,
            gid,
            rdev: 0,
            size: ufs.size,
            blocks_512: ufs.size.div_ceil(512),
            atime: ufs.mtime,
            mtime: ufs.mtime,
            ctime: ufs.mtime,
            extent_mtime: ufs.mtime,
            state: InodeState::Clean,
            mount,
            at: Some(at),
            ufs_at: UfsAt::Inherit,
            left: None,
            version: (!is_dir).then(|| ufs.version.clone()),
            extent: None,
            link_target: ufs.link_target.clone(),
            generation: Generation(0),
            write_open: false,
            attrs_ours: false,
            mtime_due: false,
            xattrs: Vec::new(),
            turned_at: 0,
            unpersistable: None,
        }
    }
}
