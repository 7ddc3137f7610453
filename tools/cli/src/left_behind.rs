//! What the last run left behind is put right, before anybody can see it.
//!
//! **Owns** the order: what the last run was carrying to the under file systems is looked into; what the store holds and the name space does not know goes; files that were open take their
//! size from their extents; after a fall of the whole machine every record is held against its bytes. Only then does
//! the housekeeping begin. **Never does** any of it itself: store, name space and vfs each know their part.

use crate::failure::{Failure, Outcome};
use forebay_namespace::{Namespace, Recovery};
use forebay_shard::Shards;
use forebay_store::{LastExit, RecoveryReport, Store};
use forebay_types::{ExtentId, Ino};
use forebay_vfs::Vfs;
use forebay_worker::ReadyPersister;
use std::collections::HashSet;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// Whether the machine itself went down under a tier: then only what was synced is there.
pub(crate) fn machine_went_down(report: &RecoveryReport) -> bool {
    report.tiers.iter().any(|(_, exit)| matches!(exit, Some(LastExit::Unclean)))
}

/// How long it may take to find out what became of all that was being carried.
const BEGUN_WITHIN: Duration = Duration::from_secs(300);
/// After how long whoever waits for the mount is told what it waits for.
const TOLD_AFTER: Duration = Duration::from_secs(10);

/// Finds out how everything ended that the last run was carrying when it died.
///
/// # Errors
/// An under file system that does not answer: what is where is not known then, and nothing may be served.
pub(crate) async fn settle_begun(persister: &ReadyPersister) -> Outcome<()> {
    let failure = |why: String| {
        let what = "cannot find out what became of the files that the last run was carrying";
        Failure::new(format!("{what}: {why}"))
            .remedy("make sure that the under file system can be reached, and start again: nothing is lost")
    };
    let settled = tokio::time::timeout(BEGUN_WITHIN, told_if_slow(persister.settle_begun())).await;
    let begun = settled.map_err(|_| failure("it takes too long".to_owned()))?.map_err(failure)?;
    if begun > 0 {
        tracing::info!(begun, "what the last run was carrying is settled");
    }
    Ok(())
}

/// Waits for `settling`; a start that takes long says what it waits for.
async fn told_if_slow<T>(settling: impl Future<Output = T>) -> T {
    let mut settling = pin!(settling);
    if let Ok(settled) = tokio::time::timeout(TOLD_AFTER, &mut settling).await {
        return settled;
    }
    tracing::warn!(
        at_most = ?BEGUN_WITHIN,
        "the start waits for the under file system to tell what became of the files that the last run was carrying"
    );
    settling.await
}

/// Settles everything that is here, but for what lost its last name and is `open` all the same.
///
/// # Errors
/// The first step that failed: nothing may be served then.
pub(crate) async fn settle(
    shards: &Shards,
    (store, went_down): (&Arc<Store>, bool),
    names: &Arc<Namespace>,
    vfs: &Arc<Vfs>,
    (mut recovery, open): (Recovery, &HashSet<Ino>),
) -> Outcome<()> {
    let known = known_extents(names, &recovery).await?;
    // Whoever has them open in the kernel has them open still.
    recovery.orphans.retain(|(ino, _)| !open.contains(ino));
    let swept = store.sweep(|id| known.contains(&id));
    let vfs = Arc::clone(vfs);
    let settled = shards.handles()[0].call(move || async move {
        vfs.recover(recovery).await?;
        if went_down { vfs.recover_after_power_loss().await } else { Ok(0) }
    });
    let settled = settled.await.map_err(Failure::new)?;
    let corrected = settled.map_err(|error| Failure::new(error.during("settle what the last run left")))?;
    tracing::info!(went_down, corrected, swept, "what the last run left is settled");
    confirm(store).await
}

/// From here on the end of this run counts. If this start had ended before, the next one would find that the machine
/// went down, as this one did.
async fn confirm(store: &Arc<Store>) -> Outcome<()> {
    let store = Arc::clone(store);
    let confirmed = tokio::task::spawn_blocking(move || store.confirm_start());
    confirmed.await.map_err(Failure::new)?.map_err(Failure::new)
}

/// The extents that the name space speaks of; any other that was written here belongs to a file that never came to be.
async fn known_extents(names: &Arc<Namespace>, recovery: &Recovery) -> Outcome<HashSet<ExtentId>> {
    let asked = Arc::clone(names);
    let authored = tokio::task::spawn_blocking(move || asked.authored()).await.map_err(Failure::new)?;
    let authored =
        authored.map_err(|error| Failure::new(error.during("read which files have bytes here")))?;
    let open = recovery.write_open.iter().filter_map(|location| location.extent);
    let orphans = recovery.orphans.iter().filter_map(|(_, extent)| *extent);
    Ok(authored.iter().filter_map(|location| location.extent).chain(open).chain(orphans).collect())
}

/// Begins the store's endless housekeeping, on the shard that requests reach last.
///
/// # Errors
/// If the shard does not take it.
pub(crate) fn begin_housekeeping(shards: &Shards, store: &Arc<Store>) -> Outcome<()> {
    let store = Arc::clone(store);
    let last = shards.handles().last().expect("a runtime has a shard");
    last.try_spawn(move || store.tend())
        .map_err(|_| Failure::new("the store's housekeeping could not be started"))
}
