//! Which under file system stands behind which mount.

use forebay_types::{FsError, FsErrorKind, FsResult, MountId};
use forebay_ufs::Ufs;
use hashbrown::HashMap;
use parking_lot::RwLock;
use std::sync::Arc;

/// The under file systems of all mounts. Cheap to clone: all clones are one table, which changes live.
#[derive(Clone, Default)]
pub struct UfsTable {
    mounts: Arc<RwLock<HashMap<MountId, Arc<dyn Ufs>>>>,
}

impl UfsTable {
    /// Puts `ufs` behind `mount`, in place of what was there.
    pub fn insert(&self, mount: MountId, ufs: Arc<dyn Ufs>) {
        self.mounts.write().insert(mount, ufs);
    }

    /// Takes a mount's under file system away; calls in progress end as they may.
    pub fn remove(&self, mount: MountId) {
        self.mounts.write().remove(&mount);
    }

    /// What stands behind `mount`.
    ///
    /// # Errors
    /// `Stale` if nothing does: the mount was removed.
    pub fn get(&self, mount: MountId) -> FsResult<Arc<dyn Ufs>> {
        let found = self.mounts.read().get(&mount).cloned();
        found.ok_or_else(|| FsError::new(FsErrorKind::Stale, format!("mount {mount} was removed")))
    }
}
