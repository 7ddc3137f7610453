//! When an earlier task's end is not known: what the UFS has at the key is asked, and the shadow says it from
//! then on.
//!
//! Something of the length that was begun to be put is taken for ours: the put had reached the UFS when the
//! connection or the daemon died. Anything else that was not there before is somebody else's, and met as a
//! conflict.

use crate::record::{Dentry, Shadow, Slot};
use crate::txn::{OpResult, Txn};
use forebay_types::{FileKind, UfsAttr};

pub(crate) fn reconcile(txn: &mut Txn<'_>, slot: &Slot, there: Option<&UfsAttr>) -> OpResult<()> {
    let Some(dentry) = txn.dentry(slot.0, &slot.1)? else { return Ok(()) };
    let Some(shadow) = dentry.shadow.clone() else { return Ok(()) };
    let Some(attempt) = shadow.attempt else { return Ok(()) };
    let resolved = there.and_then(|there| resolve(&shadow, attempt, there));
    txn.set_name(slot.0, &slot.1, Dentry { shadow: resolved, ..dentry }, true);
    Ok(())
}

/// What the shadow is to say, given what is there.
fn resolve(shadow: &Shadow, attempt: u64, there: &UfsAttr) -> Option<Shadow> {
    let known = Shadow { attempt: None, ..shadow.clone() };
    if shadow.version.as_ref() == Some(&there.version) {
        return Some(known);
    }
    let ours =
        there.kind != FileKind::Directory && (there.kind != FileKind::Regular || there.size == attempt);
    if ours {
        return Some(Shadow { kind: there.kind, version: Some(there.version.clone()), ..known });
    }
    // With a version that is not there any more the put meets what is there, and leaves it.
    shadow.version.is_some().then_some(known)
}
