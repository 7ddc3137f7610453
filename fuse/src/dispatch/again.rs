//! Requests that the kernel sends a second time, because whoever had them died before the answer.
//!
//! **The question** is whether the first one was done. Most requests may simply be done twice. The others change a name,
//! and as long as one is unanswered the kernel lets nobody else change names of that directory through this mount: what is
//! there now is what was there before, or what the request made of it. So a refusal that only the request's own effect
//! explains is its success: a name that is to be taken away is gone, one that is to be made is there and is like what was to
//! be made. Two things are not seen from names alone, and stand in the [`Roll`](crate::roll::Roll): handles that the kernel
//! was not told of, which are closed, and exchanges, which are their own opposite.
//!
//! **What is taken for success wrongly:** somebody else made the same name, with the same mode and owner and empty, in the
//! under file system, between the kernel's look at the name and the death.

use super::{Asker, Dispatch};
use crate::op::{Op, Place, RequestId};
use crate::reply::{Reply, Responder};
use crate::roll;
use forebay_types::{Attr, Caller, FileKind, FsError, FsErrorKind, FsResult, HandleId, Ino};
use forebay_vfs::{Entry, OpenFlags, RenameFlags, XattrSetMode};
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::collections::VecDeque;

/// What a process before this one had begun, by the request that asked for it.
#[derive(Default)]
pub(super) struct Former(Mutex<Begun>);

#[derive(Default)]
struct Begun {
    files: HashMap<RequestId, HandleId>,
    dirs: HashMap<RequestId, HandleId>,
    exchanges: HashMap<RequestId, Ino>,
    /// Where exchanges stand in the roll, the oldest first.
    noted: VecDeque<roll::Place>,
}

/// So many exchanges stand in the roll: an answer that was given is on its way to the kernel a little longer, and more
/// than these are never unanswered at once.
const EXCHANGES_KEPT: usize = 1024;

impl Former {
    pub(super) fn note_file(&self, asked: RequestId, handle: HandleId) {
        self.0.lock().files.insert(asked, handle);
    }

    pub(super) fn note_dir(&self, asked: RequestId, handle: HandleId) {
        self.0.lock().dirs.insert(asked, handle);
    }

    pub(super) fn note_exchange(&self, asked: RequestId, ino: Ino) {
        self.0.lock().exchanges.insert(asked, ino);
    }
}

/// What a request was to bring about, where doing it twice fails.
enum Wanted {
    Made(Place, Like),
    Opened(Place, Like, OpenFlags),
    Linked(Place, Ino),
    Gone,
    Moved(Place, Place),
    Attribute(Ino, Box<[u8]>, Option<Box<[u8]>>),
}

/// What was to be made.
#[derive(Clone, Copy)]
struct Like {
    kind: FileKind,
    mode: Option<u16>,
}

impl Like {
    /// Whether `attr` is what the request made for `caller`, with nothing put into it yet.
    fn is(self, attr: &Attr, caller: &Caller) -> bool {
        let empty = attr.kind != FileKind::Regular || attr.size == 0;
        let mode = self.mode.is_none_or(|mode| mode & 0o777 == attr.mode & 0o777);
        attr.kind == self.kind && mode && attr.uid == caller.uid && empty
    }
}

impl Wanted {
    fn of(op: &Op) -> Option<Self> {
        let like = |kind, mode| Like { kind, mode };
        Some(match op {
            Op::MkNod { at, node } => Self::Made(at.clone(), like(node.kind, Some(node.mode))),
            Op::MkDir { at, mode } => Self::Made(at.clone(), like(FileKind::Directory, Some(*mode))),
            Op::SymLink { at, .. } => Self::Made(at.clone(), like(FileKind::Symlink, None)),
            Op::Create { at, mode, flags } => {
                Self::Opened(at.clone(), like(FileKind::Regular, Some(*mode)), *flags)
            }
            Op::Link { ino, to } => Self::Linked(to.clone(), *ino),
            Op::Unlink(_) | Op::RmDir(_) => Self::Gone,
            Op::Rename { from, to, flags: RenameFlags::Replace | RenameFlags::NoReplace } => {
                Self::Moved(from.clone(), to.clone())
            }
            Op::SetXattr { ino, name, value, mode: XattrSetMode::Create } => {
                Self::Attribute(*ino, name.clone(), Some(value.clone()))
            }
            Op::RemoveXattr { ino, name } => Self::Attribute(*ino, name.clone(), None),
            _ => return None,
        })
    }
}

impl Dispatch {
    /// Serves a request that was sent before.
    pub(super) async fn reply_again<R: Responder>(
        &self,
        asker: Asker<'_>,
        op: Op,
        to: &mut R,
    ) -> FsResult<Reply> {
        tracing::debug!(op = op.kind().name(), unique = asker.id.at_first().0, "a request comes again");
        self.drop_unknown(asker.id.at_first()).await;
        if let Op::Rename { from, flags: RenameFlags::Exchange, .. } = &op
            && self.was_exchanged(asker.id.at_first(), from).await?
        {
            tracing::info!("an exchange that comes again had been done");
            return Ok(Reply::Done);
        }
        let (wanted, kind) = (Wanted::of(&op), op.kind());
        match (self.reply_to(asker, op, to).await, wanted) {
            (Err(error), Some(wanted)) => match self.was_done(asker, wanted, &error).await? {
                Some(reply) => {
                    tracing::info!(op = kind.name(), "a request that comes again had been done");
                    Ok(reply)
                }
                None => Err(error),
            },
            (reply, _) => reply,
        }
    }

