//! Quotas: how much of a mount, or of a part of it, may be kept here.
//!
//! **Owns** the last count of what is kept, and the refusal of what would add to it. **Never does** the counting:
//! whoever walks the tree publishes what it found, and closes of written files are added to that until the next count.
//!
//! **Why this shape:** the kernel writes passthrough files without asking anybody, so a quota can bind only where we
//! are asked: at the open of a file for writing, at its creation, and where it is made longer by a call of its own.
//! What is clean can be had again and is evicted instead; only bytes that are nowhere else make a writer wait or fail.

use crate::Vfs;
use forebay_types::{FsError, FsErrorKind, FsResult, Ino, MountId};
use parking_lot::RwLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tokio::sync::Notify;

/// What is kept of a mount, or of what lies below one of its prefixes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaUse {
    /// Of which mount.
    pub mount: MountId,
    /// Below which prefix; empty for all of it.
    pub prefix: String,
    /// The most bytes that may be kept.
    pub limit: u64,
    /// All bytes that are kept.
    pub kept: u64,
    /// Those of them that are nowhere else.
    pub only_here: u64,
}

/// The quotas of a file system.
#[derive(Default)]
pub struct Quotas {
    /// Whether there are any: without one, nobody pays for the others.
    any: AtomicBool,
    uses: RwLock<Vec<QuotaUse>>,
    refused: Notify,
}

impl Quotas {
    /// Replaces what was known by a new count.
    pub fn publish(&self, uses: Vec<QuotaUse>) {
        self.any.store(!uses.is_empty(), Relaxed);
        *self.uses.write() = uses;
    }

    /// What is known.
    pub fn uses(&self) -> Vec<QuotaUse> {
        self.uses.read().clone()
    }

    /// Waits until something was refused: the count may be old.
    pub async fn refused(&self) {
        self.refused.notified().await;
    }

    fn change(&self, mount: MountId, prefixes: &[String], bytes: i64) {
        for used in self.uses.write().iter_mut().filter(|used| used.mount == mount) {
            if prefixes.contains(&used.prefix) {
                used.kept = used.kept.saturating_add_signed(bytes);
                used.only_here = used.only_here.saturating_add_signed(bytes);
            }
        }
    }

    fn full(&self, mount: MountId, prefixes: &[String]) -> Option<QuotaUse> {
        let uses = self.uses.read();
        let bound = uses.iter().filter(|used| used.mount == mount && prefixes.contains(&used.prefix));
        bound.into_iter().find(|used| used.only_here >= used.limit).cloned()
    }
}

impl Vfs {
    /// The quotas, for who counts.
    pub fn quotas(&self) -> &Quotas {
        &self.quotas
    }

    async fn quotas_of(&self, ino: Ino) -> FsResult<(MountId, Vec<String>)> {
        let (mount, quotas) = self.names.quotas(ino).await?;
        Ok((mount, quotas.into_iter().map(|(prefix, _)| prefix).collect()))
    }

    /// Refuses to add bytes below a directory, or to a file, whose quota is used up by bytes that are nowhere else.
    ///
    /// # Errors
    /// `QuotaExceeded`; `Stale` if the inode is gone.
    pub(crate) async fn demand_quota(&self, ino: Ino) -> FsResult<()> {
        if !self.quotas.any.load(Relaxed) {
            return Ok(());
        }
        let (mount, prefixes) = self.quotas_of(ino).await?;
        let Some(full) = self.quotas.full(mount, &prefixes) else { return Ok(()) };
        self.quotas.refused.notify_one();
        let QuotaUse { prefix, limit, only_here, .. } = full;
        let place = if prefix.is_empty() { "the mount".to_owned() } else { format!("{prefix:?}") };
        Err(FsError::new(
            FsErrorKind::QuotaExceeded,
            format!("{only_here} bytes of {place} are only here, and its quota is {limit}"),
        ))
    }

    /// A file that was written has become longer, or shorter, by so many bytes.
    pub(crate) async fn charge_quota(&self, ino: Ino, bytes: i64) {
        if bytes == 0 || !self.quotas.any.load(Relaxed) {
            return;
        }
        // What is gone is counted anew.
        if let Ok((mount, prefixes)) = self.quotas_of(ino).await {
            self.quotas.change(mount, &prefixes, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_nowhere_else_fills_a_quota() {
        let quotas = Quotas::default();
        let mount = MountId(3);
        let used = |prefix: &str, kept, only_here| QuotaUse {
            mount,
            prefix: prefix.into(),
            limit: 10,
            kept,
            only_here,
        };
        quotas.publish(vec![used("", 50, 8), used("a", 5, 1)]);
        let (whole, both) = ([String::new()], [String::new(), "a".to_owned()]);
        assert_eq!(quotas.full(mount, &both), None);
        quotas.change(mount, &both, 2);
        assert_eq!(quotas.full(mount, &both), Some(used("", 52, 10)));
        assert_eq!(quotas.full(MountId(4), &both), None);
        quotas.change(mount, &whole, -100);
        assert_eq!(quotas.uses(), [used("", 0, 0), used("a", 7, 3)]);
    }
}
