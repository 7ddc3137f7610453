//! What the name space does to its own records: mounts, orphans, and following the UFS.

use crate::keys;
use crate::mounts::{Mount, MountSpec};
use crate::record::{Dentry, InodeRecord, UfsAt};
use crate::shared::dir_links;
use crate::txn::{OpResult, Txn};
use forebay_types::{
    FileKind, FsError, FsErrorKind, FsResult, Generation, Ino, InodeState, MountId, Name, UfsAttr, UfsKey,
};
use std::sync::Arc;

/// The most names of a directory that are looked at to count its links.
const COUNTED_MAX: u32 = 4096;

/// The record of a mount's root directory.
pub(crate) fn mount_root(
    txn: &Txn<'_>,
    mount: MountId,
    spec: &MountSpec,
    at: Option<(Ino, Name)>,
) -> InodeRecord {
    let has_ufs = !spec.source.is_empty();
    InodeRecord {
        kind: FileKind::Directory,
        mode: 0o755,
        nlink: 2,
        uid: txn.shared.owner.0,
        gid: txn.shared.owner.1,
        rdev: 0,
        size: 0,
        blocks_512: 0,
        atime: txn.now,
        mtime: txn.now,
        ctime: txn.now,
        extent_mtime: txn.now,
        state: if has_ufs { InodeState::Clean } else { InodeState::Native },
        mount,
        at,
        ufs_at: if has_ufs { UfsAt::At(UfsKey::root()) } else { UfsAt::Nowhere },
        left: None,
        version: None,
        extent: None,
        link_target: None,
        generation: Generation(0),
        write_open: false,
        attrs_ours: false,
        mtime_due: false,
        xattrs: Vec::new(),
        turned_at: 0,
        unpersistable: None,
    }
}

/// Puts a mount at a name; what the UFS of the mount around it has there is hidden.
pub(crate) fn add_mount(txn: &mut Txn<'_>, parent: Ino, name: &Name, spec: MountSpec) -> OpResult<Mount> {
    let dir = txn.dir(parent)?;
    let found = txn.resolve(parent, &dir, name)?;
    if found.mount_point {
        return Err(FsErrorKind::Exists.into());
    }
    if let Some((ino, record)) = &found.target {
        if !record.is_dir() {
            return Err(FsErrorKind::NotADirectory.into());
        }
        // A directory with names of its own would be lost from sight with what is dirty in it.
        if txn.has_own_names(*ino)? || !record.is_settled() {
            return Err(FsErrorKind::NotEmpty.into());
        }
    }
    let next = txn.counter(keys::NEXT_MOUNT)?.unwrap_or(1);
    let id = MountId(u32::try_from(next).map_err(|_| FsErrorKind::Overloaded)?);
    txn.put_key(keys::NEXT_MOUNT.into(), Some((next + 1).to_be_bytes().as_slice().into()));
    let root = txn.new_ino();
    let record = mount_root(txn, id, &spec, Some((parent, name.clone())));
    txn.touch_dir(parent, 1)?;
    let dentry = Dentry { mount_point: true, ..Dentry::present(root, FileKind::Directory, found.shadow) };
    txn.set_name(parent, name, dentry, false);
    txn.put(root, record);
    let mount = Mount { id, root, spec };
    txn.put_key(keys::mount(id), Some(mount.encode()?.into()));
    Ok(mount)
}

/// Takes a mount's name and record away. The caller has seen to it that nothing in it is still needed.
pub(crate) fn remove_mount(txn: &mut Txn<'_>, mount: &Mount) -> OpResult<()> {
    let record = InodeRecord::clone(&*txn.inode(mount.root)?);
    let Some((parent, name)) = record.at.clone() else { return Err(FsErrorKind::Busy.into()) };
    if txn.has_own_names(mount.root)? {
        return Err(FsErrorKind::Busy.into());
    }
    // What was hidden comes to sight again.
    txn.drop_name(parent, &name);
    txn.touch_dir(parent, -1)?;
    txn.drop_inode(mount.root, InodeRecord { at: None, nlink: 0, ..record });
    txn.put_key(keys::mount(mount.id), None);
    Ok(())
}

