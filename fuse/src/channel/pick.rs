//! Which channel a mount gets, and why.

use super::dev_fuse::DevFuse;
use super::fuser::FuserChannel;
use super::handshake::{repeat, shake_hands};
use super::serving::Serving;
use super::trial::trial;
use super::uring::{self, Uring};
use super::{Agreed, Channel, Granted, Wish};
use crate::front::Front;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::str::FromStr;
use std::sync::Arc;

/// The switch of the kernel's module; only kernels that could have it.
const SWITCH: &str = "/sys/module/fuse/parameters/enable_uring";

/// Which channel is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelChoice {
    /// io_uring where the kernel offers it, `/dev/fuse` otherwise.
    #[default]
    Auto,
    /// This one or none.
    Only(ChannelKind),
}

/// A way to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelKind {
    /// FUSE over io_uring (Linux 6.14).
    Uring,
    /// Our own reader of `/dev/fuse`.
    DevFuse,
    /// The `fuser` crate's.
    Fuser,
}

/// Which channel it is, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picked {
    /// The channel.
    pub kind: ChannelKind,
    /// The reason, in words.
    pub why: String,
}

/// Not the name of a channel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no channel; write auto, uring, dev-fuse or fuser")]
pub struct BadChannel(pub String);

impl ChannelKind {
    /// The name in settings and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::DevFuse => "dev-fuse",
            Self::Fuser => "fuser",
        }
    }
}

impl fmt::Display for ChannelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ChannelChoice {
    type Err = BadChannel;

    fn from_str(text: &str) -> Result<Self, BadChannel> {
        let kinds = [ChannelKind::Uring, ChannelKind::DevFuse, ChannelKind::Fuser];
        match text {
            "auto" => Ok(Self::Auto),
            _ => kinds
                .into_iter()
                .find(|kind| kind.name() == text)
                .map(Self::Only)
                .ok_or_else(|| BadChannel(text.to_owned())),
        }
    }
}

impl ChannelChoice {
    /// The one channel that was asked for, if there is no choice.
    fn only(self) -> Option<ChannelKind> {
        match self {
            Self::Auto => None,
            Self::Only(kind) => Some(kind),
        }
    }
}

/// Answers the kernel's INIT, which waits on `device` since the mount was made, and makes the channel.
pub(crate) fn connect(
    choice: ChannelChoice,
    device: OwnedFd,
    front: Arc<Front>,
) -> io::Result<(Box<dyn Channel>, Picked)> {
    let only = choice.only();
    let asked = || "it was asked for".to_owned();
    if only == Some(ChannelKind::Fuser) {
        let wish = Wish { passthrough: true, ring: None };
        let channel = FuserChannel::connect(device, front, wish)?;
        return Ok((Box::new(channel), Picked { kind: ChannelKind::Fuser, why: asked() }));
    }
    let fit = if only == Some(ChannelKind::DevFuse) { Err("it was not asked for") } else { uring::fit() };
    let granted = shake_hands(&device, &Wish { passthrough: true, ring: fit.ok() })?;
    let serving = Serving::new(front);
    let why_not = match (granted.ring, fit) {
        (Some(fit), _) => {
            let channel = Uring::over(&device, serving, fit, granted)?;
            let why = if only.is_some() { asked() } else { "the kernel offers it".to_owned() };
            return Ok((Box::new(channel), Picked { kind: ChannelKind::Uring, why }));
        }
        (None, Err(reason)) => reason.to_owned(),
        (None, Ok(_)) => why_not_offered(),
    };
    if only == Some(ChannelKind::Uring) {
        return Err(io::Error::new(io::ErrorKind::Unsupported, why_not));
    }
    let why = if only.is_some() { asked() } else { why_not };
    let channel = DevFuse::over(&device, serving, granted)?;
    Ok((Box::new(channel), Picked { kind: ChannelKind::DevFuse, why }))
}

/// What was granted to a process before this one, if we would have agreed to the same. Only the classic channel can be
/// gone on with.
pub(crate) fn granted_before(agreed: Agreed) -> Option<Granted> {
    repeat(agreed, &Wish { passthrough: true, ring: None }).filter(|granted| granted.resend)
}

/// Goes on with the session of a process before this one, whose INIT was answered.
pub(crate) fn reconnect(
    device: &OwnedFd,
    clones: Vec<OwnedFd>,
    granted: Granted,
    front: Arc<Front>,
) -> io::Result<(Box<dyn Channel>, Picked)> {
    let channel = DevFuse::over_former(device, clones, Serving::new(front), granted)?;
    let why = "the mount was taken over with it".to_owned();
    Ok((Box::new(channel), Picked { kind: ChannelKind::DevFuse, why }))
}

/// Which channel a mount would get here, for those who only ask. The memory of the shards may still say otherwise.
///
/// Blocks for a few milliseconds; leaves nothing behind.
pub fn probe_channel(choice: ChannelChoice) -> Picked {
    let picked = |kind, why: &str| Picked { kind, why: why.to_owned() };
    match choice.only() {
        Some(kind) => picked(kind, "it was asked for"),
        None => match trial() {
            Ok(session) if session.granted.ring_offered => picked(ChannelKind::Uring, "the kernel offers it"),
            Ok(_) => picked(ChannelKind::DevFuse, &why_not_offered()),
            Err(error) => {
                picked(ChannelKind::DevFuse, &format!("the kernel cannot be asked for more: {error}"))
            }
        },
    }
}

fn why_not_offered() -> String {
    match std::fs::read_to_string(SWITCH) {
        Ok(_) => format!("FUSE over io_uring is switched off; switch it on with: echo Y > {SWITCH}"),
        Err(_) => {
            "this kernel has no FUSE over io_uring (Linux 6.14 with CONFIG_FUSE_IO_URING has)".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_known_by_their_names() {
        for kind in [ChannelKind::Uring, ChannelKind::DevFuse, ChannelKind::Fuser] {
            assert_eq!(kind.name().parse(), Ok(ChannelChoice::Only(kind)));
        }
        assert_eq!("auto".parse(), Ok(ChannelChoice::Auto));
        assert_eq!("".parse::<ChannelChoice>(), Err(BadChannel(String::new())));
    }

    #[test]
    fn what_is_asked_for_is_what_one_gets() {
        let only = ChannelChoice::Only(ChannelKind::DevFuse);
        assert_eq!(probe_channel(only).kind, ChannelKind::DevFuse);
        assert_ne!(probe_channel(ChannelChoice::Auto).kind, ChannelKind::Fuser);
    }
}
