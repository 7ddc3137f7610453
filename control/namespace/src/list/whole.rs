//! Whether a listing shows that a directory is ours alone.
//!
//! **Owns** how far a listing has gone through the UFS's entries without meeting one that is not ours. **Never does** change
//! what is shown. It is told of entries as they are gone through, from the first to the last, and what it has found at the
//! end is kept in [`crate::alone`].

use super::DirStream;
use crate::alone::Standing;
use crate::record::Dentry;
use forebay_types::UfsKey;

/// A listing that began at the first entry and has met none that is not ours.
pub(super) struct Whole {
    standing: Standing,
    /// When the first of its pages was asked for.
    since_ms: u64,
    /// The index up to which it has gone.
    until: u64,
}

impl DirStream {
    /// A listing begins with the first entry of the UFS's directory `key`.
    pub(super) fn begin_whole(&self, key: &UfsKey) -> Option<Whole> {
        if self.names.shared.ufs.lists_attrs(self.mount) {
            return None;
        }
        let standing = self.names.alone.standing(&self.dir, self.mount, key.clone());
        Some(Whole { standing, since_ms: u64::MAX, until: 0 })
    }

    /// A page has come that was asked for at `asked_ms`. One of a directory that is being moved is not believed.
    pub(super) fn met_page(&mut self, asked_ms: u64) {
        let key = self.ufs.as_ref().filter(|key| !self.is_moving(key));
        let same = |whole: &Whole| key == Some(&whole.standing.key);
        self.whole = self.whole.take().filter(same);
        if let Some(whole) = &mut self.whole {
            whole.since_ms = whole.since_ms.min(asked_ms);
        }
    }

    /// Entries from `index` on were gone through, of which these names are ours. What the UFS has under a name that we have never
    /// carried is not ours, and shows when that name goes.
    pub(super) fn met_entries(&mut self, index: u64, own: &[Option<Dentry>]) {
        let count = own.len() as u64;
        if own.iter().any(Option::is_none) {
            self.names.alone.forget(self.dir.ino);
        }
        let is_ours = |dentry: &Dentry| dentry.shadow.is_some() || dentry.mount_point;
        if !own.iter().flatten().all(is_ours) || own.iter().any(Option::is_none) {
            self.whole = None;
        }
        match &mut self.whole {
            Some(whole) if index <= whole.until => whole.until = whole.until.max(index + count),
            whole => *whole = None,
        }
    }

    /// The UFS has no entries from `index` on.
    pub(super) fn met_end(&mut self, index: u64) {
        let whole = self.whole.take().filter(|whole| whole.until == index);
        if let Some(whole) = whole {
            self.names.alone.keep(&whole.standing, whole.since_ms);
        }
    }
}
