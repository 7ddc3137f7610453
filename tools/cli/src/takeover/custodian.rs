//! The custodian: the process that keeps a mount while nobody serves it.
//!
//! **Owns** the descriptors of one mount, given to it by the daemon that serves it, and the socket `TAKEOVER` of the cache
//! directory by which the next daemon asks for them. **Never does** read a request, and never looks into what it keeps.
//!
//! **In and out:** its standard input is its end of the daemon's [`Line`]. When that end hangs up the daemon is dead: from
//! then on a daemon that asks gets everything and is the new one. If none has served within the time given, the custodian
//! ends; with its descriptors the last of the connection are closed, and the kernel fails whoever waits. When the mount
//! goes, the kernel says so on the device, and the custodian ends too.
//!
//! **Why a process:** a descriptor lives as long as a process that has it. It does next to nothing, so that next to nothing
//! can end it, and runs in a session of its own, so that what ends the daemon's group does not reach it.

use super::message::{Kind, Line, Message, listen_in, wait};
use super::{ANSWERED_WITHIN, SOCKET};
use crate::config::Log;
use crate::failure::{Failure, Outcome};
use crate::logging;
use rustix::event::{PollFd, PollFlags};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Whoever asks is heard one after the other; these may wait.
const VISITORS_MAX: usize = 8;
/// The kernel is to end something else first: this one takes no memory to speak of.
const OOM_SCORE: &str = "-900";
/// What `ps` and the log of a service manager call it; by the link it was started from it would be "exe".
const NAME: &str = "forebay";

/// Keeps what comes on standard input until somebody takes it, or nobody does.
///
/// # Errors
/// It cannot begin.
pub(crate) fn run(dir: &Path, log: &Log) -> Outcome<()> {
    logging::start(log)?;
    // Only a leader of a group cannot leave it, and nobody sends that group signals then.
    let _ = rustix::process::setsid();
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    let _ = std::fs::write("/proc/self/comm", NAME);
    let custodian = Custodian::begin(dir).map_err(|error| {
        Failure::new(format!("cannot keep the mount of another process: {error}"))
            .remedy("this command is for the daemon alone")
    })?;
    custodian.keep();
    Ok(())
}

/// What is kept.
#[derive(Default)]
struct Kept {
    terms: Vec<u8>,
    fds: Vec<OwnedFd>,
}

struct Custodian {
    dir: PathBuf,
    listener: OwnedFd,
    kept: Kept,
    /// What is just being handed in.
    coming: Kept,
    owner: Option<Line>,
    visitors: Vec<Line>,
    timeout: Duration,
    /// Until then somebody must serve.
    deadline: Option<Instant>,
    /// Which file our socket is.
    socket: Option<u64>,
}

/// Why it is over.
enum Over {
    Unmounted,
    NobodyCame,
    Abandoned,
}

impl Custodian {
    fn begin(dir: &Path) -> io::Result<Self> {
        let owner = Line::over(io::stdin().as_fd().try_clone_to_owned()?)?;
        owner.peer()?;
        let listener = listen_in(dir, SOCKET)?;
        Ok(Self {
            dir: dir.to_owned(),
            listener,
            socket: number_of(&dir.join(SOCKET)),
            kept: Kept::default(),
            coming: Kept::default(),
            owner: Some(owner),
            visitors: Vec::new(),
            timeout: Duration::ZERO,
            deadline: None,
        })
    }

    fn keep(mut self) {
        let over = loop {
            if let Some(over) = self.step() {
                break over;
            }
        };
        match over {
            Over::Unmounted => tracing::debug!("the mount is gone, and with it what was kept of it"),
            Over::Abandoned => tracing::info!("the mount that was kept is let go: it is made anew"),
            Over::NobodyCame => tracing::error!(
                timeout = ?self.timeout,
                "the daemon died and no other took its mount over: whoever uses the mount gets errors from now on"
            ),
        }
        // The next custodian may have its own there already.
        let socket = self.dir.join(SOCKET);
        if self.socket.is_some() && number_of(&socket) == self.socket {
            let _ = std::fs::remove_file(socket);
        }
    }

    /// Waits for something to happen, and sees to it.
    fn step(&mut self) -> Option<Over> {
        self.wait_for_something();
        self.hear_owner();
        if self.is_unmounted() {
            return Some(Over::Unmounted);
        }
        self.let_in();
        if self.hear_visitors() {
            return Some(Over::Abandoned);
        }
        let late = self.deadline.is_some_and(|deadline| deadline <= Instant::now());
        (late && self.owner.is_none()).then_some(Over::NobodyCame)
    }