/// Gives the names of one directory of a mount back to the UFS, up to `limit` of them: one below which no other has
/// names of ours. The UFS has them as we do. Yields whether there was any; the caller has seen to it that nothing of
/// the mount is queued or can change.
pub(crate) fn give_back_names(txn: &mut Txn<'_>, mount: &Mount, limit: usize) -> OpResult<bool> {
    let dir = deepest_with_names(txn, mount.root)?;
    let mut names = Vec::new();
    txn.each_name(dir, |(_, name), dentry| {
        names.push((name.clone(), dentry.clone()));
        Ok(names.len() < limit)
    })?;
    for (name, dentry) in &names {
        match dentry.target {
            None => txn.drop_name(dir, name),
            Some(_) if !dentry.mount_point && drop_stale(txn, dir, name, dentry)? => {}
            Some(_) => {
                return Err(FsError::new(FsErrorKind::Busy, format!("{name} is kept here only")).into());
            }
        }
    }
    Ok(!names.is_empty())
}

/// A directory at or below `top` of whose directories none has names of ours.
fn deepest_with_names(txn: &Txn<'_>, top: Ino) -> OpResult<Ino> {
    let mut at = top;
    loop {
        let mut below = None;
        txn.each_name(at, |_, dentry| {
            below = match dentry.target {
                Some((ino, FileKind::Directory))
                    if !dentry.mount_point && txn.find_name(ino, |_| true)?.is_some() =>
                {
                    Some(ino)
                }
                _ => None,
            };
            Ok(below.is_none())
        })?;
        match below {
            Some(dir) => at = dir,
            None => return Ok(at),
        }
    }
}

/// Lets an orphan's record go.
pub(crate) fn release_orphan(txn: &mut Txn<'_>, ino: Ino) -> OpResult<()> {
    let Ok(record) = txn.inode(ino) else { return Ok(()) };
    if record.nlink > 0 || !txn.is_stored(ino)? || record.is_dir() {
        return Ok(());
    }
    txn.put_key(keys::orphan(ino), None);
    txn.put_key(keys::write_open(ino), None);
    txn.drop_inode(ino, InodeRecord::clone(&record));
    Ok(())
}

/// The UFS no longer has what a stored clean name was: the name is the UFS's again. Yields whether it was
/// still so.
pub(crate) fn drop_stale(txn: &mut Txn<'_>, dir: Ino, name: &Name, expected: &Dentry) -> OpResult<bool> {
    let Some((ino, _)) = expected.target else { return Ok(false) };
    if txn.dentry(dir, name)?.as_ref() != Some(expected) {
        return Ok(false);
    }
    // What was seen may be what a task is just making of it.
    if txn.has_begun(dir, name) || txn.shared.queue.is_begun(dir, name, ino) {
        return Ok(false);
    }
    let mut record = InodeRecord::clone(&*txn.inode(ino)?);
    if !record.is_settled() {
        return Ok(false);
    }
    if record.is_dir() && txn.has_own_names(ino)? {
        // What is in it is ours and needs a directory: it is made anew.
        record.ufs_at = UfsAt::Nowhere;
        record.state = InodeState::Dirty;
        record.turned_at = txn.seq;
        txn.set_name(dir, name, Dentry::present(ino, record.kind, None), true);
        txn.put(ino, record);
        return Ok(true);
    }
    super::link::forget_name(txn, ino, &mut record, dir, name)?;
    txn.drop_name(dir, name);
    record.nlink = if record.is_dir() { 0 } else { record.nlink - 1 };
    if record.nlink == 0 {
        txn.drop_inode(ino, record);
    } else {
        txn.put(ino, record);
    }
    Ok(true)
}

/// A stored clean name and its inode, as they were when the UFS was asked about them.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) dir: Ino,
    pub(crate) name: Name,
    pub(crate) dentry: Dentry,
    pub(crate) ino: Ino,
    pub(crate) record: Arc<InodeRecord>,
}

