//! Attributes: whose word counts while a file is open for write.
//!
//! While an inode is write-open its extent file is the authority for size, blocks and times, because a
//! passthrough writer changes them without a word to us. What `stat` shows is then the record with the extent
//! file's view laid over it, and it may not be kept by the kernel (time to live 0).

use crate::Vfs;
use crate::open_inode::OpenState;
use crate::opens::Unsettled;
use crate::table::InodeRef;
use crate::types::{Entry, SpaceUsage};
use forebay_types::limits::FILE_LEN_MAX;
use forebay_types::{Attr, Caller, FileKind, FsErrorKind, FsResult, Ino, SetAttr};
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

    /// As [`Vfs::getattr`], if the answer is known: nothing is waited for.
    pub fn getattr_now(&self, ino: Ino) -> Option<AttrOut> {
        let (attr, ttl) = self.names.attr_now(ino)?;
        self.laid_over_now(attr, ttl)
    }

    /// As [`Self::laid_over`]; `None` for what is written, since its extent file is to be asked, and for what others are
    /// busy with.
    pub(crate) fn laid_over_now(&self, attr: Attr, ttl: Duration) -> Option<AttrOut> {
        let Some(inode) = self.opens.peek(attr.ino) else { return Some(AttrOut { attr, ttl }) };
        let state = inode.turn_now()?;
        if state.is_write_open() {
            return None;
        }
        let (attr, ttl) = self.names.attr_now(attr.ino)?;
        Some(AttrOut { attr, ttl })
    }

    /// An entry with the view of the extent file laid over it.
    pub(crate) async fn fresh(&self, entry: Entry) -> FsResult<Entry> {
        let AttrOut { attr, ttl } = self.laid_over(entry.attr, entry.attr_ttl).await?;
        Ok(Entry { attr, attr_ttl: ttl, ..entry })
    }

    /// As [`Self::fresh`], if the answer is known: nothing is waited for.
    pub(crate) fn fresh_now(&self, entry: Entry) -> Option<Entry> {
        let AttrOut { attr, ttl } = self.laid_over_now(entry.attr, entry.attr_ttl)?;
        Some(Entry { attr, attr_ttl: ttl, ..entry })
    }

    async fn laid_over(&self, mut attr: Attr, ttl: Duration) -> FsResult<AttrOut> {
        let Some(inode) = self.opens.peek(attr.ino) else { return Ok(AttrOut { attr, ttl }) };
        let state = self.turn(&inode).await?;
        let Some(writing) = state.writing.as_ref().filter(|_| state.is_write_open()) else {
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
    /// `NotPermitted`, `ReadOnly`; `IsADirectory`, or `Invalid`, for the length of what has none; `FileTooLarge`;
    /// `NoSpace`.
    pub async fn setattr(&self, caller: &Caller, ino: Ino, change: SetAttr) -> FsResult<AttrOut> {
        self.demand_writable(ino).await?;
        if let Some(len) = change.size {
            self.demand_length(ino, len).await?;
        }
        let inode = self.opens.enter(ino);
        let mut state = self.turn(&inode).await?;
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

    /// Refuses a length that an inode cannot have.
    async fn demand_length(&self, ino: Ino, len: u64) -> FsResult<()> {
        let (attr, _) = self.names.attr(ino).await?;
        match attr.kind {
            FileKind::Regular if len > FILE_LEN_MAX => Err(FsErrorKind::FileTooLarge.into()),
            FileKind::Regular if len > attr.size => self.demand_quota(ino).await,
            FileKind::Regular => Ok(()),
            FileKind::Directory => Err(FsErrorKind::IsADirectory.into()),
            _ => Err(FsErrorKind::Invalid.into()),
        }
    }

    /// Cuts or extends a file, open or not.
    async fn set_len(&self, inode: &InodeRef, state: &mut OpenState, len: u64) -> FsResult<()> {
        let unsettled = Unsettled::new(self, inode);
        self.begin_writing(inode, state).await?;
        inode.touch();
        self.client.truncate(&*inode.location()?, len).await?;
        self.fold(inode, state).await?;
        self.settle_in_turn(inode, state).await?;
        unsettled.settled();
        Ok(())
    }

    /// Space used and left.
    pub fn statfs(&self) -> SpaceUsage {
        let (total_bytes, available_bytes) = self.client.space();
        SpaceUsage { total_bytes, available_bytes }
    }
}
