//! Messages between a daemon and the custodian of its mount: a kind, some bytes and descriptors.
//!
//! The socket keeps messages apart (SOCK_SEQPACKET). More descriptors than one message may carry follow in others. The
//! numbers of the kinds are frozen: the two ends may be of different versions.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, recvmsg,
    sendmsg, socket_with, socketpair,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// Descriptors of one message.
const FDS_MAX: usize = 64;
/// The longest text of one message.
const BODY_MAX: usize = 32 << 10;
/// How long the other end may take to take a message.
const SENT_WITHIN: Duration = Duration::from_secs(5);
/// Connections that may wait to be taken.
const BACKLOG: i32 = 4;

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Terms and the first descriptors of a mount.
    Estate = 1,
    /// Further descriptors of it.
    More = 2,
    /// It is served from here on; with the milliseconds that it is to wait for somebody else afterwards.
    Served = 3,
    /// The message before this one was understood.
    Understood = 4,
    /// Whether nobody serves.
    Ask = 5,
    /// Nobody does.
    Waiting = 6,
    /// Somebody does.
    Owned = 7,
    /// Hand the mount over.
    Take = 8,
    /// That was all of it.
    End = 9,
    /// Let the mount go.
    Abandon = 10,
}

impl Kind {
    const ALL: [Self; 10] = [
        Self::Estate,
        Self::More,
        Self::Served,
        Self::Understood,
        Self::Ask,
        Self::Waiting,
        Self::Owned,
        Self::Take,
        Self::End,
        Self::Abandon,
    ];

    fn of(number: u8) -> io::Result<Self> {
        let known = Self::ALL.into_iter().find(|kind| *kind as u8 == number);
        known.ok_or_else(|| io::Error::other(format!("a message of kind {number} is not known")))
    }
}

/// A message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) body: Vec<u8>,
    pub(super) fds: Vec<OwnedFd>,
}

/// One end of a conversation.
#[derive(Debug)]
pub(crate) struct Line(OwnedFd);

impl Line {
    /// Two ends.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self::over(ours)?, theirs))
    }

    /// This end.
    pub(super) fn over(fd: OwnedFd) -> io::Result<Self> {
        sockopt::set_socket_timeout(&fd, Timeout::Send, Some(SENT_WITHIN))?;
        Ok(Self(fd))
    }

    /// The end of somebody who listens in `dir`.
    pub(super) fn to(dir: &Path, name: &str) -> io::Result<Self> {
        let fd = socket()?;
        let (held, path) = short(dir, name)?;
        connect(&fd, &SocketAddrUnix::new(path)?)?;
        drop(held);
        Self::over(fd)
    }

    pub(super) fn send(&self, kind: Kind, body: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::Error::other("too many descriptors for one message"));
        }
        let kind = [kind as u8];
        let parts = [IoSlice::new(&kind), IoSlice::new(body)];
        sendmsg(&self.0, &parts, &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Sends a mount: what the terms are, and all descriptors.
    pub(super) fn send_estate(&self, terms: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        let mut chunks = fds.chunks(FDS_MAX);
        self.send(Kind::Estate, terms, chunks.next().unwrap_or_default())?;
        chunks.try_for_each(|chunk| self.send(Kind::More, &[], chunk))
    }

    /// Waits for a message, at most so long; `None`: the other end is gone.
    pub(super) fn receive(&self, within: Option<Duration>) -> io::Result<Option<Message>> {
        if !wait(&mut [PollFd::new(&self.0, PollFlags::IN)], within)? {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut bytes = vec![0; 1 + BODY_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let got = match recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags) {
            Ok(got) => got,
            Err(Errno::CONNRESET) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let fds = ancillary.drain().flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => fds.collect::<Vec<_>>(),
            _ => Vec::new(),
        });
        let fds = fds.collect();
        bytes.truncate(got.bytes);
        let Some((kind, body)) = bytes.split_first() else { return Ok(None) };
        Ok(Some(Message { kind: Kind::of(*kind)?, body: body.to_vec(), fds }))
    }

    /// A message of this kind, or why there is none.
    pub(super) fn expect(&self, kind: Kind, within: Duration) -> io::Result<Message> {
        match self.receive(Some(within))? {
            Some(message) if message.kind == kind => Ok(message),
            Some(other) => Err(io::Error::other(format!("{kind:?} was expected and not {:?}", other.kind))),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// The user at the other end.
    pub(super) fn peer(&self) -> io::Result<u32> {
        Ok(sockopt::socket_peercred(&self.0)?.uid.as_raw())
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Listens in `dir`; only this user may connect.
pub(super) fn listen_in(dir: &Path, name: &str) -> io::Result<OwnedFd> {
    let fd = socket()?;
    match std::fs::remove_file(dir.join(name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (held, path) = short(dir, name)?;
    bind(&fd, &SocketAddrUnix::new(&path)?)?;
    rustix::fs::chmod(&path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)?;
    drop(held);
    listen(&fd, BACKLOG)?;
    Ok(fd)
}

fn socket() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// A path of a socket has at most 107 bytes, and a cache directory's may be longer: it is reached by a descriptor.
fn short(dir: &Path, name: &str) -> io::Result<(OwnedFd, String)> {
    let held = OwnedFd::from(std::fs::File::open(dir)?);
    let path = format!("/proc/self/fd/{}/{name}", held.as_raw_fd());
    Ok((held, path))
}

/// Waits until one of them has something to say; `false`: not within that time.
pub(super) fn wait(fds: &mut [PollFd<'_>], within: Option<Duration>) -> io::Result<bool> {
    let within = within.map(|within| Timespec {
        tv_sec: i64::try_from(within.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: within.subsec_nanos().into(),
    });
    match poll(fds, within.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        // A signal: whoever waits looks again.
        Err(Errno::INTR) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn descriptors_arrive_however_many_there_are() {
        let (ours, theirs) = Line::pair().unwrap();
        let theirs = Line::over(theirs).unwrap();
        let fds: Vec<_> = (0..FDS_MAX + 3).map(|_| ours.0.try_clone().unwrap()).collect();
        ours.send_estate(b"terms", &fds).unwrap();
        let first = theirs.expect(Kind::Estate, SOON).unwrap();
        assert_eq!((&first.body[..], first.fds.len()), (&b"terms"[..], FDS_MAX));
        assert_eq!(theirs.expect(Kind::More, SOON).unwrap().fds.len(), 3);
        assert!(theirs.expect(Kind::End, Duration::from_millis(10)).is_err());
        drop((ours, fds));
        drop(first);
        assert!(theirs.receive(Some(SOON)).unwrap().is_none());
    }

    #[test]
    fn a_socket_is_reached_however_long_its_path_is() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("x".repeat(200));
        std::fs::create_dir(&dir).unwrap();
        assert!(Line::to(&dir, "S").is_err());
        let listener = listen_in(&dir, "S").unwrap();
        let visitor = Line::to(&dir, "S").unwrap();
        let guest = Line::over(rustix::net::accept(&listener).unwrap()).unwrap();
        assert_eq!(guest.peer().unwrap(), rustix::process::geteuid().as_raw());
        visitor.send(Kind::Ask, &[], &[]).unwrap();
        assert_eq!(guest.expect(Kind::Ask, SOON).unwrap().kind, Kind::Ask);
        drop(listen_in(&dir, "S").unwrap());
    }
}
