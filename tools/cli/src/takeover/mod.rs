//! Going on with the mount of a daemon that died, or that hands over to a newer one.
//!
//! **Owns** the [`custodian`], a process beside the daemon that keeps its mount; what the daemon gives to it; and the way in
//! which the next daemon asks for it. **Never does** know what is kept: that is [`forebay_fuse::Estate`].
//!
//! **In and out:** a daemon that mounts starts a custodian ([`Custody::begin`]). One that starts asks whether a mount waits
//! ([`is_waiting`]), takes it ([`inherit`]) once the cache directory is its own, and tells the custodian when it serves
//! ([`Custody::begin`] again, with the line to it). If it cannot go on with what waits, it has it let go ([`abandon`]) and
//! mounts anew.

pub(crate) mod custodian;
pub(crate) mod handover;
mod message;

use crate::config::Log;
use crate::failure::Outcome;
use custodian::entrust;
use forebay_fuse::{ESTATE_FDS_MAX, Estate, FuseMount, Inherited, MountSpec, NotTakenOver};
use forebay_types::HumanDuration;
use message::Kind;
pub(crate) use message::Line;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// The custodian's socket in the cache directory.
const SOCKET: &str = "TAKEOVER";
/// How long either end may take to answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
/// How long a daemon that is just dying may take to be gone.
const DEATH_WITHIN: Duration = Duration::from_secs(2);
const DEATH_LOOK: Duration = Duration::from_millis(20);
/// The pause before a custodian that died is replaced.
const REPLACED_AFTER: Duration = Duration::from_secs(1);

/// Whether there is a custodian that keeps something.
pub(crate) fn is_kept(cache_dir: &Path) -> bool {
    Line::to(cache_dir, SOCKET).is_ok()
}

/// Whether a custodian keeps a mount that nobody serves. One whose daemon is just dying is waited for.
pub(crate) fn is_waiting(cache_dir: &Path) -> bool {
    let began = Instant::now();
    let Ok(line) = Line::to(cache_dir, SOCKET) else { return false };
    loop {
        let asked = line.send(Kind::Ask, &[], &[]).and_then(|()| line.receive(Some(ANSWERED_WITHIN)));
        match asked {
            Ok(Some(answer)) if answer.kind == Kind::Waiting => return true,
            Ok(Some(_)) if began.elapsed() < DEATH_WITHIN => std::thread::sleep(DEATH_LOOK),
            _ => return false,
        }
    }
}

/// Has the custodian let the mount go that it keeps: whoever waits for it gets an error.
pub(crate) fn abandon(cache_dir: &Path) {
    let Ok(line) = Line::to(cache_dir, SOCKET) else { return };
    abandon_by(&line);
}

fn abandon_by(line: &Line) {
    // The end of the conversation is the answer: then the descriptors are closed.
    let ended = line.send(Kind::Abandon, &[], &[]).and_then(|()| line.receive(Some(ANSWERED_WITHIN)));
    if !matches!(ended, Ok(None)) {
        tracing::warn!(?ended, "the custodian of the old mount does not let it go");
    }
}

/// A mount that was taken, and the line to whoever keeps it.
pub(crate) struct Taken {
    pub(crate) inherited: Inherited,
    pub(crate) line: Line,
}

/// Takes the mount that waits. If it cannot be gone on with, it is let go, and the log says why.
pub(crate) fn inherit(cache_dir: &Path, spec: &MountSpec) -> Option<Taken> {
    match take(cache_dir, spec) {
        Ok(Ok(taken)) => Some(taken),
        Ok(Err(why)) => {
            tracing::warn!(%why, "the mount of the last daemon cannot be taken over: it is made anew");
            abandon(cache_dir);
            None
        }
        Err(error) => {
            tracing::warn!(%error, "the mount of the last daemon cannot be had: it is made anew");
            abandon(cache_dir);
            None
        }
    }
}

/// When this returns without a mount, the custodian waits for the next who asks.
fn take(cache_dir: &Path, spec: &MountSpec) -> io::Result<Result<Taken, NotTakenOver>> {
    let line = Line::to(cache_dir, SOCKET)?;
    line.send(Kind::Take, &[], &[])?;
    let first = line.expect(Kind::Estate, ANSWERED_WITHIN)?;
    let mut estate = Estate { terms: first.body, fds: first.fds };
    loop {
        match line.receive(Some(ANSWERED_WITHIN))? {
            Some(more) if more.kind == Kind::More && estate.fds.len() <= ESTATE_FDS_MAX => {
                estate.fds.extend(more.fds);
            }
            Some(end) if end.kind == Kind::End => break,
            _ => return Err(io::Error::other("the custodian broke off")),
        }
    }
    Ok(Inherited::accept(estate, spec).map(|inherited| Taken { inherited, line }))
}

