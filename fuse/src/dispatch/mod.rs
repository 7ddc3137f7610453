//! From a request to calls of the file system, and from their results to a reply.
//!
//! **Owns** the translation, and what belongs to the kernel's protocol rather than to the file system: how long the
//! kernel may keep what it is told, which backing id an open inode has, which errno a failure is. **Never does** any
//! I/O, keeps no file-system state, and knows no channel.
//!
//! **In and out:** [`Dispatch::serve`] runs on a shard with one [`Request`]; it calls the `Vfs` and gives the answer
//! to the responder that came with the request. [`Dispatch::serve_now`] is asked before it: a request that takes no waiting
//! is answered by a plain call.
//!
//! **Why this shape:** one `match`, a short function for each request, grouped by what they act on. A trait with a
//! method for each request would be the same with more words.

mod again;
pub(crate) mod backing;
mod dirs;
pub(crate) mod errno;
mod files;
mod former;
mod killpriv;
mod names;
pub(crate) mod valid;
mod xattrs;

use crate::channel::Device;
use crate::front::Answer;
use crate::op::{Op, OpKind, Request, RequestId};
use crate::options::MountOptions;
use crate::reply::{Reply, Responder};
use crate::stats::{Stats, StatsSnapshot};
use crate::witness::{Subject, Witness, Witnessed};
use again::Former;
use backing::OpenFiles;
use forebay_types::{Caller, FsError, FsErrorKind, FsResult, HandleId};
use forebay_vfs::Vfs;
use killpriv::PrivilegeEpoch;
use rustix::io::Errno;
use std::sync::{Arc, OnceLock};
use valid::Timeouts;

/// Serves the requests of one mount.
pub(crate) struct Dispatch {
    vfs: Arc<Vfs>,
    timeouts: Timeouts,
    open_files: OpenFiles,
    privileges: PrivilegeEpoch,
    stats: Stats,
    witness: OnceLock<Arc<dyn Witness>>,
    /// What a process before this one left, as far as requests that it did not answer are concerned.
    former: Former,
}

/// Who asks, and by which request.
#[derive(Clone, Copy)]
struct Asker<'a> {
    caller: &'a Caller,
    id: RequestId,
}

impl Dispatch {
    /// Serves `vfs` to the kernel behind `device`, counting for so many shards.
    pub(crate) fn new(vfs: Arc<Vfs>, device: Arc<Device>, options: &MountOptions, shards: usize) -> Self {
        let timeouts = Timeouts::of(options);
        let (open_files, privileges) = (OpenFiles::new(device), PrivilegeEpoch::default());
        let (stats, witness, former) = (Stats::new(shards), OnceLock::new(), Former::default());
        Self { vfs, timeouts, open_files, privileges, stats, witness, former }
    }

    /// Lets somebody hear of every request from now on. The first one stays.
    pub(crate) fn watch(&self, witness: Arc<dyn Witness>) {
        if self.witness.set(witness).is_err() {
            tracing::error!("a mount has its witness already");
        }
    }

    /// Serves one request.
    pub(crate) async fn serve<R: Responder>(&self, shard: usize, request: Request, mut answer: Answer<R>) {
        let Request { unique, caller, arrived, op } = request;
        let kind = op.kind();
        let witness = self.witness.get().filter(|witness| witness.wants(kind));
        let witness = witness.map(|witness| (witness, Subject::of(&op)));
        let responder = answer.begin();
        let asker = Asker { caller: &caller, id: unique };
        let result = self.reply_once(asker, op, responder).await;
        let (reply, errno) = self.told(asker, kind, result);
        let latency = arrived.elapsed();
        self.stats.record(shard, kind, latency, errno.is_some());
        answer.send(reply);
        if let Some((witness, subject)) = witness {
            let (ino, path, to) = Box::pin(subject.resolve(&self.vfs)).await;
            witness.saw(Witnessed { op: kind, caller, ino, path, to, errno, latency });
        }
    }

    /// Serves a request that takes no waiting: what it asks for is in memory. `None` leaves it to [`Self::serve`], which
    /// takes longer for the same.
    pub(crate) fn serve_now(&self, shard: usize, request: &mut Request) -> Option<Reply> {
        let kind = request.op.kind();
        let watched = self.witness.get().is_some_and(|witness| witness.wants(kind));
        if watched || request.unique.is_sent_again() {
            return None;
        }
        let result = match &mut request.op {
            Op::Read { handle, offset, into, .. } => Ok(self.read_now(*handle, *offset, into)?),
            Op::Lookup(at) => self.lookup_now(at)?,
            Op::GetAttr { ino, .. } => Ok(self.getattr_now(*ino)?),
            Op::GetXattr { ino, name, room } => self.getxattr_now(*ino, name, *room)?,
            _ => return None,
        };
        let asker = Asker { caller: &request.caller, id: request.unique };
        let (reply, errno) = self.told(asker, kind, result);
        self.stats.record(shard, kind, request.arrived.elapsed(), errno.is_some());
        Some(reply)
    }

    /// What the kernel is told of a result, and the errno in it.
    fn told(&self, asker: Asker<'_>, kind: OpKind, result: FsResult<Reply>) -> (Reply, Option<Errno>) {
        let reply = result.unwrap_or_else(|error| {
            self.log(kind, asker, &error);
            Reply::Error(errno_for(kind, error.kind()))
        });
        let errno = if let Reply::Error(errno) = &reply { Some(*errno) } else { None };
        (reply, errno)
    }

