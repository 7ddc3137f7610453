//! fuser's requests in our words, handed to the front.
//!
//! A request that cannot be put into an [`Op`] (a name that is too long, a flag that nobody knows) is refused here;
//! everything else goes to a shard. The methods are in the order of fuser's trait.

use super::convert::{caller, handle, ino, name, set_time};
use super::negotiate;
use super::respond::FuserResponder as To;
use crate::channel::flags::{
    allocate_mode, kind_of_mode, open_flags, permissions, rename_flags, whence, xattr_mode,
};
use crate::channel::{Granted, Wish};
use crate::front::Front;
use crate::op::{CopyEnd, Op, Place, Request, RequestId};
use crate::park::block_on;
use forebay_shard::Frame;
use forebay_types::SetAttr;
use forebay_vfs::NewNode;
use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, INodeNo, IoctlFlags, KernelConfig,
    LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier, RenameFlags, TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

/// What the first session asks of the kernel, and where it notes what it got.
pub(super) struct Handshake {
    pub(super) wish: Wish,
    pub(super) granted: Arc<OnceLock<Granted>>,
}

/// Takes fuser's calls on one reading thread.
pub(super) struct Requests {
    front: Arc<Front>,
    /// The number of the thread.
    arrival: usize,
    /// Only the first session has one to make.
    handshake: Option<Handshake>,
}

impl Requests {
    /// For the session that makes the handshake.
    pub(super) fn first(front: Arc<Front>, handshake: Handshake) -> Self {
        Self { front, arrival: 0, handshake: Some(handshake) }
    }

    /// For a session that joins a connection.
    pub(super) fn further(front: Arc<Front>, arrival: usize) -> Self {
        Self { front, arrival, handshake: None }
    }

    fn submit(&self, request: &fuser::Request, op: Op, to: To) {
        let unique = RequestId(request.unique().0);
        let request = Request { unique, caller: caller(request), arrived: Instant::now(), op };
        self.front.submit(self.arrival, request, to);
    }

    /// Hands in what could be put into an `Op`, refuses what could not.
    fn submit_or_fail(&self, request: &fuser::Request, op: Result<Op, Errno>, to: To) {
        match op {
            Ok(op) => self.submit(request, op, to),
            Err(errno) => to.fail(errno),
        }
    }
}

fn place(parent: INodeNo, bytes: &OsStr) -> Result<Place, Errno> {
    Ok(Place { parent: ino(parent), name: name(bytes)? })
}

fn bytes(text: &OsStr) -> Box<[u8]> {
    text.as_bytes().into()
}

/// The payload in an arena frame. Waits when the arena is exhausted, as long as the arena lets anyone wait.
fn frame_of(data: &[u8]) -> Result<Frame, Errno> {
    let arena = forebay_shard::arena();
    let frame = match arena.try_frame(data.len()) {
        Some(frame) => Ok(frame),
        None => block_on(arena.frame(data.len())),
    };
    let mut frame = frame.map_err(|error| {
        tracing::warn!(%error, len = data.len(), "no memory for a write");
        Errno::EAGAIN
    })?;
    frame.copy_from_slice(data);
    Ok(frame)
}

impl Filesystem for Requests {
    fn init(&mut self, _: &fuser::Request, config: &mut KernelConfig) -> io::Result<()> {
        if let Some(Handshake { wish, granted }) = &self.handshake {
            let _ = granted.set(negotiate(config, *wish)?);
        }
        Ok(())
    }

    fn lookup(&self, req: &fuser::Request, parent: INodeNo, name: &OsStr, reply: fuser::ReplyEntry) {
        self.submit_or_fail(req, place(parent, name).map(Op::Lookup), To::Entry(reply));
    }

    fn forget(&self, req: &fuser::Request, node: INodeNo, lookups: u64) {
        self.submit(req, Op::Forget(vec![(ino(node), lookups)]), To::Silent);
    }

    fn getattr(&self, req: &fuser::Request, node: INodeNo, fh: Option<FileHandle>, reply: fuser::ReplyAttr) {
        self.submit(req, Op::GetAttr { ino: ino(node), handle: fh.map(handle) }, To::Attr(reply));
    }

    #[allow(clippy::too_many_arguments, reason = "the signature is fuser's")]
    fn setattr(
        &self,
        req: &fuser::Request,
        node: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: fuser::ReplyAttr,
    ) {
        let (atime, mtime) = (atime.map(set_time), mtime.map(set_time));
        let set = SetAttr { mode: mode.map(permissions), uid, gid, size, atime, mtime };
        self.submit(req, Op::SetAttr { ino: ino(node), handle: fh.map(handle), set }, To::Attr(reply));
    }

    fn readlink(&self, req: &fuser::Request, node: INodeNo, reply: fuser::ReplyData) {
        self.submit(req, Op::ReadLink(ino(node)), To::Data(reply));
    }

