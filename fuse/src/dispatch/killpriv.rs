//! Clearing setuid and setgid bits (FUSE_HANDLE_KILLPRIV_V2).
//!
//! Who changes a file's bytes or owner must not leave it setuid. The kernel does that by itself for a FUSE file
//! system that has not asked to, and pays for it with a GETXATTR of `security.capability` before *every* write, also
//! those of passthrough files: 57 us for a write of 4 KiB that takes 5. Having asked, we are told and do it here; file
//! capabilities stay the kernel's business (it removes the attribute).
//!
//! **When:** at a change of owner; when anyone but root cuts a file, opens it for write, or writes. The open stands for
//! the writes of a passthrough file, which nobody sees. A write looks only if a setuid file was made since the
//! file was opened, which an epoch tells without a look at the file.
//!
//! **What is left:** somebody else's passthrough file that is made setuid while it is open for write stays so at the
//! next write. `nosuid`, the default, takes the sting out of it.

use super::Dispatch;
use forebay_types::{Attr, Caller, FileKind, FsResult, HandleId, Ino, SetAttr};
use forebay_vfs::OpenFlags;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const SETUID: u16 = 0o4000;
const SETGID: u16 = 0o2000;
const GROUP_EXEC: u16 = 0o0010;

/// Counts the times that a file was made setuid or setgid.
#[derive(Debug, Default)]
pub(crate) struct PrivilegeEpoch(AtomicU64);

impl PrivilegeEpoch {
    pub(crate) fn now(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Notes that a mode was given to a file.
    pub(crate) fn note(&self, mode: Option<u16>) {
        if mode.is_some_and(|mode| mode & (SETUID | SETGID) != 0) {
            self.0.fetch_add(1, Relaxed);
        }
    }
}

/// The mode without the bits, if there are any to clear. Setgid without group execution is not a privilege.
fn cleared(attr: &Attr) -> Option<u16> {
    if attr.kind == FileKind::Directory {
        return None;
    }
    let privilege = if attr.mode & GROUP_EXEC != 0 { SETUID | SETGID } else { SETUID };
    (attr.mode & privilege != 0).then_some(attr.mode & !privilege)
}

impl Dispatch {
    /// Adds to a change of attributes the mode that it entails.
    pub(super) async fn entail_mode(&self, caller: &Caller, ino: Ino, set: &mut SetAttr) -> FsResult<()> {
        let owner = set.uid.is_some() || set.gid.is_some();
        let cut = set.size.is_some() && !is_root(caller);
        if set.mode.is_none() && (owner || cut) {
            set.mode = cleared(&self.vfs.getattr(ino).await?.attr);
        }
        self.privileges.note(set.mode);
        Ok(())
    }

    /// Clears the bits of a file that is being opened for write.
    pub(super) async fn clear_at_open(&self, caller: &Caller, ino: Ino, flags: OpenFlags) -> FsResult<()> {
        if flags.write && !is_root(caller) { self.clear(caller, ino).await } else { Ok(()) }
    }

    /// Clears the bits of a file that is being written, if it may have got them since it was opened.
    pub(super) async fn clear_at_write(&self, caller: &Caller, handle: HandleId) -> FsResult<()> {
        match self.open_files.look_again(handle, self.privileges.now()) {
            Some(ino) => self.clear(caller, ino).await,
            None => Ok(()),
        }
    }

    async fn clear(&self, caller: &Caller, ino: Ino) -> FsResult<()> {
        let Some(mode) = cleared(&self.vfs.getattr(ino).await?.attr) else { return Ok(()) };
        // The kernel, not the writer, changes the mode: the writer need not own the file.
        let caller = Caller { pid: caller.pid, ..Caller::DAEMON };
        self.vfs.setattr(&caller, ino, SetAttr { mode: Some(mode), ..SetAttr::default() }).await?;
        Ok(())
    }
}

fn is_root(caller: &Caller) -> bool {
    caller.uid == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_types::{InodeState, TimeSpec};

    fn attr(kind: FileKind, mode: u16) -> Attr {
        let (time, state) = (TimeSpec::default(), InodeState::Dirty);
        let (ino, nlink, uid, gid, rdev) = (Ino(2), 1, 1, 1, 0);
        let (size, blocks_512) = (0, 0);
        Attr {
            ino,
            kind,
            mode,
            nlink,
            uid,
            gid,
            rdev,
            size,
            blocks_512,
            atime: time,
            mtime: time,
            ctime: time,
            state,
        }
    }

    #[test]
    fn privileges_go_and_nothing_else() {
        assert_eq!(cleared(&attr(FileKind::Regular, 0o6755)), Some(0o755));
        assert_eq!(cleared(&attr(FileKind::Regular, 0o4644)), Some(0o644));
        assert_eq!(cleared(&attr(FileKind::Regular, 0o2644)), None);
        assert_eq!(cleared(&attr(FileKind::Regular, 0o1777)), None);
        assert_eq!(cleared(&attr(FileKind::Directory, 0o2775)), None);
    }

    #[test]
    fn the_epoch_moves_with_setuid_files_only() {
        let epoch = PrivilegeEpoch::default();
        epoch.note(Some(0o644));
        epoch.note(None);
        assert_eq!(epoch.now(), 0);
        epoch.note(Some(0o4755));
        assert_eq!(epoch.now(), 1);
    }
}
