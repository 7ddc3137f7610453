//! Hard links in the UFS: names of one file there share its version, and on POSIX the version changes with
//! the number of links. When a name is replaced or taken away, what is recorded of the other ones is brought up
//! to date, or they would be taken for changed by others.

use crate::record::{Attempt, Dentry, InodeRecord, Shadow, Slot};
use crate::txn::{OpResult, Txn};
use forebay_types::{FileKind, Ino, UfsAttr, UfsKey, UfsVersion};

/// Names that were the very same file in the UFS as one that has just been replaced or taken away.
#[derive(Clone, Debug)]
pub(crate) struct Siblings {
    owner: Ino,
    version: UfsVersion,
    pub(crate) slots: Vec<Slot>,
    /// The key of one of them.
    pub(crate) key: UfsKey,
}

/// The siblings of the name `slot`, whose shadow still says what was there before.
pub(crate) fn siblings(txn: &Txn<'_>, slot: &Slot) -> OpResult<Option<Siblings>> {
    let shadow = txn.dentry(slot.0, &slot.1)?.and_then(|dentry| dentry.shadow);
    let Some(Shadow { owner, version: Some(version), kind, .. }) = shadow else { return Ok(None) };
    if kind == FileKind::Directory {
        return Ok(None);
    }
    let mut slots = Vec::new();
    for name in txn.names_in_ufs(owner)? {
        if name != *slot && shares(txn, &name, owner, &version)? {
            slots.push(name);
        }
    }
    let Some((dir, name)) = slots.first().cloned() else { return Ok(None) };
    let dir_key = txn.ufs_key(&*txn.inode(dir)?)?;
    Ok(dir_key.map(|dir_key| Siblings { owner, version, key: dir_key.child(&name), slots }))
}

fn shares(txn: &Txn<'_>, (dir, name): &Slot, owner: Ino, version: &UfsVersion) -> OpResult<bool> {
    let shadow = txn.dentry(*dir, name)?.and_then(|dentry| dentry.shadow);
    Ok(shadow.is_some_and(|shadow| shadow.owner == owner && shadow.version.as_ref() == Some(version)))
}

/// Names of `ino` other than `slot` that share its version in the UFS, which a task on it is going to change.
pub(crate) fn sharing(txn: &Txn<'_>, ino: Ino, slot: &Slot) -> OpResult<Vec<Slot>> {
    let record = txn.inode(ino)?;
    let Some(version) = record.version.clone().filter(|_| !record.is_dir()) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for name in txn.names_in_ufs(ino)? {
        if name != *slot && shares(txn, &name, ino, &version)? {
            found.push(name);
        }
    }
    Ok(found)
}

/// Notes that a task may change what these names are in the UFS; until its outcome is recorded, or they were
/// looked at, they are not taken for changed by others.
pub(crate) fn note_touched(txn: &mut Txn<'_>, slots: &[Slot]) -> OpResult<Vec<UfsKey>> {
    let mut keys = Vec::new();
    for (dir, name) in slots {
        let Some(dentry) = txn.dentry(*dir, name)? else { continue };
        let Some(shadow) = dentry.shadow.clone() else { continue };
        let size = if txn.is_stored(shadow.owner)? { txn.inode(shadow.owner)?.size } else { 0 };
        let shadow = Shadow { attempt: Some(Attempt { ino: shadow.owner, size }), ..shadow };
        txn.put_name(*dir, name, Dentry { shadow: Some(shadow), ..dentry });
        txn.requeue(*dir, name);
        let dir_key = txn.ufs_key(&*txn.inode(*dir)?)?;
        keys.extend(dir_key.map(|dir_key| dir_key.child(name)));
    }
    Ok(keys)
}

/// Records what they are now.
pub(crate) fn update(txn: &mut Txn<'_>, siblings: &Siblings, now: &UfsAttr) -> OpResult<()> {
    for slot in &siblings.slots {
        if !shares(txn, slot, siblings.owner, &siblings.version)? {
            continue;
        }
        let (dir, name) = slot;
        if let Some(dentry) = txn.dentry(*dir, name)? {
            let shadow =
                dentry.shadow.clone().map(|shadow| Shadow { version: Some(now.version.clone()), ..shadow });
            txn.put_name(*dir, name, Dentry { shadow, ..dentry });
        }
    }
    if txn.is_stored(siblings.owner)? {
        let mut record = InodeRecord::clone(&*txn.inode(siblings.owner)?);
        let first_is_one = record.at.as_ref().is_some_and(|at| siblings.slots.contains(at));
        if first_is_one && record.version.as_ref() == Some(&siblings.version) {
            record.version = Some(now.version.clone());
            txn.put(siblings.owner, record);
        }
    }
    Ok(())
}