impl Seen {
    /// Whether others have changed anything that [`take_over`] would follow. `busy`: what the UFS says of a directory
    /// is not to be believed just now.
    pub(crate) fn differs(&self, ufs: &UfsAttr, busy: bool) -> bool {
        let Some(shadow) = &self.dentry.shadow else { return false };
        let attrs = shadow.new_mode(ufs).is_some() || shadow.new_ids(ufs).is_some();
        let links = dir_links(ufs).is_some_and(|links| links != self.record.nlink);
        let dir = self.record.is_dir() && !busy && !self.record.mtime_due;
        !self.record.attrs_ours && (attrs || (dir && (links || ufs.mtime != self.record.mtime)))
    }
}

/// Takes over what others have changed of the attributes of something clean, unless it has moved on here since the
/// UFS was asked.
pub(crate) fn take_over(txn: &mut Txn<'_>, seen: &Seen, ufs: &UfsAttr) -> OpResult<()> {
    let (known, dentry) = (txn.inode(seen.ino)?, txn.dentry(seen.dir, &seen.name)?);
    if !Arc::ptr_eq(&known, &seen.record) || dentry.as_ref() != Some(&seen.dentry) || !known.is_settled() {
        return Ok(());
    }
    let Some(shadow) = seen.dentry.shadow.clone().filter(|_| !known.attrs_ours) else { return Ok(()) };
    let mut record = InodeRecord::clone(&known);
    record.mode = shadow.new_mode(ufs).unwrap_or(record.mode);
    (record.uid, record.gid) = shadow.new_ids(ufs).unwrap_or((record.uid, record.gid));
    if record.is_dir() && !record.mtime_due && !txn.shared.queue.is_busy_in(seen.ino) {
        if txn.shared.ufs.keeps_dir_times(record.mount) {
            record.mtime = ufs.mtime;
        }
        record.nlink = count_links(txn, seen.ino, ufs)?.unwrap_or(record.nlink);
    }
    if record != *known {
        record.ctime = record.ctime.max(txn.now);
        txn.put(seen.ino, record);
    }
    let shadow = shadow.showing(ufs);
    if seen.dentry.shadow.as_ref() != Some(&shadow) {
        txn.put_name(seen.dir, &seen.name, Dentry { shadow: Some(shadow), ..seen.dentry.clone() });
    }
    Ok(())
}

/// How many links a directory has by the UFS's count and the directories in it that only one of us has. `None` if the
/// UFS does not count, or if too many names would have to be looked at.
fn count_links(txn: &Txn<'_>, dir: Ino, ufs: &UfsAttr) -> FsResult<Option<u32>> {
    let Some(theirs) = dir_links(ufs) else { return Ok(None) };
    let (mut ours, mut hidden, mut looked_at) = (0, 0, 0);
    txn.each_name(dir, |_, dentry| {
        let is_dir = matches!(dentry.target, Some((_, FileKind::Directory)));
        let is_dir_there = dentry.shadow.as_ref().is_some_and(|shadow| shadow.kind == FileKind::Directory);
        ours += u32::from(is_dir && !is_dir_there);
        hidden += u32::from(is_dir_there && !is_dir);
        looked_at += 1;
        Ok(looked_at < COUNTED_MAX)
    })?;
    Ok((looked_at < COUNTED_MAX).then(|| (theirs + ours).saturating_sub(hidden).max(2)))
}

/// Takes over what the UFS says of a mount's root, which has no name there and is never carried.
pub(crate) fn refresh_root(txn: &mut Txn<'_>, ino: Ino, ufs: &UfsAttr) -> OpResult<()> {
    let mut record = InodeRecord::clone(&*txn.inode(ino)?);
    if !record.is_dir() || record.state != InodeState::Clean || record.attrs_ours {
        return Ok(());
    }
    record.mode = ufs.mode.unwrap_or(record.mode);
    (record.uid, record.gid) = ufs.owner.unwrap_or((record.uid, record.gid));
    record.mtime = record.mtime.max(ufs.mtime);
    if *txn.inode(ino)? != record {
        txn.put(ino, record);
    }
    Ok(())
}

/// Replaces a mount's source and policies.
pub(crate) fn set_mount(txn: &mut Txn<'_>, mount: &Mount) -> FsResult<()> {
    txn.put_key(keys::mount(mount.id), Some(mount.encode()?.into()));
    Ok(())
}