    fn wait_for_something(&self) {
        let mut fds = vec![PollFd::new(&self.listener, PollFlags::IN)];
        fds.extend(self.owner.iter().map(|line| PollFd::new(line, PollFlags::IN)));
        fds.extend(self.visitors.iter().map(|line| PollFd::new(line, PollFlags::IN)));
        // Nothing is wanted of the device but that it tells of its end.
        fds.extend(self.kept.fds.first().map(|device| PollFd::new(device, PollFlags::empty())));
        let deadline = self.deadline.filter(|_| self.owner.is_none());
        let within = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if let Err(error) = wait(&mut fds, within) {
            tracing::error!(%error, "the custodian cannot wait");
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    fn is_unmounted(&self) -> bool {
        let Some(device) = self.kept.fds.first() else { return false };
        let mut fds = [PollFd::new(device, PollFlags::empty())];
        wait(&mut fds, Some(Duration::ZERO)).unwrap_or(false)
            && fds[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
    }

    /// All that the owner has said by now; if it is gone, the time begins to run.
    fn hear_owner(&mut self) {
        while let Some(owner) = &self.owner {
            match owner.receive(Some(Duration::ZERO)) {
                Ok(Some(message)) => self.obey(message),
                Err(error) if is_silent(&error) => return,
                Ok(None) | Err(_) => {
                    self.owner = None;
                    self.coming = Kept::default();
                    self.deadline.get_or_insert(Instant::now() + self.timeout);
                    tracing::warn!(timeout = ?self.timeout, "the daemon is gone; its mount waits for another one");
                }
            }
        }
    }

    fn obey(&mut self, message: Message) {
        match message.kind {
            Kind::Estate => self.coming = Kept { terms: message.body, fds: message.fds },
            Kind::More => self.coming.fds.extend(message.fds),
            Kind::Served => {
                let millis = <[u8; 8]>::try_from(&message.body[..]).map_or(0, u64::from_le_bytes);
                self.timeout = Duration::from_millis(millis);
                self.deadline = None;
                if !self.coming.fds.is_empty() {
                    self.kept = std::mem::take(&mut self.coming);
                }
                self.tell_owner(Kind::Understood);
            }
            other => tracing::warn!(?other, "the daemon says what only the next one could"),
        }
    }

    fn tell_owner(&self, kind: Kind) {
        if let Some(Err(error)) = self.owner.as_ref().map(|owner| owner.send(kind, &[], &[])) {
            tracing::warn!(%error, "the daemon cannot be answered");
        }
    }

    fn let_in(&mut self) {
        let mut fds = [PollFd::new(&self.listener, PollFlags::IN)];
        if self.visitors.len() >= VISITORS_MAX || !wait(&mut fds, Some(Duration::ZERO)).unwrap_or(false) {
            return;
        }
        let came = rustix::net::accept_with(&self.listener, rustix::net::SocketFlags::CLOEXEC);
        let came = came.map_err(io::Error::from).and_then(Line::over);
        let may =
            |line: &Line| line.peer().is_ok_and(|uid| uid == 0 || uid == rustix::process::geteuid().as_raw());
        self.visitors.extend(came.ok().filter(may));
    }

    /// Whether one of them has the mount let go.
    fn hear_visitors(&mut self) -> bool {
        for visitor in std::mem::take(&mut self.visitors) {
            match visitor.receive(Some(Duration::ZERO)) {
                Ok(Some(Message { kind: Kind::Abandon, .. })) if self.owner.is_none() => return true,
                Ok(Some(message)) => self.answer(visitor, message.kind),
                Err(error) if is_silent(&error) => self.visitors.push(visitor),
                Ok(None) | Err(_) => {}
            }
        }
        false
    }

    fn answer(&mut self, visitor: Line, asked: Kind) {
        let waiting = self.owner.is_none() && !self.kept.fds.is_empty();
        let answered = match asked {
            Kind::Take if waiting => self.hand_over(&visitor),
            _ => visitor.send(if waiting { Kind::Waiting } else { Kind::Owned }, &[], &[]),
        };
        match answered {
            Ok(()) if asked == Kind::Take && waiting => self.owner = Some(visitor),
            Ok(()) => self.visitors.push(visitor),
            Err(error) => tracing::warn!(%error, "whoever asked cannot be answered"),
        }
    }

    /// Whoever takes it is the owner. What is kept stays kept, for the case that he dies too.
    fn hand_over(&self, to: &Line) -> io::Result<()> {
        to.send_estate(&self.kept.terms, &self.kept.fds)?;
        to.send(Kind::End, &[], &[])
    }
}

/// Tells one file of this name from another.
fn number_of(socket: &Path) -> Option<u64> {
    Some(std::fs::symlink_metadata(socket).ok()?.ino())
}

fn is_silent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

/// Waits until the process that was started as a custodian keeps what it was given.
///
/// # Errors
/// It does not.
pub(super) fn entrust(line: &Line, terms: &[u8], fds: &[OwnedFd], timeout: Duration) -> io::Result<()> {
    line.send_estate(terms, fds)?;
    let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    line.send(Kind::Served, &millis.to_le_bytes(), &[])?;
    line.expect(Kind::Understood, ANSWERED_WITHIN).map(drop)
}
