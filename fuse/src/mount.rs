//! A mount from its beginning to its end.
//!
//! **Owns** the order of the steps: session, then serving threads, then the place in the tree; at the end the tree,
//! then the session, then the open files that the kernel could no longer close. **Never does** serve a request.
//!
//! **In and out:** `tools/cli` starts a [`FuseMount`] with a file system and the shards that serve it, waits for its
//! end or ends it.

use crate::channel::{self, Channel, Device, Granted, Picked};
use crate::dispatch::Dispatch;
use crate::error::MountError;
use crate::front::Front;
use crate::mounting::{Attached, MountSpec, Prepared, prepare};
use crate::notify::Notifier;
use crate::park::block_on;
use crate::stats::StatsSnapshot;
use crate::witness::Witness;
use forebay_shard::ShardHandle;
use forebay_types::ByteSize;
use forebay_vfs::Vfs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long a session may take to end after its mount has left the tree.
const SESSION_END_WAIT: Duration = Duration::from_secs(10);
/// How often the end of a session is looked for meanwhile.
const SESSION_END_LOOK: Duration = Duration::from_millis(5);
/// The kernel's read-ahead on files in cached mode, in KiB: two of its largest reads in flight.
const READ_AHEAD_KIB: &str = "2048";

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// The mount was taken out of the tree, by us or by somebody else.
    Unmounted,
    /// The connection broke or was aborted while the mount was there; files that were open for write stay marked so,
    /// and are settled at the next start.
    Broken(String),
}

/// A mounted file system.
pub struct FuseMount {
    attached: Arc<Attached>,
    dispatch: Arc<Dispatch>,
    notifier: Notifier,
    granted: Granted,
    buffers: ByteSize,
    picked: Picked,
    ended: watch::Receiver<Option<SessionEnd>>,
}

impl FuseMount {
    /// Mounts `vfs` as `spec` says, served by `shards`. When this returns, the mount can be used.
    ///
    /// Blocks for some milliseconds. Must not be called on a shard.
    ///
    /// # Errors
    /// [`MountError`]; nothing is left mounted then.
    pub fn start(vfs: Arc<Vfs>, shards: &[ShardHandle], spec: &MountSpec) -> Result<Self, MountError> {
        if shards.is_empty() {
            return Err(MountError::NoShards);
        }
        let prepared = prepare(spec)?;
        let begun = Session::begin(vfs, shards, spec, &prepared).and_then(|mut session| {
            let ended = session.serve(shards[0].clone())?;
            Ok((session, ended))
        });
        let (session, ended) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                prepared.abandon();
                return Err(error);
            }
        };
        let attached = Arc::new(prepared.attach()?);
        widen_read_ahead(&attached);
        let Session { dispatch, notifier, granted, buffers, picked, .. } = session;
        Ok(Self { attached, dispatch, notifier, granted, buffers, picked, ended })
    }

    /// Waits until the session ends; blocks.
    pub fn wait(&self) -> SessionEnd {
        block_on(self.ended())
    }

    /// Waits until the session ends, on any executor.
    pub async fn ended(&self) -> SessionEnd {
        let mut ended = self.ended.clone();
        let end = ended.wait_for(Option::is_some).await;
        let lost = || SessionEnd::Broken("the serving thread is gone".into());
        end.ok().and_then(|end| end.clone()).unwrap_or_else(lost)
    }

    /// Takes the mount out of the tree and waits for the session to end. While someone uses the mount it is tried
    /// again until `deadline` has passed; it is never detached under a user.
    ///
    /// Blocks. Must not be called on a shard.
    ///
    /// # Errors
    /// [`MountError::Busy`] names who uses it; the mount goes on then.
    pub fn unmount(&self, deadline: Duration) -> Result<(), MountError> {
        self.attached.unmount(deadline)?;
        let begun = Instant::now();
        while self.ended.borrow().is_none() {
            if begun.elapsed() > SESSION_END_WAIT {
                return Err(MountError::Lingers { dir: self.dir().to_owned(), waited: begun.elapsed() });
            }
            std::thread::sleep(SESSION_END_LOOK);
        }
        Ok(())
    }

    /// Sends notices to the kernel.
    pub fn notifier(&self) -> Notifier {
        self.notifier.clone()
    }

    /// The mount point.
    pub fn dir(&self) -> &Path {
        self.attached.dir()
    }

    /// Whether the kernel grants passthrough on this mount.
    pub fn has_passthrough(&self) -> bool {
        self.granted.passthrough
    }

    /// Whether the kernel lets go of inodes when it is asked to by [`Notice::Prune`](crate::Notice::Prune).
    pub fn can_prune(&self) -> bool {
        self.granted.prune
    }

    /// The part of the arena that the channel holds on to as long as the mount is there.
    pub fn buffers(&self) -> ByteSize {
        self.buffers
    }

    /// The way requests come, and why this one.
    pub fn channel(&self) -> &Picked {
        &self.picked
    }

    /// Lets somebody hear of every request from now on.
    pub fn watch(&self, witness: Arc<dyn Witness>) {
        self.dispatch.watch(witness);
    }

    /// Requests by kind since the mount began.
    pub fn stats(&self) -> StatsSnapshot {
        self.dispatch.stats()
    }

    /// Files that are open through this mount now.
    pub fn open_files(&self) -> usize {
        self.dispatch.open_handles().len()
    }
}