    /// Closes what the first request opened: its handle did not reach the kernel.
    async fn drop_unknown(&self, asked: RequestId) {
        let (file, dir) = {
            let mut begun = self.former.0.lock();
            (begun.files.remove(&asked), begun.dirs.remove(&asked))
        };
        let closed = match (file, dir) {
            (Some(handle), _) => self.release(handle).await,
            (None, Some(handle)) => self.releasedir(handle),
            (None, None) => return,
        };
        if let Err(error) = closed {
            tracing::warn!(%error, "an open that nobody heard of could not be closed");
        }
    }

    /// Notes where the first of two names leads that are about to be exchanged.
    pub(super) async fn note_exchange(&self, asked: RequestId, from: &Place) -> FsResult<()> {
        let Some(roll) = self.open_files.roll() else { return Ok(()) };
        let ino = self.found(from).await?.attr.ino;
        if let Some(place) = roll.enter(&roll::Entry::Exchange { asked: asked.at_first(), ino }) {
            self.expire(place);
        }
        Ok(())
    }

    /// Has the note of an exchange go when many others have come after it.
    pub(super) fn expire(&self, place: roll::Place) {
        let mut begun = self.former.0.lock();
        begun.noted.push_back(place);
        let is_over = begun.noted.len() > EXCHANGES_KEPT;
        let oldest = if is_over { begun.noted.pop_front() } else { None };
        drop(begun);
        if let (Some(oldest), Some(roll)) = (oldest, self.open_files.roll()) {
            roll.clear(oldest);
        }
    }

    async fn was_exchanged(&self, asked: RequestId, from: &Place) -> FsResult<bool> {
        let before = self.former.0.lock().exchanges.remove(&asked);
        match before {
            Some(before) => Ok(self.found(from).await?.attr.ino != before),
            None => Ok(false),
        }
    }

    /// The answer to a request that failed because it had been done; `None` if that is not why.
    async fn was_done(&self, asker: Asker<'_>, wanted: Wanted, error: &FsError) -> FsResult<Option<Reply>> {
        let kind = error.kind();
        match wanted {
            Wanted::Gone if kind == FsErrorKind::NotFound => Ok(Some(Reply::Done)),
            Wanted::Moved(from, to) if matches!(kind, FsErrorKind::NotFound | FsErrorKind::Exists) => {
                let moved = self.is_absent(&from).await? && !self.is_absent(&to).await?;
                Ok(moved.then_some(Reply::Done))
            }
            Wanted::Made(at, like) if kind == FsErrorKind::Exists => {
                self.entry_if(&at, |attr| like.is(attr, asker.caller)).await
            }
            Wanted::Linked(at, ino) if kind == FsErrorKind::Exists => {
                self.entry_if(&at, |attr| attr.ino == ino).await
            }
            Wanted::Opened(at, like, flags) if kind == FsErrorKind::Exists => {
                let made = self.found(&at).await?.attr;
                if !like.is(&made, asker.caller) {
                    return Ok(None);
                }
                let flags = OpenFlags { exclusive: false, ..flags };
                self.create(asker, &at, like.mode.unwrap_or(made.mode), flags).await.map(Some)
            }
            Wanted::Attribute(ino, name, value) => self.attribute_if(ino, &name, value, kind).await,
            _ => Ok(None),
        }
    }

    /// What a name leads to, without the kernel being told.
    async fn found(&self, at: &Place) -> FsResult<Entry> {
        let entry = self.vfs.lookup(at.parent, &at.name).await?;
        self.vfs.forget(entry.attr.ino, 1);
        Ok(entry)
    }

    async fn is_absent(&self, at: &Place) -> FsResult<bool> {
        match self.found(at).await {
            Err(error) if error.kind() == FsErrorKind::NotFound => Ok(true),
            found => found.map(|_| false),
        }
    }

    async fn entry_if(&self, at: &Place, is_it: impl Fn(&Attr) -> bool) -> FsResult<Option<Reply>> {
        let entry = self.vfs.lookup(at.parent, &at.name).await?;
        if is_it(&entry.attr) {
            return Ok(Some(Reply::Entry(self.entry_reply(&entry))));
        }
        self.vfs.forget(entry.attr.ino, 1);
        Ok(None)
    }

    async fn attribute_if(
        &self,
        ino: Ino,
        name: &[u8],
        value: Option<Box<[u8]>>,
        why: FsErrorKind,
    ) -> FsResult<Option<Reply>> {
        let done = match (value, why) {
            (None, FsErrorKind::NoAttribute) => true,
            (Some(value), FsErrorKind::Exists) => self.vfs.getxattr(ino, name).await? == value,
            _ => false,
        };
        Ok(done.then_some(Reply::Done))
    }
}
