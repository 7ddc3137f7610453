//! Changes of names and attributes. Each is durable when it returns: the directories it touched are synced.

use super::fault::OrFault;
use super::root::{Place, Root};
use super::stat::{MODE_BITS, kind_of, version_of};
use super::upload::{refuse_directory, rename_staged, temp_name};
use crate::error::{UfsError, UfsResult};
use crate::ufs::{AttrChange, Expect, PutAttrs};
use forebay_types::{FileKind, TimeSpec, UfsKey, UfsVersion};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    AtFlags, FlockOperation, Gid, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid,
};
use rustix::io::Errno;

impl Root {
    pub(super) fn delete(&self, key: &UfsKey, expect: &Expect) -> UfsResult<()> {
        let place = self.place(key)?;
        {
            let _guard = place.lock();
            let Some(found) = place.stat(key)? else { return Err(UfsError::NotFound(key.clone())) };
            refuse_directory(Some(&found), key)?;
            expect.check(key, Some(&version_of(&found)))?;
            rustix::fs::unlinkat(&place.dir, place.name.as_bytes(), AtFlags::empty())
                .or_fault("delete", key)?;
        }
        place.sync(key)
    }

    pub(super) fn sync_name(&self, key: &UfsKey) -> UfsResult<()> {
        match self.place(key) {
            Ok(place) => place.sync(key),
            // With its directory the name is gone as well.
            Err(UfsError::NotFound(_) | UfsError::NotADirectory(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn mkdir(&self, key: &UfsKey, attrs: &PutAttrs) -> UfsResult<()> {
        let place = self.place_for_new(key)?;
        // Nobody else gets in before the owner and mode are right.
        rustix::fs::mkdirat(&place.dir, place.name.as_bytes(), Mode::RWXU).or_fault("make directory", key)?;
        let made = self.open_dir(key)?;
        set_new_attrs(&made, attrs, None, self.default_mode(0o777), key)?;
        rustix::fs::fsync(&made).or_fault("sync", key)?;
        place.sync(key)
    }

    pub(super) fn rmdir(&self, key: &UfsKey) -> UfsResult<()> {
        let place = self.place(key)?;
        let remove = || rustix::fs::unlinkat(&place.dir, place.name.as_bytes(), AtFlags::REMOVEDIR);
        match remove() {
            Err(Errno::NOTEMPTY) => {
                self.sweep_all(key)?;
                remove().or_fault("remove directory", key)?;
            }
            removed => removed.or_fault("remove directory", key)?,
        }
        place.sync(key)
    }

    pub(super) fn rename(&self, from: (&UfsKey, &Expect), to: (&UfsKey, &Expect)) -> UfsResult<UfsVersion> {
        let (source, target) = (self.place(from.0)?, self.place_for_new(to.0)?);
        let version = {
            let _guards = source.lock_both(&target);
            if source.stat(from.0)?.is_none() {
                return Err(UfsError::NotFound(from.0.clone()));
            }
            source.check(from.0, from.1)?;
            let replaced = target.check(to.0, to.1)?;
            match rename_checked(&source, &target, replaced.is_none(), to.0) {
                Err(UfsError::NotEmpty(_)) => {
                    self.sweep_all(to.0)?;
                    rename_checked(&source, &target, false, to.0)?;
                }
                renamed => renamed?,
            }
            if from.0 != to.0 {
                leave_same_file((&source, from.0), (&target, to.0))?;
            }
            target.version(to.0)?
        };
        target.sync(to.0)?;
        source.sync(from.0)?;
        Ok(version)
    }

    pub(super) fn hard_link(&self, key: &UfsKey, to: (&UfsKey, &Expect)) -> UfsResult<UfsVersion> {
        let (source, target) = (self.place(key)?, self.place_for_new(to.0)?);
        match to.1 {
            Expect::Absent => link(&source, &target, target.name.as_bytes(), to.0)?,
            Expect::Any | Expect::Version(_) => link_over(&source, &target, to)?,
        }
        target.sync(to.0)?;
        target.version(to.0)
    }

    pub(super) fn symlink(
        &self,
        key: &UfsKey,
        target: &[u8],
        attrs: &PutAttrs,
        expect: &Expect,
    ) -> UfsResult<UfsVersion> {
        let place = self.place_for_new(key)?;
        let temp = temp_name();
        rustix::fs::symlinkat(target, &place.dir, temp.as_slice()).or_fault("make a link for", key)?;
        let placed = place_symlink(&place, &temp, attrs, expect, key);
        if placed.is_err() {
            // The first error says what went wrong; a link left behind is swept later.
            let _ = rustix::fs::unlinkat(&place.dir, temp.as_slice(), AtFlags::empty());
        }
        let version = placed?;
        place.sync(key)?;
        Ok(version)
    }

    pub(super) fn set_attr(
        &self,
        key: &UfsKey,
        change: &AttrChange,
        expect: &Expect,
    ) -> UfsResult<UfsVersion> {
        if key.is_root() {
            return Err(UfsError::Invalid("the root's attributes are not ours to change".into()));
        }
        let place = self.place(key)?;
        let _guard = place.lock();
        let Some(found) = place.check(key, expect)? else { return Err(UfsError::NotFound(key.clone())) };
        change_owner(&place, change, key)?;
        if let Some(mode) = change.mode.filter(|_| kind_of(&found) != FileKind::Symlink) {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
            let file = self.open_at(key, flags).or_fault("open", key)?;
            rustix::fs::fchmod(&file, mode_of(mode)).or_fault("change the mode of", key)?;
        }
        change_times(&place, change, key)?;
        sync_attrs(self, &found, key)?;
        place.version(key)
    }
}

fn rename_checked(source: &Place, target: &Place, target_free: bool, key: &UfsKey) -> UfsResult<()> {
    let (from, to) = (source.name.as_bytes(), target.name.as_bytes());
    let flags = if target_free { RenameFlags::NOREPLACE } else { RenameFlags::empty() };
    let mut renamed = rustix::fs::renameat_with(&source.dir, from, &target.dir, to, flags);
    if target_free && matches!(renamed, Err(Errno::INVAL | Errno::NOSYS)) {
        // NFS has no RENAME_NOREPLACE; there the check that came before stands alone.
        renamed = rustix::fs::renameat(&source.dir, from, &target.dir, to);
    }
    match renamed {
        Err(Errno::INVAL) => {
            Err(UfsError::Invalid(format!("{key}: a directory cannot be moved into itself")))
        }
        renamed => renamed.or_fault("rename to", key),
    }
}

/// Where both names were the same file's, rename(2) does nothing: the old one is still there, and is taken away here.
fn leave_same_file((source, from): (&Place, &UfsKey), (target, to): (&Place, &UfsKey)) -> UfsResult<()> {
    let (Some(left), Some(moved)) = (source.stat(from)?, target.stat(to)?) else { return Ok(()) };
    let same = (left.st_dev, left.st_ino) == (moved.st_dev, moved.st_ino);
    if !same || kind_of(&left) == FileKind::Directory {
        return Ok(());
    }
    rustix::fs::unlinkat(&source.dir, source.name.as_bytes(), AtFlags::empty()).or_fault("rename", from)
}

/// Gives what is at `source` the name `name`, which is free, in the directory of `target`.
fn link(source: &Place, target: &Place, name: &[u8], to: &UfsKey) -> UfsResult<()> {
    match rustix::fs::linkat(&source.dir, source.name.as_bytes(), &target.dir, name, AtFlags::empty()) {
        Err(Errno::EXIST) => Err(UfsError::Exists(to.clone())),
        Err(Errno::PERM) => Err(UfsError::Unsupported("hard link to what is no plain file")),
        linked => linked.or_fault("link to", to),
    }
}

/// The same over what may be there. By a temporary name: at no moment is there nothing under the other, for whoever lists
/// the directory meanwhile or finds it after a crash.
fn link_over(source: &Place, target: &Place, to: (&UfsKey, &Expect)) -> UfsResult<()> {
    let _not_swept = lock_shared(source);
    let temp = temp_name();
    link(source, target, &temp, to.0)?;
    let placed = place_link(target, &temp, to);
    // It is still there after an error, and where both names were the same file's before: rename(2) then does nothing.
    let _ = rustix::fs::unlinkat(&target.dir, temp.as_slice(), AtFlags::empty());
    placed
}

fn place_link(target: &Place, temp: &[u8], (to, expect): (&UfsKey, &Expect)) -> UfsResult<()> {
    let _guard = target.lock();
    let found = target.check(to, expect)?;
    refuse_directory(found.as_ref(), to)?;
    let flags = if found.is_none() { RenameFlags::NOREPLACE } else { RenameFlags::empty() };
    rename_staged(target, temp, flags, to)
}

/// Keeps a listing from taking the temporary name of a file away, which it does only with the file's lock. What is no file
/// is not locked, nor swept that way.
fn lock_shared(place: &Place) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&place.dir, place.name.as_bytes(), flags, Mode::empty()).ok()?;
    // Whoever else has it locked keeps it from being swept as well.
    let _ = rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared);
    Some(file)
}

fn place_symlink(
    place: &Place,
    temp: &[u8],
    attrs: &PutAttrs,
    expect: &Expect,
    key: &UfsKey,
) -> UfsResult<UfsVersion> {
    let (uid, gid) = ids(attrs.owner.map(|owner| owner.0), attrs.owner.map(|owner| owner.1));
    match rustix::fs::chownat(&place.dir, temp, uid, gid, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(()) | Err(Errno::PERM) => {}
        Err(errno) => return Err(errno).or_fault("change the owner of", key),
    }
    if attrs.mtime.is_some() {
        let times = timestamps(None, attrs.mtime);
        rustix::fs::utimensat(&place.dir, temp, &times, AtFlags::SYMLINK_NOFOLLOW)
            .or_fault("set the times of", key)?;
    }
    let _guard = place.lock();
    let found = place.check(key, expect)?;
    refuse_directory(found.as_ref(), key)?;
    let flags = if found.is_none() { RenameFlags::NOREPLACE } else { RenameFlags::empty() };
    rename_staged(place, temp, flags, key)?;
    place.version(key)
}

/// Gives a new file or directory its attributes: those asked for, else those of what it replaces, else the
/// default mode and our own user. An owner we may not set is left out: [`crate::Capabilities::owners`] says so.
pub(super) fn set_new_attrs(
    file: impl AsFd,
    attrs: &PutAttrs,
    replaced: Option<&Stat>,
    default_mode: u16,
    key: &UfsKey,
) -> UfsResult<()> {
    let owner = attrs.owner.or(replaced.map(|stat| (stat.st_uid, stat.st_gid)));
    if let Some((uid, gid)) = owner {
        let (uid, gid) = ids(Some(uid), Some(gid));
        match rustix::fs::fchown(&file, uid, gid) {
            Ok(()) | Err(Errno::PERM) => {}
            Err(errno) => return Err(errno).or_fault("change the owner of", key),
        }
    }
    // After the owner: a change of owner clears setuid and setgid.
    let mode = attrs.mode.or(replaced.map(|stat| (stat.st_mode & MODE_BITS) as u16)).unwrap_or(default_mode);
    rustix::fs::fchmod(&file, mode_of(mode)).or_fault("change the mode of", key)?;
    if attrs.mtime.is_some() {
        rustix::fs::futimens(&file, &timestamps(None, attrs.mtime)).or_fault("set the times of", key)?;
    }
    Ok(())
}

fn change_owner(place: &Place, change: &AttrChange, key: &UfsKey) -> UfsResult<()> {
    if change.uid.is_none() && change.gid.is_none() {
        return Ok(());
    }
    let (uid, gid) = ids(change.uid, change.gid);
    rustix::fs::chownat(&place.dir, place.name.as_bytes(), uid, gid, AtFlags::SYMLINK_NOFOLLOW)
        .or_fault("change the owner of", key)
}

fn change_times(place: &Place, change: &AttrChange, key: &UfsKey) -> UfsResult<()> {
    if change.atime.is_none() && change.mtime.is_none() {
        return Ok(());
    }
    let times = timestamps(change.atime, change.mtime);
    rustix::fs::utimensat(&place.dir, place.name.as_bytes(), &times, AtFlags::SYMLINK_NOFOLLOW)
        .or_fault("set the times of", key)
}

/// Makes changed attributes durable. A link's or a device's cannot be synced alone; they reach the disk with
/// the file system's next commit.
fn sync_attrs(root: &Root, found: &Stat, key: &UfsKey) -> UfsResult<()> {
    if !matches!(kind_of(found), FileKind::Regular | FileKind::Directory) {
        return Ok(());
    }
    match root.open_at(key, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW) {
        Ok(file) => rustix::fs::fsync(&file).or_fault("sync", key),
        // The new mode may have closed the file to us; then it reaches the disk with the next commit too.
        Err(Errno::ACCESS) => Ok(()),
        Err(errno) => Err(errno).or_fault("open", key),
    }
}

/// Ids as the kernel takes them; the one that means "leave it as it is" to it is left out.
fn ids(uid: Option<u32>, gid: Option<u32>) -> (Option<Uid>, Option<Gid>) {
    let real = |id: &u32| *id != u32::MAX;
    (uid.filter(real).map(Uid::from_raw), gid.filter(real).map(Gid::from_raw))
}

fn mode_of(mode: u16) -> Mode {
    Mode::from_raw_mode(u32::from(mode) & MODE_BITS)
}

fn timestamps(atime: Option<TimeSpec>, mtime: Option<TimeSpec>) -> Timestamps {
    Timestamps { last_access: timespec(atime), last_modification: timespec(mtime) }
}

fn timespec(time: Option<TimeSpec>) -> Timespec {
    match time {
        Some(time) => Timespec { tv_sec: time.secs, tv_nsec: time.nanos.into() },
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
    }
}
