//! Renaming, in all its cases.

use super::link::{add_name, forget_name};
use super::unlink::{Unlinked, demand_empty, lose_dir, lose_name};
use crate::record::{Dentry, InodeRecord};
use crate::txn::{Found, OpResult, Txn};
use forebay_types::{FsErrorKind, Ino, InodeState, Name};
use std::sync::Arc;

/// What happens to an inode that has the new name already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RenameMode {
    /// It is replaced, if it can be.
    #[default]
    Replace,
    /// The call fails.
    NoReplace,
    /// It gets the old name.
    Exchange,
}

/// One end of a rename.
struct End {
    dir: Ino,
    name: Name,
    found: Found,
}

pub(crate) fn rename(
    txn: &mut Txn<'_>,
    from: (Ino, Name),
    to: (Ino, Name),
    mode: RenameMode,
) -> OpResult<Option<Unlinked>> {
    let (from, to) = (end(txn, from)?, end(txn, to)?);
    let (ino, record) = from.found.present()?;
    check_ends(txn, &from, &to, (ino, &record), mode)?;
    if let Some((other, _)) = &to.found.target
        && *other == ino
    {
        // Two names of one inode: POSIX wants nothing done.
        return Ok(None);
    }
    match mode {
        RenameMode::Exchange => exchange(txn, &from, &to).map(|()| None),
        RenameMode::Replace | RenameMode::NoReplace => replace(txn, &from, &to),
    }
}

fn end(txn: &Txn<'_>, (dir, name): (Ino, Name)) -> OpResult<End> {
    let record = txn.dir(dir)?;
    let found = txn.resolve(dir, &record, &name)?;
    Ok(End { dir, name, found })
}

fn check_ends(
    txn: &Txn<'_>,
    from: &End,
    to: &End,
    (ino, record): (Ino, &InodeRecord),
    mode: RenameMode,
) -> OpResult<()> {
    if from.found.mount_point || to.found.mount_point {
        return Err(FsErrorKind::Busy.into());
    }
    if txn.inode(from.dir)?.mount != txn.inode(to.dir)?.mount {
        return Err(FsErrorKind::CrossesMounts.into());
    }
    super::refuse_parting(txn, record, (to.dir, &to.name))?;
    if let (Some((_, theirs)), RenameMode::Exchange) = (&to.found.target, mode) {
        super::refuse_parting(txn, theirs, (from.dir, &from.name))?;
    }
    if record.is_dir() && is_within(txn, to.dir, ino)? {
        return Err(FsErrorKind::Invalid.into());
    }
    match (&to.found.target, mode) {
        (Some(_), RenameMode::NoReplace) => Err(FsErrorKind::Exists.into()),
        (None, RenameMode::Exchange) => Err(FsErrorKind::NotFound.into()),
        (None, _) => Ok(()),
        (Some((other, theirs)), RenameMode::Exchange) => {
            let inside = theirs.is_dir() && is_within(txn, from.dir, *other)?;
            if inside { Err(FsErrorKind::Invalid.into()) } else { Ok(()) }
        }
        (Some((other, _)), RenameMode::Replace) if *other == ino => Ok(()),
        (Some((other, theirs)), RenameMode::Replace) => match (record.is_dir(), theirs.is_dir()) {
            (true, false) => Err(FsErrorKind::NotADirectory.into()),
            (false, true) => Err(FsErrorKind::IsADirectory.into()),
            (true, true) => demand_empty(txn, *other, theirs),
            (false, false) => Ok(()),
        },
    }
}

/// Whether `dir` is `top` or lies below it.
fn is_within(txn: &Txn<'_>, dir: Ino, top: Ino) -> OpResult<bool> {
    let mut at = dir;
    loop {
        if at == top {
            return Ok(true);
        }
        match &txn.inode(at)?.at {
            Some((parent, _)) => at = *parent,
            None => return Ok(false),
        }
    }
}

fn replace(txn: &mut Txn<'_>, from: &End, to: &End) -> OpResult<Option<Unlinked>> {
    let (ino, record) = from.found.present()?;
    txn.keep(ino)?;
    let mut replaced = None;
    let mut subdirs_gone = 0;
    if let Some((other, theirs)) = &to.found.target {
        txn.keep(*other)?;
        if theirs.is_dir() {
            subdirs_gone = 1;
            let content = super::content(txn, *other, theirs)?;
            lose_dir(txn, *other, theirs)?;
            replaced = Some(Unlinked { ino: *other, nlink: 0, content });
        } else {
            replaced = Some(lose_name(txn, *other, theirs, to.dir, &to.name)?);
        }
    }
    let subdir = i32::from(record.is_dir());
    if from.dir == to.dir {
        txn.touch_dir(from.dir, -subdirs_gone)?;
    } else {
        txn.touch_dir(from.dir, -subdir)?;
        txn.touch_dir(to.dir, subdir - subdirs_gone)?;
    }
    let nothing = Dentry { target: None, shadow: from.found.shadow.clone(), mount_point: false };
    txn.set_name(from.dir, &from.name, nothing, true);
    let record = moved(txn, ino, &record, from, (to.dir, &to.name))?;
    let dentry = Dentry::present(ino, record.kind, to.found.shadow.clone());
    txn.set_name(to.dir, &to.name, dentry, record.state != InodeState::Native);
    txn.put(ino, record);
    Ok(replaced)
}

fn exchange(txn: &mut Txn<'_>, from: &End, to: &End) -> OpResult<()> {
    let (one, other) = (from.found.present()?, to.found.present()?);
    txn.keep(one.0)?;
    txn.keep(other.0)?;
    if from.dir == to.dir {
        txn.touch_dir(from.dir, 0)?;
    } else {
        let gained = i32::from(other.1.is_dir()) - i32::from(one.1.is_dir());
        txn.touch_dir(from.dir, gained)?;
        txn.touch_dir(to.dir, -gained)?;
    }
    for ((ino, record), old, new) in [(one, from, to), (other, to, from)] {
        let record = moved(txn, ino, &record, old, (new.dir, &new.name))?;
        let dentry = Dentry::present(ino, record.kind, new.found.shadow.clone());
        txn.set_name(new.dir, &new.name, dentry, record.state != InodeState::Native);
        txn.put(ino, record);
    }
    Ok(())
}

/// The record of an inode after one of its names has become another.
fn moved(
    txn: &mut Txn<'_>,
    ino: Ino,
    record: &Arc<InodeRecord>,
    from: &End,
    (dir, name): (Ino, &Name),
) -> OpResult<InodeRecord> {
    let mut record = InodeRecord::clone(record);
    let was_first = record.at.as_ref().is_some_and(|(of, known)| *of == from.dir && *known == from.name);
    if was_first {
        // It stays the first name, and the content stays where the UFS has it.
        super::pin_ufs_key(txn, &mut record)?;
        record.at = Some((dir, name.clone()));
    } else {
        forget_name(txn, ino, &mut record, from.dir, &from.name)?;
        add_name(txn, ino, &mut record, dir, name);
    }
    record.ctime = txn.now;
    Ok(record)
}
