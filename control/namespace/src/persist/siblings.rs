//! Hard links in the UFS: names of one file there share its version, and on POSIX the version changes with
//! the number of links. When a name is replaced or taken away, what is recorded of the other ones is brought up
//! to date, or they would be taken for changed by others.

use crate::record::{Dentry, InodeRecord, Shadow, Slot};
use crate::txn::{OpResult, Txn};
use forebay_types::{FileKind, Ino, UfsAttr, UfsKey, UfsVersion};

/// Names that were the very same file in the UFS as one that has just been replaced or taken away.
#[derive(Clone, Debug)]
pub(crate) struct Siblings {
    owner: Ino,
    version: UfsVersion,
    slots: Vec<Slot>,
    /// The key of one of them.
    pub(crate) key: UfsKey,
}

/// The siblings of the name `slot`, whose shadow still says what was there before.
pub(crate) fn siblings(txn: &Txn<'_>, slot: &Slot) -> OpResult<Option<Siblings>> {
    let shadow = txn.dentry(slot.0, &slot.1)?.and_then(|dentry| dentry.shadow);
    let Some(Shadow { owner, version: Some(version), kind, .. }) = shadow else { return Ok(None) };
    if kind == FileKind::Directory || !txn.is_stored(owner)? {
        return Ok(None);
    }
    let record = txn.inode(owner)?;
    let mut slots = Vec::new();
    for name in txn.names_of(owner, &record)? {
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
