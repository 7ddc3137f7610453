//! The calls about mounts: what stands where, what applies to an inode, and how a mount comes and goes.

use crate::mounts::{Mount, MountSpec};
use crate::namespace::Namespace;
use crate::ops;
use crate::policy::{Policy, PolicyChange};
use crate::record::InodeRecord;
use forebay_types::{Admission, ByteSize, FsError, FsErrorKind, FsResult, Ino, MountId, Name, ReadMode};
use std::sync::Arc;

/// Names of a mount that is taken away that one mutation gives back.
const GIVE_BACK_AT_ONCE: usize = 256;

impl Namespace {
    /// All mounts.
    pub fn mounts(&self) -> Vec<Mount> {
        self.shared.mounts.all().iter().map(|mount| Mount::clone(mount)).collect()
    }

    /// The policy of an inode: its mount's, as the longest prefix that holds it changes it.
    ///
    /// # Errors
    /// `Stale` if it or its mount is gone.
    pub async fn policy(&self, ino: Ino) -> FsResult<Policy> {
        let record = self.inode(ino).await?.record();
        let mount = self.shared.mount(record.mount)?;
        if mount.spec.prefixes.is_empty() {
            return Ok(mount.spec.policy.clone());
        }
        Ok(mount.policy_at(&self.path_in(&mount, record).await?))
    }

    /// How reads treat the bytes of an inode (whether they are kept, which are, with what priority), if a prefix of its mount says anything about that.
    ///
    /// # Errors
    /// `Stale` if it or its mount is gone.
    pub async fn prefixed_reads(&self, ino: Ino) -> FsResult<Option<(ReadMode, Admission, i32)>> {
        let record = self.inode(ino).await?.record();
        let mount = self.shared.mount(record.mount)?;
        let says = |change: &PolicyChange| {
            change.read_mode.is_some() || change.admission.is_some() || change.priority.is_some()
        };
        if !mount.spec.prefixes.values().any(says) {
            return Ok(None);
        }
        let policy = mount.policy_at(&self.path_in(&mount, record).await?);
        Ok(Some((policy.read_mode, policy.admission, policy.priority)))
    }

    /// The quotas that bind an inode: the mount, the prefix (empty for the whole mount) and the limit.
    ///
    /// # Errors
    /// `Stale` if it or its mount is gone.
    pub async fn quotas(&self, ino: Ino) -> FsResult<(MountId, Vec<(String, ByteSize)>)> {
        let record = self.inode(ino).await?.record();
        let mount = self.shared.mount(record.mount)?;
        let below = mount.spec.prefixes.values().any(|change| change.quota.is_some());
        let path = if below { self.path_in(&mount, record).await? } else { String::new() };
        Ok((mount.id, mount.quotas_at(&path)))
    }

    /// Where a record is below the root of its mount.
    async fn path_in(&self, mount: &Arc<Mount>, record: Arc<InodeRecord>) -> FsResult<String> {
        if let Ok(path) = mount.path_of(&record, |ino| self.shared.record_in_memory(ino)) {
            return Ok(path);
        }
        let (shared, mount) = (Arc::clone(&self.shared), Arc::clone(mount));
        self.readers.read(move || mount.path_of(&record, |ino| shared.record(ino))).await
    }

    /// The path of an inode from the root of the name space, with a slash before each name: that of its first name.
    /// `None` for one without a name.
    ///
    /// # Errors
    /// `Stale` if it is gone.
    pub async fn path(&self, ino: Ino) -> FsResult<Option<Vec<u8>>> {
        let mut names = Vec::new();
        let mut at = ino;
        while at != Ino::ROOT {
            let Some((parent, name)) = self.inode(at).await?.record().at.clone() else { return Ok(None) };
            names.push(name);
            at = parent;
        }
        let path = names.iter().rev().flat_map(|name| [b"/".as_slice(), name.as_bytes()]).collect::<Vec<_>>();
        Ok(Some(path.concat()))
    }

    /// Puts a mount at a path whose directory exists.
    ///
    /// # Errors
    /// `Exists` if a mount stands there; `NotEmpty` if what is there has names of its own; `Invalid` for a
    /// path that is none.
    pub async fn add_mount(&self, spec: MountSpec) -> FsResult<MountId> {
        let (parent, name) = self.walk_to(&spec.path).await?;
        let mount = self.mutate(move |txn| ops::upkeep::add_mount(txn, parent, &name, spec.clone())).await?;
        let root = self.inode(mount.root).await?;
        self.shared.table.hold(&root);
        let id = mount.id;
        self.shared.mounts.set(mount);
        Ok(id)
    }

    /// Takes a mount away. Names of ours that the UFS has as well are its own again.
    ///
    /// # Errors
    /// `NotFound`; `Busy` for the root mount, and while anything in it is only here: then it stays.
    pub async fn remove_mount(&self, id: MountId) -> FsResult<()> {
        let mount = self.shared.mounts.get(id).ok_or(FsErrorKind::NotFound)?;
        // Nothing may change any more between the look at what is dirty and the end.
        let mut shut = Mount::clone(&mount);
        shut.spec.policy.read_only = true;
        self.shared.mounts.set(shut);
        let removed = self.remove_shut_mount(&mount).await;
        match removed {
            Ok(()) => self.shared.mounts.remove(id),
            Err(_) => self.shared.mounts.set(Mount::clone(&mount)),
        }
        removed?;
        self.shared.table.unhold(mount.root);
        Ok(())
    }

    async fn remove_shut_mount(&self, mount: &Arc<Mount>) -> FsResult<()> {
        // What was on its way before has its place in the queue when this is answered.
        self.mutate(|_| Ok(())).await?;
        if self.shared.queue.has_mount(mount.id) {
            return Err(FsError::new(FsErrorKind::Busy, "not all of the mount is persisted"));
        }
        loop {
            let of = Arc::clone(mount);
            if !self.mutate(move |txn| ops::upkeep::give_back_names(txn, &of, GIVE_BACK_AT_ONCE)).await? {
                break;
            }
        }
        let of = Arc::clone(mount);
        self.mutate(move |txn| ops::upkeep::remove_mount(txn, &of)).await
    }

    /// Changes a mount's policies.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` if path or source would change.
    pub async fn set_policies(&self, id: MountId, spec: MountSpec) -> FsResult<()> {
        let mount = self.shared.mounts.get(id).ok_or(FsErrorKind::NotFound)?;
        if (&spec.path, &spec.source) != (&mount.spec.path, &mount.spec.source) {
            return Err(FsErrorKind::Invalid.into());
        }
        let changed = Mount { spec, ..Mount::clone(&mount) };
        let stored = changed.clone();
        self.mutate(move |txn| Ok(ops::upkeep::set_mount(txn, &stored)?)).await?;
        self.shared.mounts.set(changed);
        Ok(())
    }

    /// The directory and the name of an absolute path.
    async fn walk_to(&self, path: &str) -> FsResult<(Ino, Name)> {
        let names = path.strip_prefix('/').ok_or(FsErrorKind::Invalid)?;
        let names: Vec<Name> =
            names.split('/').map(|name| Name::new(name.as_bytes())).collect::<Result<_, _>>()?;
        let (last, above) = names.split_last().ok_or(FsErrorKind::Invalid)?;
        let mut dir = self.inode(Ino::ROOT).await?;
        for name in above {
            dir = self.resolve(&dir, name).await?.ok_or(FsErrorKind::NotFound)?;
        }
        Ok((dir.ino, last.clone()))
    }
}
