//! When an earlier task's end is not known: what the UFS has at the key is asked, and the shadow says it from
//! then on.
//!
//! Something of the length that was begun to be put is taken for ours: the put had reached the UFS when the
//! connection or the daemon died. Anything else that was not there before is somebody else's, and met as a
//! conflict.

use super::derive::Unknown;
use super::finish::{Ending, finish};
use crate::record::{Attempt, Dentry, InodeRecord, Shadow, Slot};
use crate::txn::{OpResult, Txn};
use forebay_types::{FileKind, PersistTask, PersistWork, UfsAttr, UfsKey, UfsVersion};

/// What was found at the key, and whether anything is where the thing was that was to be moved there.
#[derive(Clone, Debug)]
pub(crate) struct Evidence {
    pub(crate) there: Option<UfsAttr>,
    pub(crate) source_is_gone: bool,
}

pub(crate) fn reconcile(txn: &mut Txn<'_>, slot: &Slot, unknown: &Unknown, found: &Evidence) -> OpResult<()> {
    if let (Some(from), Some(there), true) = (&unknown.from, &found.there, found.source_is_gone)
        && let Some(task) = landed(txn, slot, unknown, from, there)?
    {
        return finish(txn, slot, &task, Ending::Done(Some(there.clone()))).map(drop);
    }
    resolve_shadow(txn, slot, found.there.as_ref())
}

/// The move that has taken place, if it still is what was begun.
fn landed(
    txn: &Txn<'_>,
    slot: &Slot,
    unknown: &Unknown,
    from: &UfsKey,
    there: &UfsAttr,
) -> OpResult<Option<PersistTask>> {
    let shadow = txn.dentry(slot.0, &slot.1)?.and_then(|dentry| dentry.shadow);
    let Some(Attempt { ino, .. }) = shadow.and_then(|shadow| shadow.attempt) else { return Ok(None) };
    if txn.begun_move(ino, slot)?.as_ref() != Some(from) || txn.inode(ino)?.kind != there.kind {
        return Ok(None);
    }
    let (mount, generation) = (unknown.mount, txn.inode(ino)?.generation);
    let (kind, version, replaces) = (there.kind, None, None);
    let work = PersistWork::Move { from: from.clone(), to: unknown.key.clone(), kind, version, replaces };
    Ok(Some(PersistTask { id: 0, mount, ino, generation, work }))
}

fn resolve_shadow(txn: &mut Txn<'_>, slot: &Slot, there: Option<&UfsAttr>) -> OpResult<()> {
    let Some(dentry) = txn.dentry(slot.0, &slot.1)? else { return Ok(()) };
    let Some(shadow) = dentry.shadow.clone() else { return Ok(()) };
    let Some(attempt) = shadow.attempt else { return Ok(()) };
    let resolved = there.and_then(|there| resolve(&shadow, attempt.size, there));
    if let (Some(old), Some(new)) =
        (&shadow.version, resolved.as_ref().and_then(|found| found.version.as_ref()))
    {
        follow_version(txn, &shadow, old, new)?;
    }
    txn.reset_name(slot.0, &slot.1, Dentry { shadow: resolved, ..dentry });
    Ok(())
}

/// The owner's record names the version that the UFS has.
fn follow_version(txn: &mut Txn<'_>, shadow: &Shadow, old: &UfsVersion, new: &UfsVersion) -> OpResult<()> {
    if old == new || !txn.is_stored(shadow.owner)? {
        return Ok(());
    }
    let mut record = InodeRecord::clone(&*txn.inode(shadow.owner)?);
    if record.version.as_ref() == Some(old) {
        record.version = Some(new.clone());
        txn.put(shadow.owner, record);
    }
    Ok(())
}

/// What the shadow is to say, given what is there.
fn resolve(shadow: &Shadow, size: u64, there: &UfsAttr) -> Option<Shadow> {
    let known = Shadow { attempt: None, ..shadow.clone() };
    if shadow.version.as_ref() == Some(&there.version) {
        return Some(known);
    }
    let ours = size != Attempt::NOTHING
        && there.kind != FileKind::Directory
        && (there.kind != FileKind::Regular || there.size == size);
    if ours {
        return Some(Shadow { kind: there.kind, version: Some(there.version.clone()), ..known });
    }
    // With a version that is not there any more the put meets what is there, and leaves it.
    shadow.version.is_some().then_some(known)
}
