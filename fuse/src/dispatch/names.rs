//! Requests on names and attributes.

use super::{Asker, Dispatch, done};
use crate::op::Place;
use crate::reply::{EntryReply, Reply};
use forebay_types::{Caller, FsErrorKind, FsResult, Ino, SetAttr};
use forebay_vfs::{AttrOut, Entry, NewNode, RenameFlags};

impl Dispatch {
    pub(super) async fn lookup(&self, at: &Place) -> FsResult<Reply> {
        self.looked_up(self.vfs.lookup(at.parent, &at.name).await)
    }

    pub(super) fn lookup_now(&self, at: &Place) -> Option<FsResult<Reply>> {
        self.vfs.lookup_now(at.parent, &at.name).map(|found| self.looked_up(found))
    }

    fn looked_up(&self, found: FsResult<Entry>) -> FsResult<Reply> {
        match found {
            Ok(entry) => Ok(Reply::Entry(self.entry_reply(&entry))),
            Err(error) if error.kind() == FsErrorKind::NotFound => match self.timeouts.negative() {
                Some(ttl) => Ok(Reply::NoEntry(ttl)),
                None => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    pub(super) fn entry_reply(&self, entry: &Entry) -> EntryReply {
        EntryReply {
            attr: entry.attr,
            generation: entry.generation,
            valid: self.timeouts.entry(entry.lent()),
        }
    }

    pub(super) fn forget(&self, inodes: &[(Ino, u64)]) -> Reply {
        for (ino, count) in inodes {
            self.vfs.forget(*ino, *count);
        }
        Reply::Done
    }

    pub(super) async fn getattr(&self, ino: Ino) -> FsResult<Reply> {
        Ok(self.attr_reply(self.vfs.getattr(ino).await?))
    }

    pub(super) fn getattr_now(&self, ino: Ino) -> Option<Reply> {
        self.vfs.getattr_now(ino).map(|found| self.attr_reply(found))
    }

    fn attr_reply(&self, found: AttrOut) -> Reply {
        Reply::Attr(found.attr, self.timeouts.attr(found.ttl))
    }

    pub(super) async fn setattr(&self, caller: &Caller, ino: Ino, mut set: SetAttr) -> FsResult<Reply> {
        self.entail_mode(caller, ino, &mut set).await?;
        Ok(self.attr_reply(self.vfs.setattr(caller, ino, set).await?))
    }

    pub(super) async fn mknod(&self, caller: &Caller, at: &Place, node: NewNode) -> FsResult<Reply> {
        let entry = self.vfs.mknod(caller, at.parent, &at.name, node).await?;
        self.privileges.note(Some(node.mode));
        Ok(Reply::Entry(self.entry_reply(&entry)))
    }

    pub(super) async fn mkdir(&self, caller: &Caller, at: &Place, mode: u16) -> FsResult<Reply> {
        let entry = self.vfs.mkdir(caller, at.parent, &at.name, mode).await?;
        Ok(Reply::Entry(self.entry_reply(&entry)))
    }

    pub(super) async fn symlink(&self, caller: &Caller, at: &Place, target: &[u8]) -> FsResult<Reply> {
        let entry = self.vfs.symlink(caller, at.parent, &at.name, target).await?;
        Ok(Reply::Entry(self.entry_reply(&entry)))
    }

    pub(super) async fn link(&self, caller: &Caller, ino: Ino, to: &Place) -> FsResult<Reply> {
        let entry = self.vfs.link(caller, ino, to.parent, &to.name).await?;
        Ok(Reply::Entry(self.entry_reply(&entry)))
    }

    pub(super) async fn rename(
        &self,
        asker: Asker<'_>,
        from: &Place,
        to: &Place,
        flags: RenameFlags,
    ) -> FsResult<Reply> {
        // Done twice an exchange is undone.
        if flags == RenameFlags::Exchange {
            self.note_exchange(asker.id, from).await?;
        }
        let caller = asker.caller;
        let (from, to) = ((from.parent, &from.name), (to.parent, &to.name));
        done(self.vfs.rename(caller, from, to, flags).await)
    }
}
