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
mod walk;

pub(crate) use client::connect;
pub(crate) use place::locate;
pub(crate) use server::Server;
pub(crate) use service::Service;

use serde::{Deserialize, Serialize};

/// The longest line of either direction: a path is at most 4 KiB, and so written at most four times as long.
const LINE_LEN_MAX: usize = 64 << 10;

/// What can be asked of a daemon. Paths are bytes below the root of its tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// It is done, with what was asked for.
    Done {
        /// As `--json` prints it.
        result: serde_json::Value,
    },
    /// It failed.
    Failed {
        /// The cause.
        cause: String,
    },
}
