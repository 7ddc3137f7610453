//! Which files are open, and which backing file the kernel works on for each inode.
//!
//! **The rule:** one backing id per inode while any handle of it is open. A second id for an open inode is answered
//! with EIO by the kernel, to the program. So the first passthrough open registers the file, later ones find the id,
//! and it is closed when the last of them was released.
//!
//! **For another process:** every open file stands in the [`Roll`] from before the kernel is told of it until after it was
//! released, with its backing id, which that process goes on with.
//!
//! **How:** a registration is an [`Arc`] that every handle of the inode holds; the inode's entry holds a weak one.
//! The order of RELEASE and a new OPEN that cross each other does not matter: whoever comes while a handle is left
//! shares the id; whoever comes after makes a new one, and by then the kernel has let go of the old, because it lets
//! go before it sends RELEASE.

use crate::channel::{BackingId, Device};
use crate::op::RequestId;
use crate::roll::{Entry, OpenedDir, OpenedFile, Place, Roll};
use forebay_types::{HandleId, Ino};
use forebay_vfs::{DirPlace, OpenFlags};
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock, Weak};

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
    dirs: Mutex<HashMap<HandleId, (Place, OpenedDir)>>,
    roll: OnceLock<Arc<Roll>>,
}

/// A file that is about to be given to the kernel.
#[derive(Clone, Copy)]
pub(crate) struct Opening {
    pub(crate) ino: Ino,
    pub(crate) handle: HandleId,
    pub(crate) flags: OpenFlags,
    /// By this request.
    pub(crate) asked: RequestId,
    /// The privilege epoch.
    pub(crate) epoch: u64,
}

struct OpenFile {
    ino: Ino,
    /// The privilege epoch at which its setuid bits were last looked at.
    looked_at: u64,
    registration: Option<Arc<Registration>>,
    place: Option<Place>,
}

impl OpenFiles {
    pub(crate) fn new(device: Arc<Device>) -> Self {
        let inodes = (0..SLICES).map(|_| Mutex::default()).collect();
        let handles = (0..SLICES).map(|_| Mutex::default()).collect();
        Self { device, inodes, handles, dirs: Mutex::default(), roll: OnceLock::new() }
    }

    /// Enters what is open into a roll from now on. The first one stays.
    pub(crate) fn keep_roll(&self, roll: Arc<Roll>) {
        if self.roll.set(roll).is_err() {
            tracing::error!("a mount has its roll already");
        }
    }

    pub(crate) fn roll(&self) -> Option<&Arc<Roll>> {
        self.roll.get()
    }

    fn inode_slice(&self, ino: Ino) -> &InodeSlice {
        &self.inodes[ino.0 as usize & (SLICES - 1)]
    }

    fn handle_slice(&self, handle: HandleId) -> &HandleSlice {
        &self.handles[handle.0 as usize & (SLICES - 1)]
    }

    /// Remembers an open file without a backing file.
    pub(crate) fn add(&self, opening: Opening) {
        self.insert(opening, None);
    }

    fn insert(&self, opening: Opening, registration: Option<Arc<Registration>>) {
        let Opening { ino, handle, flags, asked, epoch } = opening;
        let backing = registration.as_ref().map(|registration| registration.id);
        let opened = OpenedFile { handle, ino, flags, backing, asked: asked.at_first() };
        let place = self.roll().and_then(|roll| roll.enter(&Entry::File(opened)));
        let open_file = OpenFile { ino, looked_at: epoch, registration, place };
        self.handle_slice(handle).lock().insert(handle, open_file);
    }

    /// Remembers a file that a process before this one had open, and that stands in the roll. The backing file that the
    /// kernel has is the one it had then.
    pub(crate) fn adopt(&self, opened: &OpenedFile, place: Place, file: Option<Arc<File>>) {
        let registration = opened.backing.zip(file).map(|(id, file)| {
            let mut inodes = self.inode_slice(opened.ino).lock();
            inodes.get(&opened.ino).and_then(Weak::upgrade).unwrap_or_else(|| {
                let registration = Arc::new(Registration { id, file, device: Arc::clone(&self.device) });
                inodes.insert(opened.ino, Arc::downgrade(&registration));
                registration
            })
        });
        // An epoch that never was: its setuid bits are looked at again.
        let open_file = OpenFile { ino: opened.ino, looked_at: u64::MAX, registration, place: Some(place) };
        self.handle_slice(opened.handle).lock().insert(opened.handle, open_file);
    }

    /// Remembers an open directory.
    pub(crate) fn add_dir(&self, ino: Ino, handle: HandleId, asked: RequestId) {
        let Some(roll) = self.roll() else { return };
        let dir = OpenedDir { handle, ino, asked: asked.at_first(), place: DirPlace::default() };
        if let Some(place) = roll.enter(&Entry::Dir(dir.clone())) {
            self.dirs.lock().insert(handle, (place, dir));
        }
    }

    /// Remembers a directory that a process before this one had open.
    pub(crate) fn adopt_dir(&self, dir: OpenedDir, place: Place) {
        self.dirs.lock().insert(dir.handle, (place, dir));
    }

    /// A listing has come so far.
    pub(crate) fn listed(&self, handle: HandleId, so_far: DirPlace) {
        let (Some(roll), mut dirs) = (self.roll(), self.dirs.lock()) else { return };
        if let Some((place, dir)) = dirs.get_mut(&handle).filter(|(_, dir)| dir.place != so_far) {
            dir.place = so_far;
            roll.update(*place, dir);
        }
    }

    /// Forgets an open directory.
    pub(crate) fn remove_dir(&self, handle: HandleId) {
        if let (Some(roll), Some((place, _))) = (self.roll(), self.dirs.lock().remove(&handle)) {
            roll.clear(place);
        }
    }

    /// The inode of an open file, if its setuid bits were not looked at in this epoch; they are from now on.
    pub(crate) fn look_again(&self, handle: HandleId, epoch: u64) -> Option<Ino> {
        let mut files = self.handle_slice(handle).lock();
        let file = files.get_mut(&handle).filter(|file| file.looked_at != epoch)?;
        file.looked_at = epoch;
        Some(file.ino)
    }

    /// Remembers an open file that the kernel works on by itself, registering `file` if nobody did.
    pub(crate) fn add_passthrough(&self, opening: Opening, file: Arc<File>) -> io::Result<BackingId> {
        let registration = self.register(opening.ino, file)?;
        let id = registration.id;
        self.insert(opening, Some(registration));
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
        if let (Some(roll), Some(place)) = (self.roll(), closed.place) {
            // Before the id is closed: another process would give it out again.
            roll.clear(place);
        }
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
