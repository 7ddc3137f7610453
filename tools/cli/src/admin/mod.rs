//! How the command line talks to a running daemon: one Unix socket, one JSON object a line.
//!
//! **Owns** the socket's place and its rights, the messages, both ends of a conversation, and what each request
//! does with the parts. **Never does** serve file data: `fs cat` and `fs cp` go through the mount.
//!
//! **In and out:** a client sends one [`Request`] line and reads [`Event`] lines until `done` or `failed`. Only root
//! and the daemon's own user are heard; the directory of the socket is theirs alone as well.
//!
//! **Why this shape:** lines of JSON can be read and written by hand with `socat`, need no framing of their own, and
//! the requests are few and rare.

mod client;
mod place;
mod server;
mod service;

pub(crate) use client::connect;
pub(crate) use place::{daemon_of, locate};
pub(crate) use server::Server;
pub(crate) use service::Service;

use crate::config::Mount;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The longest line of either direction: a path is at most 4 KiB, and so written at most four times as long.
const LINE_LEN_MAX: usize = 64 << 10;

/// What can be asked of a daemon. Paths are bytes below the root of its tree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub(crate) enum Request {
    /// Who it is and how it is doing.
    Info,
    /// What is known about a file or directory.
    Stat {
        /// Which.
        path: Vec<u8>,
    },
    /// Fetch all bytes of what is below a path.
    Load {
        /// Which.
        path: Vec<u8>,
    },
    /// Drop the cached bytes of what is below a path; what is not yet persisted stays.
    Free {
        /// Which.
        path: Vec<u8>,
    },
    /// Carry what is dirty to the under file system.
    Persist {
        /// Below which path.
        path: Vec<u8>,
        /// Answer only when all of it is there.
        wait: bool,
    },
    /// Fetch all bytes of what is below a path and keep them, for good.
    Pin {
        /// Which.
        path: Vec<u8>,
    },
    /// Take a pin away.
    Unpin {
        /// Which.
        path: Vec<u8>,
    },
    /// Compare what is below a path with the under file system.
    Check {
        /// Which.
        path: Vec<u8>,
    },
    /// Mount an under file system.
    MountAdd {
        /// Which, where, and what applies.
        mount: Box<Mount>,
    },
    /// Take a mount away.
    MountRemove {
        /// Where it stands, with a slash before each name.
        at: String,
    },
    /// All mounts, and what applies to them.
    MountList,
    /// Change what applies to the files at or below a path.
    MountSet {
        /// Which, with a slash before each name.
        path: String,
        /// What.
        changes: Vec<(String, String)>,
    },
    /// One setting.
    ConfigGet {
        /// Its dotted name.
        key: String,
    },
    /// Change one setting.
    ConfigSet {
        /// Its dotted name.
        key: String,
        /// To what.
        value: String,
    },
    /// All settings.
    ConfigList,
    /// Go on as another binary.
    Upgrade {
        /// Which; what lies at the place of the running one if absent.
        binary: Option<PathBuf>,
    },
}

impl Request {
    /// What it is called in the log. What comes with it may hold credentials and is not shown.
    fn name(&self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Stat { .. } => "stat",
            Self::Load { .. } => "load",
            Self::Free { .. } => "free",
            Self::Persist { .. } => "persist",
            Self::Pin { .. } => "pin",
            Self::Unpin { .. } => "unpin",
            Self::Check { .. } => "check",
            Self::MountAdd { .. } => "mount-add",
            Self::MountRemove { .. } => "mount-remove",
            Self::MountList => "mount-list",
            Self::MountSet { .. } => "mount-set",
            Self::ConfigGet { .. } => "config-get",
            Self::ConfigSet { .. } => "config-set",
            Self::ConfigList => "config-list",
            Self::Upgrade { .. } => "upgrade",
        }
    }
}

impl Request {
    /// What a request that changes something is about, for the audit log; `None` for one that only looks. What may
    /// hold credentials is left out.
    fn changes(&self) -> Option<String> {
        let shown = |path: &Vec<u8>| format!("/{}", String::from_utf8_lossy(path).trim_start_matches('/'));
        match self {
            Self::Load { path } | Self::Free { path } | Self::Persist { path, .. } => Some(shown(path)),
            Self::Pin { path } | Self::Unpin { path } => Some(shown(path)),
            Self::MountAdd { mount } => Some(format!("{} {}", mount.at, mount.ufs)),
            Self::MountRemove { at } => Some(at.clone()),
            Self::MountSet { path, changes } => {
                let changes = changes.iter().map(|(key, value)| format!(" {key}={value}"));
                Some(path.clone() + &changes.collect::<String>())
            }
            Self::ConfigSet { key, value } => Some(format!("{key}={value}")),
            Self::Upgrade { binary } => Some(format!("{binary:?}")),
            Self::Info | Self::Stat { .. } | Self::Check { .. } | Self::MountList => None,
            Self::ConfigGet { .. } | Self::ConfigList => None,
        }
    }
}

/// How far a long request has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Bytes done.
    pub(crate) bytes: u64,
    /// Bytes in all, as far as known by now.
    pub(crate) bytes_total: u64,
    /// Files done.
    pub(crate) files: u64,
    /// Files in all, as far as known by now.
    pub(crate) files_total: u64,
}

/// What the daemon answers; `Done` and `Failed` end it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum Event {
    /// It goes on.
    Progress(Progress),
    /// Something that was found on the way.
    Finding {
        /// As `--json` prints it.
        finding: serde_json::Value,
    },
    /// It is done, with what was asked for.
    Done {
        /// As `--json` prints it.
        result: serde_json::Value,
    },
    /// It failed.
    Failed {
        /// The cause.
        cause: String,
        /// What can be done about it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        remedy: Option<String>,
    },
}
