//! A mount from its beginning to its end.
//!
//! **Owns** the order of the steps: session, then serving threads, then the place in the tree; at the end the tree,
//! then the session, then the open files that the kernel could no longer close. **Never does** serve a request.
//!
//! **In and out:** `tools/cli` starts a [`FuseMount`] with a file system and the shards that serve it, waits for its
//! end or ends it.

use crate::channel::{self, Channel, Device, Granted, Kept, Picked};
use crate::dispatch::Dispatch;
use crate::error::MountError;
use crate::front::Front;
use crate::inherited::{Estate, Inherited, terms};
use crate::mounting::{Attached, MountSpec, Prepared, prepare};
use crate::notify::Notifier;
use crate::park::block_on;
use crate::roll::Roll;
use crate::stats::StatsSnapshot;
use crate::witness::Witness;
use forebay_shard::ShardHandle;
use forebay_types::ByteSize;
use forebay_vfs::Vfs;
use std::io;
use std::os::fd::OwnedFd;
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
    left: Option<Left>,
}

/// What is left to another process when this one ends before the mount does.
struct Left {
    terms: Vec<u8>,
    device: OwnedFd,
    roll: Arc<Roll>,
    kept: Kept,
}

impl FuseMount {
    /// Mounts `vfs` as `spec` says, served by `shards`. When this returns, the mount can be used. With a `roll`, what is
    /// open is entered there, if another process can go on with the mount at all.
    ///
    /// Blocks for some milliseconds. Must not be called on a shard.
    ///
    /// # Errors
    /// [`MountError`]; nothing is left mounted then.
    pub fn start(
        vfs: Arc<Vfs>,
        shards: &[ShardHandle],
        spec: &MountSpec,
        roll: Option<Arc<Roll>>,
    ) -> Result<Self, MountError> {
        if shards.is_empty() {
            return Err(MountError::NoShards);
        }
        let prepared = prepare(spec)?;
        let begun = Session::begin(vfs, shards, spec, &prepared).and_then(|mut session| {
            let kept = session.keep(roll.as_ref())?;
            let ended = session.serve(shards[0].clone())?;
            Ok((session, ended, kept))
        });
        let (session, ended, kept) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                prepared.abandon();
                return Err(error);
            }
        };
        let device = prepared.device.try_clone().map_err(MountError::Handshake)?;
        let attached = prepared.attach()?;
        widen_read_ahead(&attached);
        let terms = terms(spec, &attached, session.granted.agreed);
        let left = kept.zip(roll).map(|(kept, roll)| Left { terms, device, roll, kept });
        Ok(session.mounted(attached, ended, left))
    }

    /// Goes on with the mount of a process before this one: what was open is open, then `begin` begins what is to run before
    /// the first request, and who waits is answered. When this returns, requests are served.
    ///
    /// Blocks. Must not be called on a shard.
    ///
    /// # Errors
    /// [`MountError`]; whoever keeps the mount may give it to another process then.
    pub fn take_over(
        vfs: Arc<Vfs>,
        shards: &[ShardHandle],
        spec: &MountSpec,
        inherited: Inherited,
        begin: impl FnOnce(),
    ) -> Result<Self, MountError> {
        let first = shards.first().ok_or(MountError::NoShards)?.clone();
        let roll = inherited.roll();
        let Inherited { device, clones, granted, attached, entries, .. } = inherited;
        let mut session = Session::again(vfs, shards, spec, &device, (clones, granted))?;
        let kept = session.keep(Some(&roll))?;
        let (dispatch, open) = (Arc::clone(&session.dispatch), entries.len());
        let adopted = block_on(first.call(move || async move { dispatch.adopt(entries).await }));
        let lost = adopted.map_err(|error| MountError::Handshake(io::Error::other(error)))?;
        tracing::info!(open, lost, "what was open when the last daemon ended is open again");
        begin();
        let ended = session.serve(first)?;
        let terms = terms(spec, &attached, granted.agreed);
        let left = kept.map(|kept| Left { terms, device, roll, kept });
        Ok(session.mounted(attached, ended, left))
    }

    /// What another process needs to go on with the mount when this one ends; `None` if none can.
    ///
    /// # Errors
    /// There are no more descriptors.
    pub fn estate(&self) -> io::Result<Option<Estate>> {
        let Some(Left { terms, device, roll, kept }) = &self.left else { return Ok(None) };
        let mut fds = vec![device.try_clone()?];
        fds.extend(roll.fds()?);
        for clone in &kept.clones {
            fds.push(clone.try_clone()?);
        }
        Ok(Some(Estate { terms: terms.clone(), fds }))
    }

    /// Takes no more requests, and waits until those that are here have been answered; says how many are left when
    /// `deadline` has passed. Who asks for something waits in the kernel from here on.
    ///
    /// Blocks. Must not be called on a shard.
    pub fn hold_back(&self, deadline: Duration) -> usize {
        let Some(left) = &self.left else { return 0 };
        left.kept.gates.iter().for_each(|gate| gate.shut());
        let begun = Instant::now();
        loop {
            let inside = left.kept.gates.iter().map(|gate| gate.inside()).sum();
            if inside == 0 || begun.elapsed() > deadline {
                return inside;
            }
            std::thread::sleep(SESSION_END_LOOK);
        }
    }

    /// Takes requests again.
    pub fn go_on(&self) {
        self.left.iter().flat_map(|left| &left.kept.gates).for_each(|gate| gate.open());
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

    /// Whether the session goes on.
    pub fn is_served(&self) -> bool {
        self.ended.borrow().is_none()
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
        let choice = spec.options.channel.unwrap_or_default();
        let connect = |device, front| channel::connect(choice, device, front);
        Self::over(vfs, shards, spec, &prepared.device, connect)
    }

    /// The session of a process before this one.
    fn again(
        vfs: Arc<Vfs>,
        shards: &[ShardHandle],
        spec: &MountSpec,
        device: &OwnedFd,
        (clones, granted): (Vec<OwnedFd>, Granted),
    ) -> Result<Self, MountError> {
        let connect = |device: OwnedFd, front| channel::reconnect(&device, clones, granted, front);
        Self::over(vfs, shards, spec, device, connect)
    }

    fn over(
        vfs: Arc<Vfs>,
        shards: &[ShardHandle],
        spec: &MountSpec,
        device: &OwnedFd,
        connect: impl FnOnce(OwnedFd, Arc<Front>) -> io::Result<(Box<dyn Channel>, Picked)>,
    ) -> Result<Self, MountError> {
        let clone = || device.try_clone().map_err(MountError::Handshake);
        let device = Arc::new(Device::new(clone()?));
        let dispatch = Arc::new(Dispatch::new(vfs, Arc::clone(&device), &spec.options, shards.len()));
        let front = Arc::new(Front::new(Arc::clone(&dispatch), shards.to_vec()));
        let (channel, picked) = connect(clone()?, front).map_err(MountError::Handshake)?;
        let notifier = Notifier::start(device)?;
        let (granted, buffers) = (channel.granted(), channel.buffers());
        Ok(Self { dispatch, notifier, granted, buffers, picked, channel: Some(channel) })
    }

    /// What of the channel another process needs; what is open is entered into the roll from now on, if one can.
    fn keep(&self, roll: Option<&Arc<Roll>>) -> Result<Option<Kept>, MountError> {
        let channel = self.channel.as_ref().expect("a session is kept before it is served");
        let Some(roll) = roll else { return Ok(None) };
        let kept = channel.kept().map_err(MountError::Handshake)?;
        if kept.is_some() {
            self.dispatch.keep_roll(Arc::clone(roll));
        }
        Ok(kept)
    }

    /// The mount, once it is in the tree.
    fn mounted(
        self,
        attached: Attached,
        ended: watch::Receiver<Option<SessionEnd>>,
        left: Option<Left>,
    ) -> FuseMount {
        let Self { dispatch, notifier, granted, buffers, picked, .. } = self;
        let attached = Arc::new(attached);
        FuseMount { attached, dispatch, notifier, granted, buffers, picked, ended, left }
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
