//! The life of a daemon: what is started in which order, and how it stops.
//!
//! **Owns** the order. Everything that can refuse without leaving a trace is asked first (settings, host, mount
//! point, under file system); then the cache directory is claimed; then the parts start from the bottom: shards,
//! store, worker and client, name space, file system, mount. The mount is last, so nobody sees a tree that is not
//! whole. A start that fails takes back what it made, in the opposite order.
//!
//! **Never does** any of the parts' work, and never unmounts lazily: a passthrough writer would write on into a
//! file nobody waits for.
//!
//! **Why this shape:** two runtimes meet here and nowhere else. Shards carry files and requests; a small tokio
//! runtime carries what talks to the world (under file systems, the admin socket, signals).

use crate::admin;
use crate::asked::AskedFile;
use crate::cachedir::CacheDir;
use crate::config::{Config, Mount};
use crate::failure::{Failure, Outcome};
use crate::fdlimit;
use crate::logging::LogSwitch;
use crate::mounts::Reached;
use crate::parts::{self, Parts};
use crate::plan::{self, Plan};
use crate::settings::{self, Settings};
use crate::takeover::{self, Taken};
use crate::tiers::TierDirs;
use forebay_fuse::SessionEnd;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Threads for what talks to the world; file data does not pass through them except on its way from a store.
const CONTROL_THREADS: usize = 2;
/// How long the control runtime may take to drop its tasks at the end.
const CONTROL_STOP: Duration = Duration::from_secs(2);
/// The status of an exit forced by a second signal, as a shell counts SIGINT.
const FORCED_EXIT: i32 = 130;

/// Runs a daemon to its end.
///
/// # Errors
/// It did not start, or it could not stop in order; what was acknowledged is safe in both cases.
pub(crate) fn run(config: &Config, plan: &Plan, log: LogSwitch) -> Outcome<()> {
    fdlimit::raise_and_tell();
    let control = control_runtime()?;
    let outcome = control.block_on(start_and_serve(config, plan, log));
    control.shutdown_timeout(CONTROL_STOP);
    outcome
}

fn control_runtime() -> Outcome<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(CONTROL_THREADS).thread_name("control").enable_all();
    builder.build().map_err(|error| {
        Failure::new(format!("cannot start the control threads: {error}"))
            .remedy("raise the limit on processes")
    })
}

async fn start_and_serve(config: &Config, plan: &Plan, log: LogSwitch) -> Outcome<()> {
    let signals = Signals::listen()?;
    let mut reached = Vec::new();
    for planned in &plan.mounts {
        reached.push(Reached::of(planned.clone()).await?);
    }
    settings::try_out(config).await?;
    let cache = CacheDir::claim(&plan.cache_dir, &plan.node, plan.claim())?;
    let tiers = match TierDirs::claim(plan, &cache) {
        Ok(tiers) => tiers,
        Err(failure) => {
            cache.abandon();
            return Err(failure);
        }
    };
    let taken = match take_over(plan).await {
        Ok(taken) => taken,
        Err(failure) => {
            tiers.abandon();
            cache.abandon();
            return Err(failure);
        }
    };
    match start(config, plan, (&cache, &tiers), reached, taken).await {
        Ok(parts) => serve(config, plan, parts, log, signals).await,
        Err(failure) => {
            tiers.abandon();
            cache.abandon();
            Err(failure)
        }
    }
}

/// The mount that waits for us. If it cannot be gone on with it is taken away, as that of a daemon that died without
/// anybody who kept it.
async fn take_over(plan: &Plan) -> Outcome<Option<Taken>> {
    if !plan.takes_over {
        return Ok(None);
    }
    let (cache_dir, spec) = (plan.cache_dir.clone(), parts::spec_of(plan));
    let taken = tokio::task::spawn_blocking(move || match takeover::inherit(&cache_dir, &spec) {
        Some(taken) => Ok(Some(taken)),
        None => plan::mount_point(&spec.dir, &spec.source).map(|_| None),
    });
    taken.await.map_err(Failure::new)?
}

