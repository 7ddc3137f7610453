//! Which files are open, and which backing file the kernel works on for each inode.
//!
//! **The rule:** one backing id per inode while any handle of it is open. A second id for an open inode is answered
//! with EIO by the kernel, to the program. So the first passthrough open registers the file, later ones find the id,
//! and it is closed when the last of them was released.
//!
//! **How:** a registration is an [`Arc`] that every handle of the inode holds; the inode's entry holds a weak one.
//! The order of RELEASE and a new OPEN that cross each other does not matter: whoever comes while a handle is left
//! shares the id; whoever comes after makes a new one, and by then the kernel has let go of the old, because it lets
//! go before it sends RELEASE.

use crate::channel::{BackingId, Device};
use forebay_types::{HandleId, Ino};
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Weak};

/// Spreads the locks; a power of two well above the number of cores.
const SLICES: usize = 64;
const _: () = assert!(SLICES.is_power_of_two());

type InodeSlice = Mutex<HashMap<Ino, Weak<Registration>>>;
type HandleSlice = Mutex<HashMap<HandleId, OpenFile>>;

/// A backing file that is registered with the kernel, until the last handle lets go.
struct Registration {
    id: BackingId,
    file: Arc<File>,
    device: Arc<Device>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Err(error) = self.device.close_backing(self.id) {
            // After the end of the session the kernel has dropped it by itself.
            tracing::debug!(id = self.id.0, %error, "a backing file was not there to close");
        }
    }
}

/// The open files of one mount.
pub(crate) struct OpenFiles {
    device: Arc<Device>,
    inodes: Box<[InodeSlice]>,
    handles: Box<[HandleSlice]>,
}

struct OpenFile {
    ino: Ino,
    /// The privilege epoch at which its setuid bits were last looked at.
    looked_at: u64,
    registration: Option<Arc<Registration>>,
}

impl OpenFiles {
    pub(crate) fn new(device: Arc<Device>) -> Self {
        let inodes = (0..SLICES).map(|_| Mutex::default()).collect();
        let handles = (0..SLICES).map(|_| Mutex::default()).collect();
        Self { device, inodes, handles }
    }

    fn inode_slice(&self, ino: Ino) -> &InodeSlice {
        &self.inodes[ino.0 as usize & (SLICES - 1)]
    }

    fn handle_slice(&self, handle: HandleId) -> &HandleSlice {
        &self.handles[handle.0 as usize & (SLICES - 1)]
    }

    /// Remembers an open file without a backing file.
    pub(crate) fn add(&self, ino: Ino, handle: HandleId, epoch: u64) {
        let open_file = OpenFile { ino, looked_at: epoch, registration: None };
        self.handle_slice(handle).lock().insert(handle, open_file);
    }

    /// The inode of an open file, if its setuid bits were not looked at in this epoch; they are from now on.
    pub(crate) fn look_again(&self, handle: HandleId, epoch: u64) -> Option<Ino> {
        let mut files = self.handle_slice(handle).lock();
        let file = files.get_mut(&handle).filter(|file| file.looked_at != epoch)?;
        file.looked_at = epoch;
        Some(file.ino)
    }

    /// Remembers an open file that the kernel works on by itself, registering `file` if nobody did.
    pub(crate) fn add_passthrough(
        &self,
        ino: Ino,
        handle: HandleId,
        file: Arc<File>,
        epoch: u64,
    ) -> io::Result<BackingId> {
        let registration = self.register(ino, file)?;
        let id = registration.id;
        let open_file = OpenFile { ino, looked_at: epoch, registration: Some(registration) };
        self.handle_slice(handle).lock().insert(handle, open_file);
        Ok(id)
    }

    /// The ioctl is made under the lock, so that two first opens do not both make it; it takes about a microsecond.
    fn register(&self, ino: Ino, file: Arc<File>) -> io::Result<Arc<Registration>> {
        let mut inodes = self.inode_slice(ino).lock();
        let known = inodes.get(&ino).and_then(Weak::upgrade);
        if let Some(known) = known.filter(|known| Arc::ptr_eq(&known.file, &file)) {
            return Ok(known);
        }
        let id = self.device.open_backing(file.as_fd())?;
        let registration = Arc::new(Registration { id, file, device: Arc::clone(&self.device) });
        inodes.insert(ino, Arc::downgrade(&registration));
        Ok(registration)
    }

    /// Forgets an open file; with the last of its inode the backing file goes.
    pub(crate) fn remove(&self, handle: HandleId) {
        let Some(closed) = self.handle_slice(handle).lock().remove(&handle) else { return };
        drop(closed.registration);
        let mut inodes = self.inode_slice(closed.ino).lock();
        if inodes.get(&closed.ino).is_some_and(|known| known.strong_count() == 0) {
            inodes.remove(&closed.ino);
        }
    }

    /// The handles of all open files.
    pub(crate) fn all(&self) -> Vec<HandleId> {
        self.handles.iter().flat_map(|slice| slice.lock().keys().copied().collect::<Vec<_>>()).collect()
    }
}