/// What became of it, for whoever asks.
#[derive(Clone, Debug)]
pub(crate) struct Takeover {
    /// Somebody keeps the mount, or why nobody does.
    pub(crate) kept: Result<Duration, &'static str>,
    /// The mount is that of a process before this one.
    pub(crate) taken_over: bool,
    /// When this process began to serve, in nanoseconds: no two have it in common.
    pub(crate) began: u64,
}

impl Takeover {
    /// In one word or some.
    pub(crate) fn word(&self) -> String {
        match self.kept {
            Ok(timeout) => format!("within {}", HumanDuration(timeout)),
            Err(why) => format!("off: {why}"),
        }
    }
}

/// How a mount is kept.
#[derive(Clone)]
pub(crate) struct Terms {
    pub(crate) cache_dir: PathBuf,
    pub(crate) timeout: Duration,
    pub(crate) log: Log,
}

/// The daemon's part: somebody keeps its mount. A custodian that dies is replaced.
pub(crate) struct Custody;

impl Custody {
    /// Has a mount kept: by the custodian that kept it until now, or by a new one. Nothing is kept if the mount is none
    /// that another process could go on with.
    pub(crate) fn begin(mount: &Arc<FuseMount>, terms: Terms, line: Option<Line>) -> io::Result<bool> {
        let Some(estate) = mount.estate()? else { return Ok(false) };
        let known = line.filter(|line| match entrust(line, &estate.terms, &estate.fds, terms.timeout) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "the custodian of the mount does not answer: another one takes its place");
                false
            }
        });
        let keeper = match known {
            Some(line) => (line, None),
            None => start(&estate, &terms).map(|(line, child)| (line, Some(child)))?,
        };
        drop(estate);
        let mount = Arc::downgrade(mount);
        std::thread::Builder::new().name("custody".into()).spawn(move || watch(keeper, &mount, &terms))?;
        Ok(true)
    }
}

/// Waits for the end of a custodian, and replaces it as long as there is something to keep.
fn watch(mut keeper: (Line, Option<Child>), mount: &Weak<FuseMount>, terms: &Terms) {
    loop {
        while let Ok(Some(_)) = keeper.0.receive(None) {}
        if let Some(child) = &mut keeper.1 {
            let _ = child.wait();
        }
        // With the mount the custodian goes first, and then we do.
        std::thread::sleep(REPLACED_AFTER);
        let Some(mount) = mount.upgrade().filter(|mount| mount.is_served()) else { return };
        tracing::warn!("the custodian of the mount is gone: another one takes its place");
        let started =
            mount.estate().and_then(|estate| estate.map(|estate| start(&estate, terms)).transpose());
        match started {
            Ok(Some((line, child))) => keeper = (line, Some(child)),
            Ok(None) => return,
            Err(error) => {
                tracing::error!(%error, "nobody keeps the mount: if this daemon dies, it is not taken over");
                return;
            }
        }
    }
}

fn start(estate: &Estate, terms: &Terms) -> io::Result<(Line, Child)> {
    let (line, theirs) = Line::pair()?;
    let format = match terms.log.format {
        crate::config::LogFormat::Text => "text",
        crate::config::LogFormat::Json => "json",
    };
    // By what the kernel knows of us: the file may have been replaced.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("forebay").arg("custodian").arg(&terms.cache_dir);
    command.args(["--log", &terms.log.filter, "--log-format", format]);
    let child = command.current_dir("/").stdin(Stdio::from(theirs)).stdout(Stdio::null()).spawn()?;
    drop(command);
    entrust(&line, &estate.terms, &estate.fds, terms.timeout)?;
    Ok((line, child))
}

/// What `forebay custodian` does.
///
/// # Errors
/// It cannot begin.
pub(crate) fn keep(dir: &Path, log: &Log) -> Outcome<()> {
    custodian::run(dir, log)
}

/// Now, in nanoseconds.
pub(crate) fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