async fn start(
    config: &Config,
    plan: &Plan,
    dirs: (&CacheDir, &TierDirs),
    mut reached: Vec<Reached>,
    taken: Option<Taken>,
) -> Outcome<Parts> {
    let asked = Arc::new(AskedFile::open(&plan.cache_dir)?);
    for mount in asked.now().mounts {
        if plan.mounts.iter().any(|planned| planned.settings.at == mount.at) {
            tracing::warn!(
                at = mount.at,
                "the configuration has a mount here; the one that was added is left out"
            );
            continue;
        }
        reached.push(reach_again(&mount).await?);
    }
    // The one at the root first, and each before those below it.
    reached.sort_by(|a, b| a.planned.settings.at.cmp(&b.planned.settings.at));
    Parts::start(config, plan, dirs, (asked, reached), taken).await
}

/// Reaches what was added while a daemon before this one ran.
async fn reach_again(mount: &Mount) -> Outcome<Reached> {
    let reached = match Plan::check_mount(mount) {
        Ok(planned) => Reached::of(planned).await,
        Err(failure) => Err(failure),
    };
    reached.map_err(|failure| {
        let (cause, remedy) = failure.into_parts();
        let at = &mount.at;
        Failure::new(format!("the mount at {at}, added with `forebay mount add`, cannot be had: {cause}"))
            .remedy(format!(
                "{}; or take its table out of the file ASKED in the cache directory",
                remedy.unwrap_or_else(|| "make it reachable again".to_owned())
            ))
    })
}

async fn serve(
    config: &Config,
    plan: &Plan,
    parts: Parts,
    log: LogSwitch,
    mut signals: Signals,
) -> Outcome<()> {
    let doors = match Doors::open(config, plan, &parts, log).await {
        Ok(doors) => doors,
        Err(failure) => {
            parts.stop(Duration::ZERO).await?;
            return Err(failure);
        }
    };
    say_ready(plan, &parts);
    let end = tokio::select! {
        end = parts.mount.ended() => Some(end),
        name = signals.next() => {
            tracing::info!(signal = name, grace = ?doors.settings.stop_grace(), "stopping");
            None
        }
    };
    tokio::spawn(async move {
        let name = signals.next().await;
        tracing::error!(
            signal = name,
            "told twice to stop: leaving at once; the next start settles what was open"
        );
        std::process::exit(FORCED_EXIT);
    });
    let grace = doors.settings.stop_grace();
    drop(doors);
    parts.stop(grace).await?;
    match end {
        Some(SessionEnd::Broken(why)) => {
            Err(Failure::new(format!("the connection to the kernel broke: {why}")).remedy("start it again"))
        }
        Some(SessionEnd::Unmounted) | None => Ok(()),
    }
}

/// What a running daemon can be asked through, besides its mount.
struct Doors {
    _admin: admin::Server,
    settings: Arc<Settings>,
}

impl Doors {
    async fn open(config: &Config, plan: &Plan, parts: &Parts, log: LogSwitch) -> Outcome<Self> {
        let settings = Arc::new(Settings::start(config.clone(), parts.hearers(log)).await?);
        let service = parts.service(config, plan, &settings);
        let admin = admin::Server::start(parts.mount.dir(), service).map_err(Failure::new)?;
        Ok(Self { _admin: admin, settings })
    }
}

/// One line for whoever waits, and word to the service manager if there is one.
fn say_ready(plan: &Plan, parts: &Parts) {
    let how = if parts.passthrough { "passthrough" } else { "cached" };
    let dir = parts.mount.dir().display();
    let line =
        format!("ready {} on {dir} (cache {}, {how})\n", plan.shown_source(), plan.cache_dir.display());
    let mut out = std::io::stdout().lock();
    // Whoever started us may have gone away; the mount serves all the same.
    if let Err(error) = out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
        tracing::debug!(%error, "nobody reads standard output");
    }
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::debug!(%error, "no service manager was told");
    }
}

/// What asks a daemon to stop.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> Outcome<Self> {
        let listen =
            |kind| signal(kind).map_err(|error| Failure::new(format!("cannot listen for signals: {error}")));
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