    async fn reply_once<R: Responder>(&self, asker: Asker<'_>, op: Op, to: &mut R) -> FsResult<Reply> {
        match asker.id.is_sent_again() {
            false => self.reply_to(asker, op, to).await,
            true => Box::pin(self.reply_again(asker, op, to)).await,
        }
    }

    /// Each request carries the room for all that is served in place, so what is long and rare has its own.
    async fn reply_to<R: Responder>(&self, asker: Asker<'_>, op: Op, to: &mut R) -> FsResult<Reply> {
        let caller = asker.caller;
        match op {
            Op::Lookup(at) => self.lookup(&at).await,
            Op::Forget(inodes) => Ok(self.forget(&inodes)),
            Op::GetAttr { ino, .. } => self.getattr(ino).await,
            Op::SetAttr { ino, set, .. } => Box::pin(self.setattr(caller, ino, set)).await,
            Op::ReadLink(ino) => Ok(Reply::Bytes(self.vfs.readlink(ino).await?)),
            Op::MkNod { at, node } => Box::pin(self.mknod(caller, &at, node)).await,
            Op::MkDir { at, mode } => Box::pin(self.mkdir(caller, &at, mode)).await,
            Op::SymLink { at, target } => Box::pin(self.symlink(caller, &at, &target)).await,
            Op::Link { ino, to } => Box::pin(self.link(caller, ino, &to)).await,
            Op::Unlink(at) => done(self.vfs.unlink(caller, at.parent, &at.name).await),
            Op::RmDir(at) => done(self.vfs.rmdir(caller, at.parent, &at.name).await),
            Op::Rename { from, to, flags } => Box::pin(self.rename(asker, &from, &to, flags)).await,
            Op::Open { ino, flags } => Box::pin(self.open(asker, ino, flags)).await,
            Op::Create { at, mode, flags } => self.create(asker, &at, mode, flags).await,
            Op::Read { handle, offset, len, into } => {
                Ok(Reply::Data(self.vfs.read_into(handle, offset, len, into).await?))
            }
            Op::Write { handle, offset, data, clear_privileges } => {
                if clear_privileges {
                    Box::pin(self.clear_at_write(caller, handle)).await?;
                }
                self.write(handle, offset, data).await
            }
            Op::Flush(handle) => done(self.vfs.flush(handle).await),
            Op::Release { handle, .. } => self.release(handle).await,
            Op::FSync { handle, .. } => done(self.vfs.fsync(handle).await),
            Op::FAllocate { handle, mode, offset, len } => {
                done(self.vfs.fallocate(handle, mode, offset, len).await)
            }
            Op::LSeek { handle, offset, whence } => self.lseek(handle, offset, whence).await,
            Op::CopyFileRange { from, to, len } => Box::pin(self.copy_file_range(from, to, len)).await,
            Op::OpenDir(ino) => self.opendir(asker.id, ino).await,
            Op::ReadDir { handle, offset, plus } => Box::pin(self.readdir(handle, offset, plus, to)).await,
            Op::ReleaseDir(handle) => self.releasedir(handle),
            Op::FSyncDir(_) => done(self.vfs.sync_names().await),
            Op::StatFs(_) => Ok(Reply::Space(self.vfs.statfs())),
            Op::SetXattr { ino, name, value, mode } => self.setxattr(ino, &name, &value, mode).await,
            Op::GetXattr { ino, name, room } => self.getxattr(ino, &name, room).await,
            Op::ListXattr { ino, room } => self.listxattr(ino, room).await,
            Op::RemoveXattr { ino, name } => self.removexattr(ino, &name).await,
        }
    }

    /// The counts of this mount.
    pub(crate) fn stats(&self) -> StatsSnapshot {
        self.stats.snapshot()
    }

    /// Open files that the kernel no longer can release, because its end of the session is gone. Runs on a shard.
    pub(crate) async fn release_all(&self) {
        for handle in self.open_files.all() {
            if let Err(error) = self.release(handle).await {
                tracing::warn!(%handle, %error, "a file left open at the unmount could not be closed");
            }
        }
    }

    /// Handles of files that are open now.
    pub(crate) fn open_handles(&self) -> Vec<HandleId> {
        self.open_files.all()
    }

    fn log(&self, kind: OpKind, asker: Asker<'_>, error: &FsError) {
        let (op, pid, unique) = (kind.name(), asker.caller.pid, asker.id.0);
        if errno::is_alarming(error.kind()) {
            tracing::warn!(op, pid, unique, %error, "a request failed");
        } else {
            tracing::debug!(op, pid, unique, %error, "a request was refused");
        }
    }
}

/// The errno of a failed request. A search past the end of a file has one of its own (lseek(2)).
fn errno_for(kind: OpKind, error: FsErrorKind) -> Errno {
    match (kind, error) {
        (OpKind::LSeek, FsErrorKind::OutOfRange) => Errno::NXIO,
        _ => errno::errno_of(error),
    }
}

fn done(result: FsResult<()>) -> FsResult<Reply> {
    result.map(|()| Reply::Done)
}
