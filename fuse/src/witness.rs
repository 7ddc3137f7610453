//! Who wants to hear what was asked and what came of it: the audit log.
//!
//! **Owns** what an event says, and which inode or name a request is about. **Never does** anything before the answer
//! is sent: a witness costs the one who asked nothing, and without one a request costs one look at an empty place.
//!
//! The path of an event is that of its inode, or of the directory and name it speaks of, as it is just after the
//! request: a directory that is renamed in between shows with its new name.

use crate::op::{Op, OpKind, Place};
use forebay_types::{Caller, HandleId, Ino};
use forebay_vfs::Vfs;
use rustix::io::Errno;
use std::time::Duration;

/// A request that was answered.
#[derive(Clone, Debug)]
pub struct Witnessed {
    /// What kind of request.
    pub op: OpKind,
    /// Who asked.
    pub caller: Caller,
    /// The inode it was about; for what is asked by directory and name, none.
    pub ino: Option<Ino>,
    /// The path it was about, from the root of the name space; none for an inode without a name.
    pub path: Option<Vec<u8>>,
    /// The second path of a rename, a link or a copy.
    pub to: Option<Vec<u8>>,
    /// What it failed with.
    pub errno: Option<Errno>,
    /// From arrival to answer.
    pub latency: Duration,
}

/// Hears of requests.
pub trait Witness: Send + Sync {
    /// Whether it wants to hear of such requests. Asked for every request.
    fn wants(&self, op: OpKind) -> bool;

    /// Hears of one. Must not wait: it is called on a shard.
    fn saw(&self, event: Witnessed);
}

/// What a request is about, taken before it is served.
pub(crate) enum Subject {
    Inode(Ino),
    Name(Place),
    Names(Place, Place),
    LinkedTo(Ino, Place),
    Open(HandleId),
    CopiedTo(HandleId, HandleId),
    Unknown,
}

impl Subject {
    pub(crate) fn of(op: &Op) -> Self {
        match op {
            Op::Lookup(at) | Op::Unlink(at) | Op::RmDir(at) => Self::Name(at.clone()),
            Op::MkNod { at, .. } | Op::MkDir { at, .. } | Op::SymLink { at, .. } | Op::Create { at, .. } => {
                Self::Name(at.clone())
            }
            Op::Rename { from, to, .. } => Self::Names(from.clone(), to.clone()),
            Op::Link { ino, to } => Self::LinkedTo(*ino, to.clone()),
            Op::GetAttr { ino, .. }
            | Op::SetAttr { ino, .. }
            | Op::ReadLink(ino)
            | Op::Open { ino, .. }
            | Op::OpenDir(ino)
            | Op::Release { ino, .. }
            | Op::StatFs(ino)
            | Op::SetXattr { ino, .. }
            | Op::GetXattr { ino, .. }
            | Op::ListXattr { ino, .. }
            | Op::RemoveXattr { ino, .. } => Self::Inode(*ino),
            Op::FAllocate { handle, .. } => Self::Open(*handle),
            Op::CopyFileRange { from, to, .. } => Self::CopiedTo(from.handle, to.handle),
            _ => Self::Unknown,
        }
    }

    /// The inode and the paths.
    pub(crate) async fn resolve(self, vfs: &Vfs) -> (Option<Ino>, Option<Vec<u8>>, Option<Vec<u8>>) {
        match self {
            Self::Inode(ino) => (Some(ino), vfs.path_of(ino).await, None),
            Self::Name(at) => (None, path_at(vfs, &at).await, None),
            Self::Names(from, to) => (None, path_at(vfs, &from).await, path_at(vfs, &to).await),
            Self::LinkedTo(ino, to) => (Some(ino), vfs.path_of(ino).await, path_at(vfs, &to).await),
            Self::Open(handle) => {
                let (ino, path) = path_behind(vfs, handle).await;
                (ino, path, None)
            }
            Self::CopiedTo(from, to) => {
                let ((_, from), (ino, to)) = (path_behind(vfs, from).await, path_behind(vfs, to).await);
                (ino, from, to)
            }
            Self::Unknown => (None, None, None),
        }
    }
}

async fn path_behind(vfs: &Vfs, handle: HandleId) -> (Option<Ino>, Option<Vec<u8>>) {
    let Some(ino) = vfs.inode_behind(handle) else { return (None, None) };
    (Some(ino), vfs.path_of(ino).await)
}

async fn path_at(vfs: &Vfs, at: &Place) -> Option<Vec<u8>> {
    let mut path = vfs.path_of(at.parent).await?;
    path.push(b'/');
    path.extend_from_slice(at.name.as_bytes());
    Some(path)
}
