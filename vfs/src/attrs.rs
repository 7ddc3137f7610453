//! Attributes: whose word counts while a file is open for write.
//!
//! While an inode is write-open its extent file is the authority for size, blocks and times, because a
//! passthrough writer changes them without a word to us. What `stat` shows is then the record with the extent
//! file's view laid over it, and it may not be kept by the kernel (time to live 0).

use crate::Vfs;
use crate::open_inode::{OpenInode, OpenState};
use crate::types::{Entry, SpaceUsage};
use forebay_types::{Attr, Caller, FsResult, Ino, SetAttr};
use std::time::Duration;

/// Attributes, and how long they may be kept.
#[derive(Clone, Copy, Debug)]
pub struct AttrOut {
    /// The attributes.
    pub attr: Attr,
    /// How long the front door may show them without asking again.
    pub ttl: Duration,
}

impl Vfs {
    /// The attributes of an inode.
    ///
    /// # Errors
    /// `Stale` if it is gone.
    pub async fn getattr(&self, ino: Ino) -> FsResult<AttrOut> {
        let (attr, ttl) = self.names.attr(ino).await?;
        self.laid_over(attr, ttl).await
    }

    /// An entry with the view of the extent file laid over it.
    pub(crate) async fn fresh(&self, entry: Entry) -> FsResult<Entry> {
        let AttrOut { attr, ttl } = self.laid_over(entry.attr, entry.attr_ttl).await?;
        Ok(Entry { attr, attr_ttl: ttl, ..entry })
    }

    async fn laid_over(&self, mut attr: Attr, ttl: Duration) -> FsResult<AttrOut> {
        let Some(inode) = self.opens.peek(attr.ino) else { return Ok(AttrOut { attr, ttl }) };
        let state = inode.lock(self.config.inode_wait_max).await?;
        let Some(writing) = &state.writing else {
            // The last writer may have closed between the reading of the record and our turn.
            let (attr, ttl) = self.names.attr(inode.ino).await?;
            return Ok(AttrOut { attr, ttl });
        };
        let now = self.client.adopt(writing.extent).await?;
        writing.overlay(&mut attr, &now);
        Ok(AttrOut { attr, ttl: Duration::ZERO })
    }

    /// Changes attributes; a new length cuts or extends the bytes before the record says so.
    ///
    /// # Errors
    /// `NotPermitted`, `ReadOnly`; `Invalid` for a length of a directory; `NoSpace`.
    pub async fn setattr(&self, caller: &Caller, ino: Ino, change: SetAttr) -> FsResult<AttrOut> {
        let inode = self.opens.enter(ino);
        let mut state = inode.lock(self.config.inode_wait_max).await?;
        if let Some(len) = change.size {
            self.set_len(&inode, &mut state, len).await?;
        }
        let rest = SetAttr { size: None, ..change };
        if rest != SetAttr::default() {
            // What was written so far gets its own times first; a time that is set then stays until the next
            // write.
            self.fold(&inode, &mut state).await?;
            self.names.set_attr(caller, ino, rest).await?;
        }
        drop(state);
        drop(inode);
        self.getattr(ino).await
    }

    /// Cuts or extends a file, open or not.
    async fn set_len(&self, inode: &OpenInode, state: &mut OpenState, len: u64) -> FsResult<()> {
        if state.writing.is_none() {
            self.begin_writing(inode, state).await?;
        }
        let cut = async {
            self.client.truncate(&*inode.location()?, len).await?;
            self.fold(inode, state).await
        }
        .await;
        if state.writers == 0 {
            self.end_writing(inode, state).await?;
        }
        cut
    }

    /// Space used and left.
    pub fn statfs(&self) -> SpaceUsage {
        let (total_bytes, available_bytes) = self.client.space();
        SpaceUsage { total_bytes, available_bytes }
    }
}
