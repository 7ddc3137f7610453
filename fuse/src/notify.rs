//! Telling the kernel to forget what it cached.
//!
//! **Owns** the one thread that sends notifications, and the bounded queue before it. A notification waits in the
//! kernel for locks that a request in flight may hold, so whoever answers requests must never send one itself; with
//! the queue it never waits at all.
//!
//! A full queue is no disaster: the notice is dropped, counted, and the kernel asks again when what it was told
//! runs out.

use crate::channel::Device;
use crate::error::MountError;
use forebay_types::{Ino, Name};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Notices that may wait. A directory of so many names can change at once without a loss.
const QUEUE_LEN: usize = 4096;

/// What the kernel is to forget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// An inode's attributes, and its bytes from `offset` on (`len` 0: to the end; a negative `offset`: no bytes).
    Inode {
        /// The inode.
        ino: Ino,
        /// First byte, or negative.
        offset: i64,
        /// How many bytes.
        len: i64,
    },
    /// Where a name leads.
    Entry {
        /// The directory.
        parent: Ino,
        /// The name.
        name: Name,
    },
    /// That a name leads where it did: it is asked about before it is used again, and stays with those who use it
    /// now (Linux 6.2; before, as `Entry`).
    Expired {
        /// The directory.
        parent: Ino,
        /// The name.
        name: Name,
    },
    /// A name, which is gone; those who watch the directory hear of it.
    Gone {
        /// The directory.
        parent: Ino,
        /// The inode it led to.
        child: Ino,
        /// The name.
        name: Name,
    },
    /// Inodes that nobody uses any more, as far as that is so: the kernel lets go of them and says so (Linux 6.18).
    Prune {
        /// At most [`PRUNE_MAX`].
        inodes: Vec<Ino>,
    },
}

/// The most inodes of one notice: as many as the kernel takes in at a time.
pub const PRUNE_MAX: usize = 512;

enum Message {
    Notice(Notice),
    Stop,
}

/// Sends notices to the kernel of one mount. Cheap to clone; may outlive the mount.
#[derive(Clone, Debug)]
pub struct Notifier {
    queue: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

impl Notifier {
    /// Starts the thread.
    pub(crate) fn start(device: Arc<Device>) -> Result<Self, MountError> {
        let (queue, messages) = sync_channel(QUEUE_LEN);
        let run = move || send_all(&device, &messages);
        std::thread::Builder::new().name("fuse-notify".into()).spawn(run).map_err(MountError::Thread)?;
        Ok(Self { queue, lost: Arc::default() })
    }

    /// Queues a notice; `false` if the queue is full or the mount is gone. Never waits.
    pub fn send(&self, notice: Notice) -> bool {
        let taken = self.queue.try_send(Message::Notice(notice)).is_ok();
        if !taken {
            self.lost.fetch_add(1, Relaxed);
        }
        taken
    }

    /// Notices that found no place in the queue.
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// Ends the thread after what is queued now. A full queue means that it is busy with a dead connection, whose
    /// errors end it too.
    pub(crate) fn stop(&self) {
        let _ = self.queue.try_send(Message::Stop);
    }
}

fn send_all(device: &Device, messages: &Receiver<Message>) {
    while let Ok(Message::Notice(notice)) = messages.recv() {
        match send_one(device, &notice) {
            Ok(()) => {}
            Err(error) if is_end(&error) => return,
            Err(error) => tracing::debug!(?notice, %error, "the kernel took no notice"),
        }
    }
}

/// What writing to the device of a dead session gives.
fn is_end(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENOTCONN | libc::ECONNABORTED))
}

fn send_one(device: &Device, notice: &Notice) -> io::Result<()> {
    match notice {
        Notice::Inode { ino, offset, len } => device.inval_inode(*ino, *offset, *len),
        Notice::Entry { parent, name } => device.inval_entry(*parent, name),
        Notice::Expired { parent, name } => device.expire_entry(*parent, name),
        Notice::Gone { parent, child, name } => device.delete(*parent, *child, name),
        Notice::Prune { inodes } => device.prune(inodes),
    }
}