    #[allow(clippy::too_many_arguments, reason = "the signature is fuser's")]
    fn mknod(
        &self,
        req: &fuser::Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        rdev: u32,
        reply: fuser::ReplyEntry,
    ) {
        let op = place(parent, name).and_then(|at| {
            let kind = kind_of_mode(mode).ok_or(Errno::EINVAL)?;
            Ok(Op::MkNod { at, node: NewNode { kind, mode: permissions(mode), rdev } })
        });
        self.submit_or_fail(req, op, To::Entry(reply));
    }

    fn mkdir(
        &self,
        req: &fuser::Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: fuser::ReplyEntry,
    ) {
        let op = place(parent, name).map(|at| Op::MkDir { at, mode: permissions(mode) });
        self.submit_or_fail(req, op, To::Entry(reply));
    }

    fn unlink(&self, req: &fuser::Request, parent: INodeNo, name: &OsStr, reply: fuser::ReplyEmpty) {
        self.submit_or_fail(req, place(parent, name).map(Op::Unlink), To::Empty(reply));
    }

    fn rmdir(&self, req: &fuser::Request, parent: INodeNo, name: &OsStr, reply: fuser::ReplyEmpty) {
        self.submit_or_fail(req, place(parent, name).map(Op::RmDir), To::Empty(reply));
    }

    fn symlink(
        &self,
        req: &fuser::Request,
        parent: INodeNo,
        link_name: &OsStr,
        target: &Path,
        reply: fuser::ReplyEntry,
    ) {
        let target = bytes(target.as_os_str());
        let op = place(parent, link_name).map(|at| Op::SymLink { at, target });
        self.submit_or_fail(req, op, To::Entry(reply));
    }

    #[allow(clippy::too_many_arguments, reason = "the signature is fuser's")]
    fn rename(
        &self,
        req: &fuser::Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: fuser::ReplyEmpty,
    ) {
        let op = place(parent, name).and_then(|from| {
            let flags = rename_flags(flags.bits()).ok_or(Errno::EINVAL)?;
            Ok(Op::Rename { from, to: place(newparent, newname)?, flags })
        });
        self.submit_or_fail(req, op, To::Empty(reply));
    }

    fn link(
        &self,
        req: &fuser::Request,
        node: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: fuser::ReplyEntry,
    ) {
        let op = place(newparent, newname).map(|to| Op::Link { ino: ino(node), to });
        self.submit_or_fail(req, op, To::Entry(reply));
    }

    fn open(&self, req: &fuser::Request, node: INodeNo, flags: OpenFlags, reply: fuser::ReplyOpen) {
        self.submit(req, Op::Open { ino: ino(node), flags: open_flags(flags.0) }, To::Open(reply));
    }

    #[allow(clippy::too_many_arguments, reason = "the signature is fuser's")]
    fn read(
        &self,
        req: &fuser::Request,
        _node: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: fuser::ReplyData,
    ) {
        self.submit(
            req,
            Op::Read { handle: handle(fh), offset, len: size as usize, into: None },
            To::Data(reply),
        );
    }

    #[allow(clippy::too_many_arguments, reason = "the signature is fuser's")]
    fn write(
        &self,
        req: &fuser::Request,
        _node: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: fuser::ReplyWrite,
    ) {
        if data.is_empty() {
            return reply.written(0);
        }
        let clear_privileges = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        let op = frame_of(data).map(|data| Op::Write { handle: handle(fh), offset, data, clear_privileges });
        self.submit_or_fail(req, op, To::Write(reply));
    }

    fn flush(
        &self,
        req: &fuser::Request,
        _node: INodeNo,
        fh: FileHandle,
        _lock_owner: LockOwner,
        reply: fuser::ReplyEmpty,
    ) {
        self.submit(req, Op::Flush(handle(fh)), To::Empty(reply));
    }

    #[allow(clippy::too_many_arguments, reason = "the signature is fuser's")]
    fn release(
        &self,
        req: &fuser::Request,
        node: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: fuser::ReplyEmpty,
    ) {
        self.submit(req, Op::Release { ino: ino(node), handle: handle(fh) }, To::Empty(reply));
    }

    fn fsync(
        &self,
        req: &fuser::Request,
        _node: INodeNo,
        fh: FileHandle,
        datasync: bool,
        reply: fuser::ReplyEmpty,
    ) {
        self.submit(req, Op::FSync { handle: handle(fh), data_only: datasync }, To::Empty(reply));
    }

    fn opendir(&self, req: &fuser::Request, node: INodeNo, _flags: OpenFlags, reply: fuser::ReplyOpen) {
        self.submit(req, Op::OpenDir(ino(node)), To::Open(reply));
    }

    fn readdir(
        &self,
        req: &fuser::Request,
        _node: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: fuser::ReplyDirectory,
    ) {
        self.submit(req, Op::ReadDir { handle: handle(fh), offset, plus: false }, To::Dir(reply));
    }

    fn readdirplus(
        &self,
        req: &fuser::Request,
        _node: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: fuser::ReplyDirectoryPlus,
    ) {
        self.submit(req, Op::ReadDir { handle: handle(fh), offset, plus: true }, To::DirPlus(reply));
    }

