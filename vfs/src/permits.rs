//! What a policy forbids.
//!
//! The name space refuses changes on a read-only *mount*; here is the one place that also knows read-only *prefixes*.
//! Every change of [`Vfs`] asks here before its first step, so that a refusal leaves nothing to be undone.

use crate::Vfs;
use forebay_types::{FsErrorKind, FsResult, Ino, Name};

impl Vfs {
    /// Refuses a change of what lies in a read-only part of the tree.
    ///
    /// # Errors
    /// `ReadOnly`; `Stale` if the inode is gone.
    pub(crate) async fn demand_writable(&self, ino: Ino) -> FsResult<()> {
        if self.names.policy(ino).await?.read_only { Err(FsErrorKind::ReadOnly.into()) } else { Ok(()) }
    }

    /// Refuses to take away or replace a name that stands in a read-only directory, or that is itself the top of a
    /// read-only part.
    ///
    /// # Errors
    /// `ReadOnly`.
    pub(crate) async fn demand_removable(&self, parent: Ino, name: &Name) -> FsResult<()> {
        self.demand_writable(parent).await?;
        if !self.has_read_only_prefixes() {
            return Ok(());
        }
        match self.names.lookup(parent, name).await {
            Ok(entry) => {
                let permitted = self.demand_writable(entry.attr.ino).await;
                self.names.forget(entry.attr.ino, 1);
                permitted
            }
            Err(error) if error.kind() == FsErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn has_read_only_prefixes(&self) -> bool {
        let mut mounts = self.names.mounts().into_iter();
        mounts.any(|mount| mount.spec.prefixes.values().any(|change| change.read_only == Some(true)))
    }
}