impl Drop for FuseMount {
    fn drop(&mut self) {
        if self.ended.borrow().is_none()
            && let Err(error) = self.unmount(Duration::ZERO)
        {
            tracing::error!(%error, "a mount is left behind");
        }
    }
}

/// A session whose mount is not visible yet.
struct Session {
    dispatch: Arc<Dispatch>,
    notifier: Notifier,
    granted: Granted,
    buffers: ByteSize,
    picked: Picked,
    channel: Option<Box<dyn Channel>>,
}

impl Session {
    fn begin(
        vfs: Arc<Vfs>,
        shards: &[ShardHandle],
        spec: &MountSpec,
        prepared: &Prepared,
    ) -> Result<Self, MountError> {
        let clone = || prepared.device.try_clone().map_err(MountError::Handshake);
        let device = Arc::new(Device::new(clone()?));
        let dispatch = Arc::new(Dispatch::new(vfs, Arc::clone(&device), &spec.options, shards.len()));
        let front = Arc::new(Front::new(Arc::clone(&dispatch), shards.to_vec()));
        let (channel, picked) = channel::connect(spec.options.channel.unwrap_or_default(), clone()?, front)
            .map_err(MountError::Handshake)?;
        let notifier = Notifier::start(device)?;
        let (granted, buffers) = (channel.granted(), channel.buffers());
        Ok(Self { dispatch, notifier, granted, buffers, picked, channel: Some(channel) })
    }

    /// Starts the threads that read requests, and one that sees their end.
    fn serve(&mut self, shard: ShardHandle) -> Result<watch::Receiver<Option<SessionEnd>>, MountError> {
        let mut channel = self.channel.take().expect("a session is served once");
        channel.start().map_err(MountError::Handshake)?;
        let dispatch = Arc::clone(&self.dispatch);
        let notifier = self.notifier.clone();
        let (end, ended) = watch::channel(None);
        let run = move || {
            let result = channel.serve();
            let how = settle(result, &dispatch, &shard);
            notifier.stop();
            end.send_replace(Some(how));
        };
        std::thread::Builder::new().name("fuse-session".into()).spawn(run).map_err(MountError::Thread)?;
        Ok(ended)
    }
}

/// Closes what the kernel can no longer release. After a break nothing is closed: a program may hold a passthrough
/// file and write on.
fn settle(result: io::Result<()>, dispatch: &Arc<Dispatch>, shard: &ShardHandle) -> SessionEnd {
    if let Err(error) = result {
        return SessionEnd::Broken(error.to_string());
    }
    let dispatch = Arc::clone(dispatch);
    let closed = block_on(shard.call(move || async move { dispatch.release_all().await }));
    if let Err(error) = closed {
        tracing::warn!(%error, "files left open at the unmount were not closed");
    }
    SessionEnd::Unmounted
}

/// The kernel's default of 128 KiB would cut reads in cached mode into pieces. Needs root; without it reads are as
/// they were.
fn widen_read_ahead(attached: &Attached) {
    let path = format!("/sys/class/bdi/{}/read_ahead_kb", attached.device_number());
    if let Err(error) = std::fs::write(&path, READ_AHEAD_KIB) {
        tracing::debug!(path, %error, "the kernel's read-ahead stays as it is");
    }
}
