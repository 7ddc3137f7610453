//! What stands in the persist queue for a name that a mutation has changed.

use super::Txn;
use crate::keys::{self};
use crate::names::{Answer, Cached};
use crate::overlay::Value;
use crate::record::InodeRecord;
use forebay_types::{FileKind, FsResult, Ino, InodeState, Name};

/// Stands in the queue until a mutation is sealed: the name keeps the place it has.
pub(super) const AGAIN: &[u8] = &[1];
impl Txn<'_> {
    pub(super) fn requeue_names(&mut self, ino: Ino, record: &InodeRecord) -> FsResult<()> {
        for (dir, name) in self.names_of(ino, record)? {
            self.requeue(dir, &name);
        }
        Ok(())
    }

    /// Queues a name, or every name of an inode, to be looked at by the persist queue.
    pub(crate) fn queue_names(&mut self, ino: Ino, record: &InodeRecord) -> FsResult<()> {
        if record.state == InodeState::Native || self.is_transient(record)? {
            return Ok(());
        }
        for (dir, name) in self.names_of(ino, record)? {
            self.put_key(keys::queue(dir, &name), Some([].into()));
        }
        Ok(())
    }

    /// What stands in the queue for a name; nothing on a mount that keeps everything. `again`: it keeps its place.
    pub(super) fn queued(&self, key: &[u8], again: bool) -> FsResult<Value> {
        let Some((dir, name)) = keys::slot(key) else { return Ok(None) };
        let dir_record = self.inode(dir)?;
        if self.is_transient(&dir_record)? {
            return Ok(None);
        }
        if self.in_memory && self.shared.delays_by_path(dir_record.mount) {
            // When it is due is found out by a walk up the tree, for which the engine may have to be asked.
            self.engine()?;
        }
        let bytes = match self.target(dir, &name)? {
            Some((ino, FileKind::Regular)) => {
                let record = self.inode(ino)?;
                if record.state == InodeState::Dirty { record.size } else { 0 }
            }
            _ => 0,
        };
        let seq = if again { self.place(key)?.unwrap_or(self.seq) } else { self.seq };
        let queued = crate::proto::Queued { seq, mount: dir_record.mount.0, bytes };
        Ok(Some(prost::Message::encode_to_vec(&queued).into()))
    }

    /// What a name of ours stands for. What the UFS has may count as ours as well: it is clean.
    pub(super) fn target(&self, dir: Ino, name: &Name) -> FsResult<Option<(Ino, FileKind)>> {
        if self.in_memory
            && !self.has_changed(dir, name)
            && let Some(Cached { answer: Answer::Present(ino), .. }) = self.shared.names.get(dir, name)
            && let Some(inode) = self.shared.table.get(ino)
        {
            return Ok(Some((ino, inode.record().kind)));
        }
        Ok(self.dentry(dir, name)?.and_then(|dentry| dentry.target))
    }

    /// The place in the queue that a name has already.
    pub(super) fn place(&self, key: &[u8]) -> FsResult<Option<u64>> {
        let known = match self.staged.changes.keys.get(key) {
            Some(value) => value.clone(),
            None => self.stored(key)?,
        };
        let queued =
            known.and_then(|bytes| <crate::proto::Queued as prost::Message>::decode(&bytes[..]).ok());
        Ok(queued.map(|queued| queued.seq))
    }
}