    fn releasedir(
        &self,
        req: &fuser::Request,
        _node: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: fuser::ReplyEmpty,
    ) {
        self.submit(req, Op::ReleaseDir(handle(fh)), To::Empty(reply));
    }

    fn fsyncdir(
        &self,
        req: &fuser::Request,
        _node: INodeNo,
        fh: FileHandle,
        _: bool,
        reply: fuser::ReplyEmpty,
    ) {
        self.submit(req, Op::FSyncDir(handle(fh)), To::Empty(reply));
    }

    fn statfs(&self, req: &fuser::Request, node: INodeNo, reply: fuser::ReplyStatfs) {
        self.submit(req, Op::StatFs(ino(node)), To::Space(reply));
    }

    #[allow(clippy::too_many_arguments, reason = "the signature is fuser's")]
    fn setxattr(
        &self,
        req: &fuser::Request,
        node: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: fuser::ReplyEmpty,
    ) {
        let op = xattr_mode(flags).ok_or(Errno::EINVAL).map(|mode| Op::SetXattr {
            ino: ino(node),
            name: bytes(name),
            value: value.into(),
            mode,
        });
        self.submit_or_fail(req, op, To::Empty(reply));
    }

    fn getxattr(
        &self,
        req: &fuser::Request,
        node: INodeNo,
        name: &OsStr,
        size: u32,
        reply: fuser::ReplyXattr,
    ) {
        self.submit(req, Op::GetXattr { ino: ino(node), name: bytes(name), room: size }, To::Xattr(reply));
    }

    fn listxattr(&self, req: &fuser::Request, node: INodeNo, size: u32, reply: fuser::ReplyXattr) {
        self.submit(req, Op::ListXattr { ino: ino(node), room: size }, To::Xattr(reply));
    }

    fn removexattr(&self, req: &fuser::Request, node: INodeNo, name: &OsStr, reply: fuser::ReplyEmpty) {
        self.submit(req, Op::RemoveXattr { ino: ino(node), name: bytes(name) }, To::Empty(reply));
    }

    #[allow(clippy::too_many_arguments, reason = "the signature is fuser's")]
    fn create(
        &self,
        req: &fuser::Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: fuser::ReplyCreate,
    ) {
        let op = place(parent, name).map(|at| Op::Create {
            at,
            mode: permissions(mode),
            flags: open_flags(flags),
        });
        self.submit_or_fail(req, op, To::Create(reply));
    }

    /// Unknown to local file systems too; the kernel says ENOTTY to the program.
    #[allow(clippy::too_many_arguments, reason = "the signature is fuser's")]
    fn ioctl(
        &self,
        _req: &fuser::Request,
        _node: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: fuser::ReplyIoctl,
    ) {
        reply.error(Errno::ENOSYS);
    }

    /// After the first ENOSYS the kernel answers poll(2) by itself: a file is always ready.
    #[allow(clippy::too_many_arguments, reason = "the signature is fuser's")]
    fn poll(
        &self,
        _req: &fuser::Request,
        _node: INodeNo,
        _fh: FileHandle,
        _ph: PollNotifier,
        _events: PollEvents,
        _flags: PollFlags,
        reply: fuser::ReplyPoll,
    ) {
        reply.error(Errno::ENOSYS);
    }

    #[allow(clippy::too_many_arguments, reason = "the signature is fuser's")]
    fn fallocate(
        &self,
        req: &fuser::Request,
        _node: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: fuser::ReplyEmpty,
    ) {
        let op = allocate_mode(mode).ok_or(Errno::EOPNOTSUPP).map(|mode| Op::FAllocate {
            handle: handle(fh),
            mode,
            offset,
            len: length,
        });
        self.submit_or_fail(req, op, To::Empty(reply));
    }

    fn lseek(
        &self,
        req: &fuser::Request,
        _node: INodeNo,
        fh: FileHandle,
        offset: i64,
        how: i32,
        reply: fuser::ReplyLseek,
    ) {
        let op = match (u64::try_from(offset), whence(how)) {
            (Ok(offset), Some(whence)) => Ok(Op::LSeek { handle: handle(fh), offset, whence }),
            (Err(_), Some(_)) => Err(Errno::ENXIO),
            (_, None) => Err(Errno::EINVAL),
        };
        self.submit_or_fail(req, op, To::Seek(reply));
    }

    #[allow(clippy::too_many_arguments, reason = "the signature is fuser's")]
    fn copy_file_range(
        &self,
        req: &fuser::Request,
        _ino_in: INodeNo,
        fh_in: FileHandle,
        offset_in: u64,
        _ino_out: INodeNo,
        fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: fuser::ReplyWrite,
    ) {
        let from = CopyEnd { handle: handle(fh_in), offset: offset_in };
        let to = CopyEnd { handle: handle(fh_out), offset: offset_out };
        self.submit(req, Op::CopyFileRange { from, to, len }, To::Write(reply));
    }
}
