//! The mount itself: made anew or gone on with, kept for another process, and what begins to run behind it.

use crate::config::Config;
use crate::failure::{Failure, Outcome};
use crate::left_behind;
use crate::plan::Plan;
use crate::takeover::{self, Custody, Line, Takeover, Terms};
use forebay_fuse::{
    ChannelKind, FuseMount, Inherited, MountSpec as FuseSpec, Roll, probe_channel, probe_passthrough,
};
use forebay_shard::Shards;
use forebay_store::Store;
use forebay_vfs::Vfs;
use forebay_worker::{Persister, ReadyPersister};
use std::path::Path;
use std::sync::Arc;

/// What is mounted where.
pub(crate) fn spec_of(plan: &Plan) -> FuseSpec {
    FuseSpec { source: plan.shown_source().to_owned(), dir: plan.dir.clone(), options: plan.fuse.clone() }
}

/// Tries the real thing, and says once why not.
pub(super) fn may_pass_through(tier: &Path) -> bool {
    match probe_passthrough(tier) {
        Ok(()) => true,
        Err(reason) => {
            tracing::warn!(%reason, "files are served through the daemon, not by the kernel itself");
            false
        }
    }
}

/// Where what is open is entered for another process, if one could go on with the mount.
pub(super) fn roll_for(plan: &Plan, inherited: Option<&Inherited>) -> Option<Arc<Roll>> {
    if let Some(inherited) = inherited {
        return Some(inherited.roll());
    }
    let channel = probe_channel(plan.fuse.channel.unwrap_or_default());
    if plan.takeover_timeout.is_zero() || channel.kind != ChannelKind::DevFuse {
        return None;
    }
    Roll::new()
        .inspect_err(|error| tracing::warn!(%error, "no other daemon can take this mount over"))
        .ok()
        .map(Arc::new)
}

/// What runs behind the requests, and before the first of them.
pub(super) struct Background<'p> {
    pub(super) shards: &'p Shards,
    pub(super) store: &'p Arc<Store>,
    pub(super) ready: Option<ReadyPersister>,
    pub(super) begun: Option<Outcome<Arc<Persister>>>,
}

impl Background<'_> {
    fn begin(&mut self) {
        let Some(ready) = self.ready.take() else { return };
        let housekeeping = left_behind::begin_housekeeping(self.shards, self.store);
        self.begun = Some(housekeeping.map(|()| Arc::new(ready.start())));
    }
}

pub(super) fn mount(
    plan: &Plan,
    vfs: &Arc<Vfs>,
    background: &mut Background<'_>,
    (inherited, roll): (Option<Inherited>, Option<Arc<Roll>>),
) -> Outcome<Arc<FuseMount>> {
    let (vfs, spec, shards) = (Arc::clone(vfs), spec_of(plan), background.shards.handles());
    let mount = match inherited {
        Some(inherited) => FuseMount::take_over(vfs, shards, &spec, inherited, || background.begin()),
        None => {
            background.begin();
            FuseMount::start(vfs, shards, &spec, roll)
        }
    };
    mount.map(Arc::new).map_err(Failure::new)
}

/// Has somebody keep the mount. Without one it is served all the same.
pub(super) fn keep_mount(
    config: &Config,
    plan: &Plan,
    mount: &Arc<FuseMount>,
    line: Option<Line>,
    taken_over: bool,
) -> Takeover {
    let timeout = plan.takeover_timeout;
    let terms = Terms { cache_dir: plan.cache_dir.clone(), timeout, log: config.log.clone() };
    let kept = match timeout.is_zero() {
        true => Err("fuse.takeover_timeout is 0"),
        false => match Custody::begin(mount, terms, line) {
            Ok(true) => Ok(timeout),
            Ok(false) if mount.channel().kind == ChannelKind::DevFuse => {
                Err("this kernel does not send requests again (Linux 6.9)")
            }
            Ok(false) => Err("only the channel dev-fuse can be taken over"),
            Err(error) => {
                tracing::warn!(%error, "no custodian could be started: no other daemon can take this mount over");
                Err("no custodian could be started")
            }
        },
    };
    if let Err(why) = kept {
        tracing::info!(why, "no other daemon can take this mount over");
    }
    Takeover { kept, taken_over, began: takeover::now() }
}
